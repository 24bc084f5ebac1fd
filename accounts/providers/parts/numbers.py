"""Conversations that no list names in full, found by asking for one number after the other, downwards.

A provider says how to ask for several numbers (`look`) and how to be sure that what is missing is not an outage (`sure`). What is known stays
in the account's memory, as plain JSON. Sections and gotchas are those of the Chat Nio contract.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Container, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from ..errors import RequestRejected
from ..records import Page, RemoteConversation
from ..schema import gettext_noop
from .ranges import Ranges

_ = gettext_noop

BATCH = 8  # numbers per step of the walk: two seconds at four a second
QUIET = 400  # missing numbers in a row after which one walk ends; the next one goes on below them
SHORT = 80  # "about 100" are listed; where fewer are, nothing can be left over below a long silence

OLDER = _("newest 100, older ones being read")
LATER = _("older ones are looked for further at the next sync")
# What memory holds about the numbers of an account; written out, so that it also replaces what a caller merges it with.
NOTHING_KNOWN: dict[str, Any] = {"highest": None, "floor": None, "listed": None, "witness": None, "holes": [], "suspects": [], "probe": None}


@dataclass(frozen=True, slots=True)
class Looked:
    """What there was at some numbers, at which of them nothing was, and a note on those of which neither is known."""

    rows: tuple[RemoteConversation, ...]
    missing: Collection[int]
    note: str = ""


class Numbers:
    """One step of the walk over the numbers of an account, opened from `memory` and written back there.

    A number that was missing is a suspect until a second look at the end of the walk: one answer "not found" can be any database error
    (gotcha 6). Then it is a hole, and not asked for again. `known` numbers are passed over.
    """

    def __init__(
        self,
        memory: MutableMapping[str, Any],
        known: Container[str],
        look: Callable[[Sequence[int]], Awaitable[Looked]],
        sure: Callable[[], Awaitable[None]],
    ) -> None:
        self.memory = memory
        self.known = known
        self.look = look
        self.sure = sure
        self.holes = Ranges(memory.get("holes"))
        self.suspects = Ranges(memory.get("suspects"))
        self.floor: int = memory.get("floor") or 1  # the lowest number that the list names

    def begin(self, listed: Sequence[int]) -> tuple[str, str]:
        """Takes note of the numbers that the list names, highest first; returns cursor and note of the walk over them and those below."""
        highest, self.floor = listed[0], listed[-1]
        self.holes.forget(self.floor)
        if highest != self.memory.get("highest"):
            # Numbers are reused from the highest left (gotcha 9). If numbering ever fell below a hole, the topmost hole was filled first.
            self.memory["probe"] = self.holes.top()
        for above, below in pairwise(listed):
            self.holes.add_range(below + 1, above - 1)  # between two listed ones there is nothing
        self.suspects = Ranges(())
        self.memory.update(highest=highest, floor=self.floor, listed=len(listed), witness=self.memory.get("witness") or str(highest))
        self._save()
        return f"walk:{highest}:0", OLDER if self._next(self.floor - 1) else ""

    async def step(self, cursor: str) -> Page[RemoteConversation]:
        """Returns the next rows of a walk that `begin` or an earlier step named; raises RequestRejected for any other cursor."""
        place = re.fullmatch(r"(walk|again):(\d+):(\d+)", cursor, flags=re.ASCII)
        if place is None:
            raise RequestRejected(_("This place in the list cannot be found any more."))
        return await (self._walk if place[1] == "walk" else self._look_again)(int(place[2]), int(place[3]))

    async def _walk(self, position: int, quiet: int) -> Page[RemoteConversation]:
        """Looks at the next numbers from `position` down; `quiet` of them in a row were missing so far (gotcha 2)."""
        if (probe := self.memory.get("probe")) is not None:
            if (await self.look([probe])).rows:
                self.holes.forget(1, self.floor - 1)
            self.memory["probe"] = None
            self._save()
        numbers = list(islice(self._open(position), BATCH))
        if not numbers:
            return Page((), next=self._again(later=False))
        found = await self.look(numbers)
        if not found.rows and (found.note or quiet % (8 * BATCH) == 0):
            await self.sure()  # now and then on a silent stretch, so that an outage ends the walk
        self.suspects.add(*(number for number in found.missing if number < self.floor))
        quiet = 0 if found.rows else quiet + len(numbers)
        if quiet >= QUIET and (self.memory.get("listed") or 0) < SHORT:
            self.holes.add_range(1, min(numbers[-1], self.floor) - 1)
        self._save()
        rest = self._next(numbers[-1] - 1)
        if rest and quiet < QUIET:
            older = OLDER if self._next(min(numbers[-1], self.floor) - 1) else ""
            return Page(found.rows, next=f"walk:{rest}:{quiet}", note=found.note or older)
        return Page(found.rows, next=self._again(later=bool(rest)), note=found.note or (LATER if rest else ""))

    async def _look_again(self, position: int, later: int) -> Page[RemoteConversation]:
        """Looks at the suspects from `position` down once more; what is still missing then is a hole."""
        numbers = list(islice((number for number in self.suspects.down() if number <= position), BATCH))
        found = await self.look(numbers)
        if len(found.rows) < len(numbers):
            await self.sure()
        self.holes.add(*found.missing)
        self.suspects.forget(numbers[-1] if numbers else 0)
        self._save()
        return Page(found.rows, next=self._again(later=bool(later)), note=found.note or (LATER if later else ""))

    def _again(self, *, later: bool) -> str | None:
        return f"again:{self.suspects.top()}:{int(later)}" if self.suspects.ranges else None

    def _open(self, position: int) -> Iterator[int]:
        while (position := self.holes.skip(position)) > 0:
            if str(position) not in self.known:
                yield position
            position -= 1

    def _next(self, position: int) -> int | None:
        return next(self._open(position), None)

    def _save(self) -> None:
        self.memory.update(holes=self.holes.stored(), suspects=self.suspects.stored())
