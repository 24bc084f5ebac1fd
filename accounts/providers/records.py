"""The frozen records that cross the border between a provider and the rest of the house."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

Json = Any
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a credential belongs to: `user_id` is stable text (part of the upstream identity), `name` is for people; both "" when not told."""

    user_id: str
    name: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """How to find one conversation again: its id, and where and under which title the last listing saw it (hints, may be stale)."""

    remote_id: str
    title: str = ""
    rank: int | None = None  # 0 is the first row of the whole listing


@dataclass(frozen=True, slots=True)
class RemoteConversation:
    """One conversation as the provider holds it.

    `values` is the truth for edits: every editable field exactly as stored (`title` and `model` included where the provider stores
    them); `title` and `model` are the readable forms. `raw` is the whole object for whole-object writes and never leaves memory.
    None means "not told by the provider". `thin` marks a row of a listing that tells less than `Provider.read` would.
    """

    remote_id: str
    title: str
    model: str | None = None
    more_models: tuple[str, ...] = ()
    values: Mapping[str, Json] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    message_count: int | None = None
    first_message: str | None = None
    group: str = ""  # what the provider files it under (an agent, a module), for people
    details: Mapping[str, str] = field(default_factory=dict)  # read-only facts, label -> value
    warning: str = ""  # a sentence about writing to this one (an app dictates its model, ...)
    evasive: bool = False  # may answer a write politely and stay as it was, so that no answer is believed
    disabled: bool = False
    thin: bool = False
    raw: Mapping[str, Json] = field(default_factory=dict, repr=False)
    read_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class RemoteMessage:
    """One message: `key` identifies it within its conversation (the provider's id, or position and hash), `position` counts from 1 at the oldest."""

    key: str
    role: str  # user, assistant, system or tool
    text: str
    position: int | None = None
    model: str | None = None
    reasoning: str = ""
    created_at: datetime | None = None
    time_note: str = ""  # the provider's own time text where its zone is not known
    images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    tokens: int | None = None
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """One entry of an account's model catalogue: `id` is what a write sends, `name` what people read."""

    id: str
    name: str
    group: str = ""
    price: str = ""
    note: str = ""
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `next` is opaque and None at the end; `total` counts all pages, None when not told.

    `restart` asks the caller to begin again from None because rows moved while paging. `note` says why a listing is incomplete.
    """

    items: tuple[T, ...]
    next: str | None = None
    total: int | None = None
    restart: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Some messages, oldest first; `older` and `newer` are cursors for the neighbours, None where there are none."""

    items: tuple[RemoteMessage, ...]
    older: str | None = None
    newer: str | None = None
    total: int | None = None
    note: str = ""
