"""What a reader sees of a job that is partly at accounts they may not see: only the items of the others, and numbers that fit these."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Count, Exists, OuterRef, Value, When

from accounts.models import Account, User

from . import wake
from .models import COUNTERS, NOT_STARTED, Job, JobItem
from .states import ItemStatus, counter_of, transition_all


def cut(job: Job, user: Any) -> Job:
    """Returns the job as this reader may see it: `job.shown` without the items of hidden accounts, the counters recounted (and never stored)."""
    items = JobItem.objects.filter(account=OuterRef("pk"), status__in=ItemStatus.values, job=job)  # every status: so the lanes' index serves it
    hidden = Account.objects.exclude(pk__in=Account.objects.visible_to(user).values("pk")).filter(Exists(items))
    job.hidden = tuple(hidden.values_list("pk", flat=True))
    if job.hidden:
        counts = dict.fromkeys(COUNTERS, 0)
        unknown = Case(When(reason="outcome_unknown", then=Value("outcome_unknown")), default=Value(""))
        for status, reason, count in job.shown.order_by().values_list("status", unknown).annotate(count=Count("pk")):
            counts[counter_of(ItemStatus(status), reason)] += count
        for name, count in counts.items():
            setattr(job, f"n_{name}", count)
    return job


def withdraw(account_ids: list[Any]) -> int:
    """Ends the open items of these accounts in jobs of people who may not change them any more; returns how many.

    What a runner has in hand it ends by itself, and so it does with what may have been sent: that needs a look first.
    """
    ended = 0
    for account in Account.objects.filter(pk__in=account_ids):
        items = JobItem.objects.filter(account=account).exclude(job__order__in=NOT_STARTED)
        open_jobs = Job.objects.filter(finished_at__isnull=True).exclude(order__in=NOT_STARTED)
        actors = User.objects.filter(pk__in=open_jobs.order_by().values("actor")).filter(jobs__items__account=account).distinct()
        lost = [actor.pk for actor in actors if not Account.objects.editable_by(actor).filter(pk=account.pk).exists()]
        if not lost:
            continue
        theirs = items.filter(job__in=open_jobs.filter(actor__in=lost).order_by().values("pk"))
        for status in (ItemStatus.PENDING, ItemStatus.WAITING):
            ended += transition_all(theirs.filter(before__isnull=True), status, ItemStatus.SKIPPED, reason="access_removed")
        transition_all(theirs, ItemStatus.WAITING, ItemStatus.FAILED, reason="outcome_unknown")  # its account is parked: nobody can look
        wake.lane(account.pk)
    return ended
