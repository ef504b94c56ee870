"""A shop with two cashiers, a few kits, and real transactions."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client, TransactionTestCase, override_settings

from till.models import ShowcaseKit
from till.softlock import ActiveLock

SHORT = override_settings(TILL_HOLD=timedelta(milliseconds=300))


def await_that(what: str, holds: Callable[[], Any], seconds: float = 30) -> None:
    """Waits for something that happens by itself."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def lock_on(kit: ShowcaseKit) -> ActiveLock | None:
    return ActiveLock.objects.filter(pk=kit.resource).first()


def await_lapse(kit: ShowcaseKit) -> None:
    await_that(f"{kit.resource} lapses", lambda: lock_on(kit) is None)


class Shop:
    """The shop's people and goods. The kits' numbers go on from test to test, and so do their locks'
    names: no test meets another one's locks."""

    def open_shop(self, kits: int = 3) -> None:
        self.anna, self.boris = (
            User.objects.create_user(name.lower(), password=name.lower(), first_name=name)
            for name in ("Anna", "Boris")
        )
        self.kits = [
            ShowcaseKit.objects.create(name=f"Bouquet {n}", price=f"{n}0.50") for n in range(1, kits + 1)
        ]
        self.kit = self.kits[0]

    def till_of(self, user: User) -> "Till":
        return Till(user)


class ShopTestCase(Shop, TransactionTestCase):
    def setUp(self) -> None:
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

    def checkout(self):
        return self.post("/api/checkout/", {})

    def post(self, path: str, body: Any):
        return self.client.post(path, body, content_type="application/json")

    def kits(self) -> dict[int, dict[str, Any]]:
        answer = self.client.get("/api/showcase-kits/")
        assert answer.status_code == 200, answer.content
        return {kit["id"]: kit for kit in answer.json()["kits"]}
