"""What a job's page shows of the accounts whose first conversations are tried before the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from accounts.models import Account

from . import canary
from .context import provider_mark
from .models import Job
from .states import ItemStatus


@dataclass(slots=True)
class TrialRow:
    """How the first conversations of one account went, and what became of the rest."""

    account: Account
    mark: dict[str, Any]
    text: str
    held: int
    halted: bool


def trial_rows(job: Job) -> list[TrialRow]:
    """Returns the accounts of a job whose first conversations are or were tried before the rest."""
    if not job.canary:
        return []
    held = Q(status=ItemStatus.WAITING, reason__in=canary.HELD)
    counts = {
        "tried": Count("pk", filter=Q(status__in=canary.TRIED)),
        "held": Count("pk", filter=held),
        "halted": Count("pk", filter=held & Q(reason="canary_halted")),
        "not_applied": Count("pk", filter=Q(status=ItemStatus.NOT_APPLIED)),
        "failed": Count("pk", filter=Q(status=ItemStatus.FAILED) & ~Q(reason="outcome_unknown")),
        "unknown": Count("pk", filter=Q(status=ItemStatus.FAILED, reason="outcome_unknown")),
        "conflict": Count("pk", filter=Q(status=ItemStatus.CONFLICT)),
    }
    rows: Any = job.shown.order_by().values("account_id").annotate(**counts)
    rows = [row for row in rows if row["held"]]
    accounts = Account.objects.in_bulk([row["account_id"] for row in rows])
    found = []
    for row in rows:
        account = accounts[row["account_id"]]
        found.append(TrialRow(account, provider_mark(account), _trial_text(job, row), row["held"], bool(row["halted"])))
    return sorted(found, key=lambda row: (not row.halted, row.account.label))


def _trial_text(job: Job, row: Mapping[str, Any]) -> str:
    """Returns "5 of 5 accepted but not applied", or how far the first ones are."""
    texts = {
        "not_applied": _("%(count)s of %(tried)s accepted but not applied"),
        "failed": _("%(count)s of %(tried)s failed"),
        "unknown": _("%(count)s of %(tried)s unknown"),
        "conflict": _("%(count)s of %(tried)s changed meanwhile"),
    }
    if not row["halted"]:
        return _("%(count)s of the first %(first)s done") % {"count": f"{row['tried']:,}", "first": f"{job.canary or 0:,}"}
    parts = [text % {"count": f"{row[name]:,}", "tried": f"{row['tried']:,}"} for name, text in texts.items() if row[name]]
    return pgettext("between counts", ", ").join(parts)
