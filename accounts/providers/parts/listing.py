"""Rows that can only be read with the page of the list they are on, by many callers at once.

A row is looked for where it was last, beside, by its title, and then by walking over all. Callers at the same time share one request per
page; rows read a moment ago answer again; our own writes, which move their row to the front, are taken into account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import RequestRejected
from ..records import Page, Ref, RemoteConversation
from .reading import compact
from .rounds import Rounds
from .shared import Shared
from .turns import load_cursor

FRESH_FOR = 3.0  # seconds for which a row answers again, and may be the base of a whole-object write
ABSENT_FOR = 60.0  # seconds: ids are never given out again, so what a whole walk did not hold stays gone
USUAL_SIZE = 30  # rows of a page, until the first answer says


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of the list; the items' `read_at` is when their request began."""

    items: tuple[RemoteConversation, ...]
    size: int
    total: int
    pages: int

    @property
    def ids(self) -> list[str]:
        """The ids of the rows in their order."""
        return [item.remote_id for item in self.items]


class Listing:
    """The list of one account: `ask` requests a page by its number, `search` rows by title; `memory` outlives this object."""

    def __init__(
        self,
        memory: MutableMapping[str, Any],
        ask: Callable[[int], Awaitable[ListPage]],
        search: Callable[[str], Awaitable[Page[RemoteConversation]]],
    ) -> None:
        self.memory = memory
        self.ask = ask
        self.search = search
        self._held: dict[str, RemoteConversation] = {}
        self._forget_from = 600  # rows held, before those that are too old are thrown away
        self._seen_at: dict[str, tuple[int, int]] = {}  # rank at which a row was seen last, and how many writes there had been by then
        self._settled: dict[str, float] = {}  # end of our last write: reads begun earlier prove nothing
        self._writes = 0
        self._pushed = False  # a write moves its row to the front, which pushes those before it back: the order of the list is open
        self._drift = 0  # how far rows stand from where the caller's listing saw them
        self._reading: dict[int, Shared[ListPage]] = {}
        self._rounds = Rounds()
        self._walking = asyncio.Lock()
        self._absent: tuple[float, float, frozenset[str]] = (0.0, 0.0, frozenset())  # last whole walk: begun, ended, ids

    async def page(self, page: int, *, since: float) -> ListPage:
        """Returns a page from a request begun at or after `since` (monotonic); callers at the same time share one request."""
        while (shared := self._reading.get(page)) is not None and not shared.good_for(since):
            await asyncio.wait([shared.task])  # whoever waits here shares the next one
        if shared is None:
            shared = self._reading[page] = Shared(lambda: self._read(page))
            shared.task.add_done_callback(lambda _done: self._reading.pop(page, None))
        return await shared.wait()

    async def walk(self, cursor: str | None) -> Page[RemoteConversation]:
        """Returns the next page of a whole listing; where this object does not know the cursor, memory tells what was seen."""
        if cursor is None:
            self._rounds = Rounds()
        elif (state := load_cursor(cursor)).get("walk") != self._rounds.name or state.get("step") != self._rounds.reads:
            self._rounds = Rounds.restored(state, self.memory.get("walk"))
        rounds = self._rounds
        listed = await self.page(rounds.page, since=time.monotonic())
        if rounds.take(listed.ids, listed.total, listed.pages):
            self._note_end(rounds)
            self.memory.pop("walk", None)
            return Page(listed.items, total=listed.total, note=rounds.note)
        if rounds.reads > 1:  # a first page alone is a look, not a walk
            self.memory["walk"] = rounds.kept()
        following = {"walk": rounds.name, "page": rounds.page, "step": rounds.reads, "round": rounds.rounds}
        return Page(listed.items, next=compact(following), total=listed.total)

    async def some(self, wanted: Collection[str]) -> dict[str, RemoteConversation]:
        """Returns those of the wanted rows that are still in the list, by one walk for all of them."""
        found: dict[str, RemoteConversation] = {}
        rounds, over = Rounds(), not wanted
        while not over:
            listed = await self.page(rounds.page, since=time.monotonic())
            over = rounds.take(listed.ids, listed.total, listed.pages)
            found |= {item.remote_id: item for item in listed.items if item.remote_id in wanted}
            over = over or found.keys() == set(wanted)
        return found

    def missed(self, wanted: Collection[str]) -> list[str]:
        """Names the wanted rows that a whole walk of this object did not show a moment ago."""
        _begun, ended, ids = self._absent
        return sorted(set(wanted) - ids) if ids and time.monotonic() - ended < ABSENT_FOR else []

    async def one(self, ref: Ref, *, fresh: bool, titled: bool) -> RemoteConversation | None:
        """Returns one row, None only after a whole walk without it. `fresh` shares no request that was begun before this call."""
        began = time.monotonic()
        held = self._held.get(ref.remote_id)
        if not fresh and held is not None and began - held.read_at <= FRESH_FOR:
            return held
        since = began if fresh else max(began - FRESH_FOR, self._settled.get(ref.remote_id, 0.0))
        sighting = self._seen_at.get(ref.remote_id)
        for page in self._likely_pages(ref):
            if (found := self._pick(await self.page(page, since=since), ref)) is not None:
                return found
        if titled:
            with suppress(RequestRejected):  # a release without search; the walk finds it too
                for item in (await self.search(ref.title)).items:
                    if item.remote_id == ref.remote_id:
                        return item
        async with self._walking:  # one walk at a time: whoever waited here uses what the walk before has seen
            seen = self._seen_at.get(ref.remote_id)
            if seen and seen != sighting and (found := self._pick(await self.page(seen[0] // self._size + 1, since=since), ref)):
                return found
            return await self._walk_to(ref, began if fresh else None)

    def remember(self, item: RemoteConversation) -> RemoteConversation:
        """Lets a row that was just read answer again, unless it may be from before our last write; returns it."""
        if item.read_at >= self._settled.get(item.remote_id, 0.0):
            self._held[item.remote_id] = item
        if len(self._held) > self._forget_from:
            now = time.monotonic()
            self._held = {key: held for key, held in self._held.items() if now - held.read_at <= FRESH_FOR}
            self._settled = {key: ended for key, ended in self._settled.items() if now - ended <= 120.0}
            self._forget_from = 600 + 2 * len(self._held)
        return item

    def written(self, remote_id: str) -> None:
        """Takes note of a write that has ended: pages that were being read meanwhile may show the row from before it."""
        self._settled[remote_id] = time.monotonic()
        self._held.pop(remote_id, None)
        self._writes += 1

    @property
    def _size(self) -> int:
        told = self.memory.get("page_size")
        return told if type(told) is int and told > 0 else USUAL_SIZE

    async def _read(self, page: int) -> ListPage:
        listed = await self.ask(page)
        if listed.size != self._size:
            self.memory["page_size"] = listed.size
        for rank, item in enumerate(listed.items, (page - 1) * listed.size):
            self.remember(item)
            self._seen_at[item.remote_id] = rank, self._writes
        return listed

    def _likely_pages(self, ref: Ref) -> list[int]:
        """Returns the pages of both likely ranks, and those beside: our writes since moved nothing, or each pushed the row back by one."""
        rank, made = self._seen_at.get(ref.remote_id) or (None if ref.rank is None else max(0, ref.rank + self._drift), 0)
        if rank is None:
            return []
        ranks = (rank, rank + self._writes - made)
        pages = [expected // self._size + 1 for expected in (reversed(ranks) if self._pushed else ranks)]
        pages += [page + step for page in pages for step in (1, -1)]
        return [page for page in dict.fromkeys(pages) if page > 0]

    def _pick(self, listed: ListPage, ref: Ref) -> RemoteConversation | None:
        found = next((item for item in listed.items if item.remote_id == ref.remote_id), None)
        if found is not None and ref.rank is not None:
            moved = self._seen_at[ref.remote_id][0] - ref.rank
            stayed, pushed = abs(moved - self._drift), abs(moved - self._drift - self._writes)
            if stayed != pushed:
                self._pushed = pushed < stayed
            self._drift = moved - (self._writes if self._pushed else 0)
        return found

    async def _walk_to(self, ref: Ref, not_before: float | None) -> RemoteConversation | None:
        begun, ended, ids = self._absent
        usable = begun >= not_before if not_before is not None else time.monotonic() - ended < ABSENT_FOR
        if ids and usable and ref.remote_id not in ids and int(ref.remote_id) <= max(map(int, ids)):
            return None
        rounds = Rounds()
        while True:
            listed = await self.page(rounds.page, since=time.monotonic())
            if (found := self._pick(listed, ref)) is not None:
                return found
            if rounds.take(listed.ids, listed.total, listed.pages):
                self._note_end(rounds)
                return None

    def _note_end(self, rounds: Rounds) -> None:
        if not rounds.note:
            self._absent = rounds.begun, time.monotonic(), frozenset(rounds.seen)
