"""The processes of a measurement, started as `manage.py serve` starts them, and what each of them uses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from .environment import ROOT


class Broken(Exception):
    """A measurement that could not be made; the text says what was waited for or found instead."""


def wait_until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.05) -> None:
    """Returns once the condition holds; raises Broken when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(every)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- simulated providers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a simulator saw it; times are those of time.monotonic() of any process of this machine."""

    at: float
    ended: float
    status: int
    changed: bool


@dataclass
class Simulators:
    """Copies of one simulated provider, each at its own address, in one or more processes."""

    key: str
    urls: list[str]
    pids: list[int]

    def calls(self) -> list[list[Call]]:
        """Returns the requests that each copy has seen, in their order."""
        logs = (httpx.get(f"{url}/_sim/log?brief", trust_env=False, timeout=60).json() for url in self.urls)
        return [sorted((Call(*entry) for entry in log), key=lambda call: call.at) for log in logs]

    def all_calls(self) -> list[Call]:
        """Returns the requests that all copies have seen, in their order."""
        return sorted((call for log in self.calls() for call in log), key=lambda call: call.at)

    def forget(self) -> None:
        """Empties the logs."""
        self._do(do="clear_log")

    def limit(self, rate: float) -> None:
        """Switches each provider's own limiter on."""
        self._do(do="set", rate_limit=rate)

    def answer_in(self, seconds: float) -> None:
        """Sets how long each provider takes for an answer from now on."""
        self._do(do="set", latency=seconds)

    def _do(self, **order: object) -> None:
        for url in self.urls:
            httpx.post(f"{url}/_sim/do", json=order, trust_env=False, timeout=60).raise_for_status()


@contextmanager
def simulators(key: str, *, copies: int, size: int, latency: float, processes: int = 1) -> Iterator[Simulators]:
    """Serves copies of one simulated provider with `size` conversations each, without limits of its own."""
    found = Simulators(key, [], [])
    with ExitStack() as running:
        for share in (copies // processes + (number < copies % processes) for number in range(processes)):
            command = [sys.executable, "-m", "tests.simulators", "--only", key, "--copies", str(share), "--port", "0"]
            command += ["--size", str(size), "--latency", str(latency), "--unlimited"]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            running.callback(_end, process)
            assert process.stdout is not None
            urls = json.loads(process.stdout.readline() or "{}").get(key)
            if not urls:
                raise Broken(f"the simulator of {key} did not start")
            found.urls += urls if isinstance(urls, list) else [urls]
            found.pids.append(process.pid)
        yield found


# --- the product --------------------------------------------------------------------------------------------------------------------


@contextmanager
def worker() -> Iterator[int]:
    """Runs one Celery worker and yields its process id once it takes messages."""
    options = ["--pool", "threads", "--concurrency", "8", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "--app", "config", "worker", "--hostname", f"{time.monotonic_ns()}@%h", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SWITCHBOARD_LOG_LEVEL": "INFO", "MALLOC_ARENA_MAX": "2", "CELERY_SKIP_CHECKS": "1"},  # as `manage.py serve` does
    )
    try:
        assert process.stderr is not None
        seen: list[str] = []
        for line in process.stderr:
            seen.append(line)
            if "@" in line and line.rstrip().endswith("ready."):
                break
        if process.poll() is not None:
            raise Broken("the worker did not start:\n" + "".join(seen[-20:]))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process.pid
    finally:
        _end(process)


@contextmanager
def beat() -> Iterator[int]:
    """Runs Celery's clock, which asks for the reaper every five seconds."""
    command = [sys.executable, "-m", "celery", "--app", "config", "beat", "--loglevel", "ERROR", "--pidfile", ""]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.pid
    finally:
        _end(process)


@contextmanager
def web_server() -> Iterator[tuple[str, int]]:
    """Runs the web server and yields its address and process id once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--blocking-threads", "4"]
    command = [sys.executable, "-m", "granian", *options, "--log-level", "warning", "--no-ws", "config.wsgi:application"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{address}/readyz", trust_env=False, timeout=5).is_success
        return False

    try:
        wait_until(answers, 60, "the web server")
        yield address, process.pid
    finally:
        _end(process)


# --- what they use ------------------------------------------------------------------------------------------------------------------


def _family(pid: int) -> list[int]:
    """Returns a process and everything it started."""
    found = [pid]
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [grandchild for child in children.read_text().split() for grandchild in _family(int(child))]
    return found


def cpu_of(pids: Iterable[int]) -> float:
    """Returns the CPU seconds that processes have used with everything they started, ended children included; one that is gone counts nothing."""
    used = 0.0
    for pid in {member for given in pids for member in _family(given)}:
        with suppress(OSError):
            fields = _stat(pid)
            used += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # own and, of those that were waited for, user and system time
    return used


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat from the third one on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def pss_of(pid: int) -> float:
    """Returns the proportional memory of a process with its children in MB."""
    kilobytes = 0
    for member in _family(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def database_pids() -> list[int]:
    """Returns the process that started PostgreSQL's others, where it runs on this machine; nothing for SQLite."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor, suppress(OSError):
        cursor.execute("SELECT pg_backend_pid()")
        return [int(_stat(cursor.fetchone()[0])[1])]
    return []


class Meter:
    """How much of a core each named group of processes uses between `start()` and `shares()`."""

    def __init__(self, **groups: Iterable[int]) -> None:
        self.groups = {name: list(pids) for name, pids in groups.items()}
        if pids := database_pids():
            self.groups["PostgreSQL"] = pids

    def start(self) -> Meter:
        """Begins to count, again if need be."""
        self.began = time.monotonic()
        self.before = {name: cpu_of(pids) for name, pids in self.groups.items()}
        return self

    def used(self, name: str) -> float:
        """Returns the CPU seconds of one group since the start."""
        return cpu_of(self.groups[name]) - self.before[name]

    def shares(self) -> dict[str, float]:
        """Returns cores used on average since the start, by group."""
        seconds = time.monotonic() - self.began
        return {name: self.used(name) / seconds for name in self.groups}


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0))
