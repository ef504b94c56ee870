"""An open page keeps its cart held; a guest's cart is the cashier's who logs in."""

from datetime import timedelta

from django.test import override_settings
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from till.models import Sale

from ..base import await_lapse, await_that, lock_on, policy
from .terminal import TwoTills

HOLD = timedelta(seconds=3)


class Heartbeat(TwoTills):
    def open_with_short_holds(self) -> None:
        """A page whose heart beats every second."""
        short = override_settings(TILL_HOLD=HOLD)
        short.enable()
        self.addCleanup(short.disable)
        self.annas.browser.refresh()
        self.annas.awaits("the showcase is there", lambda: self.annas.find("#showcase .card"))

    def fill(self) -> list:
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.annas.step(self.roses, 1).click()
        self.annas.awaits("a rose", lambda: self.annas.line(self.roses))
        return [lock_on(goods) for goods in (self.kit, self.roses)]

    def test_the_whole_cart_is_kept_while_the_page_is_open_and_lapses_when_it_is_left(self):
        self.open_with_short_holds()
        for first in self.fill():
            goods = self.kit if first.resource == self.kit.resource else self.roses
            # Twice as long as it would be held by itself.
            await_that(
                f"{first.resource} is kept",
                lambda goods=goods, first=first: lock_on(goods).expires_at > first.expires_at + HOLD,
            )
            self.assertEqual(lock_on(goods).acquired_at, first.acquired_at)
        self.annas.browser.get("about:blank")
        for goods in (self.kit, self.roses):
            await_lapse(goods)

    def test_a_cart_is_not_kept_past_the_cap_and_the_cashier_is_told_before(self):
        with policy("kit", max_hold="5 seconds"):
            self.open_with_short_holds()
            kit, roses = self.fill()
            self.annas.awaits("she is told", lambda: "can't be held any longer" in self.annas.message())
            self.assertIsNotNone(lock_on(self.kit), "there is time to sell it")
            await_lapse(self.kit)
            self.annas.awaits("the line is lost", lambda: "hold lost" in self.annas.line(self.kit).text)
            self.boriss.awaits_state(self.kit, "free")
        await_that("the roses are kept", lambda: lock_on(self.roses).expires_at > roses.expires_at + HOLD)
        self.assertNotIn("hold lost", self.annas.line(self.roses).text)


class Guests(TwoTills):
    def log_in_as_anna(self) -> None:
        self.anna.set_password("anna")
        self.anna.save()
        browser = self.annas.browser
        self.annas.awaits("the login page", lambda: self.annas.find("[name=username]"))
        browser.find_element(By.NAME, "username").send_keys("anna")
        browser.find_element(By.NAME, "password").send_keys("anna" + Keys.ENTER)
        self.annas.awaits("Anna is in", lambda: self.annas.find("#cashier"))
        self.annas.awaits("the showcase is there", lambda: self.annas.find("#showcase .card"))

    def test_a_guests_cart_is_the_cashiers_after_login_and_was_free_for_nobody(self):
        self.annas.open(self.live_server_url)
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.annas.step(self.roses, 1).click()
        self.annas.awaits("a rose", lambda: self.annas.line(self.roses))
        self.boriss.awaits_state(self.kit, "busy")
        self.assertIn("занято: гость", self.boriss.card(self.kit).text)
        self.assertTrue(lock_on(self.kit).owner.startswith("guest:"))
        self.boriss.browser.execute_script(
            """
            window.states = [];
            new MutationObserver((changes) => {
              for (const { target } of changes) states.push(target.dataset.state);
            }).observe(arguments[0], { attributeFilter: ["data-state"] });
            """,
            self.boriss.card(self.kit),
        )

        # A guest who wants to sell is asked who it is.
        self.annas.sell()
        self.log_in_as_anna()
        self.annas.awaits_state(self.kit, "mine")
        self.assertEqual({lock_on(goods).owner for goods in (self.kit, self.roses)}, {"anna"})
        self.boriss.awaits("it is Anna's", lambda: "занято: anna" in self.boriss.card(self.kit).text)
        self.assertEqual(set(self.boriss.browser.execute_script("return states")) - {"busy"}, set())

        self.annas.sell()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.assertEqual(Sale.objects.get().cashier, self.anna)
        self.assertEqual({line.goods for line in Sale.objects.get().lines.all()}, {self.kit, self.roses})
