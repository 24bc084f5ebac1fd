"""The panel of one item over a job that is being worked on: it opens, stays, closes, and has an address of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from accounts.models import Account, User
from conversations import jobs, lanes
from conversations.models import Job
from tests.browser.test_jobs import NARROW, WCAG, WIDE, at_aurod, fits, signed_in, switch_job

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["at_aurod", "signed_in"]
pytestmark = pytest.mark.django_db(transaction=True)


def to_end(account: Account) -> None:
    while lanes.run_lane(account.pk):
        pass


def path(page: Page) -> str:
    return page.evaluate("location.pathname")


@pytest.mark.parametrize(("locale", "viewport"), [("en-US", WIDE), ("zh-CN", NARROW)], ids=["en", "zh"])
def test_the_panel_stays_while_the_job_is_polled_and_closes_when_told(
    at_aurod: Any, alice: User, signed_in: Any, aside: Any, locale: str, viewport: dict[str, int]
) -> None:
    simulator, account = at_aurod
    job = switch_job(alice, account)
    jobs.start(alice, job)
    simulator.add_fault("ignore", writes_only=True)
    page = signed_in(locale=locale, viewport=viewport)
    page.goto(f"/jobs/{job.pk}/")
    page.evaluate("window.sameDocument = true")
    item = job.items.order_by("ordinal").first()
    link = page.locator(f"#item-link-{item.pk}")
    link.click()
    page.locator("#dialog[open] #item").wait_for()
    assert path(page) == f"/jobs/{job.pk}/items/{item.pk}/"
    assert page.locator("#item-untried").is_visible()
    with page.expect_response(lambda answer: answer.url.endswith(f"/jobs/{job.pk}/")):
        pass  # the table below is polled
    page.evaluate("document.querySelector('#dialog .btn-close').focus()")
    aside(to_end, account)
    page.locator("#item .request").first.wait_for()
    page.locator("#job-live:not([hx-trigger])").wait_for(state="attached")
    assert page.locator("#dialog[open]").is_visible() and path(page).endswith(f"/items/{item.pk}/")
    assert page.evaluate("document.activeElement.matches('#dialog .btn-close')"), "the focus stays where it was"
    assert fits(page) and page.evaluate("document.querySelector('#dialog').getBoundingClientRect().right === window.innerWidth")
    if viewport == NARROW:
        assert page.evaluate("document.querySelector('#dialog').getBoundingClientRect().width") == NARROW["width"]

    page.locator("#item details summary").first.click()
    assert page.locator("#item details[open] pre").first.is_visible()
    found = Axe().run(page, context="#dialog", options={"runOnly": WCAG})
    assert found.response["violations"] == [], found.generate_report()
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(rf"/jobs/{job.pk}/$"))
    assert page.locator("#dialog").is_hidden() and page.evaluate("document.activeElement.id") == f"item-link-{item.pk}"
    assert page.evaluate("window.sameDocument")


def test_back_closes_it_and_the_address_alone_is_a_page(at_aurod: Any, alice: User, signed_in: Any, aside: Any) -> None:
    _simulator, account = at_aurod
    job = switch_job(alice, account)
    jobs.start(alice, job)
    aside(to_end, account)
    page = signed_in()
    page.goto("/jobs/")
    page.goto(f"/jobs/{job.pk}/")
    item = job.items.order_by("ordinal").first()
    page.locator(f"#item-{item.pk} .col-state").click()  # anywhere in the row
    page.locator("#dialog[open] #item").wait_for()
    page.go_back()
    page.wait_for_url(re.compile(rf"/jobs/{job.pk}/$"))
    assert page.locator("#dialog").is_hidden()
    page.locator(f"#item-link-{item.pk}").press("Enter")
    page.locator("#dialog[open] #item").wait_for()
    page.reload()
    assert page.locator("#main #item").is_visible() and page.locator("#dialog").is_hidden()
    page.go_back()
    page.locator("#job-live").wait_for()
    assert path(page) == f"/jobs/{job.pk}/"
    page.locator("#tab-applied").click()
    page.wait_for_url(re.compile(r"status=applied"))
    page.evaluate("window.sameDocument = true")
    page.locator(f"#item-link-{item.pk}").click()
    page.locator("#dialog[open] [data-dialog-close]").click()
    page.wait_for_url(re.compile(r"status=applied"))
    assert page.evaluate("window.sameDocument"), "closing it loads nothing"


def test_a_retry_in_the_panel_sets_the_table_going_again(at_aurod: Any, alice: User, signed_in: Any, aside: Any) -> None:
    simulator, account = at_aurod
    job = switch_job(alice, account)
    jobs.start(alice, job)
    simulator.add_fault("ignore", writes_only=True)
    aside(to_end, account)
    item = job.items.get(status="not_applied")
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/?status=not_applied")
    page.locator(f"#item-link-{item.pk}").click()
    page.locator("#item-retry").click()
    page.locator('#job-live[hx-trigger="every 1s"]').wait_for(state="attached")
    assert page.locator("#dialog[open] #item").is_visible() and page.locator("#item-retry").count() == 0
    aside(to_end, account)
    page.locator('#item .item-head [data-status="applied"]').wait_for()
    page.locator("#job-live:not([hx-trigger])").wait_for(state="attached")
    assert Job.objects.get(pk=job.pk).n_applied == 30
    assert page.locator("#item .item-runs li").count() == 2
