"""The life of an item: one table of moves, and the only functions that write a status.

Every move changes the item's row and its job's counters in one transaction, so the counters are exact at any moment and a
progress page reads one row. Whoever moves items locks their jobs first, in one order, so that lanes and people never wait for each other in
a circle. `docs/architecture.md` draws the same table; a test compares the two.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connection, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import bulk

if TYPE_CHECKING:
    from .models import Job, JobItem


class ItemStatus(models.TextChoices):
    """Where one conversation of a job stands."""

    PENDING = "pending", _("Pending")
    RUNNING = "running", _("Running")
    WAITING = "waiting", _("Waiting")
    APPLIED = "applied", _("Applied")
    UNCHANGED = "unchanged", _("No change")
    NOT_APPLIED = "not_applied", _("Accepted, not applied")
    FAILED = "failed", _("Failed")
    SKIPPED = "skipped", _("Skipped")
    CONFLICT = "conflict", _("Changed meanwhile")
    CANCELLED = "cancelled", _("Not started")


S = ItemStatus

# What the machine may do by itself.
MOVES: dict[ItemStatus, frozenset[ItemStatus]] = {
    S.PENDING: frozenset({S.RUNNING, S.WAITING, S.CANCELLED, S.SKIPPED}),
    S.RUNNING: frozenset({S.APPLIED, S.UNCHANGED, S.NOT_APPLIED, S.FAILED, S.SKIPPED, S.CONFLICT, S.PENDING, S.WAITING}),
    S.WAITING: frozenset({S.PENDING, S.CANCELLED, S.SKIPPED, S.FAILED}),
}
# What only a person's decision may do.
DECISIONS: dict[ItemStatus, frozenset[ItemStatus]] = {
    S.FAILED: frozenset({S.PENDING}),
    S.NOT_APPLIED: frozenset({S.PENDING}),
    S.CONFLICT: frozenset({S.PENDING, S.SKIPPED}),
}
OPEN = frozenset({S.PENDING, S.RUNNING, S.WAITING})
ENDED = frozenset(set(S) - OPEN)


class IllegalMove(Exception):
    """A move that the table does not know was asked for; nothing was written."""


def check_move(old: ItemStatus, new: ItemStatus, *, decided: bool = False) -> None:
    """Raises IllegalMove unless the table allows the move; `decided` admits a person's decisions too."""
    if new in MOVES.get(old, ()) or (decided and new in DECISIONS.get(old, ())):
        return
    raise IllegalMove(f"{old} -> {new}")


# Reasons: stable codes beside the status, with the sentence shown. Kinds of provider errors are reasons as well (errors.py).
REASONS: dict[str, Any] = {
    "": "",
    "already_there": _("It already has this value."),
    "unsupported": _("The provider has no such operation."),
    "gone": _("The provider does not know this conversation any more."),
    "duplicate": _("The same conversation is in this job through another account."),
    "changed_since_preview": _("It was changed at the provider after the preview; nothing was written."),
    "changed_by_write": _("The provider stored a third value."),
    "accepted_not_applied": _("The provider accepted the change but still shows the old value."),
    "altered_by_provider": _("The provider stored the value in its own form."),
    "checked_after_no_answer": _("The answer was lost; a second look showed that the change is there."),
    "rate_limited": _("The provider asks for fewer requests."),
    "unavailable": _("The provider cannot be reached or is out of order."),
    "kept": _("The provider's value was kept."),
    "permission": _("The credential may not do this."),
    "rejected": _("The provider refused the change."),
    "malformed_answer": _("The provider's answer cannot be read."),
    "address_refused": _("This server may not connect to that address."),
    "credentials_rejected": _("The provider does not accept the credential."),
    "outcome_unknown": _("The change was sent, no answer came, and a second look was not possible."),
    "account_needs_reauth": _("Waiting for a new credential."),
    "account_paused": _("Waiting: the account is paused."),
    "paused": _("The account is paused; nothing was sent."),
    "access_removed": _("The person who started this may no longer change it."),
    "no_target": _("No target was chosen for its account."),
    "no_such_setting": _("It has no such setting at its provider."),
    "cannot_be_restored": _("The provider cannot store the value from before again."),
    "changed_since_job": _("It was changed after the job that is to be undone, so it is left alone until you decide."),
    "changed_since_listed": _("It was changed at the provider since our last reading; the preview shows the new value."),
    "no_first_message": _("It has no first message to make a title from."),
    "empty_title": _("The title would be empty."),
    "hand_made": _("A person chose its title; it is left alone."),
    "not_listed": _("It is not in the uploaded list."),
    "pattern_too_slow": _("The pattern takes too long for this title."),
    "needs_first_message": _("Waiting for the first message."),
    "not_sent": _("The change had not been sent yet when it was interrupted."),
    "interrupted": _("It was interrupted after the change may have been sent; a look will tell."),
    "worker_lost": _("Its worker died each time that it was tried; nothing had been sent."),
    "not_there": _("Cancelled after it had begun; a look showed that the change is not there."),
    "busy": _("Another change of ours to the same conversation is under way."),
    "left_out": _("It was left out in the preview."),
    "canary": _("Waiting for the first conversations of this account."),
    "canary_halted": _("Stopped: too many of the first conversations of this account were not applied."),
    "provider_error": _("The provider answered with an error."),
    "internal": _("Something went wrong in Switchboard; the log has the details."),
}


