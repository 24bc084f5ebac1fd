"""What is told about every attempt of every provider: each one, with its outcome, and never a secret."""

from __future__ import annotations

import asyncio
import html
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from accounts.providers import all_providers, get_provider
from accounts.providers.base import Patience, Provider
from accounts.providers.errors import MalformedAnswer, OutcomeUnknown, ProviderError, ProviderUnavailable
from accounts.providers.exchange import FAILED, PATH, SENT, Exchange, Masker
from accounts.providers.schema import Op
from accounts.providers.secret import Secret
from tests.providers.case import GIVES_UP_AFTER, ONCE, QUICK, ProviderCase
from tests.simulators.kit import Call, Simulator

KEYS = [provider.key for provider in all_providers()]
SENTINEL = "s3ntinel-Valu/e+of&a\"secret'<x>"


class AnyCase(ProviderCase):
    """A provider at its simulator, with whatever it tells about its requests in `told`."""

    __test__ = False

    def __init__(self, key: str) -> None:
        self.key = key  # type: ignore[misc]
        self.told: list[Exchange] = []

    def listing(self, simulator: Simulator, patience: Patience = QUICK, **arguments: Any) -> ProviderError | None:
        """Lists once and returns the error, if any."""

        async def work(provider: Provider) -> ProviderError | None:
            try:
                await provider.list_conversations()
            except ProviderError as error:
                return error
            return None

        return self.using(simulator, work, patience=patience, recorder=self.told.append, **arguments)


def seen(call: Call) -> tuple[str, str]:
    return call.method, call.path


@pytest.fixture(params=KEYS)
def case(request: pytest.FixtureRequest) -> AnyCase:
    return AnyCase(request.param)


def test_every_request_is_told_once_and_reads_that_went_well_leave_numbers_only(case: AnyCase) -> None:
    simulator = case.make()
    assert case.listing(simulator) is None
    assert [(told.method, told.path.partition("?")[0]) for told in case.told] == [seen(call) for call in simulator.log]
    assert [told.status for told in case.told] == [call.status for call in simulator.log]
    for told in case.told:
        assert told.error == "" and told.sent == told.answer == "" and not told.write and told.size and told.at > 1.7e9


