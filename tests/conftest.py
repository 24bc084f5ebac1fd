"""What all tests share: a real Redis, a real Celery worker, a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import uvloop
from django.conf import settings
from django.core.management.commands import flush
from django.db import connection, transaction
from django.db.backends.base.operations import BaseDatabaseOperations
from django.utils import translation

from config import redis_server

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run on settings that could reach a developer's own database; call providers from the kind of event loop that the product uses."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.settings":
        raise pytest.UsageError("the tests run on tests.settings only: unset DJANGO_SETTINGS_MODULE")
    # Ours are loaded. The processes that tests start read the product's settings, from the environment that ours made.
    settings.DATABASES  # noqa: B018
    if not config.getoption("numprocesses", None):  # who only hands tests out to others starts no product
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the browser tests and run them last: Playwright's loop stays in the main thread, where other tests start loops of their own."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


def pytest_unconfigure() -> None:
    """Remove what the run kept on disk."""
    if settings.configured:
        shutil.rmtree(settings.TEST_DIR, ignore_errors=True)


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def redis_process() -> Iterator[subprocess.Popen]:
    """The embedded Redis of the run, where settings, cache and broker look for it."""
    with redis_server.running(settings.REDIS_SOCKET, settings.DATA_DIR / "redis") as process:
        yield process


@pytest.fixture(scope="session")
def redis_client(redis_process: subprocess.Popen) -> Iterator[redis.Redis]:
    """A client of the database that broker and limiter use."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty_redis(redis_client: redis.Redis) -> None:
    """Begin each test without queued messages, cached sessions and counted sign-ins."""
    redis_client.flushall()


# What migrating writes and no test changes.
KEPT_TABLES = {"django_content_type", "auth_permission"}


def _delete_rows(operations: BaseDatabaseOperations, _sql_list: list[str]) -> None:
    """Empty the tables as after a migration, the audit log too, whose rows nobody else may delete."""
    connection = operations.connection
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT_TABLES
    guards: list[str] = []
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")  # neither triggers nor the order of references
        else:
            cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_keep_delete'")
            guards = [sql for (sql,) in cursor.fetchall()]
            cursor.execute("DROP TRIGGER IF EXISTS audit_keep_delete")
        for table in tables:
            cursor.execute(f"DELETE FROM {operations.quote_name(table)}")
        for guard in guards:
            cursor.execute(guard)


@pytest.fixture(scope="session", autouse=True)
def _quick_flush() -> Iterator[None]:
    """Let the flush after each test delete the rows that there are: Django truncates fifty tables and makes each permission anew."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BaseDatabaseOperations, "execute_sql_flush", _delete_rows)
        patched.setattr(flush, "emit_post_migrate_signal", lambda *_arguments: None)
        yield


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    """Begin each test in English: a request in Chinese leaves its thread, the one of the tests, in Chinese."""
    with translation.override("en"):
        yield


# --- Processes beside the tests --------------------------------------------------------------------------------------


def database_url_of_tests() -> str:
    """Return the DATABASE_URL of the database that the running test uses."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return f"{os.environ['SWITCHBOARD_TEST_POSTGRES'].rpartition('/')[0]}/{name}"


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment in which a process of the product sees the database and the Redis of the running test."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "DATABASE_URL": database_url_of_tests(), **changes}


