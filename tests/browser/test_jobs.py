"""Bulk jobs as a person does them: select, compose, preview, run, watch, download; in both languages and at both widths."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db import connection

from accounts.models import Account, User
from conversations import checks, jobs, lanes, workers
from conversations.models import Conversation, Job
from tests.conversations.support import synced

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.conftest import WorkerProcess

pytestmark = pytest.mark.django_db(transaction=True)
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def at_aurod(connected: Any, aside: Any, request: pytest.FixtureRequest) -> tuple[Any, Account]:
    """A served aurod with 30 conversations (or as many as the test is parametrized with), and an account that has read them."""
    simulator, account = aside(connected, "aurod", populate=getattr(request, "param", 30))
    return simulator, aside(synced, account)


@pytest.fixture
def signed_in(new_context: Any, sign_in: Any, alice: User) -> Callable[..., Page]:
    """A function that opens a page as Alice; keyword arguments go to Playwright."""

    def open_page(**options: Any) -> Page:
        context: BrowserContext = new_context(**options)
        sign_in(context, alice)
        return context.new_page()

    return open_page


def other_model(account: Account) -> Any:
    used = set(account.conversations.values_list("model", flat=True))
    return account.catalogue.exclude(model_id__in=used).first()


def switch_job(user: User, account: Account) -> Job:
    job = jobs.create(user, "switch-model", account.conversations.all())
    return jobs.plan(job, {"targets": {str(account.pk): other_model(account).model_id}})


@contextmanager
def runner(account: Account) -> Iterator[None]:
    """Works on an account's items beside the page, as a worker would, until the block ends."""
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                lanes.run_lane(account.pk, stopping=stop.is_set)
                stop.wait(0.05)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def fits(page: Page) -> bool:
    """True when nothing sticks out to the right."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def polls(page: Page, milliseconds: int) -> list[str]:
    """The requests that a page makes by itself in this time."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.wait_for_timeout(milliseconds)
    return seen


