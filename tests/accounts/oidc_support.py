"""A provider of logins, and the way to it and back: what the tests of OpenID Connect begin with."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from allauth.socialaccount.models import SocialAccount
from django.conf import settings as django_settings
from django.test import Client

from accounts.models import User
from conversations.models import AuditEntry
from tests.simulators.oidc import Issuer

from .support import text

LOGIN, CALLBACK, CONFIRM, CONNECT = "/auth/oidc/", "/auth/oidc/callback/", "/auth/confirm/oidc/", "/me/security/oidc/connect/"
SENSITIVE = "/me/security/app/on/"  # a page of the sign-in library that needs a recent proof


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
