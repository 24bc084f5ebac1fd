"""Opens the messages of one conversation: the newest page, the page that a cursor names, or the page that holds one message."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from accounts import services
from accounts.providers.base import Provider
from accounts.providers.errors import NotFound
from accounts.providers.records import MessagePage, RemoteConversation, RemoteMessage
from accounts.request_log import about

from . import mirror
from .models import Conversation

MAX_PAGES = 100  # a link to a message further back shows the newest page instead, and says so
MAX_SECONDS = 15.0
_ODD = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(slots=True)
class Reading:
    """Messages of one page. `target` is the anchor of the message that a link named, `missed` says that it was not found."""

    page: MessagePage
    target: str = ""
    missed: bool = False
    learned: bool = False  # the row was thin, and its conversation has been read as well


def anchor_of(message: RemoteMessage) -> str:
    """Returns a message's key as a name that can stand in an address and in an id."""
    return _ODD.sub("-", message.key)[:80]


def names(message: RemoteMessage, wanted: str) -> bool:
    """True when `wanted`, what stands behind #m- in a link, means this message: its place from the oldest, or its anchor."""
    return wanted in (str(message.position or ""), anchor_of(message))


def open_messages(row: Conversation, *, cursor: str | None = None, wanted: str = "") -> Reading:
    """Returns one page of messages; raises the ProviderError (NotFound marks the row gone).

    `wanted` names a message (see `names`) and is looked for from the newest page backwards. A row that the listing told little about is
    completed on the way, over the same connection.
    """
    learned: list[RemoteConversation] = []

    async def operation(provider: Provider) -> Reading:
        ref = mirror.ref_of(row)
        if row.thin and cursor is None:
            learned.append(await provider.read(ref))
        newest = page = await provider.messages(ref, cursor)
        if not wanted:
            return Reading(page)
        deadline = time.monotonic() + MAX_SECONDS
        for _page in range(MAX_PAGES):
            if any(names(message, wanted) for message in page.items):
                return Reading(page, target=wanted)
            if page.older is None or time.monotonic() > deadline:
                break
            page = await provider.messages(ref, page.older)
        return Reading(newest, missed=True)

    try:
        with about(f"conversation:{row.pk}"):
            reading = services.call(row.account, operation)
    except NotFound:
        mirror.note_gone(row)
        raise
    if learned:
        mirror.upsert(row.account, learned)
        row.refresh_from_db()
        reading.learned = True
    return reading
