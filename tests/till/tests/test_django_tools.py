"""Django's own tools beside softlock: fixtures, flush, and TestCase. How tests run in parallel, run-tests
shows: it runs the API's so."""

import io
import json
import tempfile
from pathlib import Path

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import TestCase

from till import softlock
from till.models import ShowcaseKit
from till.softlock import ActiveLock

from .base import Shop, ShopTestCase, Till, lock_on

NATURAL = {"use_natural_foreign_keys": True, "use_natural_primary_keys": True}


class Fixtures(ShopTestCase):
    def setUp(self):
        super().setUp()
        self.annas.add(self.kit)

    def dump(self, *what: str) -> list[dict]:
        said = io.StringIO()
        call_command("dumpdata", *what, stdout=said, **NATURAL)
        return json.loads(said.getvalue())

    def load(self, rows: list[dict]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            fixture = Path(directory) / "shop.json"
            fixture.write_text(json.dumps(rows))
            call_command("loaddata", str(fixture), verbosity=0)

    def test_dumpdata_takes_everything_along_but_the_locks(self):
        models = {row["model"] for row in self.dump()}
        self.assertTrue({"till.showcasekit", "till.reservation", "auth.user"} <= models, models)
        self.assertNotIn("till.activelock", models)
        self.assertNotIn("till.activelock", {row["model"] for row in self.dump("till")})

    def test_a_dump_is_loaded_into_a_flushed_shop_and_nothing_in_it_is_held(self):
        rows = self.dump()
        softlock.release_everything()
        call_command("flush", interactive=False, verbosity=0)
        self.load(rows)
        self.assertEqual(ShowcaseKit.objects.count(), len(self.kits))
        self.assertIsNone(lock_on(self.kit))
        boris = User.objects.get(username="boris")
        self.assertEqual(Till(boris).add(self.kit).status_code, 200)

    def test_loaddata_passes_over_the_locks_of_a_dump_that_has_them(self):
        fields = {"owner": "anna", "role": "till", "acquired_at": "2026-01-01T00:00:00Z"}
        fields |= {"expires_at": "2036-01-01T00:00:00Z", "remaining": "00:30:00", "session": None}
        kit = {"model": "till.showcasekit", "pk": 4711, "fields": {"name": "Loaded", "price": "1"}}
        self.load([{"model": "till.activelock", "pk": "kit:4711", "fields": fields}, kit])
        self.assertEqual(ShowcaseKit.objects.get(pk=4711).name, "Loaded")
        self.assertFalse(ActiveLock.objects.filter(pk="kit:4711").exists())


class Flush(ShopTestCase):
    # Primary keys start anew for each test, as after `manage.py flush`.
    reset_sequences = True

    def test_flush_leaves_the_locks_and_release_everything_frees_them(self):
        self.annas.add(self.kit)
        self.boriss.add(self.kits[1])
        call_command("flush", interactive=False, verbosity=0)
        # The names of kits to come are held by carts that are gone.
        self.assertEqual({lock.owner for lock in ActiveLock.objects.all()}, {"anna", "boris"})
        self.assertEqual(softlock.release_everything(), 2)
        self.assertFalse(ActiveLock.objects.exists())
        self.open_shop()
        self.assertEqual(self.kit.pk, 1)
        self.assertEqual(Till(self.boris).add(self.kit).status_code, 200)

    def test_a_test_that_meets_the_same_primary_keys_meets_no_lock_of_the_one_before(self):
        self.assertEqual(self.kit.pk, 1)
        self.assertEqual(Till(self.boris).add(self.kit).status_code, 200)


class InOneTransaction(Shop, TestCase):
    """TestCase runs each test in a transaction: two owners see each other's holds in it, and they are
    gone after it."""

    @classmethod
    def setUpTestData(cls):
        cls.open_shop(cls)
        softlock.acquire(cls.kits[2].resource, "boris")

    def setUp(self):
        self.annas, self.boriss = Till(self.anna), Till(self.boris)

    def test_one_owner_is_refused_what_the_other_holds(self):
        self.assertEqual(self.annas.add(self.kit).json()["outcome"], "granted")
        answer = self.boriss.add(self.kit)
        self.assertEqual((answer.status_code, answer.json()["error"]), (409, "held"))
        self.assertEqual(answer.json()["holder"], "Anna")
        self.assertEqual(self.boriss.kits()[self.kit.pk]["holder"], "Anna")

    def test_a_sale_ends_the_hold_and_a_refused_one_sells_nothing(self):
        self.annas.add(self.kit)
        self.assertEqual(self.annas.checkout().status_code, 200)
        self.assertIsNone(lock_on(self.kit))
        self.annas.add(self.kits[1])
        softlock.break_lock(self.kits[1].resource, "test")
        self.assertEqual(self.annas.checkout().status_code, 409)

    def test_what_the_class_has_set_up_is_held_in_each_test(self):
        self.assertEqual(self.annas.add(self.kits[2]).json()["error"], "held")
        softlock.release(self.kits[2].resource, "boris")
        self.assertEqual(self.annas.add(self.kits[2]).status_code, 200)

    def test_and_is_held_again_in_the_next_one(self):
        self.assertEqual(lock_on(self.kits[2]).owner, "boris")
        self.assertIsNone(lock_on(self.kit))
