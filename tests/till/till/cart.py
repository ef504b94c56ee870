"""What is done with a cart: put in, take out, keep, pass on, sell. Each is a transaction."""

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet

from . import softlock
from .models import Reservation, Sale, ShowcaseKit, Stem
from .softlock import ActiveLock


class Sold(Exception):
    """Somebody has bought the kit."""


class Changed(Exception):
    """A chosen line is no longer in the cart: another window has taken it out."""


class TooFew(Exception):
    """Fewer stems are there than the cart holds: somebody has counted them anew."""

    def __init__(self, stem: Stem):
        super().__init__(stem)
        self.stem = stem


@dataclass(frozen=True)
class Cart:
    """A browser's cart. What is in it is held for its owner: a cashier's user name, or a guest's number."""

    number: str
    owner: str
    cashier: User | None

    def lines(self) -> QuerySet[Reservation]:
        return Reservation.objects.filter(cart=self.number, status=Reservation.Status.RESERVED)

    @transaction.atomic
    def add(self, kit: ShowcaseKit) -> softlock.Hold:
        """Holds the kit for this cart, or answers who has it."""
        hold = self._acquire(kit)
        if hold.acquired:
            # Whoever sold it has committed: before that, the lock was not to be had.
            if kit.reservations.filter(status=Reservation.Status.SOLD).exists():
                raise Sold
            self._put(hold, kit=kit)
        return hold

    @transaction.atomic
    def set_quantity(self, stem: Stem, quantity: int) -> softlock.Hold:
        """Holds so many stems for this cart, more or fewer than before, or answers how many can be had."""
        # Locked, so that none is sold between reading how many there are and holding some of them.
        on_hand = Stem.objects.select_for_update(no_key=True).get(pk=stem.pk).on_hand
        if on_hand == 0:
            return softlock.Hold(False, "held", capacity=0, available=0)
        hold = self._acquire(stem, units=quantity, capacity=on_hand)
        if hold.acquired:
            self._put(hold, stem=stem, quantity=quantity)
        return hold

    def _acquire(self, goods: ShowcaseKit | Stem, **units: int) -> softlock.Hold:
        name = self.cashier and (self.cashier.get_short_name() or self.cashier.get_username())
        return softlock.acquire(
            goods.resource,
            self.owner,
            ttl=settings.TILL_HOLD,
            session=self.number,
            metadata={"name": name} if name else None,
            **units,
        )

    def _put(self, hold: softlock.Hold, quantity: int = 1, **goods: ShowcaseKit | Stem) -> None:
        self.lines().update_or_create(
            cart=self.number,
            **goods,
            defaults={"cashier": self.cashier, "token": hold.token, "quantity": quantity},
        )

    @transaction.atomic
    def remove(self, goods: ShowcaseKit | Stem) -> bool:
        """Takes it out of the cart and frees it; False where it was not (any more) held by it."""
        line = self.lines().filter(**{goods.kind: goods}).first()
        if line is None:
            return False
        released = softlock.release(goods.resource, self.owner, token=line.token)
        # Asks for the status again: the cart may have been sold while the release waited.
        self.lines().filter(**{goods.kind: goods}).delete()
        return released

    def keep(self) -> softlock.Renewal:
        """Prolongs all that is in the cart, as long as that is allowed."""
        return softlock.renew_all(self.owner, session=self.number, ttl=settings.TILL_HOLD)

    @transaction.atomic
    def take_over(self, guest: str) -> None:
        """Makes what the guest has put into this cart its cashier's, without a moment in which it is free.
        Stems of which the cashier has some in another cart come together in this one. What can't be had,
        as it would be more than the cashier may have, is freed, and shown as lost."""
        lines = list(self.lines().select_related("kit", "stem"))
        asked = {line.goods.resource for line in lines}
        while not (
            taken := softlock.transfer(guest, self.owner, sorted(asked), session=self.number)
        ).acquired:
            asked -= {conflict.resource for conflict in taken.conflicts}
        softlock.release_all(guest, session=self.number)
        tokens = {lock.resource: lock.token for lock in taken.locks}
        units = dict(ActiveLock.objects.filter(pk__in=tokens, owner=self.owner).values_list("pk", "units"))
        for line in lines:
            line.cashier = self.cashier
            line.token = tokens.get(line.goods.resource, line.token)
            line.quantity = units.get(line.goods.resource, line.quantity)
            line.save()

    def checkout(self, chosen: Collection[int] | None = None) -> Sale | None:
        """Sells the chosen lines of the cart, by default what is in it, or raises NotHeld, Changed or TooFew
        and sells nothing. None for an empty cart.

        Asked again, after a double click or an answer that got lost, it answers with the sale that it has
        made. The key is the lines: softlock knows holds, not sales, and a line is sold once."""
        own = Reservation.objects.filter(cashier=self.cashier, cart=self.number)
        if chosen is None:
            chosen = set(own.filter(status=Reservation.Status.RESERVED).values_list("pk", flat=True))
            if not chosen:
                return Sale.objects.filter(lines__in=own).order_by("pk").last()
        if not chosen:
            return None
        lines = own.filter(pk__in=chosen)
        found = list(lines.select_related("kit", "stem"))
        if {line.pk for line in found} != set(chosen):
            raise Changed
        try:
            return sale_of(lines) or self._sell(found)
        except softlock.NotHeld:
            # Perhaps by another click, which has sold them while this one waited for it.
            sale = sale_of(lines)
            if sale is None:
                raise
            return sale

    @transaction.atomic
    def _sell(self, found: list[Reservation]) -> Sale:
        softlock.consume(
            [line.goods.resource for line in found], self.owner, tokens=[line.token for line in found]
        )
        # Read again: from now on no other window can change how many stems it is. Always in one order,
        # so that two sales don't wait for each other.
        sold = Reservation.objects.filter(pk__in=[line.pk for line in found])
        lines = list(sold.select_related("kit", "stem").order_by("stem", "pk"))
        for line in lines:
            stock = Stem.objects.filter(pk=line.stem_id, on_hand__gte=line.quantity)
            if line.stem and not stock.update(on_hand=F("on_hand") - line.quantity):
                raise TooFew(line.stem)
        sale = Sale.objects.create(cashier=self.cashier, total=sum(line.total for line in lines))
        sold.update(status=Reservation.Status.SOLD, sale=sale)
        return sale


def sale_of(lines: QuerySet[Reservation]) -> Sale | None:
    """The sale in which all of these were sold."""
    sales = set(lines.values_list("sale", flat=True))
    return Sale.objects.get(pk=sales.pop()) if len(sales) == 1 and None not in sales else None
