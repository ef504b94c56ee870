"""The same views under load: a real application server, many clients, a quarter of a minute."""

import collections
import os
import random
import threading
import time
from typing import Any

import requests
from django.contrib.auth.models import User
from django.db import connections
from django.db.models import Count, Sum
from django.test import TransactionTestCase

from till import softlock
from till.models import Reservation, Sale, ShowcaseKit, Stem

from .base import Till, serve

CLIENTS = 16
KITS = 200
# So few that carts want more than there are; and in the end they are sold out.
STEMS = 30
SECONDS = float(os.environ.get("TILL_LOAD_SECONDS", "15"))
# So short that carts are abandoned all the time.
HOLD_SECONDS = "3"
# What happens sooner or later, however slow the machine is; whether a hold lapses before a checkout depends on that.
EXPECTED = ["add 200", "add 409", "stems 200", "stems 409", "checkout 200"]
EXPECTED += ["remove 200", "keep 200", "retry 200"]
LATEST = 120


class Load(TransactionTestCase):
    def setUp(self):
        self.addCleanup(softlock.release_everything)
        self.kits = [ShowcaseKit.objects.create(name=f"Kit {n}", price=1) for n in range(KITS)]
        self.stem = Stem.objects.create(name="Roses", price=1, on_hand=STEMS)
        self.answers = collections.Counter()
        self.problems = []
        self.counting = threading.Lock()

    def test_every_kit_and_every_stem_is_sold_at_most_once_and_no_request_fails(self):
        url = serve(self, TILL_HOLD_SECONDS=HOLD_SECONDS)
        begin = time.monotonic()
        end = begin + SECONDS
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

        print(f"\n  {sum(self.answers.values())} requests in {time.monotonic() - begin:.0f} s: ", end="")
        print(*(f"{count} {name}" for name, count in sorted(self.answers.items())), sep=", ")
        self.assertEqual(self.problems, [])
        for answer in EXPECTED:
            self.assertGreater(self.answers[answer], 0, answer)
        sold = Reservation.objects.filter(status=Reservation.Status.SOLD)
        per_kit = sold.filter(kit__isnull=False).values("kit").annotate(times=Count("pk"))
        self.assertTrue(all(kit["times"] == 1 for kit in per_kit))
        self.stem.refresh_from_db()
        stems = sold.filter(stem=self.stem).aggregate(sold=Sum("quantity"))["sold"]
        self.assertEqual(stems + self.stem.on_hand, STEMS)
        self.assertEqual(Sale.objects.count(), self.answers["checkout 200"])
        self.assertEqual(sum(sale.total for sale in Sale.objects.all()), per_kit.count() + stems)

    def goes_on(self, end: float) -> bool:
        late = time.monotonic() - end
        return late < 0 or late < LATEST and not all(self.answers[answer] for answer in EXPECTED)

    def client_of(self, url: str, cookie: str, end: float) -> None:
        """A hurried cashier: fills carts, takes things out, sells some, abandons others."""
        chance = random.Random(cookie)
        with requests.Session() as browser:
            browser.cookies.set("sessionid", cookie)
            browser.get(url).raise_for_status()  # sets the CSRF cookie
            browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]

            def ask(name: str, path: str, method: str = "POST", **body: Any) -> dict[str, Any]:
                answer = browser.request(method, f"{url}/api/{path}", json=body)
                with self.counting:
                    self.answers[f"{name} {answer.status_code}"] += 1
                if answer.status_code in (200, 409):
                    return answer.json()
                self.problems.append(f"{path}: {answer.status_code} {answer.text[:500]}")
                return {}

            def remove(pk: int) -> None:
                ask("remove", f"showcase-kits/{pk}/remove-from-cart/")

            def stems(quantity: int) -> None:
                ask("stems", f"stems/{self.stem.pk}/set-quantity/", quantity=quantity)

            def check_out() -> None:
                """Sells what the page shows, and asks again, as if the answer had got lost."""
                seen = ask("list", "showcase-kits/", "GET")
                lines = [thing["line"] for things in seen.values() for thing in things if thing["in_cart"]]
                if not lines:
                    return
                answer = ask("checkout", "checkout/", lines=lines)
                if "sale" in answer:
                    again = ask("retry", "checkout/", lines=lines)
                    if again != answer:
                        self.problems.append(f"{answer}, and on the retry {again}")
                for lost in answer.get("lost", []):
                    stems(0) if "on_hand" in lost else remove(lost["id"])

            while self.goes_on(end):
                cart = chance.sample(self.kits, chance.randint(1, 5))
                for kit in cart:
                    ask("add", f"showcase-kits/{kit.pk}/add-to-cart/")
                if chance.random() < 0.5:
                    stems(chance.randint(1, 5))
                if chance.random() < 0.2:
                    ask("list", "showcase-kits/", "GET")
                if chance.random() < 0.2:
                    ask("keep", "keep/")
                if chance.random() < 0.3:
                    check_out()
                elif chance.random() < 0.7:
                    for kit in cart:
                        remove(kit.pk)
                    stems(0)
                # The rest is abandoned: it stays in the cart until a checkout says that it is lost.
