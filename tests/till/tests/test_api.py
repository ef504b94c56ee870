"""The API, as the terminal uses it. Runs with ATOMIC_REQUESTS off and on, with lasting connections,
through PgBouncer, and as a role that is no superuser."""

from datetime import timedelta
from decimal import Decimal
from unittest import mock

from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from till import softlock
from till.models import Reservation, Sale, ShowcaseKit

from .base import SHORT, ShopTestCase, Till, await_lapse, lock_on


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

    def test_who_is_not_logged_in_gets_401_and_an_unknown_kit_404(self):
        self.assertEqual(Till().add(self.kit).status_code, 401)
        self.assertEqual(Till().client.get("/api/showcase-kits/").status_code, 401)
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

    def test_all_kits_are_one_query_however_many_there_are(self):
        self.annas.kits()

        def queries() -> int:
            with CaptureQueriesContext(
                connection,
            ) as seen:
                self.annas.kits()
            self.assertEqual(sum("till_showcasekit" in q["sql"] for q in seen), 1)
            return len(seen)

        few = queries()
        for n in range(40):
            kit = ShowcaseKit.objects.create(name=f"More {n}", price=1)
            if n % 2:
                self.boriss.add(kit)
        self.assertEqual(queries(), few)

    def test_the_orm_finds_the_kits_that_are_free(self):
        self.annas.add(self.kits[0])
        self.boriss.add(self.kits[1])
        self.boriss.checkout()
        self.assertEqual(list(ShowcaseKit.objects.free()), [self.kits[2]])


class Checkout(ShopTestCase):
    def test_the_whole_cart_is_sold_and_its_locks_end(self):
        for kit in self.kits[:2]:
            self.annas.add(kit)
        answer = self.annas.checkout()
        self.assertEqual(answer.status_code, 200, answer.content)
        self.assertEqual(Decimal(answer.json()["total"]), Decimal("31.00"))
        sale = Sale.objects.get(pk=answer.json()["sale"])
        self.assertEqual({line.kit for line in sale.lines.all()}, set(self.kits[:2]))
        self.assertEqual([lock_on(kit) for kit in self.kits[:2]], [None, None])
        self.assertEqual(list(self.boriss.kits()), [self.kits[2].pk])

    def test_a_sold_kit_is_not_to_be_had_again(self):
        self.annas.add(self.kit)
        self.annas.checkout()
        answer = self.boriss.add(self.kit)
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "sold"))
        self.assertIsNone(lock_on(self.kit))

    def test_a_cart_of_which_a_kit_was_lost_to_another_sells_nothing_and_says_which(self):
        with SHORT:
            self.annas.add(self.kits[0])
        self.annas.add(self.kits[1])
        await_lapse(self.kits[0])
        self.boriss.add(self.kits[0])
        answer = self.annas.checkout()
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "not_held"))
        self.assertIn("“Bouquet 1” (Boris)", answer.json()["message"])
        self.assertNotIn("Bouquet 2", answer.json()["message"])
        self.assertFalse(Sale.objects.exists())
        self.assertEqual(lock_on(self.kits[0]).owner, "boris")
        self.assertEqual(lock_on(self.kits[1]).owner, "anna")

    def test_a_lapsed_kit_that_nobody_took_can_be_added_again_and_sold(self):
        with SHORT:
            self.annas.add(self.kit)
        await_lapse(self.kit)
        self.assertEqual(self.annas.checkout().status_code, 409)
        self.assertEqual(self.annas.add(self.kit).json()["outcome"], "granted")
        self.assertEqual(self.annas.checkout().status_code, 200)

    def test_a_sale_that_fails_leaves_the_holds_as_they_were(self):
        self.annas.add(self.kit)
        before = lock_on(self.kit)
        self.annas.client.raise_request_exception = False
        with mock.patch.object(Sale.objects, "create", side_effect=RuntimeError("no paper")):
            self.assertEqual(self.annas.checkout().status_code, 500)
        after = lock_on(self.kit)
        self.assertEqual(
            (after.owner, after.session, after.acquired_at, after.expires_at),
            (before.owner, before.session, before.acquired_at, before.expires_at),
        )
        self.assertEqual(self.annas.checkout().status_code, 200)

    def test_an_empty_cart_is_not_sold(self):
        self.assertEqual(self.annas.checkout().json()["error"], "empty")

    def test_consuming_outside_of_a_transaction_is_an_error_of_the_program(self):
        with self.assertRaises(transaction.TransactionManagementError):
            softlock.consume([self.kit.resource], "anna")


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
