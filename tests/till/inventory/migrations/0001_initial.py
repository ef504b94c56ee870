from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Where the project stands: lock columns that views check and write, and a beat task that clears them."""

    initial = True

    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="ProductKit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100)),
            ],
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
                ("product_kit", models.ForeignKey(on_delete=models.CASCADE, to="inventory.productkit")),
                ("status", models.CharField(default="reserved", max_length=10)),
                ("cart_lock_expires_at", models.DateTimeField(blank=True, db_index=True, null=True)),
                (
                    "locked_by_user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=models.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("cart_session_id", models.CharField(blank=True, max_length=40, null=True)),
            ],
        ),
    ]
