"""What one person may do with which account: the one place that views and templates ask."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _

from .models import Account

READ_ONLY = _("You may read what is in this account, but not change it.")

M = TypeVar("M", bound=Model)


class Rights:
    """A person's rights on accounts, read once for a page: `may_edit` decides on every control that changes something, `may_own` on the owner's."""

    def __init__(self, user: Any) -> None:
        self.user = user

    @cached_property
    def editable(self) -> frozenset[Any]:
        """Ids of the accounts through which this person may change conversations."""
        return frozenset(Account.objects.editable_by(self.user).values_list("pk", flat=True))

    @cached_property
    def only_seen(self) -> bool:
        """True when this person sees an account that they may not use."""
        return Account.objects.visible_to(self.user).exclude(pk__in=self.editable).exists()

    def may_edit(self, account_id: Any) -> bool:
        """True when this person may change conversations of an account."""
        return account_id in self.editable

    def may_own(self, account: Account) -> bool:
        """True when an account is this person's: replacing its credential, sharing and deleting it is theirs alone."""
        return bool(account.owner_id == self.user.pk and self.user.is_active)


def find(allowed: QuerySet[M], visible: QuerySet[M], **lookup: Any) -> M:
    """Returns a row that may be acted on; raises PermissionDenied for one that may only be seen, Http404 for one that may not even be seen."""
    found = allowed.filter(**lookup).first()
    if found is not None:
        return found
    get_object_or_404(visible, **lookup)
    raise PermissionDenied
