"""What is ordered about whole jobs: one submit makes one job, which goes first, what is noted, how it ended, once more, and until when."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts import services
from accounts.models import Account
from config.celery import app
from conversations import jobs, lanes, retention
from conversations.lanes import LaneRunner
from conversations.models import Attempt, AuditEntry, Conversation, Job, JobItem
from conversations.states import ItemStatus as S

from .pages import HX, text_of
from .support import make_user, synced
from .test_jobs import adds_up, other_model, switch_job
from .test_lanes import in_background, to_end

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def place(connected):
    """A simulator with 30 conversations and Alice's account there, read once."""
    simulator, account = connected("modelrouter", populate=30, rate_limit=0)
    synced(account)
    simulator.log.clear()
    return simulator, account


def posted(rows, **more):
    ids = ",".join(str(pk) for pk in rows.values_list("pk", flat=True))
    return {"ids": ids, "query": "", "count": str(rows.count()), "action": "set-title", **more}


def titled(user, rows, template="t {n}"):
    return jobs.plan(jobs.create(user, "set-title", rows), {"template": template, "include_hand_made": True})


# --- one submit, one job --------------------------------------------------------------------------------------------------------------


def test_a_submit_that_is_repeated_leads_to_the_same_job(place, client):
    _simulator, account = place
    given = posted(account.conversations.all(), key="set-title-1")
    answers = [client.post(reverse("job_create"), given).url for _turn in range(3)]
    job = Job.objects.get()
    assert answers == [reverse("job_compose", args=[job.pk])] * 3 and job.items.count() == 30
    adds_up(job)
    client.post(reverse("job_create"), given | {"key": "set-title-2"})
    assert Job.objects.count() == 2


def test_submits_at_the_same_moment_make_one_job(place, alice):
    _simulator, account = place
    given = posted(account.conversations.all(), key="k" * 64)
    together = threading.Barrier(2)
    answers: list[str] = []

    def submit() -> None:
        browser = Client()
        browser.force_login(alice)
        together.wait(20)
        answers.append(browser.post(reverse("job_create"), given).url)

    threads = [in_background(submit) for _turn in range(2)]
    for thread in threads:
        thread.join(60)
    job = Job.objects.get()
    assert answers == [reverse("job_compose", args=[job.pk])] * 2 and job.items.count() == job.total == 30


def test_an_account_that_is_deleted_while_a_draft_is_made_leaves_no_item_behind(place, alice, monkeypatch):
    """No constraint of the database guards items; the transaction that makes them holds their accounts instead."""
    _simulator, account = place
    inserted, go_on = threading.Event(), threading.Event()
    insert = jobs._insert_items

    def slow(job, rows):
        count = insert(job, rows)
        inserted.set()
        assert go_on.wait(20)
        return count

    monkeypatch.setattr(jobs, "_insert_items", slow)
    maker = in_background(lambda: jobs.create(alice, "set-title", account.conversations.all()))
    assert inserted.wait(20)
    deleter = in_background(services.delete_account, account)
    deleter.join(0.5)
    assert deleter.is_alive()
    go_on.set()
    maker.join(20)
    deleter.join(20)
    assert Job.objects.count() == 1 and not JobItem.objects.exists() and not Account.objects.filter(pk=account.pk).exists()


def test_of_two_that_did_not_see_each_other_the_second_gets_the_job_of_the_first(place, alice, monkeypatch):
    _simulator, account = place
    both_looked = threading.Barrier(2, timeout=20)
    inserted: list[int] = []
    insert = jobs._insert_items

    class Waiting:
        """Lets both look for an earlier job before either begins its transaction."""

        @staticmethod
        def atomic():
            both_looked.wait()
            return transaction.atomic()

    def noting(job, rows):
        inserted.append(job.pk)
        return insert(job, rows)

    monkeypatch.setattr(jobs, "_insert_items", noting)
    monkeypatch.setattr(jobs, "transaction", Waiting)
    made: list[int] = []
    rows = account.conversations.all()
    threads = [in_background(lambda: made.append(jobs.create(alice, "set-title", rows, key="one").pk)) for _turn in range(2)]
    for thread in threads:
        thread.join(60)
    job = Job.objects.get()
    assert made == [job.pk] * 2 and inserted == [job.pk] and job.items.count() == 30


