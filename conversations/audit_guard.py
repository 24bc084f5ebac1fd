"""Keeps the database from changing and deleting audit entries, whoever asks: triggers on the table itself.

What an entry is about may go away: then its reference becomes NULL, and nothing else of the row changes. SQLite drops a table's triggers when
a later migration builds the table anew; such a migration ends with `install`, and a test looks whether they are there.
"""

from __future__ import annotations

from typing import Any

REFUSED = "Audit entries are only ever added."
_NAMES = ("audit_keep_update", "audit_keep_delete")


def _columns(model: Any) -> tuple[list[str], list[str]]:
    """Returns the columns of references that may become NULL, and all the others."""
    references = [field.column for field in model._meta.concrete_fields if field.is_relation and field.null]
    return references, [field.column for field in model._meta.concrete_fields if field.column not in references]


def install(connection: Any, model: Any) -> None:
    """Puts the triggers on the table of `model`, in the place of older ones."""
    remove(connection, model)
    table, (references, others) = model._meta.db_table, _columns(model)
    statements = _postgresql(table, references) if connection.vendor == "postgresql" else _sqlite(table, references, others)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def remove(connection: Any, model: Any) -> None:
    """Takes the triggers away."""
    table = model._meta.db_table
    on = f' ON "{table}"' if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        for name in _NAMES:
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on}")
        if on:
            cursor.execute("DROP FUNCTION IF EXISTS audit_keep()")


def installed(connection: Any) -> set[str]:
    """Returns the names of those triggers that are there."""
    found = "SELECT tgname FROM pg_trigger" if connection.vendor == "postgresql" else "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    with connection.cursor() as cursor:
        cursor.execute(found)
        return {name for (name,) in cursor.fetchall()} & set(_NAMES)


def names() -> set[str]:
    """Returns the names of the triggers."""
    return set(_NAMES)


def _sqlite(table: str, references: list[str], others: list[str]) -> list[str]:
    same = [f'NEW."{column}" IS OLD."{column}"' for column in others]
    same += [f'(NEW."{column}" IS NULL OR NEW."{column}" IS OLD."{column}")' for column in references]
    refuse = f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
    return [
        f'CREATE TRIGGER audit_keep_update BEFORE UPDATE ON "{table}" WHEN NOT ({" AND ".join(same)}) {refuse}',
        f'CREATE TRIGGER audit_keep_delete BEFORE DELETE ON "{table}" {refuse}',
    ]


def _postgresql(table: str, references: list[str]) -> list[str]:
    listed = ", ".join(f"'{column}'" for column in references)
    same = " AND ".join(f'(NEW."{column}" IS NULL OR NEW."{column}" IS NOT DISTINCT FROM OLD."{column}")' for column in references)
    return [
        f"""CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND {same} AND to_jsonb(NEW) - ARRAY[{listed}] = to_jsonb(OLD) - ARRAY[{listed}] THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'restrict_violation';
        END $$""",
        f'CREATE TRIGGER audit_keep_update BEFORE UPDATE ON "{table}" FOR EACH ROW EXECUTE FUNCTION audit_keep()',
        f'CREATE TRIGGER audit_keep_delete BEFORE DELETE ON "{table}" FOR EACH ROW EXECUTE FUNCTION audit_keep()',
    ]
