"""Many new rows with one prepared statement: what the engine writes down for every item, thousands of times a minute."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import connection, models


@cache
def _fields(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def insert(rows: Sequence[models.Model]) -> None:
    """Inserts unsaved objects of one model, which do not learn their ids.

    Like bulk_create, without building the text of a statement for as many rows (half of what that takes).
    """
    if not rows:
        return
    model = type(rows[0])
    fields, quote = _fields(model), connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    values = [tuple(field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields) for row in rows]
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({marks})", values)
