"""Lenient reading of what providers send. Nothing in here raises: what cannot be read counts as not told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo

import httpx

from ..records import Json


def json_object(response: httpx.Response) -> dict[str, Json]:
    """Returns the JSON object of an answer, {} when it is none."""
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def text(value: Json) -> str:
    """Returns text that any page and database can take, "" for what is no text: escapes in JSON can spell half an emoji."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def first_text(body: Mapping[str, Json], *names: str) -> str:
    """Returns the first of these fields that holds text."""
    return next((told for name in names if (told := text(body.get(name)))), "")


def whole(value: Json) -> int | None:
    """Returns a whole number that came as a number or as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def numeral(value: Json) -> str:
    """Returns a 64-bit id as decimal text, "" for anything else."""
    told = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return told if told.isascii() and told.isdigit() and len(told) <= 20 else ""


def positive(value: Json) -> int:
    """Returns a positive signed 64-bit id, 0 for everything that is none."""
    number = int(numeral(value) or 0)
    return number if number < 2**63 else 0


def moment(value: Json, zone: tzinfo | None = None) -> datetime | None:
    """Returns an ISO 8601 time in UTC; one that names no zone is in `zone`, and not told where that is not known either."""
    try:
        told = datetime.fromisoformat(text(value).strip())
    except ValueError:
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=zone)
    return told.astimezone(UTC) if told.tzinfo else None


def compact(value: Json) -> str:
    """Returns JSON text without blanks, in plain characters."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def shown(value: Json, most: int = 200) -> str:
    """Returns any value as short text for people."""
    told = text(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return told if len(told) <= most else told[: most - 1] + "…"


def message_key(position: int, *content: Json) -> str:
    """Returns what identifies a message without an id of its own within its conversation: its position and a hash of its content."""
    digest = hashlib.sha256("\0".join(map(str, content)).encode("utf-8", "replace")).hexdigest()
    return f"{position}-{digest[:12]}"
