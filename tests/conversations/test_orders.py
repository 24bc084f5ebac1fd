"""What people order while lanes work: start, pause, cancel, retry, decide and discard, at the same moment and in any order."""

from __future__ import annotations

import random
import threading
import time

import pytest
import redis
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from accounts import services
from accounts.providers.errors import MalformedAnswer
from conversations import checks, jobs, lanes, leases
from conversations.models import Job, JobItem, Lane, Order
from conversations.states import ItemStatus as S
from conversations.states import Move, recount, transition

from .support import synced
from .test_jobs import adds_up, other_model, switch_job
from .test_lanes import in_background, is_over, to_end

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def draft(connected, alice):
    """A planned job over 30 conversations at a ModelRouter: simulator, account, job."""
    simulator, account = connected("modelrouter", populate=30, rate_limit=0)
    synced(account)
    simulator.log.clear()
    return simulator, account, switch_job(alice, account, other_model(account))


def set_status(job: Job, status: S, **values) -> None:
    """Puts every item of a job where a test needs it."""
    job.items.update(status=status, **values)
    recount(job)


# --- the draft ----------------------------------------------------------------------------------------------------------------------------


def test_a_draft_in_which_nothing_is_left_meanwhile_is_not_started(draft, alice, monkeypatch):
    _simulator, account, job = draft
    refresh = Job.refresh_from_db

    def and_all_gone(self, *arguments, **options):
        refresh(self, *arguments, **options)
        monkeypatch.setattr(Job, "refresh_from_db", refresh)
        jobs.recheck(Job.objects.get(pk=self.pk), account, dict.fromkeys(self.items.values_list("pk", flat=True)), {})

    monkeypatch.setattr(Job, "refresh_from_db", and_all_gone)
    with pytest.raises(ValidationError):
        jobs.start(alice, job)
    assert Job.objects.get(pk=job.pk).order == Order.DRAFT


def test_a_job_that_is_started_while_it_is_discarded_stays(draft, alice):
    _simulator, _account, job = draft
    discarded: list[bool] = []
    with transaction.atomic():
        assert jobs.start(alice, job)
        thread = in_background(lambda: discarded.append(jobs.discard(alice, job)))
        time.sleep(0.5)  # by now it waits for this transaction
    thread.join(20)
    assert discarded == [False] and Job.objects.get(pk=job.pk).order == Order.RUN


def test_a_draft_that_is_planned_anew_is_not_corrected_by_an_older_check(draft, alice):
    _simulator, account, job = draft
    old = Job.objects.get(pk=job.pk)
    others = account.catalogue.exclude(model_id=job.params["targets"][str(account.pk)])
    jobs.plan(Job.objects.get(pk=job.pk), {"targets": {str(account.pk): others.last().model_id}})
    targets = dict(job.items.values_list("pk", "target"))
    jobs.recheck(old, account, dict.fromkeys(targets), {})
    assert {pk: target for pk, target in job.items.values_list("pk", "target") if target} == {pk: target for pk, target in targets.items() if target}
    assert not job.items.filter(reason="gone").exists()


def test_one_conversation_that_cannot_be_read_keeps_no_other_from_being_checked(draft):
    simulator, account, job = draft
    refused = job.items.order_by("ordinal")[3]
    provider = services.get_provider("modelrouter")
    read = provider.read

    async def strange(self, ref, *, fresh=False):
        if ref.remote_id == refused.remote_id:
            raise MalformedAnswer("not what was asked for")
        return await read(self, ref, fresh=fresh)

    provider.read = strange
    try:
        assert checks.check_preview(job.pk, account.pk) is False
    finally:
        provider.read = read
    assert list(job.items.filter(checked_at=None)) == [refused]
    assert simulator.writes() == []


def test_a_preview_whose_conversations_are_deleted_while_it_is_checked(draft):
    _simulator, account, job = draft
    read = checks._read

    async def and_deleted(provider, job, items):
        found = await read(provider, job, items)
        for item in items:
            item.conversation.pk = None
        return found

    checks._read = and_deleted
    try:
        checks.check_preview(job.pk, account.pk)
    finally:
        checks._read = read
    adds_up(job)


# --- retry and decide -----------------------------------------------------------------------------------------------------------------------


def test_a_retry_in_a_paused_job_does_not_let_the_rest_of_it_go_on(draft, alice):
    simulator, account, job = draft
    jobs.start(alice, job)
    failed = job.items.first()
    job.items.filter(pk=failed.pk).update(status=S.FAILED, reason="rejected")
    recount(job)
    assert jobs.pause(alice, job)
    assert jobs.retry(alice, Job.objects.get(pk=job.pk)) == 1
    job.refresh_from_db()
    assert job.order == Order.PAUSE and job.n_pending == 30
    to_end(account)
    assert simulator.writes() == []
    assert jobs.resume(alice, job)
    to_end(account)
    is_over(job, simulator)


def test_a_retry_in_a_cancelled_job_runs_only_what_failed(draft, alice):
    simulator, account, job = draft
    jobs.start(alice, job)
    job.items.filter(pk__in=list(job.items.values_list("pk", flat=True)[:2])).update(status=S.FAILED, reason="outcome_unknown")
    recount(job)
    assert jobs.cancel(alice, job)
    assert Job.objects.get(pk=job.pk).state == "cancelled"
    assert jobs.retry(alice, Job.objects.get(pk=job.pk)) == 2
    to_end(account)
    job.refresh_from_db()
    assert (job.n_applied, job.n_cancelled, job.n_unknown) == (2, 28, 0) and len(simulator.writes()) == 2
    adds_up(job)


