"""The shop: one-of-a-kind showcase kits, and who has them in a cart or bought them.

Whether a kit is held, and by whom, is nowhere in these tables: softlock knows.
"""

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery, TextField, Value
from django.db.models.functions import Cast, Concat, JSONObject
from django.utils.translation import gettext_lazy as _

from .softlock import ActiveLock


class KitQuerySet(models.QuerySet):
    def with_state(self, cart: str) -> "KitQuerySet":
        """Each kit with its live lock, as a dictionary or None, and what this cart has to do with it."""
        locks = ActiveLock.objects.filter(resource=Concat(Value("kit:"), Cast(OuterRef("pk"), TextField())))
        reservations = Reservation.objects.filter(kit=OuterRef("pk"))
        return self.annotate(
            lock=Subquery(
                locks.values(
                    json=JSONObject(
                        owner="owner",
                        session="session",
                        metadata="metadata",
                        expires_at="expires_at",
                        remaining_ms=Milliseconds("remaining"),
                    )
                )
            ),
            sold=Exists(reservations.filter(status=Reservation.Status.SOLD)),
            in_cart=Exists(reservations.filter(status=Reservation.Status.RESERVED, cart=cart)),
        )

    def free(self) -> "KitQuerySet":
        """Kits that nobody has bought or holds."""
        return self.with_state("").filter(sold=False, lock__isnull=True)


class Milliseconds(models.Func):
    """An interval as whole milliseconds."""

    template = "round(extract(epoch from %(expressions)s) * 1000)::bigint"
    output_field = models.BigIntegerField()


class ShowcaseKit(models.Model):
    name = models.CharField(_("name"), max_length=100)
    price = models.DecimalField(_("price"), max_digits=10, decimal_places=2)

    objects = KitQuerySet.as_manager()

    class Meta:
        verbose_name = _("showcase kit")
        verbose_name_plural = _("showcase kits")

    def __str__(self) -> str:
        return self.name

    @property
    def resource(self) -> str:
        """The name of its lock."""
        return f"kit:{self.pk}"


class Sale(models.Model):
    cashier = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, verbose_name=_("cashier"))
    total = models.DecimalField(_("total"), max_digits=10, decimal_places=2)
    sold_at = models.DateTimeField(_("sold at"), auto_now_add=True)

    class Meta:
        verbose_name = _("sale")
        verbose_name_plural = _("sales")

    def __str__(self) -> str:
        return f"{self.pk}"


class Reservation(models.Model):
    """A line of a cart. It outlives its lock, so that the cashier sees what was lost."""

    class Status(models.TextChoices):
        RESERVED = "reserved", _("reserved")
        SOLD = "sold", _("sold")

    kit = models.ForeignKey(
        ShowcaseKit, models.PROTECT, related_name="reservations", verbose_name=_("showcase kit")
    )
    cashier = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, verbose_name=_("cashier"))
    cart = models.CharField(_("cart"), max_length=36)
    token = models.BigIntegerField(_("token"))
    status = models.CharField(_("status"), max_length=8, choices=Status.choices, default=Status.RESERVED)
    sale = models.ForeignKey(
        Sale, models.PROTECT, null=True, blank=True, related_name="lines", verbose_name=_("sale")
    )

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")
        constraints = [
            models.UniqueConstraint(
                fields=["kit", "cart"], condition=Q(status="reserved"), name="one_line_per_cart"
            ),
            models.UniqueConstraint(fields=["kit"], condition=Q(status="sold"), name="sold_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kit} ({self.get_status_display()})"
