"""What softlock.py has beside what the till uses."""

from datetime import timedelta

from till import softlock

from .base import ShopTestCase

SEATS = ["seat:1", "seat:2", "seat:3", "seat:4"]


class Client(ShopTestCase):
    def test_any_free_seat_is_the_first_in_the_asked_order(self):
        softlock.acquire(SEATS[0], "boris")
        got = softlock.acquire_any(SEATS, "anna")
        self.assertTrue(got.acquired)
        self.assertEqual([lock.resource for lock in got.locks], [SEATS[1]])
        self.assertIsNotNone(got.locks[0].token)

    def test_fewer_than_asked_are_none_and_every_conflict(self):
        softlock.acquire_many(SEATS[:2], "boris", ttl=timedelta(minutes=1))
        got = softlock.acquire_any(SEATS, "anna", 3)
        self.assertEqual((got.acquired, got.locks), (False, []))
        self.assertEqual([conflict.resource for conflict in got.conflicts], SEATS[:2])
        self.assertEqual({conflict.owner for conflict in got.conflicts}, {"boris"})
        self.assertIsNotNone(got.conflicts[0].expires_at)
        self.assertEqual([seat.is_locked for seat in softlock.status(SEATS[2:])], [False, False])

    def test_a_cart_is_taken_as_a_whole_with_as_many_units_of_each(self):
        got = softlock.acquire_many(["rose:1", "rose:2"], "anna", units=[3, 4], capacities=[10, 4])
        self.assertTrue(got.acquired)
        self.assertEqual([seen.units for seen in softlock.status(["rose:1", "rose:2"])], [3, 4])
        refused = softlock.acquire_many(["rose:1", "rose:2"], "boris", units=[7, 1], capacities=[10, 4])
        self.assertEqual([conflict.resource for conflict in refused.conflicts], ["rose:2"])

    def test_a_hold_says_how_many_units_it_has_of_how_many(self):
        hold = softlock.acquire("rose:1", "anna", units=3, capacity=10)
        self.assertEqual((hold.units, hold.capacity), (3, 10))
        refused = softlock.acquire("rose:1", "boris", units=8, capacity=10)
        self.assertEqual((refused.acquired, refused.available, refused.capacity), (False, 7, 10))
        self.assertEqual(softlock.acquire("rose:1", "anna", units=2, capacity=10).outcome, "renewed")

    def test_all_of_a_session_are_released_and_no_others(self):
        softlock.acquire_many(SEATS[:2], "anna", session="cart-1")
        softlock.acquire(SEATS[2], "anna", session="cart-2")
        self.assertEqual(sorted(softlock.release_all("anna", session="cart-1")), SEATS[:2])
        self.assertEqual([seat.is_locked for seat in softlock.status(SEATS)], [False, False, True, False])

    def test_renewing_all_names_what_is_left_and_what_has_lapsed(self):
        softlock.acquire_many(SEATS[:2], "anna", ttl=timedelta(minutes=1))
        kept = softlock.renew_all("anna", ttl=timedelta(minutes=2))
        self.assertEqual(sorted(lock.resource for lock in kept.locks), SEATS[:2])
        self.assertEqual(kept.lapsed, [])
        self.assertFalse(any(lock.capped for lock in kept.locks))

    def test_some_of_an_owners_locks_are_passed_on_all_or_none(self):
        softlock.acquire_many(SEATS[:3], "anna")
        softlock.acquire(SEATS[3], "clara")
        passed = softlock.transfer("anna", "boris", SEATS[:2])
        self.assertEqual([lock.resource for lock in passed.locks], SEATS[:2])
        refused = softlock.transfer("anna", "boris", SEATS[2:])
        self.assertEqual((refused.acquired, [c.resource for c in refused.conflicts]), (False, SEATS[3:]))
        self.assertEqual([seat.owner for seat in softlock.status(SEATS)], ["boris", "boris", "anna", "clara"])

    def test_whatever_fits_is_broken_by_who_may(self):
        softlock.acquire_many(SEATS[:3], "anna")
        softlock.acquire(SEATS[3], "boris")
        self.assertEqual(softlock.break_all("the hall is closed", owner="anna", prefix="seat:"), 3)
        self.assertEqual([seat.is_locked for seat in softlock.status(SEATS)], [False, False, False, True])
