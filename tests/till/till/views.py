"""The terminal's page and its API: HTTP in, HTTP out."""

import json
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from . import cart, softlock
from .models import ShowcaseKit


def cashiers_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For an API: who is not logged in gets 401, not a login page."""

    @wraps(view)
    def wrapper(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return refusal(401, "unauthenticated", _("Please log in."))
        return view(request, **kwargs)

    return never_cache(wrapper)


@login_required
def terminal(request: HttpRequest) -> HttpResponse:
    cart_of(request)
    return render(request, "till/terminal.html")


@require_GET
@cashiers_only
def kits(request: HttpRequest) -> JsonResponse:
    """Every kit that is for sale or in this cart, in one query."""
    return JsonResponse({"kits": seen_by(request)})


@require_POST
@cashiers_only
def add_to_cart(request: HttpRequest, pk: int) -> JsonResponse:
    if quantity(request) != 1:
        return refusal(400, "quantity", _("A showcase kit is one of a kind: the quantity must be 1."))
    kit = get_object_or_404(ShowcaseKit, pk=pk)
    try:
        hold = cart.add(kit, request.user, cart_of(request))
    except cart.Sold:
        return refusal(409, "sold", _("“%(kit)s” has been sold.") % {"kit": kit})
    if hold.acquired:
        return JsonResponse({"outcome": hold.outcome, "expires_at": hold.expires_at})
    if hold.outcome == "contended":
        message = _("Somebody is taking “%(kit)s” this very moment. Try again.")
        return refusal(409, "contended", message % {"kit": kit})
    holder = (hold.metadata or {}).get("name", hold.owner)
    minutes = -(-hold.retry_after_ms // 60_000)
    message = ngettext(
        "%(holder)s has “%(kit)s”, for another %(minutes)d minute at most.",
        "%(holder)s has “%(kit)s”, for another %(minutes)d minutes at most.",
        minutes,
    )
    return refusal(
        409,
        "held",
        message % {"holder": holder, "kit": kit, "minutes": minutes},
        holder=holder,
        expires_at=hold.expires_at,
        retry_after_ms=hold.retry_after_ms,
    )


@require_POST
@cashiers_only
def remove_from_cart(request: HttpRequest, pk: int) -> JsonResponse:
    kit = get_object_or_404(ShowcaseKit, pk=pk)
    return JsonResponse({"released": cart.remove(kit, request.user, cart_of(request))})


@require_POST
@cashiers_only
def checkout(request: HttpRequest) -> JsonResponse:
    """Sells the whole cart, or nothing."""
    try:
        sale = cart.checkout(request.user, cart_of(request))
    except softlock.NotHeld as error:
        lost = [kit for kit in seen_by(request) if kit["in_cart"] and not kit["held_here"]]
        message = _("Nothing was sold. No longer in your cart: %(kits)s.")
        names = ", ".join(
            (_("“%(name)s” (%(holder)s)") if kit["holder"] else _("“%(name)s”")) % kit for kit in lost
        )
        return refusal(409, "not_held", message % {"kits": names}, lost=lost, detail=error.detail)
    if sale is None:
        return refusal(409, "empty", _("The cart is empty."))
    return JsonResponse({"sale": sale.pk, "total": sale.total})


def cart_of(request: HttpRequest) -> str:
    """This browser's cart: two of the same cashier's have two."""
    return request.session.setdefault("cart", str(uuid.uuid4()))


def seen_by(request: HttpRequest) -> list[dict[str, Any]]:
    """The kits as this cashier and cart see them; never somebody else's session."""
    here = cart_of(request)
    found = ShowcaseKit.objects.with_state(here).filter(Q(sold=False) | Q(in_cart=True))
    return [as_seen(kit, request.user.get_username(), here) for kit in found.order_by("pk")]


def as_seen(kit: ShowcaseKit, owner: str, here: str) -> dict[str, Any]:
    lock = kit.lock or {}
    mine = lock.get("owner") == owner
    return {
        "id": kit.pk,
        "name": kit.name,
        "price": kit.price,
        "sold": kit.sold,
        "in_cart": kit.in_cart,
        "is_locked": bool(lock),
        "locked_by_me": mine,
        "held_here": mine and lock["session"] == here,
        "holder": (lock.get("metadata") or {}).get("name", lock.get("owner")),
        "expires_at": lock.get("expires_at"),
        "remaining_ms": lock.get("remaining_ms"),
    }


def quantity(request: HttpRequest) -> Any:
    """The asked quantity, from JSON or a form; 1 where none is given."""
    if request.content_type != "application/json":
        given = request.POST.get("quantity", "1")
        return int(given) if given.isdecimal() else given
    try:
        return json.loads(request.body or b"{}").get("quantity", 1)
    except (ValueError, AttributeError):
        return None


def refusal(status: int, error: str, message: str, **more: Any) -> JsonResponse:
    return JsonResponse({"error": error, "message": message, **more}, status=status)
