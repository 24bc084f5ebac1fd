"""An ordered set of numeric ids that a provider keeps as JSON text inside JSON, and shows as text, as a real array, or as one bare id."""

from __future__ import annotations

import json
from functools import lru_cache

from ..records import Json
from .reading import compact, numeral


def ids_in(value: Json) -> list[Json]:
    """Returns the ids in their order: numbers as int, anything else as it is, nothing for an empty value."""
    return list(_ids_in_text(value)) if isinstance(value, str) else _ids(value)


@lru_cache(maxsize=1024)  # the same few sets stand in thousands of conversations, and each is compared several times
def _ids_in_text(value: str) -> list[Json]:
    try:
        return _ids(json.loads(value) if value.strip() else [])
    except (ValueError, RecursionError):
        return [value]


def _ids(value: Json) -> list[Json]:
    given = value if isinstance(value, list) else [value]
    return [int(entry) if numeral(entry) else entry for entry in given if entry not in (None, "")]


def as_text(value: Json) -> str:
    """Returns JSON array text: stored array text as it is, every other form as an array."""
    return value if isinstance(value, str) and value.lstrip().startswith("[") else compact(ids_in(value))


def with_first(value: Json, chosen: int) -> Json:
    """Returns the set with its first id replaced in place and the others kept; `value` itself when that changes nothing."""
    ids = ids_in(value)
    return value if ids[:1] == [chosen] else compact([chosen, *(entry for entry in ids[1:] if entry != chosen)])