def test_retries_at_the_same_moment_send_each_item_once_more_and_not_twice(draft, alice):
    simulator, account, job = draft
    jobs.start(alice, job)
    set_status(job, S.NOT_APPLIED)
    counts: list[int] = []
    threads = [in_background(lambda: counts.append(jobs.retry(alice, Job.objects.get(pk=job.pk)))) for _turn in range(3)]
    for thread in threads:
        thread.join(20)
    assert sorted(counts) == [0, 0, 30]
    to_end(account)
    is_over(job, simulator)


def test_a_decision_about_what_is_no_conflict_any_more_changes_nothing(draft, alice):
    _simulator, _account, job = draft
    jobs.start(alice, job)
    jobs.cancel(alice, job)
    assert jobs.decide(alice, job.items.first(), overwrite=True) is False
    assert jobs.decide(alice, job.items.first(), overwrite=False) is False
    job.refresh_from_db()
    assert job.order == Order.CANCEL and job.state == "cancelled"


def test_overwriting_a_third_value_keeps_the_value_from_before_the_job(draft, alice):
    simulator, account, job = draft
    jobs.start(alice, job)
    item = job.items.first()
    third = next(model for model in account.catalogue.all() if {"model": f"[{model.model_id}]"} not in (item.expected, item.target))
    simulator.change_by_somebody(item.remote_id, model=int(third.model_id))
    JobItem.objects.filter(pk=item.pk).update(before=item.expected)  # a write of ours was sent once
    to_end(account)
    item.refresh_from_db()
    assert item.status == "conflict"
    assert jobs.decide(alice, item, overwrite=True)
    to_end(account)
    old = item.before
    item.refresh_from_db()
    assert item.status == "applied" and item.before == old
    assert simulator.truth()[item.remote_id]["model"] == item.target["model"]


# --- two jobs, two lanes ------------------------------------------------------------------------------------------------------------------------


def test_two_jobs_over_the_same_conversations_never_write_one_at_the_same_time(draft, alice):
    simulator, account, first = draft
    simulator.latency = 0.01
    taken = first.params["targets"][str(account.pk)]
    used = {taken, *account.conversations.values_list("model", flat=True)}
    model = account.catalogue.exclude(model_id__in=used).first().model_id
    second = jobs.plan(jobs.create(alice, "switch-model", account.conversations.all()), {"targets": {str(account.pk): model}})
    assert jobs.start(alice, first) and jobs.start(alice, second)
    to_end(account)
    truth = simulator.truth()
    for one, other in zip(first.items.order_by("remote_id"), second.items.order_by("remote_id"), strict=True):
        assert {one.status, other.status} == {"applied", "conflict"}
        winner = one if one.status == "applied" else other
        assert truth[one.remote_id]["model"] == winner.target["model"]
    assert len([call for call in simulator.writes() if call.changed]) == 30


def test_orders_and_lanes_never_wait_for_each_other_in_a_circle(connected, alice):
    accounts = []
    for number in range(2):
        _simulator, account = connected("modelrouter", populate=40, rate_limit=0, label=f"lane {number}")
        accounts.append(synced(account))
    rows = type(accounts[0].conversations.first()).objects.all()
    works = []
    for _number in range(2):
        job = jobs.plan(jobs.create(alice, "set-title", rows), {"template": "{n}", "include_hand_made": True})
        assert jobs.start(alice, job)
        works.append(job)
    failed: list[BaseException] = []
    ends = time.monotonic() + 4

    def keep(work) -> threading.Thread:
        def run():
            try:
                while time.monotonic() < ends:
                    work()
            except BaseException as error:
                failed.append(error)

        return in_background(run)

    def like_a_lane(account) -> None:
        items = list(JobItem.objects.filter(account=account, status=S.PENDING))
        random.shuffle(items)
        moves = [Move(item.pk, item.job_id, S.PENDING, S.RUNNING) for item in items[:10]]
        transition(moves, take="me")
        ended = random.choice([S.PENDING, S.FAILED, S.NOT_APPLIED])
        transition([Move(move.item_id, move.job_id, S.RUNNING, ended, lease="me") for move in reversed(moves)])

    def like_people() -> None:
        job = random.choice(works)
        random.choice([jobs.pause, jobs.resume, jobs.retry, jobs.cancel, jobs.retry])(alice, Job.objects.get(pk=job.pk))
        account = random.choice(accounts)
        leases.park(account, "account_paused")
        leases.unpark(account, "account_paused")

    def like_the_reaper() -> None:
        Lane.objects.update(holder="gone", lease_until=None)
        leases.reap()

    threads = [keep(lambda account=account: like_a_lane(account)) for account in accounts]
    threads += [keep(like_people), keep(like_people), keep(like_the_reaper)]
    for thread in threads:
        thread.join(60)
    assert failed == []
    for job in works:
        adds_up(job)


def test_the_pace_of_a_job_is_not_known_while_redis_is_away(draft, monkeypatch):
    def away(*_arguments):
        raise redis.ConnectionError("no Redis")

    monkeypatch.setattr(jobs.cache, "get", away)
    assert jobs.pace(draft[2]) is None


def test_a_lane_that_ends_says_the_truth_about_its_account(draft, alice):
    _simulator, account, job = draft
    jobs.start(alice, job)
    assert lanes.run_lane(account.pk) is False
    assert connection.in_atomic_block is False
    lane = Lane.objects.get(account=account)
    assert (lane.holder, lane.lease_until, lane.blocked_until) == ("", None, None)
