"""Copies as PowerShell and as fetch: of a script only its literals are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .requests import Form, Header, Loss, Request, Text, Unreadable, named, units, without_pseudo

# --- fetch --------------------------------------------------------------------------------------------------------------------------

_FETCH = re.compile(r"\bfetch\s*\(\s*")
_COMMA = re.compile(r"\s*,\s*")
_DECODER = json.JSONDecoder()
# A page may not set these itself, so a browser leaves them out of the call.
_UNSAID = frozenset({"cookie", "user-agent"})


def is_fetch(text: str) -> bool:
    """Tells whether a text begins as calls of fetch."""
    return re.match(r"\s*(?:await\s+)?fetch\s*\(", text) is not None


def read_fetch(text: str) -> tuple[Form, list[Request]]:
    """Returns the form and the requests of calls of fetch; raises Unreadable where no call can be read."""
    found: list[Request] = []
    at = 0
    while call := _FETCH.search(text, at):
        options: Any = {}
        try:
            url, at = _literal(text, call.end())
            if comma := _COMMA.match(text, at):
                options, at = _literal(text, comma.end())
        except Unreadable:
            if found:
                break  # what stands before it is whole
            raise
        if isinstance(url, str) and isinstance(options, dict):
            found.append(_fetched(url, options))
        at = max(at, call.end())
    if not found:
        raise Unreadable("no_literal")
    told = frozenset(name for request in found for name in _UNSAID if request.header(name))
    return (Form.NODE if "cookie" in told else Form.FETCH), found


def _literal(text: str, at: int) -> tuple[Any, int]:
    """Returns the JSON literal that begins here and the place behind it; raises Unreadable for anything else."""
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise Unreadable("no_literal") from error


def _fetched(url: str, options: dict[str, Any]) -> Request:
    given = options.get("headers")
    pairs = given.items() if isinstance(given, dict) else ()
    headers = without_pseudo(named(name, Text(units(value))) for name, value in pairs if isinstance(value, str))
    body = options.get("body")
    unsaid = _UNSAID - {header.name for header in headers}
    return Request(url, headers, body if isinstance(body, str) else "", frozenset(unsaid))


# --- PowerShell ---------------------------------------------------------------------------------------------------------------------

_INVOKE = re.compile(r"\b(?:Invoke-WebRequest|Invoke-RestMethod|iwr|irm)\b", re.IGNORECASE)
_TOKEN = re.compile(
    r"""(?P<double>"(?:[^"`]|`[\s\S]|"")*")|(?P<single>'(?:[^']|'')*')|(?P<word>[-$]?[A-Za-z_][\w.:-]*)|(?P<sign>[@{}();=,])|(?P<open>["'])"""
)
_DOUBLE = re.compile(r"""`([\s\S])|""|\$\(\[char\](\d{1,7})\)""")
_VARIABLE = re.compile(r"(?<!`)\$(?!\(\[char\]\d)[A-Za-z_({]")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}


def is_powershell(text: str) -> bool:
    """Tells whether a text begins as PowerShell that makes a request."""
    return re.match(r"\s*(?:\$session\s*=|\$\w+\s*=\s*New-Object|Invoke-|iwr\b|irm\b)", text, re.IGNORECASE) is not None


def read_powershell(text: str) -> tuple[Form, list[Request]]:
    """Returns the form and the requests of calls of Invoke-WebRequest, each with the session that was made before it; raises Unreadable."""
    found = list(_calls(text))
    if not found:
        raise Unreadable("no_address")
    return Form.POWERSHELL, found


