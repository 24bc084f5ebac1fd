"""A job's results as rows: for the command line, for JSON, and as CSV that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from .models import Job, JobItem
from .states import ItemStatus, counter_of

COLUMNS = (
    "id", "account", "account_label", "provider", "remote_id", "title", "status", "reason", "detail", "http_status",
    "expected", "before", "target", "after", "attempts", "finished_at",
)  # fmt: skip
# A cell that begins with one of these (or its full-width form) is a formula to a spreadsheet.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def plain(values: dict[str, Any] | None) -> Any:
    """Returns a single value as itself and several as an object; None when there is none."""
    if values is None:
        return None
    return next(iter(values.values())) if len(values) == 1 else values


def row(item: JobItem) -> dict[str, Any]:
    """Returns one item with all that is known of it; unknown is None."""
    return {
        "id": item.pk,
        "account": str(item.account_id),
        "account_label": item.account.label,
        "provider": item.account.provider_key,
        "remote_id": item.remote_id,
        "title": item.title,
        "status": counter_of(ItemStatus(item.status), item.reason),
        "reason": item.reason or None,
        "detail": item.detail or None,
        "http_status": item.http_status,
        "expected": plain(item.expected),
        "before": plain(item.before),
        "target": plain(item.target),
        "after": plain(item.after),
        "attempts": item.attempts,
        "finished_at": item.finished_at,
    }


def rows(job: Job, statuses: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yields a job's items in their order, only those counted under `statuses` when some are given."""
    items = job.shown.select_related("account").order_by("ordinal")
    for item in items.iterator(chunk_size=2000):
        found = row(item)
        if not statuses or found["status"] in statuses:
            yield found


def safe_cell(value: Any) -> str:
    """Returns a cell's text that no spreadsheet takes for a formula."""
    text = value if isinstance(value, str) else _text(value)
    return "'" + text if text.startswith(_FORMULA) else text


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else json.dumps(value, ensure_ascii=False)


def csv_lines(found: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> Iterator[str]:
    """Yields a CSV document (RFC 4180, with a byte order mark so that spreadsheets read Chinese) line by line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")

    def line(cells: Iterable[str]) -> str:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(cells)
        return buffer.getvalue()

    yield "\ufeff" + line(columns)
    for entry in found:
        yield line(safe_cell(entry[name]) for name in columns)


def json_lines(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields one JSON document, an array with one entry per line."""
    before = "["
    for entry in found:
        yield f"{before}\n{json.dumps(entry, ensure_ascii=False, cls=DjangoJSONEncoder)}"
        before = ","
    yield "\n]\n" if before == "," else "[]\n"
