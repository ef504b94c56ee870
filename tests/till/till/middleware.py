"""What any view of the API can run into."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from . import softlock
from .views import refusal


class TryAgain:
    """Another transaction stood in the way: a lock timeout on a row, at a foreign key's check when the
    request commits, a deadlock. The cashier is told to try again, and not that something isn't hers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not request.path.startswith("/api/") or not softlock.in_the_way(exception):
            return None
        return refusal(
            409, "in_the_way", _("The till is busy with the same thing. Nothing was changed: try again.")
        )
