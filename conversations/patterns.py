"""Regular expressions that people type, never run in this process.

Python's matcher cannot be stopped from another thread and holds the interpreter while it runs, and no look at a pattern tells for sure whether it
will ever end. So a short-lived process of its own matches, with a time limit for each title and for all of them, and can be killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import BoundedSemaphore

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

MAX_PATTERN = 200
PER_TITLE = 0.2  # seconds
TOTAL = 5.0
STARTUP = 10.0  # for the process itself, on a busy machine
AT_ONCE = 2
_CHILD = Path(__file__).with_name("pattern_child.py")
_running = BoundedSemaphore(AT_ONCE)
_known: ContextVar[tuple[str, str, dict[str, str | None]] | None] = ContextVar("known replacements", default=None)


def run(find: str, replace: str, titles: Iterable[str]) -> dict[str, str | None]:
    """Returns title -> title with every match replaced, None where the pattern took too long.

    Raises ValidationError at `find` or `replace`, with the place, for what is no regular expression.
    """
    if len(find) > MAX_PATTERN or len(replace) > MAX_PATTERN:
        raise ValidationError({"find" if len(find) > MAX_PATTERN else "replace": [_("At most %(limit)d characters.") % {"limit": MAX_PATTERN}]})
    asked = list(dict.fromkeys(titles))
    document = json.dumps({"find": find, "replace": replace, "titles": asked, "limit": PER_TITLE, "total": TOTAL})
    if not _running.acquire(timeout=STARTUP):
        return dict.fromkeys(asked)
    try:
        # Isolated, without site-packages and without our environment: it needs nothing, and gets nothing to lose.
        command = [sys.executable, "-I", "-S", str(_CHILD)]
        done = subprocess.run(command, input=document, capture_output=True, encoding="utf-8", timeout=STARTUP + TOTAL, env={}, check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    finally:
        _running.release()
    if "error" in answer:
        raise ValidationError({answer["error"]: [_sentence(answer)]})
    if not answer and not asked:
        raise ValidationError({"find": [_("This pattern takes too long; write a simpler one.")]})
    made = answer.get("titles") or [None] * len(asked)
    return dict(zip(asked, made, strict=True))


def _sentence(answer: dict[str, object]) -> str:
    cause, place = str(answer["cause"]), answer["place"]
    if cause == "slow":
        return _("This pattern takes too long; write a simpler one.")
    said = _cause(cause)
    if not isinstance(place, int):
        return _("This cannot be read as a regular expression: %(cause)s.") % {"cause": said}
    return _("At character %(place)d: %(cause)s.") % {"place": place + 1, "cause": said}


def _cause(cause: str) -> str:
    causes = {
        "missing ), unterminated subpattern": _("a parenthesis is not closed"),
        "unbalanced parenthesis": _("a parenthesis is closed that was not opened"),
        "nothing to repeat": _("there is nothing to repeat before it"),
        "multiple repeat": _("it is repeated twice"),
        "unterminated character set": _("a square bracket is not closed"),
        "look-behind requires fixed-width pattern": _("what is looked for behind must have a fixed length"),
        "invalid group reference": _("there is no such group in the pattern"),
        "unknown group name": _("there is no such group in the pattern"),
        "bad character range": _("a range of characters ends before it begins"),
        "bad escape": _("a backslash stands before something that it has no meaning for"),
    }
    known = (said for beginning, said in causes.items() if cause.startswith(beginning))
    return next(known, _("it has no meaning here (%(cause)s)") % {"cause": cause})


def check(find: str, replace: str) -> None:
    """Raises ValidationError at the field that is no regular expression or no replacement for it."""
    run(find, replace, [])


@contextmanager
def prepared(find: str, replace: str, titles: Iterable[str], *, strict: bool = False) -> Iterator[None]:
    """Replaces in many titles with one process; inside the block `replaced` knows them.

    `strict` raises ValidationError, naming the title, when the pattern takes too long for one.
    """
    found = run(find, replace, titles)
    slow = next((title for title, made in found.items() if made is None), None)
    if strict and slow is not None:
        raise ValidationError({"find": [_("This pattern takes too long for the title “%(title)s”; write a simpler one.") % {"title": slow[:60]}]})
    before = _known.set((find, replace, found))
    try:
        yield
    finally:
        _known.reset(before)


def replaced(find: str, replace: str, title: str) -> str | None:
    """Returns a title with every match replaced, None when the pattern takes too long for it."""
    known = _known.get()
    if known is not None and known[:2] == (find, replace) and title in known[2]:
        return known[2][title]
    return run(find, replace, [title])[title]
