"""Who works in a lane, and what becomes of items whose runner is gone.

A lease belongs to one run of one lane. Every function here that moves items first takes the lane's row, so that a runner and whoever
thinks it dead never both believe that they have it.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.models import Account

from . import attempts, bulk
from .jobs import sweep_cancelled
from .models import NOT_STARTED, JobItem, Lane, Order
from .states import ItemStatus, transition_all

S = ItemStatus
MAX_TRIES = 6  # runs of an item since a person last decided


class LeaseLost(Exception):
    """Another runner has this lane now; nothing of this one's may be stored any more."""


def host_name() -> str:
    """Returns the name of this host; of a long one the end, which tells the pods of one release apart."""
    return socket.gethostname()[-40:]


def new_holder() -> str:
    """Returns a lease name that tells host and process, so that a restarted worker can free what its dead self held."""
    return f"{host_name()}:{os.getpid()}:{secrets.token_hex(6)}"


def acquire(account_id: Any, holder: str) -> bool:
    """Takes the lane of an account when nobody holds it and its provider did not ask for silence; returns False otherwise."""
    if not Account.objects.filter(pk=account_id).exists():
        return False
    now = timezone.now()
    Lane.objects.get_or_create(account_id=account_id)
    free = Q(holder="") | Q(lease_until__lt=now) | Q(lease_until__isnull=True)
    heard = Q(blocked_until__isnull=True) | Q(blocked_until__lte=now)
    with transaction.atomic():
        lane = Lane.objects.filter(free, heard, account_id=account_id)
        taken = lane.update(holder=holder, lease_until=now + _length(), started_at=now, blocked_until=None)
        if taken:
            _hand_back(account_id)
    return bool(taken)


def renew(held: Sequence[tuple[Any, str]]) -> float:
    """Keeps lanes, each (account id, holder), for another length of the lease, from the moment (of `time.monotonic`) that is returned.

    Raises LeaseLost where one of them has another holder. Within a transaction, what is stored beside it is stored by its holder.
    """
    begun = time.monotonic()
    table, until = connection.ops.quote_name(Lane._meta.db_table), connection.ops.adapt_datetimefield_value(timezone.now() + _length())
    key = Lane._meta.pk.get_db_prep_value
    rows = [(until, key(account_id, connection), holder) for account_id, holder in sorted(held, key=lambda lane: str(lane[0]))]
    if bulk.execute(f"UPDATE {table} SET lease_until = %s WHERE account_id = %s AND holder = %s", rows) != len(rows):
        raise LeaseLost
    return begun


def release(account_id: Any, holder: str, *, blocked_until: datetime | None = None, reason: str = "") -> bool:
    """Gives a lane back with whatever its runner still had under way; returns False when somebody else has it."""
    with transaction.atomic():
        lane = Lane.objects.filter(account_id=account_id, holder=holder)
        if not lane.update(holder="", lease_until=None, blocked_until=blocked_until, blocked_reason=reason if blocked_until else ""):
            return False
        _hand_back(account_id)
    return True


def _length() -> timedelta:
    return timedelta(seconds=settings.LANE_LEASE)


def _hand_back(account_id: Any) -> None:
    """Hands back what a runner that is gone had under way; the lane's row is locked. Whatever may have been sent is looked at first."""
    items = JobItem.objects.filter(account_id=account_id)
    attempts.note_lost(items)
    again: dict[str, Any] = {"attempts": F("attempts") + 1, "tries": F("tries") + 1}
    unsent = items.filter(before__isnull=True)
    # What its worker died of time and again is not tried for ever: it may be what kills them.
    over = {"tries__gte": MAX_TRIES - 1}
    transition_all(unsent.filter(**over), S.RUNNING, S.FAILED, reason="worker_lost", finished_at=timezone.now(), **again)
    transition_all(items.filter(**over), S.RUNNING, S.FAILED, reason="outcome_unknown", finished_at=timezone.now(), **again)
    transition_all(unsent, S.RUNNING, S.PENDING, reason="not_sent", **again)
    transition_all(items, S.RUNNING, S.PENDING, reason="interrupted", **again)


def _free_if(lane: QuerySet[Lane]) -> bool:
    """Frees the one lane of the set, with its items, unless it has left the set meanwhile."""
    with transaction.atomic():
        account_id = lane.select_for_update(no_key=True).values_list("pk", flat=True).first()
        if account_id is None:
            return False
        Lane.objects.filter(pk=account_id).update(holder="", lease_until=None)
        _hand_back(account_id)
    return True


def reap() -> list[Any]:
    """Hands back the items of runners that died and returns the accounts whose lanes have work but no runner.

    A lane whose lease ran out is freed together with its items, in one transaction; a runner that comes back later finds its lease gone
    and stores nothing.
    """
    now = timezone.now()
    for lane in Lane.objects.exclude(holder="").filter(lease_until__lt=now):
        _free_if(Lane.objects.filter(pk=lane.pk, holder=lane.holder, lease_until__lt=now))
    # Whoever leaves a lane hands back first. Should that ever fail, no item is left running where nobody runs.
    left = JobItem.objects.filter(status=S.RUNNING).filter(Q(account__lane__isnull=True) | Q(account__lane__holder=""))
    for account_id in set(left.order_by().values_list("account_id", flat=True)):
        Lane.objects.get_or_create(account_id=account_id)
        _free_if(Lane.objects.filter(pk=account_id, holder=""))
    sweep_cancelled()
    idle = Q(account__lane__isnull=True) | Q(account__lane__holder="")
    return list(_work(now).filter(idle).order_by().values_list("account_id", flat=True).distinct())


def _work(now: datetime) -> QuerySet[JobItem]:
    """Returns the items that could be started now."""
    heard = Q(account__lane__isnull=True) | Q(account__lane__blocked_until__isnull=True) | Q(account__lane__blocked_until__lte=now)
    return JobItem.objects.ready(now).filter(heard, account__paused_at__isnull=True)


def has_work(account_id: Any) -> bool:
    """True when an item of this account could be started now."""
    return _work(timezone.now()).filter(account_id=account_id).exists()


def release_dead_processes() -> int:
    """Frees leases of processes of this host that no longer exist (at worker start); returns how many lanes were freed."""
    freed = 0
    for lane in Lane.objects.filter(holder__startswith=f"{host_name()}:"):
        host, _colon, rest = lane.holder.rpartition(":")[0].rpartition(":")
        if host == host_name() and rest.isdigit() and not _alive(int(rest)):
            freed += _free_if(Lane.objects.filter(pk=lane.pk, holder=lane.holder))
    return freed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def fence(account_id: Any) -> None:
    """Keeps runners and readings of an account from storing anything more, within the transaction that deletes the account."""
    Lane.objects.filter(account_id=account_id).update(holder="", lease_until=None)
    list(Account.objects.select_for_update().filter(pk=account_id).values_list("pk"))  # those that store something for it wait, and find it gone


def park(account: Account, reason: str) -> int:
    """Lets every pending item of an account's started jobs wait; returns how many."""
    items = JobItem.objects.filter(account=account).exclude(job__order__in=NOT_STARTED)
    return transition_all(items, S.PENDING, S.WAITING, reason=reason)


def unpark(account: Account, reason: str) -> int:
    """Takes items of an account that wait for this reason up again in the same jobs; returns how many."""
    items = JobItem.objects.filter(account=account, reason=reason, job__order__in=[Order.RUN, Order.PAUSE])
    return transition_all(items, S.WAITING, S.PENDING, not_before=None)
