"""Keeps our copy of the conversations: reads whole listings into rows, and single readings as they happen.

A reading of an account (`sync`) is one pass over its listing. It runs under a lease of its own, saves its place after every page, so that
it can be cancelled or taken up again after a crash, and never drops a row: what a complete listing does not show is marked gone only after
the provider denied it once more.
"""

from __future__ import annotations

import logging
import math
import operator
import secrets
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from itertools import islice
from operator import attrgetter
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts import catalogue, explain, services
from accounts.models import Account, SyncState
from accounts.providers.errors import NotFound, ProviderError
from accounts.providers.records import Ref, RemoteConversation
from accounts.request_log import about

from . import bulk
from .models import Conversation

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=180)  # one page may take its whole patience and a slow answer
RESUMABLE = timedelta(hours=1)  # an older place in a listing says little: begin again
MAX_RESTARTS = 3
LONG_AGO = timedelta(days=36525)  # what is there at the first reading, and nobody tells its time, stands behind all that has one
MAX_GONE_CHECKS = 50  # asked one by one per pass; the rest wait for the next pass
FIRST_MESSAGE_LENGTH = 500
BATCH = 400
MOST = 2**31 - 1  # what a column of counts holds
BROKEN = gettext_noop("Something went wrong in Switchboard; the log has the details.")


@dataclass(slots=True)
class Progress:
    """What a reading has done so far; stored with the account and shown while it runs."""

    listed: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    requests: int = 0
    seconds: float = 0.0
    total: int | None = None
    note: str = ""
    error: str = ""


@dataclass(slots=True)
class _Pass:
    """One pass over a listing: which ids it has shown, and where it stands."""

    started: datetime
    progress: Progress
    seen: set[str] = field(default_factory=set)
    first_page: frozenset[str] = frozenset()
    rank: int = 0
    restarts: int = 0


class SyncBusy(Exception):
    """Another process is reading this account."""


class SyncStopped(Exception):
    """A person cancelled the reading, or another process took it over; the place is kept."""


def request_sync(account: Account) -> bool:
    """Marks an account to be read by a worker; returns False when it is being read already or is paused."""
    idle = Account.objects.filter(pk=account.pk, paused_at__isnull=True).exclude(sync_state__in=[SyncState.QUEUED, SyncState.RUNNING])
    if not idle.update(sync_state=SyncState.QUEUED, sync_cancel=False, sync_progress={}, sync_lease_until=timezone.now() + LEASE):
        return False
    account.refresh_from_db()
    return True


def stuck() -> list[Account]:
    """Returns accounts whose reading waits for a worker or ran in one that died; they are put back to be asked for again."""
    dead = Account.objects.filter(sync_state__in=[SyncState.QUEUED, SyncState.RUNNING], sync_lease_until__lt=timezone.now())
    found = list(dead)
    dead.update(sync_state=SyncState.FAILED, sync_holder="", sync_lease_until=None)
    return found


def cancel_sync(account: Account) -> None:
    """Asks a running reading to stop after its page; what was read stays."""
    Account.objects.filter(pk=account.pk, sync_state=SyncState.QUEUED).update(sync_state=SyncState.CANCELLED)
    Account.objects.filter(pk=account.pk, sync_state=SyncState.RUNNING).update(sync_cancel=True)


