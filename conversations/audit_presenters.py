"""What the page of the audit log shows: entries with names instead of ids, and links to what may be seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext

from accounts.labels import COLOURS
from accounts.models import Role, ShareLevel
from accounts.presenters import provider_mark
from accounts.providers import all_providers

from . import audit
from .audit_forms import AuditFilterForm
from .item_values import Names, Part, Value, setting
from .job_presenters import LABELS
from .models import AuditEntry, Conversation, Job
from .states import REASONS, ItemStatus, counter_of

# Names of values that no provider declares, and of those among them that are a choice.
_WORDS: dict[str, Any] = {
    "changes": _("Conversations"),
    "kind": _("File"),
    "status": _("Status"),
    "role": _("Role"),
    "level": _("Access"),
    "name": _("Name"),
    "label": _("Label"),
    "labels": _("Labels"),
    "colour": _("Colour"),
    "note": _("Note"),
    "base_url": _("Base URL"),
    "concurrency": _("Requests at once"),
    "rate": _("Requests per second"),
    "provider": _("Provider"),
    "imported": _("Imported"),
    "refused": _("Refused"),
    "rows": _("Conversations"),
    "limit": _("Limit"),
    "operator_limit": _("Limit of operators"),
    "admin_limit": _("Limit of admins"),
    "issuer": _("OpenID Connect provider"),
    "login": _("Login"),
    **LABELS,
}
_CHOICES: dict[str, dict[str, Any]] = {
    "role": dict(Role.choices),
    "level": dict(ShareLevel.choices),
    "colour": COLOURS,
    "provider": {provider.key: provider.name for provider in all_providers()},
    "status": LABELS,
}
# Of a value that is not set.
_MEANING: dict[str, Any] = {name: _("the provider's own") for name in ("concurrency", "rate")}
_MEANING |= {name: _("no limit") for name in ("operator_limit", "admin_limit")}


@dataclass(slots=True)
class AuditRow:
    """One entry as the table shows it; `parts`, `before` and `after` are what jobs/_change.html takes."""

    entry: AuditEntry
    what: str
    status: str = ""
    label: Any = ""
    reason: Any = ""
    mark: dict[str, Any] | None = None
    title: str = ""
    linked: bool = False  # whether the reader may open the conversation
    job_linked: bool = False
    before: Value | None = None
    after: Value | None = None
    parts: list[Part] = field(default_factory=list)
    found: Value | None = None


def _values(stored: Any) -> dict[str, Any]:
    if stored is None:
        return {}
    if not isinstance(stored, Mapping):
        return {"": stored}
    return dict(stored)


def _plain(name: str, stored: Any) -> Value:
    """Returns a value that no provider declares as people read it: the name of a choice, words one after the other, else as it is."""
    known = _CHOICES.get(name, {})
    if name in _MEANING and stored is None:
        return Value(str(_MEANING[name]), muted=True)
    if isinstance(stored, list) and all(isinstance(word, str) for word in stored):
        return setting(None, pgettext("between counts", ", ").join(str(known.get(word, word)) for word in stored))
    if isinstance(stored, str):
        return setting(None, str(known.get(stored, stored)))
    return setting(None, json.dumps(stored, ensure_ascii=False) if isinstance(stored, dict | list) else stored)


def _row(entry: AuditEntry, names: Names, conversations: dict[int, str], jobs: set[int]) -> AuditRow:
    row = AuditRow(entry, audit.name_of(entry.what), job_linked=entry.job_id in jobs, linked=entry.conversation_id in conversations)
    row.title = conversations.get(entry.conversation_id or 0, "") or entry.remote_id
    if entry.result:
        row.status = counter_of(ItemStatus(entry.result), entry.reason)
        row.label = LABELS[row.status]
    row.reason = REASONS.get(entry.reason, entry.reason)
    before, after = _values(entry.before), _values(entry.after)
    account = entry.account
    if account is not None:
        row.mark = provider_mark(account)
    if account is not None and entry.remote_id:  # of a conversation: its provider declares the values
        row.parts = names.parts(account, before, after, {})
        if not row.parts:
            row.before, row.after = names.value(account, before), names.value(account, after)
        for part in row.parts:
            part.label = str(_WORDS.get(part.label, part.label))
    else:
        sides = [{name: _plain(name, side[name]) for name in side} for side in (before, after)]
        row.parts = [Part(str(_WORDS.get(name, name)), sides[0].get(name), sides[1].get(name), None) for name in {**before, **after}]
    return row


def rows_of(request: HttpRequest, entries: list[AuditEntry]) -> list[AuditRow]:
    """Returns the rows of one page, in a few statements however many there are."""
    names = Names([entry for entry in entries if entry.account_id])
    mine = Conversation.objects.visible_to(request.user).filter(pk__in={entry.conversation_id for entry in entries if entry.conversation_id})
    conversations = dict(mine.order_by().values_list("pk", "title"))
    seen = Job.objects.visible_to(request.user).filter(pk__in={entry.job_id for entry in entries if entry.job_id})
    jobs = set(seen.order_by().values_list("pk", flat=True))
    return [_row(entry, names, conversations, jobs) for entry in entries]


def _with(request: HttpRequest, name: str, value: int | None) -> str:
    if value is None:
        return ""
    given = request.GET.copy()
    for other in ("older", "newer"):
        given.pop(other, None)
    given[name] = str(value)
    return f"{request.path}?{given.urlencode()}"


def context(request: HttpRequest, form: AuditFilterForm, found: audit.AuditPage) -> dict[str, Any]:
    """Returns what the page shows."""
    given = request.GET.copy()
    for name in ("older", "newer", *[name for name, values in request.GET.lists() if not any(values)]):
        given.pop(name, None)
    days = [form["since"], form["until"]]
    return {
        "form": form,
        "selects": [form["what"], form["result"], form["account"]],
        "texts": [form["job"], form["conversation"]],
        "days": days,
        "day_errors": any(day.errors for day in days),
        "rows": rows_of(request, found.entries),
        "filtered": bool(form.active) or not form.is_valid(),
        "newer_url": _with(request, "newer", found.newer),
        "older_url": _with(request, "older", found.older),
        "query": "?" + given.urlencode() if given else "",
    }
