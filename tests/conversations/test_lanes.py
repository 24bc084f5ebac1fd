"""What goes wrong around a lane: lost leases, dead databases, a Redis that is away, limits; see test_lane_ends.py for how items end."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest
import redis
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from accounts import services
from accounts.limiter import LimiterUnavailable, RedisLimiter
from accounts.models import Account
from conversations import bookkeeping, claims, jobs, lanes, leases, tasks, wake
from conversations.engine import Engine, _Thread
from conversations.lanes import LaneRunner
from conversations.models import Job, JobItem, Lane
from conversations.states import ItemStatus as S
from conversations.states import Move, transition

from .test_jobs import adds_up

LONG_AGO = timezone.now() - timezone.timedelta(hours=1)
NOBODY = "00000000-0000-0000-0000-000000000000"


def to_end(account: Account) -> None:
    """Runs a lane until nothing is left that could be started; waits are cut short."""
    while lanes.run_lane(account.pk) or JobItem.objects.filter(account=account, status=S.PENDING, job__order="run").exists():
        JobItem.objects.filter(account=account, status=S.PENDING).update(not_before=None)
        Lane.objects.filter(account=account).update(blocked_until=None)


def engine(store) -> Engine:
    """One of its own, as another process has it, that stores values before in this way."""
    return Engine(store, bookkeeping.flush, bookkeeping.look)


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
        return bookkeeping.store(befores)

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

    def failing(batch):
        if any(results for _runner, results in batch):
            raise OperationalError("the database went away")

    monkeypatch.setattr(bookkeeping, "_mirror", failing)
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
    may_write: set[int] = set()  # items whose value before is stored

    def sleepy(befores):
        if Job.objects.get(pk=job.pk).n_applied:
            asleep.set()
            wake_up.wait(20)
        lost = bookkeeping.store(befores)
        may_write.update(before.item_id for before in befores)
        return lost

    other = engine(sleepy)  # as in another process
    sleeper = in_background(partial(lanes.run_lane, account.pk, engine=other))
    assert asleep.wait(20)
    assert lanes.run_lane(account.pk) is False  # it still has the lease
    [runner] = other.runners
    until(lambda: may_write.isdisjoint([work.item.pk for work in list(runner.works)]))  # what it was allowed to write has ended
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
    monkeypatch.setattr(claims, "TTL_MS", 2000)
    simulator.add_fault("slow", writes_only=True, seconds=8.0)
    lane = in_background(lanes.run_lane, account.pk)
    until(lambda: any(call.fault == "slow" for call in simulator.log))
    remote_id = next(call.path.rpartition("/")[2] for call in simulator.log if call.fault == "slow")
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 20)
    time.sleep(2.5)  # longer than a claim lives by itself
    assert claims.take(account.upstream_identity, [remote_id], "somebody else") == set()
    lane.join(60)
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


def test_a_dozen_switches_that_begin_together_ask_for_the_catalogue_once(begin):
    simulator, account, job = begin(20, latency=0.02)
    to_end(account)
    is_over(job, simulator)
    assert len([call for call in simulator.log if call.path.endswith("/models")]) == 1


def test_a_long_cool_down_holds_the_lane_and_uses_up_no_try(begin, redis_client):
    simulator, account, job = begin()
    with services.line(account) as line:
        line.run(lambda provider: provider.limiter.cool_down(provider.limit("GET", "/").key, 120))
    began = time.monotonic()
    assert lanes.run_lane(account.pk) is False
    assert time.monotonic() - began < 60  # of 120
    lane = Lane.objects.get()
    assert 60 < (lane.blocked_until - timezone.now()).total_seconds() < 125
    job.refresh_from_db()
    assert job.n_pending == 40 and set(job.items.values_list("tries", flat=True)) == {0}
    assert simulator.log == [] and leases.reap() == []
    assert lanes.run_lane(account.pk) is False  # another wake-up changes nothing
    redis_client.flushall()
    Lane.objects.update(blocked_until=timezone.now())
    assert leases.reap() == [account.pk]
    to_end(account)
    is_over(job, simulator)


def test_items_that_were_claimed_while_the_lane_came_to_be_held_go_back_as_they_were(begin, monkeypatch):
    simulator, account, job = begin()
    claim = LaneRunner._claim

    def held_meanwhile(runner, wanted):
        batch = claim(runner, wanted)
        runner.held_until = timezone.now() + timezone.timedelta(minutes=2)
        return batch

    monkeypatch.setattr(LaneRunner, "_claim", held_meanwhile)
    assert lanes.run_lane(account.pk) is False
    job.refresh_from_db()
    assert job.n_pending == 40 and set(job.items.values_list("attempts", "tries")) == {(0, 0)}
    assert simulator.log == []


def test_two_jobs_of_an_account_take_turns(begin, alice):
    simulator, account, _job = begin(80, latency=0.05)
    rows = account.conversations.filter(pk__in=list(account.conversations.order_by("-rank").values_list("pk", flat=True)[:4]))
    small = jobs.plan(jobs.create(alice, "set-title", rows), {"template": "turn {n}", "include_hand_made": True})
    assert jobs.start(alice, small)
    to_end(account)
    titles = [number for number, call in enumerate(simulator.writes()) if "title" in call.body]
    assert len(titles) == 4 and max(titles) < 40


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


# --- the engine -----------------------------------------------------------------------------------------------------------------------------


def test_a_value_that_nobody_waits_for_any_more_is_not_stored():
    """Its item has gone back meanwhile: taking it for a lost lease would end the whole run."""
    stored: list[int] = []
    own = engine(lambda befores: stored.extend(entry.item_id for entry in befores) or set())

    async def scenario():
        await own.remember(None, 1, {}, None, first=True)
        taken_back = asyncio.create_task(own.remember(None, 2, {}, None, first=True))
        await asyncio.sleep(0)  # it stands in the queue, which moves on every few milliseconds
        taken_back.cancel()
        await own.remember(None, 3, {}, None, first=True)

    own.run(scenario())
    assert stored == [1, 3]


@pytest.mark.django_db
def test_a_database_that_closed_its_connection_is_found_again_while_lanes_go_on():
    own = engine(bookkeeping.store)

    def ask(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]

    def break_off():
        if connection.vendor == "postgresql":
            connection.connection.close()
        else:
            connection.is_usable = lambda: False
        with pytest.raises((OperationalError, InterfaceError)):
            ask("SELECT 1" if connection.vendor == "postgresql" else "SELECT nothing")
        connection.errors_occurred = True
        raise OperationalError("the server closed the connection")

    async def scenario():
        assert await own.in_database(ask, "SELECT 1") == 1
        with pytest.raises(OperationalError):
            await own.in_database(break_off)
        return await own.in_database(lambda: connection.connection is None), await own.in_database(ask, "SELECT 1")

    assert own.run(scenario()) == (True, 1)


def test_one_thread_serves_the_database_however_many_ask_for_it_first(monkeypatch):
    begun: list[threading.Thread] = []
    thread = threading.Thread

    def slow(*arguments, **more):
        time.sleep(0.05)
        begun.append(thread(*arguments, **more))
        return begun[-1]

    monkeypatch.setattr("conversations.engine.threading.Thread", slow)
    one = _Thread("engine-test")
    askers = [thread(target=lambda: one.submit(threading.get_ident).result(5)) for _number in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(10)
    assert len(begun) == 1


def test_lanes_write_results_down_together_and_one_that_cannot_spoils_no_other(begin, monkeypatch):
    (_first, ill, one), (second, well, other) = begin(40, latency=0.05), begin(40, latency=0.05, label="another")
    write, together = bookkeeping._write, []

    def refusing(batch):
        """From the first time that both have results on, the database refuses those of one of them."""
        with_results = {runner.account.pk for runner, results in batch if results}
        together.extend([True] if with_results == {ill.pk, well.pk} else [])
        if together and ill.pk in with_results:
            raise OperationalError("deadlock detected")
        write(batch)

    monkeypatch.setattr(bookkeeping, "_write", refusing)
    shared = engine(bookkeeping.store)
    ends: list[object] = []

    def run(account):
        try:
            lanes.run_lane(account.pk, engine=shared)
        except OperationalError:
            ends.append(account.pk)

    for thread in [in_background(run, account) for account in (ill, well)]:
        thread.join(30)
    assert together and ends == [ill.pk]
    is_over(other, second)
    one.refresh_from_db()
    assert one.n_running == 0 and one.n_pending > 0  # handed back
    adds_up(one)


def test_nothing_is_sent_by_who_may_have_lost_the_lease_since_the_value_before_was_stored(begin):
    """The machine slept between the two: the next runner may be at work by now."""
    simulator, account, job = begin(3)

    def asleep(befores):
        lost = bookkeeping.store(befores)
        for entry in befores:
            entry.runner.renewed -= settings.LANE_LEASE + 1
        return lost

    assert lanes.run_lane(account.pk, engine=engine(asleep)) is False
    assert simulator.writes() == []
    job.refresh_from_db()
    assert job.n_pending == 3 and job.n_running == 0
    to_end(account)
    is_over(job, simulator)
