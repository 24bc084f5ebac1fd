"""The machine behind items and jobs, driven with random events through the product's own functions.

Two jobs share conversations, two accounts have a lane each, runners come, work, die and come back too late, and people give orders in any order.
Hypothesis chooses what happens; after every step the database is compared with what must hold always. To have a failure shortened, which
takes minutes, add Phase.shrink to the phases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from accounts import teams
from accounts.models import Account, Membership, Role, ShareLevel, Team, User
from conversations import approvals, jobs, leases, limits
from conversations.leases import LeaseLost
from conversations.models import COUNTERS, NOT_STARTED, Conversation, Job, JobItem, Lane, Order
from conversations.states import DECISIONS, ENDED, MOVES, OPEN, IllegalMove, Move, counter_of, recount, transition, transition_all
from conversations.states import ItemStatus as S

from .support import make_user
from .test_states import reachable

REASONS: dict[S, list[str]] = {
    S.FAILED: ["rejected", "outcome_unknown"],
    S.PENDING: ["", "not_there", "outcome_unknown"],
    S.WAITING: ["account_paused", "account_needs_reauth"],
}
ITEMS = 10  # of both jobs
FINISHED = {"done", "done with failures", "cancelled"}
EVENTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {}  # what may happen -> its arguments
NAMES: list[str] = []
MADE: Counter[tuple[S, S]] = Counter()  # what was seen to happen, so that no run stays in one corner

one_job = st.sampled_from([0, 0, 1])
one_lane = st.sampled_from([0, 1])
some_items = st.sets(st.integers(0, ITEMS - 1), min_size=1, max_size=5)
outcomes = st.lists(st.tuples(st.sampled_from(sorted(MOVES[S.RUNNING])), st.integers(0, 2)), min_size=1, max_size=4)
park_reason = st.sampled_from(["account_paused", "account_needs_reauth"])


def event(weight: int = 1, **arguments: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks what may happen, with what it takes; `weight` says how often."""

    def note_down(method: Callable[..., None]) -> Callable[..., None]:
        EVENTS[method.__name__] = st.fixed_dictionaries(arguments)
        NAMES.extend([method.__name__] * weight)
        return method

    return note_down


