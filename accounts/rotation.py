"""Sealing everything anew with the newest key of the ring, so that the older ones can go.

Can be interrupted and run again: each row is renewed by itself, and what somebody changed meanwhile stays as they left it (it was sealed then,
and the next look says with which key). What is sealed is in `SOURCES`; a test compares that with the fields of all models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import models

from . import vault
from .models import Account
from .second_factor import SealedSeeds
from .services import TABLE

BATCH = 200


class Source(Protocol):
    """Something that holds sealed texts: where they are, and the place that each is bound to."""

    @property
    def name(self) -> str:
        """What it is called."""

    def tokens(self) -> Iterator[tuple[Any, str]]:
        """Yields (id, sealed text) of all that is sealed, in batches and in a fixed order."""

    def place(self, pk: Any) -> dict[str, str]:
        """Returns table, row and field that the text of this id is bound to."""

    def replace(self, pk: Any, old: str, new: str) -> bool:
        """Puts `new` in the place of `old` and tells whether `old` was still there."""


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed texts, empty where nothing is kept."""

    model: type[models.Model]
    column: str
    table: str
    field: str

    @property
    def name(self) -> str:
        """Model and column, as the test of the registry names them."""
        return f"{self.model._meta.label}.{self.column}"

    def tokens(self) -> Iterator[tuple[Any, str]]:
        """Yields them by primary key, a batch at a time, so that no cursor stays open."""
        rows = self.model._base_manager.exclude(**{self.column: ""}).order_by("pk").values_list("pk", self.column)
        last = None
        while batch := list((rows if last is None else rows.filter(pk__gt=last))[:BATCH]):
            yield from batch
            last = batch[-1][0]

    def place(self, pk: Any) -> dict[str, str]:
        """Returns what the seal of this row is bound to."""
        return {"table": self.table, "row": str(pk), "field": self.field}

    def replace(self, pk: Any, old: str, new: str) -> bool:
        """Writes `new` unless the row has been given another seal."""
        return bool(self.model._base_manager.filter(pk=pk, **{self.column: old}).update(**{self.column: new}))


SOURCES: list[Source] = [
    SealedColumn(Account, "sealed_credentials", TABLE, "credentials"),
    SealedColumn(Account, "sealed_kept", TABLE, "kept"),
    SealedSeeds(),
]


@dataclass(slots=True)
class Report:
    """What a look found, or a rotation left: sealed texts, those that wait for the newest key, those that no key opens."""

    sealed: int = 0
    stale: int = 0
    resealed: int = 0
    unreadable: int = 0


def look() -> Report:
    """Counts what is sealed and what is stale; opens nothing."""
    report = Report()
    for source in SOURCES:
        for _pk, token in source.tokens():
            report.sealed += 1
            report.stale += _is_stale(token)
    return report


def rotate() -> Report:
    """Seals every stale text anew and returns what is so now."""
    resealed = unreadable = 0
    for source in SOURCES:
        for pk, token in source.tokens():
            if not _is_stale(token):
                continue
            try:
                place = source.place(pk)
                renewed = vault.seal(vault.open_sealed(token, **place), **place)
            except vault.VaultError:
                unreadable += 1
            else:
                resealed += source.replace(pk, token, renewed)
    report = look()
    report.resealed, report.unreadable = resealed, unreadable
    return report


def _is_stale(token: str) -> bool:
    try:
        return vault.is_stale(token)
    except vault.VaultError:
        return True  # damaged: it will not open either, and is counted so
