"""Which accounts of a job will need a new credential before the job is through, as far as the pace lets one tell.

When a credential ends it says itself, or that is an estimate from how long those before it lasted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from accounts.lifetimes import Forecast, forecast
from accounts.models import Account
from accounts.services import pace_of

REQUESTS_PER_CHANGE = 3  # read, write, read back


@dataclass(frozen=True, slots=True)
class Outlived:
    """An account whose credential ends before its part of a job: how long that takes, and how long is left (negative: it has ended)."""

    account: Account
    needs: timedelta
    left: timedelta
    ends: datetime
    estimate: Forecast | None = None  # where the credential does not say

    @property
    def ended(self) -> bool:
        """True when there is nothing left."""
        return self.left <= timedelta(0)


def needed(account: Account, changes: int) -> timedelta:
    """Returns how long so many changes take at least at the pace of an account."""
    return timedelta(seconds=changes * REQUESTS_PER_CHANGE / pace_of(account).rate)


def outlived(shares: Any, now: datetime | None = None) -> list[Outlived]:
    """Returns those of a preview's shares whose credential ends before they are through, the soonest first."""
    now, found = now or timezone.now(), []
    for share in shares:
        estimate = forecast(share.account)
        ends = estimate.ends if estimate else share.account.credential_expires_at
        if ends is not None and share.changes and now + (needs := needed(share.account, share.changes)) > ends:
            found.append(Outlived(share.account, needs, ends - now, ends, estimate))
    return sorted(found, key=lambda one: one.ends)
