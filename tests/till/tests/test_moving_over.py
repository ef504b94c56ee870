"""The data migration of a project that had lock columns and a beat task."""

import io
from contextlib import redirect_stdout
from datetime import timedelta

from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import SimpleTestCase, TransactionTestCase
from django.utils import timezone

from till import softlock
from till.softlock import ActiveLock


def migrate(name: str):
    executor = MigrationExecutor(connection)
    executor.migrate([("legacy", name)])
    state = MigrationExecutor(connection).loader.project_state(("legacy", name))
    return state.apps.get_model("legacy", "Reservation").objects


class Migrations(SimpleTestCase):
    databases = ["default"]

    def test_no_model_has_a_change_without_a_migration(self):
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)


class MovingOver(TransactionTestCase):
    # Resources that no other test uses; the negative ones can't be kits.
    def setUp(self):
        self.old = migrate("0001_lock_columns")
        self.addCleanup(migrate, "0002_move_to_softlock")

    def reserve(self, kit_id: int, by: str | None, minutes: int, cart: str | None = "cart-1"):
        until = timezone.now() + timedelta(minutes=minutes) if by else None
        return self.old.create(kit_id=kit_id, locked_by=by, lock_cart=cart, locked_until=until)

    def locks(self) -> dict[str, ActiveLock]:
        return {lock.pk: lock for lock in ActiveLock.objects.filter(pk__startswith="kit:-")}

    def test_live_holds_come_over_with_owner_cart_and_time_and_lapsed_ones_do_not(self):
        live = self.reserve(-1, "anna", 20)
        self.reserve(-2, "boris", -5)
        self.reserve(-3, None, 0)
        without_cart = self.reserve(-4, "boris", 10, cart=None)
        migrate("0002_move_to_softlock")
        locks = self.locks()
        self.assertEqual(set(locks), {"kit:-1", "kit:-4"})
        self.assertEqual((locks["kit:-1"].owner, locks["kit:-1"].session), ("anna", "cart-1"))
        self.assertEqual((locks["kit:-4"].owner, locks["kit:-4"].session), ("boris", None))
        for lock, hold in ((locks["kit:-1"], live), (locks["kit:-4"], without_cart)):
            self.assertAlmostEqual(lock.expires_at, hold.locked_until, delta=timedelta(seconds=30))

    def test_of_two_holds_that_raced_the_one_that_ends_last_wins_and_the_other_is_named(self):
        self.reserve(-5, "anna", 5)
        self.reserve(-5, "boris", 15)
        said = io.StringIO()
        with redirect_stdout(said):
            migrate("0002_move_to_softlock")
        self.assertEqual(self.locks()["kit:-5"].owner, "boris")
        self.assertIn("kit -5 stays with boris; anna had it too", said.getvalue())

    def test_going_back_brings_the_columns_and_the_holds_back(self):
        self.reserve(-6, "anna", 20)
        migrate("0002_move_to_softlock")
        until = self.locks()["kit:-6"].expires_at
        hold = migrate("0001_lock_columns").get(kit_id=-6)
        self.assertEqual((hold.locked_by, hold.lock_cart, hold.locked_until), ("anna", "cart-1", until))
        self.assertNotIn("kit:-6", self.locks())

    def tearDown(self):
        for lock in self.locks().values():
            softlock.release(lock.pk, lock.owner)
