"""The cache: it stores JSON, and what signing in needs of it goes on while Redis is away."""

import json
import logging
import time
from typing import Any

import redis
from django.contrib.sessions.backends.cached_db import KEY_PREFIX as SESSIONS
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

logger = logging.getLogger(__name__)

AWAY = (redis.ConnectionError, redis.TimeoutError)


class JSONSerializer:
    """Serializer of Django's Redis cache for values made of text, numbers, lists and dicts; counters stay plain numbers.

    What lies in Redis is read as data and can never be code, as a pickle could.
    """

    def __init__(self, protocol: object = None) -> None:
        """Accept and ignore the pickle protocol that the cache client may pass."""

    def dumps(self, value: Any) -> bytes | int:
        """Return the stored form; an int stays one, because Redis counts with it. Raises TypeError for what JSON cannot hold."""
        if type(value) is int:
            return value
        return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        """Return the value of a stored form."""
        return json.loads(data)


class Cache(RedisCache):
    """Django's Redis cache, with an answer to "Redis is away" for what decides who comes in.

    - Attempts to sign in and codes that were used are counted in the memory of this process meanwhile: nobody is locked out, and the door
      is not left open either (each process allows as many attempts as all together did before).
    - Sessions lie in the database as well: what cannot be looked up here is read there. Only ending one needs Redis, because a copy that
      stayed there would still be a session afterwards.
    - Everything else fails as before.
    """

    COUNTED = ("allauth:rl:", "allauth.mfa.totp.used")
    PAUSE = 5.0  # seconds for which counting does not ask a Redis that was away, lest each count waits for its timeout

    _away_until = 0.0

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._here = LocMemCache("switchboard sign-in attempts", {"OPTIONS": {"MAX_ENTRIES": 20_000}})

    def _ask(self, name: str, key: str, *given: Any) -> Any:
        """Return what Redis answers, or for a count, while it is away, the memory of this process."""
        ask = getattr(super(), name)
        if not key.startswith(self.COUNTED):
            return ask(key, *given)
        if time.monotonic() >= Cache._away_until:
            try:
                return ask(key, *given)
            except AWAY:
                Cache._away_until = time.monotonic() + self.PAUSE
                logger.warning("Redis is away: attempts to sign in are counted by each process for itself")
        return getattr(self._here, name)(key, *given)

    def _ask_for_session(self, otherwise: Any, name: str, key: str, *given: Any) -> Any:
        """Do the same, and for a session return `otherwise` while Redis is away: what the database says is found next."""
        try:
            return self._ask(name, key, *given)
        except AWAY:
            if not key.startswith(SESSIONS):
                raise
            return otherwise

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store the value unless there is one."""
        return self._ask("add", key, value, timeout, version)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key."""
        return self._ask_for_session(default, "get", key, default, version)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store the value."""
        self._ask_for_session(None, "set", key, value, timeout, version)

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Tell whether there is a value."""
        return self._ask_for_session(False, "has_key", key, version)

    def delete(self, key: str, version: int | None = None) -> bool:
        """Remove the value."""
        return self._ask("delete", key, version)
