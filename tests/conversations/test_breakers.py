"""The breaker of a provider's host: when it opens, who may probe, and that an outage fails nothing."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Account
from accounts.providers.errors import (
    AddressRefused,
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from conversations import breakers, jobs, lanes, leases
from conversations.models import Incident, JobItem, Lane
from conversations.states import ItemStatus as S
from conversations.states import Move

from .support import synced
from .test_jobs import adds_up, other_model, switch_job

HOST = "api.example.com"
START = timezone.now().replace(microsecond=0)


def at(seconds: float):
    return START + timedelta(seconds=seconds)


def report(ok=0, failed=0, seconds=0.0, host=HOST):
    return breakers.report(host, "aurod", ok, failed, "unavailable\n503\nout of order\n", now=at(seconds))


@pytest.fixture
def db_seen_by_threads(transactional_db):
    """A database that other threads see."""


# --- what counts ----------------------------------------------------------------------------------------------------------------------


def without_redis() -> ProviderUnavailable:
    error = ProviderUnavailable("nothing was sent")
    error.__cause__ = ConnectionError()
    return error


@pytest.mark.parametrize(
    ("error", "down", "answered"),
    [
        (None, False, True),
        (ProviderUnavailable(status=503), True, False),
        (ProviderUnavailable(), True, False),
        (OutcomeUnknown(), True, False),
        (OutcomeUnknown(status=500), True, False),
        (OutcomeUnknown(status=200), False, True),
        (without_redis(), False, False),
        (RateLimited(status=429), False, True),
        (RateLimited(), False, False),
        (CredentialsRejected(status=401), False, True),
        (CredentialsRejected(), False, False),
        (NotFound(status=404), False, True),
        (PermissionRefused(status=403), False, True),
        (RequestRejected(status=400), False, True),
        (MalformedAnswer(), False, True),
        (AddressRefused(), False, False),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else str(value),
)
def test_only_an_error_of_the_host_itself_counts(error, down, answered):
    assert (breakers.is_down(error), breakers.answered(error)) == (down, answered)


@given(ok=st.integers(0, 200), failed=st.integers(0, 200))
def test_the_window_opens_at_eight_calls_of_which_four_in_five_failed(ok, failed):
    assert breakers.opens(ok, failed) == (ok + failed >= 8 and failed * 5 >= (ok + failed) * 4)


@pytest.mark.parametrize(("in_row", "lasting", "opens"), [(3, 60.0, False), (4, 9.9, False), (4, 10.0, True), (7, 0.0, False)])
def test_a_lane_with_few_calls_opens_it_by_failures_in_a_row_that_last(in_row, lasting, opens):
    assert breakers.opens(0, in_row, in_row, lasting) == opens


# --- the window -----------------------------------------------------------------------------------------------------------------------


def test_the_eighth_failure_opens_one_incident_with_its_cause(db):
    assert report(failed=7) is None and not Incident.objects.exists()
    until = report(failed=1)
    assert until == at(breakers.PROBE_EVERY)
    incident = Incident.objects.get()
    assert (incident.host, incident.provider_key, incident.failures) == (HOST, "aurod", 8)
    assert "out of order" in incident.cause and incident.events[0][1] == "opened"
    assert breakers.held(HOST) == until


def test_calls_that_went_well_keep_it_closed(db):
    assert report(ok=3) is None
    assert report(failed=11) is None, "11 of 14 are less than four in five"
    assert report(failed=1) is not None, "12 of 15 are not"


def test_what_is_older_than_the_window_is_forgotten(db):
    report(ok=100)
    assert report(failed=7, seconds=1) is None
    assert report(failed=1, seconds=2) is None, "a hundred went well a moment ago"
    assert report(ok=1, seconds=3) is None
    assert report(failed=7, seconds=45) is None, "what failed before is out of the window"
    assert report(failed=1, seconds=46) is not None, "and what went well before, too"


def test_hosts_are_counted_apart(db):
    report(failed=7)
    assert report(failed=1, host="other.example.com") is None
    assert breakers.held(HOST) is None


def test_a_redis_that_lost_the_counts_opens_no_second_incident(db, redis_client):
    until = report(failed=8)
    redis_client.flushall()
    assert report(failed=9, seconds=5) == until
    assert Incident.objects.count() == 1
    assert report(seconds=6) == until, "and running lanes see it again"


def test_failures_of_what_was_under_way_are_added_to_the_incident(db):
    report(failed=8)
    report(failed=3, seconds=1)
    assert Incident.objects.get().failures == 11


# --- probes ---------------------------------------------------------------------------------------------------------------------------


def test_of_many_that_ask_at_once_exactly_one_may_probe(db_seen_by_threads):
    report(failed=8)
    assert not breakers.may_probe(HOST, now=at(29))
    won: list[bool] = []
    barrier = threading.Barrier(6)

    def ask():
        try:
            barrier.wait()
            won.append(breakers.may_probe(HOST, now=at(31)))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]
    assert Incident.objects.get().probes == 1
    assert not breakers.may_probe(HOST, now=at(60))
    assert breakers.may_probe(HOST, now=at(61)), "whoever won may have died"


def test_nobody_probes_a_host_whose_breaker_is_closed(db):
    assert not breakers.may_probe(HOST)
    breakers.probe_result(HOST, True)
    assert not Incident.objects.exists()


def test_a_probe_that_fails_moves_the_next_one_and_one_that_succeeds_ends_the_incident(db):
    report(failed=8)
    breakers.probe_result(HOST, False, "unavailable\n503\nout of order\n", now=at(31))
    assert breakers.held(HOST) == at(61) == report(seconds=32)
    breakers.probe_result(HOST, True, now=at(62))
    incident = Incident.objects.get()
    assert breakers.held(HOST) is None and incident.ended_at == at(62) and incident.next_probe_at is None
    assert [event[1] for event in incident.events] == ["opened", "held", "probe_failed", "probe_ok", "resumed"]
    assert report(failed=7, seconds=63) is None, "the counts began anew"


def test_trouble_that_comes_back_at_once_is_the_same_incident_and_later_another_one(db):
    report(failed=8)
    breakers.probe_result(HOST, True, now=at(31))
    report(failed=8, seconds=40)
    incident = Incident.objects.get()
    assert incident.ended_at is None and incident.failures == 16 and "reopened" in [event[1] for event in incident.events]
    breakers.probe_result(HOST, True, now=at(71))
    report(failed=8, seconds=71 + breakers.REOPEN + 1)
    assert Incident.objects.count() == 2


def test_a_long_incident_keeps_the_ends_of_its_timeline(db):
    report(failed=8)
    for number in range(breakers.MAX_EVENTS + 20):
        breakers.probe_result(HOST, False, now=at(30 * number))
    events = Incident.objects.get().events
    assert len(events) == breakers.MAX_EVENTS and events[0][1] == "opened" and events[-1][0] > events[-2][0]


# --- lanes ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_modelrouter(connected, alice):
    """A function that starts a job over everything at a ModelRouter of its own: `simulator, account, job = at_modelrouter("one", 20)`."""

    def start(label: str, count: int, **arguments):
        simulator, account = connected("modelrouter", label=label, populate=count, rate_limit=0, **arguments)
        synced(account)
        job = switch_job(alice, account, other_model(account))
        assert jobs.start(alice, job, typed_count=count)
        simulator.log.clear()
        return simulator, account, job

    return start


def test_every_lane_of_the_host_is_held_and_resumes_in_turn(at_modelrouter, alice):
    _simulator, account, _job = at_modelrouter("one", 3)
    _other, elsewhere, _job2 = at_modelrouter("elsewhere", 3)
    host = breakers.host_of(account)
    twin = Account.objects.create(owner=alice, provider_key="modelrouter", label="twin", base_url=account.base_url)
    for lane in (account, twin, elsewhere):
        Lane.objects.create(account=lane)
    now = timezone.now()
    until = breakers.report(host, "modelrouter", 0, 8, now=now)
    assert set(Lane.objects.filter(blocked_until=until, blocked_reason="breaker").values_list("account_id", flat=True)) == {account.pk, twin.pk}
    assert Incident.objects.get().events[1][2] == {str(_job.pk): 3}
    assert leases.acquire(account.pk, "a runner") is False
    breakers.probe_result(host, True, now=now)
    times = sorted(Lane.objects.filter(account__in=[account, twin]).values_list("blocked_until", flat=True))
    assert times == [now, now + timedelta(seconds=breakers.SPREAD / 2)]


def test_a_longer_silence_that_the_provider_asked_for_is_kept(at_modelrouter):
    _simulator, account, _job = at_modelrouter("one", 3)
    later = timezone.now() + timedelta(minutes=10)
    Lane.objects.create(account=account, blocked_until=later, blocked_reason="rate_limited")
    host = breakers.host_of(account)
    breakers.report(host, "modelrouter", 0, 8)
    breakers.probe_result(host, True)
    lane = Lane.objects.get()
    assert (lane.blocked_until, lane.blocked_reason) == (later, "rate_limited")


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [(S.FAILED, "unavailable", "unavailable"), (S.FAILED, "outcome_unknown", "outcome_unknown"), (S.PENDING, "unavailable", "unavailable")],
)
def test_a_run_that_only_the_outage_ended_is_as_if_it_had_not_been(status, reason, expected):
    move = Move(1, 1, S.RUNNING, status, reason, {"tries": 6, "attempts": 9, "finished_at": START, "after": None, "not_before": None})
    breakers.spare(move, 5)
    assert (move.new, move.reason) == (S.PENDING, expected)
    assert move.values == {"tries": 5, "attempts": 9, "not_before": None}


def test_what_was_applied_all_the_same_stays_applied():
    move = Move(1, 1, S.RUNNING, S.APPLIED, "checked_after_no_answer", {"tries": 1})
    breakers.spare(move, 0)
    assert (move.new, move.values) == (S.APPLIED, {"tries": 1})


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def work(account, stop):
    """What a worker does for one account: wake the lane whenever the reaper names it."""
    try:
        while not stop.is_set():
            if leases.has_work(account.pk):
                lanes.run_lane(account.pk, stopping=stop.is_set)
            stop.wait(0.05)
    finally:
        connection.close()


def tries_of(job) -> list[int]:
    return list(JobItem.objects.filter(job=job).order_by("ordinal").values_list("tries", flat=True))


def test_an_outage_fails_nothing_and_lets_only_probes_through(at_modelrouter, monkeypatch):
    monkeypatch.setattr(breakers, "PROBE_EVERY", 1.0)
    monkeypatch.setattr(breakers, "SPREAD", 0.2)
    simulator, account, job = at_modelrouter("one", 40, latency=0.01)
    host = breakers.host_of(account)
    simulator.add_fault("error", times=1_000_000, skip=20)
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(account, stop))
    thread.start()
    try:
        until(lambda: breakers.held(host))
        until(lambda: Lane.objects.get().holder == "")
        opened, sent, tries = time.monotonic(), len(simulator.log), tries_of(job)
        until(lambda: Incident.objects.get().probes >= 3)
        until(lambda: len([event for event in Incident.objects.get().events if event[1] == "probe_failed"]) >= 3)
        probes, took = len(simulator.log) - sent, time.monotonic() - opened
        assert probes == Incident.objects.get().probes <= took / breakers.PROBE_EVERY + 2
        assert not any(call.write for call in simulator.log[sent:])
        job.refresh_from_db()
        assert job.n_failed == job.n_unknown == job.n_running == 0
        assert tries_of(job) == tries and max(tries) < leases.MAX_TRIES, "nothing is used up while it is open"
        until(lambda: Lane.objects.filter(blocked_reason="breaker", blocked_until__isnull=False).exists())
        simulator.clear_faults()
        until(lambda: jobs.Job.objects.get(pk=job.pk).finished_at)
    finally:
        stop.set()
        thread.join()
    job.refresh_from_db()
    assert job.n_applied == job.total == 40
    incident = Incident.objects.get()
    assert incident.ended_at is not None and incident.events[-1][1] == "resumed"
    adds_up(job)


def test_a_single_conversation_survives_an_outage_too(at_modelrouter, monkeypatch):
    monkeypatch.setattr(breakers, "PROBE_EVERY", 0.3)
    monkeypatch.setattr(breakers, "LASTING", 0.0)
    simulator, account, job = at_modelrouter("one", 1)
    simulator.add_fault("cut_before", times=1_000_000)
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(account, stop))
    thread.start()
    try:
        for _number in range(breakers.STREAK):  # its waits are cut short
            until(lambda: Incident.objects.exists() or JobItem.objects.filter(job=job, not_before__isnull=False).update(not_before=None))
        until(lambda: Incident.objects.filter(probes__gte=2).exists())
        simulator.clear_faults()
        until(lambda: jobs.Job.objects.get(pk=job.pk).finished_at)
    finally:
        stop.set()
        thread.join()
    job.refresh_from_db()
    assert job.n_applied == 1


def test_a_conversation_that_alone_is_out_of_order_fails_in_the_end(at_modelrouter, monkeypatch):
    """The breaker may open on it, but the probe finds the host at work, and its tries are used up."""
    monkeypatch.setattr(breakers, "PROBE_EVERY", 0.1)
    monkeypatch.setattr(breakers, "SPREAD", 0.0)
    simulator, account, job = at_modelrouter("one", 3)
    poison = job.items.first()
    simulator.add_fault("error", path=poison.remote_id, times=1_000_000)
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(account, stop))
    thread.start()
    try:

        def over():
            JobItem.objects.filter(job=job, status=S.PENDING).update(not_before=None)
            return jobs.Job.objects.get(pk=job.pk).finished_at

        until(over)
    finally:
        stop.set()
        thread.join()
    job.refresh_from_db()
    assert (job.n_applied, job.n_failed) == (2, 1)
    assert breakers.held(breakers.host_of(account)) is None
    adds_up(job)


def test_a_lane_whose_provider_is_busy_does_not_hold_up_another(at_modelrouter):
    simulator, slow, held_job = at_modelrouter("slow", 5, retry_after_ms=7_000)
    _other, fast, job = at_modelrouter("fast", 5)
    simulator.add_fault("throttle", times=1_000)
    simulator.retry_after_ms = 60_000
    lanes.run_lane(slow.pk)
    lane = Lane.objects.get(account=slow)
    assert lane.blocked_reason == "rate_limited" and lane.blocked_until > timezone.now() + timedelta(seconds=30)
    sent = len(simulator.log)
    lanes.run_lane(fast.pk)
    lanes.run_lane(slow.pk)
    job.refresh_from_db()
    held_job.refresh_from_db()
    assert job.n_applied == 5 and held_job.n_pending == 5 and len(simulator.log) == sent
    assert not Incident.objects.exists(), "a refusal for the rate is no outage"
