"""The breaker of a provider's host: while it answers only errors, nothing is sent to it but a single probe now and then.

Lanes report how their calls ended, in batches (`Watch`); Redis adds them up over all processes for a short window. When nearly all of them
failed, one `Incident` is opened in the database and every lane of an account at that host is held (`Lane.blocked_until`). The reaper wakes a
held lane when the next probe is due; of all that come to the `gate` then, one wins the probe and asks the provider who it is. An answer, whatever
it says, ends the incident, and the lanes go on one after the other.

Only what says that the host is out of order counts: connections that fail, time-outs, 5xx. A refusal for the rate, a dead credential and errors
about one conversation say nothing about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts import explain, services
from accounts.models import Account
from accounts.providers.base import Patience
from accounts.providers.errors import MalformedAnswer, OutcomeUnknown, ProviderError, ProviderUnavailable, RateLimited

from .models import NOT_STARTED, Incident, JobItem, Lane
from .states import ItemStatus, Move

logger = logging.getLogger(__name__)

WINDOW = 30.0  # seconds over which calls are added up
BUCKETS = 10  # parts of the window; what is older than the window leaves by these
MIN_CALLS = 8
SHARE = 0.8  # of the calls that must have failed
STREAK, LASTING = 4, 10.0  # as good as that: nothing but so many failures in a row, for so many seconds (a lane that makes few calls)
KEEP_MS = 600_000  # how long failures in a row are remembered
PROBE_EVERY = 30.0
PROBE_TIMEOUT = 10.0  # below the lease of a lane
SPREAD = 4.0  # seconds over which lanes resume
REOPEN = 120.0  # seconds in which the next trouble belongs to the same incident
LOOK_EVERY = 1.0  # at the breaker, by a lane that has nothing to report
MAX_EVENTS = 200

REASON = "breaker"  # of Lane.blocked_reason

# KEYS: counts of a host, its open flag. ARGV: ok, failed, now (ms), width of a bucket (ms), buckets, how long to keep it (ms).
# Answers {ok, failed, failures in a row, since when (ms), next probe (ms) or 0}. Where a batch holds both, its order is not known: no row.
_REPORT = """
local ok, failed, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local bucket = math.floor(now / tonumber(ARGV[4]))
if ok > 0 then
  redis.call('HINCRBY', KEYS[1], 'o:' .. bucket, ok)
  redis.call('HDEL', KEYS[1], 'row', 'since')
end
if failed > 0 then
  redis.call('HINCRBY', KEYS[1], 'f:' .. bucket, failed)
  if ok == 0 then
    redis.call('HINCRBY', KEYS[1], 'row', failed)
    redis.call('HSETNX', KEYS[1], 'since', ARGV[3])
  end
end
if ok + failed > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[6]) end
local sums, row, since = {o = 0, f = 0}, 0, now
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, value = all[i], tonumber(all[i + 1])
  if name == 'row' then row = value
  elseif name == 'since' then since = value
  elseif tonumber(string.sub(name, 3)) <= bucket - tonumber(ARGV[5]) then redis.call('HDEL', KEYS[1], name)
  else
    local kind = string.sub(name, 1, 1)
    sums[kind] = sums[kind] + value
  end
end
return {sums.o, sums.f, row, since, tonumber(redis.call('GET', KEYS[2]) or '0')}
"""


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5.0)


def _keys(host: str) -> tuple[str, str]:
    return f"switchboard:breaker:{{{host}}}", f"switchboard:breaker:{{{host}}}:open"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


# --- hosts --------------------------------------------------------------------------------------------------------------------------


def host_of(account: Account) -> str:
    """Returns the host (with its port, where one is named) that an account is reached at."""
    return urlsplit(account.base_url).netloc.lower()[:255]


def accounts_at(host: str) -> QuerySet[Account]:
    """Returns the accounts that are reached at a host, whoever owns them."""
    found = Q()
    for scheme in ("https", "http"):
        found |= Q(base_url__iexact=f"{scheme}://{host}") | Q(base_url__istartswith=f"{scheme}://{host}/")
    return Account.objects.filter(found)


def held_jobs(host: str) -> dict[str, int]:
    """Returns how many open items of which started jobs (by id) are at a host."""
    items = JobItem.objects.filter(account__in=accounts_at(host), status__in=[ItemStatus.PENDING, ItemStatus.RUNNING])
    rows = items.exclude(job__order__in=NOT_STARTED).order_by().values("job_id").annotate(count=Count("pk"))
    return {str(row["job_id"]): row["count"] for row in rows}


# --- what counts --------------------------------------------------------------------------------------------------------------------


def is_down(error: BaseException | None) -> bool:
    """True when an error says that the host is out of order."""
    if isinstance(error, ProviderUnavailable):
        return not isinstance(error.__cause__, ConnectionError)  # that one is our own Redis: nothing was sent
    return isinstance(error, OutcomeUnknown) and (error.status is None or error.status >= 500)


def answered(error: BaseException | None) -> bool:
    """True when the end of a call says that the host works: no error, or one that is the provider's answer."""
    told = isinstance(error, MalformedAnswer) or (isinstance(error, ProviderError) and error.status is not None)
    return error is None or (told and not is_down(error))


