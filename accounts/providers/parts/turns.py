"""One screenful of a listing that grows at its front, before or after a known row."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..errors import RequestRejected
from ..schema import gettext_noop

_ = gettext_noop


@dataclass(slots=True)
class Rows:
    """One page, newest first, of rows of which the newer one always has the higher `id`."""

    rows: list[dict[str, Any]]
    size: int
    total: int
    pages: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a screenful ended: row `id`, which was the `ordinal`-th from the oldest when there were `total`.

    New rows change every page number but neither the id nor the place counted from the oldest end.
    """

    id: int
    ordinal: int
    total: int

    def cursor(self, direction: str) -> str:
        """Returns the text that `turn` continues from, "older" or "newer"."""
        return json.dumps({"go": direction, "id": self.id, "place": self.ordinal, "of": self.total}, separators=(",", ":"))

    @classmethod
    def read(cls, cursor: str) -> tuple[str, Place]:
        """Returns direction and place of a cursor; raises RequestRejected when it is none."""
        state = load_cursor(cursor)
        one, ordinal, total = (_count(state.get(name), -1) for name in ("id", "place", "of"))
        if state.get("go") not in ("older", "newer") or min(one, ordinal, total) < 0:
            raise RequestRejected(_("This place in the conversation cannot be found any more."))
        return state["go"], cls(one, ordinal, total)


Fetch = Callable[[int], Awaitable[Rows]]
Numbered = list[tuple[int, dict[str, Any]]]


async def turn(fetch: Fetch, cursor: str | None, want: int, size: int) -> tuple[Numbered, str | None, str | None]:
    """Returns up to `want` (place from the oldest, row) beside the cursor's place, or the newest, oldest first, and both further cursors.

    `fetch` reads a page by its number, from 1 at the newest; `size` is what its pages probably hold. Rows that arrive or go between two
    requests are neither shown twice nor skipped, as far as ids and totals can tell. Raises RequestRejected for a cursor that is none.
    """
    direction, place = Place.read(cursor) if cursor is not None else ("older", None)
    if place is None or direction == "older":
        found, total = await _older(fetch, place, want, size)
    else:
        found, total = await _newer(fetch, place, want, size)
    if not found:
        return [], None, None
    found.sort(key=lambda pair: pair[0])
    (first, oldest), (last, newest) = found[0], found[-1]
    older = Place(oldest["id"], first, total).cursor("older") if first > 1 else None
    newer = Place(newest["id"], last, total).cursor("newer") if last < total else None
    return found, older, newer


async def from_oldest(fetch: Fetch, pages: int) -> AsyncIterator[dict[str, Any]]:
    """Yields the rows of the last `pages` pages from the oldest on; the number of pages may change meanwhile."""
    answer, number, passed = await fetch(1), 1, 0
    while answer.pages > 0 and passed < pages:
        last = max(1, answer.pages - passed)
        if number != last:
            number, answer = last, await fetch(last)
            continue
        for row in reversed(answer.rows):
            yield row
        if last == 1:
            return
        passed += 1


async def _older(fetch: Fetch, place: Place | None, want: int, size: int) -> tuple[Numbered, int]:
    # Counted from the oldest end a row keeps its place when others arrive, and moves down when older ones are deleted: the page computed
    # from it is the right one or too new, never too old, so nothing can be skipped.
    before, ordinal, total = (place.id, place.ordinal, place.total) if place else (None, 1, 0)
    found: Numbered = []
    for _attempt in range(2 * (want // size) + 8):
        page = max(0, total - ordinal + 1) // size + 1
        answer = await fetch(page)
        total, size = answer.total, answer.size
        if before is None and not found:
            ordinal = total + 1  # the newest page is where the walk begins
        elif page != max(0, total - ordinal + 1) // size + 1:
            continue
        for index, row in enumerate(answer.rows, (page - 1) * size):
            if (before is None or row["id"] < before) and len(found) < want:
                found.append((total - index, row))
                before = row["id"]
        ordinal = total - (page - 1) * size - len(answer.rows) + 1
        if len(found) >= want or page >= answer.pages or not answer.rows:
            break
    return found, total


async def _newer(fetch: Fetch, place: Place, want: int, size: int) -> tuple[Numbered, int]:
    # Towards the newest, arriving rows push others past us. So each step starts beside a page whose rows are known, and when the total
    # changes, the last known row is looked for again.
    after, total = place.id, place.total
    found: Numbered = []
    page, beside = max(0, total - place.ordinal) // size + 1, False
    for _attempt in range(2 * (want // size) + 12):
        answer = await fetch(page)
        beside = beside and answer.total == total
        total, size = answer.total, answer.size
        if not answer.rows and 0 < answer.pages < page:
            page = answer.pages
            continue
        fresh = [(total - index, row) for index, row in enumerate(answer.rows, (page - 1) * size) if row["id"] > after]
        if fresh and len(fresh) == len(answer.rows) and not beside and page < answer.pages:
            page = max(page + 1, max(0, total - (found[-1][0] if found else place.ordinal)) // size + 1)
            continue
        found += reversed(fresh)
        after, beside = max([after, *(row["id"] for _ordinal, row in fresh)]), True
        if len(found) >= want or page <= 1:
            break
        page -= 1
    return found[:want], total


def load_cursor(cursor: str) -> dict[str, Any]:
    """Returns what a cursor made of JSON holds; raises RequestRejected when it is none."""
    try:
        state = json.loads(cursor)
    except ValueError:
        state = None
    if not isinstance(state, dict):
        raise RequestRejected(_("This place in the list cannot be found any more."))
    return state


def _count(given: Any, otherwise: int) -> int:
    return given if type(given) is int else otherwise
