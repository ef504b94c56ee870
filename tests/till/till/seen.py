"""What a cart sees of the shop: every kit and every sort of stems that is for sale or in it, and who has
what. Never somebody else's session, nor a guest's number."""

from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from . import softlock
from .cart import Cart
from .models import ShowcaseKit, Stem


def goods(cart: Cart) -> dict[str, list[dict[str, Any]]]:
    """Three queries, however much there is."""
    kits = list(
        ShowcaseKit.objects.in_cart(cart.number).filter(Q(sold=False) | Q(line__isnull=False)).order_by("pk")
    )
    stems = list(Stem.objects.in_cart(cart.number).order_by("pk"))
    holds = softlock.status([thing.resource for thing in kits + stems], cart.owner)
    return {
        "kits": [
            {**common(kit, hold, cart), "sold": kit.sold, **who(hold)}
            for kit, hold in zip(kits, holds, strict=False)
        ],
        "stems": [
            {**common(stem, hold, cart), **how_many(stem, hold)}
            for stem, hold in zip(stems, holds[len(kits) :], strict=True)
        ],
    }


def common(thing: ShowcaseKit | Stem, hold: softlock.Status, cart: Cart) -> dict[str, Any]:
    return {
        "id": thing.pk,
        "name": thing.name,
        "price": thing.price,
        "in_cart": thing.line is not None,
        "line": thing.line,
        "held_here": hold.locked_by_me and hold.session == cart.number,
        "locked_by_me": hold.locked_by_me,
        "expires_at": hold.expires_at,
        "remaining_ms": hold.remaining and round(hold.remaining / timedelta(milliseconds=1)),
    }


def who(hold: softlock.Status) -> dict[str, Any]:
    return {
        "is_locked": hold.is_locked,
        "holder": name_of(hold.owner, hold.metadata),
        "taken_by": name_of(hold.pending_owner),
    }


def how_many(stem: Stem, hold: softlock.Status) -> dict[str, Any]:
    return {
        "on_hand": stem.on_hand,
        "left": max(0, stem.on_hand - (hold.units or 0)),
        "quantity": stem.quantity or 0,
    }


def name_of(owner: str | None, metadata: dict[str, Any] | None = None) -> str | None:
    """What a person should read for the owner of a hold."""
    if owner and owner.startswith("guest:"):
        return _("a guest")
    return (metadata or {}).get("name", owner)
