"""Copies of a request's headers: the "Raw" view of Chrome, Edge and Firefox, "Copy Request Headers" of Firefox, "Copy HTTP Request" of Safari.

One `name: value` a line, with or without the request line before it; HTTP/2 has `:authority: host` and the like instead. Chrome of today puts a
name and its value on a line each when one marks them on the page. HTTP/1.1 does not say whether it was http or https. What stands behind an
empty line is the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from .requests import Form, Header, Loss, Request, Text, Unreadable, named, without_pseudo

_NAME = r":?[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"
_LINE = re.compile(rf"({_NAME}):(?:[ \t](.*))?")
_ALONE = re.compile(_NAME)
_REQUEST_LINE = re.compile(r"[A-Z]{3,10} (/\S*|https?://\S+)(?: HTTP/\d(?:\.\d)?)?", re.IGNORECASE)
_HOST = re.compile(r"[^\s/@\\?#]+")
SCHEME = ":scheme"


def read(text: str) -> tuple[Form, list[Request]] | None:
    """Returns the form and the request of a block of headers, None where a text is none; raises Unreadable where it does not say its host."""
    lines = text.split("\n")
    start = _REQUEST_LINE.fullmatch(lines[0].strip())
    at = 1 if start else 0
    while at < len(lines) and not lines[at].strip():
        at += 1
    rows = _of_lines(lines, at) or _of_pairs(lines, at)
    if rows is None or (not start and len(rows[0]) < 2):
        return None
    pairs, rest = rows
    given = [named(name, Text(value)) for name, value in pairs if not name.startswith(":") and name.lower() != "host"]
    said = {name.lower(): value for name, value in pairs if name.startswith(":") or name.lower() == "host"}
    headers = tuple(_shortened(header) for header in without_pseudo(given))
    url, guessed = _address(start[1] if start else said.get(":path", "/"), said, headers)
    return Form.HEADERS, [Request(url, headers, "\n".join(lines[rest:]), frozenset({SCHEME} if guessed else ()))]


def _of_lines(lines: list[str], at: int) -> tuple[list[tuple[str, str]], int] | None:
    """Returns names and values that stand together on lines, and the place behind them; None where another line stands between them."""
    found: list[tuple[str, str]] = []
    while at < len(lines) and lines[at].strip():
        match = _LINE.fullmatch(lines[at].strip(" \t"))
        if match is None:
            return None
        found.append((match[1], (match[2] or "").strip(" \t")))
        at += 1
    return (found, at) if found else None


def _of_pairs(lines: list[str], at: int) -> tuple[list[tuple[str, str]], int] | None:
    """Returns names and values that stand on lines of their own, by turns. Without colons only a host among them shows that it is this."""
    found = list(_by_turns(lines, at))
    colons = {name.endswith(":") for name, _value in found}
    names = [name.removesuffix(":") for name, _value in found]
    known = {name.lower() for name in names} & {":authority", "host"}
    if len(colons) != 1 or not (True in colons or known) or not all(_ALONE.fullmatch(name) for name in names):
        return None
    return [(name, value) for name, (_name, value) in zip(names, found, strict=True)], at + 2 * len(found)


def _by_turns(lines: list[str], at: int) -> Iterator[tuple[str, str]]:
    while at < len(lines) and lines[at].strip():
        yield lines[at].strip(" \t"), lines[at + 1].strip(" \t") if at + 1 < len(lines) else ""
        at += 2


def _shortened(header: Header) -> Header:
    """Returns a header with the loss that the dots at its end tell of: the views of headers shorten what is long."""
    return replace(header, loss=Loss.SHORTENED) if header.value.endswith("…") and header.loss is None else header


def _address(target: str, said: dict[str, str], headers: tuple[Header, ...]) -> tuple[str, bool]:
    """Returns the address, and whether its scheme is only supposed; raises Unreadable without a host."""
    if re.match(r"https?://", target, re.IGNORECASE):
        return target, False
    host = said.get(":authority") or said.get("host", "")
    if not _HOST.fullmatch(host):
        raise Unreadable("no_host")
    scheme = said.get(SCHEME, "").lower() or _scheme_of_page(host, headers)
    return f"{scheme or 'https'}://{host}{target if target.startswith('/') else '/'}", not scheme


def _scheme_of_page(host: str, headers: tuple[Header, ...]) -> str:
    """Returns the scheme that a page of the same host and port was called with, "" where the headers name none."""
    for header in headers:
        if header.name in ("origin", "referer"):
            try:
                page = urlsplit(header.value)
            except ValueError:
                continue
            if page.netloc == host and page.scheme in ("http", "https"):
                return page.scheme
    return ""