@about("sync")
def sync(account: Account, *, slice_seconds: float | None = None) -> Progress | None:
    """Reads an account's whole listing into rows and returns what it found; None when the slice of time ended before the listing did.

    Raises SyncBusy, SyncStopped (also for a paused account), or the ProviderError that ended it (also noted on the account).
    """
    holder = secrets.token_hex(8)
    now = timezone.now()
    free = Q(sync_holder="") | Q(sync_lease_until__lt=now) | Q(sync_lease_until__isnull=True)
    taken = Account.objects.filter(free, pk=account.pk, paused_at__isnull=True).update(
        sync_holder=holder, sync_lease_until=now + LEASE, sync_state=SyncState.RUNNING, sync_cancel=False
    )
    if not taken:
        raise SyncStopped if Account.objects.filter(pk=account.pk, paused_at__isnull=False).exists() else SyncBusy
    account.refresh_from_db()
    place_is_fresh = account.sync_started_at is not None and account.sync_started_at > now - RESUMABLE
    resumed = bool(account.sync_cursor) and place_is_fresh
    started = account.sync_started_at if resumed and account.sync_started_at else now
    old = account.sync_progress if resumed else {}
    progress = Progress(**{name: value for name, value in old.items() if name in Progress.__dataclass_fields__})
    progress.error = ""
    if not resumed:
        account.sync_cursor = ""
        Account.objects.filter(pk=account.pk).update(sync_started_at=started, sync_progress=asdict(progress))
        account.sync_started_at = started
    walk = _Pass(started, progress)
    if resumed:
        walk.seen = set(account.conversations.filter(seen_at__gte=started).values_list("remote_id", flat=True))
        walk.rank = len(walk.seen)
    try:
        finished = _walk(account, holder, walk, slice_seconds)
    except SyncStopped:
        _release(account, holder, SyncState.CANCELLED, progress)
        raise
    except ProviderError as error:
        progress.error = explain.pack(error)
        _release(account, holder, SyncState.FAILED, progress)
        raise
    except BaseException:
        progress.error = explain.pack(ProviderError(BROKEN))
        if not _release(account, holder, SyncState.FAILED, progress):
            raise SyncStopped from None  # the account was deleted meanwhile
        raise
    _release(account, holder, SyncState.DONE if finished else SyncState.QUEUED, progress, complete=finished)
    return progress if finished else None


def _walk(account: Account, holder: str, walk: _Pass, slice_seconds: float | None) -> bool:
    begun = time.monotonic()
    spent_before = walk.progress.seconds
    cursor: str | None = account.sync_cursor or None
    known = _known(account)
    with services.line(account) as line:
        requests_before = walk.progress.requests
        while True:
            asked = timezone.now()
            page = line.run(lambda provider, at=cursor, known=known: provider.list_conversations(at, known=known))  # type: ignore[misc]
            fresh = [row for row in page.items if row.remote_id not in walk.seen]
            again = [row for row in page.items if row.remote_id in walk.seen and not row.thin]  # moved or changed meanwhile, or told in full now
            counts = upsert(account, fresh, as_of=asked, started=walk.started, first_rank=walk.rank)
            more = upsert(account, again, as_of=asked)
            if not walk.rank:
                known = _known(account)  # the first page shows which of those that we knew have another name now
            walk.seen.update(row.remote_id for row in page.items)
            walk.rank = len(walk.seen)
            walk.first_page = walk.first_page or frozenset(row.remote_id for row in page.items)
            progress = walk.progress
            progress.listed = len(walk.seen)
            progress.new += counts.new
            progress.changed += counts.changed + more.changed
            progress.requests = requests_before + line.provider.requests
            progress.total = page.total if page.total is not None else progress.total
            progress.note = page.note
            progress.seconds = round(spent_before + time.monotonic() - begun, 2)
            cursor = page.next
            if page.restart and walk.restarts < MAX_RESTARTS:
                walk.restarts += 1
                cursor = None
            elif cursor is None:
                break
            _save_place(account, holder, cursor or "", progress)
            if slice_seconds is not None and time.monotonic() - begun > slice_seconds:
                return False
        _save_place(account, holder, "", progress)
        progress.gone = _mark_gone(account, walk, line)
        progress.requests = requests_before + line.provider.requests
    progress.seconds = round(spent_before + time.monotonic() - begun, 2)
    _refresh_models(account)
    return True


def _known(account: Account) -> frozenset[str]:
    """Returns the ids of conversations whose details we hold."""
    return frozenset(account.conversations.present().filter(thin=False).values_list("remote_id", flat=True))


def _save_place(account: Account, holder: str, cursor: str, progress: Progress) -> None:
    held = Account.objects.filter(pk=account.pk, sync_holder=holder)
    if not held.filter(sync_cancel=False).update(sync_cursor=cursor, sync_progress=asdict(progress), sync_lease_until=timezone.now() + LEASE):
        raise SyncStopped


