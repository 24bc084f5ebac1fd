"""One request, several callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """One request that several callers wait for; it ends early only when all of them have given up."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self.begun: float | None = None  # None: about to begin
        self._waiting = 0
        self.task = asyncio.ensure_future(self._run(work))

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        self.begun = time.monotonic()
        return await work()

    def good_for(self, since: float) -> bool:
        """True when its answer is not older than `since` (monotonic) and nobody has given it up."""
        return not self.task.cancelling() and (self.begun is None or self.begun >= since)

    async def wait(self) -> T:
        """Returns the answer or raises the request's error."""
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self.task.done():
                self.task.cancel()
