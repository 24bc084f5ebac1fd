"""How accounts are: what is shown of one, what a call that went well or badly notes on it, when it is asked again, and its days.

Whatever is heard of an account counts as a check of it, be it a reading, a lane or a page. `checked_at` is when that was and `check_after` when
the schedule may ask by itself (see checkups). While an account is out of order each pause is twice the one before, so nobody is asked over and over.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from . import explain, lifetimes
from .models import Account, AccountQuerySet, Health, HealthDay
from .providers.errors import (
    AddressRefused,
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unsupported,
)

EXPIRING_WITHIN = timedelta(days=3)
STRIP_DAYS = 14
DAYS_KEPT = 90
JITTER = 0.2  # accounts that were connected together are not asked together for ever
FIRST_PAUSE = timedelta(minutes=1)  # after the first failure
LONGEST_PAUSE = {Health.NEEDS_REAUTH: timedelta(days=1), Health.UNREACHABLE: timedelta(hours=1), Health.RATE_LIMITED: timedelta(hours=1)}

_HEALTH: dict[type[ProviderError], Health] = {
    CredentialsRejected: Health.NEEDS_REAUTH,
    RateLimited: Health.RATE_LIMITED,
    ProviderUnavailable: Health.UNREACHABLE,
    MalformedAnswer: Health.UNREACHABLE,
    AddressRefused: Health.UNREACHABLE,
}
# From good to bad: of a day the worst is kept.
_ORDER = [Health.UNKNOWN, Health.OK, Health.RATE_LIMITED, Health.UNREACHABLE, Health.NEEDS_REAUTH]


# --- what is shown ------------------------------------------------------------------------------------------------------------------


def shown(account: Account, now: datetime | None = None) -> str:
    """Returns the state that is shown of an account: "paused", its stored health where that is bad, "expiring", or its health."""
    if account.paused_at:
        return "paused"
    if account.health in LONGEST_PAUSE:
        return account.health
    return "expiring" if expiring(account, now) else account.health


def expiring(account: Account, now: datetime | None = None) -> bool:
    """True when the credential says that it ends within days, or that it has ended."""
    ends = account.credential_expires_at
    return ends is not None and ends <= (now or timezone.now()) + EXPIRING_WITHIN


def ended(account: Account, now: datetime | None = None) -> bool:
    """True when the credential says that it has ended."""
    return account.credential_expires_at is not None and account.credential_expires_at <= (now or timezone.now())


def needing_attention(accounts: AccountQuerySet, now: datetime | None = None) -> AccountQuerySet:
    """Narrows to the accounts that a person should look at: those that are refused, and those in use whose credential ends soon."""
    soon = Q(credential_expires_at__lte=(now or timezone.now()) + EXPIRING_WITHIN, paused_at__isnull=True)
    return accounts.filter(Q(health=Health.NEEDS_REAUTH) | soon)


# --- what is noted ------------------------------------------------------------------------------------------------------------------


def health_of(error: ProviderError) -> Health | None:
    """Returns what an error says about the account, None for one about a single conversation."""
    if isinstance(error, NotFound | Unsupported | OutcomeUnknown):
        return None
    return next((state for kind, state in _HEALTH.items() if isinstance(error, kind)), None)


def note_failure(account: Account, error: ProviderError, now: datetime | None = None) -> None:
    """Notes on the account what an error says about it; errors about one conversation say nothing, and so do those of a credential replaced since."""
    health = health_of(error)
    if health is None:
        return
    now = now or timezone.now()
    if account.health != health or account.check_after is None or now >= account.check_after:
        account.check_after = now + pause_after(account, health, now, error.retry_after)
    account.health, account.cause, account.cause_detail, account.checked_at = health, error.kind, explain.pack(error)[:400], now
    same = Account.objects.filter(pk=account.pk, sealed_credentials=account.sealed_credentials)
    changes: dict[str, Any] = {name: getattr(account, name) for name in ("health", "cause", "cause_detail", "checked_at", "check_after")}
    lasted = lifetimes.with_end(account, error, now)
    # Of several processes that are refused at once one is the first.
    first = lasted is not None and same.exclude(health=health).update(**changes, lifetimes=lasted)
    if first or same.update(**changes):
        count(account.pk, health, now.date(), error.kind)


def note_success(account: Account, now: datetime | None = None) -> None:
    """Notes that the account works; at most one write a minute while it goes on working."""
    now = now or timezone.now()
    fresh = account.last_success_at and (now - account.last_success_at).total_seconds() < 60
    if account.health == Health.OK and fresh and account.check_after and account.check_after > now:
        return
    if (lasted := lifetimes.without_end(account)) is not None:
        account.lifetimes = lasted
    account.health, account.cause, account.cause_detail = Health.OK, "", ""
    account.last_success_at = account.checked_at = now
    account.check_after = now + usual_pause()
    same = Account.objects.filter(pk=account.pk, sealed_credentials=account.sealed_credentials)
    columns = ("health", "cause", "cause_detail", "last_success_at", "checked_at", "check_after", *(["lifetimes"] if lasted is not None else []))
    if same.update(**{name: getattr(account, name) for name in columns}):
        count(account.pk, Health.OK, now.date())


def usual_pause() -> timedelta:
    """Returns how long an account that works is left alone."""
    return timedelta(seconds=settings.ACCOUNT_CHECK_INTERVAL * random.uniform(1 - JITTER, 1 + JITTER))


def pause_after(account: Account, health: Health, now: datetime, retry_after: float | None = None) -> timedelta:
    """Returns how long an account that just failed is left alone: a minute, then twice as long each time, and as long as its provider asked for."""
    pause = FIRST_PAUSE
    if account.health == health and account.checked_at and account.check_after:
        pause = max(pause, 2 * (account.check_after - account.checked_at))
    pause = min(pause, LONGEST_PAUSE[health]) * random.uniform(1, 1 + JITTER)
    return max(pause, timedelta(seconds=min(retry_after or 0.0, 86400.0)))


def count(account_id: Any, health: Health, day: date, cause: str = "") -> None:
    """Adds one check to an account's day; safe for any number of processes."""
    failed = int(health != Health.OK)
    milder = Q(worst__in=_ORDER[: _ORDER.index(health)])
    row = HealthDay.objects.filter(account=account_id, day=day)
    changes = {
        "checks": F("checks") + 1,
        "failed": F("failed") + failed,
        "worst": Case(When(milder, then=Value(health.value)), default=F("worst")),
        "cause": Case(When(milder, then=Value(cause)), default=F("cause")),
    }
    if row.update(**changes):
        return
    with suppress(IntegrityError), transaction.atomic():  # deleted meanwhile
        HealthDay.objects.bulk_create([HealthDay(account_id=account_id, day=day)], ignore_conflicts=True)
        row.update(**changes)


def prune(now: datetime | None = None) -> int:
    """Deletes days that no page shows any more; returns how many."""
    before = (now or timezone.now()).date() - timedelta(days=DAYS_KEPT)
    return HealthDay.objects.filter(day__lt=before).delete()[0]


# --- the days -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the strip; without checks nothing is known of it."""

    day: date
    checks: int = 0
    failed: int = 0
    worst: str = Health.UNKNOWN
    cause: str = ""


def strip(account: Account, now: datetime | None = None) -> list[Day]:
    """Returns the last 14 days (UTC) of an account, the oldest first, those without a check too."""
    today = (now or timezone.now()).date()
    days = [today - timedelta(days=ago) for ago in range(STRIP_DAYS - 1, -1, -1)]
    rows: Iterable[HealthDay] = HealthDay.objects.filter(account=account, day__gte=days[0], day__lte=today)
    known = {row.day: Day(row.day, row.checks, row.failed, row.worst, row.cause) for row in rows}
    return [known.get(day, Day(day)) for day in days]
