"""What is no other cashier's hold: another transaction's row lock, of which a cashier is told to try
again, and never that what she holds isn't hers; and a hold of her own that another program has. Runs
with ATOMIC_REQUESTS off and on."""

from django.db import DatabaseError, connection, transaction
from django.db.models import TextField
from django.db.models.functions import Cast

from till import softlock
from till.models import Sale, ShowcaseKit
from till.softlock import ActiveLock

from .base import Other, ShopTestCase, lock_on


class LockTimeout(ShopTestCase):
    def setUp(self):
        super().setUp()
        self.other = Other(self)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        self.addCleanup(self.no_timeout)

    def no_timeout(self):
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")

    def assert_told_to_try_again(self, answer):
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "in_the_way"), answer.content)
        self.assertIn("try again", answer.json()["message"])

    def assert_not_sold_until_the_other_ends(self):
        """Anna keeps her hold, and sells when the way is free."""
        before = lock_on(self.kit)
        self.assert_told_to_try_again(self.annas.checkout())
        self.assertFalse(Sale.objects.exists())
        after = lock_on(self.kit)
        self.assertEqual((after.owner, after.expires_at), ("anna", before.expires_at))
        self.other.connection.rollback()
        self.assertEqual(self.annas.checkout().status_code, 200)

    def test_a_checkout_that_runs_into_a_row_lock_sells_nothing_and_keeps_the_hold(self):
        self.annas.add(self.kit)
        self.other.run("SELECT FROM till_reservation WHERE kit_id = %s FOR UPDATE", self.kit.pk)
        self.assert_not_sold_until_the_other_ends()

    def test_a_checkout_that_runs_into_a_foreign_keys_row_lock_at_its_commit_does_so_too(self):
        self.annas.add(self.kit)
        self.other.run("SELECT FROM auth_user WHERE id = %s FOR UPDATE", self.anna.pk)
        self.assert_not_sold_until_the_other_ends()

    def test_a_second_click_that_can_not_wait_for_the_first_is_not_told_that_the_kit_is_not_hers(self):
        self.annas.add(self.kit)
        self.other.run("SELECT softlock_consume(%s, 'anna')", [self.kit.resource])
        self.assert_not_sold_until_the_other_ends()

    def test_a_kit_whose_row_is_locked_is_not_put_into_the_cart_and_stays_free(self):
        self.other.run("SELECT FROM till_showcasekit WHERE id = %s FOR UPDATE", self.kit.pk)
        self.assert_told_to_try_again(self.annas.add(self.kit))
        self.assertIsNone(lock_on(self.kit))
        self.other.connection.rollback()
        self.assertEqual(self.annas.add(self.kit).status_code, 200)

    def test_a_removal_that_can_not_wait_leaves_the_kit_in_the_cart(self):
        self.annas.add(self.kit)
        self.other.run("SELECT FROM till_reservation WHERE kit_id = %s FOR UPDATE", self.kit.pk)
        self.assert_told_to_try_again(self.annas.remove(self.kit))
        self.assertEqual(lock_on(self.kit).owner, "anna")
        self.assertTrue(self.annas.kits()[self.kit.pk]["in_cart"])

    def test_nowait_is_no_refusal_of_the_guards(self):
        self.other.run("SELECT FROM till_showcasekit WHERE id = %s FOR UPDATE", self.kit.pk)
        with self.assertRaises(DatabaseError) as raised, softlock.acting_for("anna"):
            ShowcaseKit.objects.select_for_update(nowait=True).get(pk=self.kit.pk)
        self.assertTrue(softlock.in_the_way(raised.exception))

    def test_the_manager_is_told_to_try_again_as_well(self):
        self.anna.is_staff = self.anna.is_superuser = True
        self.anna.save()
        self.other.run("SELECT FROM till_showcasekit WHERE id = %s FOR UPDATE", self.kit.pk)
        page = f"/admin/till/showcasekit/{self.kit.pk}/change/"
        answer = self.annas.client.post(page, {"name": "X", "price": "1"}, follow=True)
        self.assertContains(answer, "try again")
        self.assertEqual(ShowcaseKit.objects.get(pk=self.kit.pk).name, "Bouquet 1")

    def test_a_refusal_is_in_nobodys_way(self):
        self.boriss.add(self.kit)
        for refused in (
            lambda: softlock.consume([self.kit.resource], "anna"),
            lambda: ShowcaseKit.objects.filter(pk=self.kit.pk).update(price=1),
        ):
            with self.assertRaises(softlock.NotHeld) as raised, softlock.refusals(), transaction.atomic():
                refused()
            self.assertFalse(softlock.in_the_way(raised.exception.__cause__))
            self.assertIn("boris", f"{raised.exception} {raised.exception.detail}")


class AnotherRole(ShopTestCase):
    def as_superuser(self, *statements: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            for statement in statements:
                cursor.execute(statement)

    def test_a_cashier_is_told_which_role_has_the_hold_that_is_her_own(self):
        softlock.acquire(self.kit.resource, "anna")
        self.as_superuser("CREATE ROLE counter")
        self.addCleanup(self.as_superuser, "DROP OWNED BY counter", "DROP ROLE counter")
        self.as_superuser(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO counter",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO counter",
            "SET ROLE counter",
        )
        answer = self.annas.add(self.kit)
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "held"))
        role = answer.json()["role"]
        self.assertIn(f"through another program (database role “{role}”)", answer.json()["message"])
        self.assertEqual(lock_on(self.kit).role, role)
        named = ActiveLock.objects.annotate(name=Cast("role", TextField()))
        self.assertEqual([lock.pk for lock in named.filter(name=role)], [self.kit.resource])