def _release(account: Account, holder: str, state: SyncState, progress: Progress, *, complete: bool = False) -> bool:
    """Ends this process's turn at an account and brings `account` up to date; returns False when there is no such account any more."""
    changes: dict[str, Any] = {"sync_state": state, "sync_holder": "", "sync_lease_until": None, "sync_progress": asdict(progress)}
    if state == SyncState.QUEUED:  # the next slice has been asked for; should its message be lost, `stuck` finds it
        changes["sync_lease_until"] = timezone.now() + LEASE
    if complete:
        changes |= {"synced_at": timezone.now(), "sync_cursor": ""}
    Account.objects.filter(pk=account.pk, sync_holder=holder).update(**changes)
    with suppress(Account.DoesNotExist):
        account.refresh_from_db()
        return True
    return False


def _refresh_models(account: Account) -> None:
    try:
        catalogue.refresh(account)
    except ProviderError as error:
        logger.warning("models of account %s not read: %s", account.pk, error.kind)


def _mark_gone(account: Account, walk: _Pass, line: services.Line) -> int:
    """Marks rows gone that this listing should have shown and that the provider denies when asked for them again."""
    missing = account.conversations.present().filter(seen_at__lt=walk.started)
    if not walk.seen and missing.count() > 1:
        return 0  # an empty listing of an account that had conversations is no proof of anything
    in_turn = missing.order_by("-missed", "-sort_at", "-pk").iterator(chunk_size=200)
    rows = list(islice((row for row in in_turn if line.provider.covers(row.remote_id, walk.first_page)), MAX_GONE_CHECKS))
    if not rows:
        return 0
    with _writing([account]):
        Conversation.objects.filter(pk__in=[row.pk for row in rows]).update(missed=F("missed") + 1)
    asked = timezone.now()
    try:
        found = line.run(lambda provider: provider.find([ref_of(row) for row in rows]))
    except ProviderError as error:
        logger.warning("missing conversations of account %s not checked: %s", account.pk, error.kind)
        return 0
    upsert(account, list(found.values()), as_of=asked)
    return mark_gone(account, [row.pk for row in rows if row.remote_id not in found])


# --- rows ---------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Counts:
    """How many rows a batch made and changed."""

    new: int = 0
    changed: int = 0


def ref_of(row: Conversation) -> Ref:
    """Returns how to find this row's conversation at its provider."""
    return Ref(row.remote_id, row.title, row.rank)


_TOLD = ("title", "model", "model_value", "more_models", "config", "group", "details", "warning", "disabled", "message_count", "first_message")
_ALWAYS = ("untitled", "created_at", "updated_at", "sort_at", "rank", "thin", "seen_at", "changed_upstream_at", "missed", "gone_at")
_WRITTEN = (*_TOLD, *_ALWAYS)


def upsert(
    account: Account,
    found: Iterable[RemoteConversation],
    *,
    as_of: datetime | None = None,
    started: datetime | None = None,
    first_rank: int | None = None,
    ours: Container[str] = (),
) -> Counts:
    """Writes readings into rows, a batch in one transaction; returns how many rows are new and how many say something new.

    `as_of` is when the readings were asked for (by default when each says it was made): what a row has learned since then, from our own write
    perhaps, is not overwritten by them. A thin listing row never erases what an earlier reading told. With `started` and `first_rank` the
    readings are part of a listing and take their order from there. `ours` holds the ids whose change is our own and not marked as one from outside.
    """
    unique = {remote.remote_id: remote for remote in found}
    ranked = list(enumerate(unique.values()))
    counts = Counts()
    for begin in range(0, len(ranked), BATCH):
        with _writing([account]) as there:
            if there:
                batch = ranked[begin : begin + BATCH]
                found_rows = _rows_of({account.pk: [remote.remote_id for _offset, remote in batch]})
                _store(*_compared(account, batch, found_rows, counts, as_of, started, first_rank, ours))
    return counts


def note_runs(told: Sequence[tuple[Account, Sequence[RemoteConversation], Container[str]]]) -> None:
    """Writes what lanes have seen of (account, conversations, ids of those that we have written) into rows, as `upsert` does, together."""
    with _writing([account for account, _remotes, _ours in told]) as there:
        present = [(account, {remote.remote_id: remote for remote in remotes}, ours) for account, remotes, ours in told if account.pk in there]
        rows = _rows_of({account.pk: list(unique) for account, unique, _ours in present})
        new, kept = [], []
        for account, unique, ours in present:
            more_new, more_kept = _compared(account, list(enumerate(unique.values())), rows, Counts(), None, None, None, ours)
            new += more_new
            kept += more_kept
        _store(new, kept)