class Machine:
    """Everything that can happen to two jobs, and after every step what must hold whatever happened."""

    def __init__(self, user: User, stranger: User) -> None:
        self.user, self.stranger, self.boss = user, stranger, User.objects.get(email="boss@example.com")
        self.jobs = list(Job.objects.order_by("pk"))
        self.accounts = list(Account.objects.order_by("label"))
        self.items = list(JobItem.objects.order_by("pk").values_list("pk", flat=True))
        self.holders: dict[int, str] = {}  # lane -> its runner
        self.gone: list[tuple[int, str]] = []  # runners that lost their lease and do not know it yet
        self.befores: dict[int, Any] = {}
        self.seen = self.statuses()
        self.may_reopen: set[int] = set()  # what a person has just decided about

    def live(self, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in events:
            note(f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})")
            getattr(self, name)(**arguments)
            self.what_must_hold_holds()

    def statuses(self) -> dict[int, S]:
        return {pk: S(status) for pk, status in JobItem.objects.values_list("pk", "status")}

    def picked(self, places: Iterable[int]) -> list[JobItem]:
        return list(JobItem.objects.filter(pk__in=[self.items[place] for place in places]).order_by("pk"))

    def job(self, place: int) -> Job:
        self.jobs[place].refresh_from_db()
        return self.jobs[place]

    def held(self, lane: int) -> Any:
        return JobItem.objects.filter(lease=self.holders.get(lane, "nobody"))

    def now_reopened(self, *statuses: S, **which: Any) -> None:
        self.may_reopen = set(JobItem.objects.filter(status__in=statuses, **which).values_list("pk", flat=True))

    # --- people -----------------------------------------------------------------------------------------------------------------------

    @event(place=one_job, order=st.sampled_from(["start", "pause", "resume", "resume", "plan"]))
    def give_an_order(self, place: int, order: str) -> None:
        job = self.job(place)
        if order == "start":
            draft = job.order == Order.DRAFT
            asks = bool(limits.exceeded(self.user, jobs.changes_by_account(job)))
            assert jobs.start(self.user, job) is draft
            assert not draft or job.order == (Order.ASK if asks else Order.RUN)
            assert jobs.start(self.user, job) is False  # a second click
        elif order == "pause":
            assert jobs.pause(self.user, job) is (job.order == Order.RUN and job.open > 0)
        elif order == "resume":
            assert jobs.resume(self.user, job) is (job.order == Order.PAUSE)
        elif order == "plan" and job.order == Order.DRAFT:
            jobs.plan(job, {"template": "newest {n}", "include_hand_made": True})
        elif order == "plan":
            with pytest.raises(ValidationError):
                jobs.plan(job, {"template": "newest {n}", "include_hand_made": True})

    @event(place=one_job, sure=st.sampled_from([True, False, False, False]))
    def cancel(self, place: int, sure: bool) -> None:
        job = self.job(place)
        if not sure:  # not every time: less can happen afterwards
            return
        cancelled = jobs.cancel(self.user, job)
        assert cancelled is (job.order != Order.CANCEL and job.finished_at is None)
        if cancelled:  # what may have been sent is looked at first, where somebody can look
            left = job.items.filter(status__in=[S.PENDING, S.WAITING])
            assert not left.exclude(status=S.PENDING, before__isnull=False).exists()

    @event(place=one_job, lane=one_lane, most=st.integers(1, 3), sure=st.booleans())
    def cancel_while_nobody_can_look(self, place: int, lane: int, most: int, sure: bool) -> None:
        """The credential dies after some writes were sent: these end as unknown, and not as never begun."""
        job = self.job(place)
        if not sure or job.order not in (Order.RUN, Order.PAUSE) or not job.items.filter(account=self.accounts[lane], status=S.PENDING).exists():
            return
        self.claim(lane, most)
        self.remember(lane, most)
        self.settle(lane, [(S.WAITING, 0)] * most)
        sent = set(job.items.filter(status=S.WAITING, before__isnull=False).values_list("pk", flat=True))
        self.cancel(place, True)
        assert not job.items.filter(pk__in=sent).exclude(status=S.FAILED, reason="outcome_unknown").exists()

    @event(limit=st.sampled_from([None, 2, 20]))
    def set_a_limit(self, limit: int | None) -> None:
        teams.set_limits(self.boss, Team.objects.get(name="Desk"), limit, None)

    @event(weight=2, place=one_job, answer=st.sampled_from(["approve", "approve", "refuse", "withdraw"]))
    def answer(self, place: int, answer: str) -> None:
        """A second person approves or refuses, or its author withdraws; the author can do neither of the former."""
        job = self.job(place)
        waits = job.order == Order.ASK
        for function, more in ((approvals.approve, ()), (approvals.refuse, ("no",))):
            with pytest.raises(PermissionDenied):
                function(self.user, job, *more)
        if answer == "withdraw":
            assert approvals.withdraw(self.user, job) is waits
        elif waits:
            function, more = (approvals.approve, ()) if answer == "approve" else (approvals.refuse, ("no",))
            assert function(self.boss, job, *more) is True
            assert job.order == (Order.RUN if answer == "approve" else Order.DRAFT)
            assert function(self.boss, job, *more) is False

    @event(place=one_job)
    def retry(self, place: int) -> None:
        job = self.job(place)
        self.now_reopened(S.FAILED, S.NOT_APPLIED, job=job)
        expected = 0 if job.order in NOT_STARTED else job.n_failed + job.n_unknown + job.n_not_applied
        assert jobs.retry(self.user, job) == expected

    @event(weight=2, places=some_items, overwrite=st.booleans())
    def decide(self, places: set[int], overwrite: bool) -> None:
        items = [*JobItem.objects.filter(status=S.CONFLICT)[:1], *self.picked(places)]
        self.now_reopened(S.CONFLICT, pk__in=[item.pk for item in items])
        left = set(self.may_reopen)
        for item in items:
            assert jobs.decide(self.user, item, overwrite=overwrite) is (item.pk in left)
            left.discard(item.pk)

    @event(lane=one_lane, reason=park_reason, back=st.booleans())
    def park_and_unpark(self, lane: int, reason: str, back: bool) -> None:
        leases.park(self.accounts[lane], reason)
        if back:
            leases.unpark(self.accounts[lane], reason)

    @event(lane=one_lane, reason=park_reason)
    def unpark(self, lane: int, reason: str) -> None:
        leases.unpark(self.accounts[lane], reason)

    @event(places=some_items)
    def give_up(self, places: set[int]) -> None:
        """An upgrade took the provider away, or the access was: what has not begun never will."""
        items = JobItem.objects.filter(pk=self.items[min(places)]).exclude(job__order__in=NOT_STARTED)
        transition_all(items, S.PENDING, S.SKIPPED, reason="unsupported")
        transition_all(items, S.WAITING, S.SKIPPED, reason="unsupported")

    # --- runners ----------------------------------------------------------------------------------------------------------------------

    @event(lane=one_lane)
    def a_runner_comes(self, lane: int) -> None:
        holder = leases.new_holder()
        taken = leases.acquire(self.accounts[lane].pk, holder)
        assert taken is (lane not in self.holders)
        if taken:
            assert not JobItem.objects.filter(account=self.accounts[lane], status=S.RUNNING).exists()  # what a dead one left is handed back
            self.holders[lane] = holder

    @event(lane=one_lane, most=st.integers(1, 4))
    def claim(self, lane: int, most: int) -> None:
        if lane not in self.holders:
            self.a_runner_comes(lane)
        ready = list(JobItem.objects.ready(timezone.now()).filter(account=self.accounts[lane]).order_by("ordinal")[:most])
        moves = [Move(item.pk, item.job_id, S.PENDING, S.RUNNING) for item in ready]
        leases.renew([(self.accounts[lane].pk, self.holders[lane])])
        assert transition(moves, take=self.holders[lane]) == len(moves)
        assert transition(moves, take=self.holders[lane]) == 0  # taken once

    @event(lane=one_lane, most=st.integers(1, 3))
    def remember(self, lane: int, most: int) -> None:
        for item in self.held(lane).filter(before__isnull=True)[:most]:
            self.befores[item.pk] = {"title": f"before {item.pk}"}
            assert JobItem.objects.filter(pk=item.pk, lease=self.holders[lane], before__isnull=True).update(before=self.befores[item.pk]) == 1

    @event(weight=2, lane=one_lane, outcomes=outcomes)
    def settle(self, lane: int, outcomes: list[tuple[S, int]]) -> None:
        moves = []
        for item, (new, number) in zip(self.held(lane), outcomes, strict=False):
            reasons = REASONS.get(new, [""])
            values = {"finished_at": timezone.now()} if new in ENDED else {}
            moves.append(Move(item.pk, item.job_id, S.RUNNING, new, reasons[number % len(reasons)], values, self.holders.get(lane, "nobody")))
        assert transition(moves) == len(moves)
        assert transition(moves) == 0  # told twice, counted once

    @event(weight=4, most=st.integers(1, 4), remembered=st.integers(0, 3), outcomes=outcomes)
    def work(self, most: int, remembered: int, outcomes: list[tuple[S, int]]) -> None:
        """All of it in one go and in both lanes, as it mostly is."""
        for lane in (0, 1):
            self.claim(lane, most)
            self.remember(lane, remembered)
            self.settle(lane, outcomes[:: 1 - 2 * lane])

    @event(lane=one_lane, places=some_items)
    def settle_with_some_that_are_not_its_own(self, lane: int, places: set[int]) -> None:
        items = self.picked(places)
        own = [item for item in items if item.lease and item.lease == self.holders.get(lane)]
        moves = [Move(item.pk, item.job_id, S.RUNNING, S.UNCHANGED, lease=self.holders.get(lane, "nobody")) for item in items]
        assert transition(moves) == len(own)

    @event(lane=one_lane, suspended=st.booleans(), noticed=st.booleans())
    def leave(self, lane: int, suspended: bool, noticed: bool) -> None:
        """The runner ends and hands back; or it is suspended, its lease runs out, and somebody notices or nobody does yet."""
        if lane in self.holders and suspended:
            self.gone.append((lane, self.holders.pop(lane)))
            Lane.objects.filter(account=self.accounts[lane]).update(lease_until=timezone.now() - timedelta(seconds=1))
        elif lane in self.holders:
            assert leases.release(self.accounts[lane].pk, self.holders.pop(lane)) is True
        if noticed:
            idle = set(leases.reap())
            assert not JobItem.objects.filter(status=S.RUNNING).exclude(lease__in=self.holders.values()).exists()
            assert not idle & {self.accounts[lane].pk for lane in self.holders}

    @event(places=some_items, new=st.sampled_from(sorted(MOVES[S.RUNNING])))
    def come_back_too_late(self, places: set[int], new: S) -> None:
        """A runner whose lease another one has, or the reaper took: it renews nothing, stores nothing, gives nothing back."""
        if not self.gone:
            return
        lane, holder = self.gone[-1]
        if Lane.objects.filter(account=self.accounts[lane], holder=holder).exists():  # nobody was there meanwhile: it may still hand back
            leases.reap()
        with pytest.raises(LeaseLost), transaction.atomic():
            leases.renew([(self.accounts[lane].pk, holder)])
        now = self.statuses()
        moves = [Move(item.pk, item.job_id, S.RUNNING, new, lease=holder) for item in self.picked(places)]
        assert transition(moves) == 0
        assert leases.release(self.accounts[lane].pk, holder) is False
        assert self.statuses() == now

    # --- what nobody may do -----------------------------------------------------------------------------------------------------------

    @event(place=one_job, order=st.sampled_from(["start", "pause", "resume", "cancel", "retry", "discard", "decide"]))
    def somebody_else_gives_orders(self, place: int, order: str) -> None:
        job = self.job(place)
        with pytest.raises(PermissionDenied):
            if order == "decide":
                jobs.decide(self.stranger, job.items.all()[0], overwrite=True)
            else:
                getattr(jobs, order)(self.stranger, job)
        assert self.statuses() == self.seen and self.job(place).order == job.order

    @event(places=some_items, old=st.sampled_from(list(S)), new=st.sampled_from(list(S)), decided=st.booleans())
    def make_a_move_of_no_table_or_of_another_moment(self, places: set[int], old: S, new: S, decided: bool) -> None:
        """What no table knows is refused, and all of its batch; what the table knows moves nothing that stands somewhere else by now."""
        items = self.picked(places)
        if new in MOVES.get(old, ()) or (decided and new in DECISIONS.get(old, ())):
            overtaken = [Move(item.pk, item.job_id, old, new) for item in items if item.status != old]
            assert transition(overtaken, decided=decided) == 0
        else:
            allowed = [Move(item.pk, item.job_id, S.PENDING, S.SKIPPED) for item in items]
            with pytest.raises(IllegalMove):
                transition([*allowed, Move(self.items[0], self.jobs[0].pk, old, new)], decided=decided)
            with pytest.raises(IllegalMove):
                transition_all(JobItem.objects.all(), old, new, decided=decided)
        assert self.statuses() == self.seen

    # --- what must hold ---------------------------------------------------------------------------------------------------------------

    def what_must_hold_holds(self) -> None:
        for job in self.jobs:
            job.refresh_from_db()
        rows = list(JobItem.objects.all())
        self.only_moves_of_the_table_were_made({row.pk: S(row.status) for row in rows})
        for job in self.jobs:
            own = [row for row in rows if row.job_id == job.pk]
            self.the_counters_are_those_of_the_rows(job, own)
            self.what_a_job_shows_is_a_function_of_its_order_and_its_counters(job, own)
            self.only_what_runs_has_a_lease(job, own)
        assert {row.pk: row.before for row in rows if row.before is not None} == self.befores  # never overwritten

    def only_moves_of_the_table_were_made(self, now: dict[int, S]) -> None:
        """The end of an item was left only where a person decided just that."""
        for pk, old in self.seen.items():
            if old in ENDED and now[pk] != old:
                assert pk in self.may_reopen, f"{old} -> {now[pk]} without a decision"
                assert now[pk] in DECISIONS[old], f"{old} -> {now[pk]}"
            assert old in ENDED or now[pk] in reachable(old), f"{old} -> {now[pk]}"
            MADE[(old, now[pk])] += old != now[pk]
        self.seen, self.may_reopen = now, set()

    def the_counters_are_those_of_the_rows(self, job: Job, rows: list[JobItem]) -> None:
        found = Counter(counter_of(S(row.status), row.reason) for row in rows)
        assert job.counts == {name: found[name] for name in COUNTERS}
        assert job.total == len(rows)

    def what_a_job_shows_is_a_function_of_its_order_and_its_counters(self, job: Job, rows: list[JobItem]) -> None:
        assert Job(order=job.order, **{f"n_{name}": count for name, count in job.counts.items()}).state == job.state
        is_open = any(row.status in OPEN for row in rows)
        assert (job.state == "preview") == (job.order == Order.DRAFT)
        assert (job.state == "needs approval") == (job.order == Order.ASK)
        assert (job.state in FINISHED) == (job.order not in NOT_STARTED and not is_open)
        assert (job.finished_at is not None) == (job.state in FINISHED)
        assert (job.state in ("cancelling", "cancelled")) == (job.order == Order.CANCEL)
        if job.order == Order.PAUSE and is_open:
            assert job.state == ("pausing" if any(row.status == S.RUNNING for row in rows) else "paused")

    def only_what_runs_has_a_lease(self, job: Job, rows: list[JobItem]) -> None:
        for row in rows:
            assert (row.status == S.RUNNING) == (row.lease != ""), f"{row}: {row.status} {row.lease}"
            assert row.status not in OPEN or row.finished_at is None, f"{row} is open and has an end"
            assert {"not_sent": row.before is None, "interrupted": row.before is not None}.get(row.reason, True), f"{row}: {row.reason}"
            assert job.order not in NOT_STARTED or row.status in (S.PENDING, S.SKIPPED), f"{row} moved before its job was started"


