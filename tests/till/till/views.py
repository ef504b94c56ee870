"""The terminal's page and its API: HTTP in, HTTP out."""

import json
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from . import events, seen, softlock
from .cart import Cart, Changed, Sold, TooFew
from .models import ShowcaseKit, Stem

# As many as are ever asked for, and as a PostgreSQL integer takes.
MOST = 10_000


def cashiers_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For an API: who is not logged in gets 401, not a login page."""

    @wraps(view)
    def wrapper(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return refusal(401, "unauthenticated", _("Please log in."))
        return view(request, **kwargs)

    return wrapper


def terminal(request: HttpRequest) -> HttpResponse:
    """For cashiers, and for guests, who fill a cart and log in to have it sold."""
    cart_of(request)
    # Often enough for a hold to outlive a beat that gets lost.
    heartbeat = min(settings.TILL_HOLD / 3, settings.TILL_HEARTBEAT)
    return render(request, "till/terminal.html", {"heartbeat_ms": round(heartbeat.total_seconds() * 1000)})


@require_GET
@never_cache
def kits(request: HttpRequest) -> JsonResponse:
    """Everything that is for sale or in this cart, and who has it."""
    return JsonResponse(seen.goods(cart_of(request)))


@require_GET
@never_cache
@transaction.non_atomic_requests
def follow(request: HttpRequest) -> HttpResponse:
    """Server-sent events for as long as the page is open; 503 where it has to ask instead."""
    connection.close()  # An open page takes a thread, and no connection.
    try:
        news = events.feed.follow()
    except events.Off as error:
        return refusal(503, "not_following", str(error))
    return StreamingHttpResponse(news, content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@require_POST
@never_cache
def add_to_cart(request: HttpRequest, pk: int) -> JsonResponse:
    if quantity(request, 1) != 1:
        return refusal(400, "quantity", _("A showcase kit is one of a kind: the quantity must be 1."))
    kit = get_object_or_404(ShowcaseKit, pk=pk)
    try:
        hold = cart_of(request).add(kit)
    except Sold:
        return refusal(409, "sold", _("“%(kit)s” has been sold.") % {"kit": kit})
    return held(hold) if hold.acquired else not_held(request, hold, kit)


@require_POST
@never_cache
def set_quantity(request: HttpRequest, pk: int) -> JsonResponse:
    """So many stems in the cart, however many there were: asked twice, it does the same once."""
    asked = quantity(request, None)
    if type(asked) is not int or not 0 <= asked <= MOST:
        return refusal(400, "quantity", _("The quantity must be a whole number, 0 or more."))
    stem = get_object_or_404(Stem, pk=pk)
    cart = cart_of(request)
    if asked == 0:
        return JsonResponse({"released": cart.remove(stem)})
    hold = cart.set_quantity(stem, asked)
    return held(hold) if hold.acquired else not_held(request, hold, stem)


def held(hold: softlock.Hold) -> JsonResponse:
    return JsonResponse({"outcome": hold.outcome, "expires_at": hold.expires_at})


def not_held(request: HttpRequest, hold: softlock.Hold, goods: ShowcaseKit | Stem) -> JsonResponse:
    """Says why it is not to be had, in words for the cashier."""
    holder = seen.name_of(hold.owner, hold.metadata)
    minutes = -(-(hold.retry_after_ms or 0) // 60_000)
    more: dict[str, Any] = {"holder": holder}
    if hold.outcome == "quota":
        more = {"held_count": hold.held_count, "limit": hold.limit}
        message = ngettext(
            "No more than %(limit)d of these may be in your carts at a time.",
            "No more than %(limit)d of these may be in your carts at a time.",
            hold.limit,
        )
    elif hold.outcome == "contended":
        more["pid"] = hold.pid
        if hold.owner is None:
            message = _("Somebody is taking “%(kit)s” this very moment. Try again.")
        else:
            message = _("%(holder)s is taking “%(kit)s” this very moment. Try again.")
    elif isinstance(goods, Stem):
        # The last one there is is held like a kit, which says nothing of how many.
        available = hold.available or 0
        more = {"available": available, "capacity": hold.capacity, "retry_after_ms": hold.retry_after_ms}
        message = ngettext(
            "Of “%(kit)s” you can have %(available)d at most: the others are in other carts.",
            "Of “%(kit)s” you can have %(available)d at most: the others are in other carts.",
            available,
        )
    else:
        more |= {"role": hold.role, "expires_at": hold.expires_at, "retry_after_ms": hold.retry_after_ms}
        if hold.owner == cart_of(request).owner:
            message = _("You have “%(kit)s” already, through another program (database role “%(role)s”).")
        else:
            message = ngettext(
                "%(holder)s has “%(kit)s”, for another %(minutes)d minute at most.",
                "%(holder)s has “%(kit)s”, for another %(minutes)d minutes at most.",
                minutes,
            )
    message %= {**more, "holder": holder, "kit": goods, "minutes": minutes}
    return refusal(409, hold.outcome, message, **more)


@require_POST
@never_cache
def remove_from_cart(request: HttpRequest, pk: int) -> JsonResponse:
    kit = get_object_or_404(ShowcaseKit, pk=pk)
    return JsonResponse({"released": cart_of(request).remove(kit)})


@require_POST
@never_cache
def keep_cart(request: HttpRequest) -> JsonResponse:
    """The heartbeat of an open page."""
    kept = cart_of(request).keep()
    capped = any(lock.capped for lock in kept.locks)
    return JsonResponse({"kept": len(kept.locks), "lapsed": len(kept.lapsed), "capped": capped})


@require_POST
@never_cache
@cashiers_only
def checkout(request: HttpRequest) -> JsonResponse:
    """Sells the lines that the page shows, or nothing. Asked again, it answers with the same sale."""
    chosen = given(request, "lines", "all")
    if chosen != "all" and not (isinstance(chosen, list) and all(type(pk) is int for pk in chosen)):
        return refusal(400, "lines", _("The lines must be a list of numbers."))
    try:
        sale = cart_of(request).checkout(None if chosen == "all" else chosen)
    except (softlock.NotHeld, Changed) as error:
        return not_sold(request, getattr(error, "detail", ""))
    except TooFew as error:
        message = _("Nothing was sold. There are fewer of “%(stem)s” than in your cart.")
        return refusal(409, "too_few", message % {"stem": error.stem})
    if sale is None:
        return refusal(409, "empty", _("The cart is empty."))
    return JsonResponse({"sale": sale.pk, "total": sale.total})


def not_sold(request: HttpRequest, detail: str) -> JsonResponse:
    """Says what is missing in the cart, if it still is: the cashier may have just put it in again."""
    goods = seen.goods(cart_of(request))
    lost = [thing for thing in goods["kits"] + goods["stems"] if thing["in_cart"] and not thing["held_here"]]
    if lost:
        message = _("Nothing was sold. No longer in your cart: %(kits)s.")
        names = (
            (_("“%(name)s” (%(holder)s)") if thing.get("holder") else _("“%(name)s”")) % thing
            for thing in lost
        )
        message %= {"kits": ", ".join(names)}
    else:
        message = _("Nothing was sold. The cart has changed meanwhile: look at it and sell again.")
    return refusal(409, "not_held", message, lost=lost, detail=detail)


def cart_of(request: HttpRequest) -> Cart:
    """This browser's cart: two of the same cashier's have two. A guest is a number of its own, since
    others may see whose a hold is, and with the session's key could be that guest."""
    number = request.session.setdefault("cart", str(uuid.uuid4()))
    if request.user.is_authenticated:
        return Cart(number, request.user.get_username(), request.user)
    return Cart(number, request.session.setdefault("guest", f"guest:{uuid.uuid4()}"), None)


def given(request: HttpRequest, name: str, default: Any) -> Any:
    """A value of the request's JSON, the default where there is none, None where it can't be read."""
    if request.content_type != "application/json":
        return default
    try:
        return json.loads(request.body or b"{}").get(name, default)
    except (ValueError, AttributeError):
        return None


def quantity(request: HttpRequest, default: int | None) -> Any:
    """The asked quantity, from JSON or a form."""
    if request.content_type == "application/json":
        return given(request, "quantity", default)
    asked = request.POST.get("quantity", default)
    return int(asked) if isinstance(asked, str) and asked.isdecimal() else asked


def refusal(status: int, error: str, message: str, **more: Any) -> JsonResponse:
    return JsonResponse({"error": error, "message": message, **more}, status=status)
