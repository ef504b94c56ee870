"""The API, as the terminal uses it. Runs with ATOMIC_REQUESTS off and on, with lasting connections,
through PgBouncer, and as a role that is no superuser."""

from datetime import timedelta

from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from till import softlock
from till.models import Reservation, ShowcaseKit

from .base import SHORT, Other, ShopTestCase, Till, await_lapse, lock_on


class Adding(ShopTestCase):
    def test_a_kit_is_held_for_this_cashier_and_cart_for_half_an_hour(self):
        answer = self.annas.add(self.kit, quantity=1)
        self.assertEqual(answer.status_code, 200, answer.content)
        self.assertEqual(answer.json()["outcome"], "granted")
        lock = lock_on(self.kit)
        self.assertEqual(lock.owner, "anna")
        self.assertEqual(lock.session, self.annas.client.session["cart"])
        self.assertAlmostEqual(
            lock.expires_at, timezone.now() + timedelta(minutes=30), delta=timedelta(minutes=1)
        )

    def test_another_cashier_is_told_who_has_it_and_for_how_long(self):
        self.annas.add(self.kit)
        answer = self.boriss.add(self.kit)
        self.assertEqual(answer.status_code, 409)
        self.assertEqual(answer.json()["error"], "held")
        self.assertEqual(answer.json()["holder"], "Anna")
        self.assertIn("Anna has “Bouquet 1”, for another 30 minutes", answer.json()["message"])
        self.assertTrue(1_700_000 < answer.json()["retry_after_ms"] <= 1_800_000)
        self.assertFalse(Reservation.objects.filter(cashier=self.boris).exists())

    def test_asking_twice_is_harmless(self):
        self.annas.add(self.kit)
        token = Reservation.objects.get().token
        self.assertEqual(self.annas.add(self.kit).json()["outcome"], "renewed")
        self.assertEqual(Reservation.objects.get().token, token)

    def test_a_quantity_other_than_one_is_refused_and_holds_nothing(self):
        for quantity in (0, 2, -1, 1.5, "1", "two", None, [1]):
            answer = self.annas.add(self.kit, quantity=quantity)
            self.assertEqual(answer.status_code, 400, quantity)
        self.assertEqual(
            self.annas.post(f"/api/showcase-kits/{self.kit.pk}/add-to-cart/", "[]").status_code, 400
        )
        form = self.annas.client.post(f"/api/showcase-kits/{self.kit.pk}/add-to-cart/", {"quantity": "2"})
        self.assertEqual(form.status_code, 400)
        self.assertIsNone(lock_on(self.kit))

    def test_another_browser_of_the_same_cashier_takes_the_kit_over(self):
        self.annas.add(self.kit)
        second = self.till_of(self.anna)
        self.assertEqual(second.add(self.kit).json()["outcome"], "moved")
        kit = self.annas.kits()[self.kit.pk]
        self.assertTrue(kit["locked_by_me"])
        self.assertFalse(kit["held_here"])
        self.assertEqual(self.annas.checkout().status_code, 409)
        self.assertEqual(second.checkout().status_code, 200)

    def test_an_unknown_kit_is_404(self):
        self.assertEqual(self.annas.add(2**62).status_code, 404)
        self.assertEqual(
            self.annas.client.get(f"/api/showcase-kits/{self.kit.pk}/add-to-cart/").status_code, 405
        )

    def test_a_request_from_another_site_is_refused(self):
        self.assertEqual(Till(self.anna, enforce_csrf_checks=True).add(self.kit).status_code, 403)

    def test_a_russian_browser_gets_russian_answers(self):
        self.annas.add(self.kit)
        answer = self.boriss.client.post(
            f"/api/showcase-kits/{self.kit.pk}/add-to-cart/", headers={"accept-language": "ru"}
        )
        self.assertIn("ещё не более 30 минут", answer.json()["message"])


class Removing(ShopTestCase):
    def test_a_removed_kit_is_free_for_the_others(self):
        self.annas.add(self.kit)
        self.assertEqual(self.annas.remove(self.kit).json(), {"released": True})
        self.assertIsNone(lock_on(self.kit))
        self.assertEqual(self.boriss.add(self.kit).status_code, 200)

    def test_removing_again_is_harmless(self):
        self.annas.add(self.kit)
        self.annas.remove(self.kit)
        self.assertEqual(self.annas.remove(self.kit).json(), {"released": False})

    def test_somebody_elses_kit_stays_with_them(self):
        self.annas.add(self.kit)
        self.assertEqual(self.boriss.remove(self.kit).json(), {"released": False})
        self.assertEqual(lock_on(self.kit).owner, "anna")

    def test_a_line_that_was_lost_can_be_removed_and_leaves_the_new_holder_alone(self):
        with SHORT:
            self.annas.add(self.kit)
        await_lapse(self.kit)
        self.boriss.add(self.kit)
        self.assertEqual(self.annas.remove(self.kit).json(), {"released": False})
        self.assertFalse(self.annas.kits()[self.kit.pk]["in_cart"])
        self.assertEqual(lock_on(self.kit).owner, "boris")


