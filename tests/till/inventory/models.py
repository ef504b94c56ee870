"""A shop that keeps its lock columns: softlock has adopted them, and a beat task is all that is gone.

Not used by the till; what a project looks like after the first step of moving over.
"""

from django.conf import settings
from django.db import models


class ProductKit(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Reservation(models.Model):
    product_kit = models.ForeignKey(ProductKit, on_delete=models.CASCADE)
    status = models.CharField(max_length=10, default="reserved")
    cart_lock_expires_at = models.DateTimeField(null=True, blank=True, db_index=True)
    locked_by_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    cart_session_id = models.CharField(max_length=40, null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.product_kit}: {self.status}"
