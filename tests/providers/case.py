"""A provider, its simulator, and what connects them over loopback HTTP through the product's own guarded client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, TypeVar

import pytest

from accounts.egress import EgressPolicy, build_client
from accounts.providers import get_provider
from accounts.providers.base import Patience, Provider
from accounts.providers.errors import (
    CredentialsRejected,
    MalformedAnswer,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from accounts.providers.records import MessagePage, Ref, RemoteConversation, RemoteMessage
from accounts.providers.schema import Op, Pace
from accounts.providers.secret import Secret
from tests.simulators import registry
from tests.simulators.kit import FAULTS, Simulator, serve

T = TypeVar("T")
Outcome = type[ProviderError] | None  # None: the operation succeeds

QUICK = Patience(attempts=3, seconds=8.0)
ONCE = Patience(attempts=1, seconds=8.0)
# Nothing is paced here (no limiter is given): only the silence after a refusal counts.
PACE = Pace(rate=10_000.0, burst=10_000, concurrency=8, cool_down=0.05)
POLICY = EgressPolicy.of(http_hosts=["127.0.0.1"], allow_cidrs=["127.0.0.0/8"])
TITLES = ("季度报告（终稿）", "Plan für Q3 – café", "🧵 emoji 👩‍💻 title")
GIVES_UP_AFTER = 0.4  # seconds: the read timeout while a slow answer is tested

# What one attempt ends with, unless a row says otherwise.
READ_OUTCOMES: dict[str, Outcome] = {
    "throttle": RateLimited,
    "error": ProviderUnavailable,
    "html": ProviderUnavailable,
    "html200": MalformedAnswer,
    "empty": MalformedAnswer,
    "cut_before": ProviderUnavailable,
    "cut_after": ProviderUnavailable,
    "error_after": ProviderUnavailable,
    "expired": CredentialsRejected,
    "slow": ProviderUnavailable,
}
# "throttle" is refused before anything is carried out, so that write is sent again; nothing else that was sent ever is.
WRITE_OUTCOMES: dict[str, Outcome] = {
    "throttle": None,
    "error": OutcomeUnknown,
    "html": OutcomeUnknown,
    "html200": OutcomeUnknown,
    "empty": OutcomeUnknown,
    "cut_before": OutcomeUnknown,
    "cut_after": OutcomeUnknown,
    "error_after": OutcomeUnknown,
    "ignore": None,
    "echo": None,
    "expired": CredentialsRejected,
    "slow": OutcomeUnknown,
}
# Faults after which the provider holds the new value, whatever we were told.
CARRIED_OUT = frozenset({"throttle", "cut_after", "error_after", "slow"})


class ProviderCase:
    """A provider, its simulator and what connects them: for the shared suite and for a provider's own tests (holds no tests itself)."""

    key: ClassVar[str] = ""
    other_model: ClassVar[str | None] = None  # a catalogue id to switch to; None: cannot switch
    config_change: ClassVar[Mapping[str, Any]] = {}  # a valid change of several settings, different from what is stored
    bad_config: ClassVar[Mapping[str, Any]] = {}  # one setting out of its range
    unknown_id: ClassVar[str] = "999999999"
    several_pages: ClassVar[int] = 75  # conversations that need more than one page of the listing
    many_messages: ClassVar[int] = 120  # messages that need more than one page of them
    page_limit: ClassVar[int] = 20  # messages asked for at once
    read_outcomes: ClassVar[Mapping[str, Outcome]] = {}  # over READ_OUTCOMES
    write_outcomes: ClassVar[Mapping[str, Outcome]] = {}  # over WRITE_OUTCOMES
    # Switches under which the listing must stay complete while rows are renamed: name every one that decides the order of rows.
    moving: ClassVar[tuple[Mapping[str, str], ...]] = ({},)
    # (switch, answer) -> {"check" | "list" | "read" | "messages" | "models" | "rename" | "switch_model" | "edit_config": what it raises}
    switch_outcomes: ClassVar[Mapping[tuple[str, str], Mapping[str, type[ProviderError]]]] = {}

    # --- for a row to override --------------------------------------------------------------------------------------------------------

    def make(self, **arguments: Any) -> Simulator:
        """Returns a simulator without the provider's own limits, so that the tests are quick."""
        simulator = registry.simulator(self.key)(**arguments)
        simulator.unlimited()
        return simulator

    def base_url(self, url: str) -> str:
        """Returns the account's base URL for a simulator at `url`."""
        return url

    def wrong_credentials(self, simulator: Simulator) -> dict[str, str]:
        """Returns a well-formed credential that the provider does not know: the last characters of each secret field are others."""
        secret = {field.name for field in self.kind.credential_fields if field.secret}
        return {name: value[:-4] + "".join(map(_other, value[-4:])) if name in secret else value for name, value in simulator.credential().items()}

    def truth_of(self, simulator: Simulator, remote_id: str) -> dict[str, Any]:
        """Returns what the simulator stores of one conversation, under the names of `RemoteConversation.values` where it has them."""
        return dict(simulator.truth()[remote_id])

    def writable(self, simulator: Simulator) -> str:
        """Returns the id of a conversation that an ordinary write may change."""
        return next(iter(simulator.truth()))

    # --- helpers ------------------------------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> type[Provider]:
        """The provider's class."""
        return get_provider(self.key)

    def offers(self, op: Op) -> bool:
        """True when the provider declares the operation as available."""
        return self.kind.capability(op).available

    def needs(self, *ops: Op) -> None:
        """Skips the test when an operation is not offered (a test of its own shows that it is refused then)."""
        for op in ops:
            if not self.offers(op):
                pytest.skip(f"{self.kind.name} does not offer: {op}")

    @contextmanager
    def served(self, simulator: Simulator) -> Iterator[str]:
        """Serves the simulator and yields the base URL of an account at it."""
        with serve(simulator) as url:
            yield self.base_url(url)

    @asynccontextmanager
    async def provider(
        self, simulator: Simulator, url: str, *, credentials: Mapping[str, str] | None = None, patience: Patience = QUICK, **arguments: Any
    ) -> AsyncIterator[Provider]:
        """Connects as the product does: guarded client, secrets as Secret; other keyword arguments go to the provider."""
        given = self.kind.clean_credentials(simulator.credential() if credentials is None else credentials)
        secrets = {name: Secret(value) for name, value in given.items()}
        async with build_client(POLICY, concurrency=8) as http:
            yield self.kind(http, secrets, base_url=url, patience=patience, **{"pace": PACE} | arguments)

    @staticmethod
    def run(work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end in a loop of its own."""
        return asyncio.run(work)

    def using(self, simulator: Simulator, work: Callable[[Provider], Awaitable[T]], *, patience: Patience = QUICK, **arguments: Any) -> T:
        """Serves `simulator`, connects a provider, and returns what `work` returns."""

        async def connected(url: str) -> T:
            async with self.provider(simulator, url, patience=patience, **arguments) as provider:
                return await work(provider)

        with self.served(simulator) as url:
            return self.run(connected(url))

    @staticmethod
    async def walk(provider: Provider, between: Callable[[int], Any] = lambda page: None) -> dict[str, tuple[int, RemoteConversation]]:
        """Lists everything as the mirror does; returns remote id -> (rank, row), first sighting, and calls `between(pages so far)` after each.

        De-duplicates over the whole walk, passes cursors back as they came, and begins again where a page asks for it, three times at most.
        """
        found: dict[str, tuple[int, RemoteConversation]] = {}
        cursor, restarts, pages = None, 0, 0
        while True:
            page = await provider.list_conversations(cursor)
            for item in page.items:
                found.setdefault(item.remote_id, (len(found), item))
            pages += 1
            assert pages < 5_000, "the listing does not come to an end"
            between(pages)
            if page.restart and restarts < 3:
                cursor, restarts = None, restarts + 1
            elif page.next is None:
                return found
            else:
                assert page.next != cursor, "a cursor that leads to itself"
                cursor = page.next

    @staticmethod
    def ref(sighting: tuple[int, RemoteConversation]) -> Ref:
        """Returns what the mirror would remember of a row of `walk`."""
        rank, item = sighting
        return Ref(item.remote_id, item.title, rank)

    async def find(self, provider: Provider, remote_id: str) -> tuple[int, RemoteConversation]:
        """Returns one row of the listing, and its rank."""
        return (await self.walk(provider))[remote_id]

    async def current(self, provider: Provider, simulator: Simulator) -> RemoteConversation:
        """Returns a fresh read of a conversation that may be written."""
        return await provider.read(self.ref(await self.find(provider, self.writable(simulator))), fresh=True)

    def same_as_stored(self, item: RemoteConversation, stored: Mapping[str, Any]) -> None:
        """Asserts that a conversation tells what the simulator stores: title, model and every value that both name."""
        assert item.title == stored["title"]
        for name, value in item.values.items():
            if name in stored:
                assert value == stored[name] and type(value) is type(stored[name]), name

    @staticmethod
    async def all_messages(provider: Provider, ref: Ref, limit: int) -> tuple[list[RemoteMessage], list[RemoteMessage]]:
        """Returns all messages oldest first: once gathered from the newest page backwards, once from the oldest page forwards."""
        page = await provider.messages(ref, limit=limit)
        assert page.newer is None, "the first page is the newest"
        pages: list[MessagePage] = [page]
        while page.older is not None:
            page = await provider.messages(ref, page.older, limit=limit)
            pages.insert(0, page)
            assert len(pages) < 500, "the messages do not come to an end"
        back = [message for part in pages for message in part.items]
        forth = list(page.items)
        while page.newer is not None:
            page = await provider.messages(ref, page.newer, limit=limit)
            forth += page.items
            assert len(forth) <= len(back) + limit, "the messages do not come to an end"
        return back, forth

    def change_for(self, op: Op, current: RemoteConversation) -> dict[str, Any]:
        """Returns the change that exercises a kind of write."""
        if op == Op.RENAME:
            return {"title": TITLES[0]}
        if op == Op.SWITCH_MODEL:
            assert self.other_model is not None, "a row of a provider that can switch needs other_model"
            return {"model": self.kind.model_value(current.values.get("model"), self.other_model)}
        return dict(self.config_change)

    def writes_offered(self) -> list[Op]:
        """Returns the kinds of write that this provider offers."""
        return [op for op in (Op.RENAME, Op.SWITCH_MODEL, Op.EDIT_CONFIG) if self.offers(op)]

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Walks faults, kinds of write, and every answer of every switch."""
        names = metafunc.fixturenames
        if "read_fault" in names:
            metafunc.parametrize("read_fault", sorted(set(FAULTS) - {"ignore", "echo"}))
        if "write_fault" in names:
            metafunc.parametrize("write_fault", sorted(FAULTS))
        if "order" in names:
            metafunc.parametrize("order", metafunc.cls.moving, ids=lambda order: " ".join(f"{k}={v}" for k, v in order.items()) or "usual order")
        if "switch" in names:
            switches = registry.simulator(metafunc.cls.key).SWITCHES
            pairs = [(name, answer) for name, answers in switches.items() for answer in answers]
            metafunc.parametrize("switch", pairs or [("none", "none")], ids=[f"{name}={answer}" for name, answer in pairs] or ["no switches"])


def _other(sign: str) -> str:
    """Returns another character of the same kind, so that a changed credential keeps its form."""
    if re.fullmatch("[A-Za-z]", sign):
        return chr(ord(sign) + (1 if sign not in "zZ" else -25))
    return str((int(sign) + 1) % 10) if sign.isascii() and sign.isdigit() else sign
