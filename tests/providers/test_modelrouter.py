"""Alibaba ModelRouter: its row in the shared suite, the contract's worked examples, and its gotchas."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from accounts.providers.base import Patience, Provider, encode_query
from accounts.providers.errors import (
    CredentialsRejected,
    ProviderError,
    RequestRejected,
)
from accounts.providers.modelrouter import ModelRouter, action_of
from accounts.providers.parts.acs3 import authorization, canonical_request
from accounts.providers.records import Ref, RemoteConversation
from accounts.providers.secret import Secret
from tests.providers.contract import ContractSuite
from tests.simulators import modelrouter as simulated
from tests.simulators.kit import Simulator, serve
from tests.simulators.modelrouter import ModelRouterSimulator
from tests.simulators.modelrouter_data import FIRST_ID

LONG = str(FIRST_ID + 14)
ORDINARY = str(FIRST_ID)
SAID = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hi"}]
Question = Callable[[ModelRouter], Awaitable[Any]]


class TestModelRouter(ContractSuite):
    """The row of the shared suite."""

    key = "modelrouter"
    other_model = "3"
    several_pages = 120
    moving = tuple({"order": order} for order in ModelRouterSimulator.SWITCHES["order"])

    @asynccontextmanager
    async def provider(self, simulator: Simulator, url: str, **arguments: Any) -> AsyncIterator[Provider]:
        """At a service that empties what a write does not name, the account already knows; how it learns is tested in TestWriting."""
        if simulator.switches["update"] != "partial":
            arguments.setdefault("memory", {"whole_write": True})
        async with super().provider(simulator, url, **arguments) as provider:
            yield provider

    def same_as_stored(self, item: RemoteConversation, stored: Mapping[str, Any]) -> None:
        """A service that prints modelIds as a real array stores the same models in another form; everything else is compared exactly."""
        model = item.values["model"]
        if isinstance(model, list):
            assert self.kind.same_value("model", model, stored["model"])
            stored = {**stored, "model": model}
        super().same_as_stored(item, stored)


def simulator(**arguments: Any) -> ModelRouterSimulator:
    """A simulator without a limit of its own, so that tests are quick."""
    return ModelRouterSimulator(**{"rate_limit": 0, "retry_after_ms": 30, **arguments})


@asynccontextmanager
async def connected(url: str, credentials: Mapping[str, str], sent: list[httpx.Request] | None = None, **more: Any) -> AsyncIterator[ModelRouter]:
    """A provider on a real client; `sent` collects what went out, secret fields arrive as Secret as they do in the product."""

    async def note(request: httpx.Request) -> None:
        if sent is not None:
            sent.append(request)

    secret = {field.name for field in ModelRouter.credential_fields if field.secret}
    opened = {name: Secret(value) if name in secret else value for name, value in credentials.items()}
    async with httpx.AsyncClient(trust_env=False, verify=False, event_hooks={"request": [note]}) as http:
        yield ModelRouter(http, opened, base_url=url, **{"patience": Patience(attempts=2, seconds=5.0), **more})


def ask(sim: ModelRouterSimulator, question: Question, credentials: Mapping[str, str] | None = None, **more: Any) -> Any:
    """Serves the simulator, connects, and returns what `question(provider)` finds."""

    async def conversation(url: str) -> Any:
        async with connected(url, credentials or sim.credential(), **more) as provider:
            return await question(provider)

    with serve(sim) as url:
        return asyncio.run(conversation(url))


def refusal(sim: ModelRouterSimulator, question: Question, credentials: Mapping[str, str] | None = None, **more: Any) -> ProviderError:
    """Returns the error that a question ends with."""
    with pytest.raises(ProviderError) as caught:
        ask(sim, question, credentials, **more)
    return caught.value


async def walk(provider: ModelRouter, text: str | None = None) -> tuple[list[RemoteConversation], int, str]:
    """Lists (or searches) to the end; returns the rows as they came, the number of pages and the note of the last one."""
    rows: list[RemoteConversation] = []
    cursor, pages = None, 0
    while True:
        page = await (provider.list_conversations(cursor) if text is None else provider.search(text, cursor))
        assert not page.restart
        rows += page.items
        pages += 1
        cursor = page.next
        if cursor is None:
            return rows, pages, page.note


def read(identifier: str) -> Question:
    return lambda provider: provider.read(Ref(identifier), fresh=True)


def written(identifier: str, changes: Mapping[str, Any]) -> Question:
    async def go(provider: ModelRouter) -> Any:
        return await provider.write(await provider.read(Ref(identifier), fresh=True), changes)

    return go


# --- section 7: signature -----------------------------------------------------------------------------------------------------------

KEY_ID, KEY_SECRET = "LTAI-synthetic", "synthetic-secret"
BODY = '{"modelIds":"[1,3]","title":"季度复盘 Q3"}'.encode()
UPDATE = "/api/v1/modelRouter/open/conversations/1024"
LIST = "/api/v1/modelRouter/open/conversations"
SIGNED = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
FIXED = {
    "host": "aicontent.aliyuncs.com",
    "x-acs-version": "20240611",
    "x-acs-date": "2025-01-02T03:04:05Z",
    "x-acs-signature-nonce": "0123456789abcdef0123456789abcdef",
}
UPDATE_HEADERS = FIXED | {
    "content-type": "application/json; charset=utf-8",
    "x-acs-action": "ModelRouterUpdateConversation",
    "x-acs-content-sha256": hashlib.sha256(BODY).hexdigest(),
}
LIST_HEADERS = FIXED | {
    "x-acs-action": "ModelRouterQueryConversationList",
    "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}
LIST_QUERY = encode_query({"keyword": "复盘 a+b*~/", "needTotalCount": "true", "pageIndex": "1", "pageSize": "20"})


class TestSignature:
    def test_worked_example_1_an_update(self) -> None:
        assert UPDATE_HEADERS["x-acs-content-sha256"] == "a400e39cbd66c2ec054a3ea9626e9378b1845e842e782a8028bceb36a18d400c"
        text = canonical_request("PUT", UPDATE, "", UPDATE_HEADERS)
        assert text.splitlines()[:4] == ["PUT", UPDATE, "", "content-type:application/json; charset=utf-8"]
        assert hashlib.sha256(text.encode()).hexdigest() == "8717fa1c3d45a801127fd76fceab7baa9e913139bc7568651ba12ee74d7047e8"
        assert authorization("PUT", UPDATE, "", UPDATE_HEADERS, KEY_ID, KEY_SECRET) == (
            f"ACS3-HMAC-SHA256 Credential=LTAI-synthetic,SignedHeaders=content-type;{SIGNED},"
            "Signature=5d2b6355976a89bbbb9fe79992798a60644d70f4b2161fc413dca5fcd11db420"
        )

    def test_worked_example_1_as_the_whole_sdk_signs_it(self) -> None:
        more = {"accept": "application/json", "x-acs-credentials-provider": "static_ak", "user-agent": "synthetic-agent/1.0"}
        signed = authorization("PUT", UPDATE, "", UPDATE_HEADERS | more, KEY_ID, KEY_SECRET)
        assert signed.endswith("Signature=d1e16c9f590f2158660ca0a55db55dc62ae31102fe46e62c4be61889c690f1b2")

    def test_worked_example_2_a_query_with_awkward_characters(self) -> None:
        assert LIST_QUERY == "keyword=%E5%A4%8D%E7%9B%98%20a%2Bb%2A~%2F&needTotalCount=true&pageIndex=1&pageSize=20"
        text = canonical_request("GET", LIST, LIST_QUERY, LIST_HEADERS)
        assert text.splitlines()[2] == LIST_QUERY
        assert hashlib.sha256(text.encode()).hexdigest() == "5502cced61e7da88ec4e2e80d782190fd2e8276324876977ac7b34f6be5e7219"
        assert authorization("GET", LIST, LIST_QUERY, LIST_HEADERS, KEY_ID, KEY_SECRET) == (
            f"ACS3-HMAC-SHA256 Credential=LTAI-synthetic,SignedHeaders={SIGNED},"
            "Signature=415e83ec796a22c52f612c36904fe6418e4594e7ff424b7743bf4020ba7f95a0"
        )

    def test_order_and_escapes_of_the_given_query_do_not_matter(self) -> None:
        shuffled = "pageSize=20&pageIndex=1&needTotalCount=true&keyword=" + "复盘 a%2Bb*%7e/"
        assert canonical_request("GET", LIST, shuffled, LIST_HEADERS) == canonical_request("GET", LIST, LIST_QUERY, LIST_HEADERS)

    def test_the_simulator_computes_the_same_by_its_own_code(self) -> None:
        for method, path, query, headers, expected in (
            ("PUT", UPDATE, "", UPDATE_HEADERS, "5d2b6355976a89bbbb9fe79992798a60644d70f4b2161fc413dca5fcd11db420"),
            ("GET", LIST, LIST_QUERY, LIST_HEADERS, "415e83ec796a22c52f612c36904fe6418e4594e7ff424b7743bf4020ba7f95a0"),
        ):
            text = simulated.canonical_request(method, path, query, headers, sorted(headers), headers["x-acs-content-sha256"])
            assert simulated.signature(text, KEY_SECRET) == expected

    def test_each_path_has_its_action(self) -> None:
        assert action_of("GET", LIST) == "ModelRouterQueryConversationList"
        assert action_of("PUT", "/behind/a/gateway" + UPDATE) == "ModelRouterUpdateConversation"
        assert action_of("GET", UPDATE) == "ModelRouterQueryConversation"
        assert action_of("GET", "/api/v1/modelRouter/open/models") == "ModelRouterQueryModelList"

    def test_the_url_on_the_wire_is_the_canonical_query_and_the_host_names_its_port(self) -> None:
        sent: list[httpx.Request] = []
        rows, _pages, _note = ask(simulator(), lambda provider: walk(provider, "a+b*~/ 复盘"), sent=sent)
        assert rows == []
        assert sent[0].url.query == b"keyword=a%2Bb%2A~%2F%20%E5%A4%8D%E7%9B%98&needTotalCount=true&pageIndex=1&pageSize=50"
        assert sent[0].headers["host"] == f"127.0.0.1:{sent[0].url.port}"
        assert "content-type" not in sent[0].headers and "x-acs-security-token" not in sent[0].headers

    def test_gotcha_10_every_attempt_has_a_new_nonce(self) -> None:
        sim, sent = simulator(), []
        sim.add_fault("throttle", times=2)
        ask(sim, read(ORDINARY), sent=sent, patience=Patience(attempts=3, seconds=5))
        assert len({request.headers["x-acs-signature-nonce"] for request in sent}) == 3
        assert len({request.headers["authorization"] for request in sent}) == 3

    def test_the_simulator_refuses_what_is_signed_wrongly(self) -> None:
        """The simulator's strictness is what the other tests rest on."""

        async def go(url: str) -> list[tuple[int, str]]:
            answers = []
            async with httpx.AsyncClient(trust_env=False, verify=False) as http, connected(url, sim.credential()) as provider:
                address = httpx.URL(url + LIST + "?pageIndex=1")
                good = await provider.headers("GET", address, b"")
                later = await provider.headers("GET", address, b"")
                for headers in (
                    good,
                    good,  # the same nonce again
                    {**later, "x-acs-date": "2025-01-02T03:04:05Z"},
                    {**later, "x-acs-date": "yesterday"},
                    {**later, "x-acs-action": "ModelRouterQueryConversation"},
                    {**later, "x-acs-content-sha256": hashlib.sha256(b"x").hexdigest()},
                    {**later, "x-acs-signature-nonce": "f" * 32},
                    {**later, "x-acs-extra": "not signed"},
                    {name: value for name, value in later.items() if name != "x-acs-version"},
                    {name: value for name, value in later.items() if name != "authorization"},
                    {**later, "authorization": later["authorization"].replace("LTAI-synthetic-0001", "LTAI-unknown")},
                ):
                    answer = await http.get(address, headers=headers)
                    answers.append((answer.status_code, answer.json().get("Code", "")))
            return answers

        sim = simulator()
        with serve(sim) as url:
            assert asyncio.run(go(url)) == [
                (200, ""),
                (400, "SignatureNonceUsed"),
                (400, "InvalidTimeStamp.Expired"),
                (400, "InvalidTimeStamp.Format"),
                (404, "InvalidAction.NotFound"),
                (400, "SignatureDoesNotMatch"),
                (400, "SignatureDoesNotMatch"),
                (400, "IncompleteSignature"),
                (400, "MissingXAcsVersion"),
                (400, "IncompleteSignature"),
                (404, "InvalidAccessKeyId.NotFound"),
            ]


