"""Roses by the stem: so many are on hand, a cart holds some, and none is sold twice. Runs in each way to be
deployed, as the rest of the API."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from django.contrib.auth.models import User
from django.db import IntegrityError, connections, transaction

from till.models import Reservation, Sale, Stem

from .base import SHORT, Other, ShopTestCase, await_that, policy
from .test_checkout import somebody_waits


class Holding(ShopTestCase):
    def seen(self, till=None) -> tuple[int, int]:
        """How many are in that till's cart, and how many are left for anybody."""
        roses = (till or self.annas).stems()[self.roses.pk]
        return roses["quantity"] if roses["held_here"] else 0, roses["left"]

    def test_a_quantity_is_held_and_the_others_see_how_many_are_left(self):
        answer = self.annas.set_quantity(self.roses, 14)
        self.assertEqual((answer.status_code, answer.json()["outcome"]), (200, "granted"), answer.content)
        self.assertEqual(self.seen(self.annas), (14, 3))
        self.assertEqual(self.seen(self.boriss), (0, 3))
        self.assertEqual(self.boriss.stems()[self.roses.pk]["on_hand"], 17)

    def test_more_and_fewer_change_the_one_hold(self):
        for quantity in (1, 2, 5, 4, 17, 3):
            self.assertEqual(self.annas.set_quantity(self.roses, quantity).status_code, 200)
            self.assertEqual(self.seen(), (quantity, 17 - quantity))
        self.assertEqual(Reservation.objects.get().quantity, 3)

    def test_asked_twice_it_does_the_same_once(self):
        for _ in range(2):
            self.assertEqual(self.annas.set_quantity(self.roses, 5).status_code, 200)
        self.assertEqual(self.seen(), (5, 12))

    def test_more_than_are_left_are_refused_with_how_many_can_be_had_and_the_hold_stays(self):
        self.annas.set_quantity(self.roses, 14)
        self.boriss.set_quantity(self.roses, 2)
        answer = self.boriss.set_quantity(self.roses, 4)
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "held"))
        self.assertEqual((answer.json()["available"], answer.json()["capacity"]), (3, 17))
        self.assertIn("you can have 3 at most", answer.json()["message"])
        self.assertEqual(self.seen(self.boriss), (2, 1))
        self.assertEqual(self.boriss.set_quantity(self.roses, 3).status_code, 200)
        self.assertEqual(self.seen(self.boriss), (3, 0))

    def test_more_than_there_are_at_all_are_refused(self):
        answer = self.annas.set_quantity(self.roses, 18)
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "held"))
        self.assertEqual(answer.json()["available"], 17)
        self.assertEqual(self.seen(), (0, 17))

    def test_none_takes_them_out_and_frees_them(self):
        self.annas.set_quantity(self.roses, 17)
        self.assertEqual(self.annas.set_quantity(self.roses, 0).json(), {"released": True})
        self.assertEqual(self.annas.set_quantity(self.roses, 0).json(), {"released": False})
        self.assertEqual(self.seen(self.boriss), (0, 17))
        self.assertFalse(Reservation.objects.exists())

    def test_a_quantity_that_is_no_whole_number_is_refused_and_holds_nothing(self):
        for quantity in (-1, 1.5, "two", None, [1], True, 2**31, 2**70):
            self.assertEqual(self.annas.set_quantity(self.roses, quantity).status_code, 400, quantity)
        self.assertEqual(self.annas.set_quantity(2**62, 1).status_code, 404)
        self.assertEqual(self.seen(), (0, 17))

    def test_none_of_what_is_sold_out_can_be_had(self):
        Stem.objects.update(on_hand=0)
        answer = self.annas.set_quantity(self.roses, 1)
        self.assertEqual((answer.status_code, answer.json()["available"]), (409, 0))

    def test_the_very_last_one_is_held_by_one_cart(self):
        Stem.objects.update(on_hand=1)
        self.assertEqual(self.annas.set_quantity(self.roses, 1).status_code, 200)
        answer = self.boriss.set_quantity(self.roses, 1)
        self.assertEqual((answer.status_code, answer.json()["available"]), (409, 0))
        self.assertEqual(self.seen(self.boriss), (0, 0))
        self.assertEqual(self.annas.checkout().status_code, 200)

    def test_what_an_abandoned_cart_had_is_left_again_and_its_line_is_lost(self):
        with SHORT:
            self.annas.set_quantity(self.roses, 17)
        await_that("the hold lapses", lambda: self.seen(self.boriss) == (0, 17))
        self.assertFalse(self.annas.stems()[self.roses.pk]["held_here"])
        self.assertEqual(self.boriss.set_quantity(self.roses, 1).status_code, 200)
        answer = self.annas.checkout()
        self.assertEqual(answer.status_code, 409)
        self.assertIn("No longer in your cart: “Red roses”", answer.json()["message"])

    def test_of_many_who_want_the_last_ones_as_many_are_granted_as_there_are(self):
        tills = [self.till_of(User.objects.create_user(f"cashier-{n}")) for n in range(8)]
        start = threading.Barrier(8)

        def take(till):
            start.wait()
            try:
                return till.set_quantity(self.roses, 3).status_code
            finally:
                connections.close_all()

        with ThreadPoolExecutor(8) as hurried:
            answers = list(hurried.map(take, tills))
        self.assertEqual(sorted(answers), [200] * 5 + [409] * 3)
        self.assertEqual(self.seen(), (0, 2))


