"""Objects that can only be written as a whole: what is sent must be what was read a moment ago, with nothing but the change replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import RateLimited
from ..records import Json, Ref, RemoteConversation

if TYPE_CHECKING:
    from ..base import Provider

Put = Callable[[RemoteConversation, Mapping[str, Json], int | None], Awaitable[RemoteConversation | None]]


class WholeWrites:
    """Writes for one provider object through its `put(current, changes, attempts)`; an object older than `fresh_for()` seconds is read again."""

    def __init__(self, provider: Provider, put: Put, fresh_for: Callable[[], float]) -> None:
        self.provider = provider
        self.put = put
        self.fresh_for = fresh_for
        self._based_on: dict[str, RemoteConversation] = {}  # what our last write started from, where that is not what the caller read

    async def write(self, current: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Puts `current` with `changes`, and carries over what others changed elsewhere in it since it was read.

        If they changed the very values that are to be replaced, nothing is sent and the object as it is now is returned: a third value,
        which callers know as a conflict.
        """
        self._based_on.pop(current.remote_id, None)
        patience = self.provider.patience
        ends = time.monotonic() + patience.seconds
        for attempt in range(1, patience.attempts + 1):
            if time.monotonic() - current.read_at > self.fresh_for():
                latest = await self.provider.read(Ref(current.remote_id, current.title), fresh=True)
                if any(latest.values.get(name) != current.values.get(name) for name in changes):
                    return latest
                current = self._based_on[current.remote_id] = latest
            try:
                return await self.put(current, changes, 1)
            except RateLimited as busy:  # not carried out; after the wait the object may be too old to be sent again
                wait = busy.retry_after or 0.0
                if attempt == patience.attempts or time.monotonic() + wait > ends:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt raises")  # pragma: no cover

    async def repair(self, before: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Puts what is stored now with the emptied fields as they were and with `changes`; nothing, when our write emptied none.

        What somebody else emptied before our write, which then carried it over, is theirs and stays.
        """
        base = self._based_on.get(before.remote_id, before)
        stored = await self.provider.read(Ref(before.remote_id, before.title), fresh=True)
        if not (lost := self.provider.vanished(base, stored, changes)):
            return stored
        return await self.put(replace(stored, raw={**stored.raw, **{name: base.raw[name] for name in lost}}), changes, None)
