"""One-of-a-kind kits: into a cart, out of it, and never into two."""

import os
import time
from datetime import timedelta
from pathlib import Path

from django.db import connection
from django.test import override_settings
from selenium.webdriver.common.by import By

from till.models import Reservation, ShowcaseKit

from ..base import await_that, lock_on
from .terminal import TwoTills

CLICK_EACH = """
const [kits, start] = arguments;
for (const [n, kit] of kits.entries()) {
  const button = showcase.querySelector(`[data-kit='${kit}'] button`);
  setTimeout(() => button.click(), start + 100 * n - Date.now());
}
"""


class Kits(TwoTills):
    def test_anna_adds_a_kit_and_boris_sees_it_busy_and_is_refused(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        mine = self.annas.card(self.kit).find_element(By.CSS_SELECTOR, ".mine")
        self.assertTrue(mine.is_displayed())
        red, green, blue = self.colour(mine)
        self.assertTrue(green > red and green > blue)
        self.assertIn("in cart", mine.text)

        line = self.annas.line(self.kit)
        red, green, blue = self.colour(line)
        self.assertTrue(red > 200 and green > 200 and blue < 200, "yellow")
        self.assertEqual(line.find_element(By.CSS_SELECTOR, ".pieces").text, "1 pc (showcase)")
        self.assertEqual([b.text for b in line.find_elements(By.TAG_NAME, "button")], ["Remove"])

        # Boris's page follows within two seconds, give or take a slow machine.
        self.boriss.awaits_state(self.kit, "busy")
        busy = self.boriss.card(self.kit).find_element(By.CSS_SELECTOR, ".busy")
        self.assertTrue(busy.is_displayed())
        red, green, blue = self.colour(busy)
        self.assertTrue(red > green and red > blue)
        self.assertRegex(busy.text, r"занято: Anna (30:00|29:\d\d)")
        left = busy.text
        self.boriss.awaits("the countdown runs", lambda: busy.text != left)
        self.assertFalse(self.boriss.card(self.kit).find_element(By.TAG_NAME, "button").is_enabled())

        # A page that has not followed yet asks all the same, and is refused.
        self.boriss.browser.execute_script(
            "act(document.createElement('button'), arguments[0], '')",
            f"/api/showcase-kits/{self.kit.pk}/add-to-cart/",
        )
        self.boriss.awaits("the refusal", lambda: "Anna держит «Bouquet 1»" in self.boriss.message())
        self.assertEqual(lock_on(self.kit).owner, "anna")

    def test_anna_removes_the_kit_and_boris_can_add_it(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.boriss.awaits_state(self.kit, "busy")
        self.annas.remove(self.kit)
        self.annas.awaits("the cart is empty", lambda: self.annas.line(self.kit) is None)
        self.boriss.awaits_state(self.kit, "free")
        self.boriss.add(self.kit)
        self.boriss.awaits_state(self.kit, "mine")
        self.annas.awaits_state(self.kit, "busy")

    def test_an_abandoned_cart_is_swept_by_the_worker_and_shown_free_without_a_reload(self):
        with override_settings(TILL_HOLD=timedelta(seconds=3)):
            self.annas.add(self.kit)
            self.annas.awaits_state(self.kit, "mine")
        self.boriss.awaits_state(self.kit, "busy")
        self.annas.browser.get("about:blank")
        log = Path(os.environ["TILL_SERVER_LOG"])
        await_that(
            "the worker's log line",
            lambda: any(
                "softlock sweep released" in line and f'"{self.kit.resource}"' in line
                for line in log.read_text().splitlines()
            ),
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM softlock.locks WHERE resource = %s", [self.kit.resource])
            self.assertEqual(cursor.rowcount, 0)
        self.boriss.awaits_state(self.kit, "free")
        self.assertTrue(self.boriss.browser.execute_script("return window.notReloaded"))

    def test_when_both_click_the_same_kit_at_once_exactly_one_wins_fifty_times_over(self):
        kits = [ShowcaseKit.objects.create(name=f"Rush {n}", price=1) for n in range(50)]
        for till in self.tills:
            till.awaits_state(kits[-1], "free")
        # At the same moments of the one clock that both browsers have.
        start = time.time() * 1000 + 500
        for till in self.tills:
            till.browser.execute_script(CLICK_EACH, [kit.pk for kit in kits], start)
        states = [
            till.awaits("all is decided", lambda till=till: self.decided(till, kits)) for till in self.tills
        ]
        for annas, boriss in zip(*states, strict=True):
            self.assertEqual({annas, boriss}, {"mine", "busy"})
        self.assertEqual(Reservation.objects.filter(kit__in=kits).count(), 50)

    def decided(self, till, kits) -> list[str] | None:
        """The states of the kits, once each is somebody's."""
        states = till.browser.execute_script(
            "return arguments[0].map((kit) => showcase.querySelector(`[data-kit='${kit}']`).dataset.state)",
            [kit.pk for kit in kits],
        )
        return states if set(states) <= {"mine", "busy"} else None
