"""The audit log as people read it: who did what, filtered by what the address says, page by page, and as a file.

Entries are added where things are done; here is what is added for reading: somebody read another person's conversation, somebody took the log
away as a file, or the results of a job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.models import User

from .models import AuditEntry, Conversation, Job
from .querysets import AuditQuerySet

PAGE_SIZE = 50
READ, EXPORT, REPORT = "read conversation", "export", "download results"
READ_AGAIN = timedelta(hours=1)  # one reader's looks at one conversation within this time are one

COLUMNS = (
    "id", "at", "actor", "what", "result", "reason", "account", "account_label", "conversation", "remote_id", "job", "team",
    "before", "after", "note", "ip",
)  # fmt: skip

# What a kind of entry is called, and the words it is stored with: single edits and jobs have words of their own.
KINDS: dict[str, tuple[str | Promise, tuple[str, ...]]] = {
    "switch-model": (_("Switch model"), ("switch-model", "switch model")),
    "set-title": (_("Set title"), ("set-title", "rename")),
    "generate-title": (_("Generate a title"), ("generate title",)),
    "configure": (_("Edit settings"), ("configure", "edit settings", "edit")),
    "undo": (_("Undo"), ("undo", "restore")),
    "job-started": (_("Job started"), ("job started",)),
    "undo-started": (_("Undo started"), ("undo started",)),
    "job-cancelled": (_("Job cancelled"), ("job cancelled",)),
    "approval-requested": (_("Approval asked for"), ("approval requested",)),
    "approved": (_("Approved"), ("approved",)),
    "approval-refused": (_("Approval refused"), ("approval refused",)),
    "approval-withdrawn": (_("Request for approval withdrawn"), ("approval withdrawn",)),
    "add-account": (_("Account added"), ("add account",)),
    "import-accounts": (_("Accounts imported"), ("import accounts",)),
    "edit-account": (_("Account changed"), ("edit account",)),
    "pace": (_("Lane settings changed"), ("set pace",)),
    "pause-account": (_("Account paused"), ("pause account",)),
    "resume-account": (_("Account resumed"), ("resume account",)),
    "delete-account": (_("Account deleted"), ("delete account",)),
    "read": (_("Conversation read"), (READ,)),
    "report": (_("Results of a job downloaded"), (REPORT,)),
    "export": (_("Audit log exported"), (EXPORT,)),
    "replace-credential": (_("Credential replaced"), ("replace credential",)),
    "share": (_("Account shared"), ("share",)),
    "unshare": (_("Sharing ended"), ("unshare",)),
    "hand-over": (_("Account handed over"), ("hand over",)),
    "create-team": (_("Team created"), ("create team",)),
    "rename-team": (_("Team renamed"), ("rename team",)),
    "delete-team": (_("Team deleted"), ("delete team",)),
    "invite": (_("Invitation made"), ("invite",)),
    "revoke-invitation": (_("Invitation revoked"), ("revoke invitation",)),
    "join": (_("Member joined"), ("join team",)),
    "leave": (_("Member left"), ("leave team",)),
    "remove": (_("Member removed"), ("remove member",)),
    "role": (_("Role changed"), ("set role",)),
    "limits": (_("Limits changed"), ("set limits",)),
    "connect-login": (_("Login connected"), ("connect login",)),
    "disconnect-login": (_("Login disconnected"), ("disconnect login",)),
}
_NAMES = {word: name for name, words in KINDS.values() for word in words}


def name_of(what: str) -> str:
    """Returns what people call this kind of entry; a kind that has no name here is shown as it is stored."""
    return str(_NAMES.get(what, what))


def words_of(kind: str) -> tuple[str, ...]:
    """Returns the stored words of a kind of the filter."""
    return KINDS[kind][1] if kind in KINDS else (kind,)


# --- adding ---------------------------------------------------------------------------------------------------------------------------


def note_reading(user: User, row: Conversation) -> None:
    """Adds that somebody read a conversation of another person's account: once an hour for each reader and conversation."""
    account = row.account
    if account.owner_id == user.pk:
        return
    known = AuditEntry.objects.filter(conversation=row, actor=user, what=READ, at__gte=timezone.now() - READ_AGAIN)
    if known.exists():
        return
    with transaction.atomic():
        Conversation.objects.select_for_update(no_key=True).filter(pk=row.pk).first()  # a second look at the same moment waits here
        if not known.exists():
            subject = {"account": account, "account_label": account.label, "conversation": row, "remote_id": row.remote_id}
            AuditEntry.objects.create(actor=user, actor_name=str(user)[:200], what=READ, **subject)


def note_export(user: User, kind: str, filters: Mapping[str, str]) -> None:
    """Adds that somebody took the log away as a file, and which part of it."""
    AuditEntry.objects.create(actor=user, actor_name=str(user)[:200], what=EXPORT, after={"kind": kind, **filters})


def note_report(user: User, job: Job, kind: str, statuses: Sequence[str]) -> None:
    """Adds that somebody took the results of a job away as a file: of all items, or of those with some statuses."""
    after = {"kind": kind, "status": list(statuses)} if statuses else {"kind": kind}
    AuditEntry.objects.create(actor=user, actor_name=str(user)[:200], what=REPORT, job=job, after=after)


# --- reading --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some entries, the newest first; `newer` and `older` are the ids that the pages before and after begin behind, None at the ends."""

    entries: list[AuditEntry]
    newer: int | None
    older: int | None


def page(entries: AuditQuerySet, *, older: int | None = None, newer: int | None = None, size: int = PAGE_SIZE) -> AuditPage:
    """Returns the entries older or newer than an id; the newest ones without one, and when nothing is there."""
    rows = entries.select_related("account", "conversation", "job", "team")
    if newer is not None:
        found = list(rows.filter(pk__gt=newer).order_by("pk")[: size + 1])
        more, found = len(found) > size, found[:size][::-1]
        has_newer, has_older = more, True
    else:
        found = list((rows if older is None else rows.filter(pk__lt=older)).order_by("-pk")[: size + 1])
        has_newer, has_older, found = older is not None, len(found) > size, found[:size]
    if not found:
        return AuditPage([], None, None) if older is None and newer is None else page(entries, size=size)
    return AuditPage(found, found[0].pk if has_newer else None, found[-1].pk if has_older else None)


def rows(entries: AuditQuerySet) -> Iterator[dict[str, Any]]:
    """Yields entries for a file, the newest first."""
    for entry in entries.order_by("-pk").iterator(chunk_size=2000):
        yield {
            "id": entry.pk,
            "at": entry.at,
            "actor": entry.actor_name,
            "what": entry.what,
            "result": entry.result or None,
            "reason": entry.reason or None,
            "account": str(entry.account_id) if entry.account_id else None,
            "account_label": entry.account_label or None,
            "conversation": entry.conversation_id,
            "remote_id": entry.remote_id or None,
            "job": f"J-{entry.job_id}" if entry.job_id else None,
            "team": entry.team_id,
            "before": entry.before,
            "after": entry.after,
            "note": entry.note or None,
            "ip": entry.ip or None,
        }
