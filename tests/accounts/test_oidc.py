"""Signing in with an OpenID Connect provider: who comes in, what of its answers is believed, and that nothing of them stays."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.conf import settings as django_settings
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.test import Client
from django.urls import reverse

from accounts import issuer as asking
from accounts import recent, teams
from accounts.models import Membership, Role, Team, User
from conversations.models import AuditEntry
from tests.conversations import support
from tests.simulators import kit
from tests.simulators.oidc import Issuer
from tests.test_platform import fresh_settings, production

from .signing import SECURITY, Clock, everything_stored, is_in, make_old, session_of, sign_in, switch_totp_on
from .support import text

LOGIN, CALLBACK, CONFIRM, CONNECT = "/auth/oidc/", "/auth/oidc/callback/", "/auth/confirm/oidc/", "/me/security/oidc/connect/"
SENSITIVE = "/me/security/app/on/"  # a page of the sign-in library that needs a recent proof


@pytest.fixture
def provider(settings: Any) -> Iterator[Issuer]:
    """A provider that this installation is configured for."""
    made = Issuer()
    with kit.serve(made) as url:  # type: ignore[arg-type]
        settings.OIDC_ISSUER, settings.OIDC_NAME = url, "Example login"
        settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = made.client_id, made.client_secret
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The half minutes of the codes, at a standstill."""
    clock = Clock()
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.yield_hotp_counters_from_time", clock.counters)
    return clock


def leave(client: Client, path: str = LOGIN, **sent: str) -> str:
    """Presses the button; returns the address at the provider."""
    answer = client.post(path, sent)
    assert answer.status_code == 200, text(answer)
    target = answer.context["target"]
    assert answer["Refresh"] == f"0; url={target}"
    return target


def arrive(client: Client, provider: Issuer, path: str = LOGIN, **sent: str) -> Any:
    """Goes to the provider and comes back; returns the answer to that."""
    back = urlsplit(provider.come_back(leave(client, path, **sent)))
    return client.get(f"{back.path}?{back.query}")


def reason(answer: Any) -> str:
    """Returns why nobody was signed in, by the page that says so."""
    return answer.context["reason"]


def connect(user: User, provider: Issuer, sub: str = "person-1") -> SocialAccount:
    return SocialAccount.objects.create(user=user, provider=django_settings.OIDC_ISSUER, uid=sub)


def told() -> list[tuple[str, Any, Any, str]]:
    """Returns what the audit log says."""
    return list(AuditEntry.objects.order_by("pk").values_list("what", "before", "after", "note"))


def without_password(user: User) -> None:
    user.set_unusable_password()
    user.save()


def invited(client: Client, owner: User, email: str = "") -> tuple[Team, str]:
    """Opens an invitation; returns the team and the page of its link."""
    team = teams.create(owner, "Support desk")
    link = reverse("invitation", args=[teams.invite(owner, team, Role.OPERATOR, email)[1]])
    assert client.get(link).status_code == 200
    return team, link


# --- whoever is connected -----------------------------------------------------------------------------------------------------------


def test_who_is_connected_comes_in_and_arrives_where_they_wanted_to(alice: User, provider: Issuer) -> None:
    connect(alice, provider)
    client = Client()
    client.get("/auth/login/")
    before = client.cookies[django_settings.SESSION_COOKIE_NAME].value if django_settings.SESSION_COOKIE_NAME in client.cookies else ""
    answer = arrive(client, provider, next="/accounts/")
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/") and is_in(client)
    page = client.get(SECURITY)
    assert page.context["user"] == alice and [session.current for session in page.context["sessions"]] == [True]
    assert client.cookies[django_settings.SESSION_COOKIE_NAME].value != before
    assert provider.log.count("POST /token") == 1 and provider.log.count("GET /jwks") == 1
    assert "GET /userinfo" not in provider.log, "the id_token says everything"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"])
def test_nobody_is_led_to_another_site(alice: User, provider: Issuer, target: str) -> None:
    connect(alice, provider)
    client = Client()
    assert arrive(client, provider, next=target)["Location"] == "/"
    assert client.post(LOGIN, {"next": target})["Location"] == "/", "nor is who is in already"