def test_a_key_is_ones_own(place, alice, client):
    _simulator, account = place
    client.post(reverse("job_create"), posted(account.conversations.all(), key="same"))
    mallory = make_user("mallory@example.com")
    with pytest.raises(ValidationError):
        jobs.create(mallory, "set-title", Conversation.objects.all(), key="same")
    assert Job.objects.get().actor == alice


def test_a_submit_that_selects_nothing_may_be_made_again(place, alice):
    _simulator, account = place
    with pytest.raises(ValidationError):
        jobs.create(alice, "set-title", Conversation.objects.none(), key="one")
    with pytest.raises(ValidationError):
        jobs.create(alice, "set-title", account.conversations.all(), key="x" * 65)
    assert jobs.create(alice, "set-title", account.conversations.all(), key="one").total == 30


def test_jobs_without_a_key_are_jobs_of_their_own(place, alice):
    _simulator, account = place
    assert len({jobs.create(alice, "set-title", account.conversations.all()).pk for _turn in range(2)}) == 2


# --- which goes first -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def order_of_writes(monkeypatch):
    """The jobs of the items that lanes claimed, in order."""
    claimed: list[int] = []
    claim = LaneRunner._claim

    def noting(self, wanted):
        works = claim(self, wanted)
        claimed.extend(work.job.pk for work in works)
        return works

    monkeypatch.setattr(LaneRunner, "_claim", noting)
    return claimed


def test_a_small_job_overtakes_a_large_one_on_the_same_account(place, alice, client, order_of_writes):
    _simulator, account = place
    rows = account.conversations.order_by("pk")
    large = titled(alice, rows.filter(pk__in=list(rows.values_list("pk", flat=True)[:25])))
    small = titled(alice, rows.exclude(pk__in=large.items.values("conversation_id")))
    assert jobs.start(alice, large) and jobs.start(alice, small)
    answer = client.post(reverse("job_first", args=[small.pk]), headers=HX)
    assert "goes first" in answer["HX-Trigger"] and 'id="job-normal"' in text_of(answer) and 'id="job-first"' not in text_of(answer)
    to_end(account)
    assert order_of_writes[:5] == [small.pk] * 5 and set(order_of_writes[5:]) == {large.pk} and len(order_of_writes) == 30
    assert {Job.objects.get(pk=job.pk).state for job in (large, small)} == {"done"}


def test_equals_share_and_what_is_left_of_a_claim_goes_to_the_next(place, alice, monkeypatch):
    _simulator, account = place
    ids = list(account.conversations.order_by("pk").values_list("pk", flat=True))
    parts = [titled(alice, account.conversations.filter(pk__in=ids[start::3])) for start in range(3)]
    for job, priority in zip(parts, (0, 0, -1), strict=True):
        assert jobs.start(alice, job, priority=priority)
    chosen: dict[int, list[int]] = {}
    following = LaneRunner._next

    def noting(self, wanted):
        for number in () if chosen else (8, 24, 100):
            chosen[number] = [item.job_id for item in following(self, number)]
        return following(self, wanted)

    monkeypatch.setattr(LaneRunner, "_next", noting)
    to_end(account)
    counts = {number: [found.count(job.pk) for job in parts] for number, found in chosen.items()}
    assert counts == {8: [4, 4, 0], 24: [10, 10, 4], 100: [10, 10, 10]}


def test_an_ended_job_has_no_place_in_the_order_any_more(place, alice, client):
    _simulator, account = place
    job = titled(alice, account.conversations.all())
    jobs.start(alice, job)
    assert "not in that state" in client.post(reverse("job_normal", args=[job.pk]), headers=HX)["HX-Trigger"]
    assert jobs.prioritise(alice, job, 1) and not jobs.prioritise(alice, job, 1) and jobs.prioritise(alice, job, 0)
    to_end(account)
    assert not jobs.prioritise(alice, job, 1)
    assert "not in that state" in client.post(reverse("job_first", args=[job.pk]), headers=HX)["HX-Trigger"]
    assert 'id="job-first"' not in text_of(client.get(reverse("job_detail", args=[job.pk])))


# --- what is confirmed, noted and said at the end ------------------------------------------------------------------------------------------


def test_the_last_word_counts_by_provider_and_account(place, alice, client, connected):
    _simulator, _account = place
    for label, count in (("second", 4), ("third", 3)):
        simulator, other = connected("modelrouter" if label == "second" else "aurod", populate=count, label=label)
        simulator.rate_limit = 0
        synced(other)
    job = titled(alice, Conversation.objects.all())
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert "34 at Alibaba ModelRouter (modelrouter one 30, second 4) · 3 at aurod (third 3)" in page and "Run 37 changes" in page


