"""The life of an item: the table of moves, driven with random events on the real database, and drawn in the documentation."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from accounts.models import Account
from conversations import jobs, leases
from conversations.models import Conversation, Job, JobItem, Lane, Order
from conversations.states import DECISIONS, ENDED, MOVES, OPEN, IllegalMove, Move, check_move, counter_of, recount, transition, transition_all
from conversations.states import ItemStatus as S

from .support import make_user

ARCHITECTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "architecture.md"
ITEMS = 8
MORE: dict[S, list[str]] = {S.FAILED: ["rejected", "outcome_unknown"], S.APPLIED: ["", "checked_after_no_answer"], S.CONFLICT: ["changed_since_preview"]}


def make_job(user: Any, count: int = ITEMS) -> Job:
    """Returns a planned job over `count` conversations of two accounts; no provider is near."""
    for label in ("one", "two"):
        account = Account.objects.create(owner=user, provider_key="modelrouter", label=label, base_url="http://127.0.0.1:9", upstream_identity=label)
        now = timezone.now()
        rows = [Conversation(account=account, remote_id=str(n), title=f"{label} {n}", sort_at=now, first_seen_at=now, seen_at=now) for n in range(count // 2)]
        Conversation.objects.bulk_create(rows)
    return jobs.plan(jobs.create(user, "set-title", Conversation.objects.filter(account__owner=user)), {"template": "new {n}"})


def reachable(old: S) -> set[S]:
    """Returns where the machine alone may bring an item, itself included."""
    found, last = {old}, set[S]()
    while found != last:
        last = set(found)
        found |= {new for status in last for new in MOVES.get(status, ())}
    return found


class Life(RuleBasedStateMachine):
    """One job, two lanes, and everything that can happen to them, in any order; after every step the numbers are those of the rows."""

    user: Any = None

    @initialize()
    def begin(self) -> None:
        self.job = make_job(self.user)
        self.holders: dict[Any, str] = {}
        self.befores: dict[int, Any] = {}
        self.accounts = list(Account.objects.filter(owner=self.user))
        self.seen = self.statuses()
        self.decided = False

    def statuses(self) -> dict[int, S]:
        return {pk: S(status) for pk, status in self.job.items.values_list("pk", "status")}

    def draw(self, seed: int, items: Any, most: int = 4) -> list[JobItem]:
        rows = list(items)
        return random.Random(seed).sample(rows, min(most, len(rows)))

    # --- people -----------------------------------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from([jobs.start, jobs.pause, jobs.resume]))
    def order(self, what: Any) -> None:
        what(self.user, self.job)

    @rule(sure=st.integers(0, 3))
    def cancel(self, sure: int) -> None:
        if not sure and self.job.order != Order.DRAFT:  # not every time: nothing much happens afterwards
            jobs.cancel(self.user, self.job)

    @rule()
    def retry(self) -> None:
        self.decided = True
        jobs.retry(self.user, self.job)

    @rule(seed=st.integers(0, 99), overwrite=st.booleans())
    def decide(self, seed: int, overwrite: bool) -> None:
        self.decided = True
        for item in self.draw(seed, self.job.items.all(), 3):
            jobs.decide(self.user, item, overwrite=overwrite)

    @rule(number=st.integers(0, 1), reason=st.sampled_from(["account_paused", "account_needs_reauth"]), back=st.booleans())
    def park(self, number: int, reason: str, back: bool) -> None:
        (leases.unpark if back else leases.park)(self.accounts[number], reason)

    # --- lanes ------------------------------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 1))
    def take_lane(self, number: int) -> None:
        holder = leases.new_holder()
        if leases.acquire(self.accounts[number].pk, holder):
            self.holders[number] = holder

    @rule(number=st.integers(0, 1), seed=st.integers(0, 99))
    def claim(self, number: int, seed: int) -> None:
        if number in self.holders:
            ready = JobItem.objects.ready(timezone.now()).filter(account=self.accounts[number])
            moves = [Move(item.pk, item.job_id, S.PENDING, S.RUNNING) for item in self.draw(seed, ready)]
            transition(moves, take=self.holders[number])

    @rule(number=st.integers(0, 1), seed=st.integers(0, 99))
    def remember(self, number: int, seed: int) -> None:
        held = self.job.items.filter(lease=self.holders.get(number, "nobody"), before__isnull=True)
        for item in self.draw(seed, held):
            JobItem.objects.filter(pk=item.pk).update(before={"title": f"before {item.pk}"})
            self.befores[item.pk] = {"title": f"before {item.pk}"}

    @rule(number=st.integers(0, 1), seed=st.integers(0, 99), new=st.sampled_from(sorted(MOVES[S.RUNNING])), more=st.integers(0, 1))
    def settle(self, number: int, seed: int, new: S, more: int) -> None:
        reasons = MORE.get(new, [""])
        reason = reasons[more % len(reasons)]
        chosen = self.draw(seed, self.job.items.filter(lease=self.holders.get(number, "nobody")))
        moved = transition([Move(item.pk, item.job_id, S.RUNNING, new, reason) for item in chosen], lease=self.holders.get(number, "nobody"))
        assert moved == len(chosen)

    @rule(number=st.integers(0, 1), seed=st.integers(0, 99))
    def settle_too_late(self, number: int, seed: int) -> None:
        """A runner that lost its lease, or two that end the same item: nothing moves and nothing is counted."""
        chosen = self.draw(seed, self.job.items.all())
        assert transition([Move(item.pk, item.job_id, S.RUNNING, S.APPLIED) for item in chosen], lease="a runner that is gone") == 0

    @rule(number=st.integers(0, 1))
    def give_back(self, number: int) -> None:
        if number in self.holders:
            leases.release(self.accounts[number].pk, self.holders.pop(number))

    @rule(number=st.integers(0, 1))
    def die(self, number: int) -> None:
        self.holders.pop(number, None)
        Lane.objects.filter(account=self.accounts[number]).update(lease_until=timezone.now() - timezone.timedelta(seconds=1))
        leases.reap()

    @rule()
    def reap(self) -> None:
        leases.reap()

    # --- what must not be possible ----------------------------------------------------------------------------------------------------

    @rule(seed=st.integers(0, 99), old=st.sampled_from(S), new=st.sampled_from(S), decided=st.booleans())
    def ask_for_what_is_forbidden(self, seed: int, old: S, new: S, decided: bool) -> None:
        if new in MOVES.get(old, ()) or (decided and new in DECISIONS.get(old, ())):
            return
        items = self.draw(seed, self.job.items.all())
        with pytest.raises(IllegalMove):
            transition([Move(item.pk, item.job_id, old, new) for item in items] or [Move(0, 0, old, new)], decided=decided)
        with pytest.raises(IllegalMove):
            transition_all(self.job.items.all(), old, new, decided=decided)
        assert self.statuses() == self.seen

    # --- after every step -------------------------------------------------------------------------------------------------------------

    @invariant()
    def only_allowed_moves_were_made(self) -> None:
        now = self.statuses()
        for pk, old in self.seen.items():
            if old in ENDED and not self.decided:
                assert now[pk] == old, f"{old} -> {now[pk]} without a decision"
            starts = {old} | (set(DECISIONS.get(old, ())) if self.decided else set())
            assert any(now[pk] in reachable(start) for start in starts), f"{old} -> {now[pk]}"
        self.seen, self.decided = now, False

    @invariant()
    def counters_equal_rows(self) -> None:
        self.job.refresh_from_db()
        rows = Counter(counter_of(S(status), reason) for status, reason in self.job.items.values_list("status", "reason"))
        assert {name: count for name, count in self.job.counts.items() if count} == dict(rows)
        assert self.job.total == ITEMS and min(self.job.counts.values()) >= 0
        counted = dict(self.job.counts)
        recount(self.job)
        assert self.job.counts == counted

    @invariant()
    def the_end_is_noted_exactly_when_it_is_one(self) -> None:
        over = self.job.order != Order.DRAFT and not self.job.open
        assert (self.job.finished_at is not None) == over
        assert self.job.order == Order.DRAFT or (self.job.open == 0) == (self.job.state in ("done", "done with failures", "cancelled"))

    @invariant()
    def only_what_runs_has_a_lease_and_the_value_before_is_never_overwritten(self) -> None:
        assert not self.job.items.filter(status=S.RUNNING, lease="").exists()
        assert not self.job.items.exclude(status=S.RUNNING).exclude(lease="").exists()
        assert {pk: before for pk, before in self.job.items.values_list("pk", "before") if before is not None} == self.befores

    def teardown(self) -> None:
        Job.objects.all().delete()
        Account.objects.all().delete()


@pytest.mark.django_db
def test_whatever_happens_the_table_rules_and_the_numbers_are_those_of_the_rows(monkeypatch):
    monkeypatch.setattr(Life, "user", make_user())
    quiet = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Life, settings=quiet)


# --- the table ------------------------------------------------------------------------------------------------------------------------------


def test_nothing_is_open_and_ended_and_every_state_can_be_reached():
    assert OPEN | ENDED == set(S) and not OPEN & ENDED
    assert reachable(S.PENDING) == set(S)
    assert set(MOVES) == OPEN and set(DECISIONS) <= ENDED
    assert all(new in OPEN | {S.SKIPPED} for news in DECISIONS.values() for new in news)


@pytest.mark.parametrize(("old", "new"), list(product(S, S)))
def test_a_move_is_allowed_exactly_where_the_table_says(old, new):
    for decided in (False, True):
        allowed = new in MOVES.get(old, ()) or (decided and new in DECISIONS.get(old, ()))
        if allowed:
            check_move(old, new, decided=decided)
        else:
            with pytest.raises(IllegalMove):
                check_move(old, new, decided=decided)


@pytest.mark.django_db
def test_a_batch_moves_those_that_still_stand_where_it_says_and_counts_only_these():
    job = make_job(make_user())
    jobs.start(job.actor, job)
    items = list(job.items.order_by("pk"))
    Move_ = [Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in items]
    assert transition(Move_[:3], take="first") == 3
    assert transition(Move_, take="second") == ITEMS - 3  # some were overtaken: the rest moves all the same
    job.refresh_from_db()
    assert job.n_running == ITEMS and Counter(job.items.values_list("lease", flat=True)) == {"first": 3, "second": ITEMS - 3}
    ended = [Move(item.pk, job.pk, S.RUNNING, S.APPLIED, values={"after": {"title": "é😀"}}) for item in items]
    assert transition(ended, lease="first") == 3
    job.refresh_from_db()
    assert (job.n_applied, job.n_running) == (3, ITEMS - 3)
    assert job.items.filter(status=S.APPLIED).first().after == {"title": "é😀"}


@pytest.mark.django_db
def test_the_numbers_are_guarded_by_the_database_too():
    job = make_job(make_user())
    with pytest.raises(Exception, match=r"(?i)constraint"):
        Job.objects.filter(pk=job.pk).update(n_running=-1)
    connection.needs_rollback = False


def drawn() -> str:
    """Returns the table of the documentation as the code knows it."""
    lines = ["| state | end | the machine alone | a person's decision |", "|---|---|---|---|"]
    for status in S:
        moves, choices = ([f"`{new.value}`" for new in S if new in table.get(status, ())] for table in (MOVES, DECISIONS))
        lines.append(f"| `{status.value}` | {'yes' if status in ENDED else ''} | {', '.join(moves)} | {', '.join(choices)} |")
    return "\n".join(lines)


def test_the_documentation_draws_the_table_of_the_code():
    found = re.search(r"<!-- states -->\n(.*?)\n<!-- /states -->", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "docs/architecture.md has no table between <!-- states --> and <!-- /states -->"
    assert found[1].strip() == drawn(), f"docs/architecture.md draws another table than states.py; it should be:\n{drawn()}"