@dataclass(slots=True)
class Move:
    """One item's step; `values` are further columns of the item to set with it. With `lease` only its holder makes it."""

    item_id: int
    job_id: int
    old: ItemStatus
    new: ItemStatus
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    lease: str | None = None


_JSON_COLUMNS = frozenset({"expected", "target", "before", "after"})
_TIMES = ("not_before", "started_at", "finished_at", "checked_at")
_COLUMNS = (*sorted(_JSON_COLUMNS), "detail", "http_status", "attempts", "tries", *_TIMES)


def transition(moves: Sequence[Move], *, take: str = "", decided: bool = False) -> int:
    """Writes the moves and the counters of their jobs in one transaction and returns how many rows moved.

    Each UPDATE names the old status (and the lease, when given), so a move that somebody else overtook writes nothing and counts
    nothing. `take` is the lease that items moving to running get. Raises IllegalMove before anything is written.
    """
    for move in moves:
        check_move(move.old, move.new, decided=decided)
    if not moves:
        return 0
    deltas: dict[int, Counter[str]] = {}
    moved = 0
    with transaction.atomic(savepoint=False):
        _lock(move.job_id for move in moves)
        for (columns, leased), group in _alike(moves).items():
            moved += _update(columns, leased, group, take, deltas)
        _count(deltas)
    return moved


def remember(rows: Sequence[tuple[int, dict[str, Any] | None, dict[str, Any], str]], *, first: bool) -> int:
    """Stores (item id, target, value before) of running items under their lease, the fourth, and returns how many rows took it.

    What is stored as the value before stays: where it is there already (`first` is False) only the target is stored.
    """
    from .models import JobItem

    table = connection.ops.quote_name(JobItem._meta.db_table)
    column = connection.ops.quote_name("before")
    known, sets = ("IS NULL", f", {column} = %s") if first else ("IS NOT NULL", "")
    values = [(_adapt("target", target), *([_adapt("before", before)] if first else []), item_id, lease) for item_id, target, before, lease in rows]
    return bulk.execute(f"UPDATE {table} SET target = %s{sets} WHERE id = %s AND lease = %s AND {column} {known}", values)


def _lock(job_ids: Iterable[int]) -> None:
    """Locks job rows in one order; where a transaction that writes is alone anyway (SQLite) there is nothing to do."""
    from .models import Job

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # as plain SQL, because every claim and every flush of every lane comes by here
            table = connection.ops.quote_name(Job._meta.db_table)
            cursor.execute(f"SELECT id FROM {table} WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", [list(set(job_ids))])


def _alike(moves: Iterable[Move]) -> dict[tuple[tuple[str, ...], bool], list[Move]]:
    """Groups moves that one SQL text serves: by the columns that they set, and whether they name a lease."""
    groups: dict[tuple[tuple[str, ...], bool], list[Move]] = {}
    for move in moves:
        unknown = set(move.values) - set(_COLUMNS)
        if unknown:
            raise ValueError(f"unknown columns {sorted(unknown)}")
        columns = tuple(name for name in _COLUMNS if name in move.values)
        groups.setdefault((columns, move.lease is not None), []).append(move)
    return groups


def _update(columns: tuple[str, ...], leased: bool, group: list[Move], take: str, deltas: dict[int, Counter[str]]) -> int:
    from .models import JobItem

    table = connection.ops.quote_name(JobItem._meta.db_table)
    sets = "".join(f", {connection.ops.quote_name(name)} = %s" for name in columns)
    sql = f"UPDATE {table} SET status = %s, reason = %s, lease = %s{sets} WHERE id = %s AND status = %s"
    if leased:
        sql += " AND lease = %s"
    rows = []
    for move in group:
        values = [_adapt(name, move.values[name]) for name in columns]
        kept = take if move.new == S.RUNNING else ""
        rows.append((move.new.value, move.reason, kept, *values, move.item_id, move.old.value, *([move.lease] if leased else [])))
    with connection.cursor() as cursor:
        # The total says whether all of them moved; only where not, find out one by one (rare: a lost lease).
        with transaction.atomic():
            complete = bulk.execute(sql, rows) == len(rows)
            if not complete:
                transaction.set_rollback(True)
        moved = 0
        for move, row in zip(group, rows, strict=True):
            if not complete:
                cursor.execute(sql, row)
                if cursor.rowcount != 1:
                    continue
            moved += 1
            counter = deltas.setdefault(move.job_id, Counter())
            counter[_counter(move.old, "")] -= 1
            counter[_counter(move.new, move.reason)] += 1
    return moved