@contextmanager
def _writing(accounts: Sequence[Account]) -> Iterator[set[Any]]:
    """A transaction in which nobody else writes rows of these accounts, so that no two wait for each other in a circle.

    Yields the ids of those that have not been deleted.
    """
    with transaction.atomic(savepoint=False):
        locked = Account.objects.select_for_update(no_key=True).filter(pk__in=[account.pk for account in accounts]).order_by("pk")
        yield set(locked.values_list("pk", flat=True))


_Rows = dict[tuple[Any, str], Conversation]
_Kept = list[tuple[Conversation, tuple[Any, ...]]]


def _rows_of(wanted: Mapping[Any, list[str]]) -> _Rows:
    """Returns the rows of remote ids by account, the latest of each, in one statement."""
    if not wanted:
        return {}
    either = reduce(operator.or_, (Q(account_id=account_id, remote_id__in=ids) for account_id, ids in wanted.items()))
    return {(row.account_id, row.remote_id): row for row in Conversation.objects.filter(either).order_by("generation")}


def _compared(
    account: Account,
    batch: list[tuple[int, RemoteConversation]],
    known: _Rows,
    counts: Counts,
    as_of: datetime | None,
    started: datetime | None,
    first_rank: int | None,
    ours: Container[str],
) -> tuple[list[Conversation], _Kept]:
    """Copies readings into rows and returns those that are new, unsaved, and the others with what each held before."""
    now = timezone.now()
    rows = {remote.remote_id: row for _offset, remote in batch if (row := known.get((account.pk, remote.remote_id)))}
    new: list[Conversation] = []
    known_before = {}
    for row in rows.values():
        row.account, known_before[row.pk] = account, _columns(row)
    for offset, remote in batch:
        told_at = as_of or now - timedelta(seconds=max(0.0, time.monotonic() - remote.read_at))
        rank = None if first_rank is None else first_rank + offset
        row = rows.get(remote.remote_id)
        if row is not None and row.gone_at and told_at > row.gone_at and _is_another(row, remote):
            row = _new_row(account, remote.remote_id, row.generation + 1, now)
        elif row is None:
            row = _new_row(account, remote.remote_id, 0, now)
        elif told_at < max(row.gone_at or row.seen_at, row.seen_at) <= now:
            row.rank = row.rank if rank is None else rank  # it knows better already
            continue
        is_new = row.pk is None
        length = row.message_count
        changed = _take(row, remote, told_at)
        moved = changed or row.message_count != length
        counts.new += is_new
        if changed and remote.remote_id not in ours:
            row.changed_upstream_at = now
            counts.changed += 1
        if rank is not None:
            row.rank = rank
        if _time(remote.updated_at) is None and (is_new or (moved and account.provider.whole_list)):
            row.sort_at = (started or now) - timedelta(milliseconds=row.rank or 0)
            if is_new and account.synced_at is None:
                row.sort_at -= LONG_AGO
        if is_new:
            new.append(row)
    return new, [(row, known_before[row.pk]) for row in rows.values()]


def _store(new: list[Conversation], kept: _Kept) -> None:
    """Stores compared rows. Their accounts' rows are locked, so nobody else makes or takes away any meanwhile."""
    Conversation.objects.bulk_create(new, batch_size=BATCH)
    _overwrite(kept)


def _columns(row: Conversation) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _WRITTEN)


