"""Runs of items and the panel that shows them: every attempt with its requests, in words, and only to those who may see the job."""

from __future__ import annotations

import html
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from accounts.models import RequestLog
from accounts.providers.errors import ProviderError
from accounts.request_log import item_subject
from conversations import explanations, jobs, leases
from conversations.item_presenters import item_context
from conversations.models import Attempt, Job, JobItem, Lane
from conversations.states import REASONS, Move, transition
from conversations.states import ItemStatus as S

from .pages import events_of, text_of, toast_of
from .support import make_user, synced
from .test_job_views import HTMX, at_aurod, other_model, planned, run_lanes
from .test_lanes import to_end

__all__ = ["at_aurod"]
PANEL = HTMX | {"HX-Target": "dialog-body"}
INSIDE = HTMX | {"HX-Target": "item"}


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def done(at_aurod, alice):
    """A job that ran to its end: `simulator, job = done`."""
    simulator, account = at_aurod
    job = planned(alice, account)
    jobs.start(alice, job)
    return simulator, run_lanes(job)


def url(item: JobItem, name: str = "job_item") -> str:
    return reverse(name, args=[item.job_id, item.pk])


def first(account, count):
    return account.conversations.filter(pk__in=list(account.conversations.order_by("pk").values_list("pk", flat=True)[:count]))


def requests_of(item: JobItem, number: int) -> list[RequestLog]:
    return list(RequestLog.objects.filter(subject=item_subject(item.pk, number)).order_by("pk"))


# --- runs -----------------------------------------------------------------------------------------------------------------------------


def test_every_run_of_an_item_is_kept_with_the_requests_of_that_run(connected, alice):
    simulator, account = connected("modelrouter", populate=20, rate_limit=0)
    job = planned(alice, synced(account))
    jobs.start(alice, job)
    simulator.log.clear()
    RequestLog.objects.all().delete()
    simulator.add_fault("html", method="GET", path="/conversations/", times=6)
    to_end(account)
    items = list(job.items.all())
    assert {item.status for item in items} == {"applied"}
    for item in items:
        runs = list(item.runs.order_by("pk"))
        assert [run.number for run in runs] == list(range(1, item.attempts + 1))
        assert [run.status for run in runs][-1] == "applied" and {run.status for run in runs[:-1]} <= {"pending"}
        for run in runs:
            found = requests_of(item, run.number)
            assert found and run.started_at <= run.ended_at and run.lease.startswith(leases.host_name())
            assert all(row.path.endswith(f"/{item.remote_id}") or "models" in row.path for row in found)
    assert len([row for row in RequestLog.objects.all() if row.subject.startswith("item:")]) == RequestLog.objects.count() == len(simulator.log)
    bad = RequestLog.objects.exclude(error="")
    assert bad.count() == 6 and all("Bad Gateway" in row.answer for row in bad)
    assert RequestLog.objects.filter(write=True).count() == 20
    assert not RequestLog.objects.filter(write=True, sent="").exists()


def test_a_run_that_failed_for_good_keeps_its_reason_and_words(at_aurod, alice):
    simulator, account = at_aurod
    job = planned(alice, account, rows=first(account, 1))
    jobs.start(alice, job)
    simulator.add_fault("ignore", writes_only=True, times=1000)
    to_end(account)
    run = Attempt.objects.get()
    assert (run.number, run.status, run.reason) == (1, "not_applied", "accepted_not_applied")


def test_a_runner_that_is_gone_leaves_runs_too(at_aurod, alice):
    _simulator, account = at_aurod
    job = planned(alice, account)
    jobs.start(alice, job)
    holder = "another-host:7:abc"
    leases.acquire(account.pk, holder)
    one, two = job.items.all()[:2]
    now = timezone.now()
    moves = [Move(item.pk, job.pk, S.PENDING, S.RUNNING, values={"started_at": now - timedelta(minutes=9)}) for item in (one, two)]
    transition(moves, take=holder)
    JobItem.objects.filter(pk=two.pk).update(before={"model": "x"}, attempts=3)
    RequestLog.objects.create(account=account, at=now - timedelta(minutes=5), subject=item_subject(two.pk, 4), method="GET", path="/", ms=1)
    Lane.objects.update(lease_until=now - timedelta(minutes=1))
    leases.reap()
    first, second = Attempt.objects.get(item=one), Attempt.objects.get(item=two)
    assert (first.number, first.status, first.reason, first.lease) == (1, "pending", "not_sent", holder)
    assert (second.number, second.status, second.reason) == (4, "pending", "interrupted")
    assert (first.started_at, second.started_at) == (now - timedelta(minutes=9), now - timedelta(minutes=5))
    assert [JobItem.objects.get(pk=item.pk).attempts for item in (one, two)] == [1, 4]
    leases.reap()
    assert Attempt.objects.count() == 2


