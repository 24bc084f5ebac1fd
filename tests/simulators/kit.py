"""The frame of a simulated provider: a strict HTTP server on loopback with a call log, faults on demand and a control door.

A simulator is written from the provider's contract and knows nothing of our client. It subclasses Simulator, adds its routes, and
implements what differs per provider: how a refusal for the rate looks (`throttled`), how an expired credential looks (`expired`), and how
an object is stored (through `self.stored`, which honours the faults "ignore" and "echo").
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Every fault a test or the demo may ask for; a simulator must answer each in its provider's own form.
FAULTS = {
    "throttle": "refuse for the rate, in the provider's own form; nothing is carried out",
    "error": "fail with 500 in the provider's own form; nothing is carried out",
    "html": "answer 502 with an HTML page, as a gateway does; nothing is carried out",
    "html200": "answer 200 with an HTML page; nothing is carried out",
    "empty": "answer 200 with an empty body; nothing is carried out",
    "cut_before": "close the connection before anything is carried out",
    "cut_after": "carry the request out, then close the connection without an answer",
    "error_after": "carry the request out, then answer 500",
    "ignore": "accept a write, answer success with the old object, change nothing",
    "echo": "accept a write, answer success with the new object, change nothing",
    "expired": "treat the credential as expired",
    "slow": "carry the request out after `seconds`",
}
CARRIED_OUT = {"cut_after", "error_after", "slow", "ignore", "echo"}


@dataclass
class Fault:
    """One rule: the next `times` requests whose method and path (substring) fit get this fault, after `skip` fitting ones passed."""

    kind: str
    method: str = ""
    path: str = ""
    writes_only: bool = False
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    share: float = 1.0  # of the fitting requests, chosen by the simulator's own seeded generator

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"unknown fault {self.kind!r}; there are {', '.join(FAULTS)}")


@dataclass
class Call:
    """One request as the provider saw it: `write` when it would change something, `changed` when it did.

    `at` and `ended` (when the answer went out; 0 when there was none) are of the clock that all processes of a machine share.
    """

    method: str
    path: str
    query: dict[str, str]
    body: Any
    write: bool
    at: float
    status: int = 0
    fault: str = ""
    changed: bool = False
    ended: float = 0.0


@dataclass
class Simulator:
    """The state shared by all simulators; `switches` choose between the answers that a contract leaves open."""

    # Open questions of the contract: switch name -> the possible answers, the likeliest first.
    SWITCHES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    key: ClassVar[str] = ""
    default_port: ClassVar[int] = 0

    latency: float = 0.0
    seed: int = 1
    switches: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[Call] = field(default_factory=list)
    keep_log: int = 200_000

    def __post_init__(self) -> None:
        import random

        for name, answer in self.switches.items():
            if answer not in self.SWITCHES.get(name, ()):
                raise ValueError(f"{self.key}: no switch {name}={answer}")
        self.switches = {name: answers[0] for name, answers in self.SWITCHES.items()} | self.switches
        self.random = random.Random(self.seed)
        self.lock = threading.RLock()
        # Tokens count from here, so that a credential asked for twice is the same one.
        self.began = int(time.time())
        self.setup()

    # --- for each simulator to write ---------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Builds the initial state (a few conversations with messages, deterministic from the seed)."""

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns the provider's routes."""
        raise NotImplementedError

    def is_write(self, request: web.Request) -> bool:
        """True when the request would change a conversation."""
        return request.method in ("PUT", "POST", "DELETE", "PATCH")

    def throttled(self, request: web.Request) -> web.Response:
        """Returns the provider's refusal for the rate."""
        raise NotImplementedError

    def failed(self, request: web.Request) -> web.Response:
        """Returns the provider's own internal error."""
        return web.Response(status=500, text="Internal Server Error")

    def expired(self, request: web.Request) -> web.Response:
        """Returns the provider's answer to an expired credential."""
        raise NotImplementedError

    def unlimited(self) -> None:
        """Switches the provider's own limits off, for tests and measurements that are not about them."""

    def credential(self) -> dict[str, str]:
        """Returns a credential document (fields as in the product's `accounts add`) that this simulator accepts."""
        raise NotImplementedError

    def second_credential(self) -> dict[str, str]:
        """Returns the credential of another upstream user; by default there is only one."""
        return self.credential()

    def populate(self, count: int, *, messages: int = 4) -> None:
        """Replaces all conversations by `count` synthetic ones with `messages` messages each."""
        raise NotImplementedError

    def truth(self) -> dict[str, dict[str, Any]]:
        """Returns what is stored: remote id -> {"title", "model" (as stored) and the other stored settings}."""
        raise NotImplementedError

    def change_by_somebody(self, remote_id: str, **values: Any) -> None:
        """Changes a conversation as its owner would in the provider's own page (title=..., model=...)."""
        raise NotImplementedError

    def remove_by_somebody(self, remote_id: str) -> None:
        """Deletes a conversation as its owner would."""
        raise NotImplementedError

    # --- faults and log ----------------------------------------------------------------------------------------------------------

    def add_fault(self, kind: str, **rule: Any) -> None:
        """Adds a fault rule; see Fault."""
        with self.lock:
            self.faults.append(Fault(kind, **rule))

    def clear_faults(self) -> None:
        """Removes every fault rule."""
        with self.lock:
            self.faults.clear()

    def writes(self) -> list[Call]:
        """Returns the logged requests that would change something."""
        return [call for call in self.log if call.write]

    def mode(self, request: web.Request) -> str:
        """Returns "ignore", "echo" or "" for this request."""
        return request.get("fault", "") if request.get("fault") in ("ignore", "echo") else ""

    def stored(self, request: web.Request, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """Stores `new` over `old` in place unless a fault forbids it, and returns the object that the answer should show."""
        mode = self.mode(request)
        if mode == "ignore":
            return dict(old)
        if mode == "echo":
            return dict(new)
        request["call"].changed = old != new
        old.clear()
        old.update(new)
        return dict(old)

    def _pick_fault(self, request: web.Request, write: bool) -> Fault | None:
        with self.lock:
            for rule in self.faults:
                if rule.method and rule.method != request.method:
                    continue
                if rule.path not in request.path or (rule.writes_only and not write):
                    continue
                if rule.kind in ("ignore", "echo") and not write:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                if rule.times <= 0 or (rule.share < 1.0 and self.random.random() >= rule.share):
                    continue
                rule.times -= 1
                return rule
        return None

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_sim/"):
            return await handler(request)
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode("utf-8", "replace")
        write = self.is_write(request)
        call = Call(request.method, request.path, dict(request.query), body, write, time.monotonic())
        request["call"] = call
        with self.lock:
            if len(self.log) < self.keep_log:
                self.log.append(call)
        fault = self._pick_fault(request, write)
        call.fault = request["fault"] = fault.kind if fault else ""
        if self.latency:
            await asyncio.sleep(self.latency)
        response = await self._answer(request, handler, fault)
        call.status, call.ended = response.status, time.monotonic()
        return response

    async def _answer(self, request: web.Request, handler: Handler, fault: Fault | None) -> web.StreamResponse:
        kind = fault.kind if fault else ""
        if kind == "slow" and fault:
            await asyncio.sleep(fault.seconds)
        if not kind or kind in CARRIED_OUT:
            response = await handler(request)
            if kind == "cut_after":
                self._cut(request)
            return self.failed(request) if kind == "error_after" else response
        if kind == "cut_before":
            self._cut(request)
        if kind in ("html", "html200"):
            page = "<!doctype html><html><body><h1>Bad Gateway</h1></body></html>"
            return web.Response(status=502 if kind == "html" else 200, text=page, content_type="text/html")
        if kind == "empty":
            return web.Response(status=200)
        return {"throttle": self.throttled, "error": self.failed, "expired": self.expired}.get(kind, self.failed)(request)

    @staticmethod
    def _cut(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("cut by the simulator")

    # --- control door (for the demo, the browser tests and the bench, which run in other processes) --------------------------------

    def app(self) -> web.Application:
        """Returns the aiohttp application with the provider's routes and the control door under /_sim/."""
        app = web.Application(middlewares=[self._middleware], client_max_size=64 * 2**20)
        app.add_routes(self.routes())
        app.add_routes(
            [
                web.get("/_sim/truth", self._sim_truth),
                web.get("/_sim/log", self._sim_log),
                web.get("/_sim/credential", self._sim_credential),
                web.post("/_sim/do", self._sim_do),
            ]
        )
        return app

    async def _sim_truth(self, request: web.Request) -> web.Response:
        return web.json_response(self.truth())

    async def _sim_log(self, request: web.Request) -> web.Response:
        """The log; `?writes` narrows it, `?brief` gives [at, ended, status, changed] for each, for whoever reads a hundred thousand."""
        if "brief" in request.query:
            return web.json_response([(call.at, call.ended, call.status, call.changed) for call in list(self.log)])
        calls = [asdict(call) for call in list(self.log)]
        return web.json_response([call for call in calls if call["write"]] if "writes" in request.query else calls)

    async def _sim_credential(self, request: web.Request) -> web.Response:
        return web.json_response(self.second_credential() if request.query.get("owner") == "second" else self.credential())

    async def _sim_do(self, request: web.Request) -> web.Response:
        """Takes {"do": add_fault|clear_faults|populate|change_by_somebody|remove_by_somebody|clear_log|set, ...arguments}."""
        order = await request.json()
        do = order.pop("do")
        if do == "clear_log":
            self.log.clear()
        elif do == "set":
            for name, value in order.items():
                setattr(self, name, value)
        elif do in ("add_fault", "clear_faults", "populate", "change_by_somebody", "remove_by_somebody"):
            getattr(self, do)(**order)
        else:
            raise web.HTTPBadRequest(text=f"unknown order {do}")
        return web.json_response({"ok": True})


async def start(simulator: Simulator, port: int = 0) -> tuple[web.AppRunner, int]:
    """Starts a simulator on 127.0.0.1 in the running loop; returns its runner and port."""
    runner = web.AppRunner(simulator.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    return runner, runner.addresses[0][1]


@contextmanager
def serve(simulator: Simulator, port: int = 0) -> Iterator[str]:
    """Serves a simulator from a thread of its own and yields its base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"simulator-{simulator.key}", daemon=True)
    thread.start()
    runner, bound = asyncio.run_coroutine_threadsafe(start(simulator, port), loop).result(10)
    try:
        yield f"http://127.0.0.1:{bound}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def parser() -> argparse.ArgumentParser:
    """Returns the command line of `python -m tests.simulators`."""
    given = argparse.ArgumentParser(description="Serves the simulated providers on loopback until it is stopped.")
    given.add_argument("--port", type=int, default=8710, help="port of the first simulator; the others follow; 0 takes free ones")
    given.add_argument("--only", action="append", help="serve only this provider (may be given again)")
    given.add_argument("--copies", type=int, default=1, help="how many of each; the addresses are then lists")
    given.add_argument("--unlimited", action="store_true", help="without the provider's own limits, for measuring")
    given.add_argument("--size", type=int, default=0, help="conversations per provider (default: the demo's own)")
    given.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    return given
