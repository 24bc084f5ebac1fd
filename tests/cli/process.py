"""Runs `manage.py` commands as processes of their own.

`run(...)` forks each from a process that has imported the product already: it has its own stdin, stdout, stderr, environment and exit code, but
costs less than a tenth of a second instead of the second and a half that the imports take. `run(..., cold=True)` starts `python manage.py` itself.
`python -m tests.cli.process` is the process that forks.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0


@dataclass(frozen=True)
class Result:
    """How a command ended: exit code and what it wrote to the two streams."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout of a command that succeeded."""
        assert (self.code, self.err) == (0, ""), self
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON lines on stdout of a command that succeeded."""
        assert (self.code, self.err) == (0, ""), self
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def cause(self) -> str:
        """The line on stderr of a command that was refused or failed, which printed nothing else."""
        assert (self.code, self.out) == (1, ""), self
        return self.only_line

    @property
    def only_line(self) -> str:
        """The one line on stderr."""
        assert self.err.startswith("error: ") and self.err.endswith("\n") and self.err.count("\n") == 1, self
        return self.err.removeprefix("error: ").rstrip("\n")


class CommandLine:
    """Runs commands on the database of the running test."""

    def __init__(self, environment: Callable[..., dict[str, str]], folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.seen: list[str] = []  # everything that any command wrote
        self._forker: subprocess.Popen[str] | None = None

    def __call__(self, *arguments: object, stdin: str | bytes = b"", cold: bool = False, **changes: str) -> Result:
        """Runs `manage.py ARGUMENTS`; keyword arguments are environment variables for it."""
        argv = [str(argument) for argument in arguments]
        given = stdin.encode() if isinstance(stdin, str) else stdin
        result = self._cold(argv, given, changes) if cold else self._forked(argv, given, changes)
        self.seen += [result.out, result.err]
        return result

    def _cold(self, argv: list[str], stdin: bytes, changes: dict[str, str]) -> Result:
        command = [sys.executable, "manage.py", *argv]
        done = subprocess.run(command, cwd=ROOT, env=self.environment(**changes), input=stdin, capture_output=True, timeout=TIMEOUT, check=False)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def _forked(self, argv: list[str], stdin: bytes, changes: dict[str, str]) -> Result:
        if self._forker is None:
            command = [sys.executable, "-m", "tests.cli.process"]
            self._forker = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        forker = self._forker
        assert forker.stdin is not None and forker.stdout is not None
        files = [self.folder / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin)
        forker.stdin.write(json.dumps({"argv": argv, "environment": changes, "files": [str(file) for file in files]}) + "\n")
        forker.stdin.flush()
        ready, _, _ = select.select([forker.stdout], [], [], TIMEOUT)
        if not ready:
            os.killpg(forker.pid, signal.SIGKILL)
            self._forker = None
            raise TimeoutError(f"{argv} did not end within {TIMEOUT:.0f} s")
        code = forker.stdout.readline()
        assert code, "the process that forks has ended"
        out, err = (file.read_bytes().decode() for file in files[1:])
        return Result(int(code), out, err)

    def stop(self) -> None:
        """Ends the process that forks."""
        if self._forker is not None:
            assert self._forker.stdin is not None
            self._forker.stdin.close()
            self._forker.wait(10)


def serve() -> None:
    """Takes orders on stdin, one JSON line each, and answers each with the exit code of the command that it forked."""
    import django

    django.setup()
    for name in ("accounts.management.commands.users", "conversations.management.commands.conversations", "conversations.management.commands.jobs"):
        importlib.import_module(name)
    import manage

    gc.collect()
    gc.freeze()  # the children share the memory of what is imported
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order["files"])
            os.environ.update(order["environment"])
            sys.argv = ["manage.py", *order["argv"]]
            _end(manage.main)
        _pid, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _end(main: Callable[[], int]) -> NoReturn:
    """Runs the command and ends with its exit code, at once: to take the copied interpreter apart would take longer than most commands."""
    code: Any = 1
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become(files: list[str]) -> None:
    """Gives the forked process the three streams of the order; its stdin is opened anew, because ours may have read ahead."""
    flags = (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2)
    for number, (name, how) in enumerate(zip(files, flags, strict=True)):
        os.dup2(os.open(name, how, 0o600), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (it lives as long as the process)


if __name__ == "__main__":
    serve()
