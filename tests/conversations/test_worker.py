"""Real Celery workers on the test database: killed, restarted, paused; and the wake-ups between the parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db import InterfaceError

from accounts.models import Account
from conversations import jobs, mirror, wake, workers
from conversations.models import Job, JobItem, Lane

from .support import synced
from .test_jobs import adds_up, other_model, switch_job

pytestmark = pytest.mark.django_db(transaction=True)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def finished(job: Job) -> bool:
    """Wakes the reaper, as beat does every five seconds, and tells whether the job has ended."""
    wake.send("conversations.reap")
    return Job.objects.get(pk=job.pk).finished_at is not None


def test_a_thousand_items_survive_kill_9_of_the_worker(connected, alice, celery_worker_factory):
    simulator, account = connected("modelrouter", populate=1000, rate_limit=0, latency=0.01)
    synced(account)
    before = simulator.truth()
    model = other_model(account)
    job = switch_job(alice, account, model)
    worker = celery_worker_factory(SWITCHBOARD_LANE_LEASE="3")
    assert jobs.start(alice, job, typed_count=1000)
    for threshold in (150, 400):
        until(lambda threshold=threshold: Job.objects.get(pk=job.pk).n_applied >= threshold)
        worker.kill()
        assert JobItem.objects.filter(job=job, status="running").exists()
        worker.start()
    until(lambda: finished(job))
    job.refresh_from_db()
    assert job.counts["applied"] == 1000 and job.open == 0
    adds_up(job)
    truth = simulator.truth()
    for item in job.items.all():
        assert truth[item.remote_id]["model"] == item.target["model"] == item.after["model"]
        assert item.before["model"] == before[item.remote_id]["model"]
        assert item.lease == ""
    # A repeated write of a fixed value does no harm, but each conversation changed exactly once.
    assert len([call for call in simulator.writes() if call.changed]) == 1000


def test_sigterm_hands_back_what_was_not_started(connected, alice, celery_worker_factory):
    simulator, account = connected("modelrouter", populate=400, rate_limit=0, latency=0.05)
    synced(account)
    job = switch_job(alice, account, other_model(account))
    worker = celery_worker_factory()
    assert jobs.start(alice, job, typed_count=400)
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 20)
    began = time.monotonic()
    worker.process.terminate()
    until(lambda: Job.objects.get(pk=job.pk).n_running == 0)
    assert time.monotonic() - began < 12  # three seconds, on a machine at a quarter of the speed
    assert worker.process.wait(15) is not None
    job.refresh_from_db()
    assert job.n_pending + job.n_applied == 400 and job.n_pending > 0
    assert Lane.objects.get(account=account).holder == ""
    assert len([call for call in simulator.writes() if call.changed]) == job.n_applied
    adds_up(job)


def test_sigterm_does_not_wait_for_a_provider_that_takes_its_time(connected, alice, celery_worker_factory):
    simulator, account = connected("modelrouter", populate=24, rate_limit=0)
    synced(account)
    job = switch_job(alice, account, other_model(account))
    simulator.add_fault("slow", writes_only=True, seconds=8.0, times=1000)
    worker = celery_worker_factory()
    assert jobs.start(alice, job, typed_count=24)
    until(lambda: any(call.fault == "slow" for call in simulator.log))
    began = time.monotonic()
    worker.process.terminate()
    until(lambda: Job.objects.get(pk=job.pk).n_running == 0)
    assert time.monotonic() - began < 7  # less than the provider takes
    assert worker.process.wait(15) is not None
    handed_back = job.items.filter(reason="interrupted")
    assert handed_back.exists() and not handed_back.filter(before=None).exists()
    simulator.clear_faults()
    until(lambda: not [call for call in list(simulator.log) if call.fault == "slow" and not call.status], 20)
    worker.start()
    until(lambda: finished(job))
    job.refresh_from_db()
    assert job.n_applied == 24
    assert len([call for call in simulator.writes() if call.changed]) == 24
    adds_up(job)


def test_the_worker_reads_an_account_that_was_asked_for(connected, celery_worker_process):
    _simulator, account = connected("aurod", populate=90)
    assert mirror.request_sync(account)
    wake.sync(account.pk)
    until(lambda: Account.objects.get(pk=account.pk).sync_state == "done")
    assert account.conversations.count() == 90
    assert workers.online() == 1


def test_signs_of_life_go_on_after_the_database_was_away(transactional_db, monkeypatch):
    beat, beats, stop = workers.beat, [], threading.Event()

    def sometimes_away():
        beats.append(1)
        if len(beats) == 1:
            raise InterfaceError("the connection is closed")
        beat()

    monkeypatch.setattr(workers, "beat", sometimes_away)
    monkeypatch.setattr(workers, "BEAT", 0.01)
    workers.beat_forever(stop)
    try:
        until(workers.online, 10)
    finally:
        stop.set()
    until(lambda: not workers.online(), 10)


def test_the_worker_checks_a_preview(connected, alice, celery_worker_process):
    simulator, account = connected("aurod", populate=60)
    synced(account)
    job = switch_job(alice, account, other_model(account))
    until(lambda: jobs.unchecked(job) == 0)
    assert simulator.writes() == []


def test_a_lost_message_costs_seconds_and_nothing_else(connected, alice, celery_worker_process, redis_client):
    _simulator, account = connected("modelrouter", populate=20, rate_limit=0)
    synced(account)
    job = switch_job(alice, account, other_model(account))
    sent, wake.lane = wake.lane, lambda account_id: None
    try:
        jobs.start(alice, job)
    finally:
        wake.lane = sent
    assert Job.objects.get(pk=job.pk).n_applied == 0
    wake.send("conversations.reap")  # as beat does every five seconds
    until(lambda: Job.objects.get(pk=job.pk).n_applied == 20)


def test_a_message_with_an_id_that_is_none_changes_nothing(connected, celery_worker_process):
    for task, arguments in (
        ("conversations.run_lane", ["00000000-0000-0000-0000-000000000000"]),
        ("conversations.sync", ["00000000-0000-0000-0000-000000000000"]),
        ("conversations.check_preview", ["999999", "00000000-0000-0000-0000-000000000000"]),
    ):
        wake.send(task, *arguments)
    _simulator, account = connected("nuwax", populate=5)
    mirror.request_sync(account)
    wake.sync(account.pk)
    until(lambda: Account.objects.get(pk=account.pk).sync_state == "done")
    assert not any("Traceback" in line for line in celery_worker_process.lines)
