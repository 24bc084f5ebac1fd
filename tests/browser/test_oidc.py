"""Signing in with an OpenID Connect provider, as a person does it in a browser: on a laptop in English, on a phone in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.conf import settings as django_settings
from django.test import Client
from django.utils.translation import gettext, override
from playwright.sync_api import expect

from accounts.models import User
from tests.accounts.signing import make_old
from tests.simulators import kit
from tests.simulators.oidc import Issuer
from tests.test_translations import english_in

from .test_signin import arrive, choose, fill_in, is_sound, sign_out

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db(transaction=True)

BUTTON = "form[action='/auth/oidc/'] button"


@pytest.fixture
def provider(settings: Any, live_server: Any, watch: Any) -> Iterator[Issuer]:
    """A provider that this installation is configured for, and that people are led to."""
    made = Issuer(f"{live_server.url}/auth/oidc/callback/")
    with kit.serve(made) as url:  # type: ignore[arg-type]
        settings.OIDC_ISSUER, settings.OIDC_NAME = url, "ExampleID"
        settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = made.client_id, made.client_secret
        watch.expect(re.escape(url))
        yield made


def is_translated(page: Page, language: str, part: str = "body") -> None:
    """Fails where a Chinese reader meets English."""
    if language != "en":
        assert english_in(page.locator(part).evaluate("element => element.outerHTML"), ["ExampleID"]) == set()


def let_time_pass(page: Page) -> None:
    """Lets the proof that the page's person gave be too old for what is sensitive."""
    client = Client()
    client.cookies[django_settings.SESSION_COOKIE_NAME] = next(
        cookie["value"] for cookie in page.context.cookies() if cookie["name"] == django_settings.SESSION_COOKIE_NAME
    )
    make_old(client)


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("zh-hans", "dark")])
def test_a_login_is_connected_signs_in_and_confirms(new_context, watch, alice: User, provider: Issuer, language: str, theme: str) -> None:
    page = new_context(**choose(alice, language, theme), locale="zh-CN" if language != "en" else "en-US").new_page()
    page.goto("/me/security/")
    is_sound(page)
    is_translated(page, language)
    fill_in(page, alice)
    arrive(page, "/me/security/")
    section = "section[aria-labelledby=oidc-title]"
    is_translated(page, language, section)
    page.locator("#oidc-connect").click()
    page.locator("#agree").click()
    arrive(page, "/me/security/")
    expect(page.locator(section)).to_contain_text("alice@example.com")
    is_sound(page)
    is_translated(page, language, section)
    sign_out(page)

    page.goto("/accounts/")
    page.locator(BUTTON).click()
    page.locator("#agree").click()
    arrive(page, "/accounts/")

    alice.set_unusable_password()
    alice.save()
    sign_out(page)
    page.locator(BUTTON).click()
    page.locator("#agree").click()
    arrive(page, "/conversations/")
    let_time_pass(page)
    page.goto("/me/security/")
    with override(language):
        expect(page.locator(section)).to_contain_text(gettext("your only way in: set a password before you disconnect it"))
    page.locator("a[href='/auth/password/new/']").click()
    arrive(page, "/auth/confirm/oidc/")
    is_sound(page)
    is_translated(page, language)
    page.locator("main form .btn-primary").click()
    page.locator("#agree").click()
    arrive(page, "/auth/password/new/")
    is_sound(page)
    page.fill("#id_password1", "another good one 77")
    page.fill("#id_password2", "another good one 77")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not url.endswith("/auth/password/new/"))

    page.goto("/me/security/")
    page.locator(f"{section} li form button").click()
    page.locator("#confirm-ok").click()
    expect(page.locator("#oidc-connect")).to_be_visible()
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize(("language", "theme"), [("en", "dark"), ("zh-hans", "light")])
def test_an_answer_that_lets_nobody_in_is_explained(new_context, watch, alice: User, provider: Issuer, language: str, theme: str) -> None:
    watch.expect("the server responded with a status of 403")
    page = new_context(**choose(alice, language, theme), locale="zh-CN" if language != "en" else "en-US").new_page()
    page.goto("/auth/login/")
    for denies, reason in ((True, "denied"), (False, "unknown")):
        provider.denies = denies
        page.locator(BUTTON).click()
        page.locator("#agree").click()
        expect(page.locator("#reason")).to_have_attribute("data-reason", reason)
        expect(page.locator("#reason")).to_contain_text("ExampleID")
        is_sound(page)
        is_translated(page, language)
        page.locator("main .btn-primary").click()
        arrive(page, "/auth/login/")
