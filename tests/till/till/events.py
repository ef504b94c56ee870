"""The news that open pages follow: one LISTEN connection in this process, there while any page is open,
wakes all their event streams.

The news say only that something has changed: a page asks for its own view of it. A stream ends when the
connection breaks; its page then asks every second, and follows again once it can. Each open stream
takes a thread of the application server, so there is a bound, beyond which pages ask instead.
"""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
from django.conf import settings
from django.db import connection

log = logging.getLogger(__name__)

# How often, in seconds, a stream says that it is still there, and the connection is looked after.
STILL_THERE = 10


class Off(Exception):
    """There are no news to follow."""


class Follower:
    """One open stream of server-sent events, as the application server asks for them: one at once, then one
    for each bunch of changes."""

    def __init__(self, feed: "Feed") -> None:
        self.feed = feed
        self.news = threading.Event()
        self.over = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        told = self.news.wait(STILL_THERE)
        if self.over:
            raise StopIteration
        if not told:
            return ": still there\n\n"  # finds out whether the page is
        self.news.clear()
        return "data: changed\n\n"

    def close(self) -> None:
        self.feed.leave(self)


class Feed:
    """Who follows, and the thread that has the connection."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._followers: set[Follower] = set()
        self._thread: threading.Thread | None = None
        self._listening = False

    def follow(self) -> Follower:
        """Raises Off where there is nothing to follow, or no room."""
        follower = Follower(self)
        with self._changed:
            if len(self._followers) >= settings.TILL_STREAMS:
                raise Off("too many pages follow")
            self._followers.add(follower)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="till events", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._listening or follower.over, STILL_THERE)
            if not self._listening:
                self._followers.discard(follower)
                raise Off("the server can't be listened to")
        follower.news.set()
        return follower

    def leave(self, follower: Follower) -> None:
        with self._changed:
            self._followers.discard(follower)

    def _listen(self) -> None:
        try:
            with closing(listening()) as server:
                self._say(listening=True)
                while self._followed():
                    for notification in server.notifies(timeout=STILL_THERE):
                        if of_the_shop(notification.payload):
                            self._say(listening=True)
                    server.execute("SELECT")  # notices a server that has gone without a word
        except Exception as error:
            log.warning("the event streams end: %s", str(error).partition("\n")[0])
            self._end()

    def _followed(self) -> bool:
        """Whether anybody still follows; if nobody does, who comes next starts anew."""
        with self._changed:
            if not self._followers:
                self._thread, self._listening = None, False
            return self._thread is not None

    def _say(self, listening: bool) -> None:
        with self._changed:
            self._listening = listening
            for follower in self._followers:
                follower.news.set()
            self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._thread = None
            for follower in self._followers:
                follower.over = True
            self._say(listening=False)
            self._followers.clear()


feed = Feed()


def listening() -> psycopg.Connection:
    """A connection of its own, which must reach the server itself: through PgBouncer in transaction mode
    nothing would ever be heard."""
    parameters = connection.get_connection_params()
    if settings.TILL_LISTEN_PORT:
        parameters["port"] = settings.TILL_LISTEN_PORT
    server = psycopg.connect(**parameters, application_name="till events", autocommit=True)
    if server.execute("SHOW softlock.notify").fetchone() != ("all",):
        server.close()
        raise Off("softlock.notify is not all")
    server.execute("LISTEN softlock")
    return server


def of_the_shop(payload: str) -> bool:
    """Whether it is about the shop's goods, or about many locks at once."""
    event = json.loads(payload)
    return event.get("resource", "kit:").startswith(("kit:", "stem:"))
