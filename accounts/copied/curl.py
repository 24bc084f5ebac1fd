"""The words of curl commands, made into requests. Files that a command names are never opened, options that do something are only skipped."""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import bash, cmd
from .requests import Form, Header, Request, Text, Unreadable, header_of, named, without_pseudo

_CURL = re.compile(r"(?:[$>#%]\s*)?curl(?:\.exe)?$", re.IGNORECASE)
_START = re.compile(r"\s*(?:[$>]\s*)?curl(?:\.exe)?\s", re.IGNORECASE)
_FIRST_QUOTE = re.compile(r"(\^|\$)?(['\"])")
_LONG = {
    "header": "H",
    "cookie": "b",
    "user-agent": "A",
    "referer": "e",
    "request": "X",
    "url": "url",
    "data": "d",
    "data-raw": "d",
    "data-binary": "d",
    "data-ascii": "d",
    "data-urlencode": "d",
    "json": "d",
    "form": "d",
    "form-string": "d",
}
# Other options whose next word is their value and no address.
# fmt: off
_LONG_SKIPPED = frozenset(
    {
        "user", "output", "proxy", "proxy-user", "max-time", "connect-timeout", "upload-file", "config", "cookie-jar", "cacert", "capath",
        "cert", "key", "cert-type", "key-type", "resolve", "interface", "write-out", "range", "speed-limit", "speed-time", "time-cond",
        "continue-at", "telnet-option", "ciphers", "tls-max", "dump-header", "retry", "retry-delay", "retry-max-time", "max-redirs",
        "limit-rate", "connect-to", "aws-sigv4", "oauth2-bearer", "noproxy", "socks5", "socks5-hostname", "socks4", "preproxy", "pass",
        "proxy-header", "unix-socket", "dns-servers", "stderr", "trace", "trace-ascii", "netrc-file", "keepalive-time", "local-port",
        "max-filesize", "output-dir", "rate",
    }
)
# fmt: on
_SHORT = frozenset("HbAeXd")
_SHORT_SKIPPED = frozenset("uoxmTKcEwryYzCtUDFP")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_GLOB = re.compile(r"\\([\[\]{}])")


def is_curl(text: str) -> bool:
    """Tells whether a text begins as a curl command."""
    return _START.match(text) is not None


def form_of(text: str) -> Form:
    """Returns the shell a command is written for, by its first quote and its line ends."""
    quote = _FIRST_QUOTE.search(text)
    if quote is None:
        return Form.CMD if " ^\n" in text else Form.BASH
    if quote[2] == "'":
        return Form.BASH
    if quote[1] == "^" or " ^\n" in text:
        return Form.CMD
    return Form.BASH if " \\\n" in text or quote[1] == "$" else Form.CMD


def read(text: str) -> tuple[Form, list[Request]]:
    """Returns the form and the requests of curl commands; raises Unreadable."""
    form = form_of(text)
    lines = (cmd if form is Form.CMD else bash).commands(text)
    found = [request for words in lines if _is_call(words) and (request := _request(words[1:])) is not None]
    if not found:
        raise Unreadable("no_address")
    return form, found


def _is_call(words: list[Text]) -> bool:
    return bool(_CURL.match(words[0].value)) or (len(words) > 1 and words[0].value in ("$", ">") and bool(_CURL.match(words[1].value)))


def _request(words: list[Text]) -> Request | None:
    url = ""
    headers: list[Header | None] = []
    bodies: list[str] = []
    for option, word in _options(words):
        if option == "H":
            headers.append(None if word.value.startswith("@") else header_of(word))
        elif option == "b" and "=" in word.value:  # without, it is the name of a file
            headers.append(named("cookie", word))
        elif option in ("A", "e"):
            headers.append(named("user-agent" if option == "A" else "referer", word))
        elif option == "d" and not word.value.startswith("@"):
            bodies.append(word.value)
        elif option == "url" or (not option and not url and _ADDRESS.match(word.value)):
            url = _GLOB.sub(r"\1", word.value)
    return Request(url, without_pseudo(headers), "&".join(bodies)) if url else None


def _options(words: list[Text]) -> Iterator[tuple[str, Text]]:
    """Yields the options that matter with their values, and words without an option with ""."""
    rest = iter(words)
    for word in rest:
        text = word.value
        if text.startswith("--") and len(text) > 2:
            name = text[2:]
            if name in _LONG or name in _LONG_SKIPPED:
                value = next(rest, Text(""))
                yield _LONG.get(name, "skipped"), value
        elif text.startswith("-") and len(text) > 1:
            yield from _short(word, rest)
        else:
            yield "", word


def _short(word: Text, rest: Iterator[Text]) -> Iterator[tuple[str, Text]]:
    """Yields what stands behind one dash: flags, of which the last may have its value there or in the next word."""
    for place, letter in enumerate(word.value[1:], 2):
        if letter in _SHORT or letter in _SHORT_SKIPPED:
            given = word.value[place:]
            yield (letter if letter in _SHORT else "skipped"), (Text(given, word.loss) if given else next(rest, Text("")))
            return
