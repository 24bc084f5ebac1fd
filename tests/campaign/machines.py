"""The processes that the campaign kills: Celery workers and the embedded Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from config import redis_server
from tests.bench.environment import ROOT

LEASE = "5"  # seconds
WORKER = ["--pool", "threads", "--concurrency", "8", "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]


class Worker:
    """A Celery worker as `manage.py serve` starts it; what it says is kept in a file."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.output = folder / f"worker-{number}.log"
        self.kills = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; that it is not ready yet is part of the campaign."""
        command = [sys.executable, "-m", "celery", "--app", "config", "worker", "--hostname", f"w{self.number}-{time.monotonic_ns()}@%h", *WORKER]
        environment = {**os.environ, "SWITCHBOARD_LANE_LEASE": LEASE, "SWITCHBOARD_LOG_LEVEL": "WARNING"}
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True)

    def kill(self) -> None:
        """Ends it the hard way, as a crash would."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    def stop(self) -> None:
        """Asks it to end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
            return
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """Returns the last of what it said."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return "\n".join(
            [
                f"worker {self.number} said:",
                *(line[:600] + (" ... " + line[-600:] if len(line) > 1200 else line[600:]) for line in text.splitlines()[-12:]),
            ]
        )


class Redis:
    """The embedded Redis, first the one that is running, then those that take its place."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def restart(self, away: float) -> None:
        """Kills it, leaves everybody without for so many seconds, and starts it on what it had on disk."""
        os.kill(self.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        time.sleep(away)
        command = redis_server.command(settings.REDIS_SOCKET, settings.DATA_DIR / "redis")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        redis_server.wait_until_ready(settings.REDIS_SOCKET, self.process)
        self.pid = self.process.pid
        self.restarts += 1

    def stop(self) -> None:
        """Ends the one that this class started."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
