"""What a cashier does with a cart: put in, take out, sell."""

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from . import softlock
from .models import Reservation, Sale, ShowcaseKit


class Sold(Exception):
    """Somebody has bought the kit."""


def lines(cart: str) -> QuerySet[Reservation]:
    return Reservation.objects.filter(cart=cart, status=Reservation.Status.RESERVED)


@transaction.atomic
def add(kit: ShowcaseKit, cashier: User, cart: str) -> softlock.Hold:
    """Holds the kit for this cashier and cart, or answers who has it."""
    hold = softlock.acquire(
        kit.resource,
        cashier.get_username(),
        ttl=settings.TILL_HOLD,
        session=cart,
        metadata={"name": cashier.get_short_name() or cashier.get_username()},
    )
    if hold.acquired:
        # Whoever sold it has committed: before that, the lock was not to be had.
        if kit.reservations.filter(status=Reservation.Status.SOLD).exists():
            raise Sold
        lines(cart).update_or_create(kit=kit, cart=cart, defaults={"cashier": cashier, "token": hold.token})
    return hold


@transaction.atomic
def remove(kit: ShowcaseKit, cashier: User, cart: str) -> bool:
    """Takes the kit out of the cart and frees it; False where it was not (any more) held by it."""
    line = lines(cart).filter(kit=kit).first()
    if line is None:
        return False
    released = softlock.release(kit.resource, cashier.get_username(), token=line.token)
    # Asks for the status again: the cart may have been sold while the release waited.
    lines(cart).filter(kit=kit).delete()
    return released


@transaction.atomic
def checkout(cashier: User, cart: str) -> Sale | None:
    """Sells the whole cart, or raises NotHeld and sells nothing. None for an empty cart."""
    sold = list(lines(cart).select_related("kit").order_by("pk"))
    if not sold:
        return None
    softlock.consume(
        [line.kit.resource for line in sold],
        cashier.get_username(),
        tokens=[line.token for line in sold],
    )
    sale = Sale.objects.create(cashier=cashier, total=sum(line.kit.price for line in sold))
    Reservation.objects.filter(pk__in=[line.pk for line in sold]).update(
        status=Reservation.Status.SOLD, sale=sale
    )
    return sale
