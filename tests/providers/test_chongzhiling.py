"""宠智灵 chongzhiling: the shared suite, and each gotcha of its contract that concerns reading."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from accounts.providers.base import Pace, Patience
from accounts.providers.chongzhiling import NO_SESSION, TOKEN_PATH, Chongzhiling
from accounts.providers.errors import (
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    PermissionRefused,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    Unsupported,
)
from accounts.providers.records import Ref, RemoteConversation, RemoteMessage
from accounts.providers.schema import Op, validate
from accounts.providers.secret import Secret
from tests.simulators.chongzhiling import API_KEY, CORP_ID, LONG, USER, ChongzhilingSimulator
from tests.simulators.kit import serve

from .contract import ContractSuite

QUICK = Patience(attempts=2, seconds=5.0)
AT_ONCE = Pace(rate=1000.0, burst=100, concurrency=8, cool_down=0.05)
KEY = {"api_key": API_KEY, "user_id": USER}


class TestChongzhiling(ContractSuite):
    """The row of the shared suite; reading is all there is."""

    key = "chongzhiling"
    # The row's account sends the token in the header, as most do.
    switch_outcomes = {("token_in", "query"): {"check": CredentialsRejected, "list": CredentialsRejected}}


@asynccontextmanager
async def connected(url: str, credentials: dict[str, str] | None = None, **connection: Any) -> AsyncIterator[Chongzhiling]:
    """A provider on a real client; secret fields arrive as Secret, as they do in the product."""
    secret = {field.name for field in Chongzhiling.credential_fields if field.secret}
    given = {name: Secret(value) if name in secret else value for name, value in (KEY if credentials is None else credentials).items()}
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Chongzhiling(http, given, base_url=url, **{"patience": QUICK, "pace": AT_ONCE} | connection)


def ask(
    simulator: ChongzhilingSimulator,
    question: Callable[[Chongzhiling], Awaitable[Any]],
    credentials: dict[str, str] | None = None,
    *,
    path: str = "",
    **connection: Any,
) -> Any:
    """Serves the simulator, connects, and returns what `question(provider)` finds."""

    async def conversation(url: str) -> Any:
        async with connected(url + path, credentials, **connection) as provider:
            return await question(provider)

    with serve(simulator) as url:
        return asyncio.run(conversation(url))


def calls(simulator: ChongzhilingSimulator, path: str = "") -> int:
    return sum(path in call.path for call in simulator.log)


async def walk(provider: Chongzhiling, after_page: Callable[[int], None] = lambda number: None) -> tuple[list[str], int]:
    """Lists everything as the mirror does; returns the ids (each once) and how often the list asked to begin again."""
    found: dict[str, RemoteConversation] = {}
    cursor, restarts, pages = None, 0, 0
    while True:
        page = await provider.list_conversations(cursor)
        pages += 1
        after_page(pages)
        found |= {row.remote_id: row for row in page.items}
        cursor, restarts = page.next, restarts + page.restart
        if cursor is None and (not page.restart or restarts > 3):
            return list(found), restarts


async def all_messages(provider: Chongzhiling, ref: Ref, limit: int = 50) -> list[RemoteMessage]:
    """Reads a session from its newest page back to its first message."""
    page = await provider.messages(ref, limit=limit)
    rows = list(page.items)
    while page.older:
        page = await provider.messages(ref, page.older, limit=limit)
        rows = [*page.items, *rows]
    return rows


def long_one(simulator: ChongzhilingSimulator) -> Ref:
    return Ref(next(key for key, session in simulator.sessions[USER].items() if session.count == LONG))


def titled(simulator: ChongzhilingSimulator, part: str) -> Ref:
    return Ref(next(key for key, session in simulator.sessions[USER].items() if part in session.title))


# --- the token: §1, gotchas 7 to 9 -------------------------------------------------------------------------------------------------------


def test_one_token_serves_every_request_and_every_later_connection() -> None:
    simulator, kept = ChongzhilingSimulator(), {}
    ask(simulator, walk, kept=kept)
    assert calls(simulator, TOKEN_PATH) == 1
    assert set(kept) == {"access_token", "ends_at", "made_for"}
    with serve(simulator) as url:  # another address: the kept token was made for the first one

        async def twice() -> None:
            for _unused in range(2):
                async with connected(url, kept=kept) as provider:
                    await provider.check()

        asyncio.run(twice())
    assert calls(simulator, TOKEN_PATH) == 2


def test_concurrent_requests_share_one_token_fetch() -> None:
    simulator = ChongzhilingSimulator(latency=0.02)

    async def together(provider: Chongzhiling) -> None:
        await asyncio.gather(*(provider.list_conversations() for _unused in range(8)))

    ask(simulator, together)
    assert (calls(simulator, TOKEN_PATH), calls(simulator, "session-list")) == (1, 8)


def test_concurrent_requests_that_are_refused_share_one_new_token() -> None:
    simulator = ChongzhilingSimulator(latency=0.02)

    async def together(provider: Chongzhiling) -> None:
        await provider.check()
        simulator.end_tokens()
        await asyncio.gather(*(provider.list_conversations() for _unused in range(8)))

    ask(simulator, together)
    assert (calls(simulator, TOKEN_PATH), calls(simulator, "session-list")) == (2, 1 + 8 + 8)


@pytest.mark.parametrize("life", [172_800.0, 20.0])
def test_a_new_token_is_fetched_before_the_old_one_ends(life: float) -> None:
    simulator, kept = ChongzhilingSimulator(token_life=life), {}

    async def twice(provider: Chongzhiling) -> None:
        await provider.check()
        assert life * 0.89 - 2 <= float(kept["ends_at"]) - time.time() <= life - min(300, life / 10) + 1
        await provider.check()
        assert calls(simulator, TOKEN_PATH) == 1
        kept["ends_at"] = f"{time.time() - 1:.0f}"
        await provider.check()

    ask(simulator, twice, kept=kept)
    assert calls(simulator, TOKEN_PATH) == 2
    assert {call.status for call in simulator.log} == {200}


def test_a_kept_token_of_another_user_id_or_key_is_never_used() -> None:
    simulator, kept = ChongzhilingSimulator(), {}

    async def both(url: str) -> tuple[int | None, int | None]:
        async with connected(url, KEY, kept=kept) as provider:
            mine = (await provider.list_conversations()).total
        async with connected(url, KEY | {"user_id": "clinic-user-02"}, kept=kept) as provider:
            return mine, (await provider.list_conversations()).total

    with serve(simulator) as url:
        assert asyncio.run(both(url)) == (len(simulator.truth()), 3)
    assert calls(simulator, TOKEN_PATH) == 2


def test_a_401_fetches_one_new_token_and_repeats_once() -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> int | None:
        await provider.check()
        simulator.end_tokens()
        return (await provider.list_conversations()).total

    assert ask(simulator, question) == len(simulator.truth())
    assert [call.status for call in simulator.log if "list" in call.path] == [200, 401, 200]
    assert calls(simulator, TOKEN_PATH) == 2


def test_a_401_that_stays_is_the_credentials_fault_after_one_new_token() -> None:
    simulator = ChongzhilingSimulator(switches={"token_in": "query"})  # our header means nothing there
    with pytest.raises(CredentialsRejected):
        ask(simulator, lambda provider: provider.list_conversations())
    assert (calls(simulator, TOKEN_PATH), calls(simulator, "session-list")) == (2, 2)


def test_a_ready_access_token_is_used_as_it_is_and_cannot_be_renewed() -> None:
    simulator = ChongzhilingSimulator()
    credentials = {"access_token": simulator.ready_token()}

    async def question(provider: Chongzhiling) -> None:
        assert (await provider.check()).user_id == ""  # nothing tells whose it is
        assert (await walk(provider))[0]
        simulator.end_tokens()
        with pytest.raises(CredentialsRejected):
            await provider.list_conversations()

    ask(simulator, question, credentials)
    assert calls(simulator, TOKEN_PATH) == 0


@pytest.mark.parametrize("way", ["header", "query"])
def test_the_token_travels_as_the_account_says(way: str) -> None:
    simulator = ChongzhilingSimulator(switches={"token_in": way})
    ask(simulator, walk, KEY | {"token_in": way})
    assert all(("token" in call.query) == (way == "query") for call in simulator.log if call.path != TOKEN_PATH)


def test_in_the_query_form_a_repeated_request_carries_the_new_token() -> None:
    simulator = ChongzhilingSimulator(switches={"token_in": "query", "new_token": "ends_old"})

    async def question(provider: Chongzhiling) -> None:
        await provider.check()
        simulator.end_tokens()
        await provider.check()

    ask(simulator, question, KEY | {"token_in": "query"})
    assert len({call.query["token"] for call in simulator.log if "list" in call.path}) == 2


def test_two_connections_go_on_where_each_new_token_ends_the_other() -> None:
    simulator = ChongzhilingSimulator(switches={"new_token": "ends_old"})

    async def question(url: str) -> None:
        async with connected(url) as one, connected(url) as two:
            for _unused in range(3):
                assert (await one.list_conversations()).total == (await two.list_conversations()).total

    with serve(simulator) as url:
        asyncio.run(question(url))


def test_company_id_works_and_the_key_wins_over_it() -> None:
    simulator = ChongzhilingSimulator()
    assert ask(simulator, lambda p: p.check(), {"corp_id": CORP_ID, "user_id": USER}).user_id == USER
    assert ask(simulator, lambda p: p.check(), KEY | {"corp_id": "corp-of-another"}).user_id == USER
    with pytest.raises(CredentialsRejected):
        ask(simulator, lambda p: p.check(), {"corp_id": CORP_ID, "api_key": "wrong", "user_id": USER})


@pytest.mark.parametrize("form", ChongzhilingSimulator.SWITCHES["token_refusal"])
@pytest.mark.parametrize("body", ["problem", "envelope"])
def test_a_wrong_key_is_the_credentials_fault_in_every_form(form: str, body: str) -> None:
    simulator = ChongzhilingSimulator(switches={"token_refusal": form, "error_body": body})
    with pytest.raises(CredentialsRejected):
        ask(simulator, lambda provider: provider.check(), KEY | {"api_key": "KEY-of-nobody"})
    assert len(simulator.log) == 1


def test_a_wrong_user_id_is_an_empty_list_and_no_error() -> None:
    simulator = ChongzhilingSimulator()
    page = ask(simulator, lambda provider: provider.list_conversations(), KEY | {"user_id": "clinic-user-0l"})
    assert (page.items, page.next, page.total) == ((), None, 0)
    field = next(field for field in Chongzhiling.credential_fields if field.name == "user_id")
    assert "empty list" in field.help


def test_a_credential_document_needs_a_valid_combination_and_errors_name_the_field() -> None:
    table: list[tuple[dict[str, str], str]] = [
        ({}, "api_key"),
        ({"user_id": "u"}, "api_key"),
        ({"api_key": "k"}, "user_id"),
        ({"corp_id": "c"}, "user_id"),
        ({"access_token": "t", "api_key": "k", "user_id": "u"}, "access_token"),
        ({"access_token": "two words"}, "access_token"),
        ({"access_token": "令牌"}, "access_token"),
        ({"api_key": "k", "user_id": "u", "token_in": "cookie"}, "token_in"),
        ({"api_key": "k", "user_id": "u", "token_in": "query"}, ""),
        ({"corp_id": "c", "user_id": "u"}, ""),
        ({"api_key": "k", "corp_id": "c", "user_id": "u"}, ""),
        ({"access_token": "t"}, ""),
    ]
    for given, named in table:
        assert list(Chongzhiling.check_credentials(given)) == ([named] if named else []), given
        assert not validate(Chongzhiling.credential_fields, {k: v for k, v in given.items() if k != "token_in"})[1]
    assert Chongzhiling.clean_credentials({"corp_id": None, "user_id": 42}) == {"user_id": "42"}  # type: ignore[dict-item]
    assert Chongzhiling.clean_credentials({"access_token": " Bearer abc ", "api_key": "", "user_id": " u "}) == {
        "access_token": "abc",
        "user_id": "u",
    }


def test_the_end_of_a_ready_token_is_read_from_it_where_it_tells() -> None:
    def token(claims: Any) -> str:
        return "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".x"

    def ends(text: str) -> Any:
        return Chongzhiling(httpx.AsyncClient(), {"access_token": Secret(text)}).expires_at()

    assert ends(token({"exp": 1_780_000_000})).isoformat() == "2026-05-28T20:26:40+00:00"
    for opaque in ("TOKEN-EXAMPLE", token({"exp": "soon"}), token([1]), "a.b.c", token({"exp": 1e99})):
        assert ends(opaque) is None
    assert Chongzhiling(httpx.AsyncClient(), {"api_key": Secret("k"), "user_id": "u"}).expires_at() is None


@pytest.mark.parametrize("way", ["header", "query"])
@pytest.mark.parametrize("form", ["problem", "envelope"])
def test_the_key_in_the_query_never_shows_in_an_error(way: str, form: str, caplog: pytest.LogCaptureFixture) -> None:
    switches = {"error_body": form, "overload_body": form, "error_text": "repeats_request", "token_in": way, "token_refusal": "http400"}
    simulator = ChongzhilingSimulator(switches=switches)
    kept: dict[str, str] = {}
    errors: list[BaseException] = []

    async def question(provider: Chongzhiling) -> None:
        for kind in ("expired", "error", "throttle", "html200", "empty", "cut_before", "cut_after"):
            for path in (TOKEN_PATH, "session-list", "session-record"):
                kept.clear()
                simulator.clear_faults()
                simulator.add_fault(kind, path=path, times=99)
                try:
                    await (provider.first_message(Ref("x")) if path == "session-record" else provider.check())
                except ProviderError as error:
                    errors.append(error)
        assert kept["access_token"]

    with caplog.at_level(logging.DEBUG):
        ask(simulator, question, KEY | {"token_in": way}, kept=kept, patience=Patience(attempts=1, seconds=1))
    assert len(errors) == 21
    assert any("…" in getattr(error, "detail", "") for error in errors)  # the server did repeat the request
    secrets = {API_KEY, quote(API_KEY, safe=""), *simulator.tokens}
    for error in errors:
        chain: BaseException | None = error
        while chain is not None:
            text = f"{chain!r} {chain} {chain.args} {getattr(chain, 'detail', '')}"
            assert not [secret for secret in secrets if secret in text]
            chain = chain.__cause__ or chain.__context__
    assert not [secret for secret in secrets if secret in caplog.text]


# --- answers: §2 ----------------------------------------------------------------------------------------------------------------------------

LIST, RECORD, TOKEN = "/api/v2.0/ai-b/medical-session-list", "/api/v2.0/ai-b/session-record", TOKEN_PATH
NO, YES = {"data": None, "message": "参数错误", "success": False}, {"data": {"list": []}, "message": "Get successfully.", "success": True}


@pytest.mark.parametrize(
    ("path", "status", "body", "expected"),
    [
        (LIST, 200, YES, dict),
        (LIST, 201, YES, dict),
        (LIST, 200, YES | {"error_code": 0}, dict),
        (LIST, 200, NO, RequestRejected),
        (LIST, 200, NO | {"error_code": 1001}, RequestRejected),
        (LIST, 200, {"data": {}, "message": "ok"}, MalformedAnswer),
        (LIST, 200, {"code": 401, "message": "token", "data": None}, CredentialsRejected),
        (LIST, 200, {"code": 429, "message": "slow", "data": None}, RateLimited),
        (LIST, 200, {"code": 500, "message": "oh", "data": None}, ProviderUnavailable),
        (LIST, 200, {"code": 500, "message": "oh", "data": None, "success": False}, ProviderUnavailable),
        (LIST, 200, "<html></html>", MalformedAnswer),
        (LIST, 200, "", MalformedAnswer),
        (LIST, 200, [1], MalformedAnswer),
        (LIST, 400, NO, RequestRejected),
        (LIST, 401, {"detail": "Invalid token", "status": 401, "title": "Unauthorized", "type": "about:blank"}, CredentialsRejected),
        (LIST, 401, "", CredentialsRejected),
        (LIST, 403, NO, PermissionRefused),
        (LIST, 404, {"detail": "not found"}, MalformedAnswer),
        (LIST, 422, {"detail": [{"loc": ["body", "limit"], "msg": "too large"}]}, RequestRejected),
        (LIST, 429, "<html></html>", RateLimited),
        (LIST, 429, NO, RateLimited),
        (LIST, 500, NO, ProviderUnavailable),
        (LIST, 503, "<html></html>", ProviderUnavailable),
        (LIST, 302, "", MalformedAnswer),
        (RECORD, 200, NO | {"message": NO_SESSION + "或无权访问"}, NotFound),
        (RECORD, 400, NO | {"message": "该会话不存在或无权访问"}, NotFound),
        (RECORD, 403, {"detail": "该会话不存在或无权访问"}, NotFound),
        (RECORD, 404, {"detail": "no session"}, NotFound),
        (RECORD, 404, "<html></html>", MalformedAnswer),
        (RECORD, 200, NO, RequestRejected),
        (TOKEN, 200, {"code": 200, "message": "success", "data": {}}, dict),
        (TOKEN, 200, {"code": 401, "message": "api_key", "data": None}, CredentialsRejected),
        (TOKEN, 200, {"code": 0, "message": "api_key", "data": None}, CredentialsRejected),
        (TOKEN, 200, {"code": 1003, "message": "api_key", "data": None}, CredentialsRejected),
        (TOKEN, 200, {"code": 503, "message": "busy", "data": None}, ProviderUnavailable),
        (TOKEN, 200, {"code": 429, "message": "busy", "data": None}, RateLimited),
        (TOKEN, 422, NO, CredentialsRejected),
        (TOKEN, 404, {"detail": "not found"}, MalformedAnswer),
        (TOKEN, 429, NO, RateLimited),
        (TOKEN, 500, "", ProviderUnavailable),
    ],
)
def test_every_form_of_answer_has_its_meaning(path: str, status: int, body: Any, expected: type) -> None:
    content = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    answer = httpx.Response(status, content=content, request=httpx.Request("GET", "https://ms-ai.example" + path))
    provider = Chongzhiling(httpx.AsyncClient(), KEY)
    if issubclass(expected, ProviderError):
        with pytest.raises(expected) as caught:
            provider.decode(answer, write=False)
        assert type(caught.value) is expected
    else:
        assert isinstance(provider.decode(answer, write=False), expected)


def test_422_names_what_the_provider_names() -> None:
    answer = httpx.Response(
        422, json={"detail": [{"loc": ["limit"], "msg": "too large"}, "x"]}, request=httpx.Request("GET", "https://a.example" + LIST)
    )
    with pytest.raises(RequestRejected, match="too large; x"):
        Chongzhiling(httpx.AsyncClient(), KEY).decode(answer, write=False)


def test_a_token_answer_without_a_token_is_malformed() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"code": 200, "message": "success", "data": {"access_token": None}})

    async def question() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
            await Chongzhiling(http, KEY, patience=QUICK).check()

    with pytest.raises(MalformedAnswer):
        asyncio.run(question())


# --- read-only: gotcha 1 -------------------------------------------------------------------------------------------------------------------------


def test_nothing_can_be_changed_and_each_refusal_has_its_own_sentence_and_sends_nothing() -> None:
    simulator = ChongzhilingSimulator()
    row = RemoteConversation("x", "t")
    absent = (Op.SEARCH, Op.MODELS, Op.SWITCH_MODEL, Op.RENAME, Op.EDIT_CONFIG, Op.GENERATE_TITLE)

    async def question(provider: Chongzhiling) -> None:
        for op, attempt in (
            (Op.SEARCH, provider.search("x")),
            (Op.MODELS, provider.list_models()),
            (Op.SWITCH_MODEL, provider.write(row, {"model": "m"})),
            (Op.RENAME, provider.write(row, {"title": "t"})),
            (Op.EDIT_CONFIG, provider.write(row, {"temperature": 1})),
            (Op.GENERATE_TITLE, provider.generate_title(row, "hello")),
        ):
            with pytest.raises(Unsupported) as caught:
                await attempt
            assert caught.value.message == Chongzhiling.capability(op).reason

    ask(simulator, question)
    assert simulator.log == []
    assert set(Chongzhiling.capabilities) == set(Op)
    assert len({Chongzhiling.capability(op).reason for op in absent}) == len(absent)
    assert not any(Chongzhiling.capability(op).available for op in absent)


# --- addresses ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/api/v2.0/ai-b", "/api/v2.0/ai-en/"])
def test_the_base_url_may_name_an_edition(path: str) -> None:
    simulator = ChongzhilingSimulator()
    ask(simulator, walk, path=path)
    prefix = path.rstrip("/") or "/api/v2.0/ai-b"
    assert {call.path for call in simulator.log} == {TOKEN_PATH, f"{prefix}/medical-session-list"}


def test_the_english_host_has_its_own_prefix() -> None:
    def prefix(base_url: str) -> str:
        return Chongzhiling(httpx.AsyncClient(), KEY, base_url=base_url).prefix

    assert prefix("https://ms-ai-cn.chongzhiling.com") == "/api/v2.0/ai-en"
    assert prefix("") == "/api/v2.0/ai-b"


def test_a_wrong_base_url_is_named_as_the_cause() -> None:
    with pytest.raises(MalformedAnswer, match="base URL"):
        ask(ChongzhilingSimulator(), lambda provider: provider.check(), path="/somewhere")


# --- the simulator is strict ------------------------------------------------------------------------------------------------------------------------


def test_the_simulator_refuses_what_the_contract_refuses() -> None:
    simulator = ChongzhilingSimulator()
    token = {"Authorization": f"Bearer {simulator.ready_token()}"}
    session = next(iter(simulator.truth()))
    base, record = "/api/v2.0/ai-b", "/api/v2.0/ai-b/session-record"
    table: list[tuple[str, str, dict[str, Any], int]] = [
        ("GET", "/auth/token/accessToken", {"params": KEY}, 404),
        ("GET", TOKEN_PATH, {"params": {"api_key": API_KEY}}, 400),
        ("POST", TOKEN_PATH, {"params": KEY}, 403),
        ("POST", f"{base}/medical-session-list", {"json": {}}, 401),
        ("POST", f"{base}/medical-session-list", {"json": {}, "headers": {"Authorization": token["Authorization"][7:]}}, 401),
        ("POST", f"{base}/medical-session-list", {"headers": token}, 400),
        ("POST", f"{base}/medical-session-list", {"headers": token, "json": {"page": "1"}}, 400),
        ("POST", f"{base}/medical-session-list", {"headers": token, "json": {"module_type": 1}}, 400),
        ("POST", f"{base}/medical-session-list", {"headers": token, "json": {"page": 0}}, 422),
        ("POST", f"{base}/medical-session-list", {"headers": token, "json": {}}, 200),
        ("GET", record, {"headers": token}, 400),
        ("GET", record, {"headers": token, "params": {"session_id": session, "page": "x"}}, 400),
        ("POST", f"{record}/session-start", {"headers": token, "json": {"module_type": 1, "content": "x"}}, 403),
        ("POST", f"{record}/history", {"headers": token, "json": {"session_id": session}}, 403),
        ("PUT", f"{base}/medical-record", {"headers": token, "json": {"report_id": 1, "status": 3}}, 403),
    ]
    with serve(simulator) as url, httpx.Client(base_url=url, trust_env=False) as http:
        for method, path, request, status in table:
            assert http.request(method, path, **request).status_code == status, (method, path, request)
        whole = http.get(record, headers=token, params={"session_id": titled(simulator, "兔子不吃草，精神差").remote_id}).json()["data"]
        assert set(whole) == {"history"}  # compatibility mode: no pagination, no ids, stage 8 included
        assert len(whole["history"]) == 7
        assert set(whole["history"][0]) == {"role", "content", "image"}
    assert [(call.method, call.path.rpartition("/")[2]) for call in simulator.writes()] == [
        ("POST", "accessToken"),
        ("POST", "session-start"),
        ("POST", "history"),
        ("PUT", "medical-record"),
    ]


def test_a_refusal_for_the_rate_is_waited_out() -> None:
    simulator = ChongzhilingSimulator()
    simulator.add_fault("throttle", path="session-list")
    assert ask(simulator, lambda provider: provider.list_conversations()).total == len(simulator.truth())
    assert [call.status for call in simulator.log] == [200, 429, 200]


def test_the_simulator_can_limit_requests_per_minute() -> None:
    simulator = ChongzhilingSimulator(requests_per_minute=3)

    async def question(provider: Chongzhiling) -> None:
        await provider.check()
        await provider.check()
        with pytest.raises(RateLimited):
            await provider.check()

    ask(simulator, question)
    assert [call.status for call in simulator.log] == [200, 200, 200, 429, 429]