def test_the_way_there_has_state_nonce_and_pkce_and_each_is_new(provider: Issuer, db: None) -> None:
    client = Client()
    asked = [parse_qs(urlsplit(leave(client)).query) for _ in range(2)]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name], name
    assert asked[0]["code_challenge_method"] == ["S256"] and set(asked[0]["scope"][0].split()) == {"openid", "profile", "email"}
    assert asked[0]["redirect_uri"] == ["http://testserver/auth/oidc/callback/"]
    assert provider.client_secret not in str(asked)


def test_looking_signs_nobody_in_and_a_form_needs_its_token(alice: User, provider: Issuer) -> None:
    connect(alice, provider)
    assert Client().get(LOGIN).status_code == 405
    assert Client(enforce_csrf_checks=True).post(LOGIN).status_code == 403
    assert provider.log == []


def test_a_second_factor_is_asked_for_and_no_token_waits_for_it(alice: User, provider: Issuer, clock: Clock, redis_client: redis.Redis) -> None:
    seed = switch_totp_on(sign_in(), clock)
    connect(alice, provider)
    client = Client()
    assert arrive(client, provider, next="/accounts/")["Location"] == "/auth/code/" and not is_in(client)
    assert recent.SIGNED_IN_AT not in session_of(client)
    stored = everything_stored(redis_client)
    assert len(provider.given) == 4 and not [secret for secret in (*provider.given, provider.client_secret) if secret in stored]
    assert User.objects.get(pk=alice.pk).password not in str(dict(session_of(client)))
    assert client.post("/auth/code/", {"code": clock.code(seed)})["Location"] == "/accounts/" and is_in(client)


def test_who_is_switched_off_stays_out(alice: User, provider: Issuer) -> None:
    connect(alice, provider)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    client = Client()
    assert arrive(client, provider)["Location"] == "/auth/inactive/" and not is_in(client)


def test_nothing_of_the_tokens_is_stored_or_logged(
    alice: User, provider: Issuer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    connect(alice, provider)
    provider.claims["picture"] = "https://example.com/face-of-alice.png"
    client = Client()
    page = arrive(client, provider)
    provider.fault = "signature"
    page = arrive(Client(), provider)
    assert reason(page) == "answer" and is_in(client)
    everything = everything_stored(redis_client) + caplog.text + page.content.decode() + client.get(SECURITY).content.decode()
    assert len(provider.given) == 8 and not [secret for secret in (*provider.given, provider.client_secret) if secret in everything]
    assert "face-of-alice" not in everything and SocialToken.objects.count() == 0
    assert SocialAccount.objects.get().extra_data == {"email": "alice@example.com"}
    assert "nobody was signed in with OpenID Connect: answer" in caplog.text


def test_another_issuer_with_the_same_sub_is_another_person(alice: User, provider: Issuer) -> None:
    SocialAccount.objects.create(user=alice, provider="https://former.example", uid="person-1")
    client = Client()
    assert reason(arrive(client, provider)) == "unknown" and not is_in(client)


def test_attempts_are_limited(provider: Issuer, db: None) -> None:
    codes = [Client().post(LOGIN, REMOTE_ADDR="192.0.2.3").status_code for _ in range(31)]
    assert codes == [200] * 30 + [429]
    assert Client().post("/auth/login/", {"login": "a@example.com", "password": "x"}, REMOTE_ADDR="192.0.2.3").status_code == 429, "one count"


# --- what is believed ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        *((fault, "answer") for fault in ("nonce", "no_nonce", "audience", "azp", "issuer", "expired", "signature", "unsigned", "shared")),
        *((fault, "answer") for fault in ("no_id_token", "discovery", "plain")),
        ("redirect", "away"),
        ("500", "away"),
        ("html", "away"),
    ],
)
def test_an_answer_that_is_not_right_lets_nobody_in(alice: User, provider: Issuer, fault: str, expected: str) -> None:
    connect(alice, provider)
    client = Client()
    back = urlsplit(provider.come_back(leave(client)))
    provider.fault = fault
    answer = client.get(f"{back.path}?{back.query}")
    assert reason(answer) == expected and answer.status_code == 502 and not is_in(client)
    provider.fault = ""
    assert reason(client.get(f"{back.path}?{back.query}")) == "state", "what has been tried is used up"
    assert arrive(client, provider).status_code == 302 and is_in(client)


