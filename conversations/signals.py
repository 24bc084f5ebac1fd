"""What follows here from what happens to accounts: a new credential starts a reading, a pause lets items wait, lost access ends them."""

from __future__ import annotations

from typing import Any

from accounts.models import Account, Team, User
from accounts.signals import (
    access_changed,
    account_check_due,
    account_connected,
    account_leaving,
    account_paused,
    account_resumed,
    deed,
)

from . import access, breakers, leases, mirror, wake
from .models import AuditEntry, JobItem, Result
from .states import ItemStatus, transition_all


def read_soon(account: Account) -> None:
    """Asks for a reading of an account, unless it is paused or being read already."""
    if account.paused_at is None and mirror.request_sync(account):
        wake.sync(account.pk)


def on_connected(account: Account, *, replaced: bool, **_more: Any) -> None:
    """A credential that works: read the conversations, and go on with the items that waited for it."""
    if replaced:
        leases.unpark(account, "account_needs_reauth")
        wake.lane(account.pk)
    read_soon(account)


def on_paused(account: Account, **_more: Any) -> None:
    """No reads and no writes: the items of running jobs wait, a reading stops after its page."""
    leases.park(account, "account_paused")
    mirror.cancel_sync(account)


def on_resumed(account: Account, **_more: Any) -> None:
    """The items go on in their jobs, and our copy is brought up to date."""
    leases.unpark(account, "account_paused")
    wake.lane(account.pk)
    read_soon(account)


def on_leaving(account: Account, *, by: User, **_more: Any) -> None:
    """Ends the open items of an account that is being deleted, so that the jobs they belong to can end, and records who deleted it."""
    leases.fence(account.pk)
    items = JobItem.objects.filter(account=account)
    # What was sent, or is this moment, may arrive or not, and nobody can look any more.
    sent = items.filter(before__isnull=False)
    transition_all(sent, ItemStatus.PENDING, ItemStatus.WAITING)
    for status in (ItemStatus.RUNNING, ItemStatus.WAITING):
        transition_all(sent, status, ItemStatus.FAILED, reason="outcome_unknown")
    transition_all(items, ItemStatus.RUNNING, ItemStatus.PENDING)
    for status in (ItemStatus.PENDING, ItemStatus.WAITING):
        transition_all(items, status, ItemStatus.CANCELLED)
    AuditEntry.objects.create(actor=by, actor_name=str(by), account_label=account.label, what="delete account", result=Result.APPLIED)


def on_access_changed(accounts: list[Any], **_more: Any) -> None:
    """Somebody may have lost an account: what their jobs still had to do there ends."""
    access.withdraw(accounts)


def on_deed(actor: User, what: str, team: Team | None, account: Account | None, **more: Any) -> None:
    """Writes down what somebody did with an account or a team."""
    AuditEntry.objects.create(
        actor=actor,
        actor_name=str(actor)[:200],
        team=team,
        account=account,
        account_label=account.label if account else "",
        what=what,
        result=Result.APPLIED,
        before=more.get("before"),
        after=more.get("after"),
        note=more.get("note", "")[:300],
    )


def on_check_due(account: Account, **_more: Any) -> bool:
    """Nothing but probes goes to a host that is out of order."""
    return breakers.held(breakers.host_of(account)) is not None


def connect() -> None:
    """Connects the receivers; called once, when the app is ready."""
    account_connected.connect(on_connected, dispatch_uid="conversations.connected")
    account_paused.connect(on_paused, dispatch_uid="conversations.paused")
    account_resumed.connect(on_resumed, dispatch_uid="conversations.resumed")
    account_leaving.connect(on_leaving, dispatch_uid="conversations.leaving")
    access_changed.connect(on_access_changed, dispatch_uid="conversations.access_changed")
    deed.connect(on_deed, dispatch_uid="conversations.deed")
    account_check_due.connect(on_check_due, dispatch_uid="conversations.check_due")
