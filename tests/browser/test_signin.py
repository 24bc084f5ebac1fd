"""Signing in with a second step and with a passkey, as a person does it in a browser: on a laptop in English, on a phone in Chinese."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from allauth.mfa.models import Authenticator
from axe_playwright_python.sync_playwright import Axe
from django.utils.translation import gettext, override
from playwright.sync_api import expect

from accounts.models import User
from tests.accounts.signing import Clock
from tests.conversations import support

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The half minutes of the codes, at a standstill; the live server is a thread of this process."""
    clock = Clock()
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.yield_hotp_counters_from_time", clock.counters)
    return clock


@pytest.fixture
def with_authenticator(new_context: Callable[..., Any]) -> Iterator[Callable[..., Page]]:
    """A function that opens a page on a device that has passkeys and whose person always shows the right finger."""

    def open_page(**options: Any) -> Page:
        page = new_context(**options).new_page()
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        device = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": device | {"automaticPresenceSimulation": True}})
        return page

    yield open_page


def arrive(page: Page, path: str) -> None:
    """Waits for a page; its address may also stand in that of the sign-in page, as what comes next."""
    page.wait_for_url(lambda url: urlsplit(url).path == path)


def fill_in(page: Page, user: User) -> None:
    page.fill("#id_login", user.email)
    page.fill("#id_password", support.PASSWORD)
    page.keyboard.press("Enter")


def sign_out(page: Page) -> None:
    page.locator(".page-tools .dropdown button", has=page.locator("use[href*='#user']")).click()
    page.locator(".dropdown-menu.show form button").click()
    arrive(page, "/auth/login/")


def is_sound(page: Page) -> None:
    """Fails where the page scrolls sideways or cannot be used by everybody."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    assert found.violations_count == 0, found.generate_report()


def choose(user: User, language: str, theme: str) -> dict[str, Any]:
    """Keeps language and theme with the person; returns the window for them."""
    user.language, user.theme = language, theme
    user.save()
    return {"viewport": {"width": 390 if language == "zh-hans" else 1440, "height": 844}}


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("zh-hans", "dark")])
def test_codes_of_an_app_from_switching_on_to_a_lost_phone(new_context, alice: User, clock: Clock, language: str, theme: str) -> None:
    page = new_context(**choose(alice, language, theme)).new_page()
    page.goto("/me/security/")
    fill_in(page, alice)
    arrive(page, "/me/security/")
    is_sound(page)
    page.locator("a[href$='/app/on/']").click()
    expect(page.locator("img.qr")).to_be_visible()
    assert page.locator("img.qr").evaluate("image => image.complete && image.naturalWidth > 0"), "the picture of the key shows"
    page.locator("summary").click()
    seed = page.locator("#totp-seed").inner_text()
    is_sound(page)
    page.fill("#id_code", "000000")
    page.keyboard.press("Enter")
    expect(page.locator(".field-error")).to_be_visible()
    page.locator("summary").click()
    assert page.locator("#totp-seed").inner_text() == seed, "a mistyped code does not make the scanned key void"
    page.fill("#id_code", clock.code(seed))
    page.keyboard.press("Enter")
    arrive(page, "/me/security/codes/")
    codes = page.locator("#recovery-codes").inner_text().split()
    assert len(codes) == 10
    is_sound(page)
    sign_out(page)

    clock.tick()
    page.goto("/accounts/")
    fill_in(page, alice)
    arrive(page, "/auth/code/")
    is_sound(page)
    page.fill("#id_code", clock.code(seed))
    page.keyboard.press("Enter")
    arrive(page, "/accounts/")
    sign_out(page)

    fill_in(page, alice)
    arrive(page, "/auth/code/")
    page.fill("#id_code", codes[3])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not urlsplit(url).path.startswith("/auth/"))
    page.goto("/me/security/app/off/")
    page.locator("main .btn-danger").click()
    arrive(page, "/me/security/")
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize(("language", "theme"), [("en", "dark"), ("zh-hans", "light")])
def test_a_passkey_is_added_and_signs_in_without_a_password(with_authenticator, alice: User, language: str, theme: str) -> None:
    page = with_authenticator(**choose(alice, language, theme))
    page.goto("/me/security/passkeys/add/")
    fill_in(page, alice)
    arrive(page, "/me/security/passkeys/add/")
    is_sound(page)
    page.fill("#passkey-name", "Work laptop")
    page.locator("form[data-passkey] .btn-primary").click()
    arrive(page, "/me/security/codes/")
    page.goto("/me/security/")
    expect(page.locator("[id^=passkey-]")).to_contain_text("Work laptop")
    is_sound(page)

    page.goto("/me/security/passkeys/add/")
    page.locator("form[data-passkey] .btn-primary").click()
    with override(language):
        expect(page.locator("[data-passkey-error]")).to_have_text(gettext("This device has a passkey for you already."))
    page.goto("/me/security/")
    sign_out(page)
    is_sound(page)

    page.goto("/accounts/")
    page.locator("form[data-passkey] button").click()
    arrive(page, "/accounts/")
    sign_out(page)

    fill_in(page, alice)
    arrive(page, "/auth/code/")
    page.locator("form[data-passkey] button").click()
    page.wait_for_url(lambda url: not urlsplit(url).path.startswith("/auth/"))
    page.goto("/auth/confirm/passkey/?next=/me/security/")
    is_sound(page)
    page.locator("form[data-passkey] button").click()
    arrive(page, "/me/security/")
    page.locator("[id^=passkey-] a[href$='/rename/']").click()
    page.fill("#passkey-name", "Old laptop")
    page.keyboard.press("Enter")
    expect(page.locator("[id^=passkey-]")).to_contain_text("Old laptop")
    page.locator("[id^=passkey-] a[href$='/remove/']").click()
    page.locator("main .btn-danger").click()
    arrive(page, "/me/security/")
    assert not Authenticator.objects.exists()
    sign_out(page)
    page.locator("form[data-passkey] button").click()
    expect(page.locator(".app-toast-danger, [data-passkey-error]:visible").first).to_be_visible()


def test_a_device_without_passkeys_says_so(page: Page) -> None:
    page.add_init_script("navigator.credentials.get = () => Promise.reject(new DOMException('no', 'NotAllowedError'))")
    page.goto("/auth/login/")
    page.locator("form[data-passkey] button").click()
    expect(page.locator("[data-passkey-error]")).to_contain_text("No passkey was used")
    expect(page.locator("form[data-passkey] button")).to_be_enabled()


def test_the_other_window_is_signed_out_from_here(new_context, sign_in, alice: User) -> None:
    here, there = new_context().new_page(), new_context().new_page()
    for page in (here, there):
        page.goto("/me/security/")
        fill_in(page, alice)
        arrive(page, "/me/security/")
    here.reload()
    expect(here.locator("[id^=session-]")).to_have_count(2)
    here.get_by_role("button", name="Sign out everywhere else").click()
    expect(here.locator("[id^=session-]")).to_have_count(1)
    there.reload()
    arrive(there, "/auth/login/")
