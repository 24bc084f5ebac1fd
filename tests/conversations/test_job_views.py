"""The pages of jobs, asked over HTTP as a browser asks them: who gets what, and that every number is the same number."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations import checks, jobs, lanes, workers
from conversations.job_forms import StartForm
from conversations.models import Conversation, Job, JobItem, Worker
from conversations.preview_presenters import preview_context

from .support import make_user, synced

HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def at_aurod(connected):
    simulator, account = connected("aurod", populate=30)
    return simulator, synced(account)


@pytest.fixture
def working():
    """A worker that gives a sign of life, without one that works."""
    workers.beat()


def other_model(account):
    used = set(account.conversations.values_list("model", flat=True))
    return account.catalogue.exclude(model_id__in=used).first().model_id


def selection(rows, **more):
    ids = list(rows.values_list("pk", flat=True))
    return {"ids": ",".join(map(str, ids)), "query": "", "count": str(len(ids)), "action": "switch-model", **more}


def planned(user, account, model=None, rows=None):
    job = jobs.create(user, "switch-model", rows if rows is not None else account.conversations.all(), selection={"count": 30})
    return jobs.plan(job, {"targets": {str(account.pk): model or other_model(account)}})


def checked(job):
    for account_id in job.items.values_list("account_id", flat=True).distinct():
        while checks.check_preview(job.pk, account_id):
            pass
    return Job.objects.get(pk=job.pk)


def run_lanes(job):
    for account_id in job.items.order_by().values_list("account_id", flat=True).distinct():
        while lanes.run_lane(account_id):
            pass
    return Job.objects.get(pk=job.pk)


def shown_numbers(html, prefix="tab"):
    """The counts beside the tabs of a page, by their key."""
    found = re.findall(rf'id="{prefix}-([\w-]+)".*?<strong>([\d,]+)</strong>', html, re.DOTALL)
    return {key: int(count.replace(",", "")) for key, count in found}


# --- who gets what ------------------------------------------------------------------------------------------------------------------


def test_a_job_of_somebody_else_does_not_exist(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    item = job.items.first()
    stranger = Client()
    stranger.force_login(make_user("mallory@example.com"))
    looks = [reverse(name, args=[job.pk]) for name in ("job_detail", "job_compose", "job_example")]
    looks += [reverse("job_report", args=[job.pk, kind]) for kind in ("csv", "json")]
    orders = [reverse(name, args=[job.pk]) for name in ORDERS] + [reverse("job_decide", args=[job.pk, item.pk])]
    assert {stranger.get(path).status_code for path in looks} == {404}
    assert {stranger.get(path, headers=HTMX).status_code for path in looks} == {404}
    assert {stranger.post(path).status_code for path in [*orders, reverse("job_compose", args=[job.pk])]} == {404}
    assert str(job).encode() not in stranger.get(reverse("job_list")).content
    assert Job.objects.get(pk=job.pk).order == "draft"
    assert client.get(looks[0]).status_code == 200


ORDERS = ("job_check", "job_tick", "job_start", "job_discard", "job_pause", "job_resume", "job_cancel", "job_retry")
ORDERS += ("job_first", "job_normal", "job_go_on", "job_again", "job_undo")


def test_looking_changes_nothing_and_files_are_only_read(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    paths = [reverse("job_create"), reverse("job_decide", args=[job.pk, job.items.first().pk])]
    paths += [reverse(name, args=[job.pk]) for name in ORDERS]
    assert {client.get(path).status_code for path in paths} == {405}
    reads = [reverse("job_list"), reverse("job_badge"), reverse("job_detail", args=[job.pk]), reverse("job_report", args=[job.pk, "csv"])]
    assert {client.post(path).status_code for path in reads} == {405}
    assert client.get(reverse("job_report", args=[job.pk, "exe"])).status_code == 404
    assert client.get(reverse("job_report", args=[job.pk, "csv"]), {"status": "nonsense"}).status_code == 404
    assert client.get(reverse("job_compose", args=[job.pk + 1])).status_code == 404
    assert Job.objects.get(pk=job.pk).order == "draft"


def test_an_item_is_decided_through_its_own_job_only(at_aurod, alice, client):
    _simulator, account = at_aurod
    one, two = (planned(alice, account) for _ in range(2))
    assert client.post(reverse("job_decide", args=[one.pk, two.items.first().pk])).status_code == 404


# --- the preview ----------------------------------------------------------------------------------------------------------------------


def test_every_number_is_the_same_number(connected, alice, client, working):
    simulator, account = connected("modelrouter", populate=40, rate_limit=0)
    synced(account)
    unable, other = connected("chongzhiling", populate=5)
    unable.limit_scale = 1000
    synced(other)
    model = other_model(account)
    ids = sorted(simulator.truth())
    simulator.change_by_somebody(ids[0], model=model)
    simulator.remove_by_somebody(ids[1])
    client.post(reverse("job_create"), selection(Conversation.objects.all()))
    job = Job.objects.get()
    client.post(reverse("job_compose", args=[job.pk]), {"action": "switch-model", "provider-modelrouter": model})
    address = reverse("job_detail", args=[job.pk])
    before = client.get(address)
    assert shown_numbers(before.content.decode()) == {"all": 45, "change": 40, "unsupported": 5}
    assert before.context["poll_every"] == "1s" and "0 of 40 checked" in before.content.decode()
    checked(job)
    after = client.get(address)
    numbers = shown_numbers(after.content.decode())
    assert numbers == {"all": 45, "change": 38, "unchanged": 1, "gone": 1, "unsupported": 5}
    assert sum(numbers.values()) == 2 * numbers["all"]
    assert "hx-trigger" not in client.get(address, headers=HTMX).content.decode().split("run-submit")[0]
    groups = jobs.groups(job)
    assert {tab.key: tab.count for tab in after.context["tabs"] if tab.key} == {name: count for name, count in groups.items() if count}
    assert "Run 38 changes" in after.content.decode() and "no call of its API takes one" in after.content.decode()
    for group, count in groups.items():
        page = client.get(address, {"group": group}).context["page"]
        assert len(page.rows) == count
    assert simulator.writes() == []
    assert client.post(reverse("job_start", args=[job.pk]), {"note": "because"}).url == address
    job = run_lanes(job)
    assert job.n_applied == 38 and job.n_unchanged == 1 and job.n_skipped == 6 and job.note == "because"
    numbers = shown_numbers(client.get(address).content.decode())
    assert {name: count for name, count in numbers.items() if count} == {"all": 45, "applied": 38, "unchanged": 1, "skipped": 6}


def test_a_preview_is_paged_and_every_item_is_shown_once(connected, alice, client):
    _simulator, account = connected("modelrouter", populate=130, rate_limit=0)
    job = planned(alice, synced(account))
    seen, address = [], reverse("job_detail", args=[job.pk])
    while address:
        page = client.get(address).context["page"]
        seen += [row.item.ordinal for row in page.rows]
        last, address = page, page.older_url
    assert seen == list(range(1, 131)) and last.info == "101–130 of 130"
    back = client.get(last.newer_url).context["page"]
    assert [row.item.ordinal for row in back.rows] == list(range(51, 101))


def test_a_preview_says_that_it_is_not_being_read_and_can_be_asked_again(at_aurod, alice, client, working, redis_client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    address = reverse("job_detail", args=[job.pk])
    Job.objects.filter(pk=job.pk).update(planned_at=timezone.now() - timedelta(minutes=1))
    account.health = "unreachable"
    account.save()
    page = client.get(address)
    assert page.context["stalled"] and page.context["poll_every"] == "5s" and "Unreachable" in page.content.decode()
    redis_client.delete("celery")
    assert client.post(reverse("job_check", args=[job.pk]), headers=HTMX).status_code == 200
    message = json.loads(redis_client.lindex("celery", 0))
    assert message["headers"]["task"] == "conversations.check_preview"
    Worker.objects.all().delete()
    assert "30 conversations wait to be read" in client.get(address).content.decode()


def test_where_nothing_would_change_nothing_is_offered(at_aurod, alice, client):
    _simulator, account = at_aurod
    rows = account.conversations.filter(model=account.conversations.exclude(model="").exclude(model=None).first().model)
    job = planned(alice, account, model=rows[0].model, rows=rows)
    page = client.get(reverse("job_detail", args=[job.pk])).content.decode()
    assert "Nothing would change." in page and "run-form" not in page and "run-button" not in page


def test_a_preview_that_finds_something_to_run_after_all_is_shown_anew(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    address = reverse("job_detail", args=[job.pk])
    assert "HX-Refresh" not in client.get(address, {"bar": "1"}, headers=HTMX).headers
    assert client.get(address, {"bar": "0"}, headers=HTMX)["HX-Refresh"] == "true"


def test_a_poll_of_a_preview_that_was_started_elsewhere_leads_to_the_job(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    address = reverse("job_detail", args=[job.pk])
    poll = {**HTMX, "HX-Target": "job-preview"}
    fragment = client.get(address, {"bar": "1"}, headers=poll).content.decode()
    assert 'hx-swap-oob="morph"' in fragment and "<html" not in fragment
    jobs.start(alice, job)
    assert client.get(address, {"bar": "1"}, headers=poll)["HX-Redirect"] == address
    assert client.get(reverse("job_compose", args=[job.pk])).url == address
    assert client.post(reverse("job_discard", args=[job.pk])).url == address
    assert Job.objects.filter(pk=job.pk).exists()


def test_a_discarded_preview_is_gone(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    assert client.post(reverse("job_discard", args=[job.pk])).url == reverse("job_list")
    assert not Job.objects.exists() and not JobItem.objects.exists()


# --- running --------------------------------------------------------------------------------------------------------------------------


def test_a_second_submit_only_shows_the_job(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    start = reverse("job_start", args=[job.pk])
    assert [client.post(start, {"note": note}).url for note in ("first", "second")] == [reverse("job_detail", args=[job.pk])] * 2
    job.refresh_from_db()
    assert job.note == "first" and job.order == "run"


def test_many_changes_want_their_number_typed_and_the_note_is_kept_meanwhile(connected, alice, client):
    _simulator, account = connected("modelrouter", populate=210, rate_limit=0)
    synced(account)
    row = account.conversations.first()
    model = other_model(account)
    Conversation.objects.filter(pk=row.pk).update(model_value=model, model=model)
    job = planned(alice, account, model=model)
    start = reverse("job_start", args=[job.pk])
    for typed in ("", "210", "two hundred"):
        answer = client.post(start, {"note": "kept & shown", "typed_count": typed})
        assert answer.status_code == 422 and list(answer.context["form"].errors) == ["typed_count"]
        assert 'value="kept &amp; shown"' in answer.content.decode() and "Run 209 changes" in answer.content.decode()
    too_long = client.post(start, {"note": "x" * 301, "typed_count": "209"})
    assert too_long.status_code == 422 and list(too_long.context["form"].errors) == ["note"]
    assert Job.objects.get(pk=job.pk).order == "draft"
    assert client.post(start, {"typed_count": "209"}).status_code == 302
    assert StartForm({"typed_count": "1,209"}).is_valid()


def test_the_page_polls_while_the_job_is_live_and_not_after(at_aurod, alice, client, working):
    _simulator, account = at_aurod
    job = planned(alice, account)
    jobs.start(alice, job)
    address = reverse("job_detail", args=[job.pk])
    fragment = client.get(address, {"status": "applied"}, headers=HTMX)
    html = fragment.content.decode()
    assert 'hx-trigger="every 1s"' in html and f'hx-get="{address}?status=applied"' in html and "<html" not in html
    assert "HX-Request" in fragment["Vary"] and "HX-Trigger" not in fragment.headers
    assert "0 of 30 done" in html and "<input" not in html
    assert '<span class="badge soft tone-blue" aria-hidden="true">1</span>' in client.get(reverse("job_badge")).content.decode()
    assert 'hx-trigger="every 2s"' in client.get(reverse("job_list")).content.decode()
    job = run_lanes(job)
    fragment = client.get(address, headers=HTMX)
    html = fragment.content.decode()
    assert "every 1s" not in html and "Done: 30 applied." in html and "jobs-changed" in fragment["HX-Trigger"]
    assert "every 2s" not in client.get(reverse("job_list")).content.decode()
    assert client.get(address).content.decode().count("<html") == 1


def test_numbers_of_a_running_job_come_from_its_own_row(at_aurod, alice, client, working, django_assert_max_num_queries):
    _simulator, account = at_aurod
    job = planned(alice, account)
    jobs.start(alice, job)
    client.get(reverse("job_detail", args=[job.pk]))
    with django_assert_max_num_queries(12) as queries:  # two of them ask what this reader may see of it
        client.get(reverse("job_detail", args=[job.pk]), headers=HTMX)
    counting = [query["sql"] for query in queries if "GROUP BY" in query["sql"] or ("COUNT(" in query["sql"] and "jobitem" in query["sql"])]
    assert len(counting) == 1 and '"status" IN (' in counting[0], "only the lanes board counts, and only what is open"


def test_the_pace_is_that_of_the_last_minute(alice):
    job = Job.objects.create(actor=alice, action="set-title", order="run", n_pending=30)
    assert jobs.pace(job) is None
    cache.set(f"job-pace:{job.pk}", [(time.time() - 90, 0), (time.time() - 30, 0)], 60)
    job.n_pending, job.n_applied = 20, 10
    per_minute = jobs.pace(job)
    assert per_minute == pytest.approx(20, rel=0.1) and jobs.eta_seconds(job, per_minute) == pytest.approx(60, rel=0.1)
    job.n_pending, job.n_applied = 30, 0  # sent once more: what was measured before says nothing now
    cache.set(f"job-pace:{job.pk}", [(time.time() - 30, 10)], 60)
    assert jobs.pace(job) is None and jobs.eta_seconds(job, None) is None


def test_orders_show_the_job_and_come_too_late_politely(at_aurod, alice, client, working):
    _simulator, account = at_aurod
    job = planned(alice, account)
    jobs.start(alice, job)

    def order(name):
        answer = client.post(reverse(f"job_{name}", args=[job.pk]) + "?status=pending", headers=HTMX)
        assert answer.status_code == 200 and json.loads(answer["HX-Trigger"])["toast"]["message"]
        return answer.context["job"].state, answer.content.decode()

    state, html = order("pause")
    assert state == "paused" and 'id="job-resume"' in html and "every 1s" not in html
    state, html = order("resume")
    assert state == "running" and "status=pending" in html
    lanes.park(account, "account_needs_reauth")
    state, html = order("retry")
    assert state == "waiting" and "30 conversations wait." in html and "Waiting for a new credential." in html
    state, html = order("cancel")
    assert state == "cancelled" and "Cancelled: 30 not started." in html
    for button in ("job-pause", "job-resume", "job-cancel", "job-retry"):
        assert f'id="{button}"' not in html
    assert order("pause")[0] == "cancelled"
    assert client.post(reverse("job_pause", args=[job.pk])).url == reverse("job_detail", args=[job.pk])


def test_an_order_to_a_draft_leads_to_its_preview(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    assert client.post(reverse("job_cancel", args=[job.pk])).status_code == 302
    assert Job.objects.get(pk=job.pk).order == "draft"


def test_nobody_works_and_the_page_says_since_when(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    jobs.start(alice, job)
    address = reverse("job_detail", args=[job.pk])
    assert "No worker is online:" in client.get(address).content.decode()
    Worker.objects.create(name="w", started_at=timezone.now(), seen_at=timezone.now() - timedelta(minutes=3))
    html = client.get(address).content.decode()
    assert "No worker online since" in html and "30 conversations wait." in html
    workers.beat()
    assert "no-worker" not in client.get(address).content.decode()


def test_a_conflict_shows_what_was_found_and_is_decided_there(at_aurod, alice, client, working):
    simulator, account = at_aurod
    model = other_model(account)
    job = planned(alice, account, model=model)
    rows = list(account.conversations.order_by("remote_id")[:2])
    theirs = account.catalogue.exclude(model_id__in=[model, *(row.model for row in rows)]).first()
    for row in rows:
        simulator.change_by_somebody(row.remote_id, model=theirs.model_id)
    client.post(reverse("job_start", args=[job.pk]))
    job = run_lanes(job)
    html = client.get(reverse("job_detail", args=[job.pk]), {"status": "conflict"}).content.decode()
    assert job.n_conflict == 2 and "2 need a decision." in html and f'title="{theirs.model_id}">{theirs.name}' in html
    keep, overwrite = job.items.filter(status="conflict")
    for item, value in ((keep, "0"), (overwrite, "1")):
        answer = client.post(reverse("job_decide", args=[job.pk, item.pk]), {"overwrite": value}, headers=HTMX)
        assert answer.status_code == 200 and 'id="job-live"' in answer.content.decode()
    again = client.post(reverse("job_decide", args=[job.pk, keep.pk]), {"overwrite": "1"}, headers=HTMX)
    assert "decided already" in again["HX-Trigger"]
    job = run_lanes(job)
    truth = simulator.truth()
    assert truth[keep.remote_id]["model"] == theirs.model_id and truth[overwrite.remote_id]["model"] == model
    assert job.state == "done" and job.n_skipped == 1


def test_only_failed_items_are_listed_downloaded_and_retried(connected, alice, client, working):
    simulator, account = connected("modelrouter", populate=30, rate_limit=0)
    synced(account)
    job = planned(alice, account)
    simulator.add_fault("ignore", writes_only=True, times=4, skip=5)
    client.post(reverse("job_start", args=[job.pk]))
    job = run_lanes(job)
    address = reverse("job_detail", args=[job.pk])
    assert job.n_not_applied == 4 and job.n_applied == 26
    html = client.get(address, {"status": "not_applied"}).content.decode()
    assert "Retry 4 failed" in html and html.count('data-status="not_applied"') == 4
    rows = read_csv(client.get(reverse("job_report", args=[job.pk, "csv"]), {"status": "not_applied"}))
    assert len(rows) == 4 and {row["reason"] for row in rows} == {"accepted_not_applied"}
    written = len(simulator.writes())
    assert "4 conversations are tried once more." in client.post(reverse("job_retry", args=[job.pk]), headers=HTMX)["HX-Trigger"]
    job = run_lanes(job)
    assert job.n_applied == 30 and len(simulator.writes()) == written + 4


# --- results --------------------------------------------------------------------------------------------------------------------------


def read_csv(answer):
    text = b"".join(answer.streaming_content).decode()
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_results_as_files_with_chinese_and_without_formulas(at_aurod, alice, client):
    _simulator, account = at_aurod
    titles = ['=HYPERLINK("http://x.example")', "＋1+1", "退款政策，第二稿", 'with "quotes"\nand a line']
    job = planned(alice, account)
    for item, title in zip(job.items.all(), titles, strict=False):
        JobItem.objects.filter(pk=item.pk).update(title=title)
    jobs.start(alice, job)
    run_lanes(job)
    answer = client.get(reverse("job_report", args=[job.pk, "csv"]))
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="J-{job.pk}.csv"'
    rows = read_csv(answer)
    assert [row["title"] for row in rows[:4]] == ["'" + titles[0], "'" + titles[1], titles[2], titles[3]]
    assert len(rows) == 30 and {row["status"] for row in rows} == {"applied"} and all(row["before"] and row["after"] for row in rows)
    answer = client.get(reverse("job_report", args=[job.pk, "json"]), {"status": ["applied", "failed"]})
    assert answer["Content-Disposition"] == f'attachment; filename="J-{job.pk}-applied-failed.json"'
    document = json.loads(b"".join(answer.streaming_content))
    assert [row["title"] for row in document[:4]] == titles and len(document) == 30 and document[0]["reason"] is None
    empty = client.get(reverse("job_report", args=[job.pk, "json"]), {"status": "failed"})
    assert json.loads(b"".join(empty.streaming_content)) == []


def test_titles_and_notes_are_only_text(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account)
    JobItem.objects.filter(job=job).update(title="<script>alert(1)</script>", detail="<b>own words</b>")
    jobs.start(alice, job, note="<i>note</i>")
    html = client.get(reverse("job_detail", args=[job.pk])).content.decode()
    assert "<script>alert" not in html and "<b>own" not in html and "<i>note" not in html and "&lt;script&gt;alert" in html


# --- the list -------------------------------------------------------------------------------------------------------------------------


def test_the_list_has_three_tabs_and_explains_how_to_start(at_aurod, alice, client):
    _simulator, account = at_aurod
    assert "No jobs yet" in client.get(reverse("job_list")).content.decode()
    draft, running, done = (planned(alice, account, rows=account.conversations.filter(pk=row.pk)) for row in account.conversations.all()[:3])
    jobs.start(alice, done, note="ticket 7")
    run_lanes(done)
    jobs.start(alice, running)
    found = {}
    for tab in ("running", "previews", "finished"):
        page = client.get(reverse("job_list"), {"tab": tab})
        found[tab] = [row["job"].pk for row in page.context["jobs"]]
        assert shown_numbers(page.content.decode()) == {"running": 1, "previews": 1, "finished": 1}
    assert found == {"running": [running.pk], "previews": [draft.pk], "finished": [done.pk]}
    assert "ticket 7" in page.content.decode() and "1 applied" in page.content.decode()
    assert client.get(reverse("job_list")).context["chosen"] == "running"
    fragment = client.get(reverse("job_list"), headers=HTMX).content.decode()
    assert fragment.strip().startswith('<div id="job-list"') and "<html" not in fragment


def test_a_long_list_of_jobs_is_paged(at_aurod, alice, client):
    Job.objects.bulk_create(Job(actor=alice, action="set-title", order="run", finished_at=timezone.now()) for _ in range(60))
    first = client.get(reverse("job_list")).context
    second = client.get(first["older_url"]).context
    ids = [row["job"].pk for row in [*first["jobs"], *second["jobs"]]]
    assert len(ids) == 60 and ids == sorted(ids, reverse=True) and not second["older_url"]


def test_the_preview_needs_few_queries_however_long_it_is(connected, alice, django_assert_max_num_queries):
    from django.http import QueryDict

    _simulator, account = connected("modelrouter", populate=120, rate_limit=0)
    job = planned(alice, synced(account))
    with django_assert_max_num_queries(8):
        preview_context(job, QueryDict(""))
