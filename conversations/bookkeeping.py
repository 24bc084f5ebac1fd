"""What lanes write down, of all lanes of a process together: values before, and results with everything that follows from them.

Whatever is stored is stored together with renewals of the leases, so that a runner that has lost its lane stores nothing. When something of
one lane cannot be stored, the lanes are written down one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from accounts.models import Account

from . import attempts, bulk, canary, edits, leases, mirror
from .edits import Outcome
from .leases import LeaseLost
from .models import AuditEntry, Job, Order
from .states import Move, remember, transition

if TYPE_CHECKING:
    from .engine import Before
    from .lanes import LaneRunner, Work


@dataclass(slots=True)
class Result:
    """How one run of an item ended."""

    work: Work
    move: Move
    outcome: Outcome | None = None
    down: bool = False  # its host is out of order: where the breaker opens, this run counts as no try


Batch = Sequence[tuple["LaneRunner", list[Result]]]


def store(befores: list[Before]) -> set[LaneRunner]:
    """Stores values before, each only once and only while its item is its runner's, and returns the runners that have lost their lease.

    For these nothing is stored.
    """
    try:
        _store(befores)
    except LeaseLost:
        return {runner for runner in {entry.runner for entry in befores} if not _can_store(runner, befores)}
    return set()


def _can_store(runner: LaneRunner, befores: list[Before]) -> bool:
    try:
        _store([entry for entry in befores if entry.runner is runner])
    except LeaseLost:
        return False
    return True


def _store(befores: list[Before]) -> None:
    runners = {entry.runner for entry in befores}
    with transaction.atomic():
        # Before anything else, and though the items name the lease too: whoever takes the lane away waits here, or we for them.
        renewed = leases.renew([(runner.account.pk, runner.holder) for runner in runners])
        for first in (True, False):
            rows = [(entry.item_id, entry.target, entry.values, entry.runner.holder) for entry in befores if entry.first is first]
            if remember(rows, first=first) != len(rows):
                raise LeaseLost
    for runner in runners:
        runner.renewed = renewed


def flush(batch: Batch) -> dict[LaneRunner, Exception]:
    """Writes down the results of runners and returns those with which that failed, and why; of these nothing is written."""
    failed: dict[LaneRunner, Exception] = {}

    def attempt(step: Callable[[LaneRunner, list[Result]], None], among: Batch) -> None:
        for runner, results in among:
            if runner not in failed:
                try:
                    step(runner, results)
                except Exception as error:
                    failed[runner] = error

    attempt(lambda runner, results: runner.heed_host(results), batch)
    late = time.monotonic() - settings.LANE_LEASE / 3
    due = [(runner, results) for runner, results in batch if runner not in failed and (results or runner.renewed < late)]
    try:
        _write(due)
    except Exception:
        attempt(lambda runner, results: _write([(runner, results)]), due)
    attempt(lambda runner, results: runner.after_flush(results), batch)
    return failed


def _write(batch: Batch) -> None:
    if not batch:
        return
    with ExitStack() as stack:
        requests = [row for runner, _results in batch for row in stack.enter_context(runner.requests.draining())]
        stack.enter_context(transaction.atomic())
        renewed = leases.renew([(runner.account.pk, runner.holder) for runner, _results in batch])
        bulk.insert(requests)
        every = [result for _runner, results in batch for result in results]
        attempts.store((result.move, result.work.begun_at) for result in every if result.work.begun and result.work.begun_at)
        _mirror(batch)
        bulk.insert([entry for runner, results in batch for entry in _audit(runner.account, results)])
        transition([result.move for result in every])
        for runner, results in batch:
            for job in {result.work.job for result in results if result.work.job.canary}:
                canary.judge(job, runner.account.pk)
    for runner, _results in batch:
        runner.renewed = renewed


def _mirror(batch: Batch) -> None:
    """Writes what results say about conversations into the mirror's rows."""
    told = []
    for runner, results in batch:
        seen = [(outcome.remote, outcome.wrote) for result in results if (outcome := result.outcome) is not None and outcome.remote is not None]
        if seen:
            told.append((runner.account, [remote for remote, _wrote in seen], {remote.remote_id for remote, wrote in seen if wrote}))
    if told:
        mirror.note_runs(told)
    for runner, results in batch:
        gone = [result.work.item.conversation_id for result in results if result.move.reason == "gone" and result.work.item.conversation_id]
        if gone:
            mirror.mark_gone(runner.account, gone)


def _audit(account: Account, results: list[Result]) -> Iterator[AuditEntry]:
    """Returns the audit entries of results, unsaved."""
    for result in results:
        outcome, item, job = result.outcome, result.work.item, result.work.job
        if outcome is not None and result.move.new == outcome.status:  # otherwise an outage spared it, and it goes on
            entry = edits.audit_entry(job.actor, account, (item.conversation_id, item.remote_id), job.action, outcome, job)
            if entry is not None:
                yield entry


def look(runners: list[LaneRunner]) -> None:
    """Tells runners what people did meanwhile: paused an account or gave it other settings, stopped a job.

    Other settings hold from the next run on, which follows at once; items of stopped jobs that have not begun go back.
    """
    names = ("pk", "sealed_credentials", "base_url", "rate", "concurrency", "paused_at")
    accounts = {row["pk"]: row for row in Account.objects.filter(pk__in=[runner.account.pk for runner in runners]).values(*names)}
    held = {job_id for runner in runners for job_id in runner.jobs}
    stopped = set(Job.objects.filter(pk__in=held).exclude(order=Order.RUN).values_list("pk", flat=True))
    for runner in runners:
        runner.stopped_jobs = stopped
        now = accounts.get(runner.account.pk)
        if now and now["paused_at"]:
            runner.parked = runner.parked or "account_paused"
        elif now and any(getattr(runner.account, name) != now[name] for name in names[1:-1]):
            runner.outdated = True
