"""The record of what was sent to providers: one row per attempt, redacted when it is written, kept for two weeks.

Providers tell a `Recorder` about every attempt; whoever opened the connection stores what it collected, many rows at once. What a request is
for is the subject of the code that makes it, and of the tasks that this code starts:

    with about("conversation:7"):
        services.call(account, ...)

Much is written here (two requests an item), so a read that went well leaves numbers only, and texts are searched for secrets only where a
cheap look finds a sign of one.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from config.logging import redact

from .models import RequestLog
from .providers.exchange import Exchange

logger = logging.getLogger(__name__)

PRUNED_AT_ONCE = 5000
PRUNING_SECONDS = 20.0
_subject: ContextVar[str] = ContextVar("request_subject", default="")


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Says what the requests within are for: "item:ID:ATTEMPT", "conversation:ID", "sync" or "check:JOB"."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def item_subject(item_id: int, attempt: int) -> str:
    """Returns the subject of the requests of one run of a job's item."""
    return f"item:{item_id}:{attempt}"


class Recorder:
    """Collects what was exchanged with one account's provider, in any thread, until somebody stores it.

    Searching texts for secrets is left to whoever takes the rows: it must not keep the loop from answers.
    """

    def __init__(self, account_id: Any) -> None:
        self.account_id = account_id
        self._told: deque[tuple[str, Exchange]] = deque()

    def __call__(self, exchange: Exchange) -> None:
        self._told.append((_subject.get(), exchange))

    def __len__(self) -> int:
        return len(self._told)

    def drain(self) -> list[RequestLog]:
        """Returns the rows of what was collected so far, oldest first, and forgets it; they are unsaved."""
        return self._rows(self._taken())

    @contextmanager
    def draining(self) -> Iterator[list[RequestLog]]:
        """Gives the rows out to be stored within a transaction; when that fails they are collected still, and stored with the next ones."""
        told = self._taken()
        try:
            yield self._rows(told)
        except BaseException:
            self._told.extendleft(reversed(told))
            raise

    def _taken(self) -> list[tuple[str, Exchange]]:
        return [self._told.popleft() for _one in range(len(self._told))]

    def _rows(self, told: list[tuple[str, Exchange]]) -> list[RequestLog]:
        return [row_of(self.account_id, subject, exchange) for subject, exchange in told]


def row_of(account_id: Any, subject: str, exchange: Exchange) -> RequestLog:
    """Returns the unsaved row of one attempt."""
    path, mark, query = exchange.path.partition("?")
    return RequestLog(
        account_id=account_id,
        at=datetime.fromtimestamp(exchange.at, UTC),
        subject=subject,
        method=exchange.method,
        path=path + mark + clean(query) if query else path,
        write=exchange.write,
        status=exchange.status,
        ms=exchange.ms,
        size=exchange.size,
        sent=clean(exchange.sent) if exchange.sent else "",
        answer=clean(exchange.answer) if exchange.answer else "",
        error=exchange.error,
    )


def store(rows: Iterable[RequestLog]) -> None:
    """Stores collected rows. The log is no reason to fail: where it cannot be written (the account was deleted meanwhile) that is logged."""
    rows = list(rows)
    if not rows:
        return
    try:
        RequestLog.objects.bulk_create(rows)
    except DatabaseError as error:
        logger.warning("%d requests were not recorded: %s", len(rows), type(error).__name__)


def prune(now: datetime | None = None, *, seconds: float = PRUNING_SECONDS) -> int:
    """Deletes rows older than the setting allows, in small transactions and not for longer than `seconds`; returns how many."""
    old = RequestLog.objects.filter(at__lt=(now or timezone.now()) - timedelta(days=settings.REQUESTS_KEPT_DAYS)).order_by("at")
    ends, deleted = time.monotonic() + seconds, 0
    while True:
        count, _by_model = RequestLog.objects.filter(pk__in=old.values("pk")[:PRUNED_AT_ONCE]).delete()
        deleted += count
        if count < PRUNED_AT_ONCE or time.monotonic() > ends:
            return deleted


# --- what is nobody's business --------------------------------------------------------------------------------------------------------

# Mobile numbers as they are written in China, and international ones that begin with a plus; never a part of a longer number or word.
_PHONE = re.compile(
    r"(?<![0-9A-Za-z_.+-])(?:(?:\+|00|%2B)?86[ -]?)?(1[3-9][0-9])[ -]?([0-9]{4})[ -]?([0-9]{4})(?![0-9A-Za-z_-])"
    r"|(?<![0-9A-Za-z_+])\+[1-9][0-9]{1,2}[ -]?[0-9]{6,11}(?![0-9A-Za-z_])"
)
# Eleven digits in a row somewhere, or groups of them.
_PHONE_SIGN = re.compile(r"1[3-9][0-9][ -]?[0-9]{4}|\+[1-9][0-9]")
# Cut off within its quotes, a named value has no end that the rules could see.
_UNENDED = re.compile(r"(?i)((?:secret|token|passw(?:or)?d|cookie|authorization|api[_-]?key|session[_-]?id)\\?[\"']\s*[:=]\s*\\?[\"'])[^\"']{4,}$")
# Sessions of common servers, in whatever they are repeated.
_SESSION = re.compile(r"(?i)((?:\bj?session(?:id)?|\bphpsessid|\bsid|\bcsrf\w*|_session)=)[^\s;,&\"'<>]{6,}")
_SESSION_SIGN = re.compile(r"(?:session|id|csrf\w*)=")


def clean(text: str) -> str:
    """Returns the text without what looks like a secret, a session or a telephone number, as a database takes it."""
    text = redact(text)
    if _PHONE_SIGN.search(text):
        text = _PHONE.sub(lambda found: f"{found[1]}****{found[3]}" if found[1] else "+****", text)
    if "=" in text and _SESSION_SIGN.search(text.lower()):
        text = _SESSION.sub(r"\1***", text)
    if text.endswith("…"):
        text = _UNENDED.sub(r"\1***", text)
    return text.replace("\0", "\N{SYMBOL FOR NULL}")
