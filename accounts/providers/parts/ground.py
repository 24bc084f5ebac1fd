"""A list ordered by activity, which moves while it is being read: read it, then look back at its top until nothing can have been missed.

A row that becomes active jumps from a page not read yet to one already read. So after the last page the walk begins again, down to the first
row that lies as it lay before: below it nothing moved. It ends when that row is on page 1, since one page is one moment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import RequestRejected
from ..schema import gettext_noop

_ = gettext_noop

ROUNDS = 5  # of re-reading a list that keeps moving
MARKS = 20  # rows that a walk remembers to know its ground again
MOVING = _("Sessions kept moving while the list was read; one may be missing.")


def mark(row: Mapping[str, Any], *names: str) -> str:
    """Returns a short mark of a row as it lies; `names` are the fields of which one changes whenever the row moves."""
    return hashlib.sha256(json.dumps([row.get(name) for name in names], default=str).encode()).hexdigest()[:12]


@dataclass
class Ground:
    """Where the walk stands, as text between two pages: rows met again are handed out again, with their newer values."""

    size: int  # rows of a page
    page: int = 1  # to be read next
    round: int = 0
    total: int = 0
    top: list[str] = field(default_factory=list)  # marks of the first rows as this round found them
    ground: list[str] = field(default_factory=list)  # the same of the round before

    @classmethod
    def resume(cls, cursor: str | None, size: int) -> Ground:
        """Returns the walk that a cursor names, a new one for None; raises RequestRejected for any other text."""
        try:
            return cls(**json.loads(cursor)) if cursor else cls(size)
        except (ValueError, TypeError) as error:
            raise RequestRejected(_("This place in the list cannot be found any more.")) from error

    def take(self, marks: Sequence[str], *, size: int, more: bool, total: int | None) -> tuple[str | None, bool, str]:
        """Takes note of the page just read; returns (cursor of the next one, whether the list is to be begun anew, a note at the end)."""
        if self.page == 1:
            self.top, self.size = list(marks[:MARKS]), size
        if total is not None and total < self.total:
            return None, True, ""  # rows went, so others moved up past the cut
        self.total = total or 0
        if more and marks and not set(marks) & set(self.ground):
            self.page += 1
        elif self.page == 1:
            return None, False, ""
        elif self.round == ROUNDS:
            return None, False, MOVING
        else:
            self.page, self.round, self.ground = 1, self.round + 1, self.top
        return json.dumps(asdict(self), separators=(",", ":")), False, ""
