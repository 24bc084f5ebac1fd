"""How often a provider may be called, agreed on by every process through Redis.

A budget has a key, a rate and a burst. Its state is one number in Redis, the time at which the budget will be unused again (GCRA), moved by
a Lua script with the clock of Redis, so machines need not agree on the time. A slot is a permission to send one request at a moment.

* Background callers of one process queue here, in order, and fetch slots for the next 250 ms, at most 64 at once: one round trip instead
  of many. What is fetched and not used soon after its moment is lost, never saved up.
* A person waiting (`priority`) takes the next slot that nobody holds, however far ahead. As background callers never hold more than 250 ms,
  the person waits that long at most, plus one interval. Where the burst is 2 or more, its last slot is kept for people.
* A cool-down stops everybody, slots at hand included: these are checked against it at most 50 ms before use.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import weakref
from collections import deque
from collections.abc import Awaitable
from typing import Any, Final, Protocol, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

AHEAD: Final = 0.25  # seconds worth of slots that background callers hold at most
MOST_AHEAD: Final = 64  # slots
FRESH: Final = 0.05  # seconds for which "nothing cools down" is believed
LONGEST_COOL_DOWN: Final = 24 * 3600.0  # seconds: a nonsensical Retry-After must not close an account for good
DOWN_FOR: Final = 1.0  # seconds for which callers of one key are refused at once after Redis failed one of them

# What we keep below a limit. A provider counts requests as they arrive: of two that left 100 ms apart the second may have had the quicker way, or the
# first one a busy moment here. Over a window of a second that gains a request now and then, and at exactly the rate the window is full already.
MARGIN: Final = 0.035
GUARD: Final = 0.03  # seconds more than one, within which no more than a second's worth is let go by one process
MOST_WATCHED: Final = 256  # requests: faster limits are not counted one by one

# KEYS: theoretical arrival time (µs), cool-down. ARGV: interval (µs), tolerance (µs), horizon (µs), most slots.
# Answers {granted, delay of the first slot (µs, may be negative), cooling (ms)}. Slot i is due at max(0, delay + i * interval).
# Numbers go out as whole numbers or formatted: Lua's own conversion to text keeps 14 digits, a time in µs has 16.
_RESERVE: Final = """
local cooling = redis.call('PTTL', KEYS[2])
if cooling > 0 then return {0, 0, cooling} end
local interval, tolerance, horizon, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local free = tonumber(redis.call('GET', KEYS[1]) or '0')
if free < now then free = now end
local delay = free - tolerance - now
local granted = 0
if delay <= horizon then granted = math.min(most, math.floor((horizon - delay) / interval) + 1) end
if granted > 0 then
  free = free + granted * interval
  redis.call('SET', KEYS[1], string.format('%.0f', free), 'PX', math.ceil((free - now) / 1000) + 1)
end
return {granted, math.floor(delay), 0}
"""

# KEYS: cool-down. ARGV: milliseconds. Only ever later, never earlier.
_COOL_DOWN: Final = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return 1
"""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9:._/-]{1,160}")
_Answer = TypeVar("_Answer")


