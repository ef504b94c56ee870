import django.db.models.deletion
from django.conf import settings
from django.contrib.postgres.operations import CreateExtension
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # Needs the owner of the database, unless a DBA has created it before.
        CreateExtension("softlock"),
        migrations.CreateModel(
            name="ActiveLock",
            fields=[
                ("resource", models.TextField(primary_key=True, serialize=False)),
                ("owner", models.TextField()),
                ("session", models.TextField(null=True)),
                ("role", models.TextField()),
                ("metadata", models.JSONField(null=True)),
                ("acquired_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("remaining", models.DurationField()),
            ],
            options={
                "db_table": "softlock_active",
                "permissions": [("break_lock", "Can break a lock")],
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="ShowcaseKit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("price", models.DecimalField(decimal_places=2, max_digits=10, verbose_name="price")),
            ],
            options={
                "verbose_name": "showcase kit",
                "verbose_name_plural": "showcase kits",
            },
        ),
        migrations.CreateModel(
            name="Sale",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("total", models.DecimalField(decimal_places=2, max_digits=10, verbose_name="total")),
                ("sold_at", models.DateTimeField(auto_now_add=True, verbose_name="sold at")),
                (
                    "cashier",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="cashier",
                    ),
                ),
            ],
            options={
                "verbose_name": "sale",
                "verbose_name_plural": "sales",
            },
        ),
        migrations.CreateModel(
            name="Reservation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("cart", models.CharField(max_length=36, verbose_name="cart")),
                ("token", models.BigIntegerField(verbose_name="token")),
                (
                    "status",
                    models.CharField(
                        choices=[("reserved", "reserved"), ("sold", "sold")],
                        default="reserved",
                        max_length=8,
                        verbose_name="status",
                    ),
                ),
                (
                    "cashier",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="cashier",
                    ),
                ),
                (
                    "sale",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="lines",
                        to="till.sale",
                        verbose_name="sale",
                    ),
                ),
                (
                    "kit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reservations",
                        to="till.showcasekit",
                        verbose_name="showcase kit",
                    ),
                ),
            ],
            options={
                "verbose_name": "reservation",
                "verbose_name_plural": "reservations",
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("status", "reserved")),
                        fields=("kit", "cart"),
                        name="one_line_per_cart",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("status", "sold")), fields=("kit",), name="sold_once"
                    ),
                ],
            },
        ),
    ]
