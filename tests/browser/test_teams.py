"""From an invitation's link to work with a teammate's account, in a real browser; and what a viewer does not find there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from accounts import teams
from accounts.models import Role, ShareLevel, Team, User
from tests.conversations import support

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db(transaction=True)


def no_sideways_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


def test_invited_joined_and_at_work_with_a_shared_account_whose_secret_stays_hidden(page, new_context, sign_in, alice, connected, aside) -> None:
    simulator, account = aside(connected, "modelrouter", populate=4, rate_limit=0, label="Shop")
    aside(support.synced, account)
    secrets = [value for value in simulator.credential().values() if isinstance(value, str) and len(value) > 8]
    sign_in(page.context, alice)

    page.goto("/teams/")
    expect(page.locator(".empty-title")).to_be_visible()
    page.fill("#id_name", "Support desk")
    page.click("#team-create")
    page.wait_for_url(re.compile(r"/teams/\d+/$"))
    expect(page.locator("#to-accounts")).to_be_visible()  # where sharing begins
    page.click("#invite")
    link = page.locator("#invitation-address").inner_text()
    page.goto(f"/accounts/{account.pk}/")
    page.select_option("#share_level", "use")
    page.click("#share-submit")
    expect(page.locator("#sharing")).to_contain_text("Support desk")

    phone = new_context(viewport={"width": 390, "height": 844}).new_page()
    phone.goto(link)
    expect(phone.locator("h1")).to_have_text("Join Support desk")
    no_sideways_scroll(phone)
    phone.click("#to-sign-up")
    phone.fill("#id_email", "bob@example.com")
    phone.fill("#id_password1", support.PASSWORD)
    phone.fill("#id_password2", support.PASSWORD)
    phone.click("button[type=submit].btn-primary")
    phone.wait_for_url("**/invitations/**")
    team = Team.objects.get(name="Support desk")
    bob = User.objects.get(email="bob@example.com")
    assert teams.role_of(bob, team) == ""
    phone.click("#join")
    phone.wait_for_url(re.compile(r"/teams/\d+/$"))
    assert teams.role_of(bob, team) == Role.OPERATOR
    no_sideways_scroll(phone)
    phone.click(f"#conversations-{account.pk}")
    expect(phone.locator("tbody tr")).to_have_count(4)
    phone.goto("/accounts/")
    expect(phone.locator(f"#account-{account.pk}")).to_be_visible()
    expect(phone.locator("#test-all, #export, [data-select-page]")).to_have_count(0)  # for accounts of one's own, of which there are none
    phone.goto(f"/teams/{team.pk}/")
    phone.get_by_role("link", name="Shop").first.click()
    phone.wait_for_url("**/accounts/**")
    expect(phone.locator("#sharing")).to_contain_text("It belongs to alice@example.com")
    no_sideways_scroll(phone)
    assert not [secret for secret in secrets if secret in phone.content()]

    row = account.conversations.order_by("pk").first()
    other = account.catalogue.exclude(model_id=row.model).filter(gone_at=None).first()
    phone.goto(f"/conversations/{row.pk}/")
    expect(phone.locator("#messages[data-loaded]")).to_be_visible()  # what they tell of the conversation has replaced its head
    phone.wait_for_load_state("networkidle")
    phone.click(f"#reader-chip-{row.pk}")
    expect(phone.locator(f"#models-{row.pk} [role=option]").first).to_be_visible()
    phone.locator(f"#models-{row.pk} [role=option]", has_text=other.name).first.click()
    expect(phone.locator(f"#reader-chip-{row.pk}")).to_contain_text(other.name)
    row.refresh_from_db()
    assert row.model == other.model_id and len(simulator.writes()) == 1
    assert not [secret for secret in secrets if secret in phone.content()]


def test_a_viewer_finds_no_control_that_changes_anything(page, sign_in, alice, connected, aside) -> None:
    _simulator, account = aside(connected, "modelrouter", populate=4, rate_limit=0, label="Shop")
    aside(support.synced, account)
    team, viewer = teams.create(alice, "Support desk"), support.make_user("viewer@example.com")
    teams.accept(viewer, teams.invite(alice, team, Role.VIEWER)[1])
    teams.share(alice, account, team, ShareLevel.USE)
    sign_in(page.context, viewer)
    row = account.conversations.order_by("pk").first()
    for address in ("/conversations/", f"/conversations/{row.pk}/", "/accounts/", f"/accounts/{account.pk}/", f"/teams/{team.pk}/", "/jobs/"):
        page.goto(address)
        expect(page.locator("main")).to_contain_text(re.compile("Shop|Support desk|No jobs"))
        posts = page.locator("main [hx-post], main form[method=post]")
        assert posts.count() == 0, (address, posts.first.evaluate("element => element.outerHTML"))
    page.goto(f"/conversations/{row.pk}/")
    page.click(f"#reader-chip-{row.pk}")
    expect(page.locator(".dropdown-reason:visible")).to_contain_text("not change it")