def opens(ok: int, failed: int, in_row: int = 0, lasting: float = 0.0) -> bool:
    """True when the calls of the window, or the failures in a row up to now, say that the host is out of order."""
    calls = ok + failed
    return (calls >= MIN_CALLS and failed >= SHARE * calls) or (in_row >= STREAK and lasting >= LASTING)


# --- counting -----------------------------------------------------------------------------------------------------------------------


class Watch:
    """What one lane sees of its host: gathered in memory, and reported with each flush of the lane in one round trip to Redis."""

    def __init__(self, account: Account) -> None:
        self.host, self.provider_key = host_of(account), account.provider_key
        self.seen: deque[ProviderError | None] = deque()  # written by the lane's loop, read by its database thread
        self.looked = 0.0

    def note(self, error: ProviderError | None) -> None:
        """Takes in how a call ended; an error that says nothing about the host is left out."""
        if error is None or is_down(error):
            self.seen.append(error)

    def flush(self) -> datetime | None:
        """Reports, and returns until when the host is held; None: go on. Failures are reported at once, all else once a second."""
        if time.monotonic() - self.looked < LOOK_EVERY and not any(self.seen.copy()):
            return None
        seen = [self.seen.popleft() for _count in range(len(self.seen))]
        self.looked = time.monotonic()
        errors = [error for error in seen if error is not None]
        cause = explain.pack(errors[-1]) if errors else ""
        return report(self.host, self.provider_key, len(seen) - len(errors), len(errors), cause)


def report(host: str, provider_key: str, ok: int = 0, failed: int = 0, cause: str = "", *, now: datetime | None = None) -> datetime | None:
    """Adds a batch of calls to the window of a host and opens its breaker where that is enough; returns until when the host is held, or None.

    `cause` is the packed error (accounts.explain) of one that failed. A Redis that is away counts nothing.
    """
    now = now or timezone.now()
    counts, flag = _keys(host)
    width = round(WINDOW * 1000 / BUCKETS)
    try:
        seen = _client(settings.REDIS_URL).eval(_REPORT, 2, counts, flag, ok, failed, _ms(now), width, BUCKETS, KEEP_MS)
    except redis.RedisError as error:
        logger.warning("calls of %s not counted: %s", host, type(error).__name__)
        return None
    window_ok, window_failed, in_row, since, next_probe = seen
    if next_probe:
        if failed:
            Incident.objects.filter(host=host, ended_at__isnull=True).update(failures=F("failures") + failed)
        return datetime.fromtimestamp(next_probe / 1000, UTC)
    if failed and opens(window_ok, window_failed, in_row, (_ms(now) - since) / 1000):
        return _open(host, provider_key, cause, max(window_failed, in_row), now)
    return None


def _open(host: str, provider_key: str, cause: str, failures: int, now: datetime) -> datetime | None:
    """Opens the incident of a host, or the last one again when that has only just ended; whoever comes second finds it open."""
    until = now + timedelta(seconds=PROBE_EVERY)
    held: list[Any] = [now.isoformat(), "held", held_jobs(host)]
    with contextlib.suppress(IntegrityError), transaction.atomic():
        lately = Incident.objects.select_for_update().filter(host=host, ended_at__gte=now - timedelta(seconds=REOPEN)).first()
        if lately is None:
            events = [[now.isoformat(), "opened", cause[:400]], held]
            values = {"cause": cause[:400], "failures": failures, "next_probe_at": until, "events": events}
            Incident.objects.create(host=host, provider_key=provider_key, opened_at=now, **values)
        else:
            lately.ended_at, lately.next_probe_at, lately.failures = None, until, lately.failures + failures
            _add(lately, [now.isoformat(), "reopened", cause[:400]], held)
            lately.save(update_fields=["ended_at", "next_probe_at", "failures", "events"])
        logger.warning("breaker of %s is open", host)
    return _hold(host)