# --- the panel ------------------------------------------------------------------------------------------------------------------------


def test_the_panel_is_a_page_a_panel_and_what_the_panel_polls(done, client):
    _simulator, job = done
    item = job.items.filter(status="applied").first()
    page, panel, inside = (client.get(url(item), headers=headers).content.decode() for headers in ({}, PANEL, INSIDE))
    assert "<html" in page and 'id="page-title"' in page and 'id="item"' in page
    assert "<html" not in panel and 'id="dialog-title"' in panel and "data-dialog-close" in panel
    assert inside.strip().startswith('<div class="item-panel" id="item"') and "dialog-title" not in inside
    assert client.get(url(item)).headers["Vary"].count("HX-Request")
    for text in (page, panel, inside):
        assert "hx-trigger" not in text.split('id="item"')[1], "an item that has ended is not asked for again"
        said = html.unescape(text)
        assert "The change was made, and the provider shows it." in said and "In the preview" in said and "Stored afterwards" in said
        assert "PUT" in said and "200" in said and item.remote_id in said and "item-retry" not in said


def test_the_table_of_the_job_leads_to_it(done, client):
    _simulator, job = done
    text = client.get(reverse("job_detail", args=[job.pk])).content.decode()
    assert all(f'hx-get="{url(item)}"' in text for item in job.items.all())


def test_who_may_not_see_the_job_sees_no_item(done, alice, client):
    _simulator, job = done
    item = job.items.first()
    other = planned(alice, item.account)
    stranger = Client()
    stranger.force_login(make_user("mallory@example.com"))
    orders = [url(item, f"job_item_{name}") for name in ("retry", "keep", "overwrite")]
    assert {stranger.get(url(item), headers=headers).status_code for headers in ({}, PANEL, INSIDE)} == {404}
    assert {stranger.post(path).status_code for path in orders} == {404}
    assert {client.get(path).status_code for path in orders} == {405} and client.post(url(item)).status_code == 405
    wrong = [reverse(name, args=[other.pk, item.pk]) for name in ("job_item", "job_item_retry")]
    assert client.get(wrong[0]).status_code == 404 and client.post(wrong[1]).status_code == 404
    assert Client().get(url(item)).status_code == 302


def test_what_has_not_begun_says_so_and_is_polled_while_the_job_runs(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    item = job.items.first()
    draft = text_of(client.get(url(item)))
    assert "nothing has been tried yet" in draft and "No attempt yet." in draft and 'hx-trigger="every 2s"' not in draft
    jobs.start(alice, job)
    waiting = text_of(client.get(url(item)))
    assert "It has not been started yet." in waiting and 'hx-trigger="every 2s"' in waiting
    transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING)], take="host:1:x")
    running = text_of(client.get(url(item), headers=INSIDE))
    assert "It is being worked on right now." in running and "Requests appear here" in running
    RequestLog.objects.create(account=account, at=timezone.now(), subject=item_subject(item.pk, 1), method="GET", path="/now", status=200, ms=7)
    assert "/now" in text_of(client.get(url(item), headers=INSIDE))


@pytest.mark.parametrize(("language", "words"), [("en", ("Retry this one", "Attempts", "no answer")), ("zh-hans", ())])
def test_a_failure_is_explained_and_one_click_tries_again(at_aurod, alice, client, language, words):
    simulator, account = at_aurod
    alice.language = language
    alice.save()
    job = planned(alice, account, rows=first(account, 2))
    jobs.start(alice, job)
    simulator.add_fault("ignore", writes_only=True, times=2)
    to_end(account)
    item, other = job.items.all()
    assert {item.status, other.status} == {"not_applied"}
    RequestLog.objects.filter(subject=item_subject(item.pk, 1)).update(error="unavailable", status=None, answer="", sent="")
    response = client.get(url(item), headers=PANEL)
    assert all(word in text_of(response) for word in words) and 'id="item-retry"' in text_of(response)
    with translation.override(language):
        assert str(explanations.PROVIDER) in text_of(response)
    again = client.post(url(item, "job_item_retry"), headers=INSIDE)
    assert again.status_code == 200 and events_of(again) >= {"job-changed", "jobs-changed"} and toast_of(again)
    assert 'id="item-retry"' not in again.content.decode() and 'hx-trigger="every 2s"' in again.content.decode()
    to_end(account)
    item.refresh_from_db()
    other.refresh_from_db()
    assert (item.status, item.attempts, other.status) == ("applied", 2, "not_applied")
    assert len(client.get(url(item)).context["runs"]) == 2
    late = client.post(url(item, "job_item_retry"), headers=INSIDE)
    assert Job.objects.get(pk=job.pk).n_applied == 1 and late.status_code == 200
    assert client.post(url(other, "job_item_retry")).url == url(other), "without a script it is a page again"


