"""Turns accounts, tests and declared capabilities into what templates show; decides nothing and writes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from . import health
from .access import Rights
from .explain import explain, said, unpack
from .models import Account, AccountQuerySet, Health, SyncState, User
from .providers import all_providers
from .providers.base import Provider
from .providers.errors import ProviderError
from .providers.schema import Field, Op, Scope
from .services import TestReport

COLOURS = 8

OPERATIONS = {
    Op.CHECK: gettext_lazy("Check the credential"),
    Op.LIST: gettext_lazy("List all conversations"),
    Op.SEARCH: gettext_lazy("Search at the provider"),
    Op.READ: gettext_lazy("Read one conversation"),
    Op.MESSAGES: gettext_lazy("Page through messages"),
    Op.FIRST_MESSAGE: gettext_lazy("Read the first message, for titles"),
    Op.MODELS: gettext_lazy("List the models"),
    Op.SWITCH_MODEL: gettext_lazy("Switch the model"),
    Op.RENAME: gettext_lazy("Rename"),
    Op.EDIT_CONFIG: gettext_lazy("Edit settings"),
    Op.GENERATE_TITLE: gettext_lazy("Titles made by the provider"),
}
# What differs from provider to provider, for the cards; the rest all of them can.
TELLING = (Op.LIST, Op.SWITCH_MODEL, Op.RENAME, Op.EDIT_CONFIG, Op.GENERATE_TITLE)
_SCOPES: dict[Scope, tuple[Any, str, str]] = {  # words, tone, icon
    Scope.STORED: (gettext_lazy("Yes"), "green", "check"),
    Scope.SHARED: (gettext_lazy("Shared by several conversations"), "yellow", "users"),
    Scope.PER_MESSAGE: (gettext_lazy("Per message only"), "yellow", "message-2"),
    Scope.NONE: (gettext_lazy("Not available"), "gray", "circle-minus"),
}


# --- providers ----------------------------------------------------------------------------------------------------------------------


def mark_of(provider: type[Provider]) -> dict[str, Any]:
    """Returns letter and stable colour of a provider."""
    colour = zlib.crc32(provider.key.encode()) % COLOURS
    return {"letter": provider.name[0].upper(), "color_index": colour, "provider_name": provider.name}


def provider_mark(account: Account) -> dict[str, Any]:
    """Returns letter and stable colour of an account's provider."""
    return mark_of(account.provider)


def provider_cards() -> list[dict[str, Any]]:
    """Returns every provider with what can be done there in short."""
    return [{"provider": provider, "mark": mark_of(provider), "abilities": _abilities(provider)} for provider in all_providers()]


def _abilities(provider: type[Provider]) -> list[dict[str, Any]]:
    return [{"name": OPERATIONS[op], "can": provider.capability(op).available, "reason": said(provider.capability(op).reason)} for op in TELLING]


def capabilities_of(provider: type[Provider]) -> list[dict[str, Any]]:
    """Returns the whole capability table of a provider: every operation with its reach and the sentence that goes with it."""
    rows = []
    for op, name in OPERATIONS.items():
        capability = provider.capability(op)
        words, tone, icon = _SCOPES[capability.scope]
        note = said(capability.note) if capability.available else said(capability.reason)
        rows.append({"name": name, "words": words, "tone": tone, "icon": icon, "note": note})
    return rows


def models_reason(provider: type[Provider]) -> str:
    """Returns why a provider shows no models, "" where it shows them."""
    capability = provider.capability(Op.MODELS)
    return "" if capability.available else said(capability.reason)


def settings_of(provider: type[Provider]) -> list[dict[str, str]]:
    """Returns the settings that can be edited at a provider, each with its bounds."""
    return [{"name": said(field.label) or field.name, "bounds": _bounds(field)} for field in provider.config_fields]


def _bounds(field: Field) -> str:
    if field.choices:
        return ", ".join(said(label) for _value, label in field.choices)
    low, high = (None if bound is None else f"{bound:g}" for bound in (field.minimum, field.maximum))
    if low is not None and high is not None:
        return _("%(low)s to %(high)s") % {"low": low, "high": high}
    if low is not None:
        return _("%(low)s or more") % {"low": low}
    if field.max_length:
        return _("at most %(length)d characters") % {"length": field.max_length}
    return ""


def models_of(account: Account) -> list[dict[str, Any]]:
    """Returns an account's models as last read, those that are gone last, each with the number of its conversations."""
    present = account.conversations.filter(gone_at__isnull=True).order_by()  # of the other app
    used = dict(present.values_list("model").annotate(Count("pk")))
    rows = account.catalogue.order_by(F("gone_at").asc(nulls_first=True), "order", "name")
    return [{"model": row, "used": used.get(row.model_id, 0)} for row in rows]


# --- accounts -----------------------------------------------------------------------------------------------------------------------