@pytest.mark.parametrize("path", ["/token", "/jwks", "/userinfo", "/.well-known/openid-configuration"])
@pytest.mark.parametrize("fault", ["500", "hang", "html", "drip", "gzip"])
def test_a_provider_that_is_out_of_order_is_a_page_and_never_a_wait(
    alice: User, provider: Issuer, monkeypatch: pytest.MonkeyPatch, path: str, fault: str
) -> None:
    assert asking.DEADLINE <= 10
    monkeypatch.setattr(asking, "DEADLINE", 0.6)
    connect(alice, provider)
    provider.email_in_id_token = False
    client = Client()
    back = urlsplit(provider.come_back(leave(client)))
    provider.fault, provider.fault_at = fault, path
    begun = time.monotonic()
    answer = client.get(f"{back.path}?{back.query}")
    assert reason(answer) in ("away", "answer") and answer.status_code == 502 and not is_in(client)
    assert time.monotonic() - begun < 5
    if path.startswith("/.well-known"):
        answer = client.post(LOGIN)
        assert reason(answer) == "away" and "Example login" in text(answer)


def test_no_provider_at_all_is_a_page(settings: Any, provider: Issuer, db: None) -> None:
    settings.OIDC_ISSUER = "http://127.0.0.1:1"
    answer = Client().post(LOGIN)
    assert (answer.status_code, reason(answer)) == (502, "away")


def test_the_state_belongs_to_one_browser_and_is_good_once(alice: User, provider: Issuer) -> None:
    connect(alice, provider)
    victim, thief = Client(), Client()
    leave(victim)
    back = urlsplit(provider.come_back(leave(thief)))
    for query in (back.query, "", "code=x", "state=", "state=x&code=y"):
        answer = victim.get(f"{CALLBACK}?{query}")
        assert (answer.status_code, reason(answer)) == (400, "state") and not is_in(victim)
    assert provider.log.count("POST /token") == 0, "the provider was not asked"
    assert thief.get(f"{CALLBACK}?{back.query}").status_code == 302
    thief.post("/auth/logout/")
    assert reason(thief.get(f"{CALLBACK}?{back.query}")) == "state"


def test_who_refuses_at_the_provider_is_told_so_and_not_in_its_words(provider: Issuer, db: None) -> None:
    provider.denies = True
    answer = arrive(Client(), provider)
    assert (answer.status_code, reason(answer)) == (403, "denied") and "secret words" not in answer.content.decode()
    assert "Example login" in text(answer) and 'href="/auth/login/"' in answer.content.decode()


def test_every_reason_has_words_of_its_own(provider: Issuer, db: None, rf: Any) -> None:
    from accounts import oidc

    request = rf.get(CALLBACK)
    request.user = AnonymousUser()
    said = {reason: text(oidc.failed(request, reason)) for reason in oidc.REASONS}
    assert len(set(said.values())) == len(oidc.REASONS)


# --- whoever is new -----------------------------------------------------------------------------------------------------------------


def test_who_is_unknown_and_not_invited_is_refused_even_with_the_address_of_somebody_here(alice: User, provider: Issuer) -> None:
    client = Client()
    answer = arrive(client, provider)
    assert (answer.status_code, reason(answer)) == (403, "unknown") and not is_in(client)
    assert User.objects.count() == 1 and SocialAccount.objects.count() == 0


def test_an_invitation_lets_somebody_new_in_and_they_join_as_after_a_sign_up(alice: User, provider: Issuer) -> None:
    provider.claims |= {"sub": "person-2", "email": "New@Example.com", "name": "Nina New"}
    client = Client()
    team, link = invited(client, alice, "new@example.com")
    assert reverse("oidc_login") in client.get(f"/auth/signup/?next={link}").content.decode()
    answer = arrive(client, provider, next=link)
    assert answer["Location"] == link and is_in(client)
    new = User.objects.get(email="new@example.com")
    assert (new.name, new.has_usable_password(), new.is_staff) == ("Nina New", False, False)
    assert [(member.team.personal, member.role) for member in Membership.objects.filter(user=new)] == [(True, Role.OWNER)]
    assert client.post(link).status_code == 302
    assert teams.role_of(new, team) == Role.OPERATOR
    assert ("connect login", None, {"issuer": django_settings.OIDC_ISSUER, "login": "New@Example.com"}, "") in told()
    client.post("/auth/logout/")
    assert arrive(client, provider).status_code == 302 and is_in(client), "and is known from then on"


