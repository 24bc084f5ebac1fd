"""Numbered pages of any list, and messages in numbered pages that begin at the oldest one.

`Fetch` reads the page of a number at a size; an answer may hold fewer rows than asked for, and its own word about the size counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..errors import RequestRejected
from ..schema import gettext_noop
from .places import place_of

_ = gettext_noop


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page with what its pagination block says; `size` is the server's word, not our wish."""

    rows: list[dict[str, Any]]
    page: int
    size: int
    pages: int = 0
    total: int | None = None
    more: bool = False

    @classmethod
    def read(cls, rows: list[Any], told: Any, page: int, size: int) -> Sheet:
        """Returns page number `page` of asked size `size`, corrected by the block `told` where that is one."""
        block: dict[str, Any] = told if isinstance(told, dict) else {}
        numbers = {key: value for key, value in block.items() if isinstance(value, int) and not isinstance(value, bool) and value >= 0}
        size, total = numbers.get("limit") or size, numbers.get("total_count")
        pages = numbers.get("total_pages", -(-(total or 0) // size))
        more = block["has_next"] if isinstance(block.get("has_next"), bool) else page < pages
        return cls([row for row in rows if isinstance(row, dict)], numbers.get("page") or page, size, pages, total, more)


Fetch = Callable[[int, int], Awaitable[Sheet]]


async def window(fetch: Fetch, cursor: str | None, limit: int) -> tuple[list[Sheet], str | None, str | None]:
    """Returns (whole pages oldest first, older cursor, newer cursor), so that cursors stay true while the list grows at its end.

    Pages are asked for at half the limit: the newest one may hold a single row, and with its neighbour it still fits. Cursors name the page
    beyond which to go on, and the page size.
    """
    way, (number, size) = place_of(cursor, 2) if cursor else ("newest", [0, max(1, limit // 2)])
    if cursor and not (number and size):
        raise RequestRejected(_("This place in the conversation cannot be found any more."))
    limit, sheets, ready = max(limit, size), list[Sheet](), dict[int, Sheet]()
    if way == "newest":
        ready[1] = await fetch(1, size)
        number, size = max(1, ready[1].pages), ready[1].size
        while (newest := ready.get(number) or await fetch(number, size)).more and newest.rows:
            ready[number], number = newest, number + 1  # it grew since its pages were counted
        ready[number], number = newest, number + 1

    def room() -> bool:
        return sum(len(sheet.rows) for sheet in sheets) + size <= limit

    while way == "after" and room() and (not sheets or sheets[-1].more):
        number += 1
        sheets.append(await fetch(number, size))
    while way != "after" and number > 1 and room():
        number -= 1
        sheets.insert(0, ready.get(number) or await fetch(number, size))
    older = f"before:{sheets[0].page}:{size}" if sheets and sheets[0].page > 1 else None
    newer = f"after:{sheets[-1].page}:{size}" if sheets and way != "newest" and sheets[-1].more else None
    return sheets, older, newer
