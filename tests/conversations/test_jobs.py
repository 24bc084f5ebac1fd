"""A bulk job: selection, preview, run, results."""

from __future__ import annotations

import threading

import pytest
from django.core.exceptions import PermissionDenied, ValidationError

from conversations import bookkeeping, checks, jobs, lanes, mirror
from conversations.engine import Engine
from conversations.models import AuditEntry, Conversation, Job, JobItem, Lane
from conversations.states import ItemStatus as S
from conversations.states import counter_of

from .support import make_user, row, synced


@pytest.fixture
def at_aurod(connected):
    simulator, account = connected("aurod", populate=100)
    return simulator, synced(account)


def other_model(account):
    used = set(account.conversations.values_list("model", flat=True))
    return account.catalogue.exclude(model_id__in=used).first().model_id


def switch_job(user, account, model, rows=None):
    job = jobs.create(user, "switch-model", rows if rows is not None else account.conversations.all())
    return jobs.plan(job, {"targets": {str(account.pk): model}})


def run(job, user, account):
    assert jobs.start(user, job, typed_count=job.n_pending)
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    return job


def adds_up(job):
    job.refresh_from_db()
    found = dict.fromkeys(job.counts, 0)
    for item in job.items.all():
        found[counter_of(S(item.status), item.reason)] += 1
    assert found == job.counts


def test_a_switch_job_brings_every_conversation_to_its_target(at_aurod, alice):
    simulator, account = at_aurod
    model = other_model(account)
    before = simulator.truth()
    job = run(switch_job(alice, account, model), alice, account)
    assert job.state == "done" and job.n_applied == 100 and job.total == 100
    truth = simulator.truth()
    assert {values["model"] for values in truth.values()} == {model}
    assert all({**truth[key], "model": None, "updated": None} == {**before[key], "model": None, "updated": None} for key in before)
    assert {item.before["model"] for item in job.items.all()} == {values["model"] for values in before.values()}
    assert len([call for call in simulator.writes() if call.changed]) == 100
    assert AuditEntry.objects.filter(job=job, result="applied").count() == 100
    assert set(account.conversations.values_list("model", flat=True)) == {model}
    assert not account.conversations.filter(changed_upstream_at__isnull=False).exists()
    adds_up(job)


def test_reading_by_page_keeps_the_requests_near_one_per_item(at_aurod, alice):
    simulator, account = at_aurod
    job = switch_job(alice, account, other_model(account))
    simulator.log.clear()
    run(job, alice, account)
    assert len(simulator.log) < 100 * 1.5


def test_the_preview_sends_no_write_and_its_groups_add_up(at_aurod, alice):
    simulator, account = at_aurod
    ids = sorted(simulator.truth())
    model = other_model(account)
    simulator.change_by_somebody(ids[0], model=model)
    simulator.remove_by_somebody(ids[1])
    job = switch_job(alice, account, model)
    assert jobs.groups(job)["change"] == 100
    assert jobs.unchecked(job) == 100
    while checks.check_preview(job.pk, account.pk):
        pass
    groups = jobs.groups(Job.objects.get(pk=job.pk))
    assert groups == {"change": 98, "reading": 0, "unchanged": 1, "drifted": 0, "unsupported": 0, "gone": 1, "other": 0}
    assert jobs.unchecked(job) == 0
    assert simulator.writes() == []
    adds_up(job)


def test_the_selection_is_frozen_and_cut_to_what_one_may_change(at_aurod, alice):
    _simulator, account = at_aurod
    mallory = make_user("mallory@example.com")
    with pytest.raises(ValidationError):
        jobs.create(mallory, "switch-model", Conversation.objects.all())
    job = jobs.create(alice, "switch-model", account.conversations.filter(pk__in=account.conversations.values("pk")[:7]))
    assert job.total == 7
    with pytest.raises(PermissionDenied):
        jobs.cancel(mallory, job)


