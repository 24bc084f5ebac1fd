"""How honest an account's provider is: of the writes that it accepted lately, how many it really applied."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Account

from .models import AuditEntry, Result

DAYS = 30
# By the values that a write touched, as the audit entries name them.
KINDS: dict[str, Any] = {"model": _("Model"), "title": _("Title"), "": _("Settings")}


@dataclass(frozen=True, slots=True)
class Writes:
    """Writes of one kind that the provider accepted: how many, and how many of them it applied."""

    kind: Any
    applied: int
    accepted: int

    @property
    def lied(self) -> int:
        """Those that were accepted and not applied."""
        return self.accepted - self.applied


def writes_of(account: Account, now: datetime | None = None) -> list[Writes]:
    """Returns what became of an account's writes of the last 30 days, by kind, those without any left out."""
    since = (now or timezone.now()) - timedelta(days=DAYS)
    accepted = AuditEntry.objects.filter(account=account, at__gte=since, result__in=[Result.APPLIED, Result.NOT_APPLIED], before__isnull=False)
    accepted = accepted.exclude(remote_id="")  # what is done with the account itself goes to no provider
    counts: Counter[tuple[str, bool]] = Counter()
    for before, result in accepted.order_by().values_list("before", "result").iterator(chunk_size=5000):
        for kind in {name if name in KINDS else "" for name in before or ()}:
            counts[kind, result == Result.APPLIED] += 1
    found = [Writes(label, counts[kind, True], counts[kind, True] + counts[kind, False]) for kind, label in KINDS.items()]
    return [writes for writes in found if writes.accepted]