def test_the_note_is_kept_with_the_job_and_with_every_change(place, alice, client):
    simulator, account = place
    job = titled(alice, account.conversations.all())
    simulator.add_fault("ignore", writes_only=True, times=2)
    client.post(reverse("job_start", args=[job.pk]), {"note": "ticket 7"})
    to_end(account)
    entries = AuditEntry.objects.filter(job=job)
    assert set(entries.values_list("note", flat=True)) == {"ticket 7"} and entries.filter(conversation__isnull=False).count() == 30
    order = entries.get(conversation=None)
    assert (order.what, order.after, order.actor, order.result) == ("job started", {"changes": 30}, alice, "")
    assert entries.filter(result="applied").count() == 28


def test_a_cancelled_job_says_what_was_not_started(place, alice, client):
    simulator, account = place
    simulator.latency = 0.12
    job = titled(alice, account.conversations.all())
    jobs.start(alice, job, note="why")
    thread = in_background(lanes.run_lane, account.pk)
    while Job.objects.get(pk=job.pk).n_applied < 4:
        assert thread.is_alive()
    assert jobs.cancel(alice, job)
    thread.join(30)
    written = len(simulator.writes())
    job = Job.objects.get(pk=job.pk)
    assert job.state == "cancelled" and 0 < job.n_cancelled < 30 and job.n_applied + job.n_cancelled == 30 and written == job.n_applied
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert f"Cancelled: {job.n_applied} applied, {job.n_cancelled} not started." in page
    to_end(account)
    assert len(simulator.writes()) == written
    entry = AuditEntry.objects.get(what="job cancelled")
    assert entry.note == "why" and entry.after["applied"] >= 4
    assert not jobs.cancel(alice, job) and AuditEntry.objects.filter(what="job cancelled").count() == 1


def test_a_draft_that_is_cancelled_was_never_an_order(place, alice):
    _simulator, account = place
    assert jobs.cancel(alice, titled(alice, account.conversations.all()))
    assert not AuditEntry.objects.exists()


def test_the_start_of_an_undo_is_noted_as_one(place, alice):
    _simulator, account = place
    first = titled(alice, account.conversations.all())
    undo = titled(alice, account.conversations.all())
    Job.objects.filter(pk=undo.pk).update(undo_of=first)
    jobs.start(alice, undo)
    assert AuditEntry.objects.get().what == "undo started"


# --- once more ---------------------------------------------------------------------------------------------------------------------------------


def ended(user, job):
    jobs.start(user, job)
    jobs.cancel(user, Job.objects.get(pk=job.pk))
    return Job.objects.get(pk=job.pk)


def test_once_more_over_what_matches_now(place, alice, client, connected):
    _simulator, account = place
    minus = account.conversations.first()
    query = urlencode({"account": str(account.pk)})
    given = {"all_matching": "1", "minus": str(minus.pk), "query": query, "count": "29", "action": "switch-model", "key": "one"}
    client.post(reverse("job_create"), given)
    model = other_model(account)
    job = jobs.plan(Job.objects.get(), {"targets": {str(account.pk): model}})
    assert job.total == 29
    job = ended(alice, job)
    template = account.conversations.last()
    template.pk, template.remote_id = None, "made-meanwhile"
    template.save()
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    key = page.split('name="key" value="')[1].split('"')[0]
    answers = {client.post(reverse("job_again", args=[job.pk]), {"key": key}).url for _turn in range(2)}
    new = Job.objects.latest("pk")
    assert answers == {reverse("job_compose", args=[new.pk])} and Job.objects.count() == 2
    assert new.total == 30 and new.items.filter(remote_id="made-meanwhile").exists() and not new.items.filter(conversation=minus).exists()
    assert (new.action, new.params, new.order, new.planned_at, new.note) == (job.action, job.params, "draft", None, "")
    composer = client.get(answers.pop())
    assert composer.context["form"].choices[0].value == model and "count-differs" not in text_of(composer)
    assert ended(alice, jobs.plan(new, new.params)).selection == {"query": query, "all": True, "minus": [minus.pk]}


