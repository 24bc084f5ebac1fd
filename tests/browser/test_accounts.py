"""The pages of accounts in a real browser: connecting with a wrong credential first, testing all, replacing, deleting; two languages, a phone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.translation import gettext, override
from playwright.sync_api import expect

from accounts.models import Account, Health, User
from conversations import mirror
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


def row(page: Page, account: Account) -> Any:
    return page.locator(f'[id="account-{account.pk}"]')


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh-hans", 390)])
def test_connecting_an_account_with_a_wrong_credential_first(new_context, sign_in, alice, serve, aside, language: str, width: int) -> None:
    simulator, url = serve("aurod", populate=100)
    alice.language = language
    alice.save()
    page = new_context(viewport={"width": width, "height": 844}, locale="de-DE").new_page()
    with override(language):
        words = {text: gettext(text) for text in ("Connect your first account", "The credential works.", "Test", "Save", "Nothing was saved.")}
        refused = gettext("The provider does not accept this account's credential.")

    page.goto("/accounts/")
    page.fill("#id_login", alice.email)
    page.fill("#id_password", "wrong" + support.PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert], .alert-danger, .field-error").first).to_be_visible()
    page.fill("#id_password", support.PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/")
    expect(page.locator("html")).to_have_attribute("lang", re.compile(language, re.I))
    expect(page.locator(".empty-title")).to_have_text(words["Connect your first account"])
    expect(page.locator(".provider-card")).to_have_count(5)
    no_sideways_scroll(page)
    page.locator(".provider-card-name", has_text="aurod").click()
    page.wait_for_url("**/accounts/new/aurod/")
    no_sideways_scroll(page)

    test, save, result = page.locator("#test-button"), page.locator("#save-button"), page.locator("#account-result")
    token = page.locator("#id_credential_token")
    page.fill("#id_label", "Work")
    page.fill("#id_base_url", url)
    token.fill("not.the.token")
    expect(test).to_have_class(re.compile("btn-primary"))
    test.click()
    expect(result).to_contain_text(refused)
    expect(result).to_contain_text("HTTP")
    assert not Account.objects.exists()
    expect(token).to_have_value("not.the.token")  # what was typed stays, and only in the browser
    assert "not.the.token" not in page.content()
    save.click()
    expect(result).to_contain_text(words["Nothing was saved."])
    assert not Account.objects.exists()
    no_sideways_scroll(page)

    token.fill(simulator.credential()["token"])
    test.click()
    expect(result).to_contain_text(words["The credential works."])
    expect(result.locator("dd").nth(0)).to_have_text("测试用户")
    expect(result.locator("dd").nth(1)).to_have_text("100")
    expect(save).to_have_class(re.compile("btn-primary"))
    expect(test).not_to_have_class(re.compile("btn-primary"))
    assert page.evaluate("document.activeElement.id") == "test-button"
    assert not Account.objects.exists()
    save.click()
    page.wait_for_url("**/accounts/")

    account = Account.objects.get()
    expect(row(page, account).locator(".account-cell a")).to_have_text("Work")
    expect(page.locator("#toasts")).to_contain_text("Work")
    expect(row(page, account)).to_have_attribute("hx-trigger", "every 1s")
    aside(mirror.sync, account)
    expect(row(page, account).locator(".count a")).to_have_text("100")
    expect(row(page, account)).not_to_have_attribute("hx-trigger", re.compile(".*"))
    expect(page.locator(".sidebar-account-count").first).to_have_text("100")
    page.locator(f'[id="menu-{account.pk}"]').click()
    expect(row(page, account).locator(".dropdown-menu")).to_be_visible()  # the row was renewed around its button
    no_sideways_scroll(page)


def test_mistakes_are_noted_under_their_fields_and_nothing_typed_is_lost(signed_in: Page, serve) -> None:
    _simulator, url = serve("chongzhiling", populate=3)
    page = signed_in
    page.goto("/accounts/new/chongzhiling/")
    page.fill("#id_base_url", "http://10.0.0.1:99")
    page.fill("#id_credential_user_id", "clinic-user-01")
    page.fill("#id_credential_api_key", "some key")
    page.fill("#id_credential_access_token", "some token")
    page.select_option("#id_credential_token_in", "query")
    page.locator("#save-button").click()
    expect(page.locator("#id_base_url_notes .field-error")).to_contain_text("This address cannot be used")
    expect(page.locator("#id_credential_access_token_notes .field-error")).to_contain_text("not both")
    values = {"base_url": "http://10.0.0.1:99", "credential_user_id": "clinic-user-01"}
    values |= {"credential_api_key": "some key", "credential_token_in": "query"}
    for name, value in values.items():
        expect(page.locator(f"#id_{name}")).to_have_value(value)
    described = page.locator("#id_base_url").get_attribute("aria-describedby")
    assert described and "This address cannot be used" in page.locator(f"#{described}").inner_text()
    page.fill("#id_base_url", url)
    page.fill("#id_credential_access_token", "")
    page.locator("#test-button").click()
    expect(page.locator("#account-result")).to_contain_text("credential")
    expect(page.locator("#id_base_url_notes .field-error")).to_have_count(0)
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.locator(".sidebar-nav a").first.click(no_wait_after=True)
    expect(page.locator("#id_credential_api_key")).to_have_value("some key")
    assert asked == ["beforeunload"], "leaving with typed values asks first"


def test_all_accounts_are_tested_at_once_and_a_slow_one_delays_nobody(signed_in: Page, connected, aside) -> None:
    slow_simulator, slow = aside(connected, "aurod", populate=3, label="slow")
    dead_simulator, dead = aside(connected, "modelrouter", populate=3, label="dead")
    quick_simulator, quick = aside(connected, "nuwax", populate=3, label="quick")
    quick_simulator.log.clear()
    slow_simulator.add_fault("slow", seconds=3.0)
    dead_simulator.add_fault("expired", times=99)
    page = signed_in
    page.goto("/accounts/")
    page.locator("#test-all").click()
    expect(row(page, quick)).to_contain_text("3 conversations")
    expect(row(page, dead)).to_contain_text("Needs re-authentication")
    expect(row(page, slow).locator(".health-testing")).to_be_visible()
    expect(row(page, slow)).to_contain_text("3 conversations")
    asked = len(quick_simulator.log)
    with page.expect_response(lambda answer: f"{quick.pk}/test/" in answer.url):
        page.locator("#test-all").click()
    assert len(quick_simulator.log) == 2 * asked, "the button tells a row once, however often the row was replaced"
    expect(page.locator("#chip-attention")).to_contain_text("1")
    expect(page.locator("#banners")).to_contain_text("dead")
    expect(page.locator("#sidebar-accounts")).to_contain_text("Needs re-authentication")
    page.locator("#chip-attention").click()
    expect(page.locator("tr[data-row]")).to_have_count(1)

    dead_simulator.clear_faults()
    page.locator(f'[id="replace-{dead.pk}"]').click()
    secret = dead_simulator.credential()["access_key_secret"]
    expect(page.locator("#id_credential_access_key_secret_notes")).to_contain_text(f"••••{secret[-4:]}")
    expect(page.locator("#id_credential_access_key_secret")).to_have_value("")
    page.fill("#id_credential_access_key_secret", secret)
    page.locator("#save-button").click()
    page.wait_for_url(f"**/accounts/{dead.pk}/")
    expect(page.locator("#account-overview")).to_contain_text("OK")
    expect(page.locator("#banners .alert-warning")).to_have_count(0)
    assert Account.objects.get(pk=dead.pk).health == Health.OK


def test_an_account_is_paused_resumed_and_deleted_from_its_row_on_a_phone(new_context, sign_in, alice, connected, aside) -> None:
    _simulator, account = aside(connected, "nuwax", populate=7, label="Helpdesk 客服")
    aside(support.synced, account)
    context = new_context(viewport={"width": 390, "height": 844})
    sign_in(context, alice)
    page = context.new_page()
    page.goto("/accounts/")
    no_sideways_scroll(page)
    menu, entry = page.locator(f'[id="menu-{account.pk}"]'), row(page, account).locator(".dropdown-item")
    menu.click()
    no_sideways_scroll(page)
    entry.filter(has_text="Pause").click()
    expect(row(page, account)).to_contain_text("Paused")
    menu.click()
    entry.filter(has_text="Resume").click()
    expect(row(page, account)).not_to_contain_text("Paused")
    page.goto(f"/accounts/{account.pk}/")
    no_sideways_scroll(page)
    page.goto("/accounts/")
    menu.click()
    entry.filter(has_text="Delete").click()
    expect(page.locator("#confirm-text")).to_contain_text("our copy of 7 conversations")
    page.locator("#confirm .btn").first.click()
    assert Account.objects.exists()
    menu.click()
    entry.filter(has_text="Delete").click()
    page.locator("#confirm-ok").click()
    expect(page.locator(".empty-title")).to_be_visible()
    assert not Account.objects.exists()


def test_the_page_of_an_account_follows_a_test_a_reading_and_a_new_pace(signed_in: Page, connected, aside) -> None:
    _simulator, account = aside(connected, "aurod", populate=60, label="Work")
    page = signed_in
    page.goto(f"/accounts/{account.pk}/")
    page.locator("#test").click()
    expect(page.locator("#account-overview")).to_contain_text("60 conversations")
    page.locator("#sync-now").click()
    expect(page.locator("#account-overview")).to_contain_text("Waiting for a worker")
    aside(mirror.sync, Account.objects.get(pk=account.pk))
    expect(page.locator("#account-overview .count a")).to_have_text("60")
    expect(page.locator("#account-overview")).to_contain_text("Synced")
    page.fill("#id_concurrency", "99")
    page.locator("#pace-save").click()
    expect(page.locator("#id_concurrency_error")).to_be_visible()
    page.fill("#id_concurrency", "2")
    page.fill("#id_rate", "2.5")
    page.locator("#pace-save").click()
    expect(page.locator("#toasts")).to_contain_text("Saved.")
    assert Account.objects.get(pk=account.pk).concurrency == 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_have_no_accessibility_faults(signed_in: Page, alice, connected, aside, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    simulator, account = aside(connected, "chatnio", populate=5, label="Site")
    aside(support.synced, account)
    Account.objects.filter(pk=account.pk).update(health=Health.NEEDS_REAUTH, cause_detail="credentials_rejected\n401\nNo.\nno such key")
    alice.theme = theme
    alice.save()
    page = signed_in
    axe = Axe()
    for path in ("/accounts/", f"/accounts/{account.pk}/", f"/accounts/{account.pk}/edit/", "/accounts/new/", "/accounts/new/chatnio/"):
        page.goto(path)
        if path.endswith("/chatnio/"):
            page.locator("#save-button").click()
            page.wait_for_selector(".field-error")
        found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
    assert simulator.writes() == []
