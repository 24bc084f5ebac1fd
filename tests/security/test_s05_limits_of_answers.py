"""S5: bodies have a cap, encodings are refused (a bomb is small on the wire), and a drip ends at the deadline."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest

from accounts.egress import BodyTooLarge, EncodingRefused, build_client
from tests.accounts.raw_server import LOOPBACK, Request, Server, always, answer, go, serving


def test_s05_a_gzip_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))

    async def scenario() -> None:
        async with serving(always(answer(bomb, "200 OK", "Content-Encoding: gzip"))) as server, build_client(LOOPBACK, concurrency=1) as client:
            with pytest.raises(EncodingRefused):
                await client.get(f"http://127.0.0.1:{server.port}/")
            assert server.requests[0]["accept-encoding"] == "identity"

    go(scenario)


def test_s05_a_body_over_the_cap_is_refused() -> None:
    async def endless(_request: Request, writer: asyncio.StreamWriter, _server: Server) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()

    async def scenario() -> None:
        for handler in (endless, always(answer(b"", length=50_001))):
            async with serving(handler) as server, build_client(LOOPBACK, concurrency=1, max_body=50_000) as client:
                with pytest.raises(BodyTooLarge):
                    await client.get(f"http://127.0.0.1:{server.port}/")

    go(scenario)


def test_s05_a_drip_ends_at_the_deadline() -> None:
    async def dripping(_request: Request, writer: asyncio.StreamWriter, _server: Server) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with serving(dripping) as server, build_client(LOOPBACK, concurrency=1, deadline=0.3, timeout=httpx.Timeout(5.0)) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{server.port}/")

    go(scenario, seconds=5)