def _adapt(name: str, value: Any) -> Any:
    if name in _JSON_COLUMNS:
        return None if value is None else json.dumps(value, ensure_ascii=False)
    return connection.ops.adapt_datetimefield_value(value) if name in _TIMES else value


def _counter(status: ItemStatus, reason: str) -> str:
    return "unknown" if status == S.FAILED and reason == "outcome_unknown" else status.value


def counter_of(status: ItemStatus, reason: str) -> str:
    """Returns the name of the job counter an item with this status and reason is counted under."""
    return _counter(status, reason)


def _count(deltas: dict[int, Counter[str]]) -> None:
    from .models import OPEN_COUNTERS, Job

    table = connection.ops.quote_name(Job._meta.db_table)
    for job_id in sorted(deltas):
        changes = {name: delta for name, delta in deltas[job_id].items() if delta}
        if not changes:
            continue
        sets = ", ".join(f"n_{name} = n_{name} + %s" for name in changes)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET {sets} WHERE id = %s", [*changes.values(), job_id])
        if sum(changes.get(name, 0) for name in OPEN_COUNTERS):  # otherwise as many are open as before
            finish_if_done(job_id)


def finish_if_done(job_id: int) -> None:
    """Notes the end of a job when its last open item has ended, and takes the note back when a decision reopened one."""
    from .models import NOT_STARTED, OPEN_COUNTERS, Job

    table, order = connection.ops.quote_name(Job._meta.db_table), connection.ops.quote_name("order")
    is_open = " + ".join(f"n_{name}" for name in OPEN_COUNTERS)
    # As plain SQL, because every flush of every lane comes by here.
    ended = f"CASE WHEN {is_open} > 0 THEN NULL ELSE COALESCE(finished_at, %s) END"
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET finished_at = {ended} WHERE id = %s AND {order} NOT IN (%s, %s) AND (finished_at IS NULL) = ({is_open} = 0)",
            [now, job_id, *(order.value for order in NOT_STARTED)],
        )


def transition_all(
    items: models.QuerySet[JobItem], old: ItemStatus, new: ItemStatus, *, reason: str = "", decided: bool = False, **values: Any
) -> int:
    """Moves every item of the set that stands at `old` with one UPDATE per job and returns how many moved."""
    from .models import JobItem

    check_move(old, new, decided=decided)
    moved = 0
    found = items.filter(status=old).order_by()
    jobs = sorted(found.values_list("job_id", flat=True).distinct())
    if not jobs:
        return 0
    with transaction.atomic():
        _lock(jobs)
        pairs = [(job, code) for job in jobs for code in (("outcome_unknown", "") if old == S.FAILED else ("",))]
        deltas: dict[int, Counter[str]] = {}
        ids = found.values("pk")
        for job_id, old_reason in pairs:
            rows = JobItem.objects.filter(pk__in=ids, job_id=job_id, status=old)
            if old == S.FAILED:
                rows = rows.filter(reason="outcome_unknown") if old_reason else rows.exclude(reason="outcome_unknown")
            count = rows.update(status=new, reason=reason, lease="", **values)
            counter = deltas.setdefault(job_id, Counter())
            counter[_counter(old, old_reason)] -= count
            counter[_counter(new, reason)] += count
            moved += count
        _count(deltas)
    return moved


def recount(job: Job) -> None:
    """Sets a job's counters from its rows; for a job whose items were just planned, under no lane."""
    from .models import COUNTERS, JobItem

    counts = dict.fromkeys(COUNTERS, 0)
    for status, reason_unknown, count in (
        JobItem.objects.filter(job=job)
        .order_by()
        .values_list("status", models.Case(models.When(reason="outcome_unknown", then=1), default=0))
        .annotate(count=models.Count("pk"))
    ):
        counts[_counter(ItemStatus(status), "outcome_unknown" if reason_unknown else "")] += count
    fields = {f"n_{name}": count for name, count in counts.items()}
    type(job).objects.filter(pk=job.pk).update(**fields)
    for name, count in fields.items():
        setattr(job, name, count)
