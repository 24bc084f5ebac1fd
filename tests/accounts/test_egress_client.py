"""S4, S5 and what the errors of the guarded client say, on servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from django.test import override_settings

from accounts import egress
from accounts.egress import (
    BodyTooLarge,
    EgressBlocked,
    EgressPolicy,
    EncodingRefused,
    build_client,
)

from .raw_server import LOOPBACK, Handler, Request, Server, always, answer, go, serving, silent

NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.LocalProtocolError, EgressBlocked)


# --- S4: nothing is followed, nothing from the environment --------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_s04_redirects_are_answers_even_for_a_caller_who_asks_to_follow(status: str) -> None:
    async def scenario() -> None:
        async with serving(always(answer())) as elsewhere:
            handler = always(answer(b"", status, f"Location: http://127.0.0.1:{elsewhere.port}/stolen"))
            async with serving(handler) as server, build_client(LOOPBACK, concurrency=1) as client:
                for follow in (None, True):
                    options: dict[str, Any] = {} if follow is None else {"follow_redirects": follow}
                    response = await client.get(f"http://127.0.0.1:{server.port}/", headers={"Authorization": "Bearer synthetic"}, **options)
                    assert response.status_code == int(status[:3])
                    assert response.is_redirect
                async with client.stream("PUT", f"http://127.0.0.1:{server.port}/", content=b"x", follow_redirects=True) as streamed:
                    assert streamed.status_code == int(status[:3])
            assert elsewhere.connections == 0

    go(scenario)


def test_s04_proxies_and_netrc_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password synthetic\ndefault login somebody password synthetic\n")
    netrc.chmod(0o600)

    async def scenario() -> None:
        async with serving(always(answer())) as proxy, serving(always(answer())) as server:
            for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NETRC", str(netrc))
            monkeypatch.setenv("HOME", str(tmp_path))
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            async with build_client(LOOPBACK, concurrency=1) as client:
                assert (await client.get(f"http://127.0.0.1:{server.port}/")).status_code == 200
            assert proxy.connections == 0
            assert server.requests[0]["authorization"] is None

    go(scenario)


def test_s04_cookies_of_an_answer_are_not_sent_back_but_a_header_of_the_provider_is() -> None:
    async def scenario() -> None:
        async with (
            serving(always(answer(b"{}", "200 OK", "Set-Cookie: session=1; Path=/"))) as server,
            build_client(LOOPBACK, concurrency=1) as client,
        ):
            await client.get(f"http://127.0.0.1:{server.port}/")
            await client.get(f"http://127.0.0.1:{server.port}/")
            await client.get(f"http://127.0.0.1:{server.port}/", headers={"Cookie": "server_name_session=0"})
            assert [request["cookie"] for request in server.requests] == [None, None, "server_name_session=0"]
            assert not client.cookies

    go(scenario)


# --- S5: caps and deadlines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"])
def test_s05_identity_is_asked_for_and_any_other_encoding_refused(coding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))

    async def scenario() -> None:
        async with (
            serving(always(answer(bomb, "200 OK", f"Content-Encoding: {coding}", length=len(bomb) + 1))) as server,
            build_client(LOOPBACK, concurrency=1) as client,
        ):
            with pytest.raises(EncodingRefused) as refusal:
                await client.get(f"http://127.0.0.1:{server.port}/", headers={"Accept-Encoding": "gzip, br"})
            assert isinstance(refusal.value, httpx.DecodingError)
            assert server.requests[0]["accept-encoding"] == "identity"
            await server.gone.wait()  # the connection with the unread rest was closed

    go(scenario)


def test_s05_an_announced_identity_is_no_encoding() -> None:
    async def scenario() -> None:
        async with serving(always(answer(b"[1]", "200 OK", "Content-Encoding: identity"))) as server, build_client(LOOPBACK, concurrency=1) as client:
            assert (await client.get(f"http://127.0.0.1:{server.port}/")).json() == [1]

    go(scenario)


def test_s05_a_body_over_the_cap_is_refused_announced_or_not() -> None:
    async def endless(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await writer.drain()

    async def scenario() -> None:
        async with build_client(LOOPBACK, concurrency=1, max_body=100_000) as client:
            async with serving(always(answer(b"x" * 100_000))) as server:
                assert len((await client.get(f"http://127.0.0.1:{server.port}/")).content) == 100_000
            async with serving(always(answer(b"", length=100_001))) as server:
                with pytest.raises(BodyTooLarge, match="announced"):
                    await client.get(f"http://127.0.0.1:{server.port}/")
                await server.gone.wait()
            async with serving(endless) as server:
                with pytest.raises(BodyTooLarge, match="sent more"):
                    await client.get(f"http://127.0.0.1:{server.port}/")
                await server.gone.wait()

    go(scenario)
    assert issubclass(BodyTooLarge, httpx.DecodingError)
    assert egress.MAX_BODY == 64 * 1024 * 1024


async def dripping(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    """Never silent for as long as a read time-out, never finished."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def dripping_head(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    """The same within the headers."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


