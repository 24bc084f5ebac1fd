"""Signing in with an OpenID Connect provider: who comes in, what of its answers is believed, and that nothing of them stays."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from allauth.socialaccount.models import SocialAccount, SocialToken
from django.conf import settings as django_settings
from django.contrib.auth.models import AnonymousUser
from django.test import Client

from accounts import issuer as asking
from accounts import recent
from accounts.models import User
from tests.simulators.oidc import Issuer

from .oidc_support import CALLBACK, LOGIN, arrive, connect, leave, reason
from .signing import SECURITY, Clock, everything_stored, is_in, session_of, sign_in, switch_totp_on
from .support import text

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
