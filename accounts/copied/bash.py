"""Command lines for bash: words in '…', $'…' and "…", as curl commands of all browsers for Linux and macOS write them."""

from __future__ import annotations

import re

from .requests import Loss, Text, Unreadable, units

_BLANK = re.compile(r"(?:[ \t]|\\\n|\\ (?=[ \t]|$))+")  # `\ ` between blanks is a line end that a form field joined
_COMMENT = re.compile(r"#[^\n]*")
_PLAIN = re.compile(r"[^\s'\"\\$;&|]+")
_SINGLE = re.compile(r"'([^']*)'")
_ANSI = re.compile(r"\$'((?:[^'\\]|\\[\s\S])*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\[\s\S])*)"')
_DOUBLE_ESCAPE = re.compile(r'\\(?:\n|(["\\$`]))')
_ANSI_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|([\s\S]))")
_VARIABLE = re.compile(r"(?<!\\)\$[A-Za-z_({]")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}


def commands(text: str) -> list[list[Text]]:
    """Returns the words of each command of a text; raises Unreadable for one that ends within quotes."""
    found: list[list[Text]] = [[]]
    at, end = 0, len(text)
    while at < end:
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif text[at] in "\n;&|":
            found.append([])
            at += 1
        elif text[at] == "#":
            at = _COMMENT.match(text, at).end()  # type: ignore[union-attr]
        else:
            word, at = _word(text, at)
            found[-1].append(word)
    return [words for words in found if words]


def _word(text: str, at: int) -> tuple[Text, int]:
    parts: list[str] = []
    loss: Loss | None = None
    start = at
    while at < len(text) and not (text[at].isspace() or text[at] in ";&|"):
        char = text[at]
        if char == "'":
            match = _whole(_SINGLE, text, at)
            parts.append(match[1])
        elif text.startswith("$'", at):
            match = _whole(_ANSI, text, at)
            parts.append(units(_ANSI_ESCAPE.sub(_ansi, match[1])))
            if "^&" in match[1]:
                loss = Loss.AMBIGUOUS  # Firefox wrote `&` like that for some time
        elif char == '"':
            match = _whole(_DOUBLE, text, at)
            parts.append(_DOUBLE_ESCAPE.sub(lambda found: found[1] or "", match[1]))
            if _VARIABLE.search(match[1]):
                loss = Loss.AMBIGUOUS  # only that person's shell knows what stands there
        elif char == "\\":
            parts.append(text[at + 1 : at + 2].replace("\n", ""))
            at = min(at + 2, len(text))
            continue
        elif plain := _PLAIN.match(text, at):
            match = plain
            parts.append(match[0])
        else:  # a lone dollar sign
            parts.append(char)
            at += 1
            continue
        at = match.end()
    return Text("".join(parts), loss), max(at, start + 1)


def _whole(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    match = pattern.match(text, at)
    if match is None:
        raise Unreadable("cut_off")
    return match


def _ansi(match: re.Match[str]) -> str:
    short, long, hexadecimal, octal, other = match.groups()
    if octal:
        return chr(int(octal, 8) & 0xFF)
    if other:
        return _LETTERS.get(other) or (other if other in "\\'\"?" else "\\" + other)
    # Firefox writes the number of the character where bash would take it as a byte; what the browser did is undone.
    number = int(short or long or hexadecimal, 16)
    return chr(number) if number <= 0x10FFFF else "\ufffd"
