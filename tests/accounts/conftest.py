from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from tests.conversations.conftest import alice, begin, connected, serve
from tests.simulators import kit
from tests.simulators.oidc import Issuer

from .signing import Clock

__all__ = ["alice", "begin", "connected", "serve"]


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser, as far as Django's test client is one."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def provider(settings: Any) -> Iterator[Issuer]:
    """A provider of logins that this installation is configured for."""
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