def test_once_more_over_the_same_conversations(place, alice, client, connected):
    _simulator, account = place
    rows = account.conversations.filter(pk__in=list(account.conversations.values_list("pk", flat=True)[:4]))
    client.post(reverse("job_create"), posted(rows, query="account=whatever"))
    job = jobs.plan(Job.objects.get(), {"template": "t {n}", "include_hand_made": True})
    left_out = job.items.first()
    JobItem.objects.filter(pk=left_out.pk).update(ticked=False)
    job = ended(alice, job)
    client.post(reverse("job_again", args=[job.pk]))
    new = Job.objects.latest("pk")
    assert new.pk != job.pk
    assert {item.conversation_id for item in new.items.all()} == {item.conversation_id for item in job.items.exclude(pk=left_out.pk)}


def test_once_more_where_nothing_is_left_says_so(place, alice, client):
    _simulator, account = place
    job = ended(alice, titled(alice, account.conversations.all()))
    assert 'id="job-again"' in text_of(client.get(reverse("job_detail", args=[job.pk])))
    account.conversations.all().delete()
    assert client.post(reverse("job_again", args=[job.pk])).url == reverse("job_detail", args=[job.pk])
    stranger = Client()
    stranger.force_login(make_user("mallory@example.com"))
    assert stranger.post(reverse("job_again", args=[job.pk])).status_code == 404
    assert Job.objects.count() == 1


def test_a_job_under_way_is_not_offered_once_more(place, alice, client):
    _simulator, account = place
    job = titled(alice, account.conversations.all())
    jobs.start(alice, job)
    assert 'id="job-again"' not in text_of(client.get(reverse("job_detail", args=[job.pk])))


# --- until when ----------------------------------------------------------------------------------------------------------------------------


def test_an_ended_job_says_until_when_it_is_kept(place, alice, client, settings):
    _simulator, account = place
    job = titled(alice, account.conversations.all())
    jobs.start(alice, job)
    assert "kept until" not in text_of(client.get(reverse("job_detail", args=[job.pk])))
    to_end(account)
    job = Job.objects.get(pk=job.pk)
    day = (job.finished_at + timedelta(days=90)).strftime("%Y-%m-%d")
    for address in (reverse("job_detail", args=[job.pk]), reverse("job_list") + "?tab=finished"):
        assert f"kept until {day}" in " ".join(text_of(client.get(address)).split())
    settings.JOBS_KEPT_DAYS = 1
    assert retention.kept_until(job) == job.finished_at + timedelta(days=1)


def test_old_jobs_go_with_their_items_and_the_audit_stays(place, alice, monkeypatch):
    monkeypatch.setattr(retention, "CHUNK", 7)
    _simulator, account = place
    old, recent, open_ = (titled(alice, account.conversations.all(), f"{name} {{n}}") for name in ("a", "b", "c"))
    for job in (old, recent):
        jobs.start(alice, job)
        to_end(account)
    jobs.start(alice, open_)
    item = old.items.first()
    now = timezone.now()
    Attempt.objects.create(item=item, number=1, started_at=now, ended_at=now, status=S.APPLIED, lease="x")
    Job.objects.filter(pk=old.pk).update(finished_at=now - timedelta(days=90, minutes=1))
    Job.objects.filter(pk=recent.pk).update(finished_at=now - timedelta(days=89), undo_of=old)
    Job.objects.filter(pk=open_.pk).update(created_at=now - timedelta(days=400))
    entries = AuditEntry.objects.count()
    assert retention.delete_old_jobs() == 1
    assert set(Job.objects.values_list("pk", flat=True)) == {recent.pk, open_.pk} and not Attempt.objects.filter(item=item).exists()
    assert JobItem.objects.count() == 60 and AuditEntry.objects.count() == entries
    assert retention.delete_old_jobs() == 0


def test_beat_asks_for_old_jobs_to_be_deleted():
    schedule = app.conf.beat_schedule["delete-old-jobs"]
    assert schedule["task"] in app.tasks and schedule["options"]["expires"] <= schedule["schedule"]


def test_a_job_that_goes_on_while_it_is_deleted_stays(place, alice):
    _simulator, account = place
    job = switch_job(alice, account, other_model(account))
    jobs.start(alice, job)
    job.items.filter(pk=job.items.first().pk).update(status=S.FAILED, reason="rejected")
    jobs.cancel(alice, Job.objects.get(pk=job.pk))
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=100), n_failed=1, n_cancelled=29, n_pending=0)
    assert jobs.retry(alice, Job.objects.get(pk=job.pk)) == 1
    assert retention.delete_old_jobs() == 0 and Job.objects.get(pk=job.pk).items.count() == 30
