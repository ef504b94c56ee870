"""The examples in Python of docs/developing.md, as they stand there."""

import re
from pathlib import Path
from unittest import mock

from till.models import ShowcaseKit

from .base import ShopTestCase, lock_on

PAGE = Path(__file__).parents[3] / "docs" / "developing.md"


class Examples(ShopTestCase):
    """They are run in order, in a project that has the names which they take for granted."""

    def setUp(self):
        super().setUp()
        self.kit_42 = ShowcaseKit.objects.create(pk=42, name="Bouquet 42", price=42)
        self.sale = mock.Mock()
        self.names = {
            "ShowcaseKit": ShowcaseKit,
            "Sale": self.sale,
            "NotHeld": type("NotHeld", (Exception,), {}),
        }
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        self.assertEqual(len(blocks), 3, "each is tried below")
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), self.names)

    def test_a_call_by_a_raw_cursor_takes_the_kit(self):
        answer = self.names["acquire"](self.kit.resource, "anna", session="cart-9")
        self.assertEqual((answer["outcome"], answer["session"]), ("granted", "cart-9"))
        self.assertEqual(lock_on(self.kit).owner, "anna")

    def test_a_call_by_the_orm_takes_the_kit(self):
        self.assertEqual((self.names["answer"]["outcome"], lock_on(self.kit_42).owner), ("granted", "anna"))

    def test_a_checkout_sells_what_is_held_and_names_what_is_not(self):
        checkout = self.names["checkout"]
        checkout([42], "anna")
        self.assertIsNone(lock_on(self.kit_42))
        list(*self.sale.objects.bulk_create.call_args.args)
        self.sale.assert_called_once_with(kit_id=42, cashier="anna")
        with self.assertRaisesRegex(self.names["NotHeld"], '"kit:42": not_held'):
            checkout([42], "anna")