class Process:
    """A process whose output can be waited for; all output lines are in `lines`."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.argv = argv
        self.environment = environment
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        assert self.process is not None
        return self.process.pid

    def start(self, ready: str, timeout: float = 30.0) -> Process:
        """Start the process and return once a line matches `ready`."""
        seen = len(self.lines)
        self.process = subprocess.Popen(
            self.argv,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.wait_for(ready, timeout, after=seen)
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str, timeout: float = 30.0, after: int = 0) -> str:
        """Return the first line from number `after` on that matches; fails the test with the output when none comes in time."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for line in self.lines[after:]:
                    if re.search(pattern, line):
                        return line
                left = deadline - time.monotonic()
                ended = self.process is not None and self.process.poll() is not None
                if left <= 0 or ended:
                    why = f"ended with {self.process.returncode}" if ended and self.process else f"did not say it within {timeout:.0f} s"
                    pytest.fail(f"{self.argv[1:4]} {why}: {pattern!r}\n" + "\n".join(self.lines[-30:]))
                self._news.wait(min(left, 0.5))

    def kill(self) -> None:
        """End it the hard way, as a crash would, with everything it started."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to end and return its exit code; after the timeout it is killed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        self.kill()
        return self.process.returncode


class WorkerProcess(Process):
    """A Celery worker as `manage.py serve` starts it."""

    def __init__(self, environment: dict[str, str]) -> None:
        options = ["--pool", "threads", "--concurrency", "8", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        super().__init__([sys.executable, "-m", "celery", "--app", "config", "worker", *options], environment)

    def start(self, ready: str = r"celery@\S+ ready", timeout: float = 30.0) -> WorkerProcess:
        """Start it and return once it takes messages."""
        super().start(ready, timeout)
        return self


@pytest.fixture
def celery_worker_factory(transactional_db: None) -> Iterator[Callable[..., WorkerProcess]]:
    """A function that starts a real worker on the test database; keyword arguments are environment variables for it."""
    started: list[WorkerProcess] = []

    def start(**changes: str) -> WorkerProcess:
        worker = WorkerProcess(child_environment(**changes))
        started.append(worker)
        return worker.start()

    yield start
    for worker in started:
        if worker.process is not None:
            worker.stop()


@pytest.fixture
def celery_worker_process(celery_worker_factory: Callable[..., WorkerProcess]) -> WorkerProcess:
    """A real worker that takes messages: `kill()`, `start()` again, `wait_for(pattern)`, `lines`."""
    return celery_worker_factory()


# --- Browser ---------------------------------------------------------------------------------------------------------


class PageWatch:
    """Collects what must not happen in a page; a test names what it provokes on purpose with `expect(regex)`."""

    # The answer to a form with mistakes; the browser writes it down as a failed load.
    NORMAL = r"Failed to load resource: the server responded with a status of 422"

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.problems: list[str] = []
        self._expected = [re.compile(self.NORMAL)]

    def expect(self, pattern: str) -> None:
        """Allow problems whose text matches."""
        self._expected.append(re.compile(pattern))

    def attach(self, context: BrowserContext) -> None:
        """Watch all pages of the context; a violation of the CSP is written to the console by the page itself."""
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => console.error('CSP: ' + e.violatedDirective + ' ' + e.blockedURI))"
        )
        context.on("console", self._console)
        context.on("weberror", lambda error: self.problems.append(f"page error: {error.error}"))
        context.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _request(self, url: str) -> None:
        if not url.startswith((f"{self.origin}/", "data:", "about:", "blob:")):
            self.problems.append(f"request that leaves the site: {url}")

    def check(self) -> None:
        """Fail when something happened that nobody expected."""
        left = [problem for problem in self.problems if not any(pattern.search(problem) for pattern in self._expected)]
        if left:
            pytest.fail("in the browser:\n" + "\n".join(left))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, driven by Playwright; without one the test is skipped, in CI it fails."""
    if not CHROMIUM.exists():
        reason = "no Chromium here: apt-get install chromium fonts-wqy-microhei"
        if os.environ.get("SWITCHBOARD_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    # Playwright's loop makes Django believe that the main thread is asynchronous. Only while it runs, lest it hides a real mistake.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), chromium_sandbox=False, args=CHROMIUM_FLAGS)
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def watch(live_server: Any) -> PageWatch:
    """The watch over the pages of this test."""
    return PageWatch(live_server.url)


@pytest.fixture
def new_context(browser: Browser, live_server: Any, watch: PageWatch, request: pytest.FixtureRequest) -> Iterator[Callable[..., BrowserContext]]:
    """A function that opens a watched browser context on the live server; keyword arguments go to Playwright's `new_context`."""
    contexts: list[BrowserContext] = []

    def open_context(**options: Any) -> BrowserContext:
        context = browser.new_context(
            **{
                "base_url": live_server.url,
                "locale": "en-US",
                "timezone_id": "UTC",
                "viewport": {"width": 1440, "height": 900},
                "reduced_motion": "reduce",
                **options,
            }
        )
        context.set_default_timeout(10_000)
        watch.attach(context)
        contexts.append(context)
        return context

    yield open_context
    failed = getattr(request.node, "outcome_of_call", None) == "failed"
    for number, context in enumerate(contexts):
        for page_number, page in enumerate(context.pages):
            if failed:
                folder = ROOT / "test-results"
                folder.mkdir(exist_ok=True)
                name = re.sub(r"[^\w.-]+", "-", request.node.name)
                with contextlib.suppress(Exception):
                    page.screenshot(path=folder / f"{name}-{number}-{page_number}.png", full_page=True)
        context.close()
    watch.check()


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Page:
    """A page in English, 1440 x 900, on the live server: `page.goto("/")`."""
    return new_context().new_page()


@pytest.fixture
def sign_in(live_server: Any) -> Callable[[BrowserContext, AbstractBaseUser], None]:
    """A function that signs a user in within a browser context, without the form."""
    from django.test import Client

    def put_cookie(context: BrowserContext, user: AbstractBaseUser) -> None:
        client = Client()
        client.force_login(user)
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])

    return put_cookie


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note the outcome of the test itself, so that the browser fixtures keep a picture of a failed one."""
    report = yield
    if report.when == "call":
        item.outcome_of_call = report.outcome  # type: ignore[attr-defined]
    return report
