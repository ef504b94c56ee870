"""An open page keeps its cart, up to a cap; and a guest's cart becomes a cashier's."""

from datetime import timedelta

from django.utils import timezone

from till import softlock
from till.models import Reservation, Sale

from .base import SHORT, ShopTestCase, Till, await_lapse, lock_on, policy


class Heartbeat(ShopTestCase):
    def test_a_beat_prolongs_the_whole_cart_and_no_other(self):
        with self.settings(TILL_HOLD=timedelta(minutes=5)):
            self.annas.add(self.kit)
            self.annas.set_quantity(self.roses, 3)
            self.till_of(self.anna).add(self.kits[1])
            self.boriss.add(self.kits[2])
        self.assertEqual(self.annas.keep().json(), {"kept": 2, "lapsed": 0, "capped": False})
        soon = timezone.now() + timedelta(minutes=29)
        self.assertTrue(all(lock_on(goods).expires_at > soon for goods in (self.kit, self.roses)))
        self.assertTrue(all(lock_on(goods).expires_at < soon for goods in self.kits[1:]))

    def test_a_beat_stops_at_the_cap_and_says_so(self):
        with policy("kit", max_hold="10 minutes"), self.settings(TILL_HOLD=timedelta(minutes=9)):
            self.annas.add(self.kit)
            self.annas.set_quantity(self.roses, 1)
            self.assertEqual(self.annas.keep().json()["capped"], False)
            with self.settings(TILL_HOLD=timedelta(minutes=30)):
                self.assertEqual(self.annas.keep().json(), {"kept": 2, "lapsed": 0, "capped": True})
        kit, roses = lock_on(self.kit), lock_on(self.roses)
        self.assertEqual(kit.expires_at - kit.acquired_at, timedelta(minutes=10))
        self.assertGreater(roses.expires_at - roses.acquired_at, timedelta(minutes=29))

    def test_a_beat_names_no_line_that_is_still_held_and_revives_none_that_has_lapsed(self):
        with SHORT:
            self.annas.add(self.kit)
        self.annas.add(self.kits[1])
        await_lapse(self.kit)
        self.assertEqual(self.annas.keep().json()["kept"], 1)
        self.assertIsNone(lock_on(self.kit))

    def test_a_guest_and_an_empty_cart_may_beat_too(self):
        self.assertEqual(self.annas.keep().json(), {"kept": 0, "lapsed": 0, "capped": False})
        guest = Till()
        guest.add(self.kit)
        self.assertEqual(guest.keep().json()["kept"], 1)


class Guests(ShopTestCase):
    def setUp(self):
        super().setUp()
        self.guest = Till()

    def test_a_guest_fills_a_cart_and_others_see_that_it_is_a_guests(self):
        self.assertEqual(self.guest.add(self.kit).status_code, 200)
        self.assertEqual(self.guest.set_quantity(self.roses, 3).status_code, 200)
        self.assertTrue(self.guest.kits()[self.kit.pk]["held_here"])
        self.assertEqual(self.boriss.kits()[self.kit.pk]["holder"], "a guest")
        self.assertIn("a guest has “Bouquet 1”", self.boriss.add(self.kit).json()["message"])
        self.assertEqual(self.boriss.stems()[self.roses.pk]["left"], 14)

    def test_two_guests_have_two_carts(self):
        self.guest.add(self.kit)
        another = Till()
        self.assertEqual(another.add(self.kit).json()["error"], "held")
        self.assertEqual(another.remove(self.kit).json(), {"released": False})

    def test_a_guest_sells_nothing(self):
        self.guest.add(self.kit)
        self.assertEqual(self.guest.checkout().status_code, 401)
        self.assertFalse(Sale.objects.exists())
        self.assertIsNotNone(lock_on(self.kit))

    def test_nobody_can_be_the_guest_by_what_they_see(self):
        self.guest.add(self.kit)
        owner, session = lock_on(self.kit).owner, self.guest.client.session
        self.assertTrue(owner.startswith("guest:"))
        self.assertNotIn(owner.removeprefix("guest:"), (session.session_key, session["cart"]))
        self.assertNotIn(owner, self.boriss.client.get("/api/showcase-kits/").content.decode())

    def test_on_login_the_cart_becomes_the_cashiers_and_can_be_sold(self):
        self.guest.add(self.kit)
        self.guest.set_quantity(self.roses, 3)
        before = {goods: lock_on(goods) for goods in (self.kit, self.roses)}
        self.guest.log_in(self.anna)
        for goods, was in before.items():
            lock = lock_on(goods)
            self.assertEqual((lock.owner, lock.session), ("anna", was.session))
            self.assertTrue(self.guest.goods(f"{goods.kind}s")[goods.pk]["held_here"])
        self.assertEqual({line.cashier for line in Reservation.objects.all()}, {self.anna})
        self.assertEqual(self.guest.checkout().status_code, 200)
        self.assertEqual(Sale.objects.get().cashier, self.anna)

    def test_the_guests_own_window_can_not_sell_or_free_it_any_more(self):
        self.guest.add(self.kit)
        was = lock_on(self.kit)
        token = Reservation.objects.get().token
        self.guest.log_in(self.anna)
        self.assertFalse(softlock.release(self.kit.resource, was.owner))
        self.assertFalse(softlock.renew(self.kit.resource, "anna", token=token))
        self.assertGreater(Reservation.objects.get().token, token)

    def test_stems_that_the_cashier_has_in_another_cart_come_together_with_the_guests(self):
        self.annas.set_quantity(self.roses, 5)
        self.guest.add(self.kit)
        self.guest.set_quantity(self.roses, 3)
        self.guest.log_in(self.anna)
        self.assertTrue(self.guest.kits()[self.kit.pk]["held_here"])
        here, there = self.guest.stems()[self.roses.pk], self.annas.stems()[self.roses.pk]
        self.assertEqual((here["held_here"], here["quantity"], here["left"]), (True, 8, 9))
        self.assertEqual((there["in_cart"], there["held_here"]), (True, False))
        self.assertEqual(self.annas.checkout().status_code, 409)
        self.assertEqual(self.guest.checkout().status_code, 200)
        self.roses.refresh_from_db()
        self.assertEqual(self.roses.on_hand, 9)

    def test_what_is_more_than_the_cashier_may_have_is_freed_and_the_rest_comes_along(self):
        with policy("kit", max_per_owner=1):
            self.annas.add(self.kits[1])
            self.guest.add(self.kit)
            self.guest.set_quantity(self.roses, 3)
            self.guest.log_in(self.anna)
        kit, roses = self.guest.kits()[self.kit.pk], self.guest.stems()[self.roses.pk]
        self.assertEqual((kit["in_cart"], kit["is_locked"]), (True, False))
        self.assertTrue(roses["held_here"])

    def test_a_line_that_the_guest_has_lost_is_shown_as_lost_to_the_cashier(self):
        with SHORT:
            self.guest.add(self.kit)
        self.guest.add(self.kits[1])
        await_lapse(self.kit)
        self.guest.log_in(self.anna)
        kits = self.guest.kits()
        self.assertEqual((kits[self.kit.pk]["in_cart"], kits[self.kit.pk]["held_here"]), (True, False))
        self.assertTrue(kits[self.kits[1].pk]["held_here"])

    def test_a_guest_with_nothing_logs_in_with_nothing(self):
        self.guest.kits()
        self.guest.log_in(self.anna)
        self.assertEqual(self.guest.checkout().json()["error"], "empty")