@pytest.mark.parametrize(
    ("claims", "email", "expected"),
    [
        ({"email": "other@example.com"}, "new@example.com", "another_email"),
        ({"email": "new@example.com", "email_verified": False}, "new@example.com", "another_email"),
        ({"email": "new@example.com", "email_verified": None}, "new@example.com", "another_email"),
        ({"email": "new@example.com", "email_verified": 1.5}, "new@example.com", "another_email"),
        ({"email": None}, "", "no_email"),
        ({"email": "not an address"}, "", "no_email"),
        ({"email": ["new@example.com"]}, "", "no_email"),
        ({"email": "ALICE@example.com"}, "", "taken"),
    ],
)
def test_an_invitation_is_not_enough_without_the_right_address(
    alice: User, provider: Issuer, claims: dict[str, Any], email: str, expected: str
) -> None:
    provider.claims |= {"sub": "person-2"} | claims
    client = Client()
    _team, link = invited(client, alice, email)
    answer = arrive(client, provider, next=link)
    assert (answer.status_code, reason(answer)) == (403, expected) and not is_in(client)
    assert User.objects.count() == 1 and SocialAccount.objects.count() == 0


def test_an_invitation_that_was_revoked_meanwhile_lets_nobody_in(alice: User, provider: Issuer) -> None:
    provider.claims |= {"sub": "person-2", "email": "new@example.com"}
    client = Client()
    team, _link = invited(client, alice)
    back = urlsplit(provider.come_back(leave(client)))
    assert teams.revoke(alice, team, team.invitations.get().pk)
    assert reason(client.get(f"{back.path}?{back.query}")) == "unknown" and User.objects.count() == 1


def test_the_address_may_come_from_the_userinfo_of_the_same_person(alice: User, provider: Issuer) -> None:
    provider.claims |= {"sub": "person-2", "email": "new@example.com"}
    provider.email_in_id_token = False
    client = Client()
    invited(client, alice, "new@example.com")
    provider.fault = "foreign_userinfo"
    assert reason(arrive(client, provider)) == "answer"
    provider.fault = ""
    assert arrive(client, provider).status_code == 302 and is_in(client)
    assert User.objects.filter(email="new@example.com").exists()


def test_a_trusted_address_connects_whoever_has_it_once(alice: User, provider: Issuer, settings: Any) -> None:
    settings.OIDC_TRUST_EMAIL = True
    provider.claims["email_verified"] = False
    assert reason(arrive(Client(), provider)) == "unknown", "never an address that the provider does not vouch for"
    provider.claims["email_verified"] = True
    elsewhere, client = sign_in(), Client()
    assert arrive(client, provider).status_code == 302 and client.get(SECURITY).context["user"] == alice
    assert SocialAccount.objects.get().user == alice
    assert [(what, note) for what, _before, _after, note in told()] == [("connect login", "by its e-mail address")]
    # Whoever made the account may not have been the owner of the address: what they had is void.
    assert not is_in(elsewhere) and not User.objects.get(pk=alice.pk).has_usable_password()
    settings.OIDC_TRUST_EMAIL = False
    assert arrive(Client(), provider).status_code == 302
    settings.OIDC_TRUST_EMAIL = True
    provider.claims["sub"] = "a-new-colleague-with-the-same-address"
    assert reason(arrive(Client(), provider)) == "unknown"


def test_a_trusted_address_does_not_reach_past_a_second_factor(alice: User, provider: Issuer, settings: Any, clock: Clock) -> None:
    settings.OIDC_TRUST_EMAIL = True
    elsewhere = sign_in()
    switch_totp_on(elsewhere, clock)
    assert reason(arrive(Client(), provider)) == "unknown"
    assert is_in(elsewhere) and User.objects.get(pk=alice.pk).has_usable_password() and SocialAccount.objects.count() == 0


