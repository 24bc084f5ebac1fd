"""What the page of a running or ended job shows. Decides nothing and writes nothing."""

from __future__ import annotations

import secrets
from typing import Any

from django.db.models import Count, Q
from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import Account, User

from . import canary, canary_presenters, jobs, progress, retention, undo, workers
from .job_presenters import LABELS, MAIN, SHOWN, Tab, duration, segments, sentence, spoken
from .models import COUNTERS, Job
from .row_presenters import item_page, query_of, with_query
from .states import REASONS, ItemStatus

STATUS_FILTERS: dict[str, Q] = {
    **{status.value: Q(status=status) for status in ItemStatus},
    "failed": Q(status=ItemStatus.FAILED) & ~Q(reason="outcome_unknown"),
    "unknown": Q(status=ItemStatus.FAILED, reason="outcome_unknown"),
}


def waits(job: Job, user: User) -> list[dict[str, Any]]:
    """Returns for which accounts, and why, items of a job wait for a person, and whether only a new credential helps, which this one may paste."""
    if not job.n_waiting:
        return []
    waiting = job.shown.filter(status=ItemStatus.WAITING).exclude(reason__in=canary.HELD)
    rows = waiting.order_by().values("account_id", "reason").annotate(count=Count("pk"))
    accounts = Account.objects.in_bulk({row["account_id"] for row in rows})
    owned = set(Account.objects.owned_by(user).filter(pk__in=accounts).values_list("pk", flat=True))
    return [
        {
            "account": accounts[row["account_id"]],
            "count": row["count"],
            "reason": REASONS.get(row["reason"], ""),
            "locked": row["reason"] == "account_needs_reauth",
            "owned": row["account_id"] in owned,
        }
        for row in rows
    ]


def live_context(job: Job, given: QueryDict, user: User) -> dict[str, Any]:
    """Returns the context of a started job: its numbers from its own row, and one page of its items."""
    status = given.get("status", "")
    status = status if status in COUNTERS else ""
    detail = reverse("job_detail", args=[job.pk])
    names = [name for name in SHOWN if name in MAIN or job.counts[name] or name == status]
    tabs = [Tab("", _("All"), job.total, "", detail, not status)]
    tabs += [Tab(name, LABELS[name], job.counts[name], name, f"{detail}?status={name}", name == status) for name in names]
    items = job.shown.filter(STATUS_FILTERS[status]) if status else job.shown.all()
    per_minute = round(jobs.pace(job) or 0) if job.is_live else 0
    query = query_of(given, "status", "after", "before")
    stuck = job.n_pending + job.n_running  # those under way too: nobody is left to take them over
    offline = job.is_live and stuck > 0 and not workers.online()
    return {
        "job": job,
        "tabs": tabs,
        "chosen": status,
        "page": item_page(job, items, given, job.counts[status] if status else job.total, f"status={status}" if status else ""),
        "segments": segments(job),
        "sentence": sentence(job),
        "spoken": spoken(job, offline=offline),
        "percent": progress.percent(job),
        "per_minute": per_minute,
        "eta": duration(eta) if (eta := jobs.eta_seconds(job, per_minute)) is not None else "",
        "took": duration((job.finished_at - job.started_at).total_seconds()) if job.finished_at and job.started_at else "",
        "undoable": undo.undoable(job),
        "retryable": job.n_failed + job.n_unknown + job.n_not_applied,
        "waits": waits(job, user),
        "trials": canary_presenters.trial_rows(job),
        "kept_until": retention.kept_until(job),
        "again_key": secrets.token_hex(16),
        "undo_key": secrets.token_hex(16),
        "offline": offline,
        "stuck": stuck,
        "last_worker": workers.last_seen() if offline else None,
        "query": query,
        "poll_url": with_query(detail, query),
    }
