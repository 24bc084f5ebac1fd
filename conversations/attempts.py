"""Each run of an item as a row of its own: when it was, by whom, and how it ended, beside the status that the item has in the end.

The number of a run is that of `JobItem.attempts` once it is counted; the requests of a run are in the request log under its `item_subject`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Min, QuerySet
from django.utils import timezone

from accounts.models import RequestLog
from accounts.request_log import clean, item_subject

from . import bulk
from .models import Attempt, JobItem
from .states import ItemStatus, Move

LOST = frozenset({"not_sent", "interrupted"})  # reasons of a run that ended because its runner did


def of_move(move: Move, begun_at: datetime) -> Attempt:
    """Returns the unsaved row of a run that began at `begun_at` and ended with this move."""
    values = move.values
    detail = values.get("detail", "")
    return Attempt(
        item_id=move.item_id,
        number=values["attempts"],
        started_at=begun_at,
        ended_at=values.get("finished_at") or timezone.now(),
        status=move.new.value,
        reason=move.reason,
        detail=clean(detail)[:400] if detail else "",
        http_status=values.get("http_status"),
        lease=move.lease or "",
    )


def store(runs: Iterable[tuple[Move, datetime | None]]) -> None:
    """Stores the runs that ended with these moves, within the caller's transaction; those that never began (None) left no run."""
    bulk.insert([of_move(move, begun_at) for move, begun_at in runs if begun_at is not None])


def note_lost(items: QuerySet[JobItem]) -> None:
    """Stores a run for each running item of the set, whose runner is gone; call it before they are handed back, in the same transaction.

    When such a run began nobody knows any more, except by its first request that was recorded.
    """
    lost = list(items.filter(status=ItemStatus.RUNNING).only("pk", "attempts", "before", "lease", "started_at"))
    if not lost:
        return
    subjects = {item_subject(item.pk, item.attempts + 1): item.pk for item in lost}
    first = RequestLog.objects.filter(subject__in=subjects).order_by().values_list("subject").annotate(at=Min("at"))
    begun = {subjects[subject]: at for subject, at in first}
    now = timezone.now()
    Attempt.objects.bulk_create(
        Attempt(
            item_id=item.pk,
            number=item.attempts + 1,
            started_at=begun.get(item.pk) or (not item.attempts and item.started_at) or now,
            ended_at=now,
            status=ItemStatus.PENDING,
            reason="not_sent" if item.before is None else "interrupted",
            lease=item.lease,
        )
        for item in lost
    )
