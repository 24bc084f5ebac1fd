"""Reads what a preview holds at the providers, so that its rows say "checked 10:41" instead of "copy of 09:12". Never writes there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from accounts import services
from accounts.models import Account
from accounts.providers.base import Provider
from accounts.providers.errors import MalformedAnswer, NotFound, PermissionRefused, ProviderError, RequestRejected
from accounts.providers.records import Ref, RemoteConversation
from accounts.request_log import about

from . import jobs, mirror, titles
from .models import Action, Conversation, Job, JobItem, Order

logger = logging.getLogger(__name__)

SLICE = 45.0
BATCH = 30


def check_preview(job_id: int, account_id: Any, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Reads a draft's items of one account until all are checked, the slice ends or the draft is gone; returns True when some are left."""
    job = Job.objects.filter(pk=job_id, order=Order.DRAFT, planned_at__isnull=False).first()
    account = Account.objects.filter(pk=account_id, paused_at__isnull=True).first()
    if job is None or account is None:
        return False
    begun = time.monotonic()
    refused: set[int] = set()  # items about which the provider tells nothing: they keep the age of our copy
    try:
        with about(f"check:{job_id}"), services.line(account) as line:
            while True:
                left = job.items.unchecked().filter(account=account).exclude(pk__in=refused)
                items = list(left.select_related("conversation").order_by("ordinal")[:BATCH])
                still_draft = Job.objects.filter(pk=job_id, order=Order.DRAFT, planned_at=job.planned_at).exists()
                if not items or not still_draft:
                    return False
                if stopping() or time.monotonic() - begun > SLICE:
                    return True
                asked = timezone.now()
                found, first = line.run(lambda provider, items=items: _read(provider, job, items))  # type: ignore[misc]
                refused.update(item.pk for item in items if item.pk not in found)
                mirror.upsert(account, [remote for remote in found.values() if remote is not None], as_of=asked)
                _note_first_messages(items, first)
                jobs.recheck(job, account, found, first)
    except ProviderError:
        return False  # noted on the account; the rows go on saying how old our copy is


async def _read(provider: Provider, job: Job, items: list[JobItem]) -> tuple[dict[int, RemoteConversation | None], dict[int, str]]:
    found: dict[int, RemoteConversation | None] = {}
    first: dict[int, str] = {}
    wanted = job.action == Action.SET_TITLE and titles.needs_first_message(job.params)
    gate = asyncio.Semaphore(provider.account_pace.concurrency)

    async def read(item: JobItem) -> None:
        ref = Ref(item.remote_id, item.title, item.rank)
        async with gate:
            try:
                remote = await provider.read(ref)
                known = item.conversation.first_message if item.conversation else None
                if wanted and known is None:
                    first[item.pk] = (remote.first_message if remote.first_message is not None else await provider.first_message(ref)) or ""
                found[item.pk] = remote
            except NotFound:
                found[item.pk] = None
            except (RequestRejected, PermissionRefused, MalformedAnswer) as error:
                logger.info("item %s not checked: %s", item, error.kind)  # about this conversation; the others are read all the same

    # All of them end before an error is raised: none goes on behind the back of a closed connection.
    ended = await asyncio.gather(*(read(item) for item in items), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error
    return found, first


def _note_first_messages(items: list[JobItem], first: dict[int, str]) -> None:
    for item in items:
        if item.pk in first and item.conversation is not None:
            item.conversation.first_message = mirror.storable(first[item.pk][: mirror.FIRST_MESSAGE_LENGTH])
            Conversation.objects.filter(pk=item.conversation.pk).update(first_message=item.conversation.first_message)
