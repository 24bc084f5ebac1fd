"""Undo: a new job that writes back what a finished one replaced, conversation by conversation, with a preview and a record of its own.

What each item noted decides: the value from before the job is the target, the value that the job left there is expected. Both are frozen when
the draft is made and never taken from our copy, so whatever somebody changed since is seen as such and left alone. An undo is a job like any
other: it can be undone too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import EmptyResultSet, PermissionDenied, ValidationError
from django.db import connection
from django.db.models import F, QuerySet, Window
from django.db.models.functions import Coalesce, RowNumber
from django.utils.translation import gettext as _

from accounts.models import Account, User

from . import jobs
from .models import NOT_STARTED, Action, Job, JobItem
from .querysets import JobItemQuerySet
from .states import ItemStatus

MOST_NAMED = 10_000
_COPIED = "ordinal, account_id, conversation_id, remote_id, title, rank, expected, target"


def changed(job: Job) -> JobItemQuerySet:
    """Returns the items that a job really changed, as far as is known: those that can be undone."""
    items: JobItemQuerySet = JobItem.objects.filter(job=job, status=ItemStatus.APPLIED, before__isnull=False, after__isnull=False)
    return items


def undoable(job: Job) -> int:
    """Returns how many conversations an undo of this job would be about; 0 while it may still change some."""
    return job.n_applied if job.order not in NOT_STARTED and job.finished_at is not None else 0


def undo(user: User, job: Job, chosen: Iterable[int] | QuerySet[Any] | None = None, *, key: str = "") -> Job:
    """Returns the planned draft that undoes a finished or cancelled job: all that it changed, or the `chosen` items of it (ids, or a query).

    Of these the ones that the user may change. `key` is that of `jobs.create`. Raises PermissionDenied, and ValidationError while the job goes
    on or when nothing is left.
    """
    if not Job.objects.editable_by(user).filter(pk=job.pk).exists():
        raise PermissionDenied
    job.refresh_from_db()
    if job.order in NOT_STARTED or job.finished_at is None:
        raise ValidationError(_("Only a job that has ended can be undone."))
    items = changed(job).filter(account__in=Account.objects.editable_by(user))

    def make() -> Job:
        selection = {"undo_of": job.pk, "chosen": chosen is not None}
        draft = Job.objects.create(actor=user, action=Action.RESTORE, undo_of=job, selection=selection, key=key or None)
        count = 0
        for part in _parts(items, chosen):
            count += _insert_items(draft, part, count)
        nothing = _("There is nothing to undo: this job changed none of these conversations, or you may not change them.")
        return jobs.plan(jobs.filled(draft, count, nothing), {})

    return jobs.once(user, key, make)


def _parts(items: QuerySet[JobItem], chosen: Iterable[int] | QuerySet[Any] | None) -> Iterator[QuerySet[JobItem]]:
    """Yields the chosen items, ids in portions that a statement can name."""
    if chosen is None or isinstance(chosen, QuerySet):
        yield items if chosen is None else items.filter(pk__in=chosen)
        return
    ids = sorted(set(chosen))
    for start in range(0, len(ids), MOST_NAMED):
        yield items.filter(pk__in=ids[start : start + MOST_NAMED])


def _insert_items(draft: Job, items: QuerySet[JobItem], before: int) -> int:
    """Copies what is to be undone into items with one statement: what the old ones left is expected, what they found is the target."""
    rows = items.order_by().annotate(
        n=Window(RowNumber(), order_by=F("ordinal").asc()) + before,
        title_now=Coalesce(F("conversation__title"), F("title")),
        rank_now=Coalesce(F("conversation__rank"), F("rank")),
    )
    found = rows.values_list("n", "account_id", "conversation_id", "remote_id", "title_now", "rank_now", "after", "before")
    try:
        sql, params = found.query.sql_with_params()
    except EmptyResultSet:
        return 0
    table = connection.ops.quote_name(JobItem._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({_COPIED}, job_id, status, reason, detail, attempts, tries, lease) "
            f"SELECT chosen.*, %s, %s, '', '', 0, 0, '' FROM ({sql}) AS chosen",
            [draft.pk, ItemStatus.PENDING.value, *params],
        )
        return int(cursor.rowcount)