@pytest.mark.parametrize(
    ("fault", "status", "kind"), [("cut_before", None, "unavailable"), ("html", 502, "unavailable"), ("slow", None, "unavailable")]
)
def test_every_repeat_is_told_with_what_it_ended_in(
    case: AnyCase, fault: str, status: int | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = case.make()
    monkeypatch.setattr(case.kind, "read_timeout", GIVES_UP_AFTER)
    simulator.add_fault(fault, times=2, seconds=2 * GIVES_UP_AFTER, path="" if case.key != "chongzhiling" else "session")
    assert case.listing(simulator) is None
    assert len(case.told) == len(simulator.log) >= 3
    assert [(told.status, told.error) for told in case.told if told.error] == [(status, kind)] * 2
    assert all(("Bad Gateway" in told.answer) == (fault == "html") for told in case.told if told.error)


def test_a_write_is_told_with_what_was_sent_and_what_came_back(case: AnyCase) -> None:
    if not case.offers(Op.RENAME):
        pytest.skip("no writes there")
    simulator = case.make()
    simulator.populate(3)

    async def work(provider: Provider) -> None:
        current = await case.current(provider, simulator)
        await provider.write(current, {"title": "季度报告 2"})
        simulator.add_fault("cut_after", writes_only=True)
        with pytest.raises(OutcomeUnknown):
            await provider.write(await provider.read(case.ref((0, current)), fresh=True), {"title": "季度报告 3"})

    case.using(simulator, work, recorder=case.told.append)
    good, lost = [told for told in case.told if told.write]
    assert "季度报告 2" in good.sent and good.status == 200 and good.answer and not good.error
    assert "季度报告 3" in lost.sent and (lost.status, lost.size, lost.answer, lost.error) == (None, None, "", "outcome_unknown")


def test_what_mends_itself_is_told_too() -> None:
    case = AnyCase("chongzhiling")
    simulator = case.make()
    simulator.add_fault("expired", path="session")
    assert case.listing(simulator, ONCE) is None
    assert len(case.told) == len(simulator.log)
    assert [told.error for told in case.told].count("credentials_rejected") == 1 and case.told[-1].error == ""
    tokens = [told for told in case.told if "api_key=" in told.path]
    assert tokens and all("api_key=%E2%80%A6" in told.path or "api_key=…" in told.path for told in tokens)


def test_an_attempt_that_is_cancelled_is_told(case: AnyCase) -> None:
    simulator = case.make()
    simulator.latency = 5.0

    async def work(provider: Provider) -> None:
        sent, send = asyncio.Event(), provider.http.send

        async def sending(request: httpx.Request) -> httpx.Response:
            sent.set()
            return await send(request)

        provider.http.send = sending  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(provider.list_conversations())
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    case.using(simulator, work, recorder=case.told.append)
    assert case.told and (case.told[-1].status, case.told[-1].error) == (None, "cancelled")


def test_a_recorder_that_fails_is_no_reason_to_fail(case: AnyCase) -> None:
    def broken(_exchange: Exchange) -> None:
        raise ValueError

    async def work(provider: Provider) -> int:
        return len((await provider.list_conversations()).items)

    assert case.using(case.make(), work, recorder=broken) > 0


# --- secrets ----------------------------------------------------------------------------------------------------------------------------


def answering(key: str, answer: Any, *, credentials: dict[str, str], kept: dict[str, str] | None = None) -> tuple[Provider, list[Exchange]]:
    """Returns a provider whose every request is answered by `answer(request)`, and what it tells."""
    told: list[Exchange] = []
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    secrets = {name: Secret(value) for name, value in credentials.items()}
    return get_provider(key)(http, secrets, base_url="https://host.example", patience=ONCE, recorder=told.append, kept=kept), told


def ask(provider: Provider, method: str = "GET", path: str = "/x", **options: Any) -> ProviderError:
    async def work() -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await Provider.request(provider, method, path, **options)
        await provider.http.aclose()
        return caught.value

    return asyncio.run(work())


def everything(told: list[Exchange], error: ProviderError) -> str:
    return "\n".join([str(error), repr(vars(error)), *(str(value) for exchange in told for value in (exchange.path, exchange.sent, exchange.answer))])


FORMS = {
    "as it is": str,
    "in a query": lambda text: quote(text, safe=""),
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in HTML": html.escape,
}


@pytest.mark.parametrize("form", FORMS)
def test_an_error_page_that_repeats_the_credential_repeats_it_to_nobody(form: str) -> None:
    cookie = f"a=1; server_session={SENTINEL}; b=2"
    for part in (SENTINEL, cookie):
        echo = FORMS[form](part)
        provider, told = answering(
            "aurod", lambda request, echo=echo: httpx.Response(500, text=f"failed: [{echo}]"), credentials={"token": SENTINEL, "cookie": cookie}
        )
        shown = everything(told, ask(provider, "POST", "/x", params={"q": SENTINEL}, body={"note": SENTINEL}, write=True))
        for shape in FORMS.values():
            assert shape(SENTINEL) not in shown
        assert "s3ntinel" not in shown and "failed: [" in shown


@pytest.mark.parametrize("at", [SENT - 400, FAILED - 20, FAILED - 7, FAILED - 1, FAILED])
def test_a_secret_that_the_end_cuts_off_is_masked(at: int) -> None:
    for length in (10, 40, 400):
        secret = ("s3ntinel" * 60)[:length]
        page = ("." * at + secret + "." * 2000).encode()
        provider, told = answering("nuwax", lambda request, page=page: httpx.Response(500, content=page), credentials={"api_key": secret})
        ask(provider)
        assert "s3ntin" not in told[0].answer and len(told[0].answer) <= FAILED


def test_tokens_that_were_kept_are_masked_and_so_are_those_before_them() -> None:
    kept = {"access_token": "first-token-1"}
    provider, told = answering("chongzhiling", lambda request: httpx.Response(500, text="first-token-1 second-token-2"), credentials={}, kept=kept)

    async def work() -> None:
        for _turn in range(2):
            with pytest.raises(ProviderUnavailable):
                await Provider.request(provider, "GET", "/x")
            kept["access_token"] = "second-token-2"
        await provider.http.aclose()

    asyncio.run(work())
    assert told[0].answer == "… second-token-2" and told[1].answer == "… …"


def test_bodies_and_addresses_are_cut_and_headers_are_never_told() -> None:
    secret = "never-in-a-record"

    def answer(request: httpx.Request) -> httpx.Response:
        assert secret in request.headers["authorization"]
        return httpx.Response(404, text="答" * 50_000, headers={"set-cookie": f"sid={secret}"})

    provider, told = answering("nuwax", answer, credentials={"api_key": secret})
    error = ask(provider, "PUT", "/x", params={"q": "长" * 500}, body={"title": "题" * 5000}, write=True)
    assert isinstance(error, MalformedAnswer) and secret not in everything(told, error)
    assert (len(told[0].sent), len(told[0].answer), len(told[0].path)) == (SENT, FAILED, PATH)
    assert told[0].answer.endswith("答…") and told[0].size == 150_000


def test_tokens_that_change_often_do_not_pile_up_in_other_forms() -> None:
    masker = Masker(["given/secret"], ["token 0"])
    for number in range(1, 200):
        masker = masker.and_also([f"token {number}"])
    assert masker("given%2Fsecret token%200 token 7 token 199") == "… … … …"
    assert len(masker._forms) < 1000
