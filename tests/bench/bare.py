"""The bare loop beside the product: an aiohttp client in a process of its own that sends the same requests, with nothing around them.

`python -m tests.bench.bare KEY IN_FLIGHT URL...` says "ready", waits for a line, runs, and prints one JSON object. It needs no Django.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import aiohttp

MODELROUTER_PATH = "/api/v1/modelRouter/open/conversations"
Work = Callable[[], Awaitable[int]]


async def modelrouter(session: aiohttp.ClientSession, url: str, in_flight: int) -> Work:
    """A signed GET and a signed PUT for each conversation."""
    from accounts.providers.modelrouter import VERSION
    from accounts.providers.parts.acs3 import JSON_TYPE, authorization

    async with session.get(f"{url}/_sim/credential") as answer:
        credential = await answer.json()
    async with session.get(f"{url}/_sim/truth") as answer:
        queue = iter(list(await answer.json()))
    host = url.removeprefix("http://")

    def signed(method: str, path: str, action: str, content: bytes) -> dict[str, str]:
        headers = {
            "host": host,
            "x-acs-action": action,
            "x-acs-version": VERSION,
            "x-acs-date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-content-sha256": sha256(content).hexdigest(),
        }
        if content:
            headers["content-type"] = JSON_TYPE
        key, secret = credential["access_key_id"], credential["access_key_secret"]
        return headers | {"authorization": authorization(method, path, "", headers, key, secret)}

    async def one_at_a_time() -> int:
        done = 0
        for remote_id in queue:
            path = f"{MODELROUTER_PATH}/{remote_id}"
            async with session.get(url + path, headers=signed("GET", path, "ModelRouterQueryConversation", b"")) as answer:
                json.loads(await answer.read())
            body = b'{"modelIds":"[5]"}'
            headers = signed("PUT", path, "ModelRouterUpdateConversation", body)
            async with session.put(url + path, headers=headers, data=body) as answer:
                assert json.loads(await answer.read())["success"]
            done += 1
        return done

    return lambda: _together(one_at_a_time, in_flight)


async def aurod(session: aiohttp.ClientSession, url: str, in_flight: int) -> Work:
    """Every page of the listing once, and a whole-object PUT for each session."""
    async with session.get(f"{url}/_sim/credential") as answer:
        credential = await answer.json()
    headers = {"authorization": credential["token"], "x-app-version": credential["app_version"], "content-type": "application/json"}

    async def page(number: int) -> dict[str, Any]:
        async with session.get(f"{url}/api/chat/session?page={number}", headers=headers) as answer:
            return json.loads(await answer.read())["data"]  # type: ignore[no-any-return]

    async def work() -> int:
        first = await page(1)
        rows = first["records"]
        for number in range(2, first["pages"] + 1):
            rows += (await page(number))["records"]
        queue = iter({row["id"]: row for row in rows}.values())

        async def one_at_a_time() -> int:
            done = 0
            for row in queue:
                body = json.dumps(row | {"model": "gpt-4.1-mini"}, ensure_ascii=False).encode()
                async with session.put(f"{url}/api/chat/session/{row['id']}", headers=headers, data=body) as answer:
                    assert json.loads(await answer.read())["code"] == 0
                done += 1
            return done

        return await _together(one_at_a_time, in_flight)

    return work


LOOPS = {"modelrouter": modelrouter, "aurod": aurod}


async def _together(work: Work, times: int) -> int:
    return sum(await asyncio.gather(*(work() for _ in range(times))))


async def main(key: str, in_flight: int, urls: Sequence[str]) -> None:
    """Runs one loop over all addresses when told to."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
        works = [await LOOPS[key](session, url, in_flight) for url in urls]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        cpu, began = time.process_time(), time.monotonic()
        items = sum(await asyncio.gather(*(work() for work in works)))
        print(json.dumps({"items": items, "began": began, "ended": time.monotonic(), "cpu": time.process_time() - cpu}), flush=True)


# --- for the measurement ------------------------------------------------------------------------------------------------------------


@dataclass
class Loops:
    """What one or more loops did together: items, seconds from the first start to the last end, CPU seconds of each."""

    items: int
    seconds: float
    cpus: list[float]


def run(key: str, in_flight: int, shares: Iterable[Sequence[str]]) -> Loops:
    """Runs one loop for each share of the addresses, all at the same moment."""
    with ExitStack() as running:
        processes: list[subprocess.Popen[str]] = []
        for urls in shares:
            command = [sys.executable, "-m", "tests.bench.bare", key, str(in_flight), *urls]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.callback(process.wait)
            running.callback(process.terminate)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("a bare loop did not start")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
    seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
    return Loops(sum(one["items"] for one in told), seconds, [one["cpu"] for one in told])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
