"""What was read a moment ago, so that a screen that needs the same object three times asks for it once."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Remembers values by key for `seconds`, and no more than the `most` newest of them."""

    def __init__(self, seconds: float = 3.0, most: int = 1000) -> None:
        self.seconds = seconds
        self.most = most
        self._held: dict[str, tuple[float, T]] = {}

    def put(self, key: str, value: T) -> T:
        """Remembers a value that was read just now, and returns it."""
        self._held.pop(key, None)
        self._held[key] = time.monotonic(), value
        while len(self._held) > self.most:
            del self._held[next(iter(self._held))]
        return value

    def get(self, key: str, *, since: float | None = None) -> T | None:
        """Returns the value if it is young enough, or if it was remembered at or after `since` (monotonic)."""
        at, value = self._held.get(key, (0.0, None))
        oldest = time.monotonic() - self.seconds if since is None else since
        return value if at and at >= oldest else None

    def forget(self, key: str | None = None) -> None:
        """Drops one value, or all of them."""
        if key is None:
            self._held.clear()
        else:
            self._held.pop(key, None)
