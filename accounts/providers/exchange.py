"""What is told about each attempt of a request: one Exchange, however it ended, with as little as its reader needs and no secret we know of.

A read that went well leaves its numbers only. A write also leaves what was sent and what came back, a failure more of the answer. Headers
are never part of it, and neither is what a provider adds to the address of an attempt (a token, for instance).
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import httpx

from .errors import MAX_DETAIL, ProviderError

logger = logging.getLogger(__name__)

SENT: Final = 600  # characters of a body that was sent, and of the answer to a write
FAILED: Final = 1000  # characters of the answer to a request that failed
PATH: Final = 300
MASK: Final = "…"
PART: Final = 8  # characters: a shorter part of a cookie could be any word


class Exchange(NamedTuple):
    """One attempt of one request, as it may be kept: shortened, and without the secrets of its account."""

    at: float  # when it was begun, in seconds since 1970
    method: str
    path: str  # with the query
    write: bool
    status: int | None  # of HTTP; None: no answer came
    ms: int
    size: int | None  # of the answer, in bytes
    sent: str
    answer: str
    error: str  # kind of the error that it became, "" when it went well


class Recorder(Protocol):
    """Who is told about exchanges; it must be quick and must not fail."""

    def __call__(self, exchange: Exchange) -> None: ...


class Recording:
    """Watches one attempt and tells its recorder how it ended, even when it was cancelled on the way."""

    __slots__ = ("answered_at", "at", "begun", "content", "method", "recorder", "response", "url", "without_secrets", "write")

    def __init__(
        self, recorder: Recorder | None, without_secrets: Callable[[str], str], method: str, url: httpx.URL, content: bytes, *, write: bool
    ) -> None:
        self.recorder, self.without_secrets = recorder, without_secrets
        self.method, self.url, self.content, self.write = method, url, content, write
        self.response: httpx.Response | None = None

    def __enter__(self) -> Recording:
        self.at, self.begun = time.time(), time.perf_counter()
        self.answered_at = 0.0
        return self

    def answered(self, response: httpx.Response) -> None:
        """Notes the answer and the time that it took; what it means is found out later."""
        self.response, self.answered_at = response, time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.recorder is None:
            return
        try:
            self.recorder(self._exchange(error))
        except Exception:
            logger.exception("a request was not recorded")  # the request itself has gone out, and its outcome counts

    def _exchange(self, error: BaseException | None) -> Exchange:
        told, response = self.write or error is not None, self.response
        length = FAILED if error is not None else SENT
        return Exchange(
            self.at,
            self.method,
            self.without_secrets(self.url.raw_path.decode("ascii", "replace"))[:PATH],
            self.write,
            response.status_code if response is not None else None,
            max(0, round(1000 * ((self.answered_at or time.perf_counter()) - self.begun))),
            len(response.content) if response is not None else None,
            self.without_secrets(start_of(self.content, SENT)) if told else "",
            self.without_secrets(start_of(response.content, length)) if told and response is not None else "",
            kind_of(error),
        )


def kind_of(error: BaseException | None) -> str:
    """Returns the kind of an error, "" for none."""
    if error is None:
        return ""
    if isinstance(error, ProviderError):
        return error.kind
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"


def start_of(body: bytes, length: int) -> str:
    """Returns at most so many characters of a body, however large it is; one that goes on ends with "…"."""
    text = body[: 4 * length].decode("utf-8", "replace")
    return text if len(text) <= length else text[: length - 1] + MASK


# --- secrets that an answer repeats ---------------------------------------------------------------------------------------------------


def forms_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Returns every way in which an answer may repeat one of the secrets, the longest first; of a cookie also its single values."""
    found = set()
    for secret in secrets:
        parts = [part.partition("=")[2].strip() for part in secret.split(";")]
        for text in (secret, *(part for part in parts if len(part) >= PART)):
            in_json = json.dumps(text)[1:-1]
            found |= {text, quote(text, safe=""), quote(text), in_json, in_json.replace("/", "\\/"), html.escape(text)}
    return tuple(sorted(found - {""}, key=len, reverse=True))


class Masker:
    """Masks every form of some secrets in a text; an object of its own, so that nothing that prints a provider prints them."""

    __slots__ = ("_forms", "_kept")

    def __init__(self, given: Iterable[str], kept: Iterable[str]) -> None:
        self._kept = frozenset(kept)
        self._forms = forms_of((*given, *self._kept))

    def knows(self, kept: Iterable[str]) -> bool:
        """True when it masks these, which change while an account is used."""
        return self._kept.issuperset(kept)

    def and_also(self, kept: Iterable[str]) -> Masker:
        """Returns one that masks these too, and still what was kept before: an answer may be late."""
        other = Masker((), frozenset(kept) - self._kept)
        other._kept |= self._kept
        other._forms = tuple(sorted({*self._forms, *other._forms}, key=len, reverse=True))
        return other

    def __call__(self, text: str) -> str:
        """Returns the text with each form masked, also one that the end of a shortened text has cut off."""
        shortened = text.endswith(MASK) or len(text) == MAX_DETAIL
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
            if shortened and len(form) >= PART and (cut := _cut_off(text.removesuffix(MASK), form)) is not None:
                text = text[:cut] + MASK
        return text


def _cut_off(text: str, form: str) -> int | None:
    """Returns where a form begins that ends with the text but is longer than what is left of it."""
    head, at = form[:6], max(0, len(text) - len(form))
    while (at := text.find(head, at)) >= 0:
        if form.startswith(text[at:]):
            return at
        at += 1
    return None