def make_jobs(user: User) -> None:
    """Plans two jobs: one over conversations of two accounts of a colleague, and one over some of the first account's again."""
    now, boss = timezone.now(), make_user("boss@example.com")
    team = teams.create(boss, "Desk")
    Membership.objects.create(team=team, user=user, role=Role.OPERATOR)
    for number, label in enumerate(("one", "two")):
        account = Account.objects.create(owner=boss, provider_key="modelrouter", label=label, base_url="http://127.0.0.1:9", upstream_identity=label)
        teams.share(boss, account, team, ShareLevel.USE)
        times = {"sort_at": now, "first_seen_at": now, "seen_at": now}
        rows = [Conversation(account=account, remote_id=str(row), title=f"{label} {row}", **times) for row in range(4 - number)]
        Conversation.objects.bulk_create(rows)
    ours = Conversation.objects.filter(account__owner=boss)
    jobs.plan(jobs.create(user, "set-title", ours), {"template": "new {n}", "include_hand_made": True})
    jobs.plan(
        jobs.create(user, "set-title", ours.filter(account__label="one", remote_id__in=["0", "1", "2"])),
        {"template": "newer {n}", "include_hand_made": True},
    )


@pytest.mark.django_db
def test_whatever_happens_the_table_rules_and_the_numbers_are_those_of_the_rows():
    user, stranger = make_user(), make_user("stranger@example.com")
    make_jobs(user)
    MADE.clear()
    one_event = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), EVENTS[name]))

    @settings(max_examples=60, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(begun=st.sampled_from([(0, 1), (0, 1), (0,), ()]), events=st.lists(one_event, min_size=30, max_size=40))
    def live(begun: tuple[int, ...], events: list[tuple[str, dict[str, Any]]]) -> None:
        with transaction.atomic():
            machine = Machine(user, stranger)
            machine.live([*(("give_an_order", {"place": place, "order": "start"}) for place in begun), *events])
            for job in machine.jobs:
                counted = dict(job.counts)
                recount(job)
                assert job.counts == counted
            transaction.set_rollback(True)

    wanted = {(old, new) for table in (MOVES, DECISIONS) for old, news in table.items() for new in news}
    for number in range(8):  # the same lives every time; on until every move of the table has been made
        seed(number)(live)()
        missing = sorted(f"{old} -> {new}" for old, new in wanted if not MADE[(old, new)])
        if not missing:
            break
    assert not missing, f"these moves were never made: {missing}"
