"""The lanes of jobs as people see them: what is under way at each account, what holds it up, how fast it goes and how long it will take.

A board is polled once a second, so it asks a handful of grouped queries whatever the number of accounts. What changes slowly (how many items
each account has in all, how many ended lately, how long requests took) is kept in the cache for a few seconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from django.core.cache import cache
from django.db.models import Count, Min, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce
from django.db.models.query import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import cooling, services
from accounts.models import Account, Health, RequestLog, User

from . import breakers, progress, workers
from .context import provider_mark
from .job_presenters import duration
from .models import NOT_STARTED, OPEN_COUNTERS, Incident, Job, JobItem, Lane, Order
from .states import REASONS, ItemStatus

LATELY = 60.0  # seconds over which the pace of a lane is measured
PACE_KEPT = 4
TOTALS_KEPT = 3600
POINTS_KEPT = 3
POINTS = 100  # requests of a sparkline
MANY = 5000  # open items
SHORTEST = 0.5  # seconds of silence that are worth a badge
WIDTH, HEIGHT = 120, 24  # of a sparkline


@dataclass(slots=True)
class Spark:
    """How long the last requests of an account took: the points of a line, and the figures beside it."""

    points: str
    p50: str
    p95: str
    count: int


@dataclass(slots=True)
class LaneRow:
    """One account's lane."""

    account: Account
    mark: dict[str, Any]
    owned: bool
    in_flight: int
    pending: int
    waiting: int
    done: int
    total: int
    concurrency: int
    rate: str
    state: str  # a key of _status.html
    label: str
    why: str  # of the state, "" where the label says it all
    locked: bool  # only a new credential helps
    hold_until: datetime | None  # counted down
    hold_seconds: float
    incident: Incident | None
    per_minute: float
    eta_seconds: float | None
    spark: Spark | None

    @property
    def open(self) -> int:
        """Items that have not ended."""
        return self.in_flight + self.pending + self.waiting

    @property
    def under_way(self) -> int:
        """How many requests can be out: a lane takes more items in hand than it sends at once."""
        return min(self.in_flight, self.concurrency)

    @property
    def ahead(self) -> int:
        """Items that have not begun, in hand or not."""
        return self.open - self.under_way

    @property
    def eta(self) -> str:
        """How long the lane still needs, "" when nothing can be said."""
        return duration(self.eta_seconds) if self.eta_seconds is not None else ""

    @property
    def pace(self) -> str:
        """How many items end a minute, "" when none did."""
        return f"{self.per_minute:,.0f}" if self.per_minute >= 10 else f"{self.per_minute:.1f}".removesuffix(".0") if self.per_minute else ""

    @property
    def countdown(self) -> str:
        """What is left of the hold as minutes and seconds; the page goes on counting."""
        return clock(self.hold_seconds)


