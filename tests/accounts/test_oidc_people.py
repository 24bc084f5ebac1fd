"""Who is new to OpenID Connect, who connects and disconnects a login, and how one confirms with it."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.socialaccount.models import SocialAccount
from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse

from accounts import teams
from accounts.models import Membership, Role, Team, User
from conversations.models import AuditEntry
from tests.conversations import support
from tests.simulators.oidc import Issuer

from .oidc_support import CONFIRM, CONNECT, SENSITIVE, arrive, connect, leave, reason, told, without_password
from .signing import SECURITY, Clock, is_in, make_old, session_of, sign_in, switch_totp_on
from .support import text


def invited(client: Client, owner: User, email: str = "") -> tuple[Team, str]:
    """Opens an invitation; returns the team and the page of its link."""
    team = teams.create(owner, "Support desk")
    link = reverse("invitation", args=[teams.invite(owner, team, Role.OPERATOR, email)[1]])
    assert client.get(link).status_code == 200
    return team, link


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