def test_a_double_start_runs_once(at_aurod, alice):
    _simulator, account = at_aurod
    job = switch_job(alice, account, other_model(account))
    started = []
    threads = [threading.Thread(target=lambda: started.append(_start(alice, job.pk))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == [False, False, False, True]


def _start(user, pk):
    from django.db import connection

    try:
        return jobs.start(user, Job.objects.get(pk=pk))
    finally:
        connection.close()


def test_a_large_job_wants_its_number_typed(connected, alice):
    _simulator, account = connected("aurod", populate=260)
    synced(account)
    job = switch_job(alice, account, other_model(account))
    with pytest.raises(ValidationError) as refused:
        jobs.start(alice, job)
    assert "typed_count" in refused.value.message_dict
    assert jobs.start(alice, job, typed_count=260)


def test_what_somebody_changed_after_the_preview_is_a_conflict_and_is_not_written(at_aurod, alice):
    simulator, account = at_aurod
    model = other_model(account)
    job = switch_job(alice, account, model)
    remote_id = sorted(simulator.truth())[7]
    theirs = account.catalogue.exclude(model_id__in=[model, row(account, remote_id).model]).first().model_id
    simulator.change_by_somebody(remote_id, model=theirs)
    job = run(job, alice, account)
    item = job.items.get(remote_id=remote_id)
    assert (item.status, item.reason, item.after) == ("conflict", "changed_since_preview", {"model": theirs})
    assert job.n_applied == 99 and job.state == "done with failures"
    assert simulator.truth()[remote_id]["model"] == theirs
    assert jobs.decide(alice, item, overwrite=True)
    while lanes.run_lane(account.pk):
        pass
    item.refresh_from_db()
    assert item.status == "applied" and item.before == {"model": theirs}
    adds_up(job)


def test_accepted_but_ignored_is_not_called_applied_and_can_be_retried(at_aurod, alice):
    simulator, account = at_aurod
    simulator.add_fault("ignore", writes_only=True, times=1000)
    job = run(switch_job(alice, account, other_model(account)), alice, account)
    assert job.n_not_applied == 100 and job.n_applied == 0
    simulator.clear_faults()
    assert jobs.retry(alice, job) == 100
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    assert job.n_applied == 100
    assert set(job.items.values_list("attempts", flat=True)) == {2}
    adds_up(job)


def test_an_answer_that_lies_is_found_out(at_aurod, alice):
    simulator, account = at_aurod
    simulator.add_fault("echo", writes_only=True, times=1000)
    job = run(switch_job(alice, account, other_model(account)), alice, account)
    assert job.n_applied == 0 and job.n_not_applied == 100
    account.refresh_from_db()
    assert account.memory.get("answers_lie") is True


def test_a_dead_credential_parks_the_lane_and_a_new_one_resumes_the_same_job(at_aurod, alice):
    simulator, account = at_aurod
    job = switch_job(alice, account, other_model(account))
    simulator.add_fault("expired", times=100_000, skip=30)
    job = run(job, alice, account)
    assert job.n_failed == 0 and job.n_waiting > 0 and job.n_waiting + job.n_applied == 100
    assert job.state == "waiting"
    simulator.clear_faults()
    lanes.unpark(account, "account_needs_reauth")
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    assert job.n_applied == 100 and job.state == "done"
    adds_up(job)


def test_cancel_ends_truthfully(at_aurod, alice):
    simulator, account = at_aurod
    job = switch_job(alice, account, other_model(account))
    assert jobs.start(alice, job)
    simulator.latency = 0.05
    runner = threading.Thread(target=_lane, args=(account.pk,))
    runner.start()
    _until(lambda: Job.objects.get(pk=job.pk).n_applied >= 10)
    assert jobs.cancel(alice, job)
    runner.join(30)
    job.refresh_from_db()
    assert job.state == "cancelled" and job.n_applied + job.n_cancelled == 100 and job.n_cancelled > 0
    assert len([call for call in simulator.writes() if call.changed]) == job.n_applied
    adds_up(job)


def _lane(pk):
    from django.db import connection

    try:
        while lanes.run_lane(pk):
            pass
    finally:
        connection.close()


def _until(condition, seconds=20.0):
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_titles_from_a_template(at_aurod, alice):
    simulator, account = at_aurod
    rows = account.conversations.filter(untitled=True)
    count = rows.count()
    assert count
    job = jobs.plan(jobs.create(alice, "set-title", rows), {"template": "[{account}] {first_message:10} #{n}"})
    while checks.check_preview(job.pk, account.pk):
        pass
    previewed = {item.remote_id: item.target["title"] for item in job.items.exclude(target=None)}
    job = run(Job.objects.get(pk=job.pk), alice, account)
    truth = simulator.truth()
    assert previewed and all(truth[remote_id]["title"] == title for remote_id, title in previewed.items())
    assert all(title.startswith(f"[{account.label}]") and len(title) <= 50 for title in previewed.values())
    assert job.n_applied == len(previewed)
    adds_up(job)


def test_titles_are_made_at_the_run_when_the_preview_was_not_awaited(at_aurod, alice):
    simulator, account = at_aurod
    rows = account.conversations.filter(untitled=True)
    job = jobs.plan(jobs.create(alice, "set-title", rows), {"template": "{first_message}"})
    assert jobs.groups(job)["reading"] == rows.count()
    job = run(job, alice, account)
    assert job.n_applied > 0 and job.n_applied + job.n_skipped == job.total
    for item in job.items.filter(status="applied"):
        assert simulator.truth()[item.remote_id]["title"] == item.target["title"] != ""


def test_find_and_replace(at_aurod, alice):
    simulator, account = at_aurod
    one = account.conversations.filter(untitled=False).first()
    word = one.title[:2]
    job = jobs.plan(jobs.create(alice, "set-title", account.conversations.filter(pk=one.pk)), {"find": word, "replace": "新"})
    run(job, alice, account)
    assert simulator.truth()[one.remote_id]["title"] == one.title.replace(word, "新")[:50]


@pytest.mark.parametrize("key", ["chatnio", "nuwax", "chongzhiling"])
def test_what_a_provider_cannot_do_is_skipped_with_its_reason(connected, alice, key):
    simulator, account = connected(key, populate=12)
    simulator.limit_scale = 1000
    synced(account)
    job = jobs.plan(jobs.create(alice, "switch-model", account.conversations.all()), {"targets": {"*": "any"}})
    assert jobs.groups(job)["unsupported"] == 12 and job.n_skipped == 12
    with pytest.raises(ValidationError):
        jobs.start(alice, job)
    assert simulator.writes() == []


def test_the_same_remote_conversation_through_two_accounts_runs_once(serve, alice):
    from .support import make_account

    simulator, url = serve("modelrouter", populate=10, rate_limit=0)
    one = synced(make_account(alice, simulator, url, label="one"))
    two = synced(make_account(alice, simulator, url, label="two"))
    model = other_model(one)
    job = jobs.plan(jobs.create(alice, "switch-model", Conversation.objects.all()), {"targets": {"modelrouter": model}})
    assert job.total == 20 and job.n_skipped == 10
    jobs.start(alice, job)
    for account in (one, two):
        lanes.run_lane(account.pk)
    job.refresh_from_db()
    assert job.n_applied == 10
    assert len(simulator.writes()) == 10


def test_a_lost_lease_writes_nothing(at_aurod, alice):
    _simulator, account = at_aurod
    job = switch_job(alice, account, other_model(account))
    jobs.start(alice, job)

    def stolen(befores):
        Lane.objects.filter(account=account).update(holder="a thief")
        return bookkeeping.store(befores)

    lanes.run_lane(account.pk, engine=Engine(stolen, bookkeeping.flush, bookkeeping.look))
    job.refresh_from_db()
    assert job.n_applied == 0
    assert not JobItem.objects.exclude(before=None).exists()
    adds_up(job)


def test_drafts_that_nobody_started_are_discarded_after_a_day(at_aurod, alice):
    _simulator, account = at_aurod
    job = switch_job(alice, account, other_model(account))
    assert jobs.discard_old_drafts() == 0
    assert jobs.discard_old_drafts(mirror.timezone.now() + 2 * jobs.DRAFTS_KEPT) == 1
    assert not Job.objects.filter(pk=job.pk).exists()
