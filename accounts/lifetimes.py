"""How long an account's credentials really last: noted when the provider refuses one, and what that lets one expect of the present one.

What a credential says of its own end counts more. All else is an estimate: it is shown as one, and nothing is ever refused because of it.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.timesince import timesince

from .models import Account, Health
from .providers.errors import CredentialsRejected, ProviderError

KEPT = 5
ENOUGH = 2  # one that ended may have been an accident
SHORTEST = 60.0  # seconds; what is refused sooner never worked


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the present credential will end if it lasts as long as those before it usually did, and how many of them were seen."""

    ends: datetime
    usual: timedelta
    seen: int

    @property
    def usual_words(self) -> str:
        """Returns how long they usually last, roughly: "6 hours"."""
        now = timezone.now()
        return timesince(now - self.usual, now, depth=1)

    @property
    def passed(self) -> bool:
        """True when the present one has already lasted longer than usual."""
        return self.ends <= timezone.now()


def forecast(account: Account) -> Forecast | None:
    """Returns the estimate for an account's present credential; None where it says itself, is refused already, or too little is known."""
    told = account.credential_expires_at is not None or account.health == Health.NEEDS_REAUTH
    if told or account.credential_since is None or len(account.lifetimes) < ENOUGH:
        return None
    usual = timedelta(seconds=statistics.median(account.lifetimes))
    return Forecast(account.credential_since + usual, usual, len(account.lifetimes))


def with_end(account: Account, error: ProviderError, now: datetime) -> list[int] | None:
    """Returns the lifetimes with that of the present credential when an error is the provider's first refusal of it, else None.

    Without a status it is not the provider that refused, but we who could not open the seal.
    """
    if not isinstance(error, CredentialsRejected) or error.status is None:
        return None
    fresh = Account.objects.filter(pk=account.pk, sealed_credentials=account.sealed_credentials, credential_since__isnull=False)
    row = fresh.exclude(health=Health.NEEDS_REAUTH).only("credential_since", "lifetimes").first()
    if row is None or row.credential_since is None:
        return None
    lasted = (now - row.credential_since).total_seconds()
    return [*row.lifetimes, int(lasted)][-KEPT:] if lasted > SHORTEST else None


def without_end(account: Account) -> list[int] | None:
    """Returns the lifetimes without the last one when that was the present credential's, which works again; None when it was not."""
    since, heard = account.credential_since, account.checked_at
    if account.health != Health.NEEDS_REAUTH or not account.lifetimes or since is None or heard is None:
        return None
    return account.lifetimes[:-1] if since + timedelta(seconds=account.lifetimes[-1]) <= heard else None
