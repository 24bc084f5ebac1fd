"""S13: looking changes nothing; what changes something is a POST with a valid token, from htmx too."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Account, Membership, User
from conversations.models import Conversation, Job, JobItem
from tests.accounts.support import HTMX
from tests.conftest import ROOT

from .walk import address, names

NOT_OURS = {"account_logout", "account_login", "account_signup", "account_reauthenticate"}  # allauth shows a form, and asks for a token

OURS = [name for name in names() if name not in NOT_OURS]


def state() -> dict[str, Any]:
    """Returns what people can change, as it is stored."""
    ours = {model.__name__: list(model.objects.order_by("pk").values()) for model in (Job, JobItem, User, Membership)}
    for user in ours["User"]:
        user.pop("last_login")
    columns = ("pk", "owner", "label", "base_url", "sealed_credentials", "paused_at", "rate", "concurrency", "note", "colour")
    ours["Account"] = list(Account.objects.order_by("pk").values(*columns))
    ours["Conversation"] = list(Conversation.objects.order_by("pk").values("pk", "title", "model", "config"))
    return ours


def test_s13_looking_changes_nothing(place, client) -> None:
    before = state()
    place.simulator.log.clear()
    answers = {
        name: client.get(address(place, name), headers=headers).status_code for name in names() for headers in ({}, HTMX) if name not in NOT_OURS
    }
    assert state() == before and place.simulator.writes() == []
    assert max(answers.values()) < 500 and list(answers.values()).count(405) > 20


def test_s13_a_post_without_a_token_is_refused_everywhere(place, alice) -> None:
    before = state()
    place.simulator.log.clear()
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    strict.force_login(alice)
    for name in names():
        for headers in ({}, HTMX, {"X-CSRFToken": "x" * 64}, {"Origin": "https://evil.example"}):
            answer = strict.post(address(place, name), {"title": "x", "model": "x"}, headers=headers)
            assert answer.status_code == 403, f"{name} {headers}: {answer.status_code}"
        for method in ("put", "patch", "delete"):
            assert getattr(strict, method)(address(place, name)).status_code == 403, name
    assert state() == before and place.simulator.log == []


@pytest.mark.parametrize("name", OURS)
def test_s13_what_only_posts_can_do_is_405_for_a_get(place, client, name: str) -> None:
    one = client.get(address(place, name))
    two = client.get(address(place, name), headers=HTMX)
    assert (one.status_code == 405) == (two.status_code == 405)
    if one.status_code == 405:
        assert "POST" in one.headers["Allow"]


def test_s13_with_its_token_a_post_is_taken(place, alice) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    page = strict.get(reverse("account_list")).content.decode()
    token = page.split('"X-CSRFToken": "')[1].split('"')[0]
    assert strict.post(reverse("account_pause", args=[place.account.pk]), headers=HTMX | {"X-CSRFToken": token}).status_code == 200
    assert Account.objects.get(pk=place.account.pk).paused_at


def test_s13_nothing_is_exempt() -> None:
    sources = [path for part in ("accounts", "conversations", "config") for path in (ROOT / part).rglob("*.py")]
    assert sources and [path.name for path in sources if "csrf_exempt" in path.read_text(encoding="utf-8")] == []
