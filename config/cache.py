"""The cache: it stores JSON, and what signing in needs of it goes on while Redis is away."""

import json
import logging
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

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._here = LocMemCache("switchboard sign-in attempts", {"OPTIONS": {"MAX_ENTRIES": 20_000}})

    def _is_counted(self, key: str) -> bool:
        """Tell whether this is a count that goes on here; says so in the log."""
        if not key.startswith(self.COUNTED):
            return False
        logger.warning("Redis is away: attempts to sign in are counted by each process for itself")
        return True

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store the value unless there is one."""
        try:
            return super().add(key, value, timeout, version)
        except AWAY:
            if not self._is_counted(key):
                raise
            return self._here.add(key, value, timeout, version)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key."""
        try:
            return super().get(key, default, version)
        except AWAY:
            if key.startswith(SESSIONS):
                return default
            if not self._is_counted(key):
                raise
            return self._here.get(key, default, version)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store the value."""
        try:
            super().set(key, value, timeout, version)
        except AWAY:
            if key.startswith(SESSIONS):
                return
            if not self._is_counted(key):
                raise
            self._here.set(key, value, timeout, version)

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Tell whether there is a value."""
        try:
            return super().has_key(key, version)
        except AWAY:
            if not key.startswith(SESSIONS):
                raise
            return False

    def delete(self, key: str, version: int | None = None) -> bool:
        """Remove the value."""
        try:
            return super().delete(key, version)
        except AWAY:
            if not self._is_counted(key):
                raise
            return self._here.delete(key, version)
