"""The runner of one account's work: takes items of all its running jobs in turn, a handful at a time, and brings each to its end.

The database is the queue. At any moment at most one runner holds an account's lease (leases.py), renewed while it works. Whatever a runner
stores is stored as its holder (bookkeeping.py), and no write is sent before that: one that lost its lease changes nothing any more. All
runners of a process share one event loop and one database thread (engine.py):

    claim -> read, compare -> commit `before` -> write, look -> flush result and counters

`before` is stored at once, many items in one transaction, because their writes wait for it; results are gathered for a quarter of a second.
However a runner ends, what it had under way is handed back; a killed one is found out by its lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from accounts import health, services
from accounts.models import Account
from accounts.providers.base import Patience
from accounts.providers.errors import CredentialsRejected, NotFound, ProviderError, RateLimited, Unsupported
from accounts.providers.records import Ref
from accounts.request_log import Recorder, about, item_subject

from . import bookkeeping, breakers, claims, edits, leases, titles
from .bookkeeping import Result
from .edits import Outcome, Trust
from .engine import FLUSH_EVERY, Engine
from .jobs import sweep_cancelled
from .leases import LeaseLost, park, unpark
from .models import NOT_STARTED, Job, JobItem, Order
from .states import ItemStatus, Move, transition, transition_all

logger = logging.getLogger(__name__)
S = ItemStatus
T = TypeVar("T")

SLICE = 45.0  # seconds of one run; far below the broker's visibility timeout
AT_ONCE = 3  # items under way for each connection
FEW_LEFT = 2  # claimed and not ended, for each connection: more are claimed, up to twice AT_ONCE
FREE_WITHIN = 0.4  # seconds that a claim outlives its item at most, while the lane works on
ASK_EVERY = 0.3  # which jobs have work, while those that are known have enough; for more items, where there were fewer than wanted
GRACE = 2.0  # seconds that what is under way gets to end when the process has to stop
HOLD_ABOVE = 5.0  # seconds of silence asked for, from which on the lane ends instead of letting its items wait
PATIENCE = Patience(attempts=3, seconds=30.0)


@dataclass(slots=True, eq=False)
class Work:
    """One claimed item with what the lane needs to run it."""

    item: JobItem
    job: Job
    before: dict[str, Any] | None
    allowed: bool = True  # the person who started the job may still change this account
    begun: bool = False
    begun_at: datetime | None = None
    sent: int = 0  # writes that are under way or have been, without those that were surely not carried out
    looked: bool = False  # this run has read what is stored
    task: asyncio.Task[None] | None = None  # while it can be called back: not before its first step, which a cancelled task never makes
    refused: bool = False  # an order for a title that was not carried out: it may be given again

    @property
    def only_looks(self) -> bool:
        """True for an item of a cancelled job whose write may have been sent: it is looked at, and never sent again."""
        return self.job.order == Order.CANCEL

    @property
    def generates(self) -> bool:
        """True when the provider is to make the title."""
        return bool(self.job.params.get("generate"))


current_work: ContextVar[Work] = ContextVar("current_work")


def run_lane(account_id: Any, stopping: Callable[[], bool] = lambda: False, engine: Engine | None = None) -> bool:
    """Works on an account's items until there are none, the slice ends or `stopping` says so; returns True when work is left.

    Returns False at once when another runner has the lane, and when Redis is away: the reaper comes back to it.
    """
    engine = engine or ENGINE
    holder = leases.new_holder()
    if not leases.acquire(account_id, holder):
        return False
    runner: LaneRunner | None = None
    lost = False
    held: datetime | None = None
    try:
        account = Account.objects.select_related("owner").get(pk=account_id)
        if _has_provider(account) and (held := breakers.gate(account)) is None:
            runner = LaneRunner(account, holder, stopping, engine)
            engine.run(runner.run())
    except LeaseLost:
        logger.warning("lane %s: lease lost", account_id)
        lost = True
        return False
    except redis.RedisError as error:
        logger.warning("lane %s: Redis is away (%s)", account_id, type(error).__name__)
        return False
    finally:
        if runner and not lost:  # otherwise they are those of the next runner by now
            claims.free(runner.account.upstream_identity, [*runner.active.values(), *runner.done], runner.claimant)
        held, reason = (runner.held_until, runner.held_reason) if runner else (held, breakers.REASON)
        leases.release(account_id, holder, blocked_until=held, reason=reason)
    sweep_cancelled()
    return leases.has_work(account_id)


def _has_provider(account: Account) -> bool:
    """True when there is a provider of this kind. An upgrade may have taken it away; then no item of the account can ever be run."""
    with contextlib.suppress(KeyError):
        return bool(account.provider)
    items = JobItem.objects.filter(account=account).exclude(job__order__in=NOT_STARTED)
    transition_all(items, S.PENDING, S.SKIPPED, reason="unsupported")
    transition_all(items, S.WAITING, S.SKIPPED, reason="unsupported")
    return False


class LaneRunner:
    """One run over one account's items; see the module for the order of things."""

    def __init__(self, account: Account, holder: str, stopping: Callable[[], bool], engine: Engine) -> None:
        self.engine = engine
        self.holder = holder
        # The same for every runner of this lane: whoever takes over from a dead one takes over its claims.
        self.claimant = f"lane {account.pk}"
        self.requests = Recorder(account.pk)
        self.done: list[str] = []  # remote ids whose claims are to be given back
        self.active: dict[int, str] = {}  # item id -> remote id of what is under way
        self.stopping = stopping
        self.account = account
        self.concurrency = services.pace_of(account).concurrency
        self.deadline = time.monotonic() + SLICE
        self.trust: dict[int, Trust] = {}
        self.results: list[Result] = []
        self.parked = ""  # the reason for which the rest has to wait for a person
        self.outdated = False  # the account's settings are not those that this run began with
        self.held_until: datetime | None = None  # the provider asked for silence, or its breaker is open
        self.held_reason = "rate_limited"
        self.watch = breakers.Watch(account)
        self.queue: list[Job] = []
        self.allowed: set[int] = set()  # ids of their authors who may change this account
        self.asked = 0.0
        self.works: set[Work] = set()  # claimed and not settled
        self.jobs: set[int] = set()  # whose items this run has taken
        self.stopped_jobs: set[int] = set()
        self.closing = False  # nothing more is started
        self.failed: BaseException | None = None
        self.renewed = self.claims_renewed = self.claims_freed = time.monotonic()

    # --- the loop -----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until nothing is left to start and everything started has been written down."""
        try:
            async with (
                services.connect(self.account, patience=PATIENCE, recorder=self.requests) as provider,
                self.engine.joined(self),
            ):
                self.provider = provider
                provider.on_write = self._note_write
                await self._run()
        except CredentialsRejected as error:  # it cannot even be opened
            self._refused(error)
        if self.parked:
            await self._in_database(self._park)

    async def _run(self) -> None:
        # More items than connections: while one waits for its `before` to be stored, another uses the connection.
        self.gate = asyncio.Semaphore(AT_ONCE * self.concurrency)
        tasks: set[asyncio.Task[None]] = set()
        wanted, short = self.concurrency, -math.inf  # at first only as many as begin at once, so that other lanes begin soon as well
        try:
            await self._in_database(bookkeeping.look, [self])
            while self._may_start():
                if len(tasks) < FEW_LEFT * self.concurrency and (not tasks or time.monotonic() - short > ASK_EVERY):
                    batch = await self._in_database(self._claim, wanted - len(tasks))
                    if not batch and not tasks:
                        break
                    if len(batch) < wanted - len(tasks):
                        short = time.monotonic()
                    tasks |= {self._begin(work) for work in batch}
                    wanted = 2 * AT_ONCE * self.concurrency
                else:
                    _done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=FLUSH_EVERY)
        finally:
            # After an error too, what is under way ends and is written down.
            self.closing = True
            await self._last(tasks)
            if not self.failed:
                await self.engine.flush([self])
        if self.failed:
            raise self.failed

    def _begin(self, work: Work) -> asyncio.Task[None]:
        self.works.add(work)
        return asyncio.create_task(self._run_item(work))

    def call_back(self) -> None:
        """Takes back what may not go on and has sent no write yet, wherever it waits: for its turn, for a connection, for an answer."""
        for work in self.works:
            if work.task and not work.sent and not self._may_go_on(work):
                work.task.cancel()

    async def _last(self, tasks: set[asyncio.Task[None]]) -> None:
        """Waits for what is under way; a process that has to stop leaves the rest, which is handed back and looked at by the next runner."""
        until = None
        self.call_back()
        while tasks:
            if self.stopping():
                until = until or time.monotonic() + GRACE
                if time.monotonic() > until:
                    for task in tasks:
                        task.cancel()
            _done, tasks = await asyncio.wait(tasks, timeout=FLUSH_EVERY)

    def _note_write(self, sent: bool) -> None:
        if sent and time.monotonic() - self.renewed > settings.LANE_LEASE:
            raise self.lost()  # the machine slept since the value before was stored; the next runner may be at work
        current_work.get().sent += 1 if sent else -1  # a refused repair takes nothing back of the write before it

    def _may_start(self) -> bool:
        ended = self.closing or self.parked or self.outdated or self.held_until or self.failed
        return not (ended or self.stopping() or time.monotonic() > self.deadline)

    def _may_go_on(self, work: Work) -> bool:
        return self._may_start() and (work.job.pk not in self.stopped_jobs or work.only_looks)

    def _in_database(self, work: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return self.engine.in_database(work, *arguments)

    # --- claiming -----------------------------------------------------------------------------------------------------------------

    def _claim(self, wanted: int) -> list[Work]:
        items = self._next(wanted) if self._may_start() else []
        if not items:
            return []
        now = timezone.now()
        identity = self.account.upstream_identity
        taken = claims.take(identity, [item.remote_id for item in items], self.claimant, None, self.done)
        self.done, self.claims_freed = [], time.monotonic()
        free = [item for item in items if item.remote_id in taken]
        busy = [item.pk for item in items if item.remote_id not in taken]
        if busy:
            JobItem.objects.filter(pk__in=busy, status=S.PENDING).update(not_before=now + timedelta(seconds=1), reason="busy")
        moves = [Move(item.pk, item.job_id, S.PENDING, S.RUNNING, values={"started_at": item.started_at or now}) for item in free]
        with transaction.atomic():
            renewed = leases.renew([(self.account.pk, self.holder)])
            moved = transition(moves, take=self.holder)
        mine = free
        if moved != len(free):  # somebody cancelled meanwhile
            ids = set(JobItem.objects.filter(pk__in=[item.pk for item in free], lease=self.holder).values_list("pk", flat=True))
            mine = [item for item in free if item.pk in ids]
            claims.free(identity, [item.remote_id for item in free if item.pk not in ids], self.claimant)
        self.renewed = renewed
        self.active |= {item.pk: item.remote_id for item in mine}
        self.jobs |= {item.job_id for item in mine}
        return [Work(item, item.job, item.before, item.job.actor_id in self.allowed) for item in mine]

    def _next(self, wanted: int) -> list[JobItem]:
        """Returns about `wanted` items that may be begun, those of the highest priority first, as many of each job that shares one.

        Of one conversation only one at a time.
        """
        ready = JobItem.objects.ready(timezone.now()).filter(account=self.account)
        if time.monotonic() - self.asked > ASK_EVERY:
            running = Job.objects.filter(order__in=[Order.RUN, Order.CANCEL], finished_at__isnull=True, n_pending__gt=0)
            self.queue = list(running.filter(Exists(ready.filter(job=OuterRef("pk")))).select_related("actor").order_by("-priority", "pk"))
            actors = {job.actor for job in self.queue}
            self.allowed = {actor.pk for actor in actors if Account.objects.editable_by(actor).filter(pk=self.account.pk).exists()}
            self.asked = time.monotonic()
        under_way = set(self.active.values())
        found: dict[str, JobItem] = {}
        for _priority, group in itertools.groupby(self.queue, key=attrgetter("priority")):
            equals = list(group)
            each = math.ceil((wanted - len(found)) / len(equals))
            for job in equals:
                for item in ready.filter(job=job).exclude(remote_id__in=under_way).order_by("rank", "ordinal")[:each]:
                    item.job = job
                    found.setdefault(item.remote_id, item)
            if len(found) >= wanted:
                break
        if len(found) < wanted:
            self.asked = 0.0  # there may be other jobs by now
        return list(found.values())

    # --- one item -----------------------------------------------------------------------------------------------------------------

    async def _run_item(self, work: Work) -> None:
        current_work.set(work)
        work.task = asyncio.current_task()
        try:
            async with self.gate:
                if not self._may_go_on(work):
                    raise asyncio.CancelledError
                work.begun, work.begun_at = True, timezone.now()
                with about(item_subject(work.item.pk, work.item.attempts + 1)):
                    outcome = await self._outcome(work)
        except LeaseLost:
            return
        except asyncio.CancelledError:
            if not work.sent:  # otherwise whoever comes next looks at it first
                work.begun, work.refused = False, True
                self._settle(work, S.PENDING, work.item.reason)
        except ProviderError as error:
            self._settle_error(work, error)
        except Exception:
            logger.exception("item %s", work.item)
            self._settle(work, S.FAILED, "outcome_unknown" if work.before is not None else "internal")
        else:
            self._settle_outcome(work, outcome)
        finally:
            self.works.discard(work)

    async def _outcome(self, work: Work) -> Outcome:
        item, job = work.item, work.job
        if not work.allowed:
            return await self._withdrawn(work)
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

    async def _withdrawn(self, work: Work) -> Outcome:
        """Ends an item whose author may not change it any more; what an earlier run may have sent is looked at, and never sent again."""
        item = work.item
        if work.before is None:
            return Outcome(S.SKIPPED, "access_removed")
        if work.generates or item.target is None:
            return Outcome(S.FAILED, "outcome_unknown", before=work.before)
        found = await edits.run_look(self.provider, Ref(item.remote_id, item.title, item.rank), item.target, before=work.before)
        return found if found.status != S.PENDING else Outcome(S.SKIPPED, "access_removed", found.before, found.after, found.remote)

    async def _late_title(self, work: Work, ref: Ref) -> dict[str, Any] | None:
        first = await self.provider.first_message(ref)
        made = await self._in_database(partial(titles.for_item, work.job, work.item, self.account, first))
        work.item.reason = made.reason
        return made.values

    def _saver(self, work: Work) -> Callable[[dict[str, Any]], Awaitable[None]]:
        """Returns what must have returned before a write is sent: `before` is stored, and the lease was still ours when it was."""

        async def save(values: dict[str, Any]) -> None:
            work.looked = True
            if self.failed:
                raise LeaseLost
            await self.engine.remember(self, work.item.pk, values, work.item.target, first=work.before is None)
            work.before = values

        return save

    # --- how it ended -------------------------------------------------------------------------------------------------------------

    def _settle_outcome(self, work: Work, outcome: Outcome) -> None:
        if outcome.remote is not None or outcome.error is not None:  # something was sent
            self.watch.note(outcome.error if outcome.reason == "outcome_unknown" else None)
        if outcome.reason != "outcome_unknown":
            work.refused = work.generates and not outcome.wrote
            self._settle(work, outcome.status, outcome.reason, outcome=outcome)
        elif isinstance(outcome.error, CredentialsRejected):
            self._refused(outcome.error)
            self._settle(work, S.WAITING, self.parked, error=outcome.error)
        elif work.item.tries + 1 < leases.MAX_TRIES:
            self._retry_later(work, outcome.error, "outcome_unknown")  # the next run reads before it writes
        else:
            self._settle(work, outcome.status, outcome.reason, outcome=outcome)

    def _settle_error(self, work: Work, error: ProviderError) -> None:
        self.watch.note(error)
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
        elif error.retryable and work.item.tries + 1 < leases.MAX_TRIES:
            self._retry_later(work, error, error.kind)
        else:
            # What an earlier run may have sent was not looked at: why not says nothing about what became of it.
            unknown = work.only_looks or (work.item.before is not None and not work.looked)
            self._settle(work, S.FAILED, "outcome_unknown" if unknown else error.kind, error=error)

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
        if work.item.before is None and (work.refused or (work.before is not None and not work.sent)):
            values["before"] = None  # nothing was carried out: whatever somebody sets until the next try is theirs, and is not ours to undo
        error = error or (outcome.error if outcome else None)
        values["detail"] = (error.detail or str(error))[:400] if error else ""
        values["http_status"] = error.status if error else None
        if status not in (S.PENDING, S.WAITING):
            values["finished_at"] = timezone.now()
            values["after"] = outcome.after if outcome else None
            values["target"] = work.item.target if outcome is None or not work.generates else outcome.after
        move = Move(work.item.pk, work.item.job_id, S.RUNNING, status, reason, values, self.holder)
        self.results.append(Result(work, move, outcome, breakers.is_down(error)))

    # --- writing down -------------------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Lets the run end with this error; nothing more is stored or sent."""
        self.failed = self.failed or error
        self.results.clear()

    def lost(self) -> LeaseLost:
        """Returns what an item hears that may not write; the run itself ends with the error that `fail` was told, if any."""
        self.fail(LeaseLost())
        return LeaseLost()

    def taken_results(self) -> list[Result]:
        """Returns the results since the last time, for them to be written down."""
        results, self.results = self.results, []
        return results

    def heed_host(self, results: list[Result]) -> None:
        """Tells the breaker of the host how calls went, and lets what only an outage ended go on later."""
        if (held := self.watch.flush()) is not None:
            self.held_until, self.held_reason = held, breakers.REASON
            for result in results:
                if result.down:
                    breakers.spare(result.move, result.work.item.tries)

    def after_flush(self, results: list[Result]) -> None:
        """Gives back the claims of what has been written down, and keeps the others."""
        if results:
            ended = [self.active.pop(result.work.item.pk) for result in results]
            self.done += ended  # given back with the next claim, in one round trip
            back = [result for result in results if result.move.new in (S.PENDING, S.WAITING)]
            if any(result.work.only_looks or result.move.job_id in self.stopped_jobs for result in back):
                sweep_cancelled()
        if self.provider.memory.get("answers_lie") and not self.account.memory.get("answers_lie"):
            services.learn(self.account, {"answers_lie": True})  # at once: whoever takes over after a crash looks at each write as well
        if self.done and time.monotonic() - self.claims_freed > FREE_WITHIN:
            claims.free(self.account.upstream_identity, self.done, self.claimant)
            self.done, self.claims_freed = [], time.monotonic()
        if self.active and time.monotonic() - self.claims_renewed > claims.TTL_MS / 3000:
            with contextlib.suppress(redis.RedisError):  # they live for another two thirds
                claims.take(self.account.upstream_identity, list(self.active.values()), self.claimant)
                self.claims_renewed = time.monotonic()

    def _park(self) -> None:
        """Lets the account's open items wait for a person instead of failing them one by one, unless that person has been quicker."""
        reason = self.parked
        if reason == "account_needs_reauth":
            health.note_failure(self.account, self.refusal)
        still = {"paused_at__isnull": False} if reason == "account_paused" else {"sealed_credentials": self.account.sealed_credentials}
        with transaction.atomic():
            waits = Account.objects.select_for_update(no_key=True).filter(pk=self.account.pk, **still).exists()
            (park if waits else unpark)(self.account, reason)


ENGINE = Engine(bookkeeping.store, bookkeeping.flush, bookkeeping.look)
