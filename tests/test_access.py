"""Who may call which address: every URL name of the project has a row here, and a new one without a row fails (SECURITY S11).

The persons, for one account and what belongs to it: a stranger; a reader (operator in a team that the account is shared with to read); viewer,
operator and admin of a team that may use it; and the owner of the account, who owns that team and the job too.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.shortcuts import resolve_url
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone

from accounts import teams
from accounts.models import Membership, Role, ShareLevel
from conversations import breakers, jobs
from conversations.models import AuditEntry, Incident
from tests.accounts.team_support import people
from tests.conversations import support
from tests.conversations.conftest import alice, connected, serve

__all__ = ["alice", "connected", "serve"]

ROLES = ("stranger", "reader", "viewer", "operator", "admin", "owner")
OK = "ok"


def rule(*expected: Any) -> dict[str, Any]:
    """What each role gets, in the order of ROLES."""
    return dict(zip(ROLES, expected, strict=True))


NO = rule(*[405] * 6)  # not a method of this address
ANY = rule(*[OK] * 6)  # one's own pages, and lists that are cut to what one may see
NONE = rule(*[404] * 6)  # there is none
SEE = rule(404, OK, OK, OK, OK, OK)
USE = rule(404, 403, 403, OK, OK, OK)
OWN = rule(404, 403, 403, 403, 403, OK)  # of an account its owner's, of a job its author's
PAUSE = rule(404, 403, 403, 403, OK, OK)
ANSWER = rule(404, 404, 403, 403, OK, OK)  # about a job that the operator asked for; the reader has no team in common with them
WITHDRAW = rule(404, 404, 403, OK, 404, 404)  # the operator's; from then on it is a draft, which nobody else sees
MEMBER = rule(404, 404, OK, OK, OK, OK)
MANAGE = rule(404, 404, 403, 403, OK, OK)
TEAM_OWN = rule(404, 404, 403, 403, 403, OK)
STAFF = rule(*[(302, 403)] * 6)
PUBLIC = {
    "account_login",
    "account_inactive",
    "account_signup",
    "account_logout",
    "set_language",
    "invitation",
    "admin:index",
    "oidc_login",
    "oidc_callback",
}

# name -> the names of what its address holds, GET, POST
ROWS: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    "account_login": ((), ANY, ANY),
    "account_logout": ((), ANY, ANY),
    "account_inactive": ((), ANY, NO),
    "account_signup": ((), ANY, ANY),
    "account_change_password": ((), ANY, ANY),
    "account_reauthenticate": ((), ANY, ANY),
    "account_set_password": ((), ANY, ANY),
    # there is none in this installation; tests/accounts/conftest.py has one
    "oidc_login": ((), NO, NONE),
    "oidc_callback": ((), NONE, NO),
    "oidc_connect": ((), NO, NONE),
    "oidc_confirm": ((), NONE, NONE),
    "oidc_disconnect": (("one",), NO, NONE),
    "admin:index": ((), STAFF, STAFF),
    "set_language": ((), NO, ANY),
    "set_theme": ((), NO, ANY),
    "home": ((), ANY, NO),
    # one's own sign-in; nobody here has a second factor
    "mfa_index": ((), ANY, NO),
    "sessions_end_others": ((), NO, ANY),
    "session_end": (("session",), NO, ANY),  # that of somebody else is as one that has ended; the test below looks at it
    "mfa_activate_totp": ((), ANY, ANY),
    "mfa_deactivate_totp": ((), NONE, NONE),
    "mfa_add_webauthn": ((), ANY, ANY),
    "mfa_edit_webauthn": (("one",), NONE, NONE),
    "mfa_remove_webauthn": (("one",), NONE, NONE),
    "mfa_view_recovery_codes": ((), NONE, NO),
    "mfa_generate_recovery_codes": ((), ANY, ANY),
    "mfa_download_recovery_codes": ((), NONE, NONE),
    "set_name": ((), NO, ANY),
    "mfa_authenticate": ((), ANY, ANY),
    "mfa_login_webauthn": ((), ANY, ANY),
    "mfa_reauthenticate": ((), ANY, ANY),
    "mfa_reauthenticate_webauthn": ((), ANY, ANY),
    # accounts
    "account_list": ((), ANY, NO),
    "account_around": ((), ANY, NO),
    "account_add": ((), ANY, NO),
    "account_add_provider": (("provider",), ANY, ANY),
    "account_test_new": (("provider",), NO, ANY),
    "account_detail": (("account",), SEE, NO),
    "account_edit": (("account",), OWN, OWN),
    "account_test_edit": (("account",), NO, OWN),
    "account_paste": ((), ANY, ANY),
    "account_paste_into": (("account",), OWN, OWN),
    "account_test": (("account",), NO, OWN),
    "account_pause": (("account",), NO, OWN),
    "account_resume": (("account",), NO, OWN),
    "account_pace": (("account",), NO, OWN),
    "account_delete": (("account",), NO, OWN),
    "account_share": (("account",), NO, OWN),
    "account_unshare": (("account", "team"), NO, OWN),
    "account_hand_over": (("account",), NO, OWN),
    "account_requests": (("account",), SEE, NO),
    "account_history": (("account",), SEE, NO),
    "account_labels": (("account",), NO, OWN),
    "account_about": (("account",), NO, OWN),
    "account_export": ((), ANY, NO),
    "account_import": ((), ANY, ANY),
    "account_sync": (("account",), NO, USE),
    "account_sync_cancel": (("account",), NO, USE),
    "account_sync_progress": (("account",), SEE, NO),
    "account_writes": (("account",), SEE, NO),
    # teams
    "team_list": ((), ANY, ANY),
    "team_detail": (("team",), MEMBER, NO),
    "team_invite": (("team",), NO, MANAGE),
    "team_revoke": (("team", "invited"), NO, MANAGE),
    "team_rename": (("team",), NO, TEAM_OWN),
    "team_limits": (("team",), NO, TEAM_OWN),
    "team_delete": (("team",), NO, TEAM_OWN),
    "team_role": (("team", "spare"), NO, MANAGE),
    "team_remove": (("team", "spare"), MANAGE, MANAGE),
    "invitation": (("nonsense",), rule(*[410] * 6), rule(*[410] * 6)),
    # conversations
    "conversation_list": ((), ANY, NO),
    "conversation_pane": ((), ANY, NO),
    "conversation_freshness": ((), ANY, NO),
    "conversation_models": ((), ANY, NO),
    "conversation_detail": (("conversation",), SEE, NO),
    "conversation_messages": (("conversation",), SEE, NO),
    "conversation_shown": (("conversation",), SEE, NO),
    "conversation_refresh": (("conversation",), NO, USE),
    "conversation_model": (("conversation",), USE, USE),
    "conversation_title": (("conversation",), NO, USE),
    "conversation_generate_title": (("conversation",), NO, USE),
    "conversation_settings": (("conversation",), SEE, USE),
    "conversation_undo": (("conversation", "entry"), NO, USE),
    # jobs
    "job_list": ((), ANY, NO),
    "job_create": ((), NO, ANY),
    "job_from_list": ((), ANY, ANY),
    "job_badge": ((), ANY, NO),
    "lane_list": ((), ANY, NO),
    "lane_pause": (("account",), NO, OWN),
    "lane_resume": (("account",), NO, OWN),
    "lane_pace": (("account",), OWN, OWN),
    "incident_list": ((), ANY, NO),
    "incident_detail": (("incident",), SEE, NO),
    "job_detail": (("job",), SEE, NO),
    "job_compose": (("job",), OWN, OWN),
    "job_example": (("job",), OWN, NO),
    "job_upload": (("job",), OWN, OWN),
    "job_check": (("job",), NO, OWN),
    "job_tick": (("job",), NO, OWN),
    "job_start": (("job",), NO, OWN),
    "job_discard": (("job",), NO, OWN),
    "job_approve": (("asked",), NO, ANSWER),
    "job_refuse": (("asked",), NO, ANSWER),
    "job_withdraw": (("asked",), NO, WITHDRAW),
    "job_pause": (("job",), NO, PAUSE),
    "job_resume": (("job",), NO, OWN),
    "job_cancel": (("job",), NO, OWN),
    "job_retry": (("job",), NO, OWN),
    "job_first": (("job",), NO, OWN),
    "job_normal": (("job",), NO, OWN),
    "job_go_on": (("job",), NO, OWN),
    "job_again": (("job",), NO, OWN),
    "job_item": (("job", "item"), SEE, NO),
    "job_item_retry": (("job", "item"), NO, OWN),
    "job_item_keep": (("job", "item"), NO, OWN),
    "job_item_overwrite": (("job", "item"), NO, OWN),
    "job_undo": (("job",), NO, OWN),
    "job_decide": (("job", "item"), NO, OWN),
    "job_report": (("job", "csv"), SEE, NO),
    "audit_list": ((), ANY, NO),
    "audit_export": (("csv",), ANY, NO),
}


def names_of(patterns: list[Any]) -> Iterator[str]:
    """Every name of the project's own addresses; Django's admin site is one row."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield str(pattern.name)
        elif pattern.app_name != "admin":
            yield from names_of(pattern.url_patterns)
        else:
            yield "admin:index"