class LimiterBusy(Exception):
    """The turn would come later than the caller is ready to wait; nothing was taken. `retry_after` is the expected wait in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"The next free turn is {retry_after:.1f} s away.")
        self.retry_after = retry_after


class LimiterUnavailable(ConnectionError):
    """Redis did not answer, so nobody knows whether a request may be sent now."""


class Limiter(Protocol):
    """What RedisLimiter and NullLimiter promise."""

    async def acquire(self, key: str, *, rate: float, burst: int = 1, priority: bool = False, max_wait: float | None = None) -> float: ...
    async def cool_down(self, key: str, seconds: float) -> None: ...
    async def cooling(self, key: str) -> float: ...
    async def aclose(self) -> None: ...


class _Queue:
    """The callers of one key in one process, and the slots they hold together. Times are those of the event loop."""

    __slots__ = ("__weakref__", "before", "checked", "cool_until", "count", "down_until", "lock", "sent", "since", "slots", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()  # serves in order of arrival
        self.slots: deque[float] = deque()
        self.sent: deque[float] = deque(maxlen=MOST_WATCHED)  # when the last ones were let go
        self.waiting = 0
        self.cool_until = 0.0  # what this process knows
        self.checked = 0.0  # when Redis last said that nothing cools down
        self.down_until = 0.0
        self.since = self.count = self.before = 0.0  # grants in this stretch of AHEAD seconds and in the one before

    def next_slot(self, now: float, interval: float) -> float | None:
        """The next slot that is still good, taken out."""
        # A slot used late lets two requests come closer together than the rate allows; a quarter of an interval is what a busy loop needs. Of
        # a limit far above what is asked for, slots are late as a rule; MARGIN has room for as many seconds' worth of them within one second.
        grace = min(0.05, max(MARGIN if interval * MOST_WATCHED < 1.0 else 0.01, interval / 4))
        while self.slots:
            if (slot := self.slots.popleft()) >= now - grace:
                return slot
        return None

    def granted(self, now: float) -> None:
        self._turn_over(now)
        self.count += 1

    def wanted(self, now: float) -> int:
        """How many slots the next stretch will probably use: what is waiting, or as many as lately."""
        self._turn_over(now)
        return int(max(self.waiting, self.count, self.before, 1))

    def _turn_over(self, now: float) -> None:
        if now - self.since >= AHEAD:
            self.before = self.count if now - self.since < 2 * AHEAD else 0.0
            self.since, self.count = now, 0.0


class _PerLoop:
    """One connection pool and the queues of one event loop."""

    def __init__(self, url: str) -> None:
        # Redis is near and its scripts are short: what has not answered after 2 s will not.
        # One repetition for a connection that went stale; a slot taken twice is merely lost.
        self.redis = redis.asyncio.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 1))
        self.reserve = self.redis.register_script(_RESERVE)
        self.cool_down = self.redis.register_script(_COOL_DOWN)
        self.queues: dict[str, _Queue] = {}

    def queue(self, key: str) -> _Queue:
        if (queue := self.queues.get(key)) is None:
            if len(self.queues) >= 256:  # a queue that nobody stands in holds nothing that Redis does not know
                self.queues = {name: old for name, old in self.queues.items() if old.waiting or old.slots}
            queue = self.queues[key] = _Queue()
        return queue


class RedisLimiter:
    """Keeps every caller of a key, in any process, within the key's rate.

    `url` is redis://, rediss:// or unix:///path (Celery's redis+socket:///path too). Usable from several event loops, each with
    connections of its own, which `aclose()` closes for the running loop. Redis 6.2 or newer. Every method raises LimiterUnavailable
    when Redis does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = _redis_url(url)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _PerLoop] = weakref.WeakKeyDictionary()

    async def acquire(self, key: str, *, rate: float, burst: int = 1, priority: bool = False, max_wait: float | None = None) -> float:
        """Waits until one request may be sent and returns the seconds that this took.

        `rate` is in requests per second, `burst` the requests that may come at once after a pause. `priority` is for a person waiting:
        ahead of all background callers. Raises LimiterBusy instead of waiting longer than `max_wait` seconds.
        """
        if not (rate > 0 and math.isfinite(rate)) or burst < 1:
            raise ValueError("A limit needs a rate above 0 and a burst of at least 1.")
        now = asyncio.get_running_loop().time
        start = now()
        give_up = math.inf if max_wait is None else start + max(0.0, max_wait)
        here = self._here()
        name = _redis_name(key)
        queue = here.queue(name)
        interval = (1.0 + MARGIN) / rate
        if priority:
            await self._ahead(here, name, queue, interval, burst, give_up)
            return now() - start
        if (expected := max(queue.waiting * interval, queue.cool_until - start)) > give_up - start:
            raise LimiterBusy(expected)
        queue.waiting += 1
        try:
            try:
                alone = queue.waiting == 1  # nobody holds the lock
                async with contextlib.nullcontext() if alone or give_up == math.inf else asyncio.timeout_at(give_up):
                    await queue.lock.acquire()
            except TimeoutError:
                raise LimiterBusy(max(queue.waiting * interval, queue.cool_until - now())) from None
            try:
                await self._in_turn(here, name, queue, interval, burst, give_up)
            finally:
                queue.lock.release()
        finally:
            queue.waiting -= 1
        return now() - start

    async def cool_down(self, key: str, seconds: float) -> None:
        """Stops all callers of the key, in every process, for the next `seconds` (at most a day); a longer cool-down stays."""
        if not seconds > 0:
            return
        seconds = min(seconds, LONGEST_COOL_DOWN)
        here = self._here()
        name = _redis_name(key)
        queue = here.queue(name)
        # Known here before Redis knows, and even if it never does.
        queue.cool_until = max(queue.cool_until, asyncio.get_running_loop().time() + seconds)
        await _answer(here.cool_down(keys=[_cooling_name(name)], args=[math.ceil(seconds * 1000)]))

    async def cooling(self, key: str) -> float:
        """Returns the seconds left of the key's cool-down, 0.0 when there is none."""
        return await self._cooling(self._here(), _redis_name(key))

    async def aclose(self) -> None:
        """Closes the connections of the running event loop; the limiter can be used again afterwards."""
        if (here := self._loops.pop(asyncio.get_running_loop(), None)) is not None:
            await here.redis.aclose()

    # --- the two ways to a slot -----------------------------------------------------------------------------------------

    async def _in_turn(self, here: _PerLoop, name: str, queue: _Queue, interval: float, burst: int, give_up: float) -> None:
        """The first of the queue: the next slot at hand, or new ones."""
        now = asyncio.get_running_loop().time
        while True:
            if queue.down_until > now():
                raise LimiterUnavailable("Redis does not answer.")
            await self._wait_for_cool_down(queue, give_up)
            slot = queue.next_slot(now(), interval)
            if slot is None:
                await self._fetch(here, name, queue, interval, burst, give_up)
                continue
            if slot > max(give_up, moment := now()):
                queue.slots.appendleft(slot)
                raise LimiterBusy(slot - moment)
            if await self._use(here, name, queue, slot, interval, burst):
                return

    async def _fetch(self, here: _PerLoop, name: str, queue: _Queue, interval: float, burst: int, give_up: float) -> None:
        """Fills the queue with slots, or sleeps until there can be some."""
        now = asyncio.get_running_loop().time
        most = max(1, min(MOST_AHEAD, int(AHEAD / interval), queue.wanted(now())))
        tolerance = max(0, burst - 2) * interval  # the last slot of a burst is for people
        horizon = max(0.0, min(AHEAD, give_up - now()))
        try:
            granted, delay, cooling = await self._reserve(here, name, interval, tolerance, horizon, most)
        except LimiterUnavailable:
            # Those behind in the queue would each wait for the same time-out, one after the other.
            queue.down_until = now() + DOWN_FOR
            raise
        moment = now()
        if cooling:
            queue.cool_until = moment + cooling
        elif granted:
            queue.checked = moment
            queue.slots.extend(moment + max(0.0, delay + number * interval) for number in range(granted))
        elif moment + delay > give_up:
            raise LimiterBusy(delay)
        else:
            await asyncio.sleep(max(0.001, delay - horizon))

    async def _ahead(self, here: _PerLoop, name: str, queue: _Queue, interval: float, burst: int, give_up: float) -> None:
        """A person: the first slot that nobody holds yet, however far ahead."""
        now = asyncio.get_running_loop().time
        while True:
            await self._wait_for_cool_down(queue, give_up)
            horizon = min(give_up - now(), LONGEST_COOL_DOWN)
            granted, delay, cooling = await self._reserve(here, name, interval, (burst - 1) * interval, max(0.0, horizon), 1)
            moment = now()
            if cooling:
                queue.cool_until = moment + cooling
            elif not granted:
                raise LimiterBusy(delay)
            else:
                queue.checked = moment
                if await self._use(here, name, queue, moment + max(0.0, delay), interval, burst):
                    return

    async def _use(self, here: _PerLoop, name: str, queue: _Queue, slot: float, interval: float, burst: int) -> bool:
        """Sleeps until the slot is due; False when a cool-down has taken it away meanwhile."""
        now = asyncio.get_running_loop().time
        if (wait := slot - now()) > 0:
            await asyncio.sleep(wait)
        if now() - queue.checked > FRESH:
            cooling = await self._cooling(here, name)
            queue.checked = now()
            if cooling:
                queue.cool_until = max(queue.cool_until, queue.checked + cooling)
        if queue.cool_until > now():
            queue.slots.clear()
            return False
        # A slot that was used late, and the next ones in time, would put more into a second than its provider allows.
        allowed = max(1, round(1.0 / interval)) + burst - 1
        if allowed <= len(queue.sent) and (wait := queue.sent[-allowed] + 1.0 + GUARD - now()) > 0:
            await asyncio.sleep(wait)
        queue.sent.append(now())
        queue.granted(now())
        return True

    async def _wait_for_cool_down(self, queue: _Queue, give_up: float) -> None:
        now = asyncio.get_running_loop().time
        while (wait := queue.cool_until - now()) > 0:
            if queue.cool_until > give_up:
                raise LimiterBusy(wait)
            await asyncio.sleep(wait)

    # --- Redis ----------------------------------------------------------------------------------------------------------

    def _here(self) -> _PerLoop:
        loop = asyncio.get_running_loop()
        if (here := self._loops.get(loop)) is None:
            here = self._loops[loop] = _PerLoop(self._url)
        return here

    @staticmethod
    async def _reserve(here: _PerLoop, name: str, interval: float, tolerance: float, horizon: float, most: int) -> tuple[int, float, float]:
        """(slots granted, seconds until the first one, seconds of cool-down left)."""
        micros = [round(part * 1_000_000) for part in (interval, tolerance, horizon)]
        micros[0] = max(1, micros[0])
        granted, delay, cooling = await _answer(here.reserve(keys=[name, _cooling_name(name)], args=[*micros, most]))
        return granted, delay / 1_000_000, cooling / 1000

    @staticmethod
    async def _cooling(here: _PerLoop, name: str) -> float:
        left: int = await _answer(here.redis.pttl(_cooling_name(name)))
        return max(0, left) / 1000


