"""The manager's desk: what is for sale, what was sold, and the live locks, which can be broken."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from . import softlock
from .models import Reservation, Sale, ShowcaseKit, Stem
from .softlock import ActiveLock


@admin.register(ShowcaseKit)
class ShowcaseKitAdmin(admin.ModelAdmin):
    """Kits have softlock_guard: one that is in a cart can't be changed here either."""

    list_display = ["name", "price"]
    search_fields = ["name"]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with softlock.acting_for(request.user.get_username()):
                return super().changeform_view(request, *args, **kwargs)
        except softlock.NotHeld as error:
            said = f"{error}. {error.detail}"
        except DatabaseError as error:
            if not softlock.in_the_way(error):
                raise
            said = _("The till is busy with the same thing. Nothing was changed: try again.")
        self.message_user(request, said, messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())


@admin.register(Stem)
class StemAdmin(admin.ModelAdmin):
    """Counted anew here. Who then holds more than there are is told so when selling."""

    list_display = ["name", "price", "on_hand"]
    search_fields = ["name"]


class ReadOnly(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Reservation)
class ReservationAdmin(ReadOnly):
    list_display = ["goods", "quantity", "cashier", "status", "sale"]
    list_filter = ["status"]
    list_select_related = ["kit", "stem", "cashier", "sale"]


@admin.register(Sale)
class SaleAdmin(ReadOnly):
    list_display = ["pk", "cashier", "total", "sold_at"]
    list_select_related = True


@admin.register(ActiveLock)
class ActiveLockAdmin(ReadOnly):
    list_display = ["resource", "owner", "session", "units", "metadata", "acquired_at", "expires_at"]
    search_fields = ["resource", "owner"]
    ordering = ["expires_at"]
    actions = ["break_locks"]

    def has_break_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("till.break_lock")

    @admin.action(permissions=["break"], description=gettext_lazy("Break the selected locks"))
    def break_locks(self, request: HttpRequest, queryset: QuerySet[ActiveLock]) -> HttpResponse | None:
        """Asks for the reason, which goes to the server's log, then breaks."""
        reason = request.POST.get("reason", "").strip()
        if not reason:
            context = {
                **self.admin_site.each_context(request),
                "title": _("Break locks"),
                "opts": self.opts,
                "locks": queryset,
                "selected_name": ACTION_CHECKBOX_NAME,
                "reason_missing": "reason" in request.POST,
            }
            return TemplateResponse(request, "admin/till/break_locks.html", context)
        for lock in queryset:
            owner = softlock.break_lock(lock.resource, f"{request.user.get_username()}: {reason}")
            if owner is not None:
                self.message_user(
                    request,
                    _("Broke the lock of %(owner)s on %(resource)s.")
                    % {"owner": owner, "resource": lock.resource},
                )
        return None
