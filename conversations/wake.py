"""Wakes the workers. A message is only a wake-up: the database is the queue, so one that is lost costs a few seconds and nothing else."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


def send(task: str, *arguments: Any, expires: float | None = None) -> bool:
    """Sends one message with ids only, now; returns False (and leaves it to the reaper) when the broker cannot be reached.

    A message that nobody took within `expires` seconds is dropped.
    """
    try:
        current_app.send_task(task, args=[str(argument) for argument in arguments], retry=False, expires=expires)
    except (OperationalError, OSError) as error:
        logger.warning("%s not sent: %s", task, type(error).__name__)
        return False
    return True


def after_commit(task: str, *arguments: Any) -> None:
    """Sends one message when the transaction around it has been stored."""
    transaction.on_commit(partial(send, task, *arguments))


def lane(account_id: Any) -> None:
    """Wakes the lane of an account after commit."""
    after_commit("conversations.run_lane", account_id)


def sync(account_id: Any) -> None:
    """Wakes a worker to read an account after commit."""
    after_commit("conversations.sync", account_id)


def check(job_id: int, account_id: Any) -> None:
    """Wakes a worker to read what a preview holds of an account."""
    after_commit("conversations.check_preview", job_id, account_id)
