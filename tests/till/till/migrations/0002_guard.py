from django.db import migrations

GUARD = """
CREATE TRIGGER held BEFORE UPDATE OR DELETE ON till_showcasekit
    FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'id')
"""


class Migration(migrations.Migration):
    """Nobody changes a kit, or its price, while it is in somebody else's cart: not even in psql."""

    dependencies = [("till", "0001_initial")]

    operations = [migrations.RunSQL(GUARD, "DROP TRIGGER held ON till_showcasekit")]
