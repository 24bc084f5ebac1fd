"""Which accounts have been asked for silence right now, for the pages that count it down.

The limiter keeps a cool-down by the key of a budget, and only a connected provider knows its keys. So whoever is refused notes it for the
account as well, for as long as it lasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings

from .limiter import LONGEST_COOL_DOWN, RedisLimiter, cooling_name
from .models import Account


def _note(account_id: Any) -> str:
    return f"switchboard:cooling:{account_id}"


class NotingLimiter(RedisLimiter):
    """The limiter of one account's connection: a cool-down is noted for the account too."""

    def __init__(self, url: str, account_id: Any) -> None:
        super().__init__(url)
        self._account_id = account_id

    async def cool_down(self, key: str, seconds: float) -> None:
        """Stops all callers of the key, and lets people see it."""
        await super().cool_down(key, seconds)
        if seconds > 0:
            milliseconds = math.ceil(min(seconds, LONGEST_COOL_DOWN) * 1000)
            with suppress(redis.RedisError, OSError):  # the silence itself is kept all the same
                await self._here().cool_down(keys=[_note(self._account_id)], args=[milliseconds])


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2.0)


def left(accounts: Iterable[Account]) -> dict[Any, float]:
    """Returns the seconds of silence left of those accounts that were asked for it, by primary key; one round trip for all of them.

    What was asked of one account holds for all of the same upstream user.
    """
    rows = list(accounts)
    pipe = _client(settings.REDIS_URL).pipeline(transaction=False)
    for account in rows:
        pipe.pttl(_note(account.pk))
        pipe.pttl(cooling_name(account.upstream_identity))
    try:
        answers = pipe.execute() if rows else []
    except redis.RedisError:
        return {}
    found = {account.pk: max(answers[2 * number : 2 * number + 2]) / 1000 for number, account in enumerate(rows)}
    return {pk: seconds for pk, seconds in found.items() if seconds > 0}
