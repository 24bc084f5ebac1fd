"""Chat Nio: the shared contract, then what its own contract warns of, one test for each trap of administration."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx
import pytest

from accounts.providers.base import Pace, Patience, Provider
from accounts.providers.chatnio import ChatNio
from accounts.providers.errors import (
    CredentialsRejected,
    MalformedAnswer,
    ProviderUnavailable,
    RateLimited,
)
from accounts.providers.records import Ref, RemoteConversation
from tests.simulators import kit
from tests.simulators.chatnio import ChatNio as Site

from .contract import ContractSuite

T = TypeVar("T")
QUICK = Patience(attempts=2, seconds=4.0)


class TestChatNio(ContractSuite):
    """The row of the shared suite."""

    key = "chatnio"
    other_model = None
    config_change: dict[str, Any] = {}
    bad_config: dict[str, Any] = {}
    login = False  # connect with a login token instead of the API key

    def make(self, **arguments: Any) -> Site:
        """Returns a site whose limiter is off; the limiter has tests of its own below."""
        return Site(**({"limit_scale": 0.0, "login": self.login} | arguments))

    @pytest.fixture(autouse=True)
    def kind_of_credential(self, request: pytest.FixtureRequest) -> None:
        """Chooses the login token where a shared test reads on with the same object after a refusal; a refused key sends no more (gotcha 8)."""
        callspec = getattr(request.node, "callspec", None)
        self.login = callspec is not None and callspec.params.get("write_fault") == "expired"


# --- helpers ------------------------------------------------------------------------------------------------------------------------


class Pacer:
    """An in-process limiter with the promise of the real one: evenly spaced turns per key, and a cool-down that everybody waits for."""

    def __init__(self) -> None:
        self.next: dict[str, float] = {}

    async def acquire(self, key: str, *, rate: float, burst: int = 1, priority: bool = False, max_wait: float | None = None) -> float:
        """Waits for the next turn of this key."""
        started = time.monotonic()
        while True:
            wait = self.next.get(key, 0.0) - time.monotonic()
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        self.next[key] = time.monotonic() + 1 / rate
        return time.monotonic() - started

    async def cool_down(self, key: str, seconds: float) -> None:
        """Lets nobody pass before `seconds` are over."""
        self.next[key] = max(self.next.get(key, 0.0), time.monotonic() + seconds)


@contextmanager
def site(**arguments: Any) -> Iterator[tuple[Site, str]]:
    simulator = Site(**({"limit_scale": 0.0} | arguments))
    with kit.serve(simulator) as url:
        yield simulator, url


@asynccontextmanager
async def connected(url: str, credentials: dict[str, str], **arguments: Any) -> AsyncIterator[ChatNio]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield ChatNio(http, credentials, **({"base_url": url, "patience": QUICK} | arguments))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


async def listed(provider: Provider, known: dict[str, RemoteConversation] | None = None) -> tuple[dict[str, RemoteConversation], list[str]]:
    """Walks the whole list as the mirror does; returns the whole rows by id and the notes. A whole row that comes twice is an error."""
    known = {} if known is None else known
    page = await provider.list_conversations(known=known)
    names, notes, whole = {row.remote_id: row.title for row in page.items}, [page.note], dict[str, RemoteConversation]()
    held = {remote_id for remote_id, row in known.items() if names.get(remote_id, row.title) == row.title}
    while page.next is not None:
        page = await provider.list_conversations(page.next, known=held)
        notes.append(page.note)
        for row in page.items:
            assert row.remote_id not in whole and not row.thin
            whole[row.remote_id] = row
    return whole, notes


def paths(simulator: Site) -> list[str]:
    return [call.path for call in simulator.log]


# --- address and credential -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installation", "given", "prefix"), [("api_only", "", ""), ("static", "", "/api"), ("static", "/api", ""), ("static", "/api/", "")]
)
def test_the_api_is_found_at_the_address_or_under_api_and_remembered(installation: str, given: str, prefix: str) -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url + given, simulator.credential(), memory=memory) as provider:
            assert (await provider.check()).name == "lin.wei"
            assert memory["prefix"] == prefix
        simulator.log.clear()
        async with connected(url + given, simulator.credential(), memory=json.loads(json.dumps(memory))) as provider:
            assert (await provider.read(Ref("1"))).model == "glm-4"
        assert paths(simulator) == [f"{given.rstrip('/')}{prefix}/conversation/load"]

    with site(switches={"installation": installation}) as (simulator, url):
        run(story())


@pytest.mark.parametrize("installation", ["api_only", "static"])
def test_gotcha_1_a_wrong_address_is_malformed_and_not_an_empty_account(installation: str) -> None:
    async def story() -> None:
        async with connected(f"{url}/elsewhere", simulator.credential()) as provider:
            with pytest.raises(MalformedAnswer):
                await provider.list_conversations()

    with site(switches={"installation": installation}) as (simulator, url):
        run(story())


def test_a_login_token_works_tells_its_end_and_dies_with_the_password() -> None:
    async def story() -> None:
        token = simulator.token(seconds=3600)
        async with connected(url, {"secret": token}) as provider:
            identity = await provider.check()
            assert identity.user_id == "lin.wei" and identity.expires_at is not None
            assert abs(identity.expires_at.timestamp() - time.time() - 3600) < 60
            simulator.user.password = "another password"
            for call in (provider.check(), provider.read(Ref("1")), provider.list_conversations()):
                with pytest.raises(CredentialsRejected) as caught:
                    await call
                assert token not in str(caught.value) + repr(caught.value)
        async with connected(url, {"secret": simulator.token(seconds=-5)}) as provider:
            with pytest.raises(CredentialsRejected):
                await provider.read(Ref("1"))

    with site() as (simulator, url):
        run(story())


def test_what_people_paste_around_a_credential_is_removed() -> None:
    assert ChatNio.clean_credentials({"secret": "  Authorization: Bearer sk-abc \n"}) == {"secret": "sk-abc"}
    assert ChatNio.clean_credentials({"secret": "bearer eyJh.b.c"}) == {"secret": "eyJh.b.c"}
    assert ChatNio.check_credentials({"secret": "Bearer sk-abc"}) == {}
    for bad in ("", "   ", "Bearer ", "sk-one sk-two", "sk-ключ"):
        assert set(ChatNio.check_credentials({"secret": bad})) == {"secret"}, bad


def test_gotcha_8_a_refused_key_is_not_sent_again_and_a_walk_stops_at_once() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory, pace=Pace(concurrency=2)) as provider:
            page = await provider.list_conversations()
            simulator.user.key = "sk-" + "0" * 64
            simulator.log.clear()
            with pytest.raises(CredentialsRejected):
                await provider.list_conversations(page.next)
            assert len(simulator.log) <= 2  # what was in flight already
            with pytest.raises(CredentialsRejected):
                await provider.write(page.items[0], {"title": "x"})
            assert simulator.writes() == []
            sent = len(simulator.log)
            for call in (provider.read(Ref("1")), provider.check(), provider.list_conversations()):
                with pytest.raises(CredentialsRejected):
                    await call
            assert len(simulator.log) == sent

    with site() as (simulator, url):
        run(story())


def test_gotcha_8_a_blocked_address_is_not_a_bad_key_and_says_how_long() -> None:
    async def story() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for _attempt in range(51):
                await http.post(f"{url}/state", headers={"authorization": "sk-wrong"})
        async with connected(url, simulator.credential()) as provider:
            with pytest.raises(ProviderUnavailable) as caught:
                await provider.check()
            assert caught.value.retry_after == 1200
        async with connected(url, {"secret": simulator.token()}) as provider:
            assert (await provider.check()).user_id == "lin.wei"

    with site() as (simulator, url):
        run(story())


# --- pace -------------------------------------------------------------------------------------------------------------------------------


def test_gotcha_7_budgets_belong_to_host_and_path_whatever_the_account_and_the_form_of_installation() -> None:
    http = httpx.AsyncClient(trust_env=False)
    one = ChatNio(http, {"secret": "sk-1"}, base_url="https://Chat.example.com", identity="one")
    two = ChatNio(http, {"secret": "sk-2"}, base_url="https://chat.example.com/api/", identity="two")
    load = one.limit("GET", "/api/conversation/load")
    assert load == two.limit("GET", "/conversation/load") and load.rate == 4 and load.burst == 1
    assert load.key != one.limit("POST", "/api/conversation/rename").key
    assert load.key != ChatNio(http, {"secret": "sk-1"}, base_url="https://other.example.com").limit("GET", "/conversation/load").key
    for path in ("/state", "/api/state", "/v1/models", "/api/v1/market"):
        assert one.limit("GET", path).rate >= 20


def test_gotcha_7_two_accounts_at_four_a_second_are_never_refused() -> None:
    async def story() -> None:
        pacer = Pacer()
        async with (
            connected(url, {"secret": simulator.user.key}, limiter=pacer, patience=Patience()) as one,
            connected(url, {"secret": simulator.second.key}, limiter=pacer, patience=Patience()) as two,
        ):
            await asyncio.gather(
                *(one.read(Ref(number), fresh=True) for number in ("1", "2", "4", "5")), *(two.read(Ref("1"), fresh=True) for _ in range(3))
            )
        assert simulator.refusals == 0 and paths(simulator).count("/conversation/load") == 7

    with site(limit_scale=1.0) as (simulator, url):
        run(story())


def test_a_refusal_for_the_rate_silences_the_path_for_a_second_and_is_then_repeated() -> None:
    async def story() -> None:
        pacer = Pacer()
        async with connected(url, simulator.credential(), limiter=pacer, patience=Patience()) as provider:
            await provider.check()
            async with httpx.AsyncClient(trust_env=False, headers={"authorization": simulator.user.key}) as rival:
                for _request in range(5):
                    assert (await rival.get(f"{url}/conversation/load?id=1")).json()["status"] is True
            started = time.monotonic()
            assert (await provider.read(Ref("1"))).remote_id == "1"
            assert time.monotonic() - started > 1.0 and simulator.refusals == 1

    with site(limit_scale=1.0) as (simulator, url):
        run(story())


@pytest.mark.parametrize("answer", ["error_and_reason", "reason"])
def test_a_refusal_of_a_site_before_3_10_is_known_by_its_reason_alone(answer: str) -> None:
    async def story() -> None:
        async with connected(url, simulator.credential(), patience=Patience(attempts=1, seconds=1)) as provider:
            current = await provider.read(Ref("1"))
            simulator.add_fault("throttle", times=2)
            for call in (provider.list_conversations(), provider.write(current, {"title": "x"})):
                with pytest.raises(RateLimited) as caught:
                    await call
                assert caught.value.retry_after is not None and caught.value.retry_after > 1.0

    with site(switches={"throttle_answer": answer}) as (simulator, url):
        run(story())


def test_the_simulated_limiter_never_lets_in_who_keeps_asking() -> None:
    async def story() -> None:
        async with httpx.AsyncClient(trust_env=False, headers={"authorization": simulator.user.key}, base_url=url) as http:
            answers = [(await http.get("/conversation/load?id=1")).json()["status"] for _request in range(6)]
            assert answers == [True] * 5 + [False]
            for _request in range(3):
                await asyncio.sleep(0.4)
                assert (await http.get("/conversation/load?id=2")).json()["error"] == "request_throttled"
            assert (await http.get("/conversation/list")).json()["status"] is True  # a budget of its own
            await asyncio.sleep(1.05)
            assert (await http.get("/conversation/load?id=1")).json()["status"] is True

    with site(limit_scale=1.0) as (simulator, url):
        run(story())


def test_a_site_whose_limiter_is_down_is_unavailable_and_nothing_was_carried_out() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential(), patience=Patience(attempts=1, seconds=1)) as provider:
            current = await provider.read(Ref("1"))
            simulator.redis_down = True
            for call in (provider.list_conversations(), provider.write(current, {"title": "x"})):
                with pytest.raises(ProviderUnavailable) as caught:
                    await call
                assert not isinstance(caught.value, RateLimited)

    with site() as (simulator, url):
        run(story())
