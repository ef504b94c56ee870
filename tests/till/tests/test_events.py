"""Event streams, served as in production: by gunicorn, whose threads are counted."""

from collections.abc import Iterator

import requests
from django.db import connection
from django.test import SimpleTestCase

from till import events

from .base import ShopTestCase, as_dba, await_that, serve


class Streams(ShopTestCase):
    def setUp(self):
        super().setUp()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (self.start,) = cursor.fetchone()
        self.url = serve(self, workers=1, TILL_STREAMS="2") + "/api/events/"

    def follow(self) -> tuple[requests.Response, Iterator[str]]:
        answer = requests.get(self.url, stream=True, timeout=60)
        self.addCleanup(answer.close)
        lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
        return answer, (line for line in lines if line.startswith("data:"))

    def connections(self) -> dict[int, str]:
        """What the application server has, with their names."""
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT pid, application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                   AND datname = current_database() AND backend_type = 'client backend'
                   AND backend_start > %s""",
                [self.start],
            )
            return dict(cursor)

    def listener(self) -> int | None:
        return next((pid for pid, name in self.connections().items() if name == "till events"), None)

    def test_one_connection_tells_every_page_of_a_change_and_beyond_the_bound_pages_ask(self):
        (first, news), (_, more_news) = self.follow(), self.follow()
        self.assertEqual(first.headers["Content-Type"], "text/event-stream")
        self.assertEqual([next(news), next(more_news)], ["data: changed"] * 2)
        # One that listens, and none for the open pages.
        self.assertEqual(list(self.connections().values()), ["till events"])
        self.assertEqual(self.follow()[0].status_code, 503)
        for change in (self.annas.add, self.annas.remove):
            change(self.kit)
            self.assertEqual([next(news), next(more_news)], ["data: changed"] * 2)

    def test_when_the_connection_breaks_the_streams_end_and_a_new_one_is_told_again(self):
        _, news = self.follow()
        next(news)
        as_dba("SELECT pg_terminate_backend(%s)", self.listener())
        self.assertIsNone(next(news, None))
        answer, news = self.follow()
        self.assertEqual((answer.status_code, next(news)), (200, "data: changed"))
        self.annas.add(self.kit)
        self.assertEqual(next(news), "data: changed")

    def test_where_takings_are_not_told_pages_ask(self):
        database = connection.ops.quote_name(connection.settings_dict["NAME"])
        as_dba(f"ALTER DATABASE {database} SET softlock.notify = 'ends'")
        self.addCleanup(as_dba, f"ALTER DATABASE {database} RESET softlock.notify")
        self.assertEqual(self.follow()[0].status_code, 503)
        await_that("it is disconnected", lambda: self.listener() is None)


class News(SimpleTestCase):
    def test_what_others_lock_in_the_same_database_is_no_news(self):
        for resource, news in (("kit:1", True), ("stem:1", True), ("seat:1", False), ("kits:1", False)):
            payload = f'{{"event": "granted", "resource": "{resource}", "owner": "anna"}}'
            self.assertEqual(events.of_the_shop(payload), news, resource)
        self.assertTrue(events.of_the_shop('{"event": "many", "count": 17}'))
