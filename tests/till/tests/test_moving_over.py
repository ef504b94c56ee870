"""The two steps of a project that had lock columns and a beat task: its columns are adopted, and the data
migration to locks of softlock's."""

import io
import os
from contextlib import redirect_stdout
from datetime import timedelta
from importlib import import_module
from unittest import mock

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client, SimpleTestCase, TransactionTestCase, override_settings
from django.utils import timezone

from inventory.models import ProductKit, Reservation
from legacy import holds
from till import softlock
from till.softlock import ActiveLock

from .base import Other, await_that

LOCK_COLUMNS, CARRIED, MOVED = "0001_lock_columns", "0002_move_to_softlock", "0003_drop_lock_columns"
carrying = import_module(f"legacy.migrations.{CARRIED}")


def migrate(name: str):
    executor = MigrationExecutor(connection)
    executor.migrate([("legacy", name)])
    state = MigrationExecutor(connection).loader.project_state(("legacy", name))
    return state.apps.get_model("legacy", "Reservation").objects


class Migrations(SimpleTestCase):
    databases = ["default"]

    def test_no_model_has_a_change_without_a_migration(self):
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@override_settings(ROOT_URLCONF="inventory.urls")
class Adopted(TransactionTestCase):
    """The first step: a line in a migration, and the beat task is gone. The views are as they were."""

    def setUp(self):
        self.anna, self.boris = (User.objects.create_user(name) for name in ("anna", "boris"))
        self.log_from = os.path.getsize(os.environ["TILL_SERVER_LOG"])
        self.run_sql(f"ALTER DATABASE {connection.settings_dict['NAME']} SET log_min_messages = debug1")
        self.addCleanup(
            self.run_sql, f"ALTER DATABASE {connection.settings_dict['NAME']} RESET log_min_messages"
        )

    def run_sql(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    def logged(self, text: str) -> list[str]:
        with open(os.environ["TILL_SERVER_LOG"], encoding="utf-8") as log:
            log.seek(self.log_from)
            return [line for line in log.read().splitlines() if text in line]

    def stock(self, kits: int) -> list[Reservation]:
        return [
            Reservation.objects.create(product_kit=ProductKit.objects.create(name=f"Bouquet {n}"))
            for n in range(kits)
        ]

    def add(self, user: User, reservation: Reservation):
        client = Client()
        client.force_login(user)
        return client.post(f"/kits/{reservation.product_kit_id}/add-to-cart/")

    def abandon(self, *reservations: Reservation) -> None:
        """As if half an hour had passed."""
        for minute, reservation in enumerate(reservations, -len(reservations)):
            expired = timezone.now() + timedelta(minutes=minute)
            Reservation.objects.filter(pk=reservation.pk).update(cart_lock_expires_at=expired)

    def await_freed(self, *reservations: Reservation) -> None:
        rows = Reservation.objects.filter(pk__in=[r.pk for r in reservations])
        await_that("the worker frees them", lambda: not rows.exclude(cart_lock_expires_at=None).exists())

    def test_an_abandoned_cart_is_freed_and_what_is_sold_or_live_is_left_alone(self):
        abandoned, sold, live = self.stock(3)
        for reservation in (abandoned, sold, live):
            self.assertEqual(self.add(self.anna, reservation).status_code, 200)
        self.assertEqual(self.add(self.boris, abandoned).json(), {"error": "busy", "by": "anna"})
        Reservation.objects.filter(pk=sold.pk).update(status="sold")
        self.abandon(sold)
        before = {r.pk: r for r in Reservation.objects.all()}
        self.abandon(abandoned)
        self.await_freed(abandoned)
        abandoned.refresh_from_db()
        self.assertEqual((abandoned.locked_by_user, abandoned.cart_session_id), (None, None))
        self.assertEqual(abandoned.status, "reserved")
        for reservation in (sold, live):
            as_it_was = before[reservation.pk]
            reservation.refresh_from_db()
            for field in ("status", "cart_lock_expires_at", "locked_by_user_id", "cart_session_id"):
                self.assertEqual(getattr(reservation, field), getattr(as_it_was, field))
        self.assertEqual(self.add(self.boris, abandoned).status_code, 200)

    def test_the_log_says_how_many_which_kits_and_how_long_it_took(self):
        carts = self.stock(12)
        for reservation in carts:
            self.add(self.anna, reservation)
        with connection.cursor() as cursor:
            # All at once, so that one sweep finds them.
            cursor.execute(
                "UPDATE inventory_reservation SET cart_lock_expires_at = now() - interval '1 hour' + id * interval '1 s'"
            )
        self.await_freed(*carts)
        said = "LOG:  softlock sweep released 12 expired rows of public.inventory_reservation in "
        await_that("its line in the log", lambda: self.logged(said))
        (line,) = self.logged(said)
        kits = [f'"{reservation.product_kit_id}"' for reservation in carts[:10]]
        self.assertRegex(line, rf" in [0-9.]+ ms: {', '.join(kits)} and 2 more$")
        debug = self.logged("DEBUG:  softlock released ")
        self.assertEqual(len(debug), 10)
        for kit, line in zip(kits, debug, strict=True):
            self.assertRegex(line, rf"released {kit} of public.inventory_reservation, expired at 20")

    def test_a_sweep_by_hand_reports_the_table(self):
        (reservation,) = self.stock(1)
        self.add(self.anna, reservation)
        # In a transaction of its own, so that the worker does not come first.
        other = Other(self)
        other.run("UPDATE inventory_reservation SET cart_lock_expires_at = now() - interval '1 second'")
        with other.connection.cursor() as cursor:
            cursor.execute("SELECT softlock_sweep()->'adopted'->0")
            report = cursor.fetchone()[0]
        self.assertIn(f'"affected": ["{reservation.product_kit_id}"]', report)
        self.assertIn('"released_count": 1', report)
        self.assertIn('"table": "public.inventory_reservation"', report)

    def test_the_migration_can_be_reversed(self):
        def adopted() -> int:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM softlock.adopted WHERE relation = 'inventory_reservation'::regclass"
                )
                return cursor.fetchone()[0]

        self.assertEqual(adopted(), 1)
        MigrationExecutor(connection).migrate([("inventory", "0001_initial")])
        self.assertEqual(adopted(), 0)
        MigrationExecutor(connection).migrate([("inventory", "0002_adopt")])
        self.assertEqual(adopted(), 1)