class Selling(ShopTestCase):
    def test_stems_are_sold_with_the_rest_of_the_cart(self):
        self.annas.add(self.kit)
        self.annas.set_quantity(self.roses, 4)
        answer = self.annas.checkout()
        self.assertEqual(answer.status_code, 200, answer.content)
        self.assertEqual(Decimal(answer.json()["total"]), Decimal("10.50") + 4 * Decimal("3.50"))
        self.assertEqual(
            [line.goods for line in Sale.objects.get().lines.order_by("pk")], [self.kit, self.roses]
        )
        roses = self.boriss.stems()[self.roses.pk]
        self.assertEqual((roses["on_hand"], roses["left"]), (13, 13))

    def test_a_cart_that_has_lost_its_kit_sells_no_stems(self):
        with SHORT:
            self.annas.add(self.kit)
        self.annas.set_quantity(self.roses, 4)
        await_that("the kit lapses", lambda: not self.annas.kits()[self.kit.pk]["held_here"])
        self.assertEqual(self.annas.checkout().status_code, 409)
        roses = self.annas.stems()[self.roses.pk]
        self.assertEqual((roses["on_hand"], roses["left"], roses["held_here"]), (17, 13, True))

    def test_a_retry_sells_no_second_time(self):
        self.annas.set_quantity(self.roses, 4)
        lines = self.annas.lines()
        answers = [self.annas.checkout(lines=lines).json() for _ in range(3)]
        self.assertEqual(answers, [answers[0]] * 3)
        self.assertEqual(Stem.objects.get().on_hand, 13)

    def test_everything_on_hand_can_be_sold_cart_by_cart_and_no_more(self):
        late = self.till_of(User.objects.create_user("clara"))
        for till, quantity, code in ((self.annas, 10, 200), (self.boriss, 7, 200), (late, 1, 409)):
            self.assertEqual(till.set_quantity(self.roses, quantity).status_code, code)
        for till in (self.boriss, self.annas):
            self.assertEqual(till.checkout().status_code, 200)
        self.assertEqual(Stem.objects.get().on_hand, 0)
        self.assertEqual(late.set_quantity(self.roses, 1).status_code, 409)

    def test_who_asks_during_a_sale_waits_for_it_and_gets_none_that_were_sold(self):
        """Reading how many there are before the sale, and holding after it, would hold what is gone."""
        other = Other(self)
        softlock_of_boris = "SELECT softlock_acquire(%s, 'boris', units => 15, capacity => 17)"
        other.run(softlock_of_boris, self.roses.resource)
        other.connection.commit()
        other.run("SELECT softlock_consume(%s, 'boris')", [self.roses.resource])
        other.run("UPDATE till_stem SET on_hand = on_hand - 15 WHERE id = %s", self.roses.pk)

        def ask():
            try:
                return self.annas.set_quantity(self.roses, 3)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as asking:
            asked = asking.submit(ask)
            await_that("Anna waits for the sale", somebody_waits)
            other.connection.commit()
            answer = asked.result()
        self.assertEqual((answer.status_code, answer.json()["available"]), (409, 2), answer.content)

    def test_when_somebody_has_counted_fewer_nothing_is_sold(self):
        self.annas.add(self.kit)
        self.annas.set_quantity(self.roses, 4)
        Stem.objects.update(on_hand=3)
        answer = self.annas.checkout()
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "too_few"))
        self.assertFalse(Sale.objects.exists())
        self.assertTrue(self.annas.kits()[self.kit.pk]["held_here"])
        self.assertEqual(self.annas.set_quantity(self.roses, 3).status_code, 200)
        self.assertEqual(self.annas.checkout().status_code, 200)

    def test_the_table_itself_lets_nobody_sell_what_is_not_there(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Stem.objects.update(on_hand=-1)


class Policies(ShopTestCase):
    def test_no_more_than_the_dba_allows_are_in_a_cashiers_carts(self):
        with policy("kit", max_per_owner=2):
            for kit in self.kits[:2]:
                self.assertEqual(self.annas.add(kit).status_code, 200)
            answer = self.annas.add(self.kits[2])
            self.assertEqual((answer.status_code, answer.json()["error"]), (409, "quota"), answer.content)
            self.assertEqual((answer.json()["held_count"], answer.json()["limit"]), (2, 2))
            self.assertIn("No more than 2 of these", answer.json()["message"])
            self.assertEqual(self.annas.add(self.kit).json()["outcome"], "renewed")
            # Of another kind, or another's.
            self.assertEqual(self.annas.set_quantity(self.roses, 5).status_code, 200)
            self.assertEqual(self.boriss.add(self.kits[2]).status_code, 200)