# --- connecting and disconnecting ---------------------------------------------------------------------------------------------------


def test_a_person_connects_their_login_and_disconnects_it(alice: User, provider: Issuer) -> None:
    provider.claims["email"] = "another-address@example.com"
    client = sign_in()
    assert reverse("oidc_connect") in client.get(SECURITY).content.decode()
    assert [arrive(client, provider, CONNECT)["Location"] for _twice in range(2)] == [SECURITY] * 2
    page = client.get(SECURITY)
    assert "another-address@example.com" in text(page) and reverse("oidc_connect") not in page.content.decode()
    row = SocialAccount.objects.get()
    assert row.user == alice and User.objects.count() == 1
    other = Client()
    assert arrive(other, provider).status_code == 302 and is_in(other)
    assert client.post(f"/me/security/oidc/{row.pk}/disconnect/")["Location"] == SECURITY
    assert reason(arrive(Client(), provider)) == "unknown"
    values = {"issuer": django_settings.OIDC_ISSUER, "login": "another-address@example.com"}
    assert told() == [("connect login", None, values, ""), ("disconnect login", values, None, "")]
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {alice.pk}
    page = text(client.get("/audit/"))
    assert "Login connected" in page and "Login disconnected" in page and "OpenID Connect provider" in page


def test_connecting_and_disconnecting_need_a_recent_proof(alice: User, provider: Issuer) -> None:
    row = connect(alice, provider, "another-sub")
    client = sign_in()
    back = urlsplit(provider.come_back(leave(client, "/me/security/oidc/connect/")))
    make_old(client)
    for path in ("/me/security/oidc/connect/", f"/me/security/oidc/{row.pk}/disconnect/"):
        assert client.post(path)["Location"].startswith("/auth/confirm/")
    assert client.get(f"{back.path}?{back.query}")["Location"] == SECURITY
    assert [row.uid for row in SocialAccount.objects.all()] == ["another-sub"], "not even at the end of a way that was begun in time"


def test_a_login_of_somebody_else_is_not_connected_and_theirs_is_not_disconnected(alice: User, provider: Issuer) -> None:
    bob = support.make_user("bob@example.com")
    row = connect(bob, provider)
    client = sign_in()
    assert arrive(client, provider, "/me/security/oidc/connect/")["Location"] == SECURITY
    assert "connected with somebody else" in text(client.get(SECURITY))
    assert client.post(f"/me/security/oidc/{row.pk}/disconnect/").status_code == 404
    assert SocialAccount.objects.get().user == bob
    assert client.get(SECURITY).context["user"] == alice


def test_the_only_way_in_stays_until_there_is_a_password(alice: User, provider: Issuer) -> None:
    row = connect(alice, provider)
    without_password(alice)
    client = Client()
    arrive(client, provider)
    path = f"/me/security/oidc/{row.pk}/disconnect/"
    assert path not in client.get(SECURITY).content.decode()
    client.post(path)
    assert SocialAccount.objects.count() == 1
    assert client.get("/auth/password/")["Location"] == "/auth/password/new/"
    new = {"password1": "another good one 77", "password2": "another good one 77"}
    make_old(client)
    assert client.post("/auth/password/new/", new)["Location"].startswith(CONFIRM) and not User.objects.get(pk=alice.pk).has_usable_password()
    assert arrive(client, provider, CONFIRM, next="/auth/password/new/")["Location"] == "/auth/password/new/"
    assert client.get("/auth/password/new/").status_code == 200
    assert client.post("/auth/password/new/", new).status_code == 302
    assert client.post(path).status_code == 302 and SocialAccount.objects.count() == 0
    assert is_in(sign_in(password="another good one 77"))


def test_a_half_sign_in_is_no_proof(alice: User, provider: Issuer, clock: Clock) -> None:
    switch_totp_on(sign_in(), clock)
    connect(alice, provider)
    client = Client()
    arrive(client, provider)
    records = session_of(client)[AUTHENTICATION_METHODS_SESSION_KEY]
    assert [record["method"] for record in records] == ["socialaccount"] and not any(record.get("reauthenticated") for record in records)


