"""What the tests of this app share: a user, an account at a served simulator, and short ways to its conversations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from accounts import services
from accounts.models import Account, User
from accounts.signals import account_connected, deed
from conversations import mirror, signals
from conversations.models import Conversation
from tests.simulators.kit import Simulator

FAST = 5000.0  # requests a second: tests do not wait for the pace that is kept with a real provider
PASSWORD = "a long enough password"


def make_user(email: str = "alice@example.com") -> User:
    """Returns a user with a personal team."""
    return User.objects.create_user(email, PASSWORD)


def make_account(
    owner: User, simulator: Simulator, url: str, *, label: str = "", credentials: dict[str, Any] | None = None, rate: float = FAST
) -> Account:
    """Returns an account at a served simulator, tested and stored as the product does it."""
    kind = services.get_provider(simulator.key)
    document = services.clean_credentials(kind, credentials or simulator.credential())
    with pytest.MonkeyPatch.context() as hurried:
        hurried.setattr(kind, "pace", replace(kind.pace, rate=FAST))
        report = services.test_credentials(simulator.key, url, document)
    assert report.error is None, report.error
    with unread():
        account = services.add_account(owner, simulator.key, label or f"{simulator.key} one", url, document, report=report)
    Account.objects.filter(pk=account.pk).update(rate=rate)
    account.refresh_from_db()
    return account


@contextmanager
def unread() -> Iterator[None]:
    """Keeps new accounts from being handed to a worker at once and from the audit log: these tests say themselves what is done when."""
    account_connected.disconnect(dispatch_uid="conversations.connected")
    deed.disconnect(dispatch_uid="conversations.deed")
    try:
        yield
    finally:
        signals.connect()


def synced(account: Account) -> Account:
    """Reads an account's conversations to the end and returns it."""
    mirror.sync(account)
    account.refresh_from_db()
    return account


def row(account: Account, remote_id: str) -> Conversation:
    """Returns the row of a remote conversation."""
    return account.conversations.select_related("account").get(remote_id=remote_id, gone_at__isnull=True)
