"""A copied request, and what may have become of its parts on the way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Form(StrEnum):
    """The forms in which a request or a credential may be pasted."""

    BASH = "curl (bash)"
    CMD = "curl (cmd)"
    POWERSHELL = "PowerShell"
    FETCH = "fetch"
    NODE = "fetch (Node.js)"
    HAR = "HAR"
    HEADERS = "headers"
    TOKEN = "token"
    JSON = "JSON"


class Loss(StrEnum):
    """Why a value is not, or may not be, what the browser sent."""

    CHARACTERS = "characters"  # the form put blanks, or a sign for "unknown", in the place of characters
    BLANKS = "blanks"  # a blank may have been a tab or a wide space
    AMBIGUOUS = "ambiguous"  # two texts are written alike in this form
    LEFT_OUT = "left_out"  # the form never says it
    SHORTENED = "shortened"  # the view that it was copied from cut it off
    SUPPOSED = "supposed"  # not said, and taken to be what it nearly always is


class Unreadable(Exception):
    """The text has the look of a form but is not whole; `code` tells why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Text:
    """One word of a copy with what the form may have done to it."""

    value: str = field(repr=False)
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """One header, its name in small letters."""

    name: str
    value: str = field(repr=False)
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request as far as its copy tells it. Its representation shows none of its values."""

    url: str = field(repr=False)
    headers: tuple[Header, ...] = field(default=(), repr=False)
    body: str = field(default="", repr=False)
    left_out: frozenset[str] = frozenset()  # headers that the form never writes

    def header(self, name: str) -> Header | None:
        """Returns the last header of this name."""
        return next((header for header in reversed(self.headers) if header.name == name), None)


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def header_of(word: Text) -> Header | None:
    """Returns the header of an argument `name: value` or `name;` (an empty one), None where it is neither."""
    name, colon, value = word.value.partition(":")
    if not colon:
        name, value = word.value.removesuffix(";"), ""
        if name == word.value:
            return None
    return named(name, Text(value, word.loss))


def named(name: str, text: Text) -> Header | None:
    """Returns a header, None where the name is not that of one; the `:` of `:authority` and the like does not belong to it."""
    name = name.strip().removeprefix(":")
    if not _NAME.fullmatch(name):
        return None
    value = text.value.strip(" \t\r\n")
    broken = "\ufffd" in value or bool(_CONTROLS.search(value))
    return Header(name.lower(), value, Loss.CHARACTERS if broken else text.loss)


def without_pseudo(headers: Iterable[Header | None]) -> tuple[Header, ...]:
    """Returns the headers that are there."""
    return tuple(header for header in headers if header is not None)


def units(text: str) -> str:
    """Returns a text whose surrogate pairs, written as two escapes, are one character each; half a pair becomes the sign for "unknown"."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
