"""Lists in the manner of Alibaba Cloud's page queries, by page number or by token, whose rows move while one pages.

Where a listing stands is one cursor text; nothing is kept between two pages. Sections are those of the ModelRouter contract.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import MalformedAnswer, RequestRejected
from ..records import Json
from ..schema import gettext_noop
from .reading import numeral, text, whole

_ = gettext_noop

MAX_PASSES = 6
INCOMPLETE = _("The service counts more conversations than its list would show, so some may be missing here.")


@dataclass
class Passes:
    """Where a listing stands: pages by number while numbers are honoured, by token otherwise.

    A row renamed before we reach it jumps to a page already read. That is why the ids seen are remembered and the listing starts over,
    keeping them, until it has seen as many as there are, or until a whole pass brought nothing new. `dropped` counts rows that were deleted
    meanwhile.
    """

    page: int = 1  # asked for next; 0 once it goes by token
    token: str = ""
    total: int | None = None
    dropped: int = 0
    gained: int = 0  # new rows in this pass
    stale: int = 0  # pages that were mostly known already, one after another
    doubtful: bool = False  # numbers were given up on suspicion only, so they come back if there are no tokens
    passes: int = 1
    size: int = 1  # rows of the fullest page
    seen: set[str] = field(default_factory=set)
    note: str = ""
    over: bool = False

    @classmethod
    def resume(cls, cursor: str | None) -> Passes:
        """Returns what `pause` wrote down, a new listing for None; raises RequestRejected for any other text."""
        if cursor is None:
            return cls()
        try:
            state = json.loads(zlib.decompress(base64.urlsafe_b64decode(cursor)))
            return cls(**{**state, "seen": set(state["seen"])})
        except (ValueError, TypeError, KeyError, zlib.error) as error:
            raise RequestRejected(_("This place in the list cannot be found any more.")) from error

    def pause(self) -> str | None:
        """Returns the cursor of the next page, None at the end."""
        if self.over:
            return None
        return base64.urlsafe_b64encode(zlib.compress(json.dumps({**vars(self), "seen": sorted(self.seen)}).encode(), 1)).decode()

    def params(self, size: int) -> dict[str, str]:
        """Returns the query of the next page, asking for `size` rows."""
        if self.page:
            return {"pageIndex": str(self.page), "pageSize": str(size), "needTotalCount": "true"}
        return {"maxResults": str(size), "needTotalCount": "true"} | ({"nextToken": self.token} if self.token else {})

    def take(self, envelope: Mapping[str, Json]) -> list[Mapping[str, Json]]:
        """Reads one answer, moves on, and returns the rows that were not seen before; raises MalformedAnswer for one without a list."""
        rows, about = _rows(envelope)
        by_id = {numeral(row.get("id")): row for row in rows}
        fresh = [row for identifier, row in by_id.items() if identifier not in self.seen | {""}]
        self.seen |= by_id.keys() - {""}
        if (total := _total(about)) is not None:
            self.dropped += max(0, (total if self.total is None else self.total) - total)
            self.total = total
        self.size = max(self.size, len(rows))
        self.gained += len(fresh)
        self.stale = 0 if len(fresh) * 2 >= len(rows) else self.stale + 1
        token = text(about.get("nextToken"))
        token = "" if token == "None" else token  # as a sample of the reference shows the end
        if self.total is not None and len(self.seen) >= self.total + self.dropped:
            self.over = True
        elif self.page:
            self._after_page(bool(rows), bool(fresh), whole(about.get("page", about.get("pageIndex"))), token)
        else:
            self._after_token(bool(rows), token)
        return fresh

    def _after_page(self, rows: bool, fresh: bool, answered: int | None, token: str) -> None:
        past_end = self.total is not None and (self.page - 1) * self.size >= self.total
        another = answered is not None and answered != self.page
        if not rows or past_end:
            self._end_pass()
        elif (another and (token or not fresh)) or (self.stale >= 2 and self.passes == 1 and not self.doubtful):
            # The number is not honoured. Tokens begin at the beginning; what is known by then is skipped.
            self.page, self.token, self.stale, self.doubtful = 0, "", 0, not another
        else:
            self.page += 1

    def _after_token(self, rows: bool, token: str) -> None:
        if not token and not self.token and self.doubtful:
            self.page, self.gained = 1, 0  # no tokens here at all
        elif not token or not rows:
            self._end_pass()
        elif token == self.token or self.stale > len(self.seen) // self.size + 2:
            self.over, self.note = True, INCOMPLETE
        else:
            self.token = token

    def _end_pass(self) -> None:
        if not self.gained:  # everything was read once more, or there is nothing
            self.over, self.note = True, INCOMPLETE if len(self.seen) < (self.total or 0) else ""
        elif self.passes == MAX_PASSES:
            self.over, self.note = True, INCOMPLETE
        else:
            self.passes, self.gained, self.stale = self.passes + 1, 0, 0
            self.page, self.token = (1 if self.page else 0), ""


def _rows(envelope: Mapping[str, Json]) -> tuple[list[Mapping[str, Json]], Mapping[str, Json]]:
    """Returns (rows, the object that holds total, page and token): nested since 2026-03-23, flat before (section 4.1)."""
    data = envelope.get("data")
    about = data if isinstance(data, dict) else envelope
    rows = data.get("list") if isinstance(data, dict) else data
    if rows is None and not _total(about):
        rows = []
    if not isinstance(rows, list):
        raise MalformedAnswer(_("The answer holds no list."))
    return [row for row in rows if isinstance(row, dict)], about


def _total(about: Mapping[str, Json]) -> int | None:
    return whole(about.get("total", about.get("totalCount")))
