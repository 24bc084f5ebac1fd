"""What every provider can be asked, and the one way a request leaves the house.

A provider's file declares (fields, capabilities, pace) and translates (paths, bodies, answers, errors). Everything that all of them
need is here: pacing, patience, the mapping of transport failures, and the rules about repeating a request:

* a refused request (RateLimited) was not carried out, so it may be sent again after the wait;
* a read, or anything that never left us, may be sent again;
* a write that was sent and not answered is never sent again: OutcomeUnknown, and the caller reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Container, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

import httpx

from .errors import (
    AddressRefused,
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    Unsupported,
)
from .exchange import Masker, Recorder, Recording
from .parts import jwt
from .records import Identity, Json, MessagePage, Page, Ref, RemoteConversation, RemoteModel
from .schema import Capability, Field, Op, Pace, Scope, gettext_noop
from .secret import Secret
from .traces import Traces

_ = gettext_noop


class Limiter(Protocol):
    """The part of accounts.limiter that a provider uses."""

    async def acquire(self, key: str, *, rate: float, burst: int = 1, priority: bool = False, max_wait: float | None = None) -> float: ...
    async def cool_down(self, key: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long (seconds in all) one call may try again before its error reaches the caller."""

    attempts: int = 4
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One shared budget: everything with this key, in any process, stays within `rate` requests a second."""

    key: str
    rate: float
    burst: int = 1


class Provider:
    """One account's door to its provider; subclasses declare and translate.

    `http` is the guarded client, `credentials` the opened credential fields, `identity` the upstream identity that limits are keyed by.
    `memory` (plain JSON) and `kept` (secrets such as a fetched token) are what the account remembers between calls; whoever connects
    saves them afterwards. `prompt` calls go ahead of background work. `recorder` is told about every attempt of every request.
    """

    key: ClassVar[str]
    name: ClassVar[str]
    default_base_url: ClassVar[str] = ""
    base_url_help: ClassVar[str] = ""
    allowed_hosts: ClassVar[tuple[str, ...]] = ()  # base URLs must lie under one of these names; empty: anywhere the egress guard allows
    connect_help: ClassVar[str] = ""  # where a person finds the credential
    credential_fields: ClassVar[tuple[Field, ...]] = ()
    traces: ClassVar[Traces] = Traces()  # how a pasted request of this provider is recognised
    token_field: ClassVar[str] = ""  # the credential field that may hold a JSON Web Token, which tells when it ends
    capabilities: ClassVar[Mapping[Op, Capability]] = {}
    config_fields: ClassVar[tuple[Field, ...]] = ()  # stored settings of a conversation besides title and model
    title_field: ClassVar[Field] = Field("title", _("Title"), required=True, max_length=255)
    untitled: ClassVar[frozenset[str]] = frozenset({""})  # titles nobody chose
    pace: ClassVar[Pace] = Pace()
    read_timeout: ClassVar[float] = 30.0
    whole_list: ClassVar[bool] = True  # a listing reaches every conversation; False: what it does not name may still exist
    time_note: ClassVar[str] = ""  # shown where this provider tells no time of change
    do_not_call_in_templates: ClassVar[bool] = True  # a page shows what the class declares; a template engine would make an object of it first

    def __init__(
        self,
        http: httpx.AsyncClient,
        credentials: Mapping[str, Secret | str],
        *,
        base_url: str = "",
        limiter: Limiter | None = None,
        identity: str = "",
        pace: Pace | None = None,
        patience: Patience | None = None,
        prompt: bool = False,
        memory: MutableMapping[str, Any] | None = None,
        kept: MutableMapping[str, str] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.http = http
        self._said_always = dict(http.headers)  # in small letters, as providers' headers are
        self.credentials = credentials
        self.base_url = (base_url or self.default_base_url).rstrip("/")
        # Told True just before a write goes out (and may forbid it), False when it was surely not carried out.
        self.on_write: Callable[[bool], None] | None = None
        self.limiter = limiter
        self.identity = identity or self.fallback_identity()
        self.account_pace = pace or self.pace
        self.patience = patience or Patience()
        self.prompt = prompt
        self.memory: MutableMapping[str, Any] = {} if memory is None else memory
        self.kept: MutableMapping[str, str] = {} if kept is None else kept
        self.recorder = recorder
        self.requests = 0  # sent so far by this object, repeats included
        self._masker: Masker | None = None

    # --- declared by each provider ------------------------------------------------------------------------------------------------

    @classmethod
    def check_credentials(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Returns what is wrong with a credential document, by field name ("" for the whole); empty when it can be tried."""
        return {field.name: _("This field is required.") for field in cls.credential_fields if field.required and not given.get(field.name)}

    @classmethod
    def clean_credentials(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Returns the credential document as it is to be stored (trimmed, pasted prefixes removed, empty fields left out)."""
        secret = {field.name for field in cls.credential_fields if field.secret}
        texts = {name: str(value).strip() for name, value in given.items() if value is not None}
        clean = {name: _PASTED.sub("", value) if name in secret else value for name, value in texts.items()}
        return {name: value for name, value in clean.items() if value}

    def expires_at(self) -> datetime | None:
        """Returns when the credential ends as far as the credential itself tells, without any request; never used to authorise."""
        return jwt.expiry(self.secret(self.token_field)) if self.token_field else None

    async def check(self) -> Identity:
        """Returns who the credential belongs to; raises CredentialsRejected and the transport errors."""
        raise self.no(Op.CHECK)

    async def list_conversations(self, cursor: str | None = None, *, known: Container[str] = ()) -> Page[RemoteConversation]:
        """Returns the next page of **all** conversations. `known` names ids whose details the caller already holds."""
        raise self.no(Op.LIST)

    async def search(self, text: str, cursor: str | None = None) -> Page[RemoteConversation]:
        """Returns conversations whose title the provider matches with `text`."""
        raise self.no(Op.SEARCH)

    async def read(self, ref: Ref, *, fresh: bool = False) -> RemoteConversation:
        """Returns one conversation, at most 3 s old, or read anew with `fresh`; raises NotFound."""
        raise self.no(Op.READ)

    async def find(self, refs: Sequence[Ref]) -> dict[str, RemoteConversation]:
        """Returns those of the refs that the provider still has, by id, asked anew; the absent ones it denied."""
        found: dict[str, RemoteConversation] = {}
        for ref in refs:
            try:
                found[ref.remote_id] = await self.read(ref, fresh=True)
            except NotFound:
                continue
        return found

    @classmethod
    def covers(cls, remote_id: str, first_page: Container[str]) -> bool:
        """True when a complete listing whose first page held these ids would have shown this id if it still existed."""
        return cls.whole_list

    async def messages(self, ref: Ref, cursor: str | None = None, *, limit: int = 50) -> MessagePage:
        """Returns the newest messages, or those that a cursor of an earlier page names; always oldest first within the page."""
        raise self.no(Op.MESSAGES)

    async def first_message(self, ref: Ref) -> str | None:
        """Returns the text of the first user message, None when there is none."""
        raise self.no(Op.FIRST_MESSAGE)

    async def list_models(self) -> Sequence[RemoteModel]:
        """Returns the models that a conversation of this account can be switched to, without repeats, in the provider's order."""
        raise self.no(Op.MODELS)

    async def write(self, current: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Sends one write that sets `changes` (names of `values`) on top of `current`, a fresh read.

        Returns what the answer says is stored, None when the answer tells nothing. Raises OutcomeUnknown when no answer came.
        """
        raise self.no(self.op_for(next(iter(changes), "title")))

    async def generate_title(self, current: RemoteConversation, first_message: str) -> RemoteConversation:
        """Asks the provider once for a title of its own making (slow, billed, not repeatable) and returns what is stored."""
        raise self.no(Op.GENERATE_TITLE)

    # --- meanings that most providers share ---------------------------------------------------------------------------------------

    @classmethod
    def capability(cls, op: Op) -> Capability:
        """Returns the declared capability; what is not declared is not offered."""
        return cls.capabilities.get(op) or Capability(scope=Scope.NONE, reason=_("This provider has no such operation."))

    @classmethod
    def no(cls, op: Op) -> Unsupported:
        """Returns the error of an operation that is not offered, with the declared sentence."""
        return Unsupported(cls.capability(op).reason or _("This provider has no such operation."))

    @classmethod
    def op_for(cls, field: str) -> Op:
        """Returns which capability a change of this value needs."""
        return {"title": Op.RENAME, "model": Op.SWITCH_MODEL}.get(field, Op.EDIT_CONFIG)

    @classmethod
    def is_untitled(cls, title: str) -> bool:
        """True when nobody chose this title."""
        return title.strip() in cls.untitled

    @classmethod
    def model_value(cls, current: Json, chosen: str) -> Json:
        """Returns the stored value of `model` after switching a conversation that now stores `current` to the catalogue id `chosen`."""
        return chosen

    @classmethod
    def models_in(cls, value: Json) -> tuple[str, ...]:
        """Returns the catalogue ids that a stored value of `model` names, the current one first."""
        return (str(value),) if value not in (None, "") else ()

    @classmethod
    def stored_form(cls, field: str, value: Json) -> Json:
        """Returns what the provider is known to store when sent `value`; differs only for alterations that the contract declares."""
        return value

    @classmethod
    def cannot_store(cls, field: str, value: Json) -> str:
        """Returns why a value that was stored once cannot be stored again, as an undo wants it; "" when it can.

        What the provider would refuse, lose or alter counts; limits that only keep people from typing nonsense do not.
        """
        capability = cls.capability(cls.op_for(field))
        if not capability.available:
            return capability.reason
        altered = not cls.same_value(field, cls.stored_form(field, value), value)
        return _("The provider would store this value in another form.") if altered else ""

    @classmethod
    def same_value(cls, field: str, one: Json, other: Json) -> bool:
        """True when two stored values of a field mean the same to the provider; by default only when they are equal."""
        return bool(one == other)

    @classmethod
    def vanished(cls, before: RemoteConversation, after: RemoteConversation, changes: Mapping[str, Json]) -> tuple[str, ...]:
        """Names the values outside `changes` that a write emptied by accident: they held something before and hold nothing now."""
        return tuple(name for name, value in before.values.items() if name not in changes and value not in EMPTY and after.values.get(name) in EMPTY)

    async def repair(self, before: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Writes `before` with `changes` back as a whole after a write emptied other values; where a provider cannot, Unsupported."""
        raise Unsupported(_("This provider offers no way to write the other values back."))

    def allow_only(self, changes: Mapping[str, Json], *names: str) -> None:
        """Raises Unsupported, with the declared sentence, when `changes` names any other value than these, or nothing at all."""
        for name in changes or {"": None}:
            if name not in names:
                raise self.no(self.op_for(name))

    def checked_title(self, title: Json) -> str:
        """Returns a title that may be sent; raises RequestRejected for one that the title field refuses, as it is or as it would be stored."""
        try:
            sent = self.title_field.parse(title)
            self.title_field.parse(self.stored_form("title", sent))
        except ValueError as error:
            raise RequestRejected(error.args[0] % error.args[1]) from error
        return str(sent)

    def fallback_identity(self) -> str:
        """Returns the upstream identity to use until `check` has told one: base URL and a fingerprint of the credential."""
        parts = "\0".join(f"{k}={v.reveal() if isinstance(v, Secret) else v}" for k, v in sorted(self.credentials.items()))
        return f"{self.key}:" + hashlib.sha256(f"{self.base_url}\0{parts}".encode()).hexdigest()[:24]

    def secret(self, name: str) -> str:
        """Returns a credential field in clear, "" when it was not given; only for building a request."""
        value = self.credentials.get(name, "")
        return value.reveal() if isinstance(value, Secret) else value

    def without_secrets(self, text: str) -> str:
        """Returns a provider's words without any secret that they repeat, escaped or not (some error pages like to name the request)."""
        if self._masker is None:
            self._masker = Masker((self.secret(field.name) for field in self.credential_fields if field.secret), self.kept.values())
        elif not self._masker.knows(self.kept.values()):
            self._masker = self._masker.and_also(self.kept.values())
        return self._masker(text)

    # --- the one way out ----------------------------------------------------------------------------------------------------------

    def limit(self, method: str, path: str) -> Limit:
        """Returns the budget a request takes from; by default one per upstream identity."""
        return Limit(self.identity, self.account_pace.rate, self.account_pace.burst)

    async def headers(self, method: str, url: httpx.URL, content: bytes) -> dict[str, str]:
        """Returns the headers of one attempt (credential, signature), here those of JSON alone; asked anew for every attempt."""
        return {"accept": "application/json"} | ({"content-type": "application/json"} if content else {})

    def address(self, method: str, url: httpx.URL) -> httpx.URL:
        """Returns the URL of one attempt, for a credential that travels in the query; asked anew for every attempt, before `headers`."""
        return url

    def decode(self, response: httpx.Response, *, write: bool) -> Any:
        """Returns the useful part of an answer or raises the typed error; the only place where an answer is judged."""
        self.raise_for_http(response, write=write)
        return self.parse_json(response, write=write)

    async def recover(self, error: ProviderError, response: httpx.Response) -> bool:
        """Called once per request after a refusal: True when the cause is mended (token fetched, clock corrected) and it may go again."""
        return False

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        write: bool = False,
        timeout: float | None = None,
        attempts: int | None = None,
    ) -> Any:
        """Sends one request within the account's pace and returns `decode`'s result.

        `path` starts with "/" and is appended to the base URL; `params` are sent in order with RFC 3986 escapes; `body` is JSON. Raises
        the error tree of errors.py. Repeats follow the rules at the top of this file; `attempts` replaces the patience's, for a body
        that must be made anew before it may be sent again.
        """
        attempts = attempts or self.patience.attempts
        url = parsed(self.base_url + path + ("?" + encode_query(params) if params else ""))
        content = b"" if body is None else encode_body(body)
        deadline = time.monotonic() + self.patience.seconds
        recovered = False
        attempt = 0
        while True:
            attempt += 1
            response: httpx.Response | None = None
            announced = False
            try:
                await self._take_turn(method, path, deadline)
                if write and self.on_write:
                    self.on_write(True)
                    announced = True
                with Recording(self.recorder, self.without_secrets, method, url, content, write=write) as recording:
                    response = await self._send(method, url, content, write=write, timeout=timeout or self.read_timeout)
                    recording.answered(response)
                    return self.decode(response, write=write)
            except ProviderError as error:
                error.detail = self.without_secrets(error.detail)
                if announced and self.on_write and (error.retryable or isinstance(error, CredentialsRejected)):
                    self.on_write(False)
                if response is not None and not recovered and await self.recover(error, response):
                    recovered = True
                    attempt -= 1  # a mended cause uses up no attempt, so that even a caller with a single one gets its answer
                    continue
                if isinstance(error, RateLimited):
                    await self._cool_down(method, path, error)
                wait = error.retry_after if error.retry_after is not None else self._back_off(attempt)
                if not error.retryable or attempt == attempts or time.monotonic() + wait > deadline:
                    raise
                if not isinstance(error, RateLimited) or self.limiter is None:
                    await asyncio.sleep(wait)  # a cool-down is waited for in the limiter, together with everybody else

    async def _take_turn(self, method: str, path: str, deadline: float) -> None:
        if self.limiter is None:
            return
        limit = self.limit(method, path)
        try:
            await self.limiter.acquire(
                limit.key, rate=limit.rate, burst=limit.burst, priority=self.prompt, max_wait=max(0.0, deadline - time.monotonic())
            )
        except ConnectionError as error:
            raise ProviderUnavailable(_("The limits of this account cannot be looked up (Redis); nothing was sent.")) from error
        except Exception as busy:
            if (wait := getattr(busy, "retry_after", None)) is None:
                raise
            raise RateLimited(_("This account is being kept at its pace; nothing was sent."), retry_after=wait) from busy

    async def _cool_down(self, method: str, path: str, error: RateLimited) -> None:
        if error.retry_after is None:
            error.retry_after = self.account_pace.cool_down
        if self.limiter is not None and error.status is not None:
            with suppress(ConnectionError):  # Redis is away: this process knows of the cool-down all the same
                await self.limiter.cool_down(self.limit(method, path).key, error.retry_after)

    @staticmethod
    def _back_off(attempt: int) -> float:
        return min(8.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)

    async def _send(self, method: str, url: httpx.URL, content: bytes, *, write: bool, timeout: float) -> httpx.Response:
        url = self.address(method, url)
        headers = await self.headers(method, url, content)
        connect = min(10.0, timeout)
        limits = {"timeout": {"connect": connect, "read": timeout, "write": timeout, "pool": timeout}, "deadline": timeout + 30.0}
        # Not the client's build_request, which puts together several sets of headers, parameters and cookies for twice the time.
        request = httpx.Request(method, url, headers=self._said_always | headers, content=content or None, extensions=limits)
        self.requests += 1
        try:
            return await self.http.send(request)
        except httpx.LocalProtocolError as error:  # a header that cannot be sent, such as a credential with a line break in it
            raise RequestRejected(_("The request cannot be sent; check the credential for characters that do not belong there.")) from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ProviderUnavailable(_("No connection to the provider could be made; nothing was sent.")) from error
        except httpx.DecodingError as error:
            if write:
                raise OutcomeUnknown(_("The change was sent, but the answer cannot be read.")) from error
            raise MalformedAnswer(_("The answer is too large or encoded in a way that was not asked for.")) from error
        except httpx.TransportError as error:
            if code := getattr(error, "code", None):
                raise AddressRefused(str(error), detail=str(code)) from error
            if write:
                raise OutcomeUnknown(_("The change was sent, but the connection ended before an answer came.")) from error
            raise ProviderUnavailable(_("The connection ended before an answer came.")) from error

    # --- helpers for `decode` -----------------------------------------------------------------------------------------------------

    def raise_for_http(self, response: httpx.Response, *, write: bool, detail: str = "") -> None:
        """Raises the typed error that an HTTP status alone stands for; returns for 2xx."""
        status = response.status_code
        if 200 <= status < 300:
            return
        if status == 401:
            raise CredentialsRejected(_("The provider does not accept this credential."), status=status, detail=detail)
        if status == 403:
            raise PermissionRefused(_("The credential is accepted but may not do this."), status=status, detail=detail)
        if status == 429:
            raise RateLimited(_("The provider asks for fewer requests."), status=status, retry_after=retry_after_seconds(response), detail=detail)
        if status >= 500:
            raise self.out_of_order(status, write=write, detail=detail)
        if 300 <= status < 400:
            raise MalformedAnswer(_("The provider answered with a redirect, which is never followed; check the base URL."), status=status)
        raise RequestRejected(_("The provider refused the request."), status=status, detail=detail)

    def out_of_order(self, status: int, *, write: bool, detail: str = "") -> ProviderError:
        """Returns the error of an answer that says nothing certain: a read may be repeated, a write may have been carried out."""
        if write:
            return OutcomeUnknown(_("The provider failed while it carried out the change."), status=status, detail=detail)
        return ProviderUnavailable(_("The provider is out of order."), status=status, detail=detail)

    def senseless(self, status: int, sentence: str, *, write: bool) -> ProviderError:
        """Returns the error of a success that is not in the provider's form: a write may well have been carried out."""
        return (OutcomeUnknown if write else MalformedAnswer)(sentence, status=status)

    def parse_json(self, response: httpx.Response, *, write: bool) -> Any:
        """Returns the parsed body; a 2xx without JSON is MalformedAnswer on a read and OutcomeUnknown on a write."""
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError) as error:  # too deep to read is as good as no JSON
            if write:
                raise OutcomeUnknown(_("The change was sent, but the answer cannot be read."), status=response.status_code) from error
            raise MalformedAnswer(_("The answer is not JSON; probably the base URL is not that of the API."), status=response.status_code) from error


# What copying a whole header brings along.
_PASTED = re.compile(r"^(authorization\s*:\s*)?((bearer|basic)(\s+|$))?", re.IGNORECASE)
EMPTY: tuple[Any, ...] = (None, "", "[]", "{}", [], {})


def encode_body(body: Any) -> bytes:
    """Returns `body` as compact JSON in UTF-8; half an emoji (a lone surrogate, left by a careless cut upstream) goes out escaped, unharmed."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()


def encode_query(params: Mapping[str, str]) -> str:
    """Returns `params` as a query text in their order, escaped by RFC 3986 (space is %20, only unreserved characters stay)."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in params.items())


@lru_cache(maxsize=256)
def parsed(address: str) -> httpx.URL:
    """Returns an address as httpx takes it; a conversation is read and written at the same one, and parsing it takes as long as signing."""
    return httpx.URL(address)


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Returns the wait that a Retry-After header asks for (delta seconds or HTTP date), None when there is none or it is nonsense."""
    given = response.headers.get("retry-after", "").strip()
    if not given:
        return None
    try:
        wait = float(given)
    except ValueError:
        try:
            wait = parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return None
    return min(wait, 3600.0) if wait > 0 else None
