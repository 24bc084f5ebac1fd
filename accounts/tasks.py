"""The Celery entries of accounts, each a thin one."""

from __future__ import annotations

from celery import shared_task

from . import request_log


@shared_task(name="accounts.prune_requests")
def prune_requests() -> None:
    """Deletes what the request log has kept for long enough."""
    request_log.prune()
