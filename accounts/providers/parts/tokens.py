"""An access token that is fetched with the account's key, kept with its end, and fetched once for everybody who needs it at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

RENEW_BEFORE = 300.0  # seconds before its end a token is not used any more


class KeptToken:
    """Keeps `access_token`, `ends_at` (Unix time) and `made_for` in `kept`; a token made for another address or credential does not count."""

    def __init__(self, kept: MutableMapping[str, str], made_for: str) -> None:
        self.kept = kept
        self.made_for = made_for
        self._fetching = asyncio.Lock()

    @property
    def current(self) -> str:
        """Returns the kept token while it is good, "" otherwise."""
        good = self.kept.get("made_for") == self.made_for and float(self.kept.get("ends_at") or 0) > time.time()
        return self.kept.get("access_token", "") if good else ""

    async def renew(self, fetch: Callable[[], Awaitable[tuple[str, Any]]], *, refused: str = "", life: float) -> None:
        """Makes sure that there is a token other than `refused`; `fetch` returns one and its life in seconds, which may be nonsense."""
        async with self._fetching:
            if self.current not in ("", refused):
                return
            token, told = await fetch()
            with suppress(TypeError, ValueError):
                life = float(told or life)
            ends = time.time() + life - min(RENEW_BEFORE, life / 10)
            self.kept.update(access_token=token, ends_at=f"{ends:.0f}", made_for=self.made_for)
