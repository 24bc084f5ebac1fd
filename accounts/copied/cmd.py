"""Command lines for cmd.exe. What is undone is what the browser did to its text; Windows is not imitated.

There are three styles. *Carets* (Chrome and Edge; Firefox of its middle years): a caret before whatever could be special, then `\\\\` and
`\\"` within quotes, which are `^"` or, in older versions, `"`. *Firefox* of today: the same without doubled backslashes. *Doubled* (very old):
no carets, `""` for a quote and `"%"` for a per cent sign.

Chrome and Edge of today write `^` and a blank for each unit of a character outside ASCII (which is told) and a blank for tabs and wide
spaces (which leaves no trace).
"""

from __future__ import annotations

import re
from enum import Enum

from .requests import Loss, Text, Unreadable

_BLANK = re.compile(r"(?:\s|\^(?=\s|$))*")
_BREAK = re.compile(r"\^\n\n?(?=\")")  # a line break within an argument, outside of its quotes
_RUN = re.compile(r"[^\^\"\\]+")
_OUTSIDE = re.compile(r"[^\^\"\s&]+")
_QUOTE = re.compile(r"\^?\"")
_CARETED = re.compile(r"\^(?:[\^{}\[\]<>!@#$|%]|\\\^|[^\x00-\x7f])")
_MUST = re.compile(r"(?:^|[^\^])(?:\^\^)*[{}\[\]<>!@#$|]")  # of a style with carets these never stand alone
_BARE_BACKSLASH = re.compile(r"(?:^|[^\^])(?:\^\^)*\\")
_FIREFOX = re.compile(r"Gecko/20\d{6} Firefox/")
_LINE_END = re.compile(r"[ \t]*(?:\^?[ \t]*\n|$|&[ \t]*(?:\n|$)|\^[ \t]+-|\^$)")


class _Style(Enum):
    CARETS = 1
    CHROME = 2  # carets, and blanks in the place of what cmd cannot take
    FIREFOX = 3
    DOUBLED = 4


def commands(text: str) -> list[list[Text]]:
    """Returns the words of each command of a text whose line ends are LF; raises Unreadable for one that ends within quotes."""
    style = _style(text)
    found: list[list[Text]] = [[]]
    at, end = 0, len(text)
    while at < end:
        after = _BLANK.match(text, at).end()  # type: ignore[union-attr]
        between, at = text[at:after], after
        if _bare_break(between):
            found.append([])
        if at >= end:
            break
        if text[at] == "&":
            found.append([])
            at += 1
        else:
            word, at = _word(text, at, style, first=not found[-1][1:])
            found[-1].append(word)
    return [words for words in found if words]


def _bare_break(between: str) -> bool:
    """Tells whether a line end without a caret before it stands here: it ends a command."""
    return any(not line.rstrip(" \t").endswith("^") for line in between.split("\n")[:-1])


def _style(text: str) -> _Style:
    quote = _QUOTE.search(text)
    if quote is not None and quote[0] == '^"':
        if _FIREFOX.search(text) is None:
            return _Style.CHROME
        return _Style.FIREFOX if _BARE_BACKSLASH.search(text) is None else _Style.CARETS
    return _Style.CARETS if _CARETED.search(text) and not _MUST.search(text) else _Style.DOUBLED


def _word(text: str, at: int, style: _Style, *, first: bool) -> tuple[Text, int]:
    parts: list[str] = []
    losses: set[Loss] = set()
    end = len(text)
    while at < end and text[at] != "&" and not text[at].isspace():
        if run := _OUTSIDE.match(text, at):
            parts.append(run[0])
            at = run.end()
        elif quote := _QUOTE.match(text, at):
            at = _quoted(text, quote.end(), style, parts, losses, first=first)
        elif broken := _BREAK.match(text, at):
            parts.append("\n")
            at = broken.end()
        elif at + 1 >= end or text[at + 1].isspace():
            break  # a caret before the end of the line
        else:
            parts.append(text[at + 1])
            at += 2
    loss = Loss.CHARACTERS if Loss.CHARACTERS in losses else next(iter(losses), None)
    return Text("".join(parts), loss), at


def _quoted(text: str, at: int, style: _Style, parts: list[str], losses: set[Loss], *, first: bool) -> int:
    """Reads on from behind an opening quote and returns the place behind the closing one."""
    end, carets = len(text), style is not _Style.DOUBLED
    while at < end:
        if run := _RUN.match(text, at):
            parts.append(run[0])
            if style is _Style.CHROME and " " in run[0]:
                losses.add(Loss.BLANKS)
            at = run.end()
            continue
        char, after, careted = _raw(text, at, carets)
        if careted and char == " ":
            losses.add(Loss.CHARACTERS)
        if char == "\\":
            follower, further, _ = _raw(text, after, carets) if after < end else ("", after, False)
            if style is _Style.FIREFOX:
                escaped = follower == '"' and not _closes(text, further, first=first)
            else:
                escaped = follower in ("\\", '"') or (carets and follower in ("`", "$"))
            parts.append(follower if escaped else "\\")
            at = further if escaped else after
        elif char == '"' and not carets and text.startswith('""', at):
            parts.append('"')
            at += 2
        elif char == '"':
            return after
        else:
            parts.append(char)
            at = after
    raise Unreadable("cut_off")


def _raw(text: str, at: int, carets: bool) -> tuple[str, int, bool]:
    """Returns a character without its caret, the place behind it, and whether it had one."""
    if not carets or text[at] != "^" or at + 1 >= len(text):
        return text[at], at + 1, False
    if text[at + 1] == "\n":  # one line break, written as two
        return "\n", at + (3 if text.startswith("\n", at + 2) else 2), True
    return text[at + 1], at + 2, True


def _closes(text: str, at: int, *, first: bool) -> bool:
    """Tells whether what follows a quote shows that it ended an argument, for a style that writes a backslash before it like an escape."""
    return bool(_LINE_END.match(text, at)) or (first and text[at : at + 1] == " ")