stalling = always(answer(b"half", length=100))  # half an answer, then nothing; the server waits for a next request


@pytest.mark.parametrize("handler", [dripping, dripping_head, stalling])
def test_s05_the_deadline_ends_a_drip_that_no_read_timeout_would(handler: Handler) -> None:
    async def scenario() -> None:
        async with serving(handler) as server, build_client(LOOPBACK, concurrency=1, timeout=httpx.Timeout(5.0)) as client:
            loop = asyncio.get_running_loop()
            start = loop.time()
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{server.port}/", extensions={"deadline": 0.3})
            assert 0.25 <= loop.time() - start < 4.5  # the read timeout is five
            await server.gone.wait()
        async with serving(handler) as server, build_client(LOOPBACK, concurrency=1, deadline=0.3) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.put(f"http://127.0.0.1:{server.port}/", content=b"x")

    go(scenario)
    assert egress.DEADLINE == 60.0


def test_s05_whoever_stops_waiting_for_a_body_gives_its_connection_up() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def half(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
            await stalling(request, writer, server)
            begun.set()

        async with serving(half) as server, build_client(LOOPBACK, concurrency=1) as client:
            url = f"http://127.0.0.1:{server.port}/"
            caller = asyncio.create_task(client.get(url))
            await begun.wait()
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            await server.gone.wait()
            server.handler = always(answer())
            assert (await client.get(url)).status_code == 200  # of its one connection none is left behind

    go(scenario)


def test_s05_a_silent_server_meets_the_read_timeout() -> None:
    async def scenario() -> None:
        async with serving(silent) as server, build_client(LOOPBACK, concurrency=1, timeout=httpx.Timeout(5.0, read=0.2)) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{server.port}/")

    go(scenario)


# --- What an error says about the request -----------------------------------------------------------------------------------


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of new connections is full: a connection there is neither accepted nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class Hanging(AbstractResolver):
    """A name server that does not answer."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        pass


class Failing(AbstractResolver):
    """A name that does not exist."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        pass


def test_nothing_was_sent_when_no_connection_came_about() -> None:
    async def scenario() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with build_client(LOOPBACK, concurrency=1) as client:
                with pytest.raises(httpx.ConnectError, match=r"refused|failed"):
                    await client.put(f"http://127.0.0.1:{closed.getsockname()[1]}/", content=b"x")
        async with build_client(LOOPBACK, concurrency=1, resolver=Failing()) as client:
            with pytest.raises(httpx.ConnectError, match="not known"):
                await client.put("http://provider.test/", content=b"x")
        with full_backlog() as port:
            async with build_client(LOOPBACK, concurrency=1, timeout=httpx.Timeout(5.0, connect=0.2)) as client:
                with pytest.raises(httpx.ConnectTimeout):
                    await client.put(f"http://127.0.0.1:{port}/", content=b"x")
                with pytest.raises(httpx.ConnectTimeout):
                    await client.put(f"http://127.0.0.1:{port}/", content=b"x", timeout=5.0, extensions={"deadline": 0.2})
        async with build_client(LOOPBACK, concurrency=1, resolver=Hanging(), deadline=0.2) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.put("http://provider.test/", content=b"x")

    go(scenario)


def test_nothing_was_sent_when_tls_was_cut_or_is_not_spoken() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def scenario() -> None:
        listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with listener, serving(always(answer())) as plain:
            for port in (listener.sockets[0].getsockname()[1], plain.port):
                async with build_client(EgressPolicy.of(ports=[port], allow_cidrs=["127.0.0.1/32"]), concurrency=1, deadline=0.5) as client:
                    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
                        await client.put(f"https://127.0.0.1:{port}/", content=b"x")

    go(scenario)


@pytest.mark.parametrize("options", [{"timeout": httpx.Timeout(5.0, pool=0.1, connect=0.1)}, {"extensions": {"deadline": 0.2}}])
def test_nothing_was_sent_while_waiting_for_a_connection_of_the_pool(options: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with serving(silent) as server, build_client(LOOPBACK, concurrency=1) as client:
            url = f"http://127.0.0.1:{server.port}/"
            first = asyncio.create_task(client.get(url))
            await server.arrived.wait()
            with pytest.raises(httpx.PoolTimeout):
                await client.put(url, content=b"x", **options)
            assert len(server.requests) == server.connections == 1
            server.released.set()
            first.cancel()
            with contextlib.suppress(asyncio.CancelledError, httpx.TransportError):
                await first

    go(scenario)


@pytest.mark.parametrize("name", ["Authorization", "X-Key"])
@pytest.mark.parametrize("value", ["Bearer synthetic\r\nX-Evil: 1", "synthetic\n", "synthetic\0", b"synthetic\xff"])
def test_nothing_was_sent_when_a_header_would_break_the_request(name: str, value: str | bytes) -> None:
    async def scenario() -> None:
        async with serving(always(answer())) as server, build_client(LOOPBACK, concurrency=1) as client:
            with pytest.raises(httpx.LocalProtocolError) as refusal:
                await client.put(
                    f"http://127.0.0.1:{server.port}/", content=b"x", headers=[(name.encode(), value.encode() if isinstance(value, str) else value)]
                )
            assert "synthetic" not in str(refusal.value)
            assert server.connections == 0

    go(scenario)


async def cut(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    writer.close()


async def reset(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def cut_in_the_head(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    writer.close()


async def cut_in_the_body(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    writer.write(answer(b'{"data', length=100))
    writer.close()


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("first", [True, False], ids=["new connection", "kept connection"])
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (cut, httpx.RemoteProtocolError),
        (reset, httpx.ReadError),
        (cut_in_the_head, httpx.RemoteProtocolError),
        (cut_in_the_body, httpx.RemoteProtocolError),
        (always(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), httpx.RemoteProtocolError),
        (silent, httpx.ReadTimeout),
    ],
    ids=["cut", "reset", "head", "body", "garbage", "silent"],
)
def test_a_request_that_may_have_arrived_says_so_and_is_received_exactly_once(
    failure: Handler, expected: type[httpx.TransportError], first: bool, method: str
) -> None:
    async def handler(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
        if "/warm" in request.line:
            writer.write(answer())
        else:
            await failure(request, writer, server)

    async def scenario() -> None:
        async with serving(handler) as server, build_client(LOOPBACK, concurrency=1, timeout=httpx.Timeout(5.0, read=0.3)) as client:
            base = f"http://127.0.0.1:{server.port}"
            if not first:
                assert (await client.put(f"{base}/warm", content=b"x")).status_code == 200
            with pytest.raises(expected) as failed:
                await client.request(method, f"{base}/write?token=synthetic", content=b'{"model":"m"}', headers={"Authorization": "Bearer synthetic"})
            assert not isinstance(failed.value, NOTHING_SENT)
            assert server.connections == 1
            # What would have come a second time comes before this one.
            assert (await client.get(f"{base}/warm")).status_code == 200
            assert [request.line.split()[1] for request in server.requests].count("/write?token=synthetic") == 1
            assert "synthetic" not in repr(failed.value)
            assert failed.value.__suppress_context__

    go(scenario)


def test_the_warm_connection_really_is_one_that_aiohttp_would_repeat_on() -> None:
    """Shows that the test above tests something: the bare library sends the lost PUT twice."""

    async def handler(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
        if len(server.requests) == 2:
            writer.close()
        else:
            writer.write(answer())

    async def scenario() -> None:
        async with serving(handler) as server, aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.put(f"http://127.0.0.1:{server.port}/", data=b"x") as response:
                    assert response.status == 200
            assert len(server.requests) == 3

    go(scenario)


def test_a_second_attempt_is_refused_even_if_aiohttp_repeats_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = egress.GuardedTransport._open_session

    def with_repeats(transport: egress.GuardedTransport) -> aiohttp.ClientSession:
        session = opened(transport)
        session._retry_connection = True
        return session

    monkeypatch.setattr(egress.GuardedTransport, "_open_session", with_repeats)

    async def handler(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
        if len(server.requests) == 2:
            writer.close()
        else:
            writer.write(answer())

    async def scenario() -> None:
        async with serving(handler) as server, build_client(LOOPBACK, concurrency=1) as client:
            await client.put(f"http://127.0.0.1:{server.port}/", content=b"1")
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await client.put(f"http://127.0.0.1:{server.port}/", content=b"2")
            assert [request.body for request in server.requests] == [b"1", b"2"]

    go(scenario)


# --- The client as a whole --------------------------------------------------------------------------------------------------


def test_what_goes_out_is_what_was_asked_for() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"in "
        yield b"pieces"

    async def scenario() -> None:
        async with (
            serving(always(answer(b'{"ok":1}', "201 Created", "X-Twice: a", "X-Twice: b"))) as server,
            build_client(LOOPBACK, concurrency=1) as client,
        ):
            url = f"http://127.0.0.1:{server.port}/"
            response = await client.post(
                url, json={"name": "值"}, headers=[("X-App-Version", "2"), ("x-many", "1"), ("x-many", "2"), ("X-Note", "值".encode())]
            )
            assert (response.status_code, response.reason_phrase, response.json()) == (201, "Created", {"ok": 1})
            assert response.headers.get_list("x-twice") == ["a", "b"]
            await client.post(url, content=pieces())
            await client.post(url)
            await client.delete(url)
            first, streamed, empty, deleted = server.requests
            assert first.body.decode() in ('{"name":"值"}', '{"name": "值"}')
            assert first["content-type"] == "application/json"
            assert ("X-App-Version", "2") in first.headers
            assert [value for name, value in first.headers if name.lower() == "x-many"] == ["1", "2"]
            assert first["x-note"].encode("latin-1").decode() == "值"
            assert (streamed.body, streamed["content-length"], streamed["transfer-encoding"]) == (b"in pieces", "9", None)
            assert (empty["content-length"], empty["content-type"]) == ("0", None)
            assert deleted.line.startswith("DELETE / ")
            assert server.connections == 1

    go(scenario)


def test_concurrency_is_the_number_of_connections() -> None:
    async def handler(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
        if len(server.requests) == 3:
            server.released.set()
        await server.released.wait()
        writer.write(answer())

    async def scenario() -> None:
        async with serving(handler) as server, build_client(LOOPBACK, concurrency=3) as client:
            answers = await asyncio.gather(*(client.get(f"http://127.0.0.1:{server.port}/{number}") for number in range(12)))
            assert {response.status_code for response in answers} == {200}
            assert server.connections == 3

    go(scenario)


def test_one_client_serves_several_runs_of_one_runner_and_closes_what_it_opened() -> None:
    client = build_client(LOOPBACK, concurrency=2)  # outside of any loop
    with asyncio.Runner() as runner:

        async def start() -> tuple[Server, asyncio.Server]:
            server = Server(always(answer()))
            return server, await asyncio.start_server(server.serve, "127.0.0.1", 0)

        server, listener = runner.run(start())
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        for _ in range(3):
            assert runner.run(client.get(url)).status_code == 200
        assert server.connections == 1
        session = client._transport.client  # type: ignore[attr-defined]
        connector = session.connector
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(client.get(url))
        runner.run(client.aclose())
        assert session.closed
        assert connector.closed
        runner.run(asyncio.wait_for(server.gone.wait(), 5))
        with pytest.raises(RuntimeError):
            runner.run(client.get(url))
        listener.close()
        runner.run(server.stop())


def test_a_cancelled_request_gives_its_place_back() -> None:
    async def scenario() -> None:
        async with serving(silent) as server, build_client(LOOPBACK, concurrency=1) as client:
            url = f"http://127.0.0.1:{server.port}/"
            task = asyncio.create_task(client.get(url))
            await server.arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.released.set()
            server.handler = always(answer())
            assert (await client.get(url)).status_code == 200

    go(scenario)


def test_the_settings_of_now_are_the_policy_of_a_client_without_one() -> None:
    async def scenario() -> None:
        async with serving(always(answer())) as server:
            with override_settings(EGRESS_HTTP_HOSTS=[f"127.0.0.1:{server.port}"], EGRESS_ALLOW_CIDRS=["127.0.0.1/32"]):
                async with build_client(concurrency=1) as client:
                    assert (await client.get(f"http://127.0.0.1:{server.port}/")).status_code == 200
            with override_settings(EGRESS_HTTP_HOSTS=[f"127.0.0.1:{server.port}"], EGRESS_ALLOW_CIDRS=[]):
                async with build_client(concurrency=1) as client:
                    with pytest.raises(EgressBlocked):
                        await client.get(f"http://127.0.0.1:{server.port}/")

    go(scenario)
