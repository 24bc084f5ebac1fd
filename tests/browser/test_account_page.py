"""The page of one account, and acting on many accounts at once, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from accounts.models import Account, Health, User
from tests.conversations import support

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def signed_in(page: Page, sign_in, alice: User) -> Page:
    sign_in(page.context, alice)
    return page


def no_sideways_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


def test_six_accounts_are_tested_labelled_and_paused_together(signed_in: Page, connected, aside) -> None:
    page = signed_in
    simulator, first = aside(connected, "aurod", label="number 0")
    others = [aside(support.make_account, first.owner, simulator, first.base_url, label=f"number {n}") for n in range(1, 6)]
    Account.objects.update(health=Health.UNKNOWN)
    page.goto("/accounts/")
    bar = page.locator("[data-select-bar]")
    expect(bar).to_be_hidden()
    page.locator("[data-select-page]").check()
    expect(bar).to_contain_text("6 selected")
    page.locator("tbody input[name=ids]").last.uncheck()

    bar.locator("[data-many=test]").click()
    expect(page.locator("tbody .health-state", has_text="OK")).to_have_count(5)
    expect(page.locator("tbody .health-state", has_text="Not checked yet")).to_have_count(1)
    page.fill("[data-many-label]", "client-a")
    page.keyboard.press("Enter")
    expect(page.locator(".account-row-labels", has_text="client-a")).to_have_count(5)
    expect(page.locator("#account-chips")).to_contain_text("client-a")
    bar.locator("[data-many=pause]").click()
    expect(page.locator("tbody .health-state", has_text="Paused")).to_have_count(5)
    expect(page.locator("tbody input[name=ids]:checked")).to_have_count(5)
    bar.locator("[data-many=resume]").click()
    expect(page.locator("tbody .health-state", has_text="Paused")).to_have_count(0)
    assert sum(account.labels.count() for account in (first, *others)) == 5


@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_of_an_account_shows_health_requests_history_and_labels(new_context, sign_in, alice: User, connected, aside, width: int) -> None:
    _simulator, account = aside(connected, "modelrouter", populate=8)
    aside(support.synced, account)
    context = new_context(viewport={"width": width, "height": 900})
    sign_in(context, alice)
    page = context.new_page()
    page.goto(f"/accounts/{account.pk}/")
    expect(page.locator(".health-strip > li")).to_have_count(14)
    expect(page.locator(".health-strip > li").last).to_contain_text("✓")
    expect(page.locator(".health-strip > li").last).to_contain_text("worked")
    expect(page.locator("#account-requests .account-request").first).to_be_visible()
    expect(page.locator("#account-history")).to_contain_text("Nothing was changed")
    page.fill("#label-add", "client-a")
    page.keyboard.press("Enter")
    expect(page.locator("#account-labels li")).to_contain_text(["client-a"])
    page.get_by_label("Remove the label client-a").click()
    expect(page.locator("#account-labels li")).to_contain_text(["No labels"])
    page.select_option("#account-about select", "blue")
    page.locator("#about-save").click()
    expect(page.locator("[data-toast-text]", has_text="Saved.").first).to_be_visible()
    no_sideways_scroll(page)
    page.goto("/accounts/")
    no_sideways_scroll(page)
