"""Pages through conversations by keyset: page one million costs what page one costs, and rows never jump between pages."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import F, IntegerField, Q
from django.db.models.functions import Coalesce, Left

from .models import Conversation
from .querysets import ConversationQuerySet

PAGE_SIZE = 50
COUNT_CAP = 10_000


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of the list: the value compared, and whether it runs downwards; ties follow the row id the same way."""

    key: str
    descending: bool
    expression: Any = None


_UNTOLD = 2**31 - 1
# A count that nobody told stands last, whichever way the order runs.
SORTS: dict[str, Sort] = {
    "-updated": Sort("sort_at", True),
    "updated": Sort("sort_at", False),
    "title": Sort("title_key", False, Left("title", 64)),
    "-title": Sort("title_key", True, Left("title", 64)),
    "-messages": Sort("messages_key", True, Coalesce("message_count", -1, output_field=IntegerField())),
    "messages": Sort("messages_key", False, Coalesce("message_count", _UNTOLD, output_field=IntegerField())),
}
DEFAULT_SORT = "-updated"


@dataclass(frozen=True, slots=True)
class ListPage:
    """Some rows in order; `newer` and `older` are cursors for the pages before and after, None at the ends."""

    rows: list[Conversation]
    newer: str | None
    older: str | None


def _keyed(rows: ConversationQuerySet, sort: Sort) -> ConversationQuerySet:
    return rows if sort.expression is None else rows.annotate(**{sort.key: sort.expression})


def _cursor(row: Conversation, sort: Sort) -> str:
    value = getattr(row, sort.key)
    text = json.dumps([value.isoformat() if isinstance(value, datetime) else value, row.pk], ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(cursor: str, sort: Sort) -> tuple[Any, int] | None:
    """Returns (value, id) of a cursor, None for one that nobody gave out (an edited address, another sort)."""
    try:
        value, pk = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if sort.key == "sort_at":
            value = datetime.fromisoformat(value)
            fits = value.tzinfo is not None and value.astimezone(UTC) is not None  # the first and last days of time overflow
        elif sort.key == "title_key":
            fits = "\0" not in value and value.encode() is not None  # half an emoji cannot be encoded
        else:
            fits = value == -1 or _is_id(value)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return (value, pk) if fits and _is_id(pk) else None


def _is_id(number: Any) -> bool:
    """True for what a column of whole numbers can be compared with."""
    return type(number) is int and 0 <= number < 2**63


def _beyond(rows: ConversationQuerySet, sort: Sort, value: Any, pk: int, *, forwards: bool) -> ConversationQuerySet:
    """Narrows to what follows (or precedes) a place. Two filters, not one OR: the index serves the first."""
    word = "lt" if sort.descending == forwards else "gt"
    rest = Q(**{f"{sort.key}__{word}": value}) | Q(**{f"pk__{word}": pk})
    return rows.filter(**{f"{sort.key}__{word}e": value}).filter(rest)


def _ordered(rows: ConversationQuerySet, sort: Sort, *, forwards: bool) -> ConversationQuerySet:
    if sort.descending == forwards:
        return rows.order_by(F(sort.key).desc(), F("pk").desc())
    return rows.order_by(F(sort.key).asc(), F("pk").asc())


def page(rows: ConversationQuerySet, sort_name: str = DEFAULT_SORT, *, after: str = "", before: str = "", size: int = PAGE_SIZE) -> ListPage:
    """Returns the page after or before a cursor, the first page without one, with one that cannot be read, or when nothing is left there."""
    sort = SORTS.get(sort_name, SORTS[DEFAULT_SORT])
    keyed = _keyed(rows, sort).select_related("account")
    place = _place(before or after, sort) if before or after else None
    forwards = not before or place is None
    if place is not None:
        keyed = _beyond(keyed, sort, *place, forwards=forwards)
    found = list(_ordered(keyed, sort, forwards=forwards)[: size + 1])
    more = len(found) > size
    found = found[:size]
    if not forwards:
        found.reverse()
    if not found:
        return ListPage([], None, None) if place is None else page(rows, sort_name, size=size)
    has_newer = more if not forwards else place is not None
    has_older = more if forwards else True
    return ListPage(found, _cursor(found[0], sort) if has_newer else None, _cursor(found[-1], sort) if has_older else None)


def around(rows: ConversationQuerySet, sort_name: str, row: Conversation, *, size: int = PAGE_SIZE) -> ListPage:
    """Returns a page of the list that shows this conversation with some rows before it; the first page when it is not in the list."""
    sort = SORTS.get(sort_name, SORTS[DEFAULT_SORT])
    keyed = _keyed(rows, sort).select_related("account")
    here = keyed.filter(pk=row.pk).first()
    if here is None:
        return page(rows, sort_name, size=size)
    value = getattr(here, sort.key)
    lead = list(_ordered(_beyond(keyed, sort, value, row.pk, forwards=False), sort, forwards=False)[: size // 3 + 1])
    follow = list(_ordered(_beyond(keyed, sort, value, row.pk, forwards=True), sort, forwards=True)[: size - size // 3])
    has_newer, has_older = len(lead) > size // 3, len(follow) == size - size // 3
    found = [*reversed(lead[: size // 3]), here, *follow[: size - size // 3 - 1]]
    return ListPage(found, _cursor(found[0], sort) if has_newer else None, _cursor(found[-1], sort) if has_older else None)


def neighbours(rows: ConversationQuerySet, sort_name: str, row: Conversation) -> tuple[int | None, int | None]:
    """Returns the ids of the conversations before and after this one within a filtered, sorted list; none when it is not in it."""
    sort = SORTS.get(sort_name, SORTS[DEFAULT_SORT])
    keyed = _keyed(rows, sort)
    here = keyed.filter(pk=row.pk).values_list(sort.key, flat=True).first()
    if here is None:
        return None, None
    found = [
        _ordered(_beyond(keyed, sort, here, row.pk, forwards=forwards), sort, forwards=forwards).values_list("pk", flat=True).first()
        for forwards in (False, True)
    ]
    return found[0], found[1]
