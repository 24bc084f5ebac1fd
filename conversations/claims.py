"""Who of us is writing to a remote conversation right now: one writer at a time, whether a person's click or a lane.

A claim is keyed by upstream identity and remote id, because one upstream account may be stored here twice. It lives in Redis with an
expiry, so a writer that died holds nobody up for long; a batch is taken in one round trip.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache

import redis
from django.conf import settings

TTL_MS = 60_000  # of a lane, which renews
PERSON_TTL_MS = 180_000  # of a click, which does not: longer than its three requests may take
POLL = 0.05

# The first ARGV[3] keys are given back, the others taken.
_TAKE = """
local taken, freed = {}, tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if i <= freed then
    if holder == ARGV[1] then redis.call('DEL', key) end
  elseif (not holder) or holder == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    taken[i - freed] = 1
  else
    taken[i - freed] = 0
  end
end
return taken
"""

_FREE = """
local freed = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    freed = freed + redis.call('DEL', key)
  end
end
return freed
"""


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5.0)


def _key(identity: str, remote_id: str) -> str:
    return "switchboard:claim:" + hashlib.sha256(f"{identity}\0{remote_id}".encode()).hexdigest()[:40]


def take(identity: str, remote_ids: Sequence[str], token: str, ttl_ms: int | None = None, freed: Sequence[str] = ()) -> set[str]:
    """Claims those of the conversations that nobody else holds (or renews our own claims) and returns their ids; gives back `freed` before."""
    if not remote_ids and not freed:
        return set()
    keys = [_key(identity, remote_id) for remote_id in (*freed, *remote_ids)]
    answer = _client(settings.REDIS_URL).eval(_TAKE, len(keys), *keys, token, ttl_ms or TTL_MS, len(freed))
    return {remote_id for remote_id, taken in zip(remote_ids, answer, strict=True) if taken}


def free(identity: str, remote_ids: Sequence[str], token: str) -> None:
    """Gives back the claims that this token holds."""
    if not remote_ids:
        return
    keys = [_key(identity, remote_id) for remote_id in remote_ids]
    with suppress(redis.RedisError):  # they expire by themselves
        _client(settings.REDIS_URL).eval(_FREE, len(keys), *keys, token)


@contextmanager
def claim(identity: str, remote_ids: Sequence[str], *, holder: str, wait: float = 0.0) -> Iterator[bool]:
    """Holds all of these conversations for the block; yields False when somebody else still holds one after `wait` seconds."""
    token = f"{holder}:{secrets.token_hex(8)}"
    deadline = time.monotonic() + wait
    taken = take(identity, remote_ids, token, PERSON_TTL_MS)
    while len(taken) < len(remote_ids) and time.monotonic() < deadline:
        time.sleep(POLL)
        taken = take(identity, remote_ids, token, PERSON_TTL_MS)
    try:
        yield len(taken) == len(remote_ids)
    finally:
        free(identity, list(taken), token)
