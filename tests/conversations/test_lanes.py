"""What goes wrong around a lane: lost leases, dead databases, a Redis that is away, credentials and accounts that change under it."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
import redis
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.utils import timezone

from accounts import services
from accounts.limiter import LimiterUnavailable, RedisLimiter
from accounts.models import Account
from accounts.providers.base import Patience
from conversations import claims, jobs, lanes, leases, tasks, wake
from conversations.engine import Engine
from conversations.lanes import LaneRunner
from conversations.models import Job, JobItem, Lane
from conversations.states import ItemStatus as S
from conversations.states import Move, transition

from .support import synced
from .test_jobs import adds_up, other_model, switch_job

LONG_AGO = timezone.now() - timezone.timedelta(hours=1)
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def begin(connected, alice):
    """A function that starts a job over everything at a new ModelRouter: `simulator, account, job = begin(40)`."""

    def start(count: int = 40, **arguments):
        simulator, account = connected("modelrouter", populate=count, rate_limit=0, **arguments)
        synced(account)
        job = switch_job(alice, account, other_model(account))
        assert jobs.start(alice, job, typed_count=count)
        simulator.log.clear()
        return simulator, account, job

    return start


def to_end(account: Account) -> None:
    """Runs a lane until nothing is left that could be started; waits are cut short."""
    while lanes.run_lane(account.pk) or JobItem.objects.filter(account=account, status=S.PENDING, job__order="run").exists():
        JobItem.objects.filter(account=account, status=S.PENDING).update(not_before=None)
        Lane.objects.filter(account=account).update(blocked_until=None)


def engine(store) -> Engine:
    """One of its own, as another process has it, that stores values before in this way."""
    return Engine(store, lanes.look, lanes.LOOK_EVERY)


def in_background(function, *arguments) -> threading.Thread:
    def run():
        try:
            function(*arguments)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition, seconds=20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def changed(simulator) -> int:
    return len([call for call in simulator.writes() if call.changed])


def is_over(job: Job, simulator) -> None:
    """Everything was applied, each conversation was changed once, and the numbers are those of the rows."""
    job.refresh_from_db()
    assert job.n_applied == job.total and job.finished_at is not None
    assert changed(simulator) == job.total
    adds_up(job)


# --- a runner that dies ---------------------------------------------------------------------------------------------------------------


def test_a_runner_that_fails_leaves_nothing_running(begin):
    simulator, account, job = begin(latency=0.02)
    times: list[int] = []

    def failing(befores):
        times.append(1)
        if len(times) == 4:
            raise OperationalError("the database went away")
        return lanes.store(befores)

    with pytest.raises(OperationalError):
        lanes.run_lane(account.pk, engine=engine(failing))
    job.refresh_from_db()
    assert job.n_running == 0 and job.n_pending > 0
    assert Lane.objects.get().holder == ""
    adds_up(job)
    to_end(account)
    is_over(job, simulator)


def test_a_runner_that_cannot_write_down_results_sends_nothing_more_and_nothing_twice(begin, monkeypatch):
    simulator, account, job = begin(latency=0.02)

    def failing(self, results):
        if results:
            raise OperationalError("the database went away")

    monkeypatch.setattr(LaneRunner, "_flush", failing)
    with pytest.raises(OperationalError):
        lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.n_running == job.n_applied == 0 and 0 < changed(simulator) < job.total
    monkeypatch.undo()
    to_end(account)
    is_over(job, simulator)


def test_a_claim_that_fails_lets_what_is_under_way_end(begin, monkeypatch):
    simulator, account, job = begin(latency=0.02)
    claim, batches = LaneRunner._claim, []

    def failing(self, wanted):
        batches.append(1)
        if len(batches) == 3:
            raise OperationalError("deadlock detected")
        return claim(self, wanted)

    monkeypatch.setattr(LaneRunner, "_claim", failing)
    with pytest.raises(OperationalError):
        lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.n_running == 0 and job.n_applied == changed(simulator) > 0
    monkeypatch.undo()
    to_end(account)
    is_over(job, simulator)


def test_the_reaper_finds_what_was_left_behind_even_when_nothing_else_is_waiting(begin):
    simulator, account, job = begin(3)
    Lane.objects.create(account=account)
    moves = [Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in job.items.all()]
    transition(moves, take="a runner that is gone")
    assert leases.reap() == [account.pk]
    job.refresh_from_db()
    assert job.n_running == 0 and job.n_pending == 3
    to_end(account)
    is_over(job, simulator)


def test_a_provider_that_was_taken_out_of_the_house_ends_its_items(begin):
    _simulator, account, job = begin(3)
    Account.objects.filter(pk=account.pk).update(provider_key="taken-out")
    assert lanes.run_lane(account.pk) is False
    job.refresh_from_db()
    assert job.n_skipped == 3 and job.state == "done"
    assert set(job.items.values_list("reason", flat=True)) == {"unsupported"}
    assert Lane.objects.get().holder == ""
    adds_up(job)


def test_a_lane_of_no_account_is_no_lane(alice):
    assert lanes.run_lane(NOBODY) is False
    assert not Lane.objects.exists()


def test_a_long_host_name_fits_into_the_lease(begin, monkeypatch):
    simulator, account, job = begin(3)
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "a-release-with-a-long-name-switchboard-worker-7d9f8b6c5d-x2x4z")
    assert len(leases.new_holder()) <= min(JobItem._meta.get_field("lease").max_length, Lane._meta.get_field("holder").max_length)
    to_end(account)
    is_over(job, simulator)


def test_leases_of_dead_processes_of_this_host_are_freed_and_no_others(begin, monkeypatch):
    _simulator, account, job = begin(3)
    leases.acquire(account.pk, "another-host:1:abc")
    assert leases.release_dead_processes() == 0
    Lane.objects.update(holder=f"{leases.host_name()}:999999999:abc")
    transition([Move(job.items.first().pk, job.pk, S.PENDING, S.RUNNING)], take=f"{leases.host_name()}:999999999:abc")
    assert leases.release_dead_processes() == 1
    job.refresh_from_db()
    assert job.n_running == 0 and Lane.objects.get().holder == ""


# --- a runner that comes too late -------------------------------------------------------------------------------------------------------


def test_who_lost_the_lease_claims_nothing(begin, monkeypatch):
    simulator, account, job = begin(5)
    claim = LaneRunner._claim

    def robbed(self, wanted):
        Lane.objects.filter(account=account).update(holder="a thief")
        return claim(self, wanted)

    monkeypatch.setattr(LaneRunner, "_claim", robbed)
    assert lanes.run_lane(account.pk) is False
    job.refresh_from_db()
    assert job.n_running == 0 and simulator.writes() == []
    assert Lane.objects.get().holder == "a thief"


def test_who_lost_the_lease_writes_nothing_even_where_the_value_before_is_known(begin, monkeypatch):
    simulator, account, job = begin(5)
    for item in job.items.all():
        JobItem.objects.filter(pk=item.pk).update(before=item.expected)
    claim = LaneRunner._claim

    def robbed(self, wanted):
        works = claim(self, wanted)
        Lane.objects.filter(account=account).update(holder="a thief")
        return works

    monkeypatch.setattr(LaneRunner, "_claim", robbed)
    assert lanes.run_lane(account.pk) is False
    assert simulator.writes() == []


def test_a_runner_that_slept_through_its_lease_wakes_to_find_its_work_done(begin):
    simulator, account, job = begin(latency=0.05)
    asleep, wake_up = threading.Event(), threading.Event()

    def sleepy(befores):
        if Job.objects.get(pk=job.pk).n_applied:
            asleep.set()
            wake_up.wait(20)
        return lanes.store(befores)

    sleeper = in_background(partial(lanes.run_lane, account.pk, engine=engine(sleepy)))  # as in another process
    assert asleep.wait(20)
    assert lanes.run_lane(account.pk) is False  # it still has the lease
    until(lambda: all(call.status for call in list(simulator.log)))
    Lane.objects.update(lease_until=LONG_AGO)
    to_end(account)
    wake_up.set()
    sleeper.join(20)
    is_over(job, simulator)
    assert Lane.objects.get().holder == ""


def test_wake_ups_at_the_same_moment_start_one_runner(begin, monkeypatch):
    simulator, account, job = begin(latency=0.01)
    runners: list[LaneRunner] = []
    run = LaneRunner.run

    def counted(self):
        runners.append(self)
        return run(self)

    monkeypatch.setattr(LaneRunner, "run", counted)
    threads = [in_background(lanes.run_lane, account.pk) for _turn in range(4)]
    for thread in threads:
        thread.join(30)
    assert len(runners) == 1
    is_over(job, simulator)


def test_a_runner_whose_account_is_deleted_ends_quietly(begin, alice):
    simulator, account, job = begin(40, latency=0.03)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 5)
    services.delete_account(Account.objects.get(pk=account.pk))
    lane.join(20)
    written = len(simulator.writes())
    job.refresh_from_db()
    assert job.open == 0 and job.finished_at is not None and job.total == 40
    assert job.n_applied <= written <= job.n_applied + job.n_unknown
    assert leases.reap() == []


# --- Redis ------------------------------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_away_stops_the_lane_and_fails_no_item(begin, monkeypatch):
    simulator, account, job = begin()
    take, times = claims.take, []

    def away(*arguments):
        times.append(1)
        if len(times) >= 2:
            raise redis.ConnectionError("no Redis")
        return take(*arguments)

    monkeypatch.setattr(claims, "take", away)
    assert lanes.run_lane(account.pk) is False
    job.refresh_from_db()
    assert job.n_running == 0 and job.n_failed == 0 and job.n_applied == changed(simulator)
    monkeypatch.undo()
    to_end(account)
    is_over(job, simulator)


def test_a_redis_that_hangs_and_comes_back_empty_costs_time_and_nothing_else(begin, redis_client):
    simulator, account, job = begin(60, latency=0.02)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 10)
    redis_client.flushall()
    redis_client.execute_command("CLIENT", "PAUSE", "2500", "ALL")
    lane.join(40)
    job.refresh_from_db()
    assert job.n_failed == job.n_unknown == job.n_running == 0
    to_end(account)
    is_over(job, simulator)


def test_claims_are_renewed_while_others_are_written_down(begin, monkeypatch):
    simulator, account, job = begin(150, latency=0.02)
    monkeypatch.setattr(claims, "TTL_MS", 600)
    simulator.add_fault("slow", writes_only=True, seconds=1.8)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: any(call.fault == "slow" for call in simulator.log))
    remote_id = next(call.path.rpartition("/")[2] for call in simulator.log if call.fault == "slow")
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 20)
    time.sleep(1.0)  # longer than a claim lives by itself
    assert claims.take(account.upstream_identity, [remote_id], "somebody else") == set()
    lane.join(30)
    is_over(job, simulator)
    assert claims.take(account.upstream_identity, [remote_id], "somebody else") == {remote_id}


def test_no_claim_is_kept_for_an_item_that_was_overtaken(begin, alice, monkeypatch):
    _simulator, account, job = begin(5)
    take = claims.take

    def and_cancel(*arguments):
        taken = take(*arguments)
        jobs.cancel(alice, Job.objects.get(pk=job.pk))
        return taken

    monkeypatch.setattr(claims, "take", and_cancel)
    lanes.run_lane(account.pk)
    monkeypatch.undo()
    job.refresh_from_db()
    assert job.n_cancelled == 5
    ids = list(job.items.values_list("remote_id", flat=True))
    assert claims.take(account.upstream_identity, ids, "somebody else") == set(ids)


def test_a_refusal_for_the_rate_while_redis_is_away_is_no_failure(begin, monkeypatch):
    simulator, account, job = begin(1)

    async def away(*_arguments):
        raise LimiterUnavailable("no Redis")

    monkeypatch.setattr(RedisLimiter, "cool_down", away)
    simulator.add_fault("throttle", times=1)
    to_end(account)
    is_over(job, simulator)


# --- the limit ----------------------------------------------------------------------------------------------------------------------------


def test_a_long_cool_down_holds_the_lane_and_uses_up_no_try(begin, redis_client):
    simulator, account, job = begin()
    with services.line(account) as line:
        line.run(lambda provider: provider.limiter.cool_down(provider.limit("GET", "/").key, 120))
    began = time.monotonic()
    assert lanes.run_lane(account.pk) is False
    assert time.monotonic() - began < 5
    lane = Lane.objects.get()
    assert 100 < (lane.blocked_until - timezone.now()).total_seconds() < 125
    job.refresh_from_db()
    assert job.n_pending == 40 and set(job.items.values_list("tries", flat=True)) == {0}
    assert simulator.log == [] and leases.reap() == []
    assert lanes.run_lane(account.pk) is False  # another wake-up changes nothing
    redis_client.flushall()
    Lane.objects.update(blocked_until=timezone.now())
    assert leases.reap() == [account.pk]
    to_end(account)
    is_over(job, simulator)


def test_two_jobs_of_an_account_take_turns(begin, alice):
    simulator, account, _job = begin(80, latency=0.05)
    rows = account.conversations.filter(pk__in=list(account.conversations.order_by("-rank").values_list("pk", flat=True)[:4]))
    small = jobs.plan(jobs.create(alice, "set-title", rows), {"template": "turn {n}", "include_hand_made": True})
    assert jobs.start(alice, small)
    to_end(account)
    titles = [number for number, call in enumerate(simulator.writes()) if "title" in call.body]
    assert len(titles) == 4 and max(titles) < 40


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


# --- wake-ups -------------------------------------------------------------------------------------------------------------------------------


def test_what_the_reaper_asks_for_again_and_again_does_not_pile_up(begin, monkeypatch):
    _simulator, account, _job = begin(2)
    sent = []
    monkeypatch.setattr(wake.current_app, "send_task", lambda *names, **options: sent.append((names, options)))
    tasks.reap()
    [(names, options)] = sent
    assert names == ("conversations.run_lane",) and options["args"] == [str(account.pk)] and 0 < options["expires"] <= 30


def test_a_job_cannot_be_planned_again_once_it_runs(begin):
    _simulator, _account, job = begin(2)
    with pytest.raises(ValidationError):
        jobs.plan(Job.objects.get(pk=job.pk), job.params)
