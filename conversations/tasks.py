"""The Celery entries: each takes ids, loads, and calls the same function that a view or a command would call."""

from __future__ import annotations

import contextlib
import gc
import threading
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.utils import timezone

from accounts.models import Account, SyncState
from accounts.providers.errors import ProviderError

from . import breakers, checks, jobs, lanes, leases, mirror, retention, wake, workers

_stop = threading.Event()
SYNC_SLICE = 45.0


@worker_shutting_down.connect
def _note_shutdown(**_kwargs: Any) -> None:
    _stop.set()


def _settle_memory() -> None:
    """Lets the garbage collector pass over what is loaded by now and stays; a quarter of a busy lane's time would go into looking at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(3000, 10, 10)


@worker_ready.connect
def _take_over(**_kwargs: Any) -> None:
    """A new worker frees what dead processes of this host held and looks for work at once."""
    _stop.clear()
    _settle_memory()
    workers.beat_forever(_stop)
    leases.release_dead_processes()
    reap.delay()


@shared_task(name="conversations.run_lane")
def run_lane(account_id: str) -> None:
    """Works on one account's items for a slice of time."""
    if lanes.run_lane(account_id, stopping=_stop.is_set) and not _stop.is_set():
        wake.send("conversations.run_lane", account_id)


@shared_task(name="conversations.check_preview")
def check_preview(job_id: str, account_id: str) -> None:
    """Reads a preview's conversations of one account for a slice of time."""
    if checks.check_preview(int(job_id), account_id, stopping=_stop.is_set) and not _stop.is_set():
        wake.send("conversations.check_preview", job_id, account_id)


@shared_task(name="conversations.sync")
def sync(account_id: str) -> None:
    """Reads one account's listing for a slice of time."""
    account = Account.objects.filter(pk=account_id, sync_state=SyncState.QUEUED).first()
    if account is None:  # cancelled, paused or deleted meanwhile; or a second message for a reading that has begun
        return
    with contextlib.suppress(mirror.SyncBusy, mirror.SyncStopped, ProviderError):
        if mirror.sync(account, slice_seconds=SYNC_SLICE) is None:
            wake.send("conversations.sync", account_id)


@shared_task(name="conversations.sync_due")
def sync_due() -> None:
    """Asks for a reading of every account whose last one is old."""
    before = timezone.now() - timedelta(seconds=settings.SYNC_INTERVAL)
    for account in [*Account.objects.due_for_sync(before), *mirror.stuck()]:
        # Nothing but probes goes to a host that is out of order.
        if breakers.held(breakers.host_of(account)) is None and mirror.request_sync(account):
            wake.send("conversations.sync", account.pk)
    jobs.discard_old_drafts()


@shared_task(name="conversations.delete_old_jobs")
def delete_old_jobs() -> None:
    """Deletes jobs that ended longer ago than they are kept."""
    retention.delete_old_jobs()


@shared_task(name="conversations.reap")
def reap() -> None:
    """Hands back the work of dead runners and wakes lanes that have work and nobody working."""
    for account_id in leases.reap():
        # Asked for again in five seconds if need be: behind a long queue these must not pile up.
        wake.send("conversations.run_lane", account_id, expires=12)
