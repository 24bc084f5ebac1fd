"""How the items of a lane end when credentials, accounts and orders change under them, and when answers are lost."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts import services
from accounts.models import Account
from accounts.providers.base import Patience
from conversations import breakers, jobs, lanes, leases
from conversations.lanes import LaneRunner
from conversations.models import Job, JobItem, Lane
from conversations.states import ItemStatus as S
from conversations.states import Move, transition

from .support import synced
from .test_jobs import adds_up, other_model, switch_job
from .test_lanes import LONG_AGO, changed, in_background, is_over, to_end, until

# --- credentials, accounts, orders --------------------------------------------------------------------------------------------------------


def test_a_new_credential_is_not_parked_by_the_end_of_the_old_one(begin, monkeypatch):
    simulator, account, job = begin(5)
    simulator.add_fault("expired", times=1000)
    park = LaneRunner._park

    def replaced_first(self, *arguments):
        simulator.clear_faults()
        fresh = Account.objects.get(pk=account.pk)
        document = simulator.credential()
        services.replace_credentials(fresh, document, report=services.test_credentials(fresh.provider_key, fresh.base_url, document))
        return park(self, *arguments)

    monkeypatch.setattr(LaneRunner, "_park", replaced_first)
    lanes.run_lane(account.pk)
    monkeypatch.undo()
    job.refresh_from_db()
    account.refresh_from_db()
    assert account.health == "ok" and job.n_waiting == 0
    to_end(account)
    is_over(job, simulator)


def test_a_credential_that_dies_before_the_second_look_parks_the_item(begin):
    simulator, account, job = begin(1)
    simulator.add_fault("expired", method="GET", path="/conversations/", skip=1, times=1000)
    lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.n_waiting == 1 and len(simulator.writes()) == 1
    simulator.clear_faults()
    leases.unpark(account, "account_needs_reauth")
    to_end(account)
    item = job.items.get()
    assert (item.status, item.reason) == ("applied", "checked_after_no_answer")
    assert len(simulator.writes()) == 1


def test_a_second_look_that_fails_is_tried_again_later_and_nothing_is_sent_twice(begin):
    simulator, account, job = begin(1)
    simulator.add_fault("cut_after", writes_only=True)
    simulator.add_fault("error", method="GET", path="/conversations/", skip=1, times=3)
    lanes.run_lane(account.pk)
    item = job.items.get()
    assert (item.status, item.reason) == ("pending", "outcome_unknown")
    to_end(account)
    item.refresh_from_db()
    assert (item.status, item.reason) == ("applied", "checked_after_no_answer")
    assert len(simulator.writes()) == 1


def test_an_error_of_ours_after_the_write_is_called_unknown(begin, monkeypatch):
    simulator, account, job = begin(1)
    provider = services.get_provider("modelrouter")
    write = provider.write

    async def broken(self, current, changes):
        await write(self, current, changes)
        raise KeyError("an answer that nobody expected")

    monkeypatch.setattr(provider, "write", broken)
    lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.n_unknown == 1 and changed(simulator) == 1
    monkeypatch.undo()
    jobs.retry(job.actor, job)
    to_end(account)
    item = job.items.get()
    assert item.status == "applied" and len(simulator.writes()) == 1


def test_an_account_that_is_paused_while_it_works_waits_and_goes_on(begin):
    simulator, account, job = begin(150, latency=0.03)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 5)
    services.pause_account(Account.objects.get(pk=account.pk))
    lane.join(20)
    job.refresh_from_db()
    assert job.n_pending == job.n_running == 0 and job.n_waiting > 0 and job.state == "waiting"
    assert changed(simulator) == job.n_applied < 100
    services.resume_account(Account.objects.get(pk=account.pk))
    to_end(account)
    is_over(job, simulator)


def test_a_job_that_is_started_on_a_paused_account_says_that_it_waits(connected, alice):
    _simulator, account = connected("modelrouter", populate=5, rate_limit=0)
    synced(account)
    job = switch_job(alice, account, other_model(account))
    services.pause_account(account)
    assert jobs.start(alice, job)
    lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.state == "waiting" and set(job.items.values_list("reason", flat=True)) == {"account_paused"}


def test_a_cancelled_job_ends_although_its_credential_died_in_the_middle(begin, alice):
    simulator, account, job = begin(5, latency=0.3)
    simulator.add_fault("expired", times=1000)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: simulator.log)
    assert jobs.cancel(alice, Job.objects.get(pk=job.pk))
    lane.join(20)
    job.refresh_from_db()
    assert job.state == "cancelled" and job.n_cancelled == 5
    adds_up(job)


def test_what_kills_every_worker_that_tries_it_is_not_tried_for_ever(begin):
    _simulator, account, job = begin(3)
    unsent, sent, other = job.items.order_by("pk")
    for turn in range(leases.MAX_TRIES):
        JobItem.objects.filter(pk=sent.pk).update(before=sent.expected)
        assert leases.acquire(account.pk, "a runner that will be killed")
        assert transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in (unsent, sent)], take="a runner that will be killed") == 2, turn
        Lane.objects.update(lease_until=LONG_AGO)
        leases.reap()
    found = {item.pk: (item.status, item.reason) for item in job.items.all()}
    assert found == {unsent.pk: ("failed", "worker_lost"), sent.pk: ("failed", "outcome_unknown"), other.pk: ("pending", "")}
    assert job.items.get(pk=unsent.pk).finished_at
    adds_up(Job.objects.get(pk=job.pk))


def test_what_was_interrupted_is_looked_at_before_a_cancelled_job_calls_it_not_started(begin, alice):
    simulator, account, job = begin(4)
    arrived, lost, refused, untouched = job.items.order_by("pk")
    simulator.change_by_somebody(arrived.remote_id, model=int(account.provider.models_in(arrived.target["model"])[0]))
    for item in (arrived, lost, refused):
        JobItem.objects.filter(pk=item.pk).update(before=None if item is refused else item.expected)
    leases.acquire(account.pk, "a runner that is gone")
    transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in (arrived, lost, refused)], take="a runner that is gone")
    assert jobs.cancel(alice, Job.objects.get(pk=job.pk))
    Lane.objects.update(lease_until=LONG_AGO)
    assert leases.reap() == [account.pk]
    lanes.run_lane(account.pk)
    found = {item.pk: (item.status, item.reason) for item in job.items.all()}
    assert found[arrived.pk] == ("applied", "checked_after_no_answer")
    assert found[lost.pk] == ("cancelled", "not_there")
    assert found[refused.pk] == ("cancelled", "") == found[untouched.pk]
    job.refresh_from_db()
    assert job.state == "cancelled" and simulator.writes() == []
    adds_up(job)


# --- titles made by the provider ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ordering(connected, alice):
    """A started job that has Nuwax make one title."""
    simulator, account = connected("nuwax", populate=6)
    synced(account)
    row = account.conversations.first()
    job = jobs.plan(jobs.create(alice, "set-title", account.conversations.filter(pk=row.pk)), {"generate": True, "include_hand_made": True})
    assert jobs.start(alice, job)
    simulator.log.clear()
    return simulator, account, job


def test_an_order_for_a_title_that_was_refused_may_be_given_again(ordering, monkeypatch, redis_client):
    simulator, account, job = ordering
    monkeypatch.setattr(lanes, "PATIENCE", Patience(attempts=1, seconds=5))
    simulator.add_fault("throttle", writes_only=True)
    lanes.run_lane(account.pk)
    item = job.items.get()
    assert item.status == "pending" and item.before is None
    redis_client.flushall()  # the cool-down
    to_end(account)
    item.refresh_from_db()
    assert item.status == "applied" and changed(simulator) == 1


def test_an_order_for_a_title_with_a_dead_credential_waits(ordering):
    simulator, account, job = ordering
    simulator.add_fault("expired", writes_only=True, times=3)
    lanes.run_lane(account.pk)
    item = job.items.get()
    assert (item.status, item.reason, item.before) == ("waiting", "account_needs_reauth", None)
    simulator.clear_faults()
    leases.unpark(account, "account_needs_reauth")
    to_end(account)
    item.refresh_from_db()
    assert item.status == "applied" and changed(simulator) == 1


def test_an_order_for_a_title_whose_answer_is_lost_is_never_given_again(ordering, alice):
    simulator, account, job = ordering
    simulator.add_fault("cut_before", writes_only=True)
    to_end(account)
    assert job.items.get().status == "not_applied"
    jobs.retry(alice, job)
    to_end(account)
    item = job.items.get()
    assert (item.status, item.reason) == ("not_applied", "outcome_unknown")
    assert len(simulator.writes()) == 1


def test_an_order_whose_result_cannot_be_read_is_never_given_again(ordering, monkeypatch):
    simulator, account, job = ordering
    provider = services.get_provider("nuwax")
    update = provider._update

    async def told_nothing(self, *arguments):
        await update(self, *arguments)
        simulator.add_fault("html200", method="GET", times=1)  # nor does the next look tell anything

    monkeypatch.setattr(provider, "_update", told_nothing)
    to_end(account)
    item = job.items.get()
    assert (item.status, item.reason) == ("applied", "checked_after_no_answer")
    assert len(simulator.writes()) == 1 and item.before is not None


# --- what may have been sent --------------------------------------------------------------------------------------------------------------


def test_what_was_written_stays_written_while_a_repair_is_refused_and_the_job_cancelled(begin, alice):
    """A write that emptied other values is mended with another one; that it is refused says nothing about the first."""
    simulator, account, job = begin(1)
    simulator.switches["update"] = "whole_null"
    simulator.add_fault("throttle", writes_only=True, skip=1, times=1000)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: len(simulator.writes()) >= 2)
    assert jobs.cancel(alice, Job.objects.get(pk=job.pk))
    lane.join(40)
    simulator.clear_faults()
    JobItem.objects.update(not_before=None)
    lanes.run_lane(account.pk)
    item = job.items.get()
    assert changed(simulator) == 1
    assert (item.status, item.reason) == ("conflict", "changed_by_write")  # the title that it emptied is not back: nobody may call that applied
    assert item.before is not None


def test_a_write_that_was_refused_and_nothing_else_leaves_no_value_before(begin, alice, monkeypatch, redis_client):
    """Whatever somebody sets in between is theirs: an undo of the write that comes later goes back to that."""
    simulator, account, job = begin(1)
    monkeypatch.setattr(lanes, "PATIENCE", Patience(attempts=1, seconds=5))
    simulator.add_fault("throttle", writes_only=True)
    lanes.run_lane(account.pk)
    item = job.items.get()
    assert (item.status, item.before) == ("pending", None)
    theirs = next(int(model.model_id) for model in account.catalogue.all() if model.model_id not in str([item.expected, item.target]))
    simulator.change_by_somebody(item.remote_id, model=theirs)
    redis_client.flushall()  # the cool-down
    to_end(account)
    item.refresh_from_db()
    assert item.status == "conflict"
    assert jobs.decide(alice, item, overwrite=True)
    to_end(account)
    item.refresh_from_db()
    assert item.status == "applied" and account.provider.models_in(item.before["model"]) == (str(theirs),)


def test_a_cancelled_job_calls_nothing_not_started_that_may_have_been_sent(begin, alice):
    simulator, account, job = begin(3)
    simulator.add_fault("cut_after", writes_only=True)
    simulator.add_fault("expired", method="GET", path="/conversations/", skip=3, times=1000)
    lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.n_waiting
    sent = {call.path.rsplit("/", 1)[-1] for call in simulator.writes()}
    assert sent
    assert jobs.cancel(alice, Job.objects.get(pk=job.pk))
    job.refresh_from_db()
    assert job.state == "cancelled"
    for item in job.items.all():
        assert (item.status == "cancelled") == (item.remote_id not in sent), (item.status, item.reason)
    assert job.n_unknown == len(sent) - job.n_applied
    adds_up(job)


def test_what_an_outage_spared_leaves_no_failure_in_the_audit_log(begin, monkeypatch):
    simulator, account, job = begin(1)
    JobItem.objects.update(tries=leases.MAX_TRIES - 1)
    simulator.add_fault("error", writes_only=True, times=1000)
    simulator.add_fault("error", method="GET", path="/conversations/", skip=1, times=1000)
    monkeypatch.setattr(breakers.Watch, "flush", lambda watch: timezone.now() if any(watch.seen) else None)
    lanes.run_lane(account.pk)
    item = job.items.get()
    assert (item.status, item.reason) == ("pending", "outcome_unknown")
    assert not job.audit.filter(remote_id=item.remote_id).exists()


def test_an_answer_that_kept_quiet_about_what_was_emptied_is_not_believed_again(begin):
    simulator, account, job = begin(8)
    titles = {remote_id: values["title"] for remote_id, values in simulator.truth().items()}
    simulator.switches["update"] = "whole_null"
    to_end(account)
    job.refresh_from_db()
    account.refresh_from_db()
    assert job.n_applied == 8
    assert {remote_id: values["title"] for remote_id, values in simulator.truth().items()} == titles
    assert account.memory["answers_lie"] is True
    adds_up(job)


def test_a_repair_that_does_not_help_is_not_called_applied(begin, monkeypatch):
    simulator, account, job = begin(1)
    provider = services.get_provider("modelrouter")

    async def helpless(self, before, changes):
        return None

    monkeypatch.setattr(provider, "repair", helpless)
    simulator.switches["update"] = "whole_null"
    to_end(account)
    item = job.items.get()
    assert (item.status, item.reason) == ("conflict", "changed_by_write")
