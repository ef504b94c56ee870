"""A guest logs in: the cart that the browser has filled so far becomes the cashier's."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest

from .cart import Cart


def take_along(request: HttpRequest, user: User, **signal: Any) -> None:
    """Runs after Django's own login, which has kept what a guest's session had."""
    guest = request.session.pop("guest", None)
    number = request.session.get("cart")
    if guest and number:
        Cart(number, user.get_username(), user).take_over(guest)
