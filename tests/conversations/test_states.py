"""The life of an item: the table of moves, and how the documentation draws it. `test_machine.py` drives it with random events."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Account
from conversations import jobs
from conversations.models import Conversation, Job
from conversations.states import DECISIONS, ENDED, MOVES, OPEN, IllegalMove, Move, check_move, transition
from conversations.states import ItemStatus as S

from .support import make_user

ARCHITECTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "architecture.md"
ITEMS = 8


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
    ended = [Move(item.pk, job.pk, S.RUNNING, S.APPLIED, values={"after": {"title": "é😀"}}, lease="first") for item in items]
    assert transition(ended) == 3
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
