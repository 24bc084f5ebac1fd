"""The runner of one account's work: takes items of all its running jobs in turn, a handful at a time, and brings each to its end.

The database is the queue. At any moment at most one runner holds an account's lease (leases.py), renewed while it works. Whatever a runner
stores is stored together with a renewal, and no write is sent before that: one that lost its lease changes nothing any more. Work is read
from the database by one thread of the runner, and calls to the provider are made on its event loop:

    claim -> read, compare -> commit `before` -> write, look -> flush result and counters

`before` and results travel in one batch per flush, so a hundred items cost a few transactions and not hundreds. However a runner ends, what it
had under way is handed back; a killed one is found out by its lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from accounts import services
from accounts.models import Account, RequestLog
from accounts.providers.base import Patience
from accounts.providers.errors import CredentialsRejected, NotFound, ProviderError, RateLimited, Unsupported
from accounts.providers.records import Ref, RemoteConversation
from accounts.request_log import Recorder, about, item_subject

from . import attempts, claims, edits, leases, mirror, titles
from .edits import Outcome, Trust
from .jobs import sweep_cancelled
from .leases import LeaseLost, park, unpark
from .models import AuditEntry, Job, JobItem, Order
from .states import ItemStatus, Move, transition, transition_all

logger = logging.getLogger(__name__)
S = ItemStatus
T = TypeVar("T")

SLICE = 45.0  # seconds of one run; far below the broker's visibility timeout
FLUSH_EVERY = 0.25
MIN_FLUSH_GAP = 0.02
LOOK_EVERY = 0.1  # at what people ordered meanwhile
HOLD_ABOVE = 5.0  # seconds of silence asked for, from which on the lane ends instead of letting its items wait
MAX_ATTEMPTS = 6
PATIENCE = Patience(attempts=3, seconds=30.0)


@dataclass(slots=True)
class Work:
    """One claimed item with what the lane needs to run it."""

    item: JobItem
    job: Job
    before: dict[str, Any] | None
    allowed: bool = True  # the person who started the job may still change this account
    begun: bool = False
    begun_at: datetime | None = None
    refused: bool = False  # an order for a title that was not carried out: it may be given again

    @property
    def only_looks(self) -> bool:
        """True for an item of a cancelled job whose write may have been sent: it is looked at, and never sent again."""
        return self.job.order == Order.CANCEL

    @property
    def generates(self) -> bool:
        """True when the provider is to make the title."""
        return bool(self.job.params.get("generate"))


@dataclass(slots=True)
class _Before:
    item_id: int
    values: dict[str, Any]
    target: dict[str, Any] | None
    first: bool  # nothing has been remembered for this item yet
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Result:
    work: Work
    move: Move
    outcome: Outcome | None = None


def run_lane(account_id: Any, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Works on an account's items until there are none, the slice ends or `stopping` says so; returns True when work is left.

    Returns False at once when another runner has the lane, and when Redis is away: the reaper comes back to it.
    """
    holder = leases.new_holder()
    if not leases.acquire(account_id, holder):
        return False
    runner: LaneRunner | None = None
    lost = False
    try:
        account = Account.objects.select_related("owner").get(pk=account_id)
        if _has_provider(account):
            runner = LaneRunner(account, holder, stopping)
            asyncio.run(runner.run())
    except LeaseLost:
        logger.warning("lane %s: lease lost", account_id)
        lost = True
        return False
    except redis.RedisError as error:
        logger.warning("lane %s: Redis is away (%s)", account_id, type(error).__name__)
        return False
    finally:
        if runner and not lost:  # otherwise they are those of the next runner by now
            claims.free(runner.account.upstream_identity, list(runner.active.values()), runner.claimant)
        leases.release(account_id, holder, blocked_until=runner.held_until if runner else None)
    sweep_cancelled()
    return leases.has_work(account_id)


def _has_provider(account: Account) -> bool:
    """True when there is a provider of this kind. An upgrade may have taken it away; then no item of the account can ever be run."""
    with contextlib.suppress(KeyError):
        return bool(account.provider)
    items = JobItem.objects.filter(account=account).exclude(job__order=Order.DRAFT)
    transition_all(items, S.PENDING, S.SKIPPED, reason="unsupported")
    transition_all(items, S.WAITING, S.SKIPPED, reason="unsupported")
    return False