def _calls(text: str) -> Iterator[Request]:
    """Yields the requests, from one pass over the tokens."""
    agent: Header | None = None
    cookies: list[tuple[Text, Text]] = []
    call: _Call | None = None
    tokens = list(_tokens(text))
    at = 0
    while at < len(tokens):
        kind, token = tokens[at]
        lower = token.value.lower() if kind == "word" else ""
        at += 1
        if _INVOKE.fullmatch(lower):
            if call is not None and call.url:
                yield call.request(agent, cookies)
                agent, cookies = None, []
            call = _Call()
        elif lower == "microsoft.powershell.commands.webrequestsession":
            if call is not None and call.url:
                yield call.request(agent, cookies)
            call, agent, cookies = None, None, []
        elif lower.endswith(".useragent") or lower == "-useragent":
            value, at = _string_after(tokens, at)
            agent = named("user-agent", value) if value else agent
        elif lower == "system.net.cookie":
            strings, at = _arguments(tokens, at)
            if len(strings) >= 2:
                cookies.append((strings[0], strings[1]))
        elif call is not None and lower in ("-uri", "-contenttype"):
            value, at = _string_after(tokens, at)
            if value and lower == "-uri":
                call.url = value.value
        elif call is not None and lower == "-headers":
            at = _table(tokens, at, call.headers)
        elif call is not None and lower == "-body":
            strings, at = _arguments(tokens, at)
            call.body = strings[0].value if strings else ""
    if call is not None and call.url:
        yield call.request(agent, cookies)


class _Call:
    """What is known so far of one call."""

    def __init__(self) -> None:
        self.url, self.body = "", ""
        self.headers: list[Header | None] = []

    def request(self, agent: Header | None, cookies: list[tuple[Text, Text]]) -> Request:
        """Returns the finished request."""
        jar = None
        if cookies:
            losses = [text.loss for pair in cookies for text in pair if text.loss]
            jar = named("cookie", Text("; ".join(f"{name.value}={value.value}" for name, value in cookies), losses[0] if losses else None))
        return Request(self.url, without_pseudo([*self.headers, agent, jar]), self.body)


def _tokens(text: str) -> Iterator[tuple[str, Text]]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "open":
            raise Unreadable("cut_off")
        if kind == "double":
            inner = match[0][1:-1]
            value = units(_DOUBLE.sub(_unescaped, inner))
            yield "string", Text(value, Loss.AMBIGUOUS if _VARIABLE.search(inner) else None)
        elif kind == "single":
            yield "string", Text(match[0][1:-1].replace("''", "'"))
        else:
            yield kind, Text(match[0])


def _unescaped(match: re.Match[str]) -> str:
    if match[2]:
        number = int(match[2])
        return chr(number) if number <= 0x10FFFF else "\ufffd"
    return _LETTERS.get(match[1], match[1]) if match[1] else '"'


def _string_after(tokens: list[tuple[str, Text]], at: int) -> tuple[Text | None, int]:
    """Returns the string that follows, perhaps behind an equals sign."""
    if at < len(tokens) and tokens[at] == ("sign", Text("=")):
        at += 1
    if at < len(tokens) and tokens[at][0] == "string":
        return tokens[at][1], at + 1
    return None, at


def _arguments(tokens: list[tuple[str, Text]], at: int) -> tuple[list[Text], int]:
    """Returns the strings up to where the brackets are closed, or the one that follows where there are none."""
    found: list[Text] = []
    depth = 0
    while at < len(tokens):
        kind, token = tokens[at]
        if kind == "string":
            found.append(token)
        elif kind == "sign" and token.value in "({":
            depth += 1
        elif kind == "sign" and token.value in ")}":
            depth -= 1
        elif kind == "word" and (depth <= 0 or _INVOKE.fullmatch(token.value)):
            break
        at += 1
        if depth <= 0 and (found or kind == "sign"):
            break
    return found, at


def _table(tokens: list[tuple[str, Text]], at: int, headers: list[Header | None]) -> int:
    """Adds the pairs of a table `@{ "name" = "value" }` to the headers and returns the place behind it."""
    if at + 1 >= len(tokens) or tokens[at][1].value != "@" or tokens[at + 1][1].value != "{":
        return at
    at += 2
    name: Text | None = None
    while at < len(tokens):
        kind, token = tokens[at]
        at += 1
        if kind == "sign" and token.value == "}":
            break
        if kind not in ("string", "word"):
            continue
        if name is None:
            name = token
        else:
            headers.append(named(name.value, token))
            name = None
    return at
