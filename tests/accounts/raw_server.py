"""Servers and name servers that do exactly what a test of the egress says, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from accounts.egress import EgressPolicy

STRICT = EgressPolicy()
LOOPBACK = EgressPolicy.of(http_hosts=["127.0.0.1", "provider.test", "other.test"], allow_cidrs=["127.0.0.1/32"])


class Names(AbstractResolver):
    """A resolver that answers from a list, one entry for each question, and keeps count; the last entry answers for good."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": address, "port": port, "family": socket.AF_INET6 if ":" in address else socket.AF_INET, "proto": 0, "flags": 0}
            for address in answer
        ]

    async def close(self) -> None:
        pass


class Request:
    """One request as it arrived."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = [tuple(line.split(": ", 1)) for line in lines if line]
        self.body = body

    def __getitem__(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


Handler = Callable[[Request, asyncio.StreamWriter, "Server"], Awaitable[None]]


class Server:
    """Counts connections and requests; `handler` writes the answer. A connection ends when the handler closes it or the client does."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.released = asyncio.Event()
        self.port = 0
        self.open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by stop()
                await self._talk(reader, writer)
        finally:
            self.open.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # the last is what uvloop says of a closed one
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                request = Request(head[:-4], b"")
                request.body = await reader.readexactly(int(request["content-length"] or 0))
                self.requests.append(request)
                self.arrived.set()
                await self.handler(request, writer, self)
                await writer.drain()
        self.gone.set()

    async def stop(self) -> None:
        """Ends the connections that are still open."""
        self.released.set()
        for task in (left := list(self.open)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(handler)
    listener = await asyncio.start_server(server.serve, host, port, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(data: bytes) -> Handler:
    async def handler(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
        writer.write(data)

    return handler


async def silent(request: Request, writer: asyncio.StreamWriter, server: Server) -> None:
    await server.released.wait()


def go(scenario: Callable[[], Awaitable[None]], seconds: float = 20.0) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await scenario()

    asyncio.run(bounded())