class LaneRunner:
    """One run over one account's items; see the module for the order of things."""

    def __init__(self, account: Account, holder: str, stopping: Callable[[], bool]) -> None:
        self.holder = holder
        # The same for every runner of this lane: whoever takes over from a dead one takes over its claims.
        self.claimant = f"lane {account.pk}"
        self.requests = Recorder(account.pk)
        self.active: dict[int, str] = {}  # item id -> remote id of what is under way
        self.stopping = stopping
        self.account = account
        self.concurrency = services.pace_of(account).concurrency
        self.deadline = time.monotonic() + SLICE
        self.trust: dict[int, Trust] = {}
        self.befores: list[_Before] = []
        self.results: list[_Result] = []
        self.parked = ""  # the reason for which the rest has to wait for a person
        self.outdated = False  # the account's settings are not those that this run began with
        self.held_until: datetime | None = None  # the provider asked for silence
        self.stopped_jobs: set[int] = set()
        self.closing = False  # nothing more is started
        self.finished = False  # nothing more will have to be written down
        self.failed: BaseException | None = None
        self.renewed = self.claims_renewed = time.monotonic()
        self.looked = 0.0

    # --- the loop -----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until nothing is left to start and everything started has been written down."""
        self.urgent = asyncio.Event()
        self.database = ThreadPoolExecutor(1, thread_name_prefix="lane-db")
        try:
            try:
                async with services.connect(self.account, patience=PATIENCE, recorder=self.requests) as provider:
                    self.provider = provider
                    await self._run()
            except CredentialsRejected as error:  # it cannot even be opened
                self._refused(error)
            if self.parked:
                await self._in_database(self._park)
        finally:
            await self._in_database(_close_connection)
            self.database.shutdown()

    async def _run(self) -> None:
        # More items than connections: while one waits for its `before` to be stored, another uses the connection.
        self.gate = asyncio.Semaphore(2 * self.concurrency)
        flusher = asyncio.create_task(self._flush_forever())
        tasks: set[asyncio.Task[None]] = set()
        try:
            while self._may_start():
                if len(tasks) < 2 * self.concurrency:
                    batch = await self._in_database(partial(self._claim, 4 * self.concurrency - len(tasks)))
                    if not batch and not tasks:
                        break
                    tasks |= {asyncio.create_task(self._run_item(work)) for work in batch}
                if tasks:
                    _done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=FLUSH_EVERY)
        finally:
            # After an error too, what is under way ends and is written down.
            self.closing = True
            await asyncio.gather(*tasks, return_exceptions=True)
            self.finished = True
            self.urgent.set()
            await flusher
        if self.failed:
            raise self.failed

    def _may_start(self) -> bool:
        ended = self.closing or self.parked or self.outdated or self.held_until or self.failed
        return not (ended or self.stopping() or time.monotonic() > self.deadline)

    async def _in_database(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.database, work)

    # --- claiming -----------------------------------------------------------------------------------------------------------------

    def _claim(self, wanted: int) -> list[Work]:
        self._look_at_account()
        items = self._next(wanted) if self._may_start() else []
        if not items:
            return []
        now = timezone.now()
        identity = self.account.upstream_identity
        taken = claims.take(identity, [item.remote_id for item in items], self.claimant)
        free = [item for item in items if item.remote_id in taken]
        busy = [item.pk for item in items if item.remote_id not in taken]
        if busy:
            JobItem.objects.filter(pk__in=busy, status=S.PENDING).update(not_before=now + timedelta(seconds=1), reason="busy")
        moves = [Move(item.pk, item.job_id, S.PENDING, S.RUNNING, values={"started_at": item.started_at or now}) for item in free]
        with transaction.atomic():
            leases.renew(self.account.pk, self.holder)
            transition(moves, take=self.holder)
            mine = set(JobItem.objects.filter(pk__in=[item.pk for item in free], lease=self.holder).values_list("pk", flat=True))
        claims.free(identity, [item.remote_id for item in free if item.pk not in mine], self.claimant)
        self.renewed = time.monotonic()
        self.active |= {item.pk: item.remote_id for item in free if item.pk in mine}
        actors = {item.job.actor for item in free}
        allowed = {actor.pk for actor in actors if Account.objects.editable_by(actor).filter(pk=self.account.pk).exists()}
        return [Work(item, item.job, item.before, item.job.actor_id in allowed) for item in free if item.pk in mine]

    def _next(self, wanted: int) -> list[JobItem]:
        """Returns about `wanted` items that may be begun, as many of each job; of one conversation only one at a time."""
        ready = JobItem.objects.ready(timezone.now()).filter(account=self.account)
        running = Job.objects.filter(order__in=[Order.RUN, Order.CANCEL], finished_at__isnull=True, n_pending__gt=0)
        ids = list(running.filter(Exists(ready.filter(job=OuterRef("pk")))).order_by("pk").values_list("pk", flat=True))
        under_way = set(self.active.values())
        found: dict[str, JobItem] = {}
        for job_id in ids:
            share = ready.filter(job_id=job_id).exclude(remote_id__in=under_way).select_related("job__actor", "conversation")
            for item in share.order_by("rank", "ordinal")[: math.ceil(wanted / len(ids))]:
                found.setdefault(item.remote_id, item)
        return list(found.values())

    # --- one item -----------------------------------------------------------------------------------------------------------------

    async def _run_item(self, work: Work) -> None:
        try:
            async with self.gate:
                if not self._may_start() or (work.job.pk in self.stopped_jobs and not work.only_looks):
                    self._settle(work, S.PENDING, work.item.reason)
                    return
                work.begun, work.begun_at = True, timezone.now()
                with about(item_subject(work.item.pk, work.item.attempts + 1)):
                    outcome = await self._outcome(work)
        except LeaseLost:
            return
        except ProviderError as error:
            self._settle_error(work, error)
        except Exception:
            logger.exception("item %s", work.item)
            self._settle(work, S.FAILED, "outcome_unknown" if work.before is not None else "internal")
        else:
            self._settle_outcome(work, outcome)

    async def _outcome(self, work: Work) -> Outcome:
        item, job = work.item, work.job
        if not work.allowed:
            return Outcome(S.SKIPPED, "access_removed")
        ref = Ref(item.remote_id, item.title, item.rank)
        save = self._saver(work)
        if work.generates:
            return await edits.run_generate(self.provider, ref, expected=item.expected, before=work.before, save_before=save)
        if item.target is None:
            item.target = await self._late_title(work, ref)
            if item.target is None:
                return Outcome(S.SKIPPED, item.reason or "no_first_message")
        if work.only_looks:
            return await edits.run_look(self.provider, ref, item.target, before=work.before or {})
        trust = self.trust.setdefault(job.pk, Trust(lied=bool(self.provider.memory.get("answers_lie"))))
        outcome = await edits.run_edit(self.provider, ref, item.target, expected=item.expected, before=work.before, save_before=save, trust=trust)
        if trust.lied and not self.provider.memory.get("answers_lie"):
            self.provider.memory["answers_lie"] = True
            for other in self.trust.values():
                other.lied = True
        return outcome

    async def _late_title(self, work: Work, ref: Ref) -> dict[str, Any] | None:
        first = await self.provider.first_message(ref)
        made = await self._in_database(partial(titles.for_item, work.job, work.item, self.account, first))
        work.item.reason = made.reason
        return made.values

    def _saver(self, work: Work) -> Callable[[dict[str, Any]], Awaitable[None]]:
        """Returns what must have returned before a write is sent: `before` is stored, and the lease was still ours when it was."""

        async def save(values: dict[str, Any]) -> None:
            if self.failed:
                raise LeaseLost
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.befores.append(_Before(work.item.pk, values, work.item.target, work.before is None, done))
            self.urgent.set()
            await done
            work.before = values

        return save

    # --- how it ended -------------------------------------------------------------------------------------------------------------

    def _settle_outcome(self, work: Work, outcome: Outcome) -> None:
        if outcome.reason != "outcome_unknown":
            work.refused = work.generates and not outcome.wrote
            self._settle(work, outcome.status, outcome.reason, outcome=outcome)
        elif isinstance(outcome.error, CredentialsRejected):
            self._refused(outcome.error)
            self._settle(work, S.WAITING, self.parked, error=outcome.error)
        elif work.item.tries + 1 < MAX_ATTEMPTS:
            self._retry_later(work, outcome.error, "outcome_unknown")  # the next run reads before it writes
        else:
            self._settle(work, outcome.status, outcome.reason, outcome=outcome)

    def _settle_error(self, work: Work, error: ProviderError) -> None:
        work.refused = work.generates
        if isinstance(error, CredentialsRejected):
            self._refused(error)
            self._settle(work, S.WAITING, self.parked, error=error)
        elif isinstance(error, NotFound):
            self._settle(work, S.SKIPPED, "gone", error=error)
        elif isinstance(error, Unsupported):
            self._settle(work, S.SKIPPED, "unsupported", error=error)
        elif isinstance(error, RateLimited) and error.status is None:
            work.begun = False  # our own pace keeps it back: nobody refused it
            self._retry_later(work, error, error.kind)
        elif error.retryable and work.item.tries + 1 < MAX_ATTEMPTS:
            self._retry_later(work, error, error.kind)
        else:
            self._settle(work, S.FAILED, "outcome_unknown" if work.only_looks else error.kind, error=error)

    def _refused(self, error: CredentialsRejected) -> None:
        self.parked, self.refusal = "account_needs_reauth", error

    def _retry_later(self, work: Work, error: ProviderError | None, reason: str) -> None:
        wait = min(60.0, 1.5 * 2**work.item.tries) * random.uniform(0.7, 1.3)
        if isinstance(error, RateLimited) and error.retry_after:
            wait = max(wait, error.retry_after)
            if error.retry_after > HOLD_ABOVE:
                self.held_until = max(self.held_until or timezone.now(), timezone.now() + timedelta(seconds=error.retry_after))
        self._settle(work, S.PENDING, reason, error=error, not_before=timezone.now() + timedelta(seconds=wait))

    def _settle(
        self,
        work: Work,
        status: ItemStatus,
        reason: str,
        *,
        outcome: Outcome | None = None,
        error: ProviderError | None = None,
        not_before: datetime | None = None,
    ) -> None:
        values: dict[str, Any] = {"not_before": not_before, "attempts": work.item.attempts + work.begun}
        values["tries"] = work.item.tries + work.begun
        if work.refused and work.item.before is None:
            values["before"] = None
        error = error or (outcome.error if outcome else None)
        values["detail"] = (error.detail or str(error))[:400] if error else ""
        values["http_status"] = error.status if error else None
        if status not in (S.PENDING, S.WAITING):
            values["finished_at"] = timezone.now()
            values["after"] = outcome.after if outcome else None
            values["target"] = work.item.target if outcome is None or not work.generates else outcome.after
        self.results.append(_Result(work, Move(work.item.pk, work.item.job_id, S.RUNNING, status, reason, values), outcome))

    # --- writing down -------------------------------------------------------------------------------------------------------------

    async def _flush_forever(self) -> None:
        while not (self.finished and not self.befores and not self.results):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.urgent.wait(), FLUSH_EVERY)
            self.urgent.clear()
            befores, self.befores = self.befores, []
            results, self.results = self.results, []
            try:
                await self._in_database(partial(self._flush, befores, results))
            except BaseException as error:
                self._fail(error, befores)
                return
            for entry in befores:
                if not entry.done.done():
                    entry.done.set_result(None)
            if befores:
                await asyncio.sleep(MIN_FLUSH_GAP)  # gathers the next ones into one transaction

    def _fail(self, error: BaseException, befores: list[_Before]) -> None:
        self.failed = error
        for entry in befores + self.befores:
            if not entry.done.done():
                entry.done.set_exception(LeaseLost())
        self.befores.clear()
        self.results.clear()

    def _flush(self, befores: list[_Before], results: list[_Result]) -> None:
        if befores or results or time.monotonic() - self.renewed > settings.LANE_LEASE / 3:
            with self.requests.draining() as requests, transaction.atomic():
                leases.renew(self.account.pk, self.holder)
                RequestLog.objects.bulk_create(requests)
                attempts.store([(result.move, result.work.begun_at if result.work.begun else None) for result in results], self.holder)
                for entry in befores:
                    self._remember(entry)
                self._note(results)
                transition([result.move for result in results], lease=self.holder)
            self.renewed = time.monotonic()
            ended = [self.active.pop(result.work.item.pk) for result in results]
            claims.free(self.account.upstream_identity, ended, self.claimant)
            back = [result for result in results if result.move.new in (S.PENDING, S.WAITING)]
            if any(result.work.only_looks or result.move.job_id in self.stopped_jobs for result in back):
                sweep_cancelled()
        if self.provider.memory.get("answers_lie") and not self.account.memory.get("answers_lie"):
            services.learn(self.account, {"answers_lie": True})  # at once: whoever takes over after a crash looks at each write as well
        if self.active and time.monotonic() - self.claims_renewed > claims.TTL_MS / 3000:
            with contextlib.suppress(redis.RedisError):  # they live for another two thirds
                claims.take(self.account.upstream_identity, list(self.active.values()), self.claimant)
                self.claims_renewed = time.monotonic()
        if time.monotonic() - self.looked > LOOK_EVERY:
            self.looked = time.monotonic()
            self._look_at_account()
            self._look_at_orders()

    def _remember(self, entry: _Before) -> None:
        row = JobItem.objects.filter(pk=entry.item_id, lease=self.holder, before__isnull=entry.first)
        changes: dict[str, Any] = {"target": entry.target} | ({"before": entry.values} if entry.first else {})
        if not row.update(**changes):
            raise LeaseLost

    def _note(self, results: list[_Result]) -> None:
        """Writes what a batch of results says elsewhere: the mirror's rows and the audit entries."""
        found: list[RemoteConversation] = []
        ours: set[str] = set()
        entries: list[AuditEntry] = []
        gone: list[int] = []
        for result in results:
            outcome, item = result.outcome, result.work.item
            if result.move.reason == "gone" and item.conversation_id:
                gone.append(item.conversation_id)
            if outcome is None:
                continue
            if outcome.remote is not None:
                found.append(outcome.remote)
                if outcome.wrote:
                    ours.add(outcome.remote.remote_id)
            entry = edits.audit_entry(result.work.job.actor, self.account, item.conversation, result.work.job.action, outcome, result.work.job)
            if entry is not None:
                entries.append(entry)
        if found:
            mirror.upsert(self.account, found, ours=ours)
        AuditEntry.objects.bulk_create(entries)
        if gone:
            mirror.mark_gone(self.account, gone)

    def _look_at_account(self) -> None:
        """Learns whether people paused the account or gave it other settings; these hold from the next run on, which follows at once."""
        names = ("sealed_credentials", "base_url", "rate", "concurrency", "paused_at")
        now = Account.objects.filter(pk=self.account.pk).values(*names).first()
        if now and now.pop("paused_at"):
            self.parked = self.parked or "account_paused"
        elif now and any(getattr(self.account, name) != value for name, value in now.items()):
            self.outdated = True

    def _look_at_orders(self) -> None:
        """Learns which jobs people stopped since the last look; their items that have not begun go back."""
        running = Job.objects.filter(items__account_id=self.account.pk, items__lease=self.holder).exclude(order=Order.RUN)
        self.stopped_jobs = set(running.values_list("pk", flat=True).distinct())

    def _park(self) -> None:
        """Lets the account's open items wait for a person instead of failing them one by one, unless that person has been quicker."""
        reason = self.parked
        if reason == "account_needs_reauth":
            services.note_failure(self.account, self.refusal)
        still = {"paused_at__isnull": False} if reason == "account_paused" else {"sealed_credentials": self.account.sealed_credentials}
        with transaction.atomic():
            waits = Account.objects.select_for_update(no_key=True).filter(pk=self.account.pk, **still).exists()
            (park if waits else unpark)(self.account, reason)


def _close_connection() -> None:
    connection.close()  # that of the thread it is called in
