from django.db import migrations


class Migration(migrations.Migration):
    """Instead of the beat task: softlock's worker clears the columns of what has lapsed."""

    dependencies = [("inventory", "0001_initial"), ("till", "0001_initial")]
    operations = [
        migrations.RunSQL(
            """
            SELECT softlock_adopt('inventory_reservation', 'cart_lock_expires_at',
                clears => '{locked_by_user_id,cart_session_id}', condition => $$status = 'reserved'$$,
                label => 'product_kit_id')
            """,
            "SELECT softlock_disown('inventory_reservation')",
        )
    ]
