"""Asks accounts who they are when nothing else was heard of them for a while, each by a task of its own.

One small request with the account's ordinary pace and limits, so that no check gets anybody banned. Paused accounts, those without a credential
and those in a time of silence are left alone, and so is whatever a receiver of `account_check_due` objects to (a host that is out of order).
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from . import cooling, services, signals
from .models import Account, Health
from .providers.base import Patience, Provider
from .providers.errors import ProviderError

logger = logging.getLogger(__name__)

AT_ONCE = 20  # accounts per tick
TAKEN = timedelta(minutes=5)  # a check that was sent and never ran is sent again after this
PATIENCE = Patience(attempts=2, seconds=10.0)


def due(now: datetime | None = None) -> list[Account]:
    """Returns the accounts whose turn it is, those that waited longest first, never more than a tick may ask."""
    now = now or timezone.now()
    turn = Q(check_after__isnull=True) | Q(check_after__lte=now)
    rows = Account.objects.filter(turn, paused_at__isnull=True, owner__is_active=True).exclude(sealed_credentials="")
    return list(rows.order_by(F("check_after").asc(nulls_first=True), "pk")[:AT_ONCE])


def _held_back(accounts: list[Account]) -> set[Any]:
    """Returns the ids of those that nobody should ask just now."""
    silent = set(cooling.left(accounts))
    return silent | {account.pk for account in accounts if account.pk not in silent and _objected(account)}


def _objected(account: Account) -> bool:
    return any(answer for _receiver, answer in signals.account_check_due.send(sender=Account, account=account))


def take(account: Account, now: datetime | None = None) -> bool:
    """Takes one account's turn, so that no other process asks it too; False when somebody was faster or it has just been heard of."""
    until = (now or timezone.now()) + TAKEN
    same = Account.objects.filter(pk=account.pk, check_after=account.check_after, checked_at=account.checked_at)
    return bool(same.update(check_after=until))


def send_due(now: datetime | None = None) -> int:
    """Hands every account whose turn it is to a worker; returns how many. One that is held back loses its turn, so that others get theirs."""
    accounts, sent = due(now), 0
    held_back = _held_back(accounts)
    for account in accounts:
        if not take(account, now) or account.pk in held_back:
            continue
        try:
            current_app.send_task("accounts.check", args=[str(account.pk)], retry=False, expires=TAKEN.total_seconds())
        except (OperationalError, OSError) as error:
            logger.warning("accounts.check not sent: %s", type(error).__name__)
            break
        sent += 1
    return sent


async def _ask(provider: Provider) -> datetime | None:
    identity = await provider.check()
    return identity.expires_at or provider.expires_at()


def check(account_id: Any) -> bool | None:
    """Asks one account who it is and notes the answer; returns whether it works, None where it may not be asked now."""
    account = Account.objects.filter(pk=account_id, paused_at__isnull=True).exclude(sealed_credentials="").first()
    if account is None:
        return None
    was_refused = account.health == Health.NEEDS_REAUTH
    # When the last pause was over, not until when this turn is held.
    if account.check_after:
        account.check_after = min(account.check_after - TAKEN, timezone.now())
    try:
        ends = services.call(account, _ask, patience=PATIENCE, prompt=False)
    except ProviderError:
        return False
    same = Account.objects.filter(pk=account.pk, sealed_credentials=account.sealed_credentials)
    same.update(credential_expires_at=ends)
    if was_refused:
        signals.account_connected.send(sender=Account, account=account, replaced=True)
    return True