# --- confirming ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mfa_activate_totp", "mfa_add_webauthn", "account_set_password"])
def test_who_has_neither_password_nor_second_factor_is_not_taken_for_confirmed(alice: User, provider: Issuer, settings: Any, name: str) -> None:
    connect(alice, provider)
    without_password(alice)
    client = Client()
    arrive(client, provider)
    page = reverse(name)
    assert client.get(page).status_code == 200, "who has just signed in is not asked again"
    make_old(client)
    assert client.get(page)["Location"] == f"{CONFIRM}?next={page}"
    assert arrive(client, provider, CONFIRM, next=page)["Location"] == page
    assert client.get(page).status_code == 200
    make_old(client)
    settings.OIDC_ISSUER = ""
    assert client.get(page).status_code == 403, "where there is no way to confirm, it takes a new sign-in"


def test_confirming_is_a_fresh_sign_in_of_the_same_person_there(alice: User, provider: Issuer) -> None:
    connect(alice, provider)
    without_password(alice)
    client = Client()
    arrive(client, provider)
    make_old(client)
    assert "Example login" in text(client.get(f"{CONFIRM}?next={SENSITIVE}"))
    asked = parse_qs(urlsplit(leave(client, CONFIRM)).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])

    def refused(why: str) -> None:
        answer = arrive(client, provider, CONFIRM, next=SENSITIVE)
        assert (answer.status_code, reason(answer)) == (403, why)
        assert client.get(SENSITIVE).status_code == 302, "nothing is confirmed"
        assert client.get(SECURITY).context["user"] == alice

    provider.signed_in_at = time.time() - 600
    for fault in ("stale", "no_auth_time"):
        provider.fault = fault
        refused("stale")
    provider.fault = ""
    connect(support.make_user("bob@example.com"), provider, "person-2")
    for sub in ("person-2", "person-3"):
        provider.claims["sub"] = sub
        refused("another_login")
    provider.denies = True
    refused("denied")
    provider.denies, provider.claims["sub"] = False, "person-1"
    assert arrive(client, provider, CONFIRM, next=SENSITIVE)["Location"] == SENSITIVE and client.get(SENSITIVE).status_code == 200
    assert SocialAccount.objects.count() == 2


def test_who_has_a_password_may_confirm_there_too_and_nobody_by_what_they_are_not_connected_with(alice: User, provider: Issuer) -> None:
    client = sign_in()
    make_old(client)
    assert client.get(SENSITIVE)["Location"].startswith("/auth/confirm/?") and CONFIRM not in client.get("/auth/confirm/").content.decode()
    assert client.get(CONFIRM)["Location"].startswith("/auth/confirm/") and client.post(CONFIRM)["Location"].startswith("/auth/confirm/")
    connect(alice, provider)
    assert CONFIRM in client.get("/auth/confirm/").content.decode() and "/auth/confirm/?" in client.get(f"{CONFIRM}?next=/").content.decode()
    arrive(client, provider, CONFIRM, next=SENSITIVE)
    assert client.get(SENSITIVE).status_code == 200


def test_a_sign_in_is_no_fresher_a_proof_than_that_at_the_provider(alice: User, provider: Issuer, clock: Clock) -> None:
    connect(alice, provider)
    provider.signed_in_at = time.time() - 3600
    client = Client()
    arrive(client, provider)
    assert is_in(client) and client.get(SENSITIVE).status_code == 302
    provider.signed_in_at = time.time() + 30  # its clock is ahead of ours
    client = Client()
    arrive(client, provider)
    assert client.get(SENSITIVE).status_code == 200
    provider.fault = "no_auth_time"
    client = Client()
    arrive(client, provider)
    assert client.get(SENSITIVE).status_code == 200, "who cannot tell is taken at their word"
    provider.fault, provider.signed_in_at = "", time.time() - 3600
    seed = switch_totp_on(client, clock)
    client = Client()
    arrive(client, provider)
    client.post("/auth/code/", {"code": clock.code(seed)})
    assert is_in(client) and client.get("/me/security/app/off/").status_code == 200, "the second factor was asked for just now"


