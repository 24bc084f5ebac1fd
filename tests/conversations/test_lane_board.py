"""The lanes board, the page of all lanes, incidents and workers: what they say, to whom, and for how many queries."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from accounts import cooling, services, teams
from accounts.models import Account, Health, RequestLog, ShareLevel
from conversations import breakers, incidents, jobs, lane_board, lanes, leases, workers
from conversations.models import Incident, Job, JobItem, Lane, Worker
from conversations.states import ItemStatus as S
from conversations.states import Move, transition
from tests.accounts.team_support import people

from .pages import HX, events_of, text_of, toast_of
from .support import make_user, synced
from .test_jobs import other_model

DOWN = "unavailable\n503\nThe provider is out of order.\nupstream connect error"


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def stranger(db):
    client = Client()
    client.force_login(make_user("mallory@example.com"))
    return client


@pytest.fixture
def running(connected, alice):
    """A function that starts one job over new accounts: `job, account, another = running(12, 5)`; a worker gives a sign of life."""

    def start(*counts: int):
        workers.beat()
        accounts = []
        for number, count in enumerate(counts, start=1):
            _simulator, account = connected("modelrouter", label=f"router-{number}", populate=count, rate_limit=0)
            accounts.append(synced(account))
        job = jobs.create(alice, "switch-model", accounts[0].conversations.model.objects.filter(account__in=accounts))
        jobs.plan(job, {"targets": {str(account.pk): other_model(account) for account in accounts}})
        assert jobs.start(alice, job, typed_count=sum(counts))
        return Job.objects.get(pk=job.pk), *accounts

    return start


def rows_of(job, user):
    return {row.account.label: row for row in lane_board.job_context(job, user)["lanes"]}


def ended(job, account, count, *, ago=0.0):
    """Lets as many items of an account end, the last one `ago` seconds before now."""
    items = list(JobItem.objects.filter(job=job, account=account, status=S.PENDING)[:count])
    transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in items])
    at = timezone.now() - timedelta(seconds=ago)
    values = [{"finished_at": at - timedelta(seconds=number)} for number in range(len(items))]
    transition([Move(item.pk, job.pk, S.RUNNING, S.APPLIED, values=value) for item, value in zip(items, values, strict=True)])
    cache.clear()
    job.refresh_from_db()


# --- what a row says ------------------------------------------------------------------------------------------------------------------


def test_each_account_has_a_row_with_its_numbers_and_they_add_up(running, alice, client):
    job, one, two = running(12, 5)
    ended(job, one, 4)
    item = JobItem.objects.filter(job=job, account=two).first()
    transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING)])
    job.refresh_from_db()
    rows = rows_of(job, alice)
    assert [(row.in_flight, row.pending, row.waiting, row.done) for row in rows.values()] == [(0, 8, 0, 4), (1, 4, 0, 0)]
    assert [row.state for row in rows.values()] == ["pending", "running"]
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert f'id="lane-{one.pk}"' in html and f'id="lane-{two.pk}"' in html
    assert "<input" not in html[html.index('id="job-lanes"') : html.index("count-tabs")], "a polled region holds no field"


def test_the_slowest_lane_explains_how_long_the_job_takes(running, alice, client):
    job, one, two = running(12, 40)
    ended(job, one, 6)
    ended(job, two, 2, ago=9)
    rows = rows_of(job, alice)
    # Of `two`, two ended within ten seconds: 12 a minute, 38 are left.
    assert rows["router-2"].per_minute == pytest.approx(12, rel=0.05)
    assert rows["router-2"].eta_seconds == pytest.approx(190, rel=0.05)
    assert rows["router-1"].eta_seconds < 10
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert "router-2 needs about 3 min" in html and "about 3 min left" in html


def test_what_ended_long_ago_is_no_pace(running, alice):
    job, one = running(12)
    ended(job, one, 4, ago=120)
    row = rows_of(job, alice)["router-1"]
    assert (row.pace, row.eta, row.done) == ("", "", 4)


def test_a_refusal_for_the_rate_is_counted_down_at_once_even_while_the_lane_waits_it_out(running, alice, client, connected):
    job, one, two = running(6, 6)
    limiter = cooling.NotingLimiter(services.settings.REDIS_URL, one.pk)

    async def refuse():
        await limiter.cool_down("some key of this provider", 7)
        await limiter.aclose()

    asyncio.run(refuse())
    assert cooling.left([one, two]) == {one.pk: pytest.approx(7, abs=1)}
    rows = rows_of(job, alice)
    assert rows["router-1"].state == "rate_limited" and rows["router-1"].countdown in ("0:06", "0:07")
    assert rows["router-2"].state == "pending" and rows["router-2"].hold_until is None
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert re.search(r'data-countdown="[67]\.?\d*"', html) and html.count("data-countdown=") == 1


def test_a_real_refusal_is_noted_for_its_account(running, alice, connected):
    _job, one = running(3)
    simulator, account = connected("aurod", label="strict", populate=3, switches={"throttle_as": "429_retry_after"})
    simulator.add_fault("throttle", times=1)
    begun = threading.Event()

    def read():
        try:
            begun.set()
            services.call(account, lambda provider: provider.check(), prompt=False)
        finally:
            connection.close()

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait()
    for _attempt in range(200):
        if found := cooling.left([account, one]):
            break
        threading.Event().wait(0.01)
    thread.join()
    assert set(found) == {account.pk}


def test_a_lane_that_is_blocked_says_why_and_a_block_that_is_over_says_nothing(running, alice):
    job, one = running(3)
    Lane.objects.create(account=one, blocked_until=timezone.now() + timedelta(seconds=95), blocked_reason="rate_limited")
    row = rows_of(job, alice)["router-1"]
    assert row.state == "rate_limited" and row.countdown == "1:35"
    Lane.objects.update(blocked_until=timezone.now() - timedelta(seconds=1))
    assert rows_of(job, alice)["router-1"].countdown == "0:00" and rows_of(job, alice)["router-1"].state == "pending"


def test_an_open_breaker_shows_on_each_of_its_lanes_with_the_next_probe(running, alice, client):
    job, one, two = running(6, 4)
    breakers.report(breakers.host_of(one), "modelrouter", 0, 9, DOWN)
    incident = Incident.objects.get()
    rows = rows_of(job, alice)
    assert rows["router-1"].label == "Held" and rows["router-1"].incident == incident and rows["router-1"].countdown == "0:30"
    assert rows["router-2"].incident is None
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert f'id="incident-{incident.pk}"' in html and "6 conversations wait and go on by themselves" in html
    assert reverse("incident_detail", args=[incident.pk]) in html
    ended(job, two, 2)
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert "router-1 waits for its provider" in html and " left</span>" not in html, "how long, nobody knows"


def test_latency_is_drawn_from_the_last_hundred_requests(running, alice, client):
    job, one, two = running(3, 3)
    now = timezone.now()
    RequestLog.objects.all().delete()  # of the readings before
    RequestLog.objects.bulk_create(RequestLog(account=one, at=now, method="GET", path="/", ms=9000) for _ in range(20))
    RequestLog.objects.bulk_create(RequestLog(account=one, at=now, method="GET", path="/", ms=number) for number in range(1, 101))
    RequestLog.objects.bulk_create(RequestLog(account=two, at=now, method="GET", path="/", ms=1500) for _ in range(3))
    rows = rows_of(job, alice)
    assert (rows["router-1"].spark.p50, rows["router-1"].spark.p95, rows["router-1"].spark.count) == ("50 ms", "95 ms", 100)
    assert rows["router-2"].spark.p50 == "1.5 s" and rows["router-2"].spark.count == 3
    assert rows["router-1"].spark.points.startswith("0.0,") and rows["router-1"].spark.points.count(",") == 100
    assert "<polyline" in text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))


@pytest.mark.parametrize("points", [[5], [0, 0], [1, 2], list(range(100))])
def test_a_line_stays_within_its_picture(points):
    drawn = [tuple(map(float, pair.split(","))) for pair in lane_board.spark(points).points.split()]
    assert all(0 <= x <= lane_board.WIDTH and 0 <= y <= lane_board.HEIGHT for x, y in drawn) and len(drawn) == len(points)


def test_a_dead_credential_shows_the_owner_the_way_and_others_the_lock(running, alice, client):
    job, one = running(3)
    Account.objects.filter(pk=one.pk).update(health=Health.NEEDS_REAUTH)
    leases.park(one, "account_needs_reauth")
    job.refresh_from_db()
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert f'id="replace-{one.pk}"' in html and reverse("account_edit", args=[one.pk]) in html
    row = rows_of(job, alice)["router-1"]
    assert row.locked and row.waiting == 3 and row.state == "needs_reauth"
    row.owned = False
    html = render_to_string("jobs/_lane.html", {"lane": row})
    assert "Its owner has to replace the credential." in html
    assert not re.search(r"account_edit|/edit/|lane-pause|hx-get|hx-post", html)


def test_the_notice_of_what_waits_for_a_credential_offers_its_owner_to_paste_one_there(running, alice, client):
    job, one, paused = running(3, 2)
    desk = people(alice)
    for account in (one, paused):
        teams.share(alice, account, desk.team, ShareLevel.USE)
    Account.objects.filter(pk=one.pk).update(health=Health.NEEDS_REAUTH)
    leases.park(one, "account_needs_reauth")
    leases.park(paused, "account_paused")
    address, paste = reverse("job_detail", args=[job.pk]), reverse("account_paste_into", args=[one.pk])
    html = client.get(address).content.decode()
    assert re.search(rf'id="wait-paste-{one.pk}" href="{paste}\?next={address}" hx-get="{paste}" hx-target="#dialog-body"', html)
    assert f'id="wait-paste-{paused.pk}"' not in html and text_of(client.get(address)).count("Its owner has to replace") == 0
    client.force_login(desk.viewer)
    html = client.get(address).content.decode()
    assert "wait-paste-" not in html and paste not in html
    assert html.count("Its owner has to replace the credential.") == 2, "in the notice and at the lane"


def test_a_board_asks_as_much_for_many_accounts_as_for_two(running, alice):
    job, *accounts = running(2, 2)
    for account in accounts:
        RequestLog.objects.create(account=account, at=timezone.now(), method="GET", path="/", ms=10)

    def queries(job):
        cache.clear()
        with CaptureQueriesContext(connection) as cold:
            lane_board.job_context(job, alice)
        with CaptureQueriesContext(connection) as warm:
            lane_board.job_context(job, alice)
        return len(cold), len(warm)

    few = queries(job)
    rows = []
    for number in range(3, 9):
        account = Account.objects.create(owner=alice, provider_key="modelrouter", label=f"router-{number}", base_url=accounts[0].base_url)
        rows.append(JobItem(job=job, ordinal=100 + number, account=account, remote_id="x"))
        RequestLog.objects.create(account=account, at=timezone.now(), method="GET", path="/", ms=10)
    JobItem.objects.bulk_create(rows)
    Job.objects.filter(pk=job.pk).update(n_pending=10)
    job.refresh_from_db()
    assert queries(job) == few
    assert few[1] <= 5 and len(rows_of(job, alice)) == 8


def test_very_many_open_items_are_counted_every_other_second(running, alice, monkeypatch):
    monkeypatch.setattr(lane_board, "MANY", 2)
    job, _one = running(3)
    assert rows_of(job, alice)["router-1"].pending == 3
    with CaptureQueriesContext(connection) as queries:
        assert rows_of(job, alice)["router-1"].pending == 3
    assert not [query["sql"] for query in queries if "COUNT(" in query["sql"]]


def test_a_job_that_has_ended_or_has_not_begun_has_no_board(running, alice, client):
    job, one = running(2)
    lanes.run_lane(one.pk)
    job.refresh_from_db()
    assert job.finished_at
    assert 'id="job-lanes"' not in text_of(client.get(reverse("job_detail", args=[job.pk])))


# --- what one may do ------------------------------------------------------------------------------------------------------------------


def test_pause_and_resume_on_the_board(running, alice, client):
    job, one, two = running(3, 3)
    answer = client.post(reverse("lane_pause", args=[one.pk]), headers=HX)
    assert answer.status_code == 204 and "router-1 is paused" in toast_of(answer)["message"] and "lanes-changed" in events_of(answer)
    job.refresh_from_db()
    rows = rows_of(job, alice)
    assert (rows["router-1"].state, rows["router-1"].waiting, rows["router-2"].state) == ("paused", 3, "pending")
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert f'id="lane-resume-{one.pk}"' in html and f'id="lane-pause-{two.pk}"' in html
    assert client.post(reverse("lane_resume", args=[one.pk]), headers=HX).status_code == 204
    assert rows_of(Job.objects.get(pk=job.pk), alice)["router-1"].pending == 3
    assert client.post(reverse("lane_pause", args=[one.pk])).status_code == 302, "and without HTMX"


def test_the_pace_is_changed_in_a_dialog_and_obeyed_for_the_next_conversation(running, alice, client, monkeypatch):
    job, one = running(20)
    address = reverse("lane_pace", args=[one.pk])
    assert "id_concurrency" in text_of(client.get(address, headers=HX))
    refused = client.post(address, {"concurrency": "0", "rate": "5"}, headers=HX)
    assert refused.status_code == 422 and "field-error" in text_of(refused)
    saved = client.post(address, {"concurrency": "1", "rate": "1000"}, headers=HX)
    assert saved.status_code == 204 and {"lanes-changed", "dialog-close"} <= events_of(saved)
    one.refresh_from_db()
    assert (one.concurrency, one.rate) == (1, 1000.0)
    assert rows_of(job, alice)["router-1"].concurrency == 1


def test_what_is_under_way_ends_and_the_next_conversation_is_begun_with_the_new_pace(running, alice, client):
    job, one = running(30)
    Account.objects.filter(pk=one.pk).update(concurrency=3)
    seen = []
    run = lanes.LaneRunner._outcome

    async def slowly(self, work):
        seen.append(self.concurrency)
        if len(seen) == 3:
            await self._in_database(lambda: client.post(reverse("lane_pace", args=[one.pk]), {"concurrency": "1", "rate": "1000"}, headers=HX))
        await asyncio.sleep(0.2)  # longer than a runner goes without a look at what people ordered
        return await run(self, work)

    lanes.LaneRunner._outcome = slowly
    try:
        while lanes.run_lane(one.pk):
            pass
    finally:
        lanes.LaneRunner._outcome = run
    job.refresh_from_db()
    assert job.n_applied == 30 and seen[0] == 3 and seen[-1] == 1
    assert seen.count(3) <= 3 + 2 * 3, "no more than what was under way"


def test_somebody_elses_lanes_cannot_be_touched(running, alice, stranger, client):
    _job, one = running(3)
    paths = [reverse(name, args=[one.pk]) for name in ("lane_pause", "lane_resume", "lane_pace")]
    assert {stranger.post(path, headers=HX).status_code for path in paths} == {404}
    assert stranger.get(paths[2], headers=HX).status_code == 404
    assert {client.get(path).status_code for path in paths[:2]} == {405}
    one.refresh_from_db()
    assert one.paused_at is None and one.concurrency is None


# --- the page of all lanes ------------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_lane_with_work_and_only_ones_own(running, alice, client, stranger):
    _job, one, two = running(6, 2)
    lanes.run_lane(two.pk)
    html = text_of(client.get(reverse("lane_list")))
    assert f'id="lane-{one.pk}"' in html and f'id="lane-{two.pk}"' not in html, "what is done has no work"
    fragment = client.get(reverse("lane_list"), headers=HX)
    assert text_of(fragment).lstrip().startswith('<div id="lanes"') and "every 1s" in text_of(fragment)
    nothing = text_of(stranger.get(reverse("lane_list")))
    assert "No lane has work" in nothing and str(one.pk) not in nothing and "every 5s" in nothing
    assert reverse("lane_list") in text_of(client.get(reverse("job_list")))


def test_two_jobs_of_one_account_are_one_lane(running, alice, client):
    _job, one = running(6)
    second = jobs.create(alice, "set-title", one.conversations.filter(pk__in=one.conversations.values("pk")[:4]))
    jobs.plan(second, {"template": "new {n}", "include_hand_made": True})
    assert jobs.start(alice, second)
    rows = lane_board.page_context(alice)["lanes"]
    assert [(row.pending, row.total) for row in rows] == [(10, 10)]


def test_workers_are_listed_and_those_that_vanished_show(running, client):
    _job, _one = running(3)
    now = timezone.now()
    Worker.objects.create(name="gone:17", started_at=now - timedelta(hours=1), seen_at=now - timedelta(minutes=5))
    html = text_of(client.get(reverse("lane_list")))
    assert workers.name() in html and "Online" in html
    assert re.search(r"gone:17.*?Vanished", html, re.DOTALL) and "no-worker" not in html


def test_without_a_worker_every_page_says_so_since_when_and_how_much_waits(running, alice, client):
    job, _one = running(3)
    assert workers.ALIVE + timedelta(seconds=workers.BEAT) <= timedelta(seconds=30), "within thirty seconds"
    Worker.objects.update(seen_at=timezone.now() - workers.ALIVE - timedelta(seconds=1))
    for path in (reverse("lane_list"), reverse("job_detail", args=[job.pk])):
        html = text_of(client.get(path))
        assert "No worker online since" in html and "3 conversations wait." in html


def test_a_worker_that_dies_with_everything_under_way_is_missed_too(running, client):
    job, _one = running(3)
    transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item in job.items.all()])
    Worker.objects.all().delete()
    html = text_of(client.get(reverse("job_detail", args=[job.pk]), headers=HX))
    assert "No worker is online:" in html and "3 conversations wait." in html


# --- incidents ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def outage(running):
    """A function that opens an incident at the first account of a running job: `job, account, incident = outage()`."""

    def begin():
        job, one, _two = running(6, 2)
        breakers.report(breakers.host_of(one), "modelrouter", 1, 9, DOWN)
        return job, one, Incident.objects.get()

    return begin


def test_an_incident_tells_what_happened_while_it_lasts_and_afterwards(outage, alice, client):
    job, _one, incident = outage()
    address = reverse("incident_detail", args=[incident.pk])
    html = text_of(client.get(address))
    assert "every 2s" in html and "6 conversations wait" in html and "upstream connect error" in html
    assert f'id="held-job-{job.pk}"' in html and 'data-copy-from="#what-happened"' in html and "data-countdown=" in html
    breakers.probe_result(incident.host, False, DOWN)
    breakers.probe_result(incident.host, True)
    html = text_of(client.get(address))
    codes = re.findall(r'data-code="(\w+)"', html)
    assert codes == ["opened", "held", "probe_failed", "probe_ok", "resumed"] and "every 2s" not in html
    report = incidents.context(Incident.objects.get(), alice)["report"]
    assert f"{job} (Switch model): 6 held" in report and "was out of order from" in report and "HTTP 503" in report
    assert text_of(client.get(address, headers=HX)).lstrip().startswith('<div class="job" id="incident"')


def test_incidents_are_for_those_who_see_an_account_there(outage, alice, client, stranger):
    job, one, incident = outage()
    address = reverse("incident_detail", args=[incident.pk])
    assert stranger.get(address).status_code == 404
    assert incident.host not in text_of(stranger.get(reverse("incident_list"))) and "No incidents" in text_of(stranger.get(reverse("incident_list")))
    assert incident.host in text_of(client.get(reverse("incident_list")))
    neighbour = make_user("bob@example.com")
    Account.objects.create(owner=neighbour, provider_key="modelrouter", label="mine", base_url=one.base_url)
    bobs = Client()
    bobs.force_login(neighbour)
    html = text_of(bobs.get(address))
    assert "None of your jobs was held up." in html and str(job) not in html and one.label not in html


def test_past_incidents_come_after_open_ones(outage, client, alice):
    _job, _one, incident = outage()
    later = timezone.now() + timedelta(seconds=1)
    past = Incident.objects.create(host=incident.host, provider_key="modelrouter", opened_at=later, ended_at=later + timedelta(minutes=3))
    listed = re.findall(r'id="incident-row-(\d+)"', text_of(client.get(reverse("incident_list"))))
    assert listed == [str(incident.pk), str(past.pk)]


def test_the_pages_speak_chinese_too(outage, client):
    _job, _one, incident = outage()
    with translation.override("zh-hans"):
        for path in (reverse("lane_list"), reverse("incident_detail", args=[incident.pk]), reverse("incident_list")):
            assert client.get(path, headers={"accept-language": "zh-CN"}).status_code == 200
