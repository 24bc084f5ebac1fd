"""The first few conversations of each account are tried before the rest, and what they say about their account holds there only."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from conversations import canary, jobs, lanes, leases
from conversations.job_forms import StartForm
from conversations.models import Conversation, Job
from conversations.states import ItemStatus as S
from conversations.states import Move, transition

from .pages import HX, text_of
from .support import make_user, synced
from .test_jobs import adds_up, other_model, switch_job
from .test_lanes import to_end

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def two(connected, alice):
    """A planned job over two accounts with 20 conversations each: (simulator, account) of both, job."""
    places = [connected("modelrouter", populate=20, rate_limit=0, label=label) for label in ("one", "two")]
    for _simulator, account in places:
        synced(account)
    job = jobs.plan(jobs.create(alice, "set-title", Conversation.objects.all()), {"template": "t {n}", "include_hand_made": True})
    for simulator, _account in places:
        simulator.log.clear()
    return *places, job


def again(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def counts(job, account):
    found = {}
    for status, reason in job.items.filter(account=account).values_list("status", "reason"):
        found[status, reason] = found.get((status, reason), 0) + 1
    return found


def test_an_account_whose_first_ones_are_not_applied_stops_and_the_others_go_on(two, alice, client):
    (liar, first), (_honest, second), job = two
    liar.add_fault("ignore", writes_only=True, times=999)
    start = {"canary": "5", "canary_limit": "20"}
    assert client.post(reverse("job_start", args=[job.pk]), start).status_code == 302
    job = again(job)
    assert (job.canary, job.canary_limit) == (5, 20)
    assert counts(job, first) == counts(job, second) == {("pending", ""): 5, ("waiting", "canary"): 15}
    adds_up(job)
    to_end(first)
    to_end(second)
    assert counts(job, first) == {("not_applied", "accepted_not_applied"): 5, ("waiting", "canary_halted"): 15}
    assert counts(job, second) == {("applied", ""): 20}
    assert len(liar.writes()) == 5
    job = again(job)
    assert job.canary_passed == [str(second.pk)] and job.state == "waiting"
    adds_up(job)
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert "<strong>one</strong>: 5 of 5 accepted but not applied." in page and "15 conversations wait." in page
    assert "<strong>two</strong>" not in page and "alert-warning" not in page


def test_a_person_lets_an_account_go_on(two, alice, client):
    (liar, first), _second, job = two
    liar.add_fault("ignore", writes_only=True, times=5)
    jobs.start(alice, job, canary=5)
    to_end(first)
    assert again(job).items.filter(account=first, reason="canary_halted").count() == 15
    address, given = reverse("job_go_on", args=[job.pk]), {"account": str(first.pk)}
    answer = client.post(address, given, headers=HX)
    assert "15 conversations go on." in answer["HX-Trigger"] and f"go-on-{first.pk}" not in text_of(answer)
    assert "Nothing waits there" in client.post(address, given, headers=HX)["HX-Trigger"]
    to_end(first)
    assert counts(job, first) == {("not_applied", "accepted_not_applied"): 5, ("applied", ""): 15}
    adds_up(job)


def test_a_stopped_job_is_cancelled_truthfully(two, alice):
    (liar, first), (_honest, second), job = two
    liar.add_fault("ignore", writes_only=True, times=999)
    jobs.start(alice, job, canary=5)
    to_end(first)
    to_end(second)
    assert jobs.cancel(alice, again(job))
    job = again(job)
    assert (job.state, job.n_cancelled, job.n_not_applied, job.n_applied) == ("cancelled", 15, 5, 20)
    assert canary.go_on(alice, job, first.pk) == 0
    adds_up(job)


def test_first_ones_that_are_retried_with_success_let_the_rest_go_on(two, alice):
    (liar, first), _second, job = two
    liar.add_fault("ignore", writes_only=True, times=5)
    jobs.start(alice, job, canary=5)
    to_end(first)
    assert jobs.retry(alice, again(job)) == 5
    to_end(first)
    assert counts(job, first) == {("applied", ""): 20}


@pytest.mark.parametrize(("bad", "limit", "halted"), [(1, 20, False), (2, 20, True), (1, 0, True), (2, 40, False), (0, 0, False)])
def test_the_limit_is_a_share_of_those_that_were_tried(two, alice, bad, limit, halted):
    (_simulator, first), _second, job = two
    jobs.start(alice, job, canary=5, canary_limit=limit)
    end(job, first, bad=bad, good=5 - bad)
    assert job.items.filter(account=first, reason="canary_halted").exists() is halted
    assert (str(first.pk) in again(job).canary_passed) is not halted


def end(job: Job, account, *, bad: int = 0, good: int = 0, skipped: int = 0) -> None:
    """Ends pending items of an account as a lane would, and has it judged."""
    ends = [S.CONFLICT] * bad + [S.APPLIED] * good + [S.SKIPPED] * skipped
    items = list(job.items.filter(account=account, status=S.PENDING).order_by("rank", "ordinal")[: len(ends)])
    assert len(items) == len(ends)
    for old, news in ((S.PENDING, [S.RUNNING] * len(ends)), (S.RUNNING, ends)):
        assert transition([Move(item.pk, job.pk, old, new) for item, new in zip(items, news, strict=True)]) == len(ends)
    canary.judge(again(job), account.pk)


def test_nothing_is_decided_before_the_first_ones_have_ended(two, alice):
    (_simulator, first), _second, job = two
    jobs.start(alice, job, canary=5)
    end(job, first, good=4)
    assert counts(job, first) == {("applied", ""): 4, ("pending", ""): 1, ("waiting", "canary"): 15}
    leases.park(first, "account_paused")  # a first one that waits has not ended
    canary.judge(again(job), first.pk)
    assert job.items.filter(account=first, reason="canary").count() == 15
    leases.unpark(first, "account_paused")
    assert job.items.filter(account=first, status="pending").count() == 1
    end(job, first, good=1)
    assert counts(job, first) == {("applied", ""): 5, ("pending", ""): 15}


def test_where_first_ones_are_skipped_others_take_their_place(two, alice):
    (simulator, first), _second, job = two
    for item in job.items.filter(account=first).order_by("rank", "ordinal")[:5]:
        simulator.remove_by_somebody(item.remote_id)
    jobs.start(alice, job, canary=5)
    end(job, first, skipped=3, good=2)
    assert counts(job, first) == {("skipped", ""): 3, ("applied", ""): 2, ("pending", ""): 3, ("waiting", "canary"): 12}
    end(job, first, bad=3)
    assert job.items.filter(account=first, reason="canary_halted").count() == 12


def test_what_has_its_value_already_is_no_first_one(connected, alice):
    _simulator, account = connected("modelrouter", populate=20, rate_limit=0)
    synced(account)
    model = other_model(account)
    ids = account.conversations.order_by("rank").values_list("pk", flat=True)[:10]
    Conversation.objects.filter(pk__in=list(ids)).update(model=model, model_value=model)
    job = switch_job(alice, account, model)
    jobs.start(alice, job, canary=5)
    first = job.items.filter(status="pending")
    assert first.count() == 5 and all(item.expected != item.target for item in first)
    assert job.items.filter(reason="canary").count() == 15


def test_a_job_smaller_than_its_canary_holds_nothing_back(two, alice):
    (liar, first), _second, job = two
    jobs.start(alice, job, canary=50)
    assert job.items.filter(status="pending").count() == 40 and job.n_waiting == 0
    liar.add_fault("ignore", writes_only=True, times=999)
    to_end(first)
    assert counts(job, first) == {("not_applied", "accepted_not_applied"): 20}


def test_a_runner_that_is_killed_in_the_trial_leaves_it_to_the_next_one(two, alice, monkeypatch):
    (simulator, first), _second, job = two
    jobs.start(alice, job, canary=5)

    def fails(*_arguments):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(canary, "judge", fails)
        lanes.run_lane(first.pk)
    assert job.items.filter(account=first, reason="canary").count() == 15
    adds_up(job)
    to_end(first)
    assert job.items.filter(account=first, status="applied").count() == 20
    assert len([call for call in simulator.writes() if call.changed]) == 20


def test_only_ones_own_job_is_let_go_on(two, alice):
    (_simulator, first), _second, job = two
    jobs.start(alice, job, canary=5)
    mallory = make_user("mallory@example.com")
    with pytest.raises(PermissionDenied):
        canary.go_on(mallory, job, first.pk)
    stranger = Client()
    stranger.force_login(mallory)
    assert stranger.post(reverse("job_go_on", args=[job.pk]), {"account": str(first.pk)}).status_code == 404
    assert again(job).n_waiting == 30


def test_an_account_that_is_not_in_the_job_is_not_found(two, alice, client, connected):
    (_at_first, first), _second, job = two
    assert canary.go_on(alice, job, first.pk) == 0 and again(job).canary_passed == []  # a draft has no first ones
    _simulator, other = connected("aurod", label="elsewhere")
    jobs.start(alice, job, canary=5)
    for account in (str(other.pk), "nonsense", ""):
        assert client.post(reverse("job_go_on", args=[job.pk]), {"account": account}).status_code == 404


@pytest.mark.parametrize("given", [{"canary": "0"}, {"canary": "1001"}, {"canary": "x"}, {"canary": "5", "canary_limit": "100"}])
def test_numbers_that_make_no_sense_are_refused(two, client, given):
    _first, _second, job = two
    answer = client.post(reverse("job_start", args=[job.pk]), given)
    assert answer.status_code == 422 and '<details class="run-canary" id="run-canary" open>' in answer.content.decode()
    assert Job.objects.get(pk=job.pk).order == "draft"


def test_without_a_number_everything_runs_at_once(two, alice):
    _first, _second, job = two
    form = StartForm({"canary": "", "canary_limit": "20"})
    assert form.is_valid()
    jobs.start(alice, job, **form.orders)
    assert again(job).canary is None and not job.items.filter(status="waiting").exists()
