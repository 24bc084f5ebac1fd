"""How far a started job has come. What its preview left out was never going to be run, so it counts neither as done nor as still to do."""

from __future__ import annotations

import redis
from django.core.cache import cache
from django.db.models import Q

from .models import NOT_STARTED, Job
from .states import ItemStatus

LEFT_OUT = Q(status=ItemStatus.SKIPPED, started_at__isnull=True)
KEPT = 3600


def left_out(job: Job) -> int:
    """Returns how many items of a started job were skipped before they were ever run; asked again only when more are skipped."""
    if not job.n_skipped or job.order in NOT_STARTED:
        return 0
    key = f"job-left-out:{job.pk}:{job.n_skipped}"
    if job.hidden:
        return job.shown.filter(LEFT_OUT).count()
    try:
        found = cache.get(key)
        if found is None:
            found = job.items.filter(LEFT_OUT).count()
            cache.set(key, found, KEPT)
    except redis.RedisError:
        found = job.items.filter(LEFT_OUT).count()
    return found


def done_of(job: Job) -> tuple[int, int]:
    """Returns how many items have ended, and of how many."""
    total = job.total - left_out(job)
    return max(0, total - job.open), total


def percent(job: Job) -> int:
    """Returns how much of the job is done; a job in which nothing was to be done is done."""
    done, total = done_of(job)
    return 100 * done // total if total else 100
