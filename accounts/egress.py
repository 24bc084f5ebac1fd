"""The one guarded way out: which addresses may be called, and the HTTP client that calls no others.

People type base URLs, so a URL is checked wherever one enters (form, CLI, API) and once more by the transport, by the same function. A
name proves nothing about an address: the resolver checks what a name resolves to, hands exactly these addresses on, and every socket is
checked a last time before it connects. The URL itself is never rewritten, so SNI, certificate and Host header keep the name.

A request that was sent is never sent again. What comes out of the client tells whether anything can have arrived:

    nothing was sent       httpx.ConnectError, ConnectTimeout, PoolTimeout, LocalProtocolError, EgressBlocked
    it may have been sent  httpx.ReadError, WriteError, ReadTimeout, RemoteProtocolError
    an answer was refused  BodyTooLarge, EncodingRefused (both httpx.DecodingError)

Redirects come back as they are (status 3xx) and are never followed; cookies are not kept.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final

import aiohttp
import httpx
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport
from yarl import URL

from accounts.addresses import CheckedUrl, EgressPolicy, EgressRefused, check_url, is_address_allowed, refuse_address

__all__ = (
    "BodyTooLarge",
    "CheckedUrl",
    "EgressBlocked",
    "EgressPolicy",
    "EgressRefused",
    "EncodingRefused",
    "GuardedResolver",
    "GuardedTransport",
    "build_client",
    "check_url",
    "is_address_allowed",
    "ssl_context",
)

MAX_BODY: Final = 64 * 1024 * 1024  # bytes
DEADLINE: Final = 60.0  # seconds from the call to the last byte of the answer
TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
# Below the 5 s after which common application servers close an idle connection: a write that meets a closing connection has an unknown
# outcome, and the lane has to read again.
KEEP_ALIVE: Final = 4.0


# --- Refusals -------------------------------------------------------------------------------------------------------------


class EgressBlocked(httpx.UnsupportedProtocol):
    """The client's own refusal of a request; nothing was sent. `code` is that of EgressRefused."""

    def __init__(self, refused: EgressRefused, *, request: httpx.Request | None = None) -> None:
        super().__init__(refused.message, request=request)
        self.code = refused.code


class BodyTooLarge(httpx.DecodingError):
    """The answer is longer than the client's cap; its connection was closed."""


class EncodingRefused(httpx.DecodingError):
    """The answer is compressed although that was not asked for; its connection was closed."""


# --- Names (S2, S3) -------------------------------------------------------------------------------------------------------