def _overwrite(rows: _Kept) -> None:
    """Stores what differs from what each row held before: mostly two or three columns of thirty, with one statement per set of columns."""
    groups: dict[tuple[str, ...], list[Conversation]] = {}
    for row, before in rows:
        changed = tuple(name for name, old in zip(_WRITTEN, before, strict=True) if getattr(row, name) != old)
        if changed:
            groups.setdefault(changed, []).append(row)
    quote = connection.ops.quote_name
    for names, group in groups.items():
        fields: list[Any] = [Conversation._meta.get_field(name) for name in names]
        sets = ", ".join(f"{quote(field.column)} = %s" for field in fields)
        made: list[Callable[[Conversation], Any]] = [*bulk.adapters(fields), attrgetter("pk")]
        values = [tuple([adapt(row) for adapt in made]) for row in group]
        bulk.execute(f"UPDATE {quote(Conversation._meta.db_table)} SET {sets} WHERE id = %s", values)


def _new_row(account: Account, remote_id: str, generation: int, now: datetime) -> Conversation:
    return Conversation(account=account, remote_id=remote_id, generation=generation, sort_at=now, first_seen_at=now, seen_at=now)


def _is_another(row: Conversation, remote: RemoteConversation) -> bool:
    """True when an id that was gone came back for another conversation (providers that reuse ids)."""
    return row.title != storable(remote.values.get("title", remote.title)) and (
        remote.first_message is None or row.first_message != _cut(remote.first_message)
    )


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:FIRST_MESSAGE_LENGTH]


def storable(value: Any) -> Any:
    """Returns a value as every database can store it: half an emoji and NUL become U+FFFD, a number that is none becomes None."""
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {storable(key): storable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [storable(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= MOST else None


def _time(moment: datetime | None) -> datetime | None:
    """Returns a provider's time, None for one that says nothing (the year 1 of an empty field)."""
    return moment if moment is not None and 1970 < moment.year < 9000 else None


def _take(row: Conversation, remote: RemoteConversation, told_at: datetime) -> bool:
    """Copies a reading into a row and returns whether it says something new about title, model or settings."""
    values = dict(remote.values)
    stored_title = values.pop("title", None)  # compared when it is edited, so it is kept as it is stored
    model_value = values.pop("model", None)
    told: dict[str, Any] = {
        "title": stored_title if isinstance(stored_title, str) else remote.title,
        "model": remote.model and remote.model[:200],
        "model_value": model_value,
        "more_models": list(remote.more_models),
        "config": values,
        "group": remote.group[:200],
        "details": dict(remote.details),
        "warning": remote.warning,
        "disabled": remote.disabled,
        "message_count": _count(remote.message_count),
        "first_message": _cut(remote.first_message),
    }
    if remote.thin:
        told = {name: value for name, value in told.items() if value not in (None, [], {}, "") or name == "title"}
    told = {name: storable(value) for name, value in told.items() if value is not None or name in ("model", "model_value")}
    changed = row.pk is not None and any(getattr(row, name) != told[name] for name in ("title", "model_value", "config") if name in told)
    for name, value in told.items():
        setattr(row, name, value)
    row.untitled = row.account.provider.is_untitled(row.title)
    row.created_at = _time(remote.created_at) or row.created_at
    row.updated_at = _time(remote.updated_at) or row.updated_at
    row.sort_at = row.updated_at or row.sort_at
    row.thin = remote.thin and (row.pk is None or row.thin or changed)
    row.seen_at, row.missed, row.gone_at = told_at, 0, None
    return changed


def note_write(row: Conversation, remote: RemoteConversation) -> None:
    """Takes over what one of our own writes stored; it is not a change from outside."""
    upsert(row.account, [remote], ours={remote.remote_id})
    row.refresh_from_db()


def mark_gone(account: Account, ids: Collection[int]) -> int:
    """Marks rows whose provider denied them on a direct question; returns how many."""
    with _writing([account]):
        return Conversation.objects.filter(pk__in=ids).update(gone_at=timezone.now())


def note_gone(row: Conversation) -> None:
    """Marks a row whose provider denied it on a direct question."""
    row.gone_at = timezone.now()
    row.save(update_fields=["gone_at"])


def refresh(row: Conversation) -> Conversation:
    """Reads one conversation anew and returns its row; raises its ProviderError (NotFound marks it gone)."""
    try:
        with about(f"conversation:{row.pk}"):
            remote = services.call(row.account, lambda provider: provider.read(ref_of(row), fresh=True))
    except NotFound:
        note_gone(row)
        raise
    upsert(row.account, [remote])
    row.refresh_from_db()
    return row
