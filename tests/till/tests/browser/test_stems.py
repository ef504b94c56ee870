"""Roses by the stem, in whichever number."""

import threading

from till.models import Sale, Stem
from till.softlock import ActiveLock

from .terminal import TwoTills


class Stems(TwoTills):
    def take(self, quantity: int) -> None:
        """As many are in Anna's cart, taken from another window of hers."""
        answer = self.annas_window.set_quantity(self.roses, quantity)
        self.assertEqual(answer.status_code, 200, answer.content)

    def setUp(self):
        super().setUp()
        self.annas_window = self.till_of(self.anna)
        self.annas.open(self.live_server_url, self.annas_window.client.cookies["sessionid"].value)

    def press(self, till, by: int, quantity: int) -> None:
        till.step(self.roses, by).click()
        till.awaits(f"{quantity} are in the cart", lambda: self.quantity(till) == quantity)

    def quantity(self, till) -> int:
        return int(till.stem(self.roses).get_attribute("data-quantity"))

    def test_plus_and_minus_change_how_many_are_held_and_the_other_till_says_how_many_are_left(self):
        self.assertEqual(self.annas.left(self.roses), "17 of 17 left")
        self.assertFalse(self.annas.step(self.roses, -1).is_enabled())
        for quantity in (1, 2, 3):
            self.press(self.annas, 1, quantity)
        line = self.annas.line(self.roses)
        self.assertIn("3 pcs", line.text)
        self.assertIn("10.50", line.text)
        self.press(self.annas, -1, 2)
        self.boriss.awaits("15 are left", lambda: self.boriss.left(self.roses) == "осталось 15 из 17")
        self.take(14)
        self.boriss.awaits("3 are left", lambda: self.boriss.left(self.roses) == "осталось 3 из 17")
        self.annas.awaits("3 of 17 left", lambda: self.annas.left(self.roses) == "3 of 17 left")

    def test_when_none_is_left_there_is_no_plus_and_one_that_is_given_back_can_be_had(self):
        self.take(16)
        self.boriss.awaits("1 is left", lambda: "1 из 17" in self.boriss.left(self.roses))
        self.press(self.boriss, 1, 1)
        for till in (self.annas, self.boriss):
            till.awaits("no plus", lambda till=till: not till.step(self.roses, 1).is_enabled())
        self.annas.awaits("16 in the cart", lambda: self.quantity(self.annas) == 16)
        self.press(self.annas, -1, 15)
        self.boriss.awaits("a plus", lambda: self.boriss.step(self.roses, 1).is_enabled())
        self.press(self.boriss, 1, 2)

    def test_a_page_that_has_not_followed_yet_is_refused_with_how_many_can_be_had(self):
        self.take(16)
        self.boriss.browser.execute_script(
            "act(document.createElement('button'), arguments[0], '', { quantity: 2 })",
            f"/api/stems/{self.roses.pk}/set-quantity/",
        )
        self.boriss.awaits("the refusal", lambda: "не более 1" in self.boriss.message())
        self.assertEqual(self.quantity(self.boriss), 0)

    def test_when_both_press_plus_for_the_last_one_exactly_one_gets_it(self):
        for _ in range(5):
            self.take(16)
            for till in (self.annas, self.boriss):
                till.awaits("the last one", lambda till=till: "1 " in till.left(self.roses))
                till.awaits("a plus", lambda till=till: till.step(self.roses, 1).is_enabled())
            buttons = [till.step(self.roses, 1) for till in (self.annas, self.boriss)]
            clicks = [
                threading.Thread(target=button.parent.execute_script, args=["arguments[0].click()", button])
                for button in buttons
            ]
            for click in clicks:
                click.start()
            for click in clicks:
                click.join()
            for till in (self.annas, self.boriss):
                till.awaits("none is left", lambda till=till: not till.step(self.roses, 1).is_enabled())
            self.boriss.awaits("it is decided", lambda: self.both() in [(17, 0), (16, 1)])
            held = dict(ActiveLock.objects.values_list("owner", "units"))
            self.assertEqual(sum(held.values()), 17)
            if "boris" in held:
                self.press(self.boriss, -1, 0)

    def both(self) -> tuple[int, int]:
        return self.quantity(self.annas), self.quantity(self.boriss)

    def test_roses_and_a_bouquet_are_sold_in_one_sale(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        for quantity in (1, 2, 3):
            self.press(self.annas, 1, quantity)
        self.assertEqual(self.annas.browser.execute_script("return total.textContent"), "21.00")
        self.annas.sell()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.boriss.awaits_state(self.kit, None)
        self.boriss.awaits("14 are there", lambda: self.boriss.left(self.roses) == "осталось 14 из 14")
        self.assertEqual({line.goods for line in Sale.objects.get().lines.all()}, {self.kit, self.roses})
        self.assertEqual(Stem.objects.get().on_hand, 14)

    def test_roses_leave_the_cart_at_once(self):
        self.take(5)
        self.annas.awaits("the line", lambda: self.annas.line(self.roses))
        self.annas.remove(self.roses)
        self.annas.awaits("the line has gone", lambda: self.annas.line(self.roses) is None)
        self.boriss.awaits("all are left", lambda: self.boriss.left(self.roses) == "осталось 17 из 17")