class GuardedResolver(AbstractResolver):
    """Resolves a name once and returns exactly the addresses it checked; one address that is not allowed refuses the whole answer.

    `inner` does the look-up (the system's resolver unless given). Raises EgressRefused, or OSError when the name does not resolve.
    """

    def __init__(self, policy: EgressPolicy, inner: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._inner = inner

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        if self._inner is None:
            self._inner = aiohttp.ThreadedResolver()  # not in __init__: it wants a running loop
        answer = await self._inner.resolve(host, port, family)
        if not answer:
            raise OSError(None, "The name has no address.")
        for found in answer:
            refuse_address(found["host"], self._policy, host)
        return answer

    async def close(self) -> None:
        if self._inner is not None:
            await self._inner.close()


# --- The client (S3 to S5) ------------------------------------------------------------------------------------------------


def build_client(
    policy: EgressPolicy | None = None,
    *,
    concurrency: int,
    max_body: int = MAX_BODY,
    deadline: float = DEADLINE,
    timeout: httpx.Timeout = TIMEOUT,
    resolver: AbstractResolver | None = None,
) -> httpx.AsyncClient:
    """Builds the HTTP client of one lane or one call; close it with `aclose()` or `async with`.

    `concurrency` is the number of connections. `max_body` (bytes) caps an answer, `deadline` (seconds) a whole request from the call to
    the last byte; one request can have its own through `extensions={"deadline": seconds}`. `resolver` replaces the system's look-up of
    names, not the checks. May be built outside of an event loop; belongs to the loop of its first request. Errors: top of this file.
    """
    transport = GuardedTransport(
        EgressPolicy.from_settings() if policy is None else policy,
        concurrency=concurrency,
        max_body=max_body,
        deadline=deadline,
        resolver=resolver,
    )
    return _GuardedClient(
        transport=transport,
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        headers={"accept-encoding": "identity"},
    )


def new_loop() -> asyncio.AbstractEventLoop:
    """Returns an event loop for calls to providers, written in C: asyncio's own costs a lane a fifth more time (docs/benchmarks.md)."""
    return uvloop.new_event_loop()


class _NoCookies(httpx.Cookies):
    """Keeps nothing of an answer. (A cookie jar with a policy that forbids everything takes 14 % of a request to find nothing.)"""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Does nothing."""


class _GuardedClient(httpx.AsyncClient):
    """httpx's client without memory for cookies and without the switch that would let one call follow redirects."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._no_cookies = _NoCookies()

    @property  # type: ignore[misc]
    def cookies(self) -> httpx.Cookies:
        """Empty whatever answers set: a cookie that a provider needs is a header of its request."""
        return self._no_cookies

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        if self.is_closed:
            return await super().send(request, **options)  # which refuses
        # Without httpx's rounds for authentication, redirects, cookies and hooks: none of them has anything to do here.
        response = await self._transport.handle_async_request(request)
        response.request = request
        return response


@cache
def ssl_context() -> ssl.SSLContext:
    """The TLS settings of this process: building them reads the trusted certificates, which takes about 20 ms."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(slots=True)
class _Exchange:
    """How far one request came. Decides which error its failure is, so it is set where it happens: in the connector."""

    host: str
    ends: float  # loop time
    step: str = "pool"  # pool (waits for a free connection), connecting, sent (from here on bytes may have left)
    refused: EgressRefused | None = None


_exchange: ContextVar[_Exchange] = ContextVar("egress_exchange")


class _GuardedConnector(aiohttp.TCPConnector):
    """aiohttp's pool of connections, keyed by scheme, host and port, that checks each socket's address and notes how far a request came."""

    def __init__(self, policy: EgressPolicy, *, concurrency: int, resolver: AbstractResolver | None) -> None:
        super().__init__(
            limit=concurrency,
            ssl=ssl_context(),
            resolver=GuardedResolver(policy, resolver),
            keepalive_timeout=KEEP_ALIVE,
            socket_factory=self._open_socket,
        )
        self._policy = policy

    def _open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _name, where = info
        try:
            refuse_address(where[0], self._policy, _exchange.get().host)
        except EgressRefused as refused:
            _exchange.get().refused = refused
            # An OSError, because the code that races several addresses of a name expects nothing else.
            raise PermissionError(refused.message) from None
        return socket.socket(family, kind, protocol)

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
        exchange = _exchange.get()
        if exchange.step == "sent":
            # Second line behind `_retry_connection`: one request gets one connection, whatever a later aiohttp thinks of repeating it.
            raise aiohttp.ClientConnectionError("A request that was sent is not sent again.")
        connection = await super().connect(req, traces, timeout)
        exchange.step = "sent"
        return connection

    async def _create_connection(self, req: aiohttp.ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
        _exchange.get().step = "connecting"
        return await super()._create_connection(req, traces, timeout)


class GuardedTransport(AiohttpTransport):
    """httpx on aiohttp with the guard around it; `build_client` is the way to get one.

    Differs from its base where that would hurt: the request target goes out byte for byte (the base lets yarl unescape a query, which
    breaks signatures), header names keep their case, failures are told apart by what was sent, and bodies end at the cap and the deadline.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        concurrency: int,
        max_body: int = MAX_BODY,
        deadline: float = DEADLINE,
        resolver: AbstractResolver | None = None,
    ) -> None:
        super().__init__(verify=ssl_context(), trust_env=False, client=self._open_session)
        self._policy = policy
        self._concurrency = concurrency
        self._max_body = max_body
        self._deadline = deadline
        self._resolver = resolver
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the first request
        self._origins: set[tuple[str, bytes, int | None]] = set()  # already checked

    def _open_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=_GuardedConnector(self._policy, concurrency=self._concurrency, resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        # aiohttp repeats GET, PUT, DELETE ... by itself when a kept connection turns out to be closed. Whether the server carried out the
        # first one is not known then, and the answer to that is a read.
        if not hasattr(session, "_retry_connection"):
            raise RuntimeError("This aiohttp has no _retry_connection: find out how it is kept from sending a request twice.")
        session._retry_connection = False
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request and returns the answer with its whole body; raises the errors listed at the top of this file."""
        self._check_origin(request)
        body = await request.aread()
        headers = _header_list(request)
        loop = asyncio.get_running_loop()
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client, self._loop = self.get_client(), loop
        elif self._loop is not loop:
            raise RuntimeError("This client belongs to another event loop.")
        limits = request.extensions.get("timeout") or {}
        exchange = _Exchange(request.url.host, loop.time() + (request.extensions.get("deadline") or self._deadline))
        response: aiohttp.ClientResponse | None = None
        token = _exchange.set(exchange)
        try:
            async with asyncio.timeout_at(exchange.ends):
                response = await self.client.request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    timeout=_timeout(limits.get("pool"), limits.get("connect"), limits.get("read")),
                )
                self._check_answer(response, request)
                content = await self._read(response, request)
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, (EgressRefused, aiohttp.ClientError, OSError, ValueError, RuntimeError)):  # TimeoutError is an OSError
                # RuntimeError is what uvloop raises where a connection closed just before it is written to.
                raise _translated(error, exchange, request) from None
            raise
        finally:
            _exchange.reset(token)
        return httpx.Response(
            status_code=response.status,
            headers=response.raw_headers,
            content=content,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode("ascii", "ignore")},
        )

    async def _read(self, response: aiohttp.ClientResponse, request: httpx.Request) -> bytes:
        pieces, left = [], self._max_body
        while piece := await response.content.readany():
            left -= len(piece)
            if left < 0:
                raise BodyTooLarge(f"{request.url.host} sent more than {self._max_body} bytes.", request=request)
            pieces.append(piece)
        return b"".join(pieces)

    def _check_origin(self, request: httpx.Request) -> None:
        url = request.url
        origin = (url.scheme, url.raw_host, url.port)
        if url.userinfo or origin not in self._origins:
            try:
                # Path and query are the provider's business; the rest goes through the same function as a typed base URL. Of user and
                # password only the fact that there are any is passed on.
                check_url(f"{url.scheme}://{'@' if url.userinfo else ''}{url.netloc.decode('ascii')}", self._policy)
            except EgressRefused as refused:
                raise EgressBlocked(refused, request=request) from None
            self._origins.add(origin)

    def _check_answer(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        for coding in response.headers.getall("Content-Encoding", ()):
            if coding.strip().lower() not in ("", "identity"):
                raise EncodingRefused(f"{request.url.host} answered in an encoding that was not asked for.", request=request)
        if (length := response.content_length) is not None and length > self._max_body and request.method != "HEAD":
            raise BodyTooLarge(f"{request.url.host} announced an answer of {length} bytes; at most {self._max_body} are read.", request=request)


@lru_cache(maxsize=64)
def _timeout(pool: float | None, connect: float | None, read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=None if pool is None or connect is None else pool + connect, sock_connect=connect, sock_read=read)


def _header_list(request: httpx.Request) -> list[tuple[str, str]]:
    """The headers as aiohttp takes them, with identity as the one encoding; a header that would break the message is refused unsent."""
    raw = request.headers.raw
    try:
        if any(map(_HEADER_BREAK.search, chain.from_iterable(raw))):
            raise ValueError
        headers = [(name.decode("ascii"), value.decode("utf-8")) for name, value in raw]
    except ValueError:
        # Without the value: it is most likely a credential with a line break in it.
        raise httpx.LocalProtocolError("A header of the request holds a line break or another control character.", request=request) from None
    kept = [header for header in headers if header[0].lower() not in _OURS]
    return [*kept, ("Accept-Encoding", "identity")]


_HEADER_BREAK: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = frozenset(("accept-encoding", "transfer-encoding", "te"))  # the body goes out whole, with its length


def _translated(error: BaseException, exchange: _Exchange, request: httpx.Request) -> httpx.RequestError:
    """The httpx error that tells how far the request came.

    Texts are our own: those of aiohttp quote the whole URL, and some of its errors carry the request headers.
    """
    host = exchange.host
    if isinstance(error, EgressRefused):
        return EgressBlocked(error, request=request)
    if exchange.refused is not None and exchange.step != "sent":
        return EgressBlocked(exchange.refused, request=request)
    if exchange.step == "pool" and isinstance(error, TimeoutError):
        return httpx.PoolTimeout(f"No connection to {host} became free in time.", request=request)
    if exchange.step != "sent":
        if isinstance(error, TimeoutError):
            return httpx.ConnectTimeout(f"No connection to {host} in time.", request=request)
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if cause is error and isinstance(error, ValueError):
            return httpx.LocalProtocolError("The request cannot be sent as it is.", request=request)
        detail = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or type(cause).__name__
        return httpx.ConnectError(f"No connection to {host}: {detail}.", request=request)
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout(f"{host} did not answer in time.", request=request)
    if isinstance(error, aiohttp.ClientConnectionResetError) or (isinstance(error, aiohttp.ClientOSError) and "write" in (error.strerror or "")):
        return httpx.WriteError(f"The connection to {host} broke while the request was being sent.", request=request)
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientResponseError)):
        return httpx.RemoteProtocolError(f"{host} ended the connection or answered with broken HTTP ({type(error).__name__}).", request=request)
    return httpx.ReadError(f"The connection to {host} broke ({type(error).__name__}).", request=request)
