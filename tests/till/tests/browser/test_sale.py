"""The end of a cart, as the page shows it."""

from datetime import timedelta

from django.test import override_settings
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from till.models import Sale

from ..base import await_lapse
from .terminal import TwoTills


class Selling(TwoTills):
    def test_a_checkout_after_the_lock_lapsed_and_another_took_it_fails_clearly_and_sells_nothing(self):
        with override_settings(TILL_HOLD=timedelta(seconds=2)):
            self.annas.add(self.kit)
            self.annas.awaits_state(self.kit, "mine")
        self.annas.add(self.kits[1])
        self.annas.awaits_state(self.kits[1], "mine")
        await_lapse(self.kit)
        self.boriss.awaits_state(self.kit, "free")
        self.boriss.add(self.kit)
        self.boriss.awaits_state(self.kit, "mine")
        self.annas.awaits("the line is lost", lambda: "hold lost" in self.annas.line(self.kit).text)
        self.annas.sell()
        self.annas.awaits("it says why", lambda: self.annas.message().startswith("Nothing was sold"))
        self.assertIn("“Bouquet 1” (Boris)", self.annas.message())
        self.annas.screenshot("lost")
        self.assertFalse(Sale.objects.exists())
        # Without the lost line the rest can be sold.
        self.annas.remove(self.kit)
        self.annas.awaits("the line is gone", lambda: self.annas.line(self.kit) is None)
        self.annas.sell()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.boriss.awaits_state(self.kits[1], None)
        self.assertEqual([line.kit for line in Sale.objects.get().lines.all()], [self.kits[1]])

    def watch_checkouts(self, lost: int = 0) -> None:
        """Has Anna's page note the answers to its checkouts, and lose the first ones on the way."""
        self.annas.browser.execute_script(
            """
            let lost = arguments[0];
            const fetched = window.fetch;
            window.answered = [];
            window.fetch = async (url, options) => {
              const answer = await fetched(url, options);
              if (String(url).includes("checkout")) {
                answered.push(answer.status);
                if (lost-- > 0) throw new TypeError("the answer got lost");
              }
              return answer;
            };
            """,
            lost,
        )

    def answered(self) -> list[int]:
        return self.annas.browser.execute_script("return answered")

    def test_a_double_click_on_sell_makes_one_sale_and_shows_it(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.watch_checkouts()
        button = self.annas.browser.find_element(By.ID, "checkout")
        ActionChains(self.annas.browser).double_click(button).perform()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.assertEqual(Sale.objects.count(), 1)

    def test_two_clicks_that_both_reach_the_server_make_one_sale_and_are_shown_it(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.watch_checkouts()
        self.annas.browser.execute_script(
            "for (let n = 0; n < 2; n++) { sell.disabled = false; sell.click(); }"
        )
        self.annas.awaits("both are answered", lambda: len(self.answered()) == 2)
        self.assertEqual(self.answered(), [200, 200])
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.assertEqual(Sale.objects.count(), 1)

    def test_a_sale_whose_answer_got_lost_is_shown_as_sold_and_is_made_once(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.watch_checkouts(lost=2)
        self.annas.sell()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.assertEqual(self.answered(), [200, 200, 200])
        self.assertEqual(Sale.objects.count(), 1)
        self.assertIsNone(self.annas.line(self.kit))