def _add(incident: Incident, *events: list[Any]) -> None:
    """Adds to the timeline; of a very long one the middle is given up."""
    incident.events = [*incident.events, *events]
    if len(incident.events) > MAX_EVENTS:
        del incident.events[MAX_EVENTS // 2]


def spare(move: Move, tries: int) -> None:
    """Turns the end of a run that only the outage caused into "later": no try is used up, and nothing fails."""
    if move.new in (ItemStatus.PENDING, ItemStatus.FAILED):
        move.new, move.reason = ItemStatus.PENDING, move.reason if move.reason == "outcome_unknown" else ProviderUnavailable.kind
        move.values |= {"tries": tries, "not_before": None}
        for name in ("finished_at", "after", "target"):  # what an end would have set
            move.values.pop(name, None)


# --- holding and probing ------------------------------------------------------------------------------------------------------------


def held(host: str) -> datetime | None:
    """Returns when the next probe of a held host may go, None when its breaker is closed. One query."""
    return Incident.objects.filter(host=host, ended_at__isnull=True).values_list("next_probe_at", flat=True).first()


def _hold(host: str) -> datetime | None:
    """Lets everybody see that a host is held: the flag in Redis for running lanes, `blocked_until` for the others and for people."""
    until = held(host)
    if until is None:
        return None
    with contextlib.suppress(redis.RedisError):  # the database knows it too
        _client(settings.REDIS_URL).set(_keys(host)[1], _ms(until), px=round(PROBE_EVERY * 4000))
    _block(host, [until])
    return until


def _block(host: str, until: list[datetime]) -> None:
    """Blocks the lanes of a host, in turn until these moments. A lane that its provider asked for a longer silence keeps that."""
    with transaction.atomic():
        lanes = Lane.objects.select_for_update().filter(account__in=accounts_at(host)).order_by("pk")
        for number, lane in enumerate(lanes):
            moment = until[number % len(until)]
            if lane.blocked_until is None or lane.blocked_until < moment or lane.blocked_reason == REASON:
                Lane.objects.filter(pk=lane.pk).update(blocked_until=moment, blocked_reason=REASON)


def may_probe(host: str, *, now: datetime | None = None) -> bool:
    """True for exactly one caller of all processes when a probe is due; the next one is due PROBE_EVERY later, whatever becomes of this one."""
    now = now or timezone.now()
    due = Incident.objects.filter(host=host, ended_at__isnull=True, next_probe_at__lte=now)
    return bool(due.update(next_probe_at=now + timedelta(seconds=PROBE_EVERY), probes=F("probes") + 1))


def probe_result(host: str, ok: bool, cause: str = "", *, now: datetime | None = None) -> None:
    """Takes in how a probe ended: the incident is over and the lanes resume one after the other, or everybody goes on waiting."""
    now = now or timezone.now()
    with transaction.atomic():
        incident = Incident.objects.select_for_update().filter(host=host, ended_at__isnull=True).first()
        if incident is None:
            return
        if ok:
            incident.ended_at, incident.next_probe_at = now, None
            _add(incident, [now.isoformat(), "probe_ok", ""], [now.isoformat(), "resumed", held_jobs(host)])
        else:
            incident.next_probe_at = now + timedelta(seconds=PROBE_EVERY)
            _add(incident, [now.isoformat(), "probe_failed", cause[:400]])
        incident.save(update_fields=["ended_at", "next_probe_at", "events"])
    if not ok:
        _hold(host)
        return
    with contextlib.suppress(redis.RedisError):
        _client(settings.REDIS_URL).delete(*_keys(host))
    count = max(1, Lane.objects.filter(account__in=accounts_at(host)).count())
    _block(host, [now + timedelta(seconds=SPREAD * number / count) for number in range(count)])
    logger.warning("breaker of %s is closed", host)


def gate(account: Account) -> datetime | None:
    """Lets a lane go on (None), or tells until when its host is held. Whoever wins the probe that is due asks the provider first.

    One query where the breaker is closed. Uses up no try of any item, and sends one request at most while the host is down.
    """
    host = host_of(account)
    until = held(host)
    if until is None:
        return None
    if not may_probe(host):
        return held(host)
    error: ProviderError | None = None
    try:
        services.call(account, _ask, patience=Patience(attempts=1, seconds=PROBE_TIMEOUT), prompt=False)
    except ProviderError as caught:
        error = caught
    if is_down(error) or answered(error):
        probe_result(host, not is_down(error), explain.pack(error) if error else "")
    elif not isinstance(error, RateLimited | ProviderUnavailable):
        return None  # it cannot even be asked with this account: the lane finds out why, and sends nothing either
    return held(host)


async def _ask(provider: Any) -> None:
    try:
        await asyncio.wait_for(provider.check(), PROBE_TIMEOUT)
    except TimeoutError as error:
        raise ProviderUnavailable(gettext_noop("The provider did not answer the probe in time.")) from error
