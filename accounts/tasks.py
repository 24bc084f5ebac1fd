"""The Celery entries of accounts, each a thin one."""

from __future__ import annotations

from celery import shared_task

from . import checkups, health, request_log


@shared_task(name="accounts.prune_requests")
def prune_requests() -> None:
    """Deletes what the request log and the days of health have kept for long enough."""
    request_log.prune()
    health.prune()


@shared_task(name="accounts.check_due")
def check_due() -> None:
    """Hands accounts of which nothing was heard for a while to workers."""
    checkups.send_due()


@shared_task(name="accounts.check")
def check(account_id: str) -> None:
    """Asks one account who it is."""
    checkups.check(account_id)
