"""What a person ticks and unticks in a preview: it is kept, it is what runs, and every number follows."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from conversations import checks, jobs, plans, ticks
from conversations.models import Job, JobItem
from conversations.states import ItemStatus as S

from .pages import HX, text_of
from .support import make_account, make_user, synced
from .test_jobs import adds_up, other_model, run, switch_job

POLL = {**HX, "HX-Target": "job-preview"}


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def draft(connected, alice):
    """A planned switch over 10 conversations at a ModelRouter and 3 that cannot be switched: simulator, account, job."""
    simulator, account = connected("modelrouter", populate=10, rate_limit=0)
    synced(account)
    unable, other = connected("chongzhiling", populate=3)
    unable.limit_scale = 1000
    synced(other)
    rows = type(account.conversations.first()).objects.all()
    simulator.log.clear()
    return simulator, account, switch_job(alice, account, other_model(account), rows)


@pytest.fixture
def hand_made(monkeypatch):
    """A rule that leaves out a title somebody wrote, as the action of titles has it."""
    by_rule = plans._by_rule

    def rule(job, item, *arguments):
        made = by_rule(job, item, *arguments)
        return plans.Plan(made.expected, made.target, S.SKIPPED, "hand_made") if item.title.startswith("by hand") else made

    monkeypatch.setattr(plans, "_by_rule", rule)


def check(job, account):
    while checks.check_preview(job.pk, account.pk):
        pass
    return Job.objects.get(pk=job.pk)


def post(client, job, **given):
    return client.post(reverse("job_tick", args=[job.pk]), given, headers=POLL)


def test_an_unticked_row_is_left_out_and_the_button_follows(draft, alice, client):
    simulator, account, job = draft
    item = job.items.filter(account=account).first()
    page = post(client, job, item=item.pk, ticked="0")
    assert "Run 9 changes" in text_of(page) and "It was left out in the preview." in text_of(page)
    item.refresh_from_db()
    assert (item.status, item.reason, item.ticked) == ("skipped", "left_out", False)
    adds_up(job)
    run(job, alice, account)
    assert job.n_applied == 9 and item.remote_id not in {call.path.rsplit("/", 1)[-1] for call in simulator.writes()}
    assert len(simulator.writes()) == 9
    item.refresh_from_db()
    assert (item.status, item.reason) == ("skipped", "left_out")


def test_a_choice_survives_checking_and_planning_anew(draft, alice):
    _simulator, account, job = draft
    first, second = job.items.filter(account=account)[:2]
    assert ticks.tick(alice, job, job.items.filter(pk=first.pk), ticked=False) == 1
    checks._read, read = _untick_meanwhile(alice, job, second), checks._read
    try:
        check(job, account)
    finally:
        checks._read = read
    left = {item.pk for item in job.items.filter(reason="left_out")}
    assert left == {first.pk, second.pk}
    others = account.catalogue.exclude(model_id=job.params["targets"][str(account.pk)])
    jobs.plan(Job.objects.get(pk=job.pk), {"targets": {str(account.pk): others.last().model_id}})
    assert {item.pk for item in job.items.filter(reason="left_out")} == left
    adds_up(job)


def _untick_meanwhile(alice, job, item):
    read = checks._read

    async def reading(provider, draft, items):
        await sync_to_async(ticks.tick, thread_sensitive=False)(alice, job, job.items.filter(pk=item.pk), ticked=False)
        return await read(provider, draft, items)

    return reading


def test_a_row_that_is_ticked_again_is_as_before_and_still_counts_as_read(draft, alice, client):
    _simulator, account, job = draft
    job = check(job, account)
    item = job.items.filter(account=account, status="pending").first()
    was = {name: getattr(item, name) for name in ("expected", "target", "status", "reason", "checked_at")}
    for ticked in ("0", "1"):
        assert post(client, job, item=item.pk, ticked=ticked).status_code == 200
    item.refresh_from_db()
    assert {name: getattr(item, name) for name in was} == was and item.ticked is True
    adds_up(job)


def test_a_row_that_is_ticked_before_it_was_read_is_read_after_all(draft, alice, client, redis_client):
    _simulator, account, job = draft
    item = job.items.filter(account=account).first()
    post(client, job, item=item.pk, ticked="0")
    check(job, account)
    redis_client.delete("celery")
    post(client, job, item=item.pk, ticked="1")
    assert redis_client.llen("celery") == 1
    check(job, account)
    item.refresh_from_db()
    assert item.checked_at is not None and item.status == "pending"


def test_what_cannot_change_is_taken_out_with_one_click(draft, alice, client):
    _simulator, account, job = draft
    unticked = job.items.filter(account=account).first()
    post(client, job, item=unticked.pk, ticked="0")
    page = client.get(reverse("job_detail", args=[job.pk]))
    assert "Take out 3 that cannot change" in text_of(page)
    page = post(client, job, stuck="1")
    assert "Take out" not in text_of(page) and "9 of 10 would change" in text_of(page)
    job.refresh_from_db()
    assert job.total == 10 and job.items.count() == 10 and not job.items.filter(reason="unsupported").exists()
    assert job.items.filter(pk=unticked.pk, reason="left_out").exists()
    adds_up(job)
    Job.objects.filter(pk=job.pk).update(selection={"count": 13, "removed": 3})
    assert "count-differs" not in text_of(client.get(reverse("job_compose", args=[job.pk])))


def test_a_ticked_row_cannot_be_what_it_cannot(draft, alice):
    _simulator, account, job = draft
    unable = job.items.exclude(account=account)
    assert ticks.tick(alice, job, unable, ticked=True) == 0 == ticks.tick(alice, job, unable, ticked=False)
    assert set(unable.values_list("reason", "ticked")) == {("unsupported", None)}


def test_titles_made_by_hand_are_changed_only_when_they_are_ticked(draft, alice, client, hand_made):
    simulator, account, _job = draft
    rows = account.conversations.order_by("pk")
    rows.filter(pk=rows.first().pk).update(title="by hand 1")
    job = jobs.plan(jobs.create(alice, "set-title", rows.all()), {"template": "x {n}", "include_hand_made": True})
    item = job.items.get(reason="hand_made")
    assert item.status == "skipped" and job.n_pending == 9
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert f'id="tick-{item.pk}" aria' in page and "Run 9 changes" in page
    assert "Run 10 changes" in text_of(post(client, job, item=item.pk, ticked="1"))
    simulator.change_by_somebody(item.remote_id, title="by hand 2")
    JobItem.objects.filter(pk=item.pk).update(title="by hand 2")
    job = check(job, account)
    item.refresh_from_db()
    assert item.status == "pending" and item.expected == {"title": "by hand 2"}
    run(job, alice, account)
    assert simulator.truth()[item.remote_id]["title"] == item.target["title"]
    adds_up(job)


def test_a_ticked_row_that_has_its_value_already_is_no_change(draft, alice, hand_made):
    _simulator, account, _job = draft
    row = account.conversations.first()
    type(row).objects.filter(pk=row.pk).update(title="by hand")
    job = jobs.plan(jobs.create(alice, "set-title", account.conversations.filter(pk=row.pk)), {"template": "by hand", "include_hand_made": True})
    assert ticks.tick(alice, job, job.items.all(), ticked=True) == 1
    assert job.items.get().reason == "already_there" and jobs.changes(job) == 0


def test_a_whole_group_is_unticked_and_ticked_again(draft, alice, client):
    _simulator, _account, job = draft
    page = post(client, job, all="1", group="change", ticked="0")
    assert "Nothing would change." in text_of(page)
    assert post(client, job, all="1", group="change", ticked="1").status_code == 200
    assert jobs.groups(job)["change"] == 0  # none is in that group any more
    page = post(client, job, all="1", group="other", ticked="1")
    assert "Run 10 changes" in text_of(page)
    adds_up(job)


def test_a_bar_that_is_not_there_yet_is_shown_when_something_is_ticked(draft, client):
    _simulator, _account, job = draft
    address = reverse("job_tick", args=[job.pk])
    answer = client.post(address + "?bar=1", {"all": "1", "ticked": "0"}, headers=POLL)
    assert answer["HX-Refresh"] == "true"
    assert client.post(address + "?bar=0", {"all": "1", "ticked": "1"}, headers=POLL)["HX-Refresh"] == "true"


def test_of_a_conversation_in_two_accounts_the_ticked_item_runs(connected, alice):
    simulator, account = connected("modelrouter", populate=3, rate_limit=0)
    synced(account)
    twin = synced(make_account(alice, simulator, account.base_url, label="twin"))
    assert twin.upstream_identity == account.upstream_identity
    job = jobs.create(alice, "set-title", type(account.conversations.first()).objects.all())
    jobs.plan(job, {"template": "t {n}", "include_hand_made": True})
    ran = job.items.filter(status="pending")
    assert ran.count() == 3 == job.items.filter(reason="duplicate").count()
    ticks.tick(alice, job, ran, ticked=False)
    jobs.plan(Job.objects.get(pk=job.pk), {"template": "u {n}", "include_hand_made": True})
    assert job.items.filter(status="pending").count() == 3 == job.items.filter(reason="left_out").count()


def test_only_ones_own_draft_is_ticked(draft, alice, client):
    _simulator, account, job = draft
    mallory = make_user("mallory@example.com")
    with pytest.raises(PermissionDenied):
        ticks.tick(mallory, job, job.items.all(), ticked=False)
    with pytest.raises(PermissionDenied):
        ticks.drop_stuck(mallory, job)
    stranger = Client()
    stranger.force_login(mallory)
    assert post(stranger, job, all="1", ticked="0").status_code == 404
    other = switch_job(alice, account, job.params["targets"][str(account.pk)], account.conversations.all())
    post(client, job, item=other.items.first().pk, ticked="0")
    post(client, job, item="nonsense", ticked="0")
    assert not JobItem.objects.filter(reason="left_out").exists()
    assert jobs.start(alice, job)
    assert ticks.tick(alice, job, job.items.all(), ticked=False) == 0 == ticks.drop_stuck(alice, job)
    assert post(client, job, all="1", ticked="0")["HX-Redirect"] == reverse("job_detail", args=[job.pk])
    adds_up(job)
