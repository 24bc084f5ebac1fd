from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import User
from tests.conversations.conftest import alice, begin, connected, serve

__all__ = ["alice", "begin", "connected", "serve"]


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser, as far as Django's test client is one."""
    client = Client()
    client.force_login(alice)
    return client