def test_confirming_is_limited(alice: User, provider: Issuer) -> None:
    connect(alice, provider)
    client = sign_in()
    assert [client.post(CONFIRM).status_code for _ in range(11)] == [200] * 10 + [429]


# --- what is configured -------------------------------------------------------------------------------------------------------------


def test_without_a_provider_there_is_no_button_and_no_address(alice: User) -> None:
    assert LOGIN not in Client().get("/auth/login/").content.decode()
    client = sign_in()
    assert "oidc" not in client.get(SECURITY).content.decode()
    assert [client.post(path).status_code for path in (LOGIN, "/me/security/oidc/connect/", "/me/security/oidc/1/disconnect/")] == [404] * 3
    assert Client().get(f"{CALLBACK}?state=x&code=y").status_code == 404
    assert (client.get(CONFIRM).status_code, client.post(CONFIRM).status_code) == (404, 404)
    assert CONFIRM not in client.get("/auth/confirm/").content.decode()
    SocialApp.objects.create(provider="openid_connect", provider_id="https://evil.example", name="Evil", client_id="x")
    assert LOGIN not in Client().get("/auth/login/").content.decode() and Client().post(LOGIN).status_code == 404, "a row is no provider"
    assert not [model for model in admin.site._registry if model._meta.app_label == "socialaccount"]


def test_the_button_is_a_form_with_the_name_of_the_setting(provider: Issuer, db: None) -> None:
    page = Client().get("/auth/login/?next=/accounts/").content.decode()
    form = page.partition(f'action="{LOGIN}"')[2].partition("</form>")[0]
    assert "Example login" in form and "csrfmiddlewaretoken" in form and 'value="/accounts/"' in form


WHOLE = {"OIDC_ISSUER": "https://login.example.com/realm/", "OIDC_CLIENT_ID": "switchboard", "OIDC_CLIENT_SECRET": "canary-of-oidc"}


def test_a_whole_configuration_is_read(tmp_path: Any) -> None:
    run = fresh_settings("settings.OIDC_ISSUER, settings.OIDC_CLIENT_SECRET, settings.OIDC_TRUST_EMAIL", **production(**WHOLE))
    assert run.stdout.strip() == "https://login.example.com/realm/ canary-of-oidc False", run.stderr
    secret = tmp_path / "secret"
    secret.write_text("canary-of-oidc\n")
    changed = WHOLE | {"OIDC_CLIENT_SECRET": "", "OIDC_CLIENT_SECRET_FILE": str(secret)}
    assert fresh_settings("settings.OIDC_CLIENT_SECRET", **changed).stdout.strip() == "canary-of-oidc"
    assert fresh_settings("settings.OIDC_ISSUER", **WHOLE | {"OIDC_ISSUER": "http://127.0.0.1:9000"}).returncode == 0, "while developing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"OIDC_CLIENT_SECRET": ""}, "OIDC_CLIENT_SECRET (or OIDC_CLIENT_SECRET_FILE) is missing"),
        ({"OIDC_ISSUER": ""}, "OIDC_ISSUER is missing"),
        ({"OIDC_ISSUER": "", "OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": "", "OIDC_NAME": "Company"}, "OIDC_ISSUER is missing"),
        ({"OIDC_ISSUER": "", "OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": "", "OIDC_TRUST_EMAIL": "1"}, "OIDC_ISSUER is missing"),
        ({"OIDC_TRUST_EMAIL": "perhaps"}, "OIDC_TRUST_EMAIL"),
        *(
            ({"OIDC_ISSUER": text}, "write an address such as https://")
            for text in (
                "login.example.com",
                "http://login.example.com",
                "http://127.0.0.1:9000",
                "https://user@login.example.com",
                "https://login.example.com?x=1",
                "https://login.example.com/#x",
                "https://login.example.com:99999",
                "https://",
                f"https://login.example.com/{'x' * 200}",
            )
        ),
    ],
)
def test_half_a_configuration_stops_the_start_and_says_what_is_missing(changes: dict[str, str], said: str) -> None:
    run = fresh_settings("''", **production(**WHOLE | changes))
    assert run.returncode == 1 and "refused: " in run.stderr and said in run.stderr and "canary-of-oidc" not in run.stderr
