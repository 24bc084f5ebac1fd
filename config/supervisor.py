"""`manage.py serve`: every process of an installation on one machine, started in order, watched, and ended together."""

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from config import redis_server

STOP_SECONDS = 10.0
READY_SECONDS = 60.0
STEADY_SECONDS = 60.0
SIMULATORS = ("aurod", "modelrouter", "chatnio", "nuwax", "chongzhiling")
LOGGED = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z [A-Z]+ ")
LOUD = re.compile(r"^(\S+Z (WARNING|ERROR|CRITICAL) |\[(WARNING|ERROR|CRITICAL)\])")


class StartError(Exception):
    """The installation cannot run; the text is one line for the person at the terminal."""


class Stopped(BaseException):
    """Somebody asked for the end while the installation was still starting."""


@dataclass(eq=False)
class Child:
    """One process with its log file; `restart` tells whether it is started again when it ends by itself."""

    name: str
    argv: list[str]
    restart: bool = True
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    failures: int = 0
    due: float | None = None
    pump: threading.Thread | None = None
    seen: list[str] = field(default_factory=list)

    @property
    def code(self) -> int | None:
        """The exit code, or None while the process runs or was never started."""
        return self.process.poll() if self.process else None


class Supervisor:
    """Runs Redis, migrations, web server, worker and beat, and with `demo` the simulated providers and their data."""

    def __init__(self, *, demo: bool, say: Callable[[str], None]) -> None:
        self.demo = demo
        self.say = say
        self.children: list[Child] = []
        self.stopping = self.busy = False
        self.logs: Path = settings.DATA_DIR / "log"
        self.environment = {
            # One heap for each thread of a worker would hold twenty megabytes that nobody uses.
            "MALLOC_ARENA_MAX": "2",
            # `serve` has checked everything; the worker would load all pages and forms to check it again.
            "CELERY_SKIP_CHECKS": "1",
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONUNBUFFERED": "1",
        }
        if demo:
            self._allow("SWITCHBOARD_EGRESS_HTTP_HOSTS", "127.0.0.1")
            self._allow("SWITCHBOARD_EGRESS_ALLOW_CIDRS", "127.0.0.0/8")

    def _allow(self, name: str, value: str) -> None:
        """Add a value to a comma-separated variable of the children."""
        values = [part.strip() for part in self.environment.get(name, "").split(",") if part.strip()]
        self.environment[name] = ",".join([*values, *([] if value in values else [value])])

    # --- Life of the installation -------------------------------------------------------------------------------------

    def run(self) -> int:
        """Start everything, watch it, and return the exit code once it has ended: 0 when asked to, 1 when a part could not run."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        try:
            self._start_all()
            self._watch()
        except Stopped:
            return 0
        except (StartError, redis_server.RedisError) as error:
            self.say(f"error: {error}")
            return 1
        finally:
            self._stop_all()
        return 0

    def _asked_to_stop(self, number: int, _frame: object) -> None:
        """Leave whatever is going on at the first signal; a second one no longer waits for anybody."""
        if self.stopping:
            for child in self.children:
                self._signal(child, signal.SIGKILL)
            return
        self.stopping = True
        if not self.busy:
            raise Stopped

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Put off the end until the block is done: a process started but not yet noted down would outlive us."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
        if self.stopping:
            raise Stopped

    def _start_all(self) -> None:
        """Start the parts in the order in which they need each other."""
        self._check_ports()
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.REDIS_EMBEDDED and not redis_server.answers(settings.REDIS_SOCKET):
            argv = redis_server.command(settings.REDIS_SOCKET, settings.DATA_DIR / "redis")
            child = self._start(Child("redis", argv))
            assert child.process is not None
            redis_server.wait_until_ready(settings.REDIS_SOCKET, child.process)
        self._once("migrate", "migrate", "--no-input", "--verbosity", "0")
        if settings.PRODUCTION:
            self._once("collectstatic", "collectstatic", "--no-input", "--verbosity", "0")
        if self.demo:
            simulators = self._start(Child("simulators", [sys.executable, "-m", "tests.simulators", "--port", str(settings.SIMULATOR_PORT)]))
            self._wait(simulators, lambda: any(line.startswith("{") for line in simulators.seen))
        celery = [sys.executable, "-m", "celery", "--app", "config"]
        lean = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._start(Child("worker", [*celery, "worker", "--pool", "threads", "--concurrency", "8", "--loglevel", "INFO", *lean]))
        self._start(Child("beat", [*celery, "beat", "--loglevel", "INFO", "--pidfile", ""]))
        web = self._start(Child("web", self._web_server(), restart=False))
        self._wait(web, self._answers)
        greeting = self._once("demo_data", "demo_data") if self.demo else []
        host = "localhost" if settings.BIND in ("127.0.0.1", "0.0.0.0", "::", "::1") else settings.BIND
        lines = [f"Switchboard is ready: http://{host}:{settings.PORT}", *greeting, f"Logs: {self.logs}   Stop: Ctrl-C"]
        self.say("\n" + "\n".join(f"  {line}" for line in lines) + "\n")

    def _web_server(self) -> list[str]:
        """Return the command line of the web server: two processes with threads, the fastest arrangement measured."""
        options = {"interface": "wsgi", "host": settings.BIND, "port": str(settings.PORT), "workers": "2", "blocking-threads": "4"}
        options |= {"log-level": "warning", "workers-kill-timeout": "5"}
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [sys.executable, "-m", "granian", *flags, "--no-ws", "--respawn-failed-workers", "config.wsgi:application"]

    def _watch(self) -> None:
        """Start again what ended by itself, waiting longer each time; an ended web server ends the installation."""
        while True:
            for child in self.children:
                if child.due is not None:
                    if time.monotonic() >= child.due:
                        self._start(child)
                elif (code := child.code) is not None:
                    if not child.restart:
                        raise StartError(f"{child.name} ended with code {code}: {self._tail(child)}")
                    steady = time.monotonic() - child.started > STEADY_SECONDS
                    child.failures = 1 if steady else child.failures + 1
                    pause = min(30.0, 2.0 ** (child.failures - 1))
                    child.due = time.monotonic() + pause
                    self.say(f"{child.name} ended with code {code}, starting it again in {pause:.0f} s")
            time.sleep(0.1)

    def _stop_all(self) -> None:
        """End the children, Redis last because the others still use it; who does not end in time is killed."""
        self.stopping = True
        # One that waits to be started again is gone, and its number may be somebody else's by now.
        children = [child for child in self.children if child.process and child.due is None]
        redis = [child for child in children if child.name == "redis"]
        for group in ([child for child in children if child not in redis], redis):
            for child in group:
                self._signal(child, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline and any(child.code is None for child in group):
                time.sleep(0.05)
            for child in group:
                # Also for a child that ended: its own children are in the same group.
                self._signal(child, signal.SIGKILL)
                if child.process:
                    child.process.wait()

    # --- One process --------------------------------------------------------------------------------------------------

    def _start(self, child: Child) -> Child:
        """Start the process in a group of its own, so that Ctrl-C reaches only the supervisor, and keep its output in a log file."""
        child.due, child.started = None, time.monotonic()
        if child not in self.children:
            self.children.append(child)
        with self._uninterrupted():
            child.process = subprocess.Popen(
                child.argv,
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        child.pump = threading.Thread(target=self._pump, args=(child, child.process), name=f"log of {child.name}", daemon=True)
        child.pump.start()
        return child

    def _pump(self, child: Child, process: subprocess.Popen[str]) -> None:
        """Write the output to the log file and repeat on the terminal what is a warning or worse; the last lines are remembered."""
        assert process.stdout is not None
        path = self.logs / f"{child.name}.log"
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as log:
            for line in process.stdout:
                if log.tell() > 20_000_000:
                    log.truncate(0)
                log.write(line)
                log.flush()
                child.seen[:] = [*child.seen[-19:], line.rstrip()]
                if LOUD.match(line) and not self.stopping:
                    self.say(f"{child.name} | {line.rstrip()}")

    def _signal(self, child: Child, number: int) -> None:
        """Send the signal to the process group of the child, if there still is one."""
        if child.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, number)

    def _tail(self, child: Child) -> str:
        """Return the last line that the child wrote, and where to read the rest."""
        if child.pump and child.code is not None:
            child.pump.join(1.0)
        last = next((line for line in reversed(child.seen) if line.strip()), "it said nothing")
        return f"{last} (see {self.logs / (child.name + '.log')})"

    def _once(self, name: str, *arguments: str) -> list[str]:
        """Run one management command to its end and return what it printed, log lines left out; raises StartError when it fails."""
        child = self._start(Child(name, [sys.executable, "manage.py", *arguments], restart=False))
        assert child.process is not None and child.pump is not None
        code = child.process.wait()
        child.pump.join()
        self.children.remove(child)
        if code:
            raise StartError(f"{name} failed: {self._tail(child)}")
        return [line for line in child.seen if line.strip() and not LOGGED.match(line)]

    def _wait(self, child: Child, ready: Callable[[], bool]) -> None:
        """Return once the child is ready; raises StartError when it ends or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if child.code is not None:
                raise StartError(f"{child.name} ended with code {child.code}: {self._tail(child)}")
            if time.monotonic() > deadline:
                raise StartError(f"{child.name} was not ready after {READY_SECONDS:.0f} s: {self._tail(child)}")
            time.sleep(0.05)

    # --- Ports --------------------------------------------------------------------------------------------------------

    def _check_ports(self) -> None:
        """Raise StartError naming the first port that is taken and the variable that chooses another."""
        wanted = [(settings.BIND, settings.PORT, "the web server", "SWITCHBOARD_PORT")]
        if self.demo:
            for offset, provider in enumerate(SIMULATORS):
                wanted.append(("127.0.0.1", settings.SIMULATOR_PORT + offset, f"the simulated {provider}", "SWITCHBOARD_SIMULATOR_PORT"))
        for host, port, purpose, variable in wanted:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                    raise StartError(f"port {port} for {purpose} {reason}: choose another one with {variable}={port + 100}") from error

    def _answers(self) -> bool:
        """Tell whether the web server answers on its port and everything behind it does."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.BIND, f"[{settings.BIND}]" if ":" in settings.BIND else settings.BIND)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{host}:{settings.PORT}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