class Listing(ShopTestCase):
    def test_every_kit_says_whether_it_is_locked_by_whom_and_until_when(self):
        self.annas.add(self.kits[0])
        self.boriss.add(self.kits[1])
        mine, theirs, free = (self.annas.kits()[kit.pk] for kit in self.kits)
        self.assertEqual((mine["is_locked"], mine["locked_by_me"], mine["holder"]), (True, True, "Anna"))
        self.assertEqual(
            (theirs["is_locked"], theirs["locked_by_me"], theirs["holder"]), (True, False, "Boris")
        )
        self.assertTrue(1_700_000 < theirs["remaining_ms"] <= 1_800_000)
        self.assertIsNotNone(theirs["expires_at"])
        self.assertEqual((free["is_locked"], free["holder"]), (False, None))

    def test_nobody_sees_another_cashiers_cart_number(self):
        self.annas.add(self.kit)
        answer = self.boriss.client.get("/api/showcase-kits/").content.decode()
        self.assertNotIn(self.annas.client.session["cart"], answer)

    def test_all_kits_are_one_query_and_their_holders_one_more_however_many_there_are(self):
        self.annas.kits()

        def queries() -> int:
            with CaptureQueriesContext(connection) as seen:
                self.annas.kits()
            self.assertEqual(sum("till_showcasekit" in q["sql"] for q in seen), 1)
            self.assertEqual(sum('FROM "till_stem"' in q["sql"] for q in seen), 1)
            self.assertEqual(sum("softlock_status" in q["sql"] for q in seen), 1)
            return len(seen)

        few = queries()
        for n in range(40):
            kit = ShowcaseKit.objects.create(name=f"More {n}", price=1)
            if n % 2:
                self.boriss.add(kit)
        self.assertEqual(queries(), few)

    def test_a_kit_that_somebody_is_just_taking_is_shown_as_being_taken_and_by_whom(self):
        other = Other(self)
        other.run("SELECT softlock_acquire(%s, 'boris')", self.kit.resource)
        kit = self.annas.kits()[self.kit.pk]
        self.assertEqual((kit["is_locked"], kit["holder"], kit["taken_by"]), (False, None, "boris"))
        answer = self.annas.add(self.kit)
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "contended"))
        self.assertEqual(answer.json()["message"], "boris is taking “Bouquet 1” this very moment. Try again.")
        other.connection.rollback()
        kit = self.annas.kits()[self.kit.pk]
        self.assertEqual((kit["is_locked"], kit["taken_by"]), (False, None))
        self.assertEqual(self.annas.add(self.kit).status_code, 200)

    def test_a_kit_whose_sale_outlasts_its_hold_is_shown_as_being_taken(self):
        other = Other(self)
        # Long enough for this machine to begin the sale in time.
        for hold in ("0.2 s", "2 s", "20 s"):
            other.run("SELECT softlock_acquire(%s, 'boris', %s)", self.kit.resource, hold)
            other.connection.commit()
            try:
                other.run("SELECT softlock_consume(%s, 'boris')", [self.kit.resource])
                break
            except DatabaseError:
                other.connection.rollback()
        seen = self.annas.kits()[self.kit.pk]
        self.assertTrue(seen["is_locked"] or seen["taken_by"] == "boris", seen)
        await_lapse(self.kit)
        seen = self.annas.kits()[self.kit.pk]
        self.assertEqual((seen["is_locked"], seen["taken_by"]), (False, "boris"))
        other.connection.commit()
        self.assertIsNone(self.annas.kits()[self.kit.pk]["taken_by"])

    def test_the_orm_finds_the_kits_that_are_free(self):
        self.annas.add(self.kits[0])
        self.boriss.add(self.kits[1])
        self.boriss.checkout()
        self.assertEqual(list(ShowcaseKit.objects.free()), [self.kits[2]])


class Guard(ShopTestCase):
    def test_a_plain_update_of_a_kit_in_a_cart_is_refused_with_the_holders_name(self):
        self.annas.add(self.kit)
        with self.assertRaises(softlock.NotHeld) as refused, softlock.refusals():
            ShowcaseKit.objects.filter(pk=self.kit.pk).update(price=1)
        self.assertIn("anna", str(refused.exception))

    def test_the_holder_may_update_and_only_in_that_transaction(self):
        self.annas.add(self.kit)
        with softlock.acting_for("anna"):
            ShowcaseKit.objects.filter(pk=self.kit.pk).update(price=1)
        with self.assertRaises(softlock.NotHeld), softlock.refusals():
            ShowcaseKit.objects.filter(pk=self.kit.pk).update(price=2)
        self.assertEqual(ShowcaseKit.objects.get(pk=self.kit.pk).price, 1)
