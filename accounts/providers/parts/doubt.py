"""Is it gone, or is the site's database down? A missing conversation is believed only when the site has just shown another one.

What memory holds: `witness`, the id of a conversation that was there, and `empty_since`, when the list was first found empty (Unix time).
Gotchas are those of the Chat Nio contract.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from typing import Any

from ..errors import ProviderError, ProviderUnavailable
from ..schema import gettext_noop
from .numbers import Looked

_ = gettext_noop

TOKEN_CACHE = 31 * 60.0  # a little more than the site's cache keeps a login alive without its database
DOUBT = _("The site answers as if conversations were gone, but does the same when its database is down; nothing is concluded from it.")
DAMAGED = _("The site lists this conversation but cannot load it; its stored data may be damaged.")


class Doubt:
    """Asks in the ways it is given: `alive` raises when the site refuses, `listed` names the ids of the list, `look` loads some."""

    def __init__(
        self,
        memory: MutableMapping[str, Any],
        *,
        alive: Callable[[], Awaitable[Any]],
        listed: Callable[[], Awaitable[Collection[int]]],
        look: Callable[[Sequence[int]], Awaitable[Looked]],
    ) -> None:
        self.memory = memory
        self.alive = alive
        self.listed = listed
        self.look = look

    def note_list(self, empty: bool) -> None:
        """Starts or stops the clock of `_nothing_for_long`."""
        self.memory["empty_since"] = (self.memory.get("empty_since") or time.time()) if empty else None

    async def settle(self, besides: int = 0) -> None:
        """Returns when the site just showed a conversation other than `besides`, or has shown none for long; else ProviderUnavailable."""
        await self._alive()
        rows = await self.listed()
        if besides in rows:
            raise ProviderUnavailable(DAMAGED)
        for number in dict.fromkeys((int(self.memory.get("witness") or 0), *list(rows)[:3])):
            if number not in (0, besides) and (await self.look([number])).rows:
                self.memory["witness"] = str(number)
                return
        if rows or not self._nothing_for_long():
            raise ProviderUnavailable(DOUBT)

    async def believe_empty(self) -> None:
        """Returns when an empty list is believed: the witness is gone and the list has been empty for long; else ProviderUnavailable."""
        await self._alive()
        witness = int(self.memory.get("witness") or 0)
        if (witness and (await self.look([witness])).rows) or not self._nothing_for_long():
            raise ProviderUnavailable(DOUBT)

    async def _alive(self) -> None:
        try:
            await self.alive()
        except ProviderError as error:
            raise ProviderUnavailable(DOUBT, status=error.status, detail=error.detail) from error

    def _nothing_for_long(self) -> bool:
        """True when the list has been empty for longer than any cached login outlives a dead database, with a login good to the end."""
        since = self.memory.get("empty_since")
        return since is not None and time.time() - since > TOKEN_CACHE