def test_a_conflict_is_decided_in_the_panel(at_aurod, alice, client):
    simulator, account = at_aurod
    job = planned(alice, account, rows=first(account, 2))
    jobs.start(alice, job)
    third = account.catalogue.exclude(model_id=other_model(account)).last().model_id
    for item in job.items.all():
        simulator.change_by_somebody(item.remote_id, model=third)
        JobItem.objects.filter(pk=item.pk).update(expected={"model": "something else"})
    to_end(account)
    keep, overwrite = job.items.all()
    assert {keep.status, overwrite.status} == {"conflict"}
    assert 'id="item-keep"' in client.get(url(keep)).content.decode()
    client.post(url(keep, "job_item_keep"), headers=INSIDE)
    client.post(url(overwrite, "job_item_overwrite"), headers=INSIDE)
    to_end(account)
    found = {item.pk: (item.status, item.reason) for item in job.items.all()}
    assert found == {keep.pk: ("skipped", "kept"), overwrite.pk: ("applied", "")}


def test_requests_that_are_no_longer_kept_are_said_to_be_so(done, client):
    _simulator, job = done
    item = job.items.filter(status="applied").first()
    RequestLog.objects.all().delete()
    assert "No request of its own is recorded." in text_of(client.get(url(item)))
    Attempt.objects.update(started_at=timezone.now() - timedelta(days=settings.REQUESTS_KEPT_DAYS + 1))
    assert "no longer kept" in text_of(client.get(url(item)))


PAYLOADS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<div hx-get=/x hx-trigger=load>", "{{ 7|add:7 }}", "' onmouseover='x"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_providers_say_is_only_text(done, client, payload):
    _simulator, job = done
    item = job.items.filter(status="applied").first()
    JobItem.objects.filter(pk=item.pk).update(title=payload, detail=payload, expected={"model": payload}, target={payload[:40]: payload})
    Attempt.objects.filter(item=item).update(detail=payload, reason="rejected")
    RequestLog.objects.filter(subject=item_subject(item.pk, 1)).update(path=payload, sent=payload, answer=payload)
    for headers in ({}, PANEL, INSIDE):
        text = client.get(url(item), headers=headers).content.decode()
        assert html.escape(payload) in text and payload not in text.replace(html.escape(payload), "")
        assert "14" not in text.split('id="item-values"')[1].split("</dl>")[0] or "{{" not in payload


def test_the_panel_needs_few_queries_however_often_it_was_tried(done, alice, django_assert_max_num_queries):
    _simulator, job = done
    item = job.items.select_related("account", "conversation").first()
    now = timezone.now()
    Attempt.objects.bulk_create(
        Attempt(item=item, number=number, started_at=now, ended_at=now, status="pending", lease="a:1:b") for number in range(2, 90)
    )
    JobItem.objects.filter(pk=item.pk).update(attempts=89)
    item.refresh_from_db()
    with django_assert_max_num_queries(5):
        context = item_context(job, item, may_edit=True)
    assert (len(context["runs"]), context["earlier"]) == (20, 69)


# --- words ----------------------------------------------------------------------------------------------------------------------------


def test_every_reason_and_every_kind_of_error_says_whose_fault_it_is_and_what_to_do():
    kinds = {kind.kind for kind in ProviderError.__subclasses__()}
    assert kinds <= set(explanations.CAUSES) and set(REASONS) == set(explanations.CAUSES)
    for reason in set(REASONS) - {""}:
        told = explanations.explain(S.FAILED, reason)
        assert str(told.happened) and str(told.next_step)


def test_what_passes_by_itself_asks_nothing_of_anybody():
    assert "by itself" in str(explanations.explain(S.PENDING, "unavailable").next_step)
    assert "works again" in str(explanations.explain(S.FAILED, "unavailable").next_step)
    assert "lost" in str(explanations.of_run(S.PENDING, "interrupted"))
