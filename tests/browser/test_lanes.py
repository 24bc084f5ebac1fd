"""The lanes board as a person watches and steers it: holds that count down, pause, pace; on a phone, and for everybody."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone

from accounts.models import Account, RequestLog, User
from conversations import breakers, jobs, workers
from conversations.models import Incident, Job, JobItem, Lane
from tests.conversations.support import synced

from .test_jobs import NARROW, WCAG, fits, runner

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def signed_in(new_context: Any, sign_in: Any, alice: User) -> Callable[..., Page]:
    """A function that opens a page as Alice; keyword arguments go to Playwright."""

    def open_page(**options: Any) -> Page:
        context: BrowserContext = new_context(**options)
        sign_in(context, alice)
        return context.new_page()

    return open_page


@pytest.fixture
def two_lanes(connected: Any, aside: Any, alice: User) -> tuple[Job, list[Any], list[Account]]:
    """A running job over an aurod, where a refusal means five seconds of silence, and a ModelRouter; a worker gives a sign of life."""
    workers.beat()
    strict, first = aside(connected, "aurod", label="aurod-1", populate=40)
    easy, second = aside(connected, "modelrouter", label="a router with quite a long name", populate=40, rate_limit=0)
    for account in (first, second):
        aside(synced, account)
    job = jobs.create(alice, "switch-model", first.conversations.model.objects.filter(account__in=[first, second]))
    models = {str(account.pk): other(account) for account in (first, second)}
    jobs.plan(job, {"targets": models})
    assert jobs.start(alice, job)
    return job, [strict, easy], [first, second]


def other(account: Account) -> str:
    used = set(account.conversations.values_list("model", flat=True))
    return account.catalogue.exclude(model_id__in=used).first().model_id  # type: ignore[union-attr]


def seconds(text: str) -> int:
    minutes, rest = text.split(":")
    return 60 * int(minutes) + int(rest)


def test_a_refusal_counts_down_within_two_seconds_and_the_other_lane_goes_on(two_lanes: Any, signed_in: Any) -> None:
    job, (strict, easy), (first, second) = two_lanes
    strict.latency = easy.latency = 0.05
    Account.objects.filter(pk=second.pk).update(rate=20, concurrency=1)
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    lane, free = page.locator(f"#lane-{first.pk}"), page.locator(f"#lane-{second.pk}")
    assert lane.locator("[data-countdown]").count() == 0
    strict.log.clear()
    strict.add_fault("throttle", times=200)
    with runner(first), runner(second):
        lane.locator("[data-countdown]").wait_for()
        refused = next(call for call in strict.log if call.fault == "throttle")
        assert time.monotonic() - refused.at < 2 + 2, "within two seconds, and what a busy machine takes"
        free.locator('[data-status="running"]').wait_for()
        strict.clear_faults()
        page.locator('#job-live .card-head [data-status="done"]').wait_for(timeout=60_000)
    job.refresh_from_db()
    assert job.n_applied == 80


def test_a_hold_counts_down_between_the_answers_of_the_server(two_lanes: Any, signed_in: Any) -> None:
    job, _simulators, (first, _second) = two_lanes
    Lane.objects.update_or_create(
        account=first, defaults={"blocked_until": timezone.now() + timezone.timedelta(seconds=90), "blocked_reason": "rate_limited"}
    )
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    place = page.locator(f"#lane-{first.pk} [data-countdown-text]")
    begun = seconds(place.inner_text())
    assert 80 <= begun <= 90
    page.route("**/*", lambda route: route.fulfill(status=204) if "hx-request" in route.request.headers else route.continue_())
    page.wait_for_function(
        "([selector, from]) => { const [m, s] = document.querySelector(selector).textContent.split(':'); return 60 * m + +s <= from - 2 }",
        arg=[f"[id='lane-{first.pk}'] [data-countdown-text]", begun],
    )


def test_pause_and_pace_on_the_board(two_lanes: Any, signed_in: Any) -> None:
    job, (_strict, easy), (_first, second) = two_lanes
    easy.latency = 0.2
    Account.objects.filter(pk=second.pk).update(concurrency=3, rate=500)
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    lane = page.locator(f"#lane-{second.pk}")
    with runner(second):
        lane.locator('[data-status="running"]').wait_for()
        page.locator(f"#pace-{second.pk}").click()
        field = page.locator("#dialog #id_concurrency")
        field.fill("1")
        page.locator("#lane-pace-save").click()
        page.locator("#dialog").wait_for(state="hidden")
        lane.locator(".lane-of", has_text="/1").wait_for()
        page.locator(f"#lane-pause-{second.pk}").click()
        lane.locator('[data-status="paused"]').wait_for()
        page.locator(f"#lane-resume-{second.pk}").wait_for()
        for _attempt in range(200):
            if not JobItem.objects.filter(account=second, status="running").exists():
                break
            page.wait_for_timeout(50)
        sent = len(easy.log)
        page.wait_for_timeout(700)
        assert len(easy.log) == sent, "nothing is sent to a paused account"
        easy.latency = 0
        page.locator(f"#lane-resume-{second.pk}").click()
        lane.locator('[data-status="done"]').wait_for(timeout=30_000)
    assert JobItem.objects.filter(account=second, status="applied").count() == 40


def test_everybody_can_use_the_board_and_it_fits_a_phone(two_lanes: Any, alice: User, signed_in: Any, aside: Any) -> None:
    job, _simulators, (first, second) = two_lanes
    now = timezone.now()
    for account in (first, second):
        RequestLog.objects.bulk_create(RequestLog(account=account, at=now, method="GET", path="/", ms=80 + 7 * n % 50) for n in range(60))
    breakers.report(breakers.host_of(first), "aurod", 0, 9, "unavailable\n503\nThe provider is out of order.\nupstream connect error")
    Account.objects.filter(pk=second.pk).update(health="needs_reauth")
    incident = Incident.objects.get()
    pages = (f"/jobs/{job.pk}/", "/jobs/lanes/", f"/jobs/incidents/{incident.pk}/", "/jobs/incidents/")
    wide = signed_in()
    for scheme in ("light", "dark"):
        wide.emulate_media(color_scheme=scheme)
        for path in pages:
            wide.goto(path)
            found = Axe().run(wide, options={"runOnly": WCAG if scheme == "light" else ["color-contrast"]})
            assert found.violations_count == 0, found.generate_report()
    for locale in ("en-US", "zh-CN"):
        phone = signed_in(viewport=NARROW, locale=locale)
        for path in pages:
            phone.goto(path)
            assert fits(phone), path


def test_what_happened_is_copied(two_lanes: Any, signed_in: Any) -> None:
    job, _simulators, (first, _second) = two_lanes
    breakers.report(breakers.host_of(first), "aurod", 0, 9, "unavailable\n503\nThe provider is out of order.\n")
    breakers.probe_result(breakers.host_of(first), True)
    incident = Incident.objects.get()
    page = signed_in(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/jobs/incidents/{incident.pk}/")
    page.locator("#copy-report").click()
    page.locator("[data-toast-text]").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert incident.host in copied and str(job) in copied and "40 held" in copied
    page.goto("/jobs/lanes/")
    page.evaluate("window.sameDocument = true")
    with page.expect_response(re.compile("/jobs/lanes/$")):
        pass
    assert page.evaluate("window.sameDocument") and page.locator(f"#lane-{first.pk}").is_visible()


def test_the_numbers_on_the_board_are_those_of_the_job(two_lanes: Any, alice: User, signed_in: Any) -> None:
    job, _simulators, accounts = two_lanes
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    with runner(accounts[1]):
        page.locator(f'#lane-{accounts[1].pk} [data-status="done"]').wait_for(timeout=60_000)
    done = page.locator(f"#lane-{accounts[1].pk} td").nth(4).inner_text()
    assert done.replace("\n", "") == "40/40" and page.locator("#tab-applied strong").inner_text() == "40"
