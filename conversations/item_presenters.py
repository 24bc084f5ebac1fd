"""What the panel of one item shows: its values side by side, its explanation, and each run with the requests that were sent for it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.explain import said
from accounts.models import RequestLog
from accounts.request_log import item_subject

from . import explanations
from .context import provider_mark
from .job_presenters import LABELS, duration
from .models import NOT_STARTED, Attempt, Job, JobItem
from .row_presenters import reason_of
from .states import OPEN, ItemStatus, counter_of

S = ItemStatus
RUNS = 20  # the latest ones are shown
REQUESTS = 100  # of one run


@dataclass(slots=True)
class Stage:
    """One value at one moment: "" is an empty one, None is none at all, which `note` may explain."""

    label: str
    text: str | None
    note: str = ""


@dataclass(slots=True)
class FieldValues:
    """One changed field with its value at each moment."""

    label: str
    stages: list[Stage]


@dataclass(slots=True)
class Run:
    """One run of the item: how it ended (while it runs: `status` "running"), by whom, and its requests."""

    number: int
    status: str
    label: Any
    started_at: datetime | None
    took: str = ""
    sentence: Any = ""
    detail: str = ""
    http_status: int | None = None
    worker: str = ""
    requests: list[RequestLog] = field(default_factory=list)
    more: int = 0  # requests that are not shown
    forgotten: bool = False  # older than the log


def item_context(job: Job, item: JobItem, *, may_edit: bool) -> dict[str, Any]:
    """Returns the context of the panel of one item."""
    status = S(item.status)
    shown = counter_of(status, item.reason)
    explanation = explanations.explain(status, item.reason, happened=reason_of(job, item))
    detail = said(item.detail)
    return {
        "job": job,
        "item": item,
        "mark": provider_mark(item.account),
        "status": shown,
        "label": LABELS[shown],
        "explanation": explanation,
        "detail": "" if detail == explanation.happened else detail,
        "fields": fields_of(item),
        "runs": runs_of(item),
        "earlier": max(0, item.attempts - RUNS),
        "draft": job.order in NOT_STARTED,
        "address": reverse("job_item", args=[job.pk, item.pk]),
        "polled": job.order not in NOT_STARTED and status in OPEN and job.is_live,
        "may_retry": may_edit and job.order not in NOT_STARTED and status in (S.FAILED, S.NOT_APPLIED),
        "may_decide": may_edit and job.order not in NOT_STARTED and status == S.CONFLICT,
        "kept_days": settings.REQUESTS_KEPT_DAYS,
    }


# --- values ---------------------------------------------------------------------------------------------------------------------------


def fields_of(item: JobItem) -> list[FieldValues]:
    """Returns every field that the item is about, each with its values from the preview to the end."""
    stages = [
        (_("In the preview"), item.expected, ""),
        (_("Before our write"), item.before, _("nothing was written") if item.status not in OPEN else ""),
        (_("Wanted"), item.target, ""),
        (_("Stored afterwards"), item.after, ""),
    ]
    names = dict.fromkeys(name for _label, values, _note in stages for name in values or ())
    labels = {entry.name: said(entry.label) for entry in item.account.provider.config_fields} | {"title": _("Title"), "model": _("Model")}
    models = dict(item.account.catalogue.values_list("model_id", "name")) if "model" in names else {}
    return [
        FieldValues(
            str(labels.get(name, name)),
            [Stage(label, _shown(item, name, values, models), note) for label, values, note in stages],
        )
        for name in names
    ]


def _shown(item: JobItem, name: str, values: Mapping[str, Any] | None, models: Mapping[str, str]) -> str | None:
    if values is None or name not in values:
        return None
    value = values[name]
    if name == "model":
        ids = item.account.provider.models_in(value)
        names = " + ".join(models.get(model, model) for model in ids)
        return f"{names} ({value})" if names and names != str(value) else names
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- runs -----------------------------------------------------------------------------------------------------------------------------


def runs_of(item: JobItem) -> list[Run]:
    """Returns the latest runs of an item, the newest first, and the one under way where there is one."""
    ended = list(item.runs.order_by("-number", "-pk")[:RUNS])
    runs = [_ended(run) for run in ended]
    if item.status == S.RUNNING:
        runs.insert(0, Run(item.attempts + 1, S.RUNNING, LABELS["running"], None, sentence=explanations.explain(S.RUNNING, "").happened))
    requests = _requests(item, [run.number for run in runs])
    seen: set[int] = set()
    for run in runs:
        if run.number in seen:
            continue  # a run that was noted twice shows its requests once
        seen.add(run.number)
        found = requests[run.number]
        run.requests, run.more = found[:REQUESTS], max(0, len(found) - REQUESTS)
        run.forgotten = not found and run.started_at is not None and run.started_at < timezone.now() - timedelta(days=settings.REQUESTS_KEPT_DAYS)
    return runs


def _ended(run: Attempt) -> Run:
    status = S(run.status)
    shown = counter_of(status, run.reason)
    again = status == S.PENDING
    sentence, detail = explanations.of_run(status, run.reason), said(run.detail)
    return Run(
        run.number,
        status if again else shown,
        _("To be tried again") if again else LABELS[shown],
        run.started_at,
        duration(max(0.0, (run.ended_at - run.started_at).total_seconds())),
        sentence,
        "" if detail == sentence else detail,
        run.http_status,
        _worker(run.lease),
    )


def _worker(lease: str) -> str:
    """Returns host and process of a lease's name."""
    return lease.rpartition(":")[0]


def _requests(item: JobItem, numbers: list[int]) -> dict[int, list[RequestLog]]:
    subjects = {item_subject(item.pk, number): number for number in numbers}
    found: dict[int, list[RequestLog]] = defaultdict(list)
    rows = RequestLog.objects.filter(account_id=item.account_id, subject__in=subjects).order_by("subject", "at", "pk")
    for row in rows[: 5 * REQUESTS]:
        found[subjects[row.subject]].append(row)
    return found
