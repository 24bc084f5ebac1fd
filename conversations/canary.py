"""The first few conversations of each account are tried before the rest of a job, which is stopped there when too many are not applied.

When a job with a canary starts, everything but these waits (`hold`). When they have ended, their account is judged (`judge`): the rest goes
on, or waits for a person, who lets it go on or cancels. Other accounts of the job are not concerned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet

from accounts.models import User

from . import wake
from .models import Job, JobItem
from .states import ItemStatus, transition_all

S = ItemStatus
HELD = ("canary", "canary_halted")  # reasons of items that wait for the first ones of their account
BAD = (S.NOT_APPLIED, S.FAILED, S.CONFLICT)
TRIED = (S.APPLIED, S.UNCHANGED, *BAD)


@dataclass(frozen=True, slots=True)
class Trial:
    """How the first conversations of one account went so far."""

    tried: int
    bad: int
    open: int  # of the first ones, not ended yet
    held: int  # the rest, which waits for them


def hold(job: Job) -> None:
    """Lets everything but the first conversations of each account wait; within the transaction that starts the job."""
    if not job.canary:
        return
    for account_id in job.items.filter(status=S.PENDING).order_by().values_list("account_id", flat=True).distinct():
        pending = job.items.filter(account_id=account_id, status=S.PENDING)
        # What has its value already says nothing about writes.
        first = list(_in_turn(pending.exclude(reason="already_there"))[: job.canary])
        if first:
            transition_all(pending.exclude(pk__in=first), S.PENDING, S.WAITING, reason="canary")


def _in_turn(items: QuerySet[JobItem]) -> QuerySet[JobItem, Any]:
    """Returns the ids of items in the order in which lanes take them."""
    return items.order_by("rank", "ordinal").values_list("pk", flat=True)


def trial(job: Job, account_id: Any) -> Trial:
    """Returns how the first conversations of an account went so far."""
    held = Q(status=S.WAITING, reason__in=HELD)
    counts = job.items.filter(account_id=account_id).aggregate(
        tried=Count("pk", filter=Q(status__in=TRIED)),
        bad=Count("pk", filter=Q(status__in=BAD)),
        open=Count("pk", filter=Q(status__in=[S.PENDING, S.RUNNING, S.WAITING]) & ~held),
        held=Count("pk", filter=held),
    )
    return Trial(**counts)


def judge(job: Job, account_id: Any) -> None:
    """Lets the rest of an account go on or stop once its first conversations have ended; called whenever items of it have ended.

    The lane calls it in the transaction that stores the results. Where first ones were skipped, others take their place.
    """
    if not job.canary or str(account_id) in job.canary_passed:
        return
    with transaction.atomic():
        job = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
        found, held = trial(job, account_id), _held(job, account_id)
        if found.open or not found.held:
            return
        if 100 * found.bad > job.canary_limit * found.tried:
            held.update(reason="canary_halted")
        elif missing := max(0, (job.canary or 0) - found.tried):
            more = list(_in_turn(held)[:missing])
            transition_all(job.items.filter(pk__in=more), S.WAITING, S.PENDING, not_before=None)
            wake.lane(account_id)
        else:
            _pass(job, account_id)


def go_on(user: User, job: Job, account_id: Any) -> int:
    """Lets the rest of an account go on whatever its first conversations say, and returns how many items that are."""
    if not Job.objects.editable_by(user).filter(pk=job.pk).exists():
        raise PermissionDenied
    with transaction.atomic():
        job = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
        return _pass(job, account_id) if _held(job, account_id).exists() else 0


def _held(job: Job, account_id: Any) -> QuerySet[JobItem]:
    return job.items.filter(account_id=account_id, status=S.WAITING, reason__in=HELD)


def _pass(job: Job, account_id: Any) -> int:
    Job.objects.filter(pk=job.pk).update(canary_passed=[*job.canary_passed, str(account_id)])
    count = transition_all(_held(job, account_id), S.WAITING, S.PENDING, not_before=None)
    wake.lane(account_id)
    return count
