"""The life of an item: the table of moves, driven with random events on the real database, and drawn in the documentation."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from accounts.models import Account
from conversations import jobs, leases
from conversations.models import Conversation, Job, JobItem, Lane, Order
from conversations.states import DECISIONS, ENDED, MOVES, OPEN, IllegalMove, Move, check_move, recount, transition, transition_all
from conversations.states import ItemStatus as S

from .support import make_user

ARCHITECTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "architecture.md"
ITEMS = 8
MADE: Counter[tuple[S, S]] = Counter()  # what was seen to happen, so that the walk cannot stay in one corner
MORE: dict[S, list[str]] = {S.FAILED: ["rejected", "outcome_unknown"], S.PENDING: ["", "not_there", "interrupted"], S.WAITING: ["account_paused"]}


def make_job(user: Any, count: int = ITEMS) -> Job:
    """Returns a planned job over `count` conversations of two accounts; no provider is near."""
    for label in ("one", "two"):
        account = Account.objects.create(owner=user, provider_key="modelrouter", label=label, base_url="http://127.0.0.1:9", upstream_identity=label)
        now = timezone.now()
        times = {"sort_at": now, "first_seen_at": now, "seen_at": now}
        rows = [Conversation(account=account, remote_id=str(number), title=f"{label} {number}", **times) for number in range(count // 2)]
        Conversation.objects.bulk_create(rows)
    return jobs.plan(
        jobs.create(user, "set-title", Conversation.objects.filter(account__owner=user)), {"template": "new {n}", "include_hand_made": True}
    )


def reachable(old: S) -> set[S]:
    """Returns where the machine alone may bring an item, itself included."""
    found, last = {old}, set[S]()
    while found != last:
        last = set(found)
        found |= {new for status in last for new in MOVES.get(status, ())}
    return found


class Life:
    """One job, two lanes, and everything that can happen to them; after every step the numbers are those of the rows."""

    EVENTS = ("claim", "claim", "remember", "settle", "settle", "people", "people", "too_late", "give_back", "die", "forbidden")
    ORDERS = ("start", "pause", "resume", "resume", "retry", "decide", "decide", "park", "unpark", "unpark", "cancel")

    def __init__(self, user: Any, chance: random.Random) -> None:
        self.user, self.chance = user, chance
        self.job = make_job(user)
        self.holders: dict[Any, str] = {}
        self.befores: dict[int, Any] = {}
        self.accounts = list(Account.objects.filter(owner=user))
        self.seen = self.statuses()
        self.decided = False

    def statuses(self) -> dict[int, S]:
        return {pk: S(status) for pk, status in self.job.items.values_list("pk", "status")}

    def some(self, items: Any, most: int = 4) -> list[JobItem]:
        rows = list(items)
        return self.chance.sample(rows, min(most, len(rows)))

    def step(self) -> str:
        """Lets one thing happen, checks everything, and returns what it was."""
        event = self.chance.choice(self.EVENTS)
        told = getattr(self, event)(self.chance.choice((0, 1)))
        self.only_allowed_moves_were_made()
        self.numbers_are_those_of_the_rows()
        self.the_end_is_noted_when_it_is_one()
        self.only_what_runs_has_a_lease_and_no_value_before_is_overwritten()
        return f"{event} {told or ''}"

    # --- people -----------------------------------------------------------------------------------------------------------------------

    def people(self, number: int) -> str:
        order = self.chance.choice(self.ORDERS if self.job.order != Order.DRAFT else ("start",))
        self.decided = order in ("retry", "decide")
        if order == "decide":
            for item in self.some(self.job.items.filter(status=S.CONFLICT)) or self.some(self.job.items.all()):
                jobs.decide(self.user, item, overwrite=self.chance.random() < 0.7)
        elif order in ("park", "unpark"):
            getattr(leases, order)(self.accounts[number], self.chance.choice(["account_paused", "account_needs_reauth"]))
        elif order != "cancel" or self.chance.random() < 0.3:  # not every time: less can happen afterwards
            getattr(jobs, order)(self.user, self.job)
        return order

    # --- lanes ------------------------------------------------------------------------------------------------------------------------

    def claim(self, number: int) -> None:
        holder = leases.new_holder()
        if number not in self.holders and leases.acquire(self.accounts[number].pk, holder):
            self.holders[number] = holder
        if number in self.holders:
            ready = JobItem.objects.ready(timezone.now()).filter(account=self.accounts[number])
            moves = [Move(item.pk, item.job_id, S.PENDING, S.RUNNING) for item in self.some(ready)]
            assert transition(moves, take=self.holders[number]) == len(moves)

    def held(self, number: int) -> Any:
        return self.job.items.filter(lease=self.holders.get(number, "nobody"))

    def remember(self, number: int) -> None:
        for item in self.some(self.held(number).filter(before__isnull=True), 2):
            self.befores[item.pk] = {"title": f"before {item.pk}"}
            JobItem.objects.filter(pk=item.pk).update(before=self.befores[item.pk])

    def settle(self, number: int) -> str:
        moves = []
        for item in self.some(self.held(number), 3):
            new = self.chance.choice(sorted(MOVES[S.RUNNING]))
            moves.append(Move(item.pk, item.job_id, S.RUNNING, new, self.chance.choice(MORE.get(new, [""]))))
        assert transition(moves, lease=self.holders.get(number, "nobody")) == len(moves)
        assert transition(moves, lease=self.holders.get(number, "nobody")) == 0  # told twice, counted once
        return ", ".join(move.new for move in moves)

    def too_late(self, _number: int) -> None:
        """A runner that lost its lease: nothing moves and nothing is counted."""
        moves = [Move(item.pk, item.job_id, S.RUNNING, S.APPLIED) for item in self.some(self.job.items.all())]
        assert transition(moves, lease="a runner that is gone") == 0

    def give_back(self, number: int) -> None:
        if number in self.holders:
            leases.release(self.accounts[number].pk, self.holders.pop(number))

    def die(self, number: int) -> None:
        if self.chance.random() < 0.5:
            self.holders.pop(number, None)
            Lane.objects.filter(account=self.accounts[number]).update(lease_until=timezone.now() - timedelta(seconds=1))
        leases.reap()

    def forbidden(self, _number: int) -> str:
        """A move that the table does not know: refused before anything is written."""
        old, new, decided = self.chance.choice(list(S)), self.chance.choice(list(S)), self.chance.random() < 0.5
        if new in MOVES.get(old, ()) or (decided and new in DECISIONS.get(old, ())):
            return "allowed"
        moves = [Move(item.pk, item.job_id, S(item.status), new) for item in self.some(self.job.items.filter(status=old))]
        with pytest.raises(IllegalMove):
            transition([*moves, Move(0, 0, old, new)], decided=decided)
        with pytest.raises(IllegalMove):
            transition_all(self.job.items.all(), old, new, decided=decided)
        assert self.statuses() == self.seen
        return f"{old} -> {new}"

    # --- after every step -------------------------------------------------------------------------------------------------------------

    def only_allowed_moves_were_made(self) -> None:
        now = self.statuses()
        for pk, old in self.seen.items():
            if old in ENDED and not self.decided:
                assert now[pk] == old, f"{old} -> {now[pk]} without a decision"
            starts = {old} | (set(DECISIONS.get(old, ())) if self.decided else set())
            assert any(now[pk] in reachable(start) for start in starts), f"{old} -> {now[pk]}"
            MADE[(old, now[pk])] += old != now[pk]
        self.seen, self.decided = now, False

    def numbers_are_those_of_the_rows(self) -> None:
        self.job.refresh_from_db()
        rows = Counter(
            "unknown" if (status, reason) == ("failed", "outcome_unknown") else status
            for status, reason in self.job.items.values_list("status", "reason")
        )
        assert {name: count for name, count in self.job.counts.items() if count} == dict(rows)
        assert self.job.total == ITEMS and min(self.job.counts.values()) >= 0
        counted = dict(self.job.counts)
        recount(self.job)
        assert self.job.counts == counted

    def the_end_is_noted_when_it_is_one(self) -> None:
        over = self.job.order != Order.DRAFT and not self.job.open
        assert (self.job.finished_at is not None) == over
        assert self.job.order == Order.DRAFT or over == (self.job.state in ("done", "done with failures", "cancelled"))

    def only_what_runs_has_a_lease_and_no_value_before_is_overwritten(self) -> None:
        assert not self.job.items.filter(status=S.RUNNING, lease="").exists()
        assert not self.job.items.exclude(status=S.RUNNING).exclude(lease="").exists()
        assert {pk: before for pk, before in self.job.items.values_list("pk", "before") if before is not None} == self.befores


@pytest.mark.django_db
def test_whatever_happens_the_table_rules_and_the_numbers_are_those_of_the_rows():
    user = make_user()
    MADE.clear()

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(chance=st.randoms(use_true_random=True))
    def live(chance: random.Random) -> None:
        with transaction.atomic():
            life = Life(user, chance)
            for number in range(60):
                note(f"{number}: {life.step()}")
            transaction.set_rollback(True)

    live()
    missing = [f"{old} -> {new}" for old, news in MOVES.items() for new in news if not MADE[(old, new)]]
    missing += [f"{old} -> {new} (decided)" for old, news in DECISIONS.items() for new in news if not MADE[(old, new)]]
    assert len(missing) <= 2, f"these moves were never tried: {missing}"


# --- the table ------------------------------------------------------------------------------------------------------------------------------


def test_nothing_is_open_and_ended_and_every_state_can_be_reached():
    assert set(S) == OPEN | ENDED and not OPEN & ENDED
    assert reachable(S.PENDING) == set(S)
    assert set(MOVES) == OPEN and set(DECISIONS) <= ENDED
    assert all(new in OPEN | {S.SKIPPED} for news in DECISIONS.values() for new in news)


def test_a_move_is_allowed_exactly_where_the_table_says():
    for old, new, decided in product(S, S, (False, True)):
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
    begun = [Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in items]
    assert transition(begun[:3], take="first") == 3
    assert transition(begun, take="second") == ITEMS - 3  # some were overtaken: the rest moves all the same
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
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(n_running=-1)


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