class MovingOver(TransactionTestCase):
    # Resources that no other test uses; the negative ones can't be kits.
    def setUp(self):
        self.old = migrate(LOCK_COLUMNS)
        self.addCleanup(softlock.release_everything)
        self.addCleanup(migrate, MOVED)

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
        migrate(MOVED)
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
            migrate(MOVED)
        self.assertEqual(self.locks()["kit:-5"].owner, "boris")
        self.assertIn("kit -5 stays with boris; anna had it too", said.getvalue())

    def test_going_back_brings_the_columns_and_the_holds_back(self):
        self.reserve(-6, "anna", 20)
        migrate(MOVED)
        until = self.locks()["kit:-6"].expires_at
        hold = migrate(LOCK_COLUMNS).get(kit_id=-6)
        self.assertEqual((hold.locked_by, hold.lock_cart, hold.locked_until), ("anna", "cart-1", until))
        self.assertNotIn("kit:-6", self.locks())

    def test_holds_are_carried_over_in_batches_and_an_interrupted_run_goes_on_where_it_stopped(self):
        for kit in range(-5, 0):
            self.reserve(kit, "anna", 20 + kit)
        acquire = softlock.acquire
        asked = []

        def acquire_until_interrupted(resource, *arguments, **more):
            asked.append(resource)
            if len(asked) == 4:
                raise KeyboardInterrupt
            return acquire(resource, *arguments, **more)

        with mock.patch.object(carrying, "BATCH", 2):
            with (
                mock.patch.object(softlock, "acquire", acquire_until_interrupted),
                self.assertRaises(KeyboardInterrupt),
            ):
                migrate(CARRIED)
            # The first batch is there, the second one has gone as a whole, and so it says.
            first = self.locks()
            self.assertEqual(set(first), {"kit:-1", "kit:-2"})
            self.assertNotIn(("legacy", CARRIED), MigrationRecorder(connection).applied_migrations())
            with mock.patch.object(softlock, "acquire", mock.Mock(side_effect=acquire)) as again:
                migrate(CARRIED)
            self.assertEqual(again.call_count, 3)
        after = self.locks()
        self.assertEqual(set(after), {f"kit:{kit}" for kit in range(-5, 0)})
        for resource, lock in first.items():
            self.assertEqual(after[resource].acquired_at, lock.acquired_at)

    def test_what_the_old_views_do_meanwhile_counts_when_the_columns_go(self):
        kept, prolonged, ended, passed_on, moved = (self.reserve(-n, "anna", 10) for n in range(1, 6))
        migrate(CARRIED)
        before = self.locks()
        soon = timezone.now() + timedelta(minutes=30)
        self.old.filter(pk=prolonged.pk).update(locked_until=soon)
        self.old.filter(pk=ended.pk).update(locked_by=None, lock_cart=None, locked_until=None)
        self.old.filter(pk=passed_on.pk).update(locked_by="boris", lock_cart="cart-2", locked_until=soon)
        self.old.filter(pk=moved.pk).update(lock_cart="cart-3")
        self.reserve(-6, "boris", 10)
        # What a new view has taken is left alone.
        softlock.acquire("kit:-7", "clara", metadata={"name": "Clara"})
        migrate(MOVED)
        locks = self.locks()
        self.assertEqual(
            {pk: (lock.owner, lock.session) for pk, lock in locks.items()},
            {
                "kit:-1": ("anna", "cart-1"),
                "kit:-2": ("anna", "cart-1"),
                "kit:-4": ("boris", "cart-2"),
                "kit:-5": ("anna", "cart-3"),
                "kit:-6": ("boris", "cart-1"),
                "kit:-7": ("clara", None),
            },
        )
        self.assertEqual(locks["kit:-1"].expires_at, before["kit:-1"].expires_at)
        self.assertGreaterEqual(locks["kit:-2"].expires_at, soon)

    def test_the_columns_can_not_be_written_between_the_last_look_and_their_end(self):
        self.reserve(-1, "anna", 10)
        migrate(CARRIED)
        refused = []

        def an_old_view_comes(reservations):
            other = Other(self)
            other.run("SET lock_timeout = '50ms'")
            try:
                other.run("UPDATE legacy_reservation SET locked_by = 'boris'")
            except DatabaseError as error:
                refused.append(softlock.in_the_way(error))
            return settle(reservations)

        settle = holds.settle
        with mock.patch.object(holds, "settle", an_old_view_comes):
            migrate(MOVED)
        self.assertEqual(refused, [True])
        self.assertEqual(self.locks()["kit:-1"].owner, "anna")
