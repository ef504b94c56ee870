"""Fills an empty shop for a look: kits, stems, two cashiers and a manager."""

from decimal import Decimal

from django.contrib.auth.models import Permission, User
from django.core.management.base import BaseCommand
from django.db import transaction

from till.models import ShowcaseKit, Stem

KITS = {
    "Morning peonies": "42.00",
    "Red roses, 25": "65.00",
    "Field poppies": "28.50",
    "White lilies": "39.90",
    "Dutch tulips": "31.00",
    "Blue irises": "34.50",
    "Autumn asters": "22.00",
    "Orchid in glass": "79.00",
}
STEMS = {
    "Red roses": ("3.50", 17),
    "White roses": ("3.50", 40),
    "Eucalyptus": ("1.80", 25),
}


class Command(BaseCommand):
    help = __doc__

    @transaction.atomic
    def handle(self, **options: object) -> None:
        for name in ("anna", "boris"):
            User.objects.create_user(name, password=name, first_name=name.title())
        manager = User.objects.create_user("manager", password="manager", is_staff=True)
        manager.user_permissions.set(Permission.objects.filter(content_type__app_label="till"))
        ShowcaseKit.objects.bulk_create(
            ShowcaseKit(name=name, price=Decimal(price)) for name, price in KITS.items()
        )
        Stem.objects.bulk_create(
            Stem(name=name, price=Decimal(price), on_hand=on_hand) for name, (price, on_hand) in STEMS.items()
        )
        self.stdout.write("cashiers anna and boris, manager manager; each password is the name")
