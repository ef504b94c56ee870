"""Holds in the old columns, and the locks that the migrations take for them."""

from django.db.models import Exists, F, Manager, OuterRef, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Cast, Coalesce, Concat, Now

from till import softlock
from till.softlock import ActiveLock

# Tells the locks that the migrations took from those that the new views take.
CARRIED = {"carried_over": True}


def resource(kit_id: F) -> Concat:
    return Concat(Value("kit:"), Cast(kit_id, TextField()), output_field=TextField())


def live(reservations: Manager) -> QuerySet:
    """The holds that the columns tell of. Where check-then-write has let two have the same kit, the one
    that ends last comes first, and wins."""
    return (
        reservations.filter(locked_until__gt=Now())
        .annotate(
            resource=resource(F("kit_id")),
            cart=Coalesce("lock_cart", Value(""), output_field=TextField()),
            left=F("locked_until") - Now(),
        )
        .order_by("-locked_until", "pk")
    )


def not_carried(reservations: Manager) -> QuerySet:
    """The holds without a lock of the same owner and cart that lasts as long."""
    taken = ActiveLock.objects.annotate(cart=Coalesce("session", Value(""), output_field=TextField()))
    its_lock = taken.filter(
        resource=OuterRef("resource"),
        owner=OuterRef("locked_by"),
        cart=OuterRef("cart"),
        expires_at__gte=OuterRef("locked_until"),
    )
    return live(reservations).exclude(Exists(its_lock))


def carry(found: QuerySet) -> list[str]:
    """Takes a lock for each of these holds, with the time that it has left, and says who lost one."""
    lost = []
    for hold in found:
        answer = softlock.acquire(
            hold.resource, hold.locked_by, ttl=hold.left, session=hold.lock_cart or None, metadata=CARRIED
        )
        if not answer.acquired:
            lost.append(f"kit {hold.kit_id} stays with {answer.owner}; {hold.locked_by} had it too")
    return lost


def settle(reservations: Manager) -> list[str]:
    """Brings the locks up to what the columns say now: frees those that the migrations took for holds
    that have ended since, and takes those that are missing."""
    still_there = live(reservations).filter(resource=OuterRef("resource"), locked_by=OuterRef("owner"))
    free(ActiveLock.objects.filter(metadata__contains=CARRIED).exclude(Exists(still_there)))
    return carry(not_carried(reservations))


def write_back(reservations: Manager) -> None:
    """The other way: what softlock has, into the columns."""
    lock = ActiveLock.objects.filter(resource=resource(OuterRef("kit_id")))
    reservations.filter(Exists(lock), status="reserved").update(
        locked_by=Subquery(lock.values("owner")),
        lock_cart=Subquery(lock.values("session")),
        locked_until=Subquery(lock.values("expires_at")),
    )


def locks() -> QuerySet[ActiveLock]:
    return ActiveLock.objects.filter(resource__startswith="kit:").order_by("resource")


def free(found: QuerySet[ActiveLock]) -> None:
    for lock in found:
        softlock.release(lock.resource, lock.owner)