@pytest.mark.parametrize("at_aurod", [60], indirect=True, ids=["more than a page"])
@pytest.mark.parametrize(("locale", "language", "viewport"), [("en-US", "en", WIDE), ("zh-CN", "zh-hans", NARROW)], ids=["en", "zh"])
def test_from_the_list_to_the_downloaded_results(
    at_aurod: Any, signed_in: Any, celery_worker_process: WorkerProcess, locale: str, language: str, viewport: dict[str, int], tmp_path: Path
) -> None:
    simulator, account = at_aurod
    simulator.latency = 0.02
    model = other_model(account)
    page = signed_in(locale=locale, viewport=viewport)
    page.goto("/conversations/?sort=title")
    assert page.locator("html").get_attribute("lang") in (language, language.replace("hans", "Hans"))
    # The header of the table, and with it the box for the page, gives way to cards where there is no room: one tick is enough to be offered all.
    page.locator("tbody input[name=ids]" if viewport == NARROW else "[data-select-page]").first.click()
    page.locator("[data-select-all]").click()
    assert page.locator("[data-select-all]").is_hidden(), "nothing more can be selected"
    page.locator('[data-select-actions] button[value="switch-model"]').click()

    page.wait_for_url(re.compile(r"/jobs/\d+/compose/"))
    assert "60" in page.locator("#page-title").inner_text()
    page.locator("#to-preview").click()
    page.locator(".choice.has-error .field-error").wait_for()
    page.locator("#picker-1").click()
    page.keyboard.type(model.name[:6].lower())
    page.keyboard.press("Enter")
    assert page.locator("[data-picker-label]").inner_text() == model.name
    assert page.locator(".has-error, .field-error").count() == 0, "what was missing is there"
    assert page.locator('input[name="provider-aurod"]').input_value() == model.model_id
    assert fits(page)
    page.locator("#to-preview").click()

    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    page.locator("#check-text[data-announce-now]").wait_for()
    assert "60" in page.locator("#check-text").inner_text() and "60" in page.locator("#run-button").inner_text()
    assert page.locator("#tab-change strong").inner_text() == "60"
    assert simulator.writes() == []
    assert fits(page)
    page.locator("#id_note").fill("改成便宜的 – ticket 7")
    page.locator("#run-button").dblclick()

    page.locator("#job-live").wait_for()
    page.evaluate("window.sameDocument = true")
    page.locator('#job-live [data-status="done"]').wait_for(timeout=30_000)
    assert page.evaluate("window.sameDocument"), "the job ended before our eyes, without a reload"
    assert page.locator("#tab-applied strong").inner_text() == "60"
    assert page.locator("#job-live").get_attribute("hx-trigger") is None
    assert [url for url in polls(page, 1300) if "/jobs/" in url] == []
    assert "改成便宜的" in page.locator("#page-subtitle").inner_text()
    assert page.locator("#jobs-badge").inner_text().strip() == ""
    assert fits(page)
    with page.expect_download() as download:
        page.locator("#report-csv").click()
    download.value.save_as(tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 60 and {row["status"] for row in rows} == {"applied"} and {row["after"] for row in rows} == {model.model_id}
    assert {values["model"] for values in simulator.truth().values()} == {model.model_id}
    job = Job.objects.get()
    assert job.n_applied == 60 and job.note.startswith("改成便宜的")
    page.goto("/conversations/")
    assert page.locator("[data-select-bar]").is_hidden(), "the selection is used up"


def test_what_one_types_survives_the_polls_and_the_number_follows(at_aurod: Any, alice: User, signed_in: Any, aside: Any) -> None:
    simulator, account = at_aurod
    workers.beat()
    gone = sorted(simulator.truth())[:2]
    for remote_id in gone:
        simulator.remove_by_somebody(remote_id)
    job = switch_job(alice, account)
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    assert "30" in page.locator("#run-button").inner_text()
    page.locator("#id_note").click()
    page.keyboard.type("half a sen")
    aside(checks.check_preview, job.pk, account.pk)
    page.locator("#run-button", has_text="28").wait_for()
    page.keyboard.type("tence")
    assert page.locator("#id_note").input_value() == "half a sentence"
    assert page.locator("#tab-gone strong").inner_text() == "2"
    page.locator("#tab-gone").click()
    page.wait_for_url(re.compile(r"group=gone"))
    assert page.locator("tr[data-row]").count() == 2
    page.go_back()
    page.locator("tr[data-row]").nth(29).wait_for()
    assert page.locator("#main").is_visible(), "Back shows the whole page"


@pytest.mark.parametrize("at_aurod", [150], indirect=True, ids=["many"])
def test_pause_resume_cancel_and_a_truthful_end(at_aurod: Any, alice: User, signed_in: Any) -> None:
    simulator, account = at_aurod
    workers.beat()
    simulator.latency = 0.15
    job = switch_job(alice, account)
    jobs.start(alice, job)
    page = signed_in(viewport=NARROW)
    page.goto(f"/jobs/{job.pk}/")
    assert page.locator("#page-subtitle").bounding_box()["width"] > 340, "the line about the job is not squeezed beside a button"
    page.evaluate("document.dispatchEvent(new CustomEvent('toast', {detail: {message: 'Joined.'}}))")
    tools, toast = page.locator(".page-head-row").bounding_box(), page.locator("#toasts .app-toast").bounding_box()
    assert toast["y"] >= tools["y"] + tools["height"], "a notice leaves the menu and the tools in reach"
    with runner(account):
        page.locator("#tab-applied strong", has_text=re.compile("[1-9]")).wait_for()
        page.locator("#job-pause").click()
        page.locator('#job-live .card-head [data-status="paused"]').wait_for()
        simulator.latency = 0.6  # slow enough that a person can say no first
        page.locator("#job-resume").click()
        page.locator('#job-live .card-head [data-status="running"]').wait_for()
        page.locator("#job-cancel").click()
        page.locator("#confirm").get_by_role("button").first.click()
        assert Job.objects.get(pk=job.pk).order == "run", "a question that is answered with no changes nothing"
        page.locator("#job-cancel").click()
        page.locator("#confirm-ok").click()
        page.locator('#job-live .card-head [data-status="cancelled"]').wait_for()
    job.refresh_from_db()
    assert job.n_applied > 0 and job.n_cancelled > 0 and job.n_applied + job.n_cancelled == 150
    assert page.locator("#job-sentence").inner_text() == f"Cancelled: {job.n_applied} applied, {job.n_cancelled} not started."
    assert page.locator("#job-pause, #job-resume, #job-cancel").count() == 0
    assert len([call for call in simulator.writes() if call.changed]) == job.n_applied


def test_a_conflict_is_decided_on_the_page(at_aurod: Any, alice: User, signed_in: Any) -> None:
    simulator, account = at_aurod
    workers.beat()
    job = switch_job(alice, account)
    item = job.items.get(ordinal=5)
    simulator.change_by_somebody(item.remote_id, model="claude-sonnet-4-5")
    jobs.start(alice, job)
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    with runner(account):
        page.locator('#job-live .card-head [data-status="done with failures"]').wait_for()
        page.locator("#tab-conflict").click()
        page.locator(f"#overwrite-{item.pk}").click()
        page.locator('#job-live .card-head [data-status="done"]').wait_for()
    assert simulator.truth()[item.remote_id]["model"] == item.target["model"]


def test_titles_with_a_live_example(at_aurod: Any, alice: User, signed_in: Any) -> None:
    _simulator, account = at_aurod
    account.conversations.update(first_message="把这段话改得正式一些 👨‍👩‍👧‍👦 please")
    job = jobs.create(alice, "set-title", account.conversations.all())
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/compose/")
    template = page.locator("#id_template")
    page.locator("#id_include_hand_made").check()
    template.fill("#")
    page.locator('[data-insert="{n}"]').click()
    assert template.input_value() == "#{n}"
    page.locator("#title-example ins", has_text="#1").wait_for()
    page.locator('[data-insert="{first_message:30}"]').click()
    page.locator("#title-example ins", has_text="#1把这段话").wait_for()
    template.fill("{titel}")
    page.locator("#title-example", has_text="{titel}").wait_for()
    page.locator("#to-preview").click()
    page.locator(".has-error .field-error", has_text="{titel}").wait_for()
    assert template.input_value() == "{titel}"
    page.locator("#mode-replace").check()
    assert template.is_hidden() and page.locator("#id_include_hand_made").is_hidden()
    page.locator("#id_find").fill(account.conversations.exclude(title="").first().title)
    page.locator("#id_replace").fill("new words")
    page.locator("#title-example ins", has_text="new words").first.wait_for()
    page.locator("#to-preview").click()
    page.locator("#tab-unchanged, #tab-change").first.wait_for()
    assert Job.objects.get(pk=job.pk).params["replace"] == "new words"


def test_a_list_of_titles_with_lines_that_are_wrong(at_aurod: Any, alice: User, signed_in: Any) -> None:
    _simulator, account = at_aurod
    ids = list(account.conversations.order_by("pk").values_list("pk", flat=True)[:5])
    lines = "".join(f"{pk},列表 {number}\r\n" for number, pk in enumerate(ids))
    page = signed_in()
    page.goto("/jobs/")
    page.locator("#new-from-list").click()
    page.locator("#to-preview").click()
    page.locator("#id_file_error").wait_for()
    file = {"name": "titles.csv", "mimeType": "text/csv", "buffer": f"id,title\r\n{lines}99999999,x\r\n{ids[0]},y\r\n".encode("gb18030")}
    page.locator("#id_file").set_input_files(file)
    page.locator("#to-preview").click()
    page.locator("#rejected-lines li", has_text="Line 7:").wait_for()
    page.locator("#rejected-lines li", has_text="Line 8:").wait_for()
    page.locator("ins", has_text="列表 4").wait_for()
    assert Job.objects.get().total == 5


@pytest.mark.parametrize("at_aurod", [10], indirect=True, ids=["few"])  # a check takes longer with every row
def test_everybody_can_use_these_pages(at_aurod: Any, alice: User, signed_in: Any, aside: Any) -> None:
    simulator, account = at_aurod
    workers.beat()
    preview, run, fresh = switch_job(alice, account), switch_job(alice, account), jobs.create(alice, "switch-model", Conversation.objects.all())
    simulator.change_by_somebody(run.items.get(ordinal=2).remote_id, model="claude-sonnet-4-5")
    simulator.add_fault("ignore", writes_only=True, times=2, skip=3)
    jobs.start(alice, run)
    aside(lanes.run_lane, account.pk)
    page = signed_in()
    compose = f"/jobs/{fresh.pk}/compose/"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for path in (f"{compose}?action=set-title", f"/jobs/{preview.pk}/", f"/jobs/{run.pk}/", "/jobs/?tab=finished", "/jobs/from-list/", compose):
            page.goto(path)
            check(page, scheme)
        page.locator("#picker-1").click()
        page.keyboard.type("claude")
        check(page, scheme, ".picker .dropdown-menu")


def check(page: Page, scheme: str, within: str | None = None) -> None:
    """Fails with what axe finds; in the dark only colours can differ from the light."""
    found = Axe().run(page, context=within, options={"runOnly": WCAG if scheme == "light" else ["color-contrast"]})
    assert found.violations_count == 0, found.generate_report()


def test_a_double_click_in_the_list_makes_one_job_and_another_selection_another(at_aurod: Any, signed_in: Any) -> None:
    page = signed_in(viewport=WIDE)
    page.goto("/conversations/")
    boxes = page.locator('input[name="ids"]')
    boxes.nth(0).check()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if request.method == "POST" else None)
    page.locator('[data-select-actions] button[value="set-title"]').dblclick()
    page.wait_for_url(re.compile(r"/jobs/\d+/compose/"))
    assert Job.objects.count() == 1 and len({re.search(r"key=(set-title-[0-9a-f]{32})", body)[1] for body in sent}) == 1  # type: ignore[index]
    page.goto("/conversations/")
    boxes.nth(1).check()
    page.locator('[data-select-actions] button[value="set-title"]').click()
    page.wait_for_url(re.compile(r"/jobs/\d+/compose/"))
    assert Job.objects.count() == 2 and len({re.search(r"key=([\w-]+)", body)[1] for body in sent}) == 2  # type: ignore[index]


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_rows_are_ticked_and_a_few_are_tried_first(at_aurod: Any, signed_in: Any, alice: User, aside: Any, viewport: dict[str, int]) -> None:
    simulator, account = at_aurod
    job = aside(switch_job, alice, account)
    aside(check_all, job, account)
    aside(workers.beat)
    page = signed_in(viewport=viewport)
    page.goto(f"/jobs/{job.pk}/")
    first = page.locator('tbody input[id^="tick-"]').first
    first.uncheck()
    page.locator("#run-button", has_text="29").wait_for()
    assert not first.is_checked() and page.locator("#tab-other strong").inner_text() == "1"
    first.check()
    page.locator("#run-button", has_text="30").wait_for()
    if viewport == WIDE:  # the header gives way to cards where there is no room
        page.locator("#tick-all").click()
        page.locator("#nothing-to-do").wait_for()
        assert page.locator("#run-button").count() == 0
        page.locator("#tick-all").click()
        page.locator("#run-button", has_text="30").wait_for()
    page.locator("#run-canary summary").click()
    page.locator("#id_canary").fill("3")
    assert fits(page)
    assert Axe().run(page, options={"runOnly": WCAG}).response["violations"] == []
    simulator.add_fault("ignore", writes_only=True, times=3)
    page.locator("#run-button").click()
    with runner(account):
        page.locator(f"#go-on-{account.pk}").wait_for()
        page.locator('[data-status="waiting"]').first.wait_for()
        trial = page.locator(f"#trial-{account.pk}")
        trial.get_by_text("3 of 3 accepted but not applied").wait_for()
        assert len(simulator.writes()) == 3 and fits(page)
        assert Axe().run(page, options={"runOnly": WCAG}).response["violations"] == []
        page.locator("#job-first").click()
        page.locator("#job-normal").wait_for()
        page.get_by_role("button", name="Go on here").click()
        page.locator("#job-again").wait_for()
    assert "27 applied" in page.locator("#job-sentence").inner_text()
    page.locator("#job-again").click()
    page.wait_for_url(re.compile(r"/jobs/\d+/compose/"))
    assert page.locator('input[name="provider-aurod"]').input_value() == other_model_of(job, account)


def check_all(job: Job, account: Account) -> None:
    while checks.check_preview(job.pk, account.pk):
        pass


def other_model_of(job: Job, account: Account) -> str:
    return str(job.params["targets"][str(account.pk)])
