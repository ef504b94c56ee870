"""The shop: one-of-a-kind showcase kits, stems that are sold by the piece, and who has them in a cart or
bought them.

Whether something is held, and by whom, is nowhere in these tables: softlock knows.
"""

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery, TextField, Value
from django.db.models.functions import Cast, Concat
from django.utils.translation import gettext_lazy as _

from .softlock import ActiveLock


class KitQuerySet(models.QuerySet):
    def in_cart(self, cart: str) -> "KitQuerySet":
        """Each kit with whether it is sold, and with its line in this cart, if it has one."""
        reservations = Reservation.objects.filter(kit=OuterRef("pk"))
        reserved = reservations.filter(status=Reservation.Status.RESERVED, cart=cart)
        return self.annotate(
            sold=Exists(reservations.filter(status=Reservation.Status.SOLD)),
            line=Subquery(reserved.values("pk")),
        )

    def free(self) -> "KitQuerySet":
        """Kits that nobody has bought or holds."""
        locks = ActiveLock.objects.filter(resource=Concat(Value("kit:"), Cast(OuterRef("pk"), TextField())))
        return self.in_cart("").filter(~Exists(locks), sold=False)


class ShowcaseKit(models.Model):
    name = models.CharField(_("name"), max_length=100)
    price = models.DecimalField(_("price"), max_digits=10, decimal_places=2)

    objects = KitQuerySet.as_manager()
    kind = "kit"

    class Meta:
        verbose_name = _("showcase kit")
        verbose_name_plural = _("showcase kits")

    def __str__(self) -> str:
        return self.name

    @property
    def resource(self) -> str:
        """The name of its lock."""
        return f"{self.kind}:{self.pk}"


class StemQuerySet(models.QuerySet):
    def in_cart(self, cart: str) -> "StemQuerySet":
        """Each sort of stems with its line in this cart, if it has one, and how many stand there."""
        reserved = Reservation.objects.filter(
            stem=OuterRef("pk"), status=Reservation.Status.RESERVED, cart=cart
        )
        return self.annotate(
            line=Subquery(reserved.values("pk")), quantity=Subquery(reserved.values("quantity"))
        )


class Stem(models.Model):
    """Flowers of a sort, sold by the stem: so many are on hand, and a cart holds some of them."""

    name = models.CharField(_("name"), max_length=100)
    price = models.DecimalField(_("price"), max_digits=10, decimal_places=2)
    on_hand = models.IntegerField(_("on hand"))

    objects = StemQuerySet.as_manager()
    kind = "stem"

    class Meta:
        verbose_name = _("stem")
        verbose_name_plural = _("stems")
        constraints = [models.CheckConstraint(condition=Q(on_hand__gte=0), name="on_hand_is_not_negative")]

    def __str__(self) -> str:
        return self.name

    @property
    def resource(self) -> str:
        """The name of its lock, which has units: a stem each."""
        return f"{self.kind}:{self.pk}"


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
    """A line of a cart: a kit, or some stems of a sort. It outlives its lock, so that the cashier sees
    what was lost. A guest's has no cashier."""

    class Status(models.TextChoices):
        RESERVED = "reserved", _("reserved")
        SOLD = "sold", _("sold")

    kit = models.ForeignKey(
        ShowcaseKit,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="reservations",
        verbose_name=_("showcase kit"),
    )
    stem = models.ForeignKey(
        Stem, models.PROTECT, null=True, blank=True, related_name="reservations", verbose_name=_("stem")
    )
    quantity = models.IntegerField(_("quantity"), default=1)
    cashier = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, verbose_name=_("cashier")
    )
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
            models.UniqueConstraint(
                fields=["stem", "cart"], condition=Q(status="reserved"), name="one_line_of_stems_per_cart"
            ),
            models.UniqueConstraint(fields=["kit"], condition=Q(status="sold"), name="sold_once"),
            models.CheckConstraint(
                condition=Q(kit__isnull=False, stem__isnull=True, quantity=1)
                | Q(kit__isnull=True, stem__isnull=False, quantity__gt=0),
                name="a_kit_or_stems",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.goods} ({self.get_status_display()})"

    @property
    def goods(self) -> ShowcaseKit | Stem:
        return self.kit or self.stem

    @property
    def total(self) -> Decimal:
        return self.quantity * self.goods.price
