"""Lists that can only be read whole, one per group: walking them with a cursor would lose rows (gotcha 1 of the Nuwax contract).

An answer that is as long as its limit may have been cut, so it is asked for again with twice the limit. How long a list was is remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

FIRST_LIMIT = 1000  # rows asked for at first
RECENT = 50  # rows looked at first when one row is looked for

Row = dict[str, Any]


class WholeLists:
    """Reads by `ask(group, limit, text)`, which returns the newest rows of a group, or those of them that match `text`."""

    def __init__(self, memory: MutableMapping[str, Any], ask: Callable[[int, int, str | None], Awaitable[list[Row]]]) -> None:
        self.memory = memory
        self.ask = ask

    @property
    def length(self) -> int:
        """How many rows there were in all groups when they were last read, as far as that is known."""
        return sum(number for name, number in self.memory.items() if name.startswith("listed:"))

    async def all(self, group: int, text: str | None = None) -> list[Row]:
        """Returns all rows of a group, or all that match."""
        limit = FIRST_LIMIT
        while text is None and limit <= self.memory.get(f"listed:{group}", 0):
            limit *= 2
        while len(rows := await self.ask(group, limit, text)) >= limit:
            limit *= 2
        if text is None:
            self.memory[f"listed:{group}"] = len(rows)
        return rows

    async def one(self, groups: Iterable[int], wanted: Callable[[Row], bool], text: str) -> Mapping[str, Any] | None:
        """Finds one row: among the newest of each group, where a fresh change puts it, then by `text`, then everywhere."""
        for group in groups:
            rows = await self.ask(group, RECENT, None)
            full = len(rows) >= RECENT
            if full and text and not any(map(wanted, rows)):
                rows = await self.ask(group, RECENT, text)
            if full and not any(map(wanted, rows)):
                rows = await self.all(group)
            if row := next(filter(wanted, rows), None):
                return row
        return None
