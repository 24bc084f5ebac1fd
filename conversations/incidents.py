"""Incidents as people read them: what happened at a provider's host, when, and what of theirs it held up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import explain
from accounts.models import Account, User

from . import breakers
from .job_presenters import duration
from .lane_board import clock
from .models import Incident, Job

TIME = "%Y-%m-%d %H:%M:%S"


def visible_to(user: User) -> QuerySet[Incident]:
    """Returns the incidents at hosts where this person sees an account."""
    hosts = {breakers.host_of(account) for account in Account.objects.visible_to(user).only("base_url")}
    return Incident.objects.filter(host__in=hosts)


@dataclass(slots=True)
class Entry:
    """One line of a timeline."""

    at: datetime
    code: str
    text: str


@dataclass(slots=True)
class HeldJob:
    """A job that an incident held up: how much of it waited, and how it stands now."""

    job: Job
    held: int
    waits: int  # still

    @property
    def failed(self) -> int:
        """Items of the job that failed, for whatever reason."""
        return self.job.n_failed + self.job.n_unknown


def cause_of(text: str, *, short: bool = False) -> str:
    """Returns the cause of an incident in words: the sentence, and the provider's own; `short` leaves the sentence out where there are others."""
    error = explain.unpack(text)
    if error is None:
        return ""
    words = explain.explain(error)
    if short and words["detail"]:
        return words["detail"].rstrip(".")
    return " · ".join(filter(None, [words["sentence"].rstrip("."), words["detail"]]))


def held_jobs(incident: Incident, user: User) -> list[HeldJob]:
    """Returns the jobs of this person that the incident holds or held up, the latest first."""
    held: dict[int, int] = {}
    for _at, code, detail in incident.events:
        if code == "held":
            for key, count in detail.items():
                held[int(key)] = max(held.get(int(key), 0), count)
    now = {} if incident.ended_at else {int(key): count for key, count in breakers.held_jobs(incident.host).items()}
    for key, count in now.items():
        held[key] = max(held.get(key, 0), count)
    jobs = Job.objects.visible_to(user).filter(pk__in=held).order_by("-pk")
    return [HeldJob(job, held[job.pk], now.get(job.pk, 0)) for job in jobs]


def timeline(incident: Incident, mine: set[int]) -> list[Entry]:
    """Returns what happened in order; of what was held, the part that the reader may see."""
    found = []
    for at, code, detail in incident.events:
        moment = parse_datetime(at)
        if moment is None:
            continue
        if code in ("held", "resumed"):
            count = sum(number for key, number in detail.items() if int(key) in mine)
            text = _held_text(count) if code == "held" else _resumed_text(count)
        else:
            text = _event_text(code)
            if cause := cause_of(detail, short=True) if code != "probe_ok" else "":
                text = _("%(event)s (%(cause)s)") % {"event": text, "cause": cause}
        if text:
            found.append(Entry(moment, code, text))
    return found


def _event_text(code: str) -> str:
    return {
        "opened": _("Nearly every call failed: the lanes at this host are held"),
        "reopened": _("The calls failed again: the lanes are held once more"),
        "probe_failed": _("A probe found it still out of order"),
        "probe_ok": _("A probe was answered: the incident is over"),
    }.get(code, code)


def _held_text(count: int) -> str:
    return ngettext("%(count)s conversation waits", "%(count)s conversations wait", count) % {"count": f"{count:,}"} if count else ""


def _resumed_text(count: int) -> str:
    if not count:
        return _("The lanes resume one after the other")
    left = ngettext("%(count)s conversation is left", "%(count)s conversations are left", count) % {"count": f"{count:,}"}
    return _("The lanes resume one after the other: %(left)s") % {"left": left}


def lasted(incident: Incident) -> str:
    """Returns how long an incident has lasted."""
    return duration(max(0.0, ((incident.ended_at or timezone.now()) - incident.opened_at).total_seconds()))


def report(incident: Incident, jobs: list[HeldJob], entries: list[Entry]) -> str:
    """Returns "what happened" as plain text, to be pasted into a message."""
    values = {
        "host": incident.host,
        "begin": timezone.localtime(incident.opened_at).strftime(f"{TIME} %Z"),
        "end": timezone.localtime(incident.ended_at).strftime(f"{TIME} %Z") if incident.ended_at else "",
        "lasted": lasted(incident),
        "cause": cause_of(incident.cause),
    }
    when = _("%(host)s was out of order from %(begin)s to %(end)s (%(lasted)s).") if values["end"] else _("%(host)s is out of order since %(begin)s.")
    lines = [when % values]
    if values["cause"]:
        lines.append(_("Cause: %(cause)s") % values)
    calls = {"failures": f"{incident.failures:,}", "probes": f"{incident.probes:,}"}
    lines.append(_("Failed calls: %(failures)s. Probes while it was held: %(probes)s.") % calls)
    for row in jobs:
        about = {"job": str(row.job), "action": row.job.get_action_display(), "count": f"{row.held:,}"}
        lines.append(_("%(job)s (%(action)s): %(count)s held, none failed by holding them.") % about)
    if not jobs:
        lines.append(_("None of your jobs was held up."))
    lines += ["", *(f"{timezone.localtime(entry.at).strftime(TIME)}  {entry.text}" for entry in entries)]
    return "\n".join(lines)


def context(incident: Incident, user: User) -> dict[str, Any]:
    """Returns what the page of an incident shows."""
    jobs = held_jobs(incident, user)
    entries = timeline(incident, {row.job.pk for row in jobs})
    left = (incident.next_probe_at - timezone.now()).total_seconds() if incident.next_probe_at else 0.0
    return {
        "incident": incident,
        "cause": cause_of(incident.cause),
        "lasted": lasted(incident),
        "jobs": jobs,
        "waits": sum(row.waits for row in jobs),
        "entries": entries,
        "report": report(incident, jobs, entries),
        "accounts": breakers.accounts_at(incident.host).visible_to(user),  # type: ignore[attr-defined]
        "seconds": max(0.0, left),
        "countdown": clock(left),
    }


def list_context(user: User) -> dict[str, Any]:
    """Returns what the list of incidents shows: the open ones, then the past ones, the latest first."""
    rows = [{"incident": row, "cause": cause_of(row.cause), "lasted": lasted(row)} for row in visible_to(user).order_by("-opened_at")[:100]]
    return {"rows": sorted(rows, key=lambda row: row["incident"].ended_at is not None)}
