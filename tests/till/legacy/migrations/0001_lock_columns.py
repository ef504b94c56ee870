from django.db import migrations, models


class Migration(migrations.Migration):
    """Where the project stands: three columns that views check and write, and a beat task that clears
    them every five minutes."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="Reservation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kit_id", models.BigIntegerField()),
                ("status", models.CharField(max_length=8, default="reserved")),
                ("locked_by", models.CharField(max_length=150, null=True)),
                ("lock_cart", models.CharField(max_length=36, null=True)),
                ("locked_until", models.DateTimeField(null=True, db_index=True)),
            ],
        ),
    ]