class NullLimiter:
    """The same interface without any limit, for tests and tools that talk to a simulator."""

    async def acquire(self, key: str, *, rate: float, burst: int = 1, priority: bool = False, max_wait: float | None = None) -> float:
        """Returns 0.0 at once."""
        return 0.0

    async def cool_down(self, key: str, seconds: float) -> None:
        """Does nothing."""

    async def cooling(self, key: str) -> float:
        """Returns 0.0."""
        return 0.0

    async def aclose(self) -> None:
        """Does nothing."""


async def _answer(command: Awaitable[_Answer] | Any) -> Any:
    try:
        return await command
    except (RedisError, OSError, RuntimeError) as error:  # the last: uvloop, about a connection that closed just before it was written to
        raise LimiterUnavailable(f"Redis does not answer ({type(error).__name__}).") from error


def _redis_name(key: str) -> str:
    """The name in Redis. Braces keep a key and its cool-down on one node of a cluster; unusual keys go by their hash."""
    text = key if _PLAIN_KEY.fullmatch(key) else "#" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"switchboard:limit:{{{text}}}"


def _cooling_name(name: str) -> str:
    return name + ":cooling"


def cooling_name(key: str) -> str:
    """Returns the name in Redis under which a key's cool-down is kept; its time to live is what is left."""
    return _cooling_name(_redis_name(key))


def _redis_url(url: str) -> str:
    """Translates the broker's spelling of a unix socket, redis+socket:///path?virtual_host=0, into that of redis-py."""
    if not url.startswith("redis+socket://"):
        return url
    return "unix://" + url.removeprefix("redis+socket://").replace("virtual_host=", "db=")