def test_s11_every_address_has_a_row_and_no_row_is_without_one() -> None:
    found = sorted(names_of(get_resolver().url_patterns))
    assert len(found) == len(set(found)) and set(found) == set(ROWS)


@pytest.fixture
def world(alice, connected) -> SimpleNamespace:
    """An account with a conversation, a started job and a team, and one person for each role."""
    desk = people(alice)
    account = support.synced(connected("aurod", populate=3, label="Shop")[1])
    reader, spare = support.make_user("reader@example.com"), support.make_user("spare@example.com")
    readers = teams.create(alice, "Readers")
    Membership.objects.create(team=readers, user=reader, role=Role.OPERATOR)
    teams.share(alice, account, readers, ShareLevel.READ)
    teams.share(alice, account, desk.team, ShareLevel.USE)
    row = account.conversations.order_by("pk").first()
    assert row is not None
    job = jobs.plan(jobs.create(alice, "set-title", account.conversations.all()), {"template": "{n}", "include_hand_made": True})
    assert jobs.start(alice, job)
    teams.set_limits(alice, desk.team, 1, None)
    asked = jobs.plan(jobs.create(desk.operator, "set-title", account.conversations.all()), {"template": "{n}.", "include_hand_made": True})
    assert jobs.start(desk.operator, asked) and asked.order == "ask"
    entry = AuditEntry.objects.create(conversation=row, account=account, actor=alice, what="rename", result="applied", before={"title": "a"})
    incident = Incident.objects.create(host=breakers.host_of(account), provider_key="aurod", opened_at=timezone.now())
    invited, _secret = teams.invite(alice, desk.team, Role.VIEWER)
    things = {
        "account": account.pk,
        "team": desk.team.pk,
        "spare": spare.pk,
        "invited": invited.pk,
        "conversation": row.pk,
        "job": job.pk,
        "asked": asked.pk,
        "item": job.items.order_by("ordinal").first().pk,
        "entry": entry.pk,
        "incident": incident.pk,
        "provider": "aurod",
        "csv": "csv",
        "nonsense": "x" * 43,
        "one": 1,
        "session": UserSession.objects.create(user=alice, session_key="a" * 32, ip="127.0.0.1", user_agent="synthetic").pk,
    }
    persons = {name: reader if name == "reader" else getattr(desk, name) for name in ROLES}
    return SimpleNamespace(persons=persons, things=things, team=desk.team, spare=spare)


