"""A shop with two cashiers, a few kits, seventeen roses, and real transactions."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import TestCase

import psycopg
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, TransactionTestCase, override_settings

from till import softlock
from till.models import ShowcaseKit, Stem
from till.softlock import ActiveLock

SHORT = override_settings(TILL_HOLD=timedelta(milliseconds=300))


def await_that(what: str, holds: Callable[[], Any], seconds: float = 30) -> None:
    """Waits for something that happens by itself."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def lock_on(goods: ShowcaseKit | Stem) -> ActiveLock | None:
    return ActiveLock.objects.filter(pk=goods.resource).first()


def await_lapse(goods: ShowcaseKit | Stem) -> None:
    await_that(f"{goods.resource} lapses", lambda: lock_on(goods) is None)


def as_dba(statement: str, *arguments: Any) -> None:
    """What an application's role may not do."""
    with psycopg.connect(
        **{**connection.get_connection_params(), "user": "postgres", "autocommit": True}
    ) as dba:
        dba.execute(statement, arguments)


@contextmanager
def policy(kind: str, **limits: Any) -> Iterator[None]:
    """The DBA's row for a kind of locks."""
    columns, places = ", ".join(limits), ", ".join(["%s"] * len(limits))
    as_dba(f"INSERT INTO softlock.policies (kind, {columns}) VALUES (%s, {places})", kind, *limits.values())
    try:
        yield
    finally:
        as_dba("DELETE FROM softlock.policies WHERE kind = %s", kind)


def serve(test: TestCase, workers: int = 2, **environment: str) -> str:
    """Starts an application server on the test's database, with these variables, and answers where it is."""
    directory = tempfile.TemporaryDirectory()
    test.addCleanup(directory.cleanup)
    log = Path(directory.name) / "log"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "shop.wsgi", "--bind", "127.0.0.1:0", "--log-file", str(log)]
        + ["--workers", str(workers), "--threads", "8", "--graceful-timeout", "1"],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "TILL_DATABASE": connection.settings_dict["NAME"],
            "TILL_CONN_MAX_AGE": "60",
            **environment,
        },
    )
    test.addCleanup(server.wait)
    test.addCleanup(server.terminate)
    await_that("the server listens", lambda: log.exists() and "Listening at: " in log.read_text())
    return log.read_text().split("Listening at: ")[1].split()[0]


class Other:
    """Another transaction, which stays open until the test ends it or ends."""

    def __init__(self, test: TestCase):
        self.connection = connection.copy()
        self.connection.set_autocommit(False)
        test.addCleanup(self.connection.close)

    def run(self, sql: str, *arguments: Any) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, arguments)


class Shop:
    """The shop's people and goods."""

    def open_shop(self, kits: int = 3) -> None:
        self.anna, self.boris = (
            # Without passwords, since hashing one takes as long as a whole test.
            User.objects.create_user(name.lower(), first_name=name)
            for name in ("Anna", "Boris")
        )
        self.kits = [
            ShowcaseKit.objects.create(name=f"Bouquet {n}", price=f"{n}0.50") for n in range(1, kits + 1)
        ]
        self.kit = self.kits[0]
        self.roses = Stem.objects.create(name="Red roses", price="3.50", on_hand=17)

    def till_of(self, user: User) -> "Till":
        return Till(user)


class ShopTestCase(Shop, TransactionTestCase):
    """Each test leaves no rows, as Django sees to, and no locks, as it does not."""

    def setUp(self) -> None:
        self.addCleanup(softlock.release_everything)
        self.open_shop()
        self.annas, self.boriss = self.till_of(self.anna), self.till_of(self.boris)


class Till:
    """A browser in which somebody is logged in."""

    def __init__(self, user: User | None = None, **options: Any):
        self.client = Client(**options)
        if user is not None:
            self.client.force_login(user)

    def add(self, kit: ShowcaseKit | int, **body: Any):
        return self.post(f"/api/showcase-kits/{getattr(kit, 'pk', kit)}/add-to-cart/", body)

    def remove(self, kit: ShowcaseKit):
        return self.post(f"/api/showcase-kits/{kit.pk}/remove-from-cart/", {})

    def set_quantity(self, stem: Stem | int, quantity: Any):
        return self.post(f"/api/stems/{getattr(stem, 'pk', stem)}/set-quantity/", {"quantity": quantity})

    def keep(self):
        return self.post("/api/keep/", {})

    def log_in(self, user: User) -> None:
        """The browser is a guest's until then."""
        self.client.force_login(user)

    def checkout(self, **body: Any):
        """Sells what the page shows; what the body says, where it says something."""
        return self.post("/api/checkout/", body or {"lines": self.lines()})

    def lines(self) -> list[int]:
        goods = [*self.kits().values(), *self.stems().values()]
        return [thing["line"] for thing in goods if thing["in_cart"]]

    def second_window(self) -> "Till":
        """The same browser once more, for another thread."""
        other = Till()
        other.client.cookies.load(self.client.cookies)
        return other

    def post(self, path: str, body: Any):
        return self.client.post(path, body, content_type="application/json")

    def kits(self) -> dict[int, dict[str, Any]]:
        return self.goods("kits")

    def stems(self) -> dict[int, dict[str, Any]]:
        return self.goods("stems")

    def goods(self, kind: str) -> dict[int, dict[str, Any]]:
        answer = self.client.get("/api/showcase-kits/")
        assert answer.status_code == 200, answer.content
        return {thing["id"]: thing for thing in answer.json()[kind]}