# --- credentials and clock ----------------------------------------------------------------------------------------------------------


class TestCredentials:
    def test_the_key_stands_for_the_user_that_the_service_does_not_tell(self) -> None:
        sim = simulator()
        identity = ask(sim, lambda provider: provider.check())
        assert (identity.user_id, identity.name) == ("LTAI-synthetic-0001", "…0001")
        assert [call.query for call in sim.log] == [{"needTotalCount": "true", "pageIndex": "1", "pageSize": "1"}]

    def test_limits_are_keyed_by_endpoint_and_access_key(self) -> None:
        async def go() -> None:
            async with connected(
                "https://aicontent.aliyuncs.com/", {"access_key_id": "LTAI-a", "access_key_secret": "one"}, identity="given"
            ) as provider:
                assert provider.limit("GET", LIST).key == "modelrouter:https://aicontent.aliyuncs.com:LTAI-a"
                assert provider.limit("PUT", UPDATE).rate == 5.0

        asyncio.run(go())

    def test_temporary_credentials_send_their_token_signed(self) -> None:
        sim, sent = simulator(security_token="synthetic/token+of=a role"[:20]), []
        ask(sim, lambda provider: provider.check(), sent=sent)
        assert sent[0].headers["x-acs-security-token"] == sim.security_token
        assert "x-acs-accesskey-id;" in sent[0].headers["authorization"] and "x-acs-security-token" in sent[0].headers["authorization"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"access_key_id": "LTAI-mistyped"}, "InvalidAccessKeyId.NotFound"),
            ({"access_key_secret": "wrong"}, "SignatureDoesNotMatch"),
            ({"security_token": ""}, "MissingSecurityToken"),
            ({"security_token": "foreign-token"}, "InvalidSecurityToken.Malformed"),
        ],
    )
    def test_gotcha_9_a_bad_key_is_a_credential_error_even_as_404(self, change: dict[str, str], code: str) -> None:
        sim = simulator(security_token="synthetic-token")
        error = refusal(sim, read(ORDINARY), sim.credential() | change)
        assert isinstance(error, CredentialsRejected)
        assert error.detail.startswith(code)

    def test_a_disabled_key_and_an_ended_token_are_credential_errors(self) -> None:
        sim = simulator(inactive_keys={"LTAI-synthetic-0001"})
        assert isinstance(refusal(sim, read(ORDINARY)), CredentialsRejected)
        sim = simulator()
        sim.add_fault("expired")
        assert isinstance(refusal(sim, read(ORDINARY)), CredentialsRejected)

    def test_the_echoed_canonical_request_is_never_shown(self) -> None:
        sim = simulator(security_token="synthetic-token-that-must-not-show")
        error = refusal(sim, read(ORDINARY), sim.credential() | {"access_key_secret": "wrong-secret-that-must-not-show"})
        shown = f"{error} {error!r} {error.detail} {error.__cause__!r}"
        assert "must-not-show" not in shown and "x-acs-" not in shown and "calculation" not in shown

    def test_a_secret_in_any_other_message_is_blotted_out(self) -> None:
        async def go() -> str:
            async with connected("https://aicontent.aliyuncs.com", {"access_key_id": "LTAI-a", "access_key_secret": "hush-hush"}) as provider:
                request = httpx.Request("GET", "https://aicontent.aliyuncs.com" + LIST)
                answer = httpx.Response(400, json={"Code": "InvalidThing", "Message": "you sent hush-hush"}, request=request)
                with pytest.raises(RequestRejected) as caught:
                    provider.decode(answer, write=False)
                return str(caught.value)

        assert "you sent …" in asyncio.run(go())

    @pytest.mark.parametrize("offset", [-3600.0, 3600.0, 7 * 86_400.0])
    def test_a_wrong_clock_is_corrected_once_and_remembered(self, offset: float) -> None:
        sim, memory = simulator(clock_offset=offset), {}

        async def go(provider: ModelRouter) -> None:
            await provider.read(Ref(ORDINARY), fresh=True)
            await provider.read(Ref(ORDINARY), fresh=True)

        ask(sim, go, memory=memory, patience=Patience(attempts=1))
        assert [call.status for call in sim.log] == [400, 200, 200]
        assert abs(memory["clock_skew"] - offset) <= 2

    def test_a_clock_that_cannot_be_corrected_is_named(self) -> None:
        sim = simulator(clock_offset=3600.0)
        sim._now = lambda: 0.0  # type: ignore[method-assign]  # every answer is dated 1970, so the correction does not help a second check
        sim._check_clock = lambda given, refuse: (_ for _ in ()).throw(refuse(400, "InvalidTimeStamp.Expired", "expired"))  # type: ignore[method-assign]
        error = refusal(sim, read(ORDINARY))
        assert isinstance(error, RequestRejected) and "clock" in error.message
        assert len(sim.log) == 2

    def test_what_cannot_be_a_key_is_said_before_anything_is_sent(self) -> None:
        check = ModelRouter.check_credentials
        assert check({"access_key_id": "LTAI-1", "access_key_secret": "s"}) == {}
        assert set(check({})) == {"access_key_id", "access_key_secret"}
        assert set(check({"access_key_id": "LTAI 1\nX", "access_key_secret": "s", "security_token": "密"})) == {"access_key_id", "security_token"}
        assert set(check({"access_key_id": "STS.abc", "access_key_secret": "s"})) == {"security_token"}

    def test_only_the_providers_own_hosts_are_declared(self) -> None:
        assert ModelRouter.allowed_hosts == ("aliyuncs.com",)