def counted(accounts: AccountQuerySet) -> AccountQuerySet:
    """Returns the accounts with their owners and, as `count`, how many conversations of theirs still exist."""
    present = Count("conversations", filter=Q(conversations__gone_at__isnull=True))
    return accounts.select_related("owner").prefetch_related("labels").annotate(count=present)


def show_account(account: Account, rights: Rights, report: TestReport | None = None) -> dict[str, Any]:
    """Returns what the list and the page of an account show of it; `account` comes from `counted`."""
    return {
        "account": account,
        "mark": provider_mark(account),
        "owned": rights.may_own(account),
        "may_edit": rights.may_edit(account.pk),
        "health": _health(account),
        "sync": _sync(account),
        "report": show_report(report, account.provider) if report else None,
    }


def show_accounts(accounts: Iterable[Account], user: User) -> list[dict[str, Any]]:
    """Returns the rows of the list."""
    rights = Rights(user)
    return [show_account(account, rights) for account in accounts]


def _health(account: Account) -> dict[str, Any]:
    """Returns the state (a key of _status.html), its name, the last error in plain words, and when the credential ends where that is near."""
    status = health.shown(account)
    if not account.sealed_credentials and status == Health.NEEDS_REAUTH:
        missing = {
            "sentence": _("It was imported without its credential."),
            "advice": _("Enter the credential."),
            "detail": "",
        }
        return {"status": status, "label": _("Credential needed"), "cause": missing, "ends": None, "ended": False}
    error = unpack(account.cause_detail)
    bad = status not in (Health.OK, Health.UNKNOWN, "paused", "expiring")
    return {
        "status": "unchecked" if status == Health.UNKNOWN else status,
        "label": state_name(status),
        "cause": explain(error) if error and bad else None,
        "ends": account.credential_expires_at if not account.paused_at and health.expiring(account) else None,
        "ended": health.ended(account),
    }


def state_name(status: str) -> str:
    """Returns the name of a state that `health.shown` tells."""
    return {"paused": _("Paused"), "expiring": _("Expiring")}.get(status) or str(Health(status).label)


_MARKS = {Health.OK: "✓", Health.RATE_LIMITED: "!", Health.UNREACHABLE: "×", Health.NEEDS_REAUTH: "×"}


def strip_of(account: Account) -> list[dict[str, Any]]:
    """Returns the last 14 days of an account, each with a sign and with what happened in words."""
    return [{"day": day, "status": day.worst, "mark": _MARKS.get(Health(day.worst), ""), "words": _day_words(day)} for day in health.strip(account)]


def _day_words(day: health.Day) -> str:
    if not day.checks:
        return _("not checked")
    if not day.failed:
        return _("worked")
    name = Health(day.worst).label
    return _("%(state)s: %(failed)d of %(checks)d checks failed") % {"state": name, "failed": day.failed, "checks": day.checks}


def _sync(account: Account) -> dict[str, Any]:
    progress = account.sync_progress
    failed = unpack(str(progress.get("error", ""))) if account.sync_state == SyncState.FAILED else None
    return {
        "state": account.sync_state,
        "active": account.is_syncing,
        "listed": progress.get("listed", 0),
        "total": progress.get("total"),
        "note": said(count_note(account)),
        "failure": explain(failed) if failed else None,
    }


def count_note(account: Account) -> str:
    """Returns what to say (untranslated) beside an account's number of conversations while it is not the whole truth; "" when it is."""
    note = str(account.sync_progress.get("note", ""))
    return note if account.sync_state != SyncState.DONE or note else ""


def hints_of(account: Account) -> list[dict[str, Any]]:
    """Returns what may be shown of the stored credential, field by field."""
    rows = []
    for field in account.provider.credential_fields:
        if hint := account.hints.get(field.name, ""):
            shown = dict(field.choices).get(hint, "") if field.choices else ""
            rows.append({"name": said(field.label) or field.name, "value": said(shown) or hint, "secret": field.secret})
    return rows


# --- tests --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShownReport:
    """A test for people: what it found, or the cause of its failure."""

    report: TestReport
    cause: dict[str, str] | None
    models_cause: dict[str, str] | None
    models_reason: str
    notes: list[str]

    @property
    def ok(self) -> bool:
        """True when the credential works."""
        return self.report.ok


def show_report(report: TestReport, provider: type[Provider], *, connecting: bool = False) -> ShownReport:
    """Returns a test as templates show it; `connecting`: the reader has the fields in front of them."""

    def words(error: ProviderError | None) -> dict[str, str] | None:
        return explain(error, connecting=connecting) if error else None

    notes = []
    if report.ok and report.conversations == 0:
        notes.append(_("The list of conversations is empty. Some providers answer like that to a wrong id, too: compare the fields."))
    return ShownReport(
        report,
        words(report.error),
        words(report.models_error),
        models_reason(provider),
        notes,
    )
