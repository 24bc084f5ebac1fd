"""A listing whose rows move between pages while one reads them, read in rounds until the counts prove it complete."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..schema import gettext_noop

_ = gettext_noop


@dataclass(slots=True)
class Rounds:
    """Decides when a listing whose rows move has shown every row.

    A row that jumps to the front from a page not read yet is missed, although the pages repeat others instead; a deleted row pulls another
    one over the page boundary behind us. So the walk goes round, from the last page on to the first, until the counts leave no room: as many
    ids as there are rows, after taking off as many as `total` fell by (those may have been seen), or as many since it fell last. Without
    movement that is the end of the first round; after renames the front pages are read once more, and again while that finds something.
    """

    page: int = 1
    reads: int = 0
    rounds: int = 0
    quiet: int = 0  # pages in a row without anything new
    gain: int = 0  # new ids since the walk began again at the front
    total: int | None = None
    fallen: int = 0
    seen: set[str] = field(default_factory=set)
    since_fall: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)  # `seen` as it grew
    begun: float = field(default_factory=time.monotonic)
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    note: str = ""

    def kept(self) -> dict[str, Any]:
        """Returns what the account remembers of an unfinished walk, as JSON; the list of ids goes on growing with the walk."""
        return {"walk": self.name, "step": self.reads, "seen": self.order, "fallen": self.fallen, "total": self.total}

    @classmethod
    def restored(cls, state: Mapping[str, Any], kept: Any) -> Rounds:
        """Returns the walk that a cursor and the account's memory tell of; without that memory the ids of a whole round are gathered anew."""
        page, step, rounds = (max(0, _count(state.get(name), 0)) for name in ("page", "step", "round"))
        walk = cls(page=max(1, page), reads=step, rounds=rounds)
        if isinstance(kept, dict) and kept.get("walk") == state.get("walk") and _count(kept.get("step"), step + 1) <= step:
            walk.order = [str(entry) for entry in kept.get("seen") or ()]
            walk.seen, walk.name = set(walk.order), str(kept["walk"])
            walk.fallen, walk.total = max(0, _count(kept.get("fallen"), 0)), _count(kept.get("total"), 0) or None
        return walk

    def take(self, ids: list[str], total: int, pages: int) -> bool:
        """Takes note of the page just read and moves on to the next; returns True when the walk is over."""
        known, fell = len(self.seen), max(0, (total if self.total is None else self.total) - total)
        if fell:
            self.fallen += fell
            self.since_fall.clear()
        self.total, self.reads = total, self.reads + 1
        self.order += [entry for entry in dict.fromkeys(ids) if entry not in self.seen]
        self.seen.update(ids)
        self.since_fall.update(ids)
        new = len(self.seen) - known
        self.quiet, self.gain = (0 if fell or new else self.quiet + 1), self.gain + new
        again = bool(self.rounds) and self.quiet == 3 and self.gain > 0  # past the rows that jumped to the front meanwhile
        if self.page >= pages or not ids or again:
            self.rounds, self.page, self.gain = self.rounds + 1, 1, 0
        else:
            self.page += 1
        if not self.rounds:
            return False
        if len(self.seen) - self.fallen >= total or len(self.since_fall) >= total or self.quiet >= pages + 3:
            return True
        if self.reads > 4 * pages + 8:
            self.note = _("Conversations were being moved or deleted all the time while they were listed; some may be missing.")
        return bool(self.note)


def _count(given: Any, otherwise: int) -> int:
    return given if type(given) is int else otherwise
