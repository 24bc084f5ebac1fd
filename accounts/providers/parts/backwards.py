"""Messages that can only be read backwards from the newest one, in pages that are cut before hidden messages are dropped.

So a short page proves nothing, and an empty one only after a far look (gotcha 10 of the Nuwax contract). Rows are objects with a rising
`index`; `Fetch` asks for the `limit` newest rows below a bound (None: no bound) and returns what is shown of them, oldest first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..errors import RequestRejected
from ..schema import gettext_noop
from .places import place_of

_ = gettext_noop

FAR_LOOK = 1000  # messages asked for where a page came back nearly or wholly empty
MAX_WALK = 50  # far looks after which a search for the beginning gives up

Row = dict[str, Any]
Fetch = Callable[[int | None, int], Awaitable[list[Row]]]


async def page(fetch: Fetch, cursor: str | None, limit: int) -> tuple[list[Row], str | None, str | None, bool]:
    """Returns (rows oldest first, cursor of the older page, of the newer page, whether the first row is known to be the oldest)."""
    way, (index,) = place_of(cursor) if cursor else ("before", [0])
    if way == "after":
        rows, more = await _newer(fetch, index, limit)
        return rows, _place("before", rows[:1]), _place("after", rows[-1:]) if more else None, False
    rows, more = await _older(fetch, index if cursor else None, limit)
    return rows, _place("before", rows[:1]) if more else None, _place("after", rows[-1:]) if cursor else None, not more


async def oldest(fetch: Fetch, wanted: Callable[[Row], bool]) -> Row | None:
    """Returns the oldest row that is wanted, after a walk to the beginning in large pages; raises RequestRejected where that is too far."""
    bound, first = None, None
    for _look in range(MAX_WALK):
        rows, more = await _older(fetch, bound, FAR_LOOK)
        first = next(filter(wanted, rows), first)
        if not more:
            return first
        bound = int(rows[0]["index"])
    raise RequestRejected(_("This conversation is too long to look for its first message."))


async def _older(fetch: Fetch, bound: int | None, limit: int) -> tuple[list[Row], bool]:
    """Returns up to `limit` rows before `bound` and whether there are older ones."""
    rows: list[Row] = []
    ask, far = limit + 1, max(FAR_LOOK, 4 * limit)
    while len(rows) <= limit:
        part = await fetch(bound, ask)
        if not part and ask == far:
            return rows, False
        if part:
            rows, bound = part + rows, int(part[0]["index"])
        ask = limit + 1 if len(part) * 2 >= ask else far
    return rows[-limit:], True


async def _newer(fetch: Fetch, index: int, limit: int) -> tuple[list[Row], bool]:
    """Returns up to `limit` rows after `index` and whether there are newer ones, coming from the end."""
    rows: list[Row] = []
    bound, more = None, True
    while more:
        part, more = await _older(fetch, bound, FAR_LOOK)
        later = [row for row in part if int(row["index"]) > index]
        rows = (later + rows)[: limit + 1]
        more = more and len(later) == len(part)
        bound = int(part[0]["index"]) if part else None
    return rows[:limit], len(rows) > limit


def _place(way: str, rows: Sequence[Row]) -> str | None:
    return f"{way}:{rows[0]['index']}" if rows else None
