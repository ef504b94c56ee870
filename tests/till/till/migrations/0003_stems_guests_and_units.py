import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("till", "0002_guard"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="reservation",
            name="quantity",
            field=models.IntegerField(default=1, verbose_name="quantity"),
        ),
        migrations.AlterField(
            model_name="reservation",
            name="cashier",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                to=settings.AUTH_USER_MODEL,
                verbose_name="cashier",
            ),
        ),
        migrations.AlterField(
            model_name="reservation",
            name="kit",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="reservations",
                to="till.showcasekit",
                verbose_name="showcase kit",
            ),
        ),
        migrations.CreateModel(
            name="Stem",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("price", models.DecimalField(decimal_places=2, max_digits=10, verbose_name="price")),
                ("on_hand", models.IntegerField(verbose_name="on hand")),
            ],
            options={
                "verbose_name": "stem",
                "verbose_name_plural": "stems",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("on_hand__gte", 0)), name="on_hand_is_not_negative"
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="reservation",
            name="stem",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="reservations",
                to="till.stem",
                verbose_name="stem",
            ),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "reserved")),
                fields=("stem", "cart"),
                name="one_line_of_stems_per_cart",
            ),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kit__isnull", False), ("quantity", 1), ("stem__isnull", True)),
                    models.Q(("kit__isnull", True), ("quantity__gt", 0), ("stem__isnull", False)),
                    _connector="OR",
                ),
                name="a_kit_or_stems",
            ),
        ),
    ]
