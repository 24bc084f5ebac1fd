"""Places in the messages of a conversation, as cursor text: "before:…" or "after:…" and whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import RequestRejected
from ..records import MessagePage, RemoteMessage
from ..schema import gettext_noop

_ = gettext_noop


def place_of(cursor: str, numbers: int = 1) -> tuple[str, list[int]]:
    """Returns ("before" or "after", the numbers) of a cursor; raises RequestRejected for any other text."""
    way, *rest = cursor.split(":")
    if way not in ("before", "after") or len(rest) != numbers or not all(part.isascii() and part.isdecimal() for part in rest):
        raise RequestRejected(_("This place in the conversation cannot be found any more."))
    return way, [int(part) for part in rest]


def slice_messages(messages: Sequence[RemoteMessage], cursor: str | None, limit: int) -> MessagePage:
    """Pages messages that came in one body: cursors are "before:N" and "after:N" over positions counted from 1 at the oldest."""
    total = len(messages)
    way, (number,) = place_of(cursor) if cursor else ("before", [total + 1])
    if way == "after":
        start = min(number, total)
        end = min(start + limit, total)
    else:
        end = min(max(0, number - 1), total)
        start = max(0, end - limit)
    older, newer = f"before:{start + 1}" if start > 0 else None, f"after:{end}" if end < total else None
    return MessagePage(tuple(messages[start:end]), older, newer, total)
