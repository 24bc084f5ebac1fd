from typing import Any

from django.db import migrations

from conversations import audit_guard


def protect(apps: Any, schema_editor: Any) -> None:
    """Entries can be added, and nothing else, from here on."""
    audit_guard.install(schema_editor.connection, apps.get_model("conversations", "AuditEntry"))


def release(apps: Any, schema_editor: Any) -> None:
    """Back to a table like the others."""
    audit_guard.remove(schema_editor.connection, apps.get_model("conversations", "AuditEntry"))


class Migration(migrations.Migration):
    """The database itself refuses to change or delete what the audit log holds."""

    dependencies = [("conversations", "0006_audit_of_teams")]

    operations = [migrations.RunPython(protect, release)]
