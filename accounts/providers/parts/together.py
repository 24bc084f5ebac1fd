"""Several requests at once, of which each may fail alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from ..errors import ProviderError

T = TypeVar("T")
K = TypeVar("K")


async def together(
    work: Callable[[K], Awaitable[T]], keys: Iterable[K], *, at_once: int, alone: tuple[type[ProviderError], ...]
) -> dict[K, T | ProviderError]:
    """Returns what `work` returns for each key, or its error where that is one of `alone`; any other error ends all of them and is raised."""
    turn = asyncio.Semaphore(max(1, at_once))

    async def one(key: K) -> T | ProviderError:
        async with turn:
            try:
                return await work(key)
            except alone as error:
                return error

    tasks = {key: asyncio.ensure_future(one(key)) for key in keys}
    try:
        return dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
