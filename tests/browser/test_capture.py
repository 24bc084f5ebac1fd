"""Pasting a capture in a real browser: connected in a minute, an expired one explained, and a job that waits goes on from its own page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from accounts import services, teams
from accounts.models import Account, Health, ShareLevel, User
from conversations import jobs, workers
from conversations.models import Job
from tests.accounts.devtools import FORMS, page_request
from tests.accounts.team_support import people
from tests.conversations.support import synced

from .test_jobs import NARROW, WCAG, fits, runner

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def signed_in(new_context: Any, sign_in: Any) -> Callable[..., Page]:
    """A function that opens a page as somebody; keyword arguments go to Playwright."""

    def open_page(user: User, **options: Any) -> Page:
        context = new_context(**options)
        sign_in(context, user)
        return context.new_page()

    return open_page


@pytest.mark.parametrize("options", [{}, {"viewport": NARROW, "color_scheme": "dark"}], ids=["desktop", "phone, dark"])
def test_a_cmd_capture_is_pasted_and_the_account_connected(signed_in: Any, serve: Any, alice: User, options: dict[str, Any]) -> None:
    simulator, url = serve("aurod", populate=40)
    credential = simulator.credential() | {"user_agent": "Mozilla 浏览器"}
    page = signed_in(alice, **options)
    page.goto("/accounts/new/")
    assert fits(page)
    page.fill("#paste-text", FORMS["cmd crlf"](page_request(url, credential)))
    page.locator("#paste-read").click()
    result = page.locator("#paste-result")
    expect(result).to_contain_text("The credential works.")
    expect(result).to_contain_text("测试用户")
    expect(result.locator(".paste-chips .chip").first).to_have_text(f"Token ••••{credential['token'][-4:]}")
    expect(page.locator("#paste-losses")).to_contain_text("User agent: this form writes blanks")
    expect(page.locator("#paste-ignored")).to_contain_text("cookie theme")
    assert fits(page)
    assert credential["token"] not in page.content() and "dark-marker" not in page.content(), "what was pasted is in the box alone"
    found = Axe().run(page, options={"runOnly": WCAG})
    assert found.violations_count == 0, found.generate_report()
    page.fill("#id_label", "Shop")
    page.locator("#paste-save").click()
    page.wait_for_url("**/accounts/")
    expect(page.locator("#toasts")).to_contain_text("Shop is connected")
    account = Account.objects.get()
    assert (account.label, account.base_url, account.health) == ("Shop", url, Health.OK)
    assert set(services.credentials_of(account)) == {"token", "app_version", "cookie"}


def test_an_expired_capture_is_explained_and_a_fresh_one_pasted_over_it(signed_in: Any, serve: Any, alice: User) -> None:
    simulator, url = serve("aurod", populate=3)
    expired = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 40 * 86400)}
    page = signed_in(alice)
    page.goto("/accounts/new/")
    page.fill("#paste-text", FORMS["cmd"](page_request(url, expired)))
    page.locator("#paste-read").click()
    expect(page.locator("#paste-result .alert-danger")).to_contain_text("This token has expired; sign in at the site again and copy a new request.")
    expect(page.locator("#paste-expiry time")).to_be_visible()
    assert page.locator("#paste-save").count() == 0 and simulator.log == []
    page.fill("#paste-text", FORMS["powershell"](page_request(url, simulator.credential())))
    page.locator("#paste-read").click()
    expect(page.locator("#paste-result")).to_contain_text("The credential works.")
    page.locator("#paste-save").click()
    page.wait_for_url("**/accounts/")
    assert Account.objects.get().health == Health.OK


def test_a_secret_that_was_typed_stays_in_the_page_while_the_rest_is_renewed(signed_in: Any, serve: Any, alice: User) -> None:
    simulator, url = serve("modelrouter", populate=3)
    credential = simulator.credential()
    page = signed_in(alice)
    page.goto("/accounts/new/")
    page.fill("#paste-text", credential["access_key_id"])
    page.locator("#paste-read").click()
    secret = page.locator("#id_credential_access_key_secret")
    secret.fill(credential["access_key_secret"])
    page.fill("#id_base_url", url)
    page.locator("#paste-read").click()
    expect(page.locator("#paste-result")).to_contain_text("The credential works.")
    expect(secret).to_have_value(credential["access_key_secret"])
    page.locator("#paste-save").click()
    page.wait_for_url("**/accounts/")
    assert Account.objects.get().health == Health.OK


@pytest.mark.parametrize(
    ("door", "options"),
    [("wait-paste", {}), ("paste", {}), ("wait-paste", {"viewport": NARROW, "color_scheme": "dark"})],
    ids=["notice", "lane", "notice on a phone, dark"],
)
def test_a_parked_job_goes_on_by_a_paste_on_its_own_page(
    signed_in: Any, connected: Any, aside: Any, alice: User, door: str, options: dict[str, Any]
) -> None:
    simulator, account = aside(connected, "aurod", populate=40)
    aside(synced, account)
    workers.beat()
    model = account.catalogue.exclude(model_id__in=account.conversations.values("model")).first().model_id
    job = jobs.plan(jobs.create(alice, "switch-model", account.conversations.all()), {"targets": {str(account.pk): model}})
    simulator.add_fault("expired", writes_only=True, times=9999, skip=12)
    jobs.start(alice, job)
    page = signed_in(alice, **options)
    page.goto(f"/jobs/{job.pk}/")
    with runner(account):
        page.locator('#job-live .card-head [data-status="waiting"]').wait_for()
        job.refresh_from_db()
        assert job.n_failed == 0 < job.n_waiting and fits(page)
        page.locator(f"#{door}-{account.pk}").click()
        dialog = page.locator("#dialog")
        expect(dialog.locator("#dialog-title")).to_contain_text("New credential for")
        simulator.clear_faults()
        fresh = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 60)}
        page.fill("#paste-text", FORMS["cmd crlf"](page_request(account.base_url, fresh)))
        page.locator("#paste-read").click()
        expect(dialog.locator("#paste-result")).to_contain_text("The credential works.")
        with page.expect_response(lambda answer: f"/jobs/{job.pk}/" in answer.url):
            pass  # the page below is read again meanwhile
        expect(page.locator("#paste-text")).not_to_have_value("")
        assert fits(page)
        page.locator("#paste-save").click()
        page.locator('#job-live .card-head [data-status="done"]').wait_for()
        assert page.url.endswith(f"/jobs/{job.pk}/")
    job.refresh_from_db()
    assert job.n_applied == 40 and Job.objects.count() == 1
    assert services.credentials_of(Account.objects.get(pk=account.pk))["token"].reveal() == fresh["token"]


def test_who_may_not_replace_it_sees_the_lock_and_no_box(signed_in: Any, connected: Any, aside: Any, alice: User) -> None:
    simulator, account = aside(connected, "aurod", populate=4)
    aside(synced, account)
    workers.beat()
    team = people(alice)
    teams.share(alice, account, team.team, ShareLevel.USE)
    model = account.catalogue.exclude(model_id__in=account.conversations.values("model")).first().model_id
    job = jobs.plan(jobs.create(alice, "switch-model", account.conversations.all()), {"targets": {str(account.pk): model}})
    simulator.add_fault("expired", writes_only=True, times=9999)
    jobs.start(alice, job)
    page = signed_in(team.viewer)
    with runner(account):
        page.goto(f"/jobs/{job.pk}/")
        for place in (f"#lane-{account.pk}", "#wait-1"):
            expect(page.locator(place)).to_contain_text("Its owner has to replace the credential.")
        assert page.locator(f"#paste-{account.pk}, #wait-paste-{account.pk}").count() == 0
