"""Reads an uploaded list: conversations, each with a new title or model, as CSV or JSON. Knows files and lines, and nothing of the database.

Whatever is wrong with a line is told with its number and leaves the other lines alone; what makes the whole file unreadable is a ValidationError.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

MAX_BYTES = 5_000_000
MAX_LINES = 20_000
COLUMNS = ("id", "account", "remote_id", "title", "model")
_SHOWN = 60  # characters of a wrong value in its message


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: which conversation (our id, or account and the provider's id), and its new title or model."""

    line: int
    id: str
    account: str
    remote_id: str
    value: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is not carried out: a stable code, what it is about, and numbers for the sentence."""

    line: int
    code: str
    about: str = ""
    limit: int = 0
    length: int = 0


@dataclass(slots=True)
class Listed:
    """What a file holds."""

    entries: list[Entry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def decode(data: bytes, size: int = 0) -> str:
    """Returns the text of a file in UTF-8 (with or without a mark), UTF-16 (with one) or GB18030, as spreadsheets save it.

    `size` is that of the whole file when only its beginning was read. Raises ValidationError for one that is too large, empty or in no such
    encoding.
    """
    if max(len(data), size) > MAX_BYTES:
        values = {"limit": f"{MAX_BYTES // 1_000_000}", "size": f"{max(len(data), size) / 1_000_000:.1f}"}
        raise ValidationError(_("The file may have up to %(limit)s MB; this one has %(size)s MB. Split it.") % values)
    encodings = ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "gb18030")
    for encoding in encodings:
        try:
            text = data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        if not text.strip():
            raise ValidationError(_("The list is empty."))
        return text
    raise ValidationError(_("The file is neither UTF-8 nor GB18030 text. Save it as “CSV UTF-8”."))


def read(text: str, wanted: str) -> Listed:
    """Returns the lines of a CSV or JSON text; `wanted` is the column that counts, "title" or "model".

    Raises ValidationError, with the line, when it cannot be read at all.
    """
    found, text = Listed(), text.removeprefix("\ufeff")
    rows = _json_rows(text, found) if text.lstrip()[:1] in ("[", "{") else _csv_rows(text, wanted, found)
    for number, (line, row) in enumerate(rows, start=1):
        if number > MAX_LINES:
            raise ValidationError(_("A list may have up to %(limit)s lines. Split it.") % {"limit": f"{MAX_LINES:,}"})
        reason = _reason(row, wanted)
        if reason:
            found.rejected.append(Rejected(line, *reason))
            continue
        found.entries.append(Entry(line, row.get("id", ""), row.get("account", ""), row.get("remote_id", ""), row[wanted]))
    if not found.entries and not found.rejected:
        raise ValidationError(_("The list is empty."))
    return found


def _reason(row: dict[str, str], wanted: str) -> tuple[str, str] | None:
    """What is wrong with a line, as (code, about)."""
    number = row.get("id", "")
    if not number and not (row.get("account") and row.get("remote_id")):
        return "no_id", ""
    if number and not (number.isascii() and number.isdecimal() and len(number) <= 18):
        return "bad_id", number[:_SHOWN]
    if not row.get(wanted):
        return f"no_{wanted}", ""
    unreadable = next((value for value in row.values() if not _is_storable(value)), None)
    return None if unreadable is None else ("bad_text", "")


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _tidy(value: Any) -> str:
    """A cell as one line; inner blanks of a title stay as they were typed."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return " ".join(part.strip() for part in text.splitlines()).strip()


# --- CSV ----------------------------------------------------------------------------------------------------------------------------


def _csv_rows(text: str, wanted: str, found: Listed) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line on which it begins, cells by column) of every line below the header."""
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise ValidationError(_("Line %(line)d: a quotation mark is opened there and never closed.") % {"line": line}) from None
            if header is None:
                raise ValidationError(_("Line %(line)d cannot be read as CSV.") % {"line": line}) from None
            found.rejected.append(Rejected(line, "bad_csv"))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(cells, wanted, line)
        elif any(cell.strip() for cell in cells[len(header) :]):
            found.rejected.append(Rejected(line, "too_many_cells", cells[0][:_SHOWN]))
        else:
            row: dict[str, str] = {}
            for name, cell in zip(header, cells, strict=False):
                row.setdefault(name, _tidy(cell))
            yield line, {name: row[name] for name in COLUMNS if name in row}


def _delimiter(text: str) -> str:
    """Returns what separates the cells of the first line that is not empty."""
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    return max((",", "\t", ";"), key=first.count)


def _header(cells: list[str], wanted: str, line: int) -> list[str]:
    names = [cell.strip().casefold().replace(" ", "_") for cell in cells]
    if wanted in names and ("id" in names or {"account", "remote_id"} <= set(names)):
        return names
    values = {"line": line, "wanted": wanted, "given": ", ".join(cell.strip() for cell in cells)[:100]}
    raise ValidationError(
        _("Line %(line)d must name the columns: id (or account and remote_id) and %(wanted)s. It says: %(given)s") % values,
    )


# --- JSON ---------------------------------------------------------------------------------------------------------------------------


def _json_rows(text: str, found: Listed) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line on which it begins, values) of every object of an array, or of objects one below the other."""
    decoder = json.JSONDecoder()
    place = len(text) - len(text.lstrip())
    in_array = text[place] == "["
    place += in_array
    line, counted = 1 + text.count("\n", 0, place), place
    begun = closed = False
    while True:
        place = _skip(text, place)
        if in_array and text[place : place + 1] == "]":
            closed, place = True, _skip(text, place + 1)
        if closed or place == len(text):
            break
        separated = not (in_array and begun) or text[place] == ","
        if in_array and begun and separated:
            place = _skip(text, place + 1)
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place) if separated else (None, -1)
        except (ValueError, RecursionError):
            place = -1
        if place < 0:
            raise ValidationError(_("Line %(line)d cannot be read as JSON.") % {"line": line})
        begun = True
        if isinstance(value, dict):
            yield line, {name: _tidy(value[name]) for name in COLUMNS if isinstance(value.get(name), str | int)}
        else:
            found.rejected.append(Rejected(line, "no_object"))
    if place < len(text) or (in_array and not closed):
        raise ValidationError(_("Line %(line)d cannot be read as JSON.") % {"line": 1 + text.count("\n", 0, place)})


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place
