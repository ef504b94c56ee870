from collections.abc import Iterator

from django.db import migrations, transaction
from django.db.models import QuerySet

from legacy import holds

# How many holds are carried over per transaction.
BATCH = 1000


def carry_over(apps, schema_editor):
    reservations = apps.get_model("legacy", "Reservation").objects
    for batch in batches(holds.not_carried(reservations)):
        holds.carry(batch)


def carry_back(apps, schema_editor):
    """The columns have the holds again by then; their locks are of no use any more."""
    for batch in batches(holds.locks()):
        holds.free(batch)


def batches(found: QuerySet) -> Iterator[QuerySet]:
    """The same in parts, each in a transaction of its own."""
    keys = list(found.values_list("pk", flat=True))
    for start in range(0, len(keys), BATCH):
        with transaction.atomic():
            yield found.filter(pk__in=keys[start : start + BATCH])


class Migration(migrations.Migration):
    """Takes a lock for every live hold, while the old views go on: they look at their columns only. A
    transaction per batch, so that nothing is locked for long; interrupted and run again, it goes on
    where it stopped. What changes in the columns meanwhile, the next migration puts right."""

    atomic = False
    dependencies = [("legacy", "0001_lock_columns"), ("till", "0001_initial")]
    operations = [migrations.RunPython(carry_over, carry_back)]
