from django.db import migrations, models
from django.db.models.functions import Now

from till import softlock


def carry_over(apps, schema_editor):
    """Takes a lock for every live hold, with the time that it has left. Where check-then-write let two
    have the same kit, the hold that ends last wins, and the other is named."""
    reservations = apps.get_model("legacy", "Reservation").objects
    live = (
        reservations.filter(locked_until__gt=Now())
        .annotate(left=models.F("locked_until") - Now())
        .order_by("-locked_until")
    )
    for hold in live:
        answer = softlock.acquire(
            f"kit:{hold.kit_id}", hold.locked_by, ttl=hold.left, session=hold.lock_cart or None
        )
        if not answer.acquired:
            print(f"  kit {hold.kit_id} stays with {answer.owner}; {hold.locked_by} had it too")


def carry_back(apps, schema_editor):
    """Writes the live locks into the columns again, and frees them."""
    reservations = apps.get_model("legacy", "Reservation").objects
    for lock in softlock.ActiveLock.objects.filter(resource__startswith="kit:"):
        reservations.filter(kit_id=lock.resource.removeprefix("kit:"), status="reserved").update(
            locked_by=lock.owner, lock_cart=lock.session, locked_until=lock.expires_at
        )
        softlock.release(lock.resource, lock.owner)


class Migration(migrations.Migration):
    """Carries the live holds over and drops the columns, in one transaction: while it runs, the table's
    lock keeps the old views out."""

    dependencies = [("legacy", "0001_lock_columns"), ("till", "0001_initial")]

    operations = [
        migrations.RunSQL("LOCK TABLE legacy_reservation", migrations.RunSQL.noop),
        migrations.RunPython(carry_over, carry_back),
        migrations.RemoveField("Reservation", "locked_by"),
        migrations.RemoveField("Reservation", "lock_cart"),
        migrations.RemoveField("Reservation", "locked_until"),
    ]
