"""One event loop and one database thread for all lanes of a process.

Lanes mostly wait: for answers, and for what they stored to be safe. With a loop and a writer for each of them they would wait for each other
as well, at the interpreter's lock and at SQLite's. So all of them share one loop, which nothing blocks, and one thread in which everything
that touches the database happens in turn: first the values before, because writes to providers wait for them. What is written down, values
before and results, is gathered from all lanes, so that one transaction serves them all: each round trip to a database costs a turn at the
interpreter's lock, which is more than the database needs.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connection

from accounts import egress

if TYPE_CHECKING:
    from .bookkeeping import Batch
    from .lanes import LaneRunner

logger = logging.getLogger(__name__)
T = TypeVar("T")

GATHER = 0.01  # seconds between two transactions that store values before
FLUSH_EVERY = 0.25  # seconds between two that store results
LOOK_EVERY = 0.1  # at what people ordered meanwhile


@dataclass(slots=True, eq=False)
class Before:
    """What an item's conversation held just before its first write, on its way into the database."""

    runner: LaneRunner
    item_id: int
    values: dict[str, Any]
    target: dict[str, Any] | None
    first: bool  # nothing has been remembered for this item yet
    stored: asyncio.Future[None]


class _Thread:
    """Runs functions one after the other, urgent ones first, on one thread (and so with one connection to the database)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: queue.PriorityQueue[tuple[int, int, Callable[[], Any], Future[Any]]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], T], *, urgent: bool = False) -> Future[T]:
        """Lets the function be run and returns its future."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        future: Future[T] = Future()
        self._waiting.put((0 if urgent else 1, next(self._number), work, future))
        return future

    def _work(self) -> None:
        while True:
            _urgency, _number, work, future = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                _drop_broken_connection()
                future.set_exception(error)
            del work, future  # an idle thread keeps nothing alive


class Engine:
    """Runs lanes side by side.

    `store` writes values before, of any lanes, and returns the runners that have lost their lease. `flush` writes the results of runners and
    returns those whose results could not be written, and why. `look` tells runners what people ordered. All are called in the database thread.
    """

    def __init__(
        self,
        store: Callable[[list[Before]], set[LaneRunner]],
        flush: Callable[[Batch], dict[LaneRunner, Exception]],
        look: Callable[[list[LaneRunner]], None],
    ) -> None:
        self.runners: list[LaneRunner] = []
        self._store, self._flush, self._look = store, flush, look
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._database = _Thread("engine-database")
        self._users = 0
        self._watchers: list[asyncio.Task[None]] = []
        self._befores: list[Before] = []
        self._keeper: asyncio.Task[None] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop to its end, for a thread that waits, and returns its result."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = egress.new_loop()
                threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._database.submit(_close_connection).result()

    def in_database(self, work: Callable[..., T], *arguments: Any, urgent: bool = False) -> Awaitable[T]:
        """Runs a function in the database thread, after what was given to it before."""
        return asyncio.wrap_future(self._database.submit(partial(work, *arguments), urgent=urgent))

    async def remember(self, runner: LaneRunner, item_id: int, values: dict[str, Any], target: dict[str, Any] | None, *, first: bool) -> None:
        """Returns when the value before is stored for good and the runner's lease was still its own; raises LeaseLost otherwise."""
        entry = Before(runner, item_id, values, target, first, asyncio.get_running_loop().create_future())
        self._befores.append(entry)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        await entry.stored

    async def _keep(self) -> None:
        try:
            while self._befores:
                # Whoever was cancelled has gone back meanwhile: it would look like an item of a lost lease.
                batch, self._befores = [entry for entry in self._befores if not entry.stored.done()], []
                try:
                    lost: set[LaneRunner] = await self.in_database(self._store, batch, urgent=True)
                except Exception as error:
                    lost = {entry.runner for entry in batch}
                    for runner in lost:
                        runner.fail(error)
                for entry in batch:
                    if not entry.stored.done():
                        if entry.runner in lost:
                            entry.stored.set_exception(entry.runner.lost())
                        else:
                            entry.stored.set_result(None)
                await asyncio.sleep(GATHER)
        finally:
            self._keeper = None

    @asynccontextmanager
    async def joined(self, runner: LaneRunner) -> AsyncIterator[None]:
        """Counts a runner among those that are looked after, for the block."""
        self.runners.append(runner)
        self._watchers = self._watchers or [asyncio.create_task(self._flush_forever()), asyncio.create_task(self._look_forever())]
        try:
            yield
        finally:
            self.runners.remove(runner)
            if not self.runners:
                watchers, self._watchers = self._watchers, []
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)

    async def flush(self, runners: list[LaneRunner]) -> None:
        """Writes down what runners have found so far; one whose results cannot be written fails."""
        try:
            failed = await self.in_database(self._flush, [(runner, runner.taken_results()) for runner in runners])
        except Exception as error:
            failed = dict.fromkeys(runners, error)
        for runner, reason in failed.items():
            runner.fail(reason)

    async def _flush_forever(self) -> None:
        while True:
            begun = time.monotonic()
            await self.flush([runner for runner in self.runners if not runner.failed])
            await asyncio.sleep(max(FLUSH_EVERY / 4, begun + FLUSH_EVERY - time.monotonic()))

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.in_database(self._look, list(self.runners))
                for runner in self.runners:
                    runner.call_back()
            except Exception as error:  # a database that is away is noticed by whoever stores something
                logger.warning("no look at what people ordered: %s", type(error).__name__)


def _drop_broken_connection() -> None:
    """Lets whatever comes next connect anew when the database closed this connection; some lane may always hold the engine open."""
    try:
        connection.close_if_unusable_or_obsolete()
    except Exception as error:
        logger.warning("a broken connection was not closed: %s", type(error).__name__)


def _close_connection() -> None:
    connection.close()  # that of the thread it is called in