def clock(seconds: float) -> str:
    """Returns a span of time as 0:07; the same in every language."""
    whole = max(0, math.ceil(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


# --- the board ----------------------------------------------------------------------------------------------------------------------


def context(jobs: Sequence[Job], user: User, now: datetime | None = None) -> dict[str, Any]:
    """Returns what a board shows of these started jobs: a row per account, the slowest lane, open incidents that hold some of it."""
    rows = board(jobs, user, now or timezone.now())
    known = [row for row in rows if row.eta_seconds is not None]
    slowest = max(known, key=lambda row: row.eta_seconds or 0.0, default=None)
    stopped = next((row for row in rows if row.incident), None)
    incidents = {row.incident.pk: row.incident for row in rows if row.incident}
    return {
        "lanes": rows,
        "stopped": stopped,
        "slowest": slowest if len(rows) > 1 and not stopped else None,
        "lanes_eta": slowest.eta if slowest else "",
        "incidents": [incident_note(incident, rows) for incident in incidents.values()],
    }


def job_context(job: Job, user: User) -> dict[str, Any]:
    """Returns the board of one job's page; a job that has ended has none. Its ETA is that of its slowest lane."""
    if not job.open or job.order in NOT_STARTED:
        return {"lanes": [], "slowest": None, "stopped": None, "incidents": []}
    found = context([job], user)
    if found["stopped"]:
        found["eta"] = ""  # how long its provider stays away nobody knows
    elif found["lanes_eta"] and job.is_live:
        found["eta"] = found["lanes_eta"]
    return found


def page_context(user: User) -> dict[str, Any]:
    """Returns what the page of all lanes shows: the accounts with work of every job that this person sees, and the workers."""
    live = list(Job.objects.visible_to(user).live())
    found = context(live, user)
    found["lanes"] = [row for row in found["lanes"] if row.open]
    stuck = sum(row.pending + row.in_flight for row in found["lanes"])
    offline = stuck > 0 and not workers.online()
    return found | {
        "workers": [{"worker": worker, "alive": alive} for worker, alive in workers.known()],
        "stuck": stuck,
        "offline": offline,
        "last_worker": workers.last_seen() if offline else None,
        "live": bool(found["lanes"]),
    }


def incident_note(incident: Incident, rows: Iterable[LaneRow]) -> dict[str, Any]:
    """Returns what the banner of an open incident says."""
    held = [row for row in rows if row.incident and row.incident.pk == incident.pk]
    left = (incident.next_probe_at - timezone.now()).total_seconds() if incident.next_probe_at else 0.0
    count = sum(row.pending + row.in_flight for row in held)
    return {"incident": incident, "rows": held, "count": count, "seconds": max(0.0, left), "countdown": clock(left)}


def board(jobs: Sequence[Job], user: User, now: datetime) -> list[LaneRow]:
    """Returns the rows by label: they do not jump while the numbers change."""
    totals = _totals(jobs)
    visible = Account.objects.visible_to(user).filter(pk__in=totals)
    accounts = {str(account.pk): account for account in visible}
    if not accounts:
        return []
    ids = [account.pk for account in accounts.values()]
    owned = {str(pk) for pk in Account.objects.owned_by(user).filter(pk__in=ids).values_list("pk", flat=True)}
    items = JobItem.objects.filter(job__in=jobs, account__in=ids)
    counts = _open_counts(jobs, items)
    reasons = _waiting_reasons(items) if any(job.n_waiting for job in jobs) else {}
    lanes = {str(lane.pk): lane for lane in Lane.objects.filter(pk__in=ids)}
    hosts = {breakers.host_of(account) for account in accounts.values()}
    incidents = {incident.host: incident for incident in Incident.objects.filter(host__in=hosts, ended_at__isnull=True)}
    cool, paces, sparks = cooling.left(accounts.values()), _paces(jobs, now), _sparks(accounts)
    paused = all(job.order != Order.RUN for job in jobs)
    rows = []
    for key, account in accounts.items():
        count, lane = counts.get(key, {}), lanes.get(key)
        pending, running, waiting = (count.get(name, 0) for name in OPEN_COUNTERS)
        incident = incidents.get(breakers.host_of(account)) if pending or running else None
        hold = _hold(lane, incident, cool.get(account.pk, 0.0), now) if pending or running else None
        state, label, why, locked = _state(account, reasons.get(key, ""), hold, incident, running, pending, waiting, paused)
        pace = services.pace_of(account)
        per_minute = paces.get(key, 0.0)
        seconds = (hold - now).total_seconds() if hold else 0.0
        left = pending + running
        eta = seconds + 60 * left / per_minute if left and per_minute and not (paused or account.paused_at or incident) else None
        rows.append(
            LaneRow(
                account=account,
                mark=provider_mark(account),
                owned=key in owned,
                in_flight=running,
                pending=pending,
                waiting=waiting,
                done=max(0, totals[key] - pending - running - waiting),
                total=totals[key],
                concurrency=pace.concurrency,
                rate=f"{pace.rate:g}",
                state=state,
                label=label,
                why=why,
                locked=locked,
                hold_until=hold,
                hold_seconds=max(0.0, seconds),
                incident=incident,
                per_minute=per_minute,
                eta_seconds=eta,
                spark=sparks.get(key),
            )
        )
    return sorted(rows, key=lambda row: (row.account.label, str(row.account.pk)))


def _state(
    account: Account, reason: str, hold: datetime | None, incident: Incident | None, running: int, pending: int, waiting: int, paused: bool
) -> tuple[str, str, str, bool]:
    """Returns the state of a lane, its name, why it is so, and whether only a new credential helps."""
    if account.health == Health.NEEDS_REAUTH and (pending or running or waiting):
        return "needs_reauth", str(account.get_health_display()), str(REASONS["account_needs_reauth"]), True
    if account.paused_at:
        return "paused", _("Paused"), _("The account is paused."), False
    if incident:
        return "unreachable", _("Held"), _("The provider is out of order; the next probe goes out in a moment."), False
    if hold:
        return "rate_limited", _("Rate-limited"), _("The provider asks for fewer requests."), False
    if running:
        return "running", _("Running"), "", False
    if pending:
        return ("paused", _("Paused"), _("The job is paused."), False) if paused else ("pending", _("Pending"), "", False)
    if waiting:
        return "waiting", _("Waiting"), reason, False
    return "done", _("Done"), "", False


def _hold(lane: Lane | None, incident: Incident | None, cool: float, now: datetime) -> datetime | None:
    """Returns until when nothing is sent, as far as anybody knows."""
    moments = [now + timedelta(seconds=cool)] if cool >= SHORTEST else []
    if lane and lane.blocked_until:
        moments.append(lane.blocked_until)
    if incident and incident.next_probe_at:
        moments.append(incident.next_probe_at)
    later = [moment for moment in moments if moment > now]
    return max(later, default=None)


# --- figures ------------------------------------------------------------------------------------------------------------------------


def _cached(key: str, seconds: int, compute: Any) -> Any:
    """Returns what the cache has, or computes it; a Redis that is away only costs time."""
    try:
        found = cache.get(key)
        if found is None:
            found = compute()
            cache.set(key, found, seconds)
    except redis.RedisError:
        found = compute()
    return found


def _totals(jobs: Sequence[Job]) -> dict[str, int]:
    """Returns how many items each account has in these jobs, without those that a preview left out: an account with no others has no lane."""
    found: dict[str, int] = {}
    for job in jobs:

        def count(job: Job = job) -> dict[str, int]:
            rows = job.items.exclude(progress.LEFT_OUT).order_by().values("account_id").annotate(count=Count("pk"))
            return {str(row["account_id"]): row["count"] for row in rows}

        for key, number in _cached(f"lane-totals:{job.pk}:{job.total}:{job.n_skipped}", TOTALS_KEPT, count).items():
            found[key] = found.get(key, 0) + number
    return found


def _open_counts(jobs: Sequence[Job], items: QuerySet[JobItem]) -> dict[str, dict[str, int]]:
    """Returns the open items of each account by status. Counting very many takes a while, so these numbers may be two seconds old."""

    def count() -> dict[str, dict[str, int]]:
        rows = items.filter(status__in=OPEN_COUNTERS).order_by().values("account_id", "status").annotate(count=Count("pk"))
        found: dict[str, dict[str, int]] = {}
        for row in rows:
            found.setdefault(str(row["account_id"]), {})[row["status"]] = row["count"]
        return found

    return count() if sum(job.open for job in jobs) < MANY else _cached(f"lane-counts:{_key(jobs)}", 2, count)


def _waiting_reasons(items: QuerySet[JobItem]) -> dict[str, str]:
    """Returns for what each account's waiting items wait, in words."""
    rows = items.filter(status=ItemStatus.WAITING).order_by("account_id", "reason").values_list("account_id", "reason").distinct()
    found: dict[str, list[str]] = {}
    for account, reason in rows:
        if text := str(REASONS.get(reason, "")):
            found.setdefault(str(account), []).append(text)
    return {account: " ".join(texts) for account, texts in found.items()}


def _paces(jobs: Sequence[Job], now: datetime) -> dict[str, float]:
    """Returns how many items a minute ended at each account, from what ended within the last minute."""

    def measure() -> dict[str, float]:
        lately = JobItem.objects.filter(job__in=jobs, finished_at__gte=now - timedelta(seconds=LATELY))
        rows = lately.order_by().values("account_id").annotate(count=Count("pk"), first=Min("finished_at"))
        # Since the first of them: a lane that has just begun, or goes on after a pause, is not slower for that.
        spans = {str(row["account_id"]): (row["count"], max(1.0, (now - row["first"]).total_seconds())) for row in rows}
        return {key: 60 * count / span for key, (count, span) in spans.items()}

    return _cached(f"lane-paces:{_key(jobs)}", PACE_KEPT, measure)


def _key(jobs: Sequence[Job]) -> str:
    return hashlib.sha256(",".join(str(job.pk) for job in jobs).encode()).hexdigest()[:24]


def _sparks(accounts: dict[str, Account]) -> dict[str, Spark]:
    """Returns the latency of each account's last requests; kept for a few seconds, and read for all the missing ones at once."""
    names = {f"lane-latency:{key}": key for key in accounts}
    try:
        cached = cache.get_many(names)
    except redis.RedisError:
        cached = {}
    found: dict[str, list[int]] = {names[name]: points for name, points in cached.items()}
    if missing := [key for key in accounts if key not in found]:
        fresh = _latencies(missing)
        found |= fresh
        with suppress(redis.RedisError):
            cache.set_many({f"lane-latency:{key}": points for key, points in fresh.items()}, POINTS_KEPT)
    return {key: spark(points) for key, points in found.items() if points}


def _latencies(keys: list[str]) -> dict[str, list[int]]:
    """Returns the milliseconds of the last requests of each account, the oldest first: where they begin, then they themselves."""
    hundredth = RequestLog.objects.filter(account_id=OuterRef("pk")).order_by("-id").values("id")[POINTS - 1 : POINTS]
    floors = Account.objects.filter(pk__in=keys).order_by().values_list("pk").annotate(floor=Coalesce(Subquery(hundredth), Value(0)))
    wanted = Q()
    for pk, floor in floors:
        wanted |= Q(account_id=pk, id__gte=floor)
    found: dict[str, list[int]] = {key: [] for key in keys}
    for pk, milliseconds in RequestLog.objects.filter(wanted).order_by("id").values_list("account_id", "ms") if wanted else ():
        found[str(pk)].append(milliseconds)
    return {key: points[-POINTS:] for key, points in found.items()}


def spark(points: Sequence[int]) -> Spark:
    """Returns a line through these milliseconds, the oldest at the left, and its median and 95th percentile."""
    highest = max(*points, 1)
    step = WIDTH / max(1, len(points) - 1)
    line = " ".join(f"{number * step:.1f},{HEIGHT - 1 - (HEIGHT - 2) * value / highest:.1f}" for number, value in enumerate(points))
    ranked = sorted(points)
    p50, p95 = (ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)) - 1)] for share in (0.5, 0.95))
    return Spark(line, milliseconds(p50), milliseconds(p95), len(points))


def milliseconds(value: int) -> str:
    """Returns a latency for people: 85 ms, 1.2 s."""
    return _("%(n)s ms") % {"n": value} if value < 1000 else _("%(n)s s") % {"n": f"{value / 1000:.1f}"}
