"""What the list of jobs shows. Decides nothing and writes nothing."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from . import retention
from .job_presenters import Tab, counted, segments, sentence
from .models import NOT_STARTED, Job, Order
from .row_presenters import PAGE_SIZE, number, query_of

TABS = ("running", "approval", "previews", "finished")


def _list_row(job: Job) -> dict[str, Any]:
    at = job.finished_at or job.started_at or job.created_at
    selected = ngettext("%(count)s conversation", "%(count)s conversations", job.total) % {"count": f"{job.total:,}"}
    counts = selected if job.order in NOT_STARTED else counted(job)
    return {"job": job, "segments": segments(job), "sentence": sentence(job), "counts": counts, "at": at, "kept_until": retention.kept_until(job)}


def list_context(visible: QuerySet[Job], given: QueryDict) -> dict[str, Any]:
    """Returns the context of the list of jobs: one tab of it, newest first."""
    sets = {
        "running": visible.live(),  # type: ignore[attr-defined]
        "approval": visible.filter(order=Order.ASK),
        "previews": visible.filter(order=Order.DRAFT),
        "finished": visible.filter(finished_at__isnull=False),
    }
    counts = {name: rows.count() for name, rows in sets.items()}
    chosen = given.get("tab", "")
    if chosen not in TABS:
        chosen = next((name for name in ("running", "approval", "finished", "previews") if counts[name]), "running")
    shown = [name for name in TABS if name != "approval" or counts[name] or name == chosen]
    labels = {"running": _("Running"), "approval": _("Needs approval"), "previews": _("Previews"), "finished": _("Finished")}
    address = reverse("job_list")
    before = number(given.get("before", ""))
    rows = sets[chosen].select_related("actor")
    found = list((rows.filter(pk__lt=before) if before else rows).order_by("-pk")[: PAGE_SIZE + 1])
    query = query_of(given, "before")
    return {
        "tabs": [Tab(name, labels[name], counts[name], "", f"{address}?tab={name}", name == chosen) for name in shown],
        "chosen": chosen,
        "any": any(counts.values()),
        "jobs": [_list_row(job) for job in found[:PAGE_SIZE]],
        "newest_url": f"{address}?tab={chosen}" if before else "",
        "older_url": f"{address}?tab={chosen}&before={found[PAGE_SIZE - 1].pk}" if len(found) > PAGE_SIZE else "",
        "live": any(job.is_live for job in found) if chosen == "running" else bool(counts["running"]),
        "poll_url": f"{address}?tab={chosen}{'&' if query else ''}{query}",
    }
