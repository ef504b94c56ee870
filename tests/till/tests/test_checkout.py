"""The end of a cart: everything in it is sold once, or nothing is. Runs in each way to be deployed, as
the rest of the API."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from unittest import mock

from django.db import connection, connections, transaction

from till import softlock
from till.models import Sale

from .base import SHORT, ShopTestCase, await_lapse, await_that, lock_on


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

    def test_lines_that_are_no_list_of_numbers_are_refused(self):
        self.annas.add(self.kit)
        for lines in (None, "1", 1, ["1"], [None], [True], [1.0], {"1": 1}):
            self.assertEqual(self.annas.checkout(lines=lines).status_code, 400, lines)
        self.assertEqual(self.annas.post("/api/checkout/", "[]").status_code, 400)
        self.assertEqual(self.annas.checkout(lines=[2**70]).status_code, 409)
        self.assertFalse(Sale.objects.exists())


class Once(ShopTestCase):
    """Asked again, a checkout answers with the sale that it has made."""

    def test_a_retry_whose_first_answer_got_lost_is_shown_the_sale(self):
        for kit in self.kits[:2]:
            self.annas.add(kit)
        lines = self.annas.lines()
        first, retry = (self.annas.checkout(lines=lines) for _ in range(2))
        self.assertEqual((first.status_code, retry.status_code), (200, 200), retry.content)
        self.assertEqual(first.json(), retry.json())
        self.assertEqual(Sale.objects.count(), 1)

    def test_two_clicks_at_once_make_one_sale_and_both_are_shown_it(self):
        self.annas.add(self.kit)
        lines = self.annas.lines()
        selling, go_on = threading.Event(), threading.Event()
        create = Sale.objects.create

        def create_slowly(**fields):
            selling.set()
            go_on.wait()
            return create(**fields)

        def click(window):
            try:
                return window.checkout(lines=lines)
            finally:
                connections.close_all()

        with (
            mock.patch.object(Sale.objects, "create", create_slowly),
            ThreadPoolExecutor(2) as windows,
        ):
            self.addCleanup(go_on.set)
            first = windows.submit(click, self.annas.second_window())
            await_that("the first click sells", selling.is_set)
            second = windows.submit(click, self.annas.second_window())
            await_that("the second click waits for it", somebody_waits)
            go_on.set()
            answers = [click.result() for click in (first, second)]
        self.assertEqual([answer.status_code for answer in answers], [200, 200], answers[1].content)
        self.assertEqual(answers[0].json(), answers[1].json())
        self.assertEqual(Sale.objects.count(), 1)

    def test_many_clicks_at_once_make_one_sale(self):
        for kit in self.kits:
            self.annas.add(kit)
        lines = self.annas.lines()
        start = threading.Barrier(6)

        def click(window):
            start.wait()
            try:
                return window.checkout(lines=lines)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(6) as windows:
            answers = list(windows.map(click, [self.annas.second_window() for _ in range(6)]))
        self.assertEqual([answer.status_code for answer in answers], [200] * 6)
        self.assertEqual(len({answer.json()["sale"] for answer in answers}), 1)
        self.assertEqual(Sale.objects.count(), 1)

    def test_a_retry_does_not_sell_what_was_put_into_the_cart_since(self):
        self.annas.add(self.kits[0])
        lines = self.annas.lines()
        first = self.annas.checkout(lines=lines).json()
        self.annas.add(self.kits[1])
        self.assertEqual(self.annas.checkout(lines=lines).json(), first)
        self.assertEqual(lock_on(self.kits[1]).owner, "anna")
        self.assertNotEqual(self.annas.checkout().json()["sale"], first["sale"])

    def test_who_names_no_lines_sells_what_is_in_the_cart_or_is_shown_its_last_sale(self):
        sales = []
        for kit in self.kits[:2]:
            self.annas.add(kit)
            answers = [self.annas.post("/api/checkout/", {}).json() for _ in range(2)]
            self.assertEqual(answers[0], answers[1])
            sales.append(answers[0]["sale"])
        self.assertEqual(list(Sale.objects.order_by("pk").values_list("pk", flat=True)), sales)

    def test_a_cart_of_which_another_window_has_removed_or_sold_a_part_sells_nothing(self):
        for change in (self.annas.remove, lambda _: self.annas.checkout(lines=lines[:1])):
            for kit in self.kits[:2]:
                self.annas.add(kit)
            lines = self.annas.lines()
            change(self.kits[0])
            before = Sale.objects.count()
            answer = self.annas.checkout(lines=lines)
            self.assertEqual((answer.status_code, answer.json()["error"]), (409, "not_held"))
            self.assertIn("The cart has changed meanwhile", answer.json()["message"])
            self.assertEqual(Sale.objects.count(), before)
            self.assertEqual(lock_on(self.kits[1]).owner, "anna")

    def test_nobody_is_shown_or_makes_somebody_elses_sale(self):
        self.annas.add(self.kit)
        lines = self.annas.lines()
        self.assertEqual(self.boriss.checkout(lines=lines).status_code, 409)
        self.annas.checkout(lines=lines)
        self.assertEqual(self.boriss.checkout(lines=lines).status_code, 409)

    def test_a_hold_that_was_lost_and_one_that_was_sold_are_told_apart(self):
        with SHORT:
            self.annas.add(self.kit)
        lines = self.annas.lines()
        await_lapse(self.kit)
        lost = self.annas.checkout(lines=lines)
        self.assertEqual((lost.status_code, lost.json()["error"]), (409, "not_held"))
        self.assertIn("No longer in your cart: “Bouquet 1”.", lost.json()["message"])
        self.annas.add(self.kit)
        self.assertEqual(self.annas.checkout(lines=lines).status_code, 200)
        self.assertEqual(self.annas.checkout(lines=lines).status_code, 200)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                              WHERE NOT granted AND datname = current_database())"""
        )
        return cursor.fetchone()[0]
