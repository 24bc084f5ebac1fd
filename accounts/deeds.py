"""What people do with accounts and teams, told to the audit log: inside the transaction of the change, and only what really changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from . import signals
from .models import Account, Team, User


def tell(
    actor: User,
    what: str,
    *,
    account: Account | None = None,
    team: Team | None = None,
    note: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Says that somebody did something; `before` and `after` are values by their names, and never of a credential."""
    signals.deed.send(sender=Account, actor=actor, what=what, team=team, account=account, note=note, before=before, after=after)


def change(account: Account, what: str, values: Mapping[str, Any], by: User) -> bool:
    """Stores values of an account's columns in the name of `by` and tells those that differ from what was stored; returns whether any did."""
    with transaction.atomic():
        row = Account.objects.filter(pk=account.pk)
        stored = row.select_for_update(no_key=True).values(*values).first()
        changed = {name: value for name, value in values.items() if stored is not None and stored[name] != value}
        if stored is None or not changed:
            return False
        row.update(**changed)
        for name, value in changed.items():
            setattr(account, name, value)
        tell(by, what, account=account, before={name: stored[name] for name in changed}, after=changed)
    return True
