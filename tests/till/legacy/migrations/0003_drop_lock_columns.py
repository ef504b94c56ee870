from django.db import migrations

from legacy import holds


def settle(apps, schema_editor):
    for lost in holds.settle(apps.get_model("legacy", "Reservation").objects):
        print(f"  {lost}")


def write_back(apps, schema_editor):
    holds.write_back(apps.get_model("legacy", "Reservation").objects)


class Migration(migrations.Migration):
    """The moment of the change, in one short transaction. While it runs, the table's lock keeps the old
    views out; afterwards they have no columns any more, and softlock has what these said."""

    dependencies = [("legacy", "0002_move_to_softlock")]
    operations = [
        migrations.RunSQL("LOCK TABLE legacy_reservation", migrations.RunSQL.noop),
        migrations.RunPython(settle, write_back),
        migrations.RemoveField("Reservation", "locked_by"),
        migrations.RemoveField("Reservation", "lock_cart"),
        migrations.RemoveField("Reservation", "locked_until"),
    ]