@pytest.mark.parametrize("name", ROWS)
def test_s11_who_may_call_it(world, name: str) -> None:
    parts, on_get, on_post = ROWS[name]
    address = reverse(name, args=[world.things[part] for part in parts])
    for method, expected in (("get", on_get), ("post", on_post)):
        stranger = getattr(Client(), method)(address)
        if name not in PUBLIC:
            assert stranger.status_code == 302 and stranger.headers["Location"].startswith(resolve_url(settings.LOGIN_URL)), method
            fragment = getattr(Client(), method)(address, headers={"HX-Request": "true"})
            assert not fragment.content and fragment.headers["HX-Redirect"].startswith(resolve_url(settings.LOGIN_URL)), method
        for role in ROLES:
            Membership.objects.get_or_create(team=world.team, user=world.spare, defaults={"role": Role.VIEWER})  # an admin may have removed it
            client = Client()
            client.force_login(world.persons[role])
            response = (
                client.get(address) if method == "get" else client.post(address, {"account": world.things["account"]} if name == "job_go_on" else {})
            )
            if expected[role] == OK:
                assert response.status_code in (200, 204, 302, 409, 422), (method, role, response.status_code)
            else:
                wanted = expected[role] if isinstance(expected[role], tuple) else (expected[role],)
                assert response.status_code in wanted, (method, role, response.status_code)


def test_s11_nobody_ends_the_session_of_somebody_else(world) -> None:
    client = Client()
    client.force_login(world.persons["admin"])
    client.post(reverse("session_end", args=[world.things["session"]]))
    assert UserSession.objects.filter(pk=world.things["session"]).exists()
