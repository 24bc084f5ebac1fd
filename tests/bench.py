"""`make bench`: a whole product job beside a bare client, on the same simulated providers, in the same run.

Each round serves fresh simulators (a process of their own), connects the accounts, reads and previews, and lets one real Celery worker run
the job; then a bare aiohttp loop sends the same requests at the same concurrency to fresh ones. What is printed are medians and ratios
within this run: on a shared machine only ratios mean something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(tempfile.mkdtemp(prefix="switchboard-bench-"))
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SWITCHBOARD_DATA_DIR": str(DATA),
    "SWITCHBOARD_EGRESS_HTTP_HOSTS": "127.0.0.1",
    "SWITCHBOARD_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
    "SWITCHBOARD_LOG_LEVEL": "ERROR",
}

ACCOUNTS, IN_FLIGHT = 8, 8
PATH = "/api/v1/modelRouter/open/conversations"


@dataclass
class Measured:
    """One run: items, seconds, CPU seconds of the one process that worked, requests the providers saw, memory in MB (None: not measured)."""

    items: int
    seconds: float
    cpu: float
    requests: int
    memory: float | None = None

    @property
    def rate(self) -> float:
        return self.items / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        return self.cpu / self.items * 1000


@contextmanager
def simulators(key: str, *, copies: int, size: int, latency: float) -> Iterator[list[str]]:
    """Serves copies of one simulated provider from a process of its own."""
    command = [sys.executable, "-m", "tests.simulators", "--only", key, "--copies", str(copies), "--port", "0"]
    command += ["--size", str(size), "--latency", str(latency), "--unlimited"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())[key]
        yield urls if isinstance(urls, list) else [urls]
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def worker() -> Iterator[int]:
    """Runs one Celery worker as the product does and yields its process id once it is ready."""
    options = ["--pool", "threads", "--concurrency", "8", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "--app", "config", "worker", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SWITCHBOARD_LOG_LEVEL": "INFO"},
    )
    try:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "celery@" in line and line.rstrip().endswith("ready."):
                break
        if process.poll() is not None:
            raise SystemExit("the worker did not start:\n" + "".join(seen[-20:]))

        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def cpu_of(pid: int) -> float:
    """Returns the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_of(pid: int) -> float:
    """Returns the proportional memory of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


# --- the product --------------------------------------------------------------------------------------------------------------------


def connect(user: Any, key: str, urls: list[str]) -> list[Any]:
    """Connects an account to each simulator; the worker reads them, as it does for a person."""
    import httpx

    from accounts import services
    from accounts.models import Account, SyncState
    from accounts.providers import get_provider

    found = []
    for number, url in enumerate(urls):
        document = services.clean_credentials(get_provider(key), httpx.get(f"{url}/_sim/credential", trust_env=False).json())
        report = services.test_credentials(key, url, document)
        account = services.add_account(user, key, f"{key} {number} {secrets.token_hex(3)}", url, document, report=report)
        Account.objects.filter(pk=account.pk).update(rate=100_000, concurrency=IN_FLIGHT)
        found.append(account)
    for account in found:
        wait_until(lambda account=account: Account.objects.get(pk=account.pk).sync_state == SyncState.DONE, 300)
        account.refresh_from_db()
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns once the condition holds; ends the benchmark when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the benchmark waited in vain")
        time.sleep(0.1)


def requests_seen(urls: list[str]) -> int:
    """Returns how many requests the simulators have answered."""
    import httpx

    return sum(len(httpx.get(f"{url}/_sim/log", trust_env=False, timeout=60).json()) for url in urls)


def product(user: Any, pid: int, key: str, *, copies: int, size: int, latency: float) -> Measured:
    """Runs one switch-model job over everything and measures from the Run click to the last result."""
    from conversations import jobs, leases
    from conversations.models import Conversation, Job

    with simulators(key, copies=copies, size=size, latency=latency) as urls:
        accounts = connect(user, key, urls)
        rows = Conversation.objects.filter(account__in=accounts)
        used = set(rows.values_list("model", flat=True))
        target = next(model.model_id for model in accounts[0].catalogue.all() if model.model_id not in used)
        job = jobs.create(user, "switch-model", rows)
        send, jobs.wake.check = jobs.wake.check, lambda *_ids: None  # the preview's own reading is not what is measured
        try:
            jobs.plan(job, {"targets": {"*": target}})
        finally:
            jobs.wake.check = send
        seen = requests_seen(urls)
        before, started = cpu_of(pid), time.perf_counter()
        jobs.start(user, job, typed_count=job.n_pending)
        poll = 0.0
        while (job := Job.objects.get(pk=job.pk)).finished_at is None:
            time.sleep(0.05)
            poll += 0.05
            if poll % 5 < 0.05:
                for account_id in leases.reap():
                    jobs.wake.lane(account_id)
        seconds = time.perf_counter() - started
        cpu, memory = cpu_of(pid) - before, pss_of(pid)
        assert job.n_applied == size * copies, job.counts
        return Measured(job.total, seconds, cpu, requests_seen(urls) - seen, memory)


# --- the bare loop ------------------------------------------------------------------------------------------------------------------


async def bare_modelrouter(urls: list[str], size: int) -> int:
    """Sends a signed GET and a signed PUT per conversation, with nothing else around; returns how many."""
    import aiohttp

    from accounts.providers.modelrouter import VERSION
    from accounts.providers.parts.acs3 import JSON_TYPE, authorization

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
        done = 0

        async def one_account(url: str) -> None:
            nonlocal done
            async with session.get(f"{url}/_sim/credential") as answer:
                credential = await answer.json()
            async with session.get(f"{url}/_sim/truth") as answer:
                ids = list(await answer.json())
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

            queue = iter(ids)

            async def work() -> None:
                nonlocal done
                for remote_id in queue:
                    path = f"{PATH}/{remote_id}"
                    async with session.get(url + path, headers=signed("GET", path, "ModelRouterQueryConversation", b"")) as answer:
                        json.loads(await answer.read())
                    body = b'{"modelIds":"[5]"}'
                    headers = signed("PUT", path, "ModelRouterUpdateConversation", body)
                    async with session.put(url + path, headers=headers, data=body) as answer:
                        assert json.loads(await answer.read())["success"]
                    done += 1

            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))

        await asyncio.gather(*(one_account(url) for url in urls))
        return done


async def bare_aurod(urls: list[str], size: int) -> int:
    """Reads every page once and sends one whole-object PUT per session; returns how many."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:

        async def one_account(url: str) -> int:
            async with session.get(f"{url}/_sim/credential") as answer:
                credential = await answer.json()
            headers = {"authorization": credential["token"], "x-app-version": credential["app_version"], "content-type": "application/json"}
            pages = range(1, -(-size // 30) + 1)
            rows: list[dict[str, Any]] = []
            for page in pages:
                async with session.get(f"{url}/api/chat/session?page={page}", headers=headers) as answer:
                    rows += json.loads(await answer.read())["data"]["records"]
            queue = iter({row["id"]: row for row in rows}.values())

            async def work() -> int:
                done = 0
                for row in queue:
                    body = json.dumps(row | {"model": "gpt-4.1-mini"}, ensure_ascii=False).encode()
                    async with session.put(f"{url}/api/chat/session/{row['id']}", headers=headers, data=body) as answer:
                        assert json.loads(await answer.read())["code"] == 0
                    done += 1
                return done

            return sum(await asyncio.gather(*(work() for _ in range(IN_FLIGHT))))

        return sum(await asyncio.gather(*(one_account(url) for url in urls)))


BARE = {"modelrouter": bare_modelrouter, "aurod": bare_aurod}


def bare(key: str, *, copies: int, size: int, latency: float) -> Measured:
    """Runs the bare loop against fresh simulators, in this process."""
    with simulators(key, copies=copies, size=size, latency=latency) as urls:
        before, started = time.process_time(), time.perf_counter()
        items = asyncio.run(BARE[key](urls, size))
        seconds, cpu = time.perf_counter() - started, time.process_time() - before
        return Measured(items, seconds, cpu, requests_seen(urls))


# --- the table ----------------------------------------------------------------------------------------------------------------------


def median(runs: list[Measured], name: str) -> float:
    return statistics.median(getattr(run, name) for run in runs)


def compare(user: Any, pid: int, key: str, arguments: argparse.Namespace) -> list[str]:
    """Measures one provider both ways and returns the lines of the table."""
    copies = ACCOUNTS if key == "modelrouter" else 1
    size = arguments.items // copies
    ours: list[Measured] = []
    theirs: list[Measured] = []
    for _round in range(arguments.rounds):  # alternating, so that a slow minute hits both
        theirs.append(bare(key, copies=copies, size=size, latency=arguments.latency))
        ours.append(product(user, pid, key, copies=copies, size=size, latency=arguments.latency))
    ratio = median(ours, "rate") / median(theirs, "rate")
    lines = []
    for name, runs in (("bare aiohttp loop", theirs), ("Switchboard job", ours)):
        items = runs[0].items
        memory = f"{median(runs, 'memory'):.0f} MB" if runs[0].memory else "–"
        shown = f"{ratio:.2f}" if runs is ours else "1.00"
        what = f"{key}, {copies} x {IN_FLIGHT} in flight, {items} items"
        figures = (f"{median(runs, 'rate'):.0f}", shown, f"{median(runs, 'cpu_per_1000'):.2f}", f"{median(runs, 'requests') / items:.2f}", memory)
        lines.append(f"| {what} | {name} | {' | '.join(figures)} |")
    return lines


def main() -> None:
    """Prints the table in Markdown."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--items", type=int, default=2000)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--latency", type=float, default=0.05, help="seconds before each answer of the simulated provider")
    given.add_argument("--only", choices=sorted(BARE), help="only this provider")
    arguments = given.parse_args()
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection

    from accounts.models import User
    from config import redis_server

    try:
        with redis_server.running(settings.REDIS_SOCKET, settings.DATA_DIR / "redis"):
            call_command("migrate", verbosity=0)
            user = User.objects.create_user(f"bench-{secrets.token_hex(3)}@example.com", secrets.token_hex(8))
            with worker() as pid:
                lines = [line for key in BARE if arguments.only in (None, key) for line in compare(user, pid, key, arguments)]
    finally:
        connection.close()
        shutil.rmtree(DATA, ignore_errors=True)
    names = ("django", "celery", "redis", "httpx", "httpx-aiohttp", "aiohttp")
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {connection.vendor}"
    print(f"{where}, latency {arguments.latency * 1000:.0f} ms, medians of {arguments.rounds}")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print()
    print("| what | who | items/s | ratio | CPU-s per 1,000 | requests per item | memory (PSS) |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
