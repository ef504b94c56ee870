"""The views as they were: they look at the columns, then write them. Two that come at the same moment may
both get the kit; the second step of moving over ends that."""

from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from .models import Reservation

HOLD = timedelta(minutes=30)


@login_required
def add_to_cart(request: HttpRequest, kit_id: int) -> JsonResponse:
    reservation = get_object_or_404(Reservation, product_kit=kit_id, status="reserved")
    expires_at = reservation.cart_lock_expires_at
    if expires_at and expires_at > timezone.now() and reservation.locked_by_user != request.user:
        return JsonResponse({"error": "busy", "by": reservation.locked_by_user.username}, status=409)
    reservation.cart_lock_expires_at = timezone.now() + HOLD
    reservation.locked_by_user = request.user
    reservation.cart_session_id = request.session.session_key
    reservation.save()
    return JsonResponse({"cart": reservation.cart_session_id})


@login_required
def checkout(request: HttpRequest) -> JsonResponse:
    mine = Reservation.objects.filter(
        locked_by_user=request.user, status="reserved", cart_lock_expires_at__gt=timezone.now()
    )
    return JsonResponse({"sold": mine.update(status="sold")})
