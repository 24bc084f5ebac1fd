"""What every page of jobs says of one: its bar, its counts, its sentence, its tabs. Decides nothing and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from accounts.explain import sentences

from . import progress
from .models import Job, JobState
from .states import ItemStatus

MAIN = ("applied", "unchanged", "not_applied", "failed", "unknown")  # always shown, the others when there are any
SHOWN = (*MAIN, "conflict", "skipped", "cancelled", "waiting", "running", "pending")
LABELS: dict[str, str | Promise] = {**{status.value: status.label for status in ItemStatus}, "unknown": gettext_lazy("Unknown")}


@dataclass(slots=True)
class Tab:
    """One filter of the items: what it shows, how many, where it leads."""

    key: str
    label: str | Promise
    count: int
    css: str
    url: str
    active: bool


def segments(job: Job) -> list[dict[str, Any]]:
    """Returns the parts of a job's bar; those without items are left out, and while it runs what its preview left out."""
    counts = job.counts
    if job.open:
        counts["skipped"] -= progress.left_out(job)
    return [{"label": LABELS[name], "count": count, "css": name} for name in SHOWN if (count := counts[name])]


def counted(job: Job) -> str:
    """Returns the counts that are not zero as one text, such as "124 applied, 176 not started"."""
    texts = {
        "applied": _("%(count)s applied"),
        "unchanged": _("%(count)s no change"),
        "not_applied": _("%(count)s accepted but not applied"),
        "failed": _("%(count)s failed"),
        "unknown": _("%(count)s unknown"),
        "conflict": _("%(count)s changed meanwhile"),
        "skipped": _("%(count)s skipped"),
        "cancelled": _("%(count)s not started"),
        "waiting": _("%(count)s waiting"),
        "running": _("%(count)s running"),
        "pending": _("%(count)s pending"),
    }
    parts = [texts[name] % {"count": f"{job.counts[name]:,}"} for name in SHOWN if job.counts[name]]
    return pgettext("between counts", ", ").join(parts)


def sentence(job: Job) -> str:
    """Returns where a job stands, as one truthful sentence."""
    values = {"counts": counted(job)}
    state = job.state
    if state == JobState.CANCELLED:
        return _("Cancelled: %(counts)s.") % values
    if state in (JobState.DONE, JobState.DONE_WITH_FAILURES):
        decide = ngettext("%(count)s needs a decision.", "%(count)s need a decision.", job.n_conflict) % {"count": f"{job.n_conflict:,}"}
        return sentences(_("Done: %(counts)s.") % values, decide if job.n_conflict else "")
    done, total = progress.done_of(job)
    return _("%(done)s of %(total)s done") % {"done": f"{done:,}", "total": f"{total:,}"}


def spoken(job: Job, *, offline: bool = False) -> str:
    """Returns what a screen reader hears of the progress."""
    if not job.open:
        return sentence(job)
    parts = [sentence(job)]
    if job.problems:
        parts.append(_("%(count)s with problems") % {"count": f"{job.problems:,}"})
    if offline:
        parts.append(_("no worker is online"))
    return pgettext("between counts", ", ").join(parts)


def duration(seconds: float) -> str:
    """Returns a span of time in words that are short enough for a table: 0.4 s, 12 s, 3 min, 2 h."""
    if seconds < 10:
        return _("%(n)s s") % {"n": f"{max(seconds, 0.1):.1f}"}
    if seconds < 100:
        return _("%(n)s s") % {"n": round(seconds)}
    if seconds < 6000:
        return _("%(n)s min") % {"n": round(seconds / 60)}
    return _("%(n)s h") % {"n": round(seconds / 3600)}
