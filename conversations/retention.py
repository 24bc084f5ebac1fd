"""How long jobs are kept: so many days after their end with every item and attempt, then they are deleted."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from .models import Attempt, Job, JobItem

CHUNK = 2000


def kept_until(job: Job) -> datetime | None:
    """Returns when an ended job will be deleted, None while it has not ended."""
    return job.finished_at + _length() if job.finished_at else None


def _length() -> timedelta:
    return timedelta(days=settings.JOBS_KEPT_DAYS)


def delete_old_jobs(now: datetime | None = None) -> int:
    """Deletes jobs whose time is over, with their items and attempts, and returns how many. What was done stays in the audit log.

    A job goes a part at a time, so that no lane waits long; one that a person let go on meanwhile stays.
    """
    before = (now or timezone.now()) - _length()
    count = 0
    for job_id in list(Job.objects.filter(finished_at__lt=before).order_by("pk").values_list("pk", flat=True)):
        while True:
            with transaction.atomic():
                job = Job.objects.select_for_update().filter(pk=job_id, finished_at__lt=before).first()
                if job is None:
                    break
                ids = list(job.items.order_by().values_list("pk", flat=True)[:CHUNK])
                if not ids:
                    job.delete()
                    count += 1
                    break
                Attempt.objects.filter(item__in=ids).delete()
                JobItem.objects.filter(pk__in=ids).delete()
    return count
