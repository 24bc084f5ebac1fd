"""Jobs from an uploaded list: which of its lines can be carried out, and the draft that holds exactly those.

The new title or model of each conversation is kept with its item. The parameters of the job hold only that it came from a list, and the lines that
were left out, each with the reason, for the preview.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import Account, User
from accounts.providers.errors import ProviderError
from accounts.providers.schema import Op

from . import bulk, jobs
from .list_files import Entry, Listed, Rejected, read
from .models import Action, Conversation, Job, JobItem, Order

VALUES = {Action.SET_TITLE: "title", Action.SWITCH_MODEL: "model"}
KEPT = 500  # rejected lines that a job remembers; all of them are counted
CHUNK = 2000
SENTENCES: dict[str, Any] = {
    "no_id": gettext_lazy("It names no conversation: id, or account and remote_id."),
    "bad_id": gettext_lazy("“%(about)s” is not a conversation id."),
    "no_title": gettext_lazy("The title is missing."),
    "no_model": gettext_lazy("The model is missing."),
    "bad_text": gettext_lazy("It holds characters that are no text."),
    "bad_csv": gettext_lazy("It cannot be read as CSV: something follows a closing quotation mark, or a cell is too long."),
    "too_many_cells": gettext_lazy("It has more cells than the first line; a title with a comma needs quotation marks around it."),
    "no_object": gettext_lazy("It is no JSON object."),
    "unknown": gettext_lazy("There is no conversation %(about)s."),
    "not_editable": gettext_lazy("You may not change conversation %(about)s."),
    "no_account": gettext_lazy("There is no account “%(about)s”."),
    "ambiguous": gettext_lazy("There are several accounts “%(about)s”; write the account's id."),
    "mismatch": gettext_lazy("Its id and its remote_id are those of different conversations (%(about)s)."),
    "not_selected": gettext_lazy("Conversation %(about)s is not in this selection."),
    "duplicate": gettext_lazy("Conversation %(about)s is listed before; that line counts."),
    "too_long": gettext_lazy("“%(about)s” has %(length)d characters; its provider takes %(limit)d."),
    "not_offered": gettext_lazy("Its account does not offer the model “%(about)s”."),
}


# --- the lines ----------------------------------------------------------------------------------------------------------------------


def match(user: User, action: str, listed: Listed, within: Job | None = None) -> tuple[dict[int, str], list[Rejected]]:
    """Returns (conversation -> its new title or model, all lines that are left out in their order); `within` admits only items of that job."""
    found = _Matcher(user, action, listed.entries, within)
    targets: dict[int, str] = {}
    rejected = list(listed.rejected)
    for entry in listed.entries:
        row, wrong = found.row(entry)
        if row is not None and row.pk in targets:
            wrong = Rejected(entry.line, "duplicate", found.name(entry))
        if row is None or wrong is not None:
            rejected.append(wrong or Rejected(entry.line, "unknown", found.name(entry)))
        else:
            targets[row.pk] = entry.value
    return targets, sorted(rejected, key=lambda wrong: wrong.line)


class _Matcher:
    """Finds the conversation of each line, with as few queries as there are thousands of lines."""

    def __init__(self, user: User, action: str, entries: list[Entry], within: Job | None) -> None:
        self.wanted = VALUES[Action(action)]
        self.accounts: dict[Any, Account] = {account.pk: account for account in Account.objects.visible_to(user)}
        self.editable = set(Account.objects.editable_by(user).values_list("pk", flat=True))
        self.labels: dict[str, list[Account]] = {}
        for account in self.accounts.values():
            self.labels.setdefault(account.label, []).append(account)
        self.by_uuid = {str(account.pk): account for account in self.accounts.values()}
        self.models: dict[Any, set[str]] = {}
        self.by_id = self._by_id({int(entry.id) for entry in entries if entry.id})
        self.by_remote_id = self._by_remote_id({entry.remote_id for entry in entries if not entry.id})
        self.within = None if within is None else set(within.items.exclude(conversation=None).values_list("conversation_id", flat=True))

    def _by_id(self, ids: set[int]) -> dict[int, Conversation]:
        return {row.pk: row for part in _parts(sorted(ids)) for row in Conversation.objects.filter(pk__in=part, account__in=list(self.accounts))}

    def _by_remote_id(self, ids: set[str]) -> dict[tuple[Any, str], Conversation]:
        found: dict[tuple[Any, str], Conversation] = {}
        for part in _parts(sorted(ids)):
            rows = Conversation.objects.filter(remote_id__in=part, account__in=list(self.accounts)).order_by("generation")
            for row in sorted(rows, key=lambda row: row.gone_at is None):  # one that is there counts before one that is gone
                found[row.account_id, row.remote_id] = row
        return found

    @staticmethod
    def name(entry: Entry) -> str:
        """What a person would look for in the file."""
        return entry.id or entry.remote_id[:60]

    def row(self, entry: Entry) -> tuple[Conversation | None, Rejected | None]:
        """Returns the conversation of a line, or why the line is left out."""
        account, wrong = self._account(entry)
        if wrong is not None:
            return None, wrong
        if entry.id:
            row = self.by_id.get(int(entry.id))
            other = row is not None and (
                (account is not None and row.account_id != account.pk) or (bool(entry.remote_id) and row.remote_id != entry.remote_id)
            )
            if other:
                return None, Rejected(entry.line, "mismatch", self.name(entry))
        else:
            row = self.by_remote_id.get((account.pk, entry.remote_id)) if account else None
        if row is None:
            return None, Rejected(entry.line, "unknown", self.name(entry))
        if row.account_id not in self.editable:
            return None, Rejected(entry.line, "not_editable", self.name(entry))
        if self.within is not None and row.pk not in self.within:
            return None, Rejected(entry.line, "not_selected", self.name(entry))
        wrong = self._value(entry, row)
        return (None, wrong) if wrong else (row, None)

    def _account(self, entry: Entry) -> tuple[Account | None, Rejected | None]:
        if not entry.account:
            return None, None
        if account := self.by_uuid.get(entry.account.lower()):
            return account, None
        named = self.labels.get(entry.account, [])
        if len(named) == 1:
            return named[0], None
        return None, Rejected(entry.line, "ambiguous" if named else "no_account", entry.account[:60])

    def _value(self, entry: Entry, row: Conversation) -> Rejected | None:
        """What the provider would not take; where it has no such operation at all, the preview says so."""
        account = self.accounts[row.account_id]
        provider = account.provider
        if self.wanted == "title":
            limit = provider.title_field.max_length or 255
            length = len(entry.value)
            return Rejected(entry.line, "too_long", entry.value[:40], limit, length) if length > limit else None
        if not provider.capability(Op.SWITCH_MODEL).available:
            return None
        if account.pk not in self.models:
            self.models[account.pk] = set(account.catalogue.filter(gone_at__isnull=True).values_list("model_id", flat=True))
        offered = self.models[account.pk]
        try:
            provider.model_value(row.model_value, entry.value)
        except ProviderError:
            offered = {""}
        return Rejected(entry.line, "not_offered", entry.value[:60]) if offered and entry.value not in offered else None


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    for begin in range(0, len(values), CHUNK):
        yield values[begin : begin + CHUNK]


# --- the job ------------------------------------------------------------------------------------------------------------------------


def begin(user: User, action: str, text: str, *, name: str = "", key: str = "") -> Job:
    """Returns the planned draft of exactly the conversations that the list names and the person may change.

    `key` is that of `jobs.create`. Raises ValidationError when the list cannot be read or none of its lines can be carried out.
    """
    targets, rejected = _matched(user, action, text, None)
    rows = Conversation.objects.filter(pk__in=list(targets))

    def make() -> Job:
        job = jobs.create(user, action, rows, selection={"by": "list", "name": name}, key=key)
        return _plan(job, action, targets, rejected, name)

    return jobs.once(user, key, make)


def apply(user: User, job: Job, action: str, text: str, *, name: str = "") -> Job:
    """Plans a draft anew with a list: of its conversations, those that are listed. Raises ValidationError as `begin` does."""
    targets, rejected = _matched(user, action, text, job)
    with transaction.atomic():
        if not Job.objects.select_for_update().filter(pk=job.pk, order=Order.DRAFT).exists():
            raise ValidationError(_("This job has been started; make a new one."))
        return _plan(job, action, targets, rejected, name)


def _matched(user: User, action: str, text: str, within: Job | None) -> tuple[dict[int, str], list[Rejected]]:
    if action not in VALUES:
        raise ValidationError(_("There is no action “%(action)s”.") % {"action": action})
    targets, rejected = match(user, action, read(text, VALUES[Action(action)]), within)
    if not targets:
        first = [_("Line %(line)d: %(reason)s") % {"line": wrong.line, "reason": sentence(wrong)} for wrong in rejected[:5]]
        more = len(rejected) - len(first)
        rest = [ngettext("and %(count)d more line", "and %(count)d more lines", more) % {"count": more}] if more else []
        raise ValidationError([_("None of these lines can be carried out."), *first, *rest])
    return targets, rejected


def _plan(job: Job, action: str, targets: Mapping[int, str], rejected: list[Rejected], name: str) -> Job:
    job.action = action
    field = VALUES[Action(action)]
    job.items.update(target=None)
    rows = [
        (json.dumps({field: targets[conversation]}, ensure_ascii=False), pk)
        for pk, conversation in job.items.order_by("pk").values_list("pk", "conversation_id")
        if conversation in targets
    ]
    bulk.execute(f"UPDATE {connection.ops.quote_name(JobItem._meta.db_table)} SET target = %s WHERE id = %s", rows)
    kept = [asdict(wrong) for wrong in rejected[:KEPT]]
    return jobs.plan(job, {"list": name[:100], "rejected": kept, "rejected_count": len(rejected)})


# --- what is shown ------------------------------------------------------------------------------------------------------------------


def sentence(wrong: Rejected) -> str:
    """Returns why a line was left out."""
    return str(SENTENCES[wrong.code]) % {"about": wrong.about, "limit": wrong.limit, "length": wrong.length}


def rejected_lines(job: Job) -> list[dict[str, Any]]:
    """Returns the lines of a job's list that are not in it, as {line, reason}."""
    return [{"line": one["line"], "reason": sentence(Rejected(**one))} for one in job.params.get("rejected") or ()]


def rejected_context(job: Job, shown: int = 10) -> dict[str, Any]:
    """Returns what the preview shows of them: the first ones, those that can be unfolded, and how many there are in all."""
    lines = rejected_lines(job)
    count = int(job.params.get("rejected_count") or 0)
    return {"first": lines[:shown], "more": lines[shown:], "count": count, "untold": count - len(lines)}
