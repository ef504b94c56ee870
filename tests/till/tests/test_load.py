"""The same views under load: a real application server, many clients, half a minute."""

import collections
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, connections
from django.db.models import Count
from django.test import TransactionTestCase

from till.models import Reservation, Sale, ShowcaseKit

from .base import Till, await_that

CLIENTS = 16
KITS = 200
SECONDS = float(os.environ.get("TILL_LOAD_SECONDS", "30"))
# So short that carts are abandoned all the time.
HOLD_SECONDS = "1"


class Load(TransactionTestCase):
    def setUp(self):
        self.kits = [ShowcaseKit.objects.create(name=f"Kit {n}", price=1) for n in range(KITS)]
        self.answers = collections.Counter()
        self.problems = []
        self.counting = threading.Lock()

    def serve(self) -> str:
        """Starts the application server, and answers where it is."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        log = Path(directory.name) / "log"
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "shop.wsgi", "--bind", "127.0.0.1:0"]
            + ["--workers", "2", "--threads", "8", "--log-file", str(log)],
            cwd=settings.BASE_DIR,
            env={
                **os.environ,
                "TILL_DATABASE": connection.settings_dict["NAME"],
                "TILL_HOLD_SECONDS": HOLD_SECONDS,
                "TILL_CONN_MAX_AGE": "60",
            },
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        await_that("the server listens", lambda: log.exists() and "Listening at: " in log.read_text())
        return log.read_text().split("Listening at: ")[1].split()[0]

    def test_every_kit_is_sold_at_most_once_and_no_request_fails(self):
        url = self.serve()
        end = time.monotonic() + SECONDS
        cookies = [
            Till(User.objects.create_user(f"cashier-{n}")).client.cookies["sessionid"].value
            for n in range(CLIENTS)
        ]
        clients = [threading.Thread(target=self.client_of, args=[url, c, end]) for c in cookies]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        connections.close_all()

        print(f"\n  {sum(self.answers.values())} requests in {SECONDS:.0f} s: ", end="")
        print(*(f"{count} {name}" for name, count in sorted(self.answers.items())), sep=", ")
        self.assertEqual(self.problems, [])
        # Everything that should happen did.
        for answer in ("add 200", "add 409", "remove 200", "checkout 200", "checkout 409"):
            self.assertGreater(self.answers[answer], 0, answer)
        sold = Reservation.objects.filter(status=Reservation.Status.SOLD)
        per_kit = sold.values("kit").annotate(times=Count("pk"))
        self.assertTrue(all(kit["times"] == 1 for kit in per_kit))
        self.assertEqual(Sale.objects.count(), self.answers["checkout 200"])
        self.assertEqual(sum(sale.total for sale in Sale.objects.all()), sold.count())

    def client_of(self, url: str, cookie: str, end: float) -> None:
        """A hurried cashier: fills carts, takes things out, sells some, abandons others."""
        chance = random.Random(cookie)
        with requests.Session() as browser:
            browser.cookies.set("sessionid", cookie)
            browser.get(url).raise_for_status()  # sets the CSRF cookie
            browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]

            def ask(name: str, path: str, method: str = "POST") -> dict[str, Any]:
                answer = browser.request(method, f"{url}/api/{path}", json={})
                with self.counting:
                    self.answers[f"{name} {answer.status_code}"] += 1
                if answer.status_code in (200, 409):
                    return answer.json()
                self.problems.append(f"{path}: {answer.status_code} {answer.text[:500]}")
                return {}

            def remove(pk: int) -> None:
                ask("remove", f"showcase-kits/{pk}/remove-from-cart/")

            while time.monotonic() < end:
                cart = chance.sample(self.kits, chance.randint(1, 5))
                for kit in cart:
                    ask("add", f"showcase-kits/{kit.pk}/add-to-cart/")
                if chance.random() < 0.2:
                    ask("list", "showcase-kits/", "GET")
                if chance.random() < 0.3:
                    for lost in ask("checkout", "checkout/").get("lost", []):
                        remove(lost["id"])
                elif chance.random() < 0.7:
                    for kit in cart:
                        remove(kit.pk)
                # The rest is abandoned: it stays in the cart until a checkout says that it is lost.
