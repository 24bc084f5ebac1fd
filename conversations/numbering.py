"""Keeps the titles of one job apart: of equal ones in an account, the second becomes "… (2)", within the provider's limit.

What a row has already counts first, so that the same job run twice changes nothing, and a number once given stays while a preview is being read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Any

from django.db.models import Q, TextField
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from .graphemes import cut
from .models import JobItem

_NUMBER = re.compile(r" \(([1-9]\d{0,6})\)\Z")
_ROOM = len(" (9999999)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A title that an item would get if it were alone, and what it is called now."""

    pk: int
    title: str
    now: str
    limit: int


def with_number(title: str, number: int, limit: int) -> str:
    """Returns the title as the `number`-th of its kind; the first is the title itself."""
    if number < 2:
        return title
    ending = f" ({number})"
    return _stem(title, max(0, limit - len(ending))) + ending


@lru_cache(maxsize=1024)
def _stem(title: str, room: int) -> str:
    """The part that all numbered forms of a title share; thousands of equal titles ask for the same one."""
    return cut(title, room).rstrip()


def is_numbered(shown: str, title: str, limit: int) -> bool:
    """True when `shown` is the title itself or one of its numbered forms."""
    if shown == title:
        return True
    found = _NUMBER.search(shown)
    return found is not None and with_number(title, max(2, int(found[1])), limit) == shown


def distribute(wanted: Iterable[Wanted], taken: set[str]) -> dict[int, str]:
    """Returns pk -> title, all of them different and none of them in `taken`, which grows by them."""
    made: dict[int, str] = {}
    rest: list[Wanted] = []
    for one in wanted:
        if is_numbered(one.now, one.title, one.limit) and one.now not in taken:
            made[one.pk] = one.now
            taken.add(one.now)
        else:
            rest.append(one)
    following: dict[str, int] = {}
    for one in rest:
        number = following.get(one.title, 1)
        while (title := with_number(one.title, number, one.limit)) in taken:
            number += 1
        following[one.title] = number + 1
        made[one.pk] = title
        taken.add(title)
    return made


def taken_in(job_id: int, account_id: Any, wanted: Collection[Wanted], without: Iterable[int]) -> set[str]:
    """Returns which titles near the wanted ones other items of the job in this account aim at already."""
    titles = {one.title: one.limit for one in wanted}
    others = JobItem.objects.filter(job=job_id, account=account_id, target__isnull=False).exclude(pk__in=list(without))
    aims = others.exclude(status__in=["skipped", "cancelled"]).annotate(aim=Cast(KT("target__title"), TextField())).order_by()
    found = set(aims.filter(aim__in=[*titles, *(one.now for one in wanted)]).values_list("aim", flat=True))
    # Numbers matter only where a title is wanted more than once; most are not.
    counts = Counter(one.title for one in wanted)
    crowded = [title for title in titles if title in found or counts[title] > 1]
    if crowded:
        stems = [Q(aim__startswith=cut(title, max(1, titles[title] - _ROOM)).rstrip()) for title in crowded]
        found |= set(aims.filter(reduce(or_, stems)).values_list("aim", flat=True))
    return found


def settle(job_id: int, account_id: Any, wanted: Collection[Wanted], old: Mapping[int, str]) -> dict[int, str]:
    """Returns pk -> title for items of a plan that is being corrected; `old` holds the titles that they aimed at until now.

    A number once given stays; what is new keeps clear of the other items of the job.
    """
    made = {one.pk: old[one.pk] for one in wanted if one.pk in old and is_numbered(old[one.pk], one.title, one.limit)}
    fresh = [one for one in wanted if one.pk not in made]
    if not fresh:
        return made
    return made | distribute(fresh, taken_in(job_id, account_id, fresh, [one.pk for one in wanted]) | set(made.values()))
