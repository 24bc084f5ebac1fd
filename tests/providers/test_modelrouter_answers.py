"""Alibaba ModelRouter: what its answers mean, and its lists, whose rows move (sections 5 and 6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from accounts.providers.errors import (
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from accounts.providers.modelrouter import ModelRouter
from accounts.providers.parts.passes import Passes
from tests.simulators.kit import serve
from tests.simulators.modelrouter import ModelRouterSimulator

from .test_modelrouter import LIST, ORDINARY, UPDATE, ask, connected, read, refusal, simulator, walk, written

# --- section 6: errors --------------------------------------------------------------------------------------------------------------

GATEWAY_ERRORS = [
    (403, "B.Permission.DeniedException", PermissionRefused, PermissionRefused),
    (403, "Forbidden.RAM", PermissionRefused, PermissionRefused),
    (400, "NoPermission", PermissionRefused, PermissionRefused),
    (500, "Server.Internal.UnknownError", ProviderUnavailable, OutcomeUnknown),
    (503, "ServiceUnavailable", ProviderUnavailable, OutcomeUnknown),
    (500, "InternalError", ProviderUnavailable, OutcomeUnknown),
    (404, "InvalidAccessKeyId.NotFound", CredentialsRejected, CredentialsRejected),
    (400, "InvalidAccessKeyId.Inactive", CredentialsRejected, CredentialsRejected),
    (403, "SignatureDoesNotMatch", CredentialsRejected, CredentialsRejected),
    (400, "IncompleteSignature", RequestRejected, RequestRejected),
    (400, "InvalidTimeStamp.Format", RequestRejected, RequestRejected),
    (400, "SignatureNonceUsed", ProviderUnavailable, OutcomeUnknown),
    (400, "MissingSecurityToken", CredentialsRejected, CredentialsRejected),
    (400, "InvalidSecurityToken.Expired", CredentialsRejected, CredentialsRejected),
    (404, "InvalidAction.NotFound", RequestRejected, RequestRejected),
    (404, "InvalidApi.NotFound", RequestRejected, RequestRejected),
    (400, "MissingTitle", RequestRejected, RequestRejected),
    (400, "InvalidModelIds", RequestRejected, RequestRejected),
    (400, "Throttling", RateLimited, RateLimited),
    (400, "Throttling.User", RateLimited, RateLimited),
    (503, "Throttling.Api", RateLimited, RateLimited),
    (404, "Something.NotFound", RequestRejected, RequestRejected),
    (401, "Unheard", CredentialsRejected, CredentialsRejected),
    (418, "Unheard", RequestRejected, RequestRejected),
    (502, "Unheard", ProviderUnavailable, OutcomeUnknown),
]


def decoded(
    status: int, body: Any, *, write: bool = False, path: str = UPDATE, headers: Mapping[str, str] | None = None
) -> ProviderError | dict[str, Any]:
    """Returns what the provider makes of an answer: the envelope, or the error."""

    async def go() -> Any:
        async with connected("https://aicontent.aliyuncs.com", {"access_key_id": "LTAI-a", "access_key_secret": "hush-hush"}) as provider:
            request = httpx.Request("PUT" if write else "GET", "https://aicontent.aliyuncs.com" + path)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            try:
                return provider.decode(httpx.Response(status, content=content, request=request, headers=headers), write=write)
            except ProviderError as error:
                return error

    return asyncio.run(go())


class TestErrors:
    @pytest.mark.parametrize(("status", "code", "on_read", "on_write"), GATEWAY_ERRORS)
    @pytest.mark.parametrize("form", ["gateway", "lower case", "envelope"])
    def test_every_code_of_the_table_in_every_form(
        self, status: int, code: str, on_read: type[ProviderError], on_write: type[ProviderError], form: str
    ) -> None:
        body = {
            "gateway": {"RequestId": "r-1", "HostId": "h", "Code": code, "Message": "words"},
            "lower case": {"requestId": "r-1", "code": code, "message": "words"},
            "envelope": {"requestId": "r-1", "success": False, "errCode": code, "errMessage": "words", "httpStatusCode": status, "data": None},
        }[form]
        if form == "envelope" and code == "Something.NotFound":
            on_read = on_write = NotFound  # the service itself says that something is not there, on the path of one conversation
        assert type(decoded(status, body)) is on_read
        assert type(decoded(status, body, write=True)) is on_write
        shown = str(decoded(status, body))
        assert code in shown and "r-1" in shown

    @pytest.mark.parametrize(
        ("value", "seconds"), [("1500", 1.5), ("20", 0.02), ("0", None), ("-5", None), ("soon", None), ("", None), ("999999999", 3600.0)]
    )
    def test_gotcha_9_throttling_is_http_400_with_milliseconds(self, value: str, seconds: float | None) -> None:
        error = decoded(400, {"Code": "Throttling.User", "Message": "slow down"}, headers={"x-acs-retry-after": value, "retry-after": "77"})
        assert isinstance(error, RateLimited) and error.retry_after == seconds

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["throttling"])
    def test_every_form_of_throttling_is_waited_for_and_the_write_sent_once_more(self, answer: str) -> None:
        sim = simulator(switches={"throttling": answer})
        sim.add_fault("throttle", writes_only=True)
        quick = ModelRouter.pace.__class__(rate=1000, burst=10, concurrency=4, cool_down=0.05)
        ask(sim, written(ORDINARY, {"title": "等一等"}), pace=quick)
        assert [call.status for call in sim.writes()][-1] == 200 and len(sim.writes()) == 2
        assert sim.truth()[ORDINARY]["title"] == "等一等"

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["denied"])
    @pytest.mark.parametrize("action", ["ModelRouterQueryConversation", "ModelRouterUpdateConversation"])
    def test_every_form_of_a_refusal_by_policy_is_a_permission_error(self, answer: str, action: str) -> None:
        sim = simulator(switches={"denied": answer}, denied_actions={action})
        error = refusal(sim, written(ORDINARY, {"title": "nein"}))
        assert isinstance(error, PermissionRefused)
        assert "鉴权失败" in error.detail

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["server_error"])
    @pytest.mark.parametrize("fault", ["error", "error_after"])
    def test_every_form_of_a_500_leaves_a_write_unknown_and_is_never_sent_again(self, answer: str, fault: str) -> None:
        sim = simulator(switches={"server_error": answer})
        sim.add_fault(fault, writes_only=True, times=9)
        assert isinstance(refusal(sim, written(ORDINARY, {"title": "vielleicht"})), OutcomeUnknown)
        assert len(sim.writes()) == 1

    def test_an_unknown_error_under_200_is_shown_and_not_repeated_on_a_read(self) -> None:
        sim = simulator(switches={"server_error": "envelope_200"})
        sim.add_fault("error", times=9)
        error = refusal(sim, read(ORDINARY))
        assert isinstance(error, RequestRejected) and "未知错误" in error.detail
        assert len(sim.log) == 1

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["missing"])
    @pytest.mark.parametrize("status", ModelRouterSimulator.SWITCHES["failure_status"])
    def test_every_form_of_no_such_conversation_is_not_found(self, answer: str, status: str) -> None:
        sim = simulator(switches={"missing": answer, "failure_status": status})
        assert isinstance(refusal(sim, read("987654321")), NotFound)

    def test_an_unclear_failure_of_one_conversation_is_not_gone(self) -> None:
        body = {"success": False, "errCode": "UNKNOWN_ERROR", "errMessage": "未知错误", "httpStatusCode": 500, "data": None}
        assert type(decoded(200, body)) is RequestRejected
        assert type(decoded(200, body | {"errCode": "TITLE_NOT_FOUND"}, path=LIST)) is RequestRejected

    def test_a_missing_model_is_not_a_missing_conversation(self) -> None:
        body = {"success": False, "errCode": "MODEL_NOT_EXIST", "errMessage": "模型不存在", "httpStatusCode": 404, "data": None}
        assert type(decoded(200, body, write=True)) is RequestRejected
        assert type(decoded(404, body, write=True)) is RequestRejected
        assert type(decoded(200, body | {"errCode": "ModelRouter.ConversationNotFound", "errMessage": ""}, write=True)) is NotFound

    def test_gotcha_6_the_word_success_decides_and_not_the_status_or_the_code(self) -> None:
        assert decoded(200, {"success": True, "errCode": "FILLED", "data": {"id": 1}})["data"] == {"id": 1}
        assert decoded(200, {"data": {"id": 1}, "errCode": "FILLED"})["data"] == {"id": 1}
        assert isinstance(decoded(200, {"requestId": "r", "data": None}), MalformedAnswer)
        assert isinstance(decoded(200, {"requestId": "r"}, write=True), OutcomeUnknown)
        assert isinstance(decoded(200, {"success": False, "data": {"id": 1}}), RequestRejected)

    @pytest.mark.parametrize(
        ("status", "content", "on_read", "on_write"),
        [
            (200, b"<html>", MalformedAnswer, OutcomeUnknown),
            (200, b"", MalformedAnswer, OutcomeUnknown),
            (200, b"[]", MalformedAnswer, OutcomeUnknown),
            (200, b"{}", MalformedAnswer, OutcomeUnknown),
            (200, b"[" * 100_000, MalformedAnswer, OutcomeUnknown),
            (302, b"", MalformedAnswer, MalformedAnswer),
            (404, b"<html>", MalformedAnswer, MalformedAnswer),
            (400, b"<html>", RequestRejected, RequestRejected),
            (502, b"<html>", ProviderUnavailable, OutcomeUnknown),
            (429, b"", RateLimited, RateLimited),
        ],
    )
    def test_a_body_that_is_no_json_keeps_its_status(
        self, status: int, content: bytes, on_read: type[ProviderError], on_write: type[ProviderError]
    ) -> None:
        assert type(decoded(status, content)) is on_read
        assert type(decoded(status, content, write=True)) is on_write
        assert decoded(status, content).status == status


# --- section 5: paging --------------------------------------------------------------------------------------------------------------


class TestPaging:
    def test_three_thousand_are_listed_each_once_while_rows_are_renamed(self) -> None:
        sim = simulator(renamed_per_page=3)
        sim.populate(3000, messages=2)
        rows, pages, note = ask(sim, walk)
        assert len(rows) == 3000 and {row.remote_id for row in rows} == set(sim.truth())
        assert sim.renames > 150 and note == ""
        assert pages < 80  # one walk of 60 pages and the top of the list again, not a second walk

    @pytest.mark.parametrize("order", ModelRouterSimulator.SWITCHES["order"])
    @pytest.mark.parametrize("paging", [{}, {"page_index": "ignored"}, {"page_index": "echoed"}, {"total": "missing"}, {"past_end": "last_page"}])
    def test_every_order_and_every_way_of_paging_lists_each_once(self, order: str, paging: dict[str, str]) -> None:
        sim = simulator(renamed_per_page=2, switches={"order": order, "page_cap": "20", **paging})
        sim.populate(200, messages=1)
        rows, _pages, note = ask(sim, walk)
        assert len(rows) == 200 and {row.remote_id for row in rows} == set(sim.truth())
        assert note == ""

    @pytest.mark.parametrize(
        ("name", "answer"),
        [(name, a) for name in ("page_cap", "total", "list_form", "token_end", "past_end") for a in ModelRouterSimulator.SWITCHES[name]],
    )
    def test_a_quiet_list_is_complete_with_every_form_of_answer(self, name: str, answer: str) -> None:
        for paging in ("honoured", "ignored"):
            sim = simulator(switches={name: answer, "page_index": paging})
            sim.populate(130, messages=1)
            rows, _pages, note = ask(sim, walk)
            assert len(rows) == 130 and len({row.remote_id for row in rows}) == 130
            assert bool(note) == (answer == "too_many")

    def test_a_capped_page_is_not_the_end(self) -> None:
        sim = simulator(switches={"page_cap": "20"})
        sim.populate(95, messages=1)
        rows, pages, _note = ask(sim, walk)
        assert (len(rows), pages) == (95, 5)

    def test_a_list_that_can_only_show_its_beginning_says_so(self) -> None:
        for page_index in ("ignored", "echoed"):
            sim = simulator(switches={"page_index": page_index, "next_token": "not_offered"})
            sim.populate(130, messages=1)
            rows, pages, note = ask(sim, walk)
            assert len(rows) == 50 and "missing" in note and pages < 10

    def test_numbers_that_are_doubted_for_many_renames_come_back_where_there_are_no_tokens(self) -> None:
        sim = simulator(renamed_per_page=45, switches={"next_token": "not_offered"})
        sim.populate(400, messages=1)

        async def go(provider: ModelRouter) -> tuple[set[str], str]:
            seen: set[str] = set()
            cursor, number = None, 0
            while True:
                page = await provider.list_conversations(cursor)
                seen |= {row.remote_id for row in page.items}
                number, cursor = number + 1, page.next
                if number == 12:
                    sim.renamed_per_page = 0
                if cursor is None:
                    return seen, page.note

        assert ask(sim, go) == (set(sim.truth()), "")

    def test_an_answer_with_another_page_number_changes_to_tokens_at_once(self) -> None:
        sim = simulator(switches={"page_index": "ignored"})
        sim.populate(130, messages=1)
        rows, _pages, note = ask(sim, walk)
        assert (len(rows), note) == (130, "")
        assert [("pageIndex" in call.query, "nextToken" in call.query) for call in sim.log] == [
            (True, False),
            (True, False),
            (False, False),
            (False, True),
            (False, True),
        ]

    def test_a_token_travels_escaped(self) -> None:
        sim, sent = simulator(switches={"page_index": "ignored"}), []
        sim.populate(130, messages=1)
        ask(sim, walk, sent=sent)
        tokens = [request.url.query for request in sent if b"nextToken" in request.url.query]
        assert tokens and all(b"nextToken=%2B%2F%2B%2B" in query for query in tokens)

    def test_rows_deleted_while_paging_cost_no_other_row(self) -> None:
        sim = simulator()
        sim.populate(300, messages=1)

        async def go(provider: ModelRouter) -> set[str]:
            seen: set[str] = set()
            cursor, number = None, 0
            while True:
                page = await provider.list_conversations(cursor)
                seen |= {row.remote_id for row in page.items}
                if number < 4:
                    sim.remove_by_somebody(page.items[0].remote_id)  # the rows below move up across the next border
                number, cursor = number + 1, page.next
                if cursor is None:
                    assert page.note == ""
                    return seen

        assert ask(sim, go) >= set(sim.truth())

    def test_the_place_in_the_list_outlives_the_provider_object(self) -> None:
        sim = simulator()
        sim.populate(120, messages=1)

        async def go(url: str) -> list[str]:
            rows: list[str] = []
            cursor: str | None = None
            while True:
                async with connected(url, sim.credential()) as provider:
                    page = await provider.list_conversations(cursor)
                rows += [row.remote_id for row in page.items]
                if (cursor := page.next) is None:
                    return rows

        with serve(sim) as url:
            rows = asyncio.run(go(url))
        assert len(rows) == len(set(rows)) == 120

    def test_a_cursor_that_is_none_of_ours_is_refused(self) -> None:
        for cursor in ("", "page:3", "eJwDAAAAAAE="):
            with pytest.raises(RequestRejected):
                Passes.resume(cursor)

    def test_an_empty_account_is_one_page(self) -> None:
        sim = simulator()
        sim.populate(0)
        assert ask(sim, walk) == ([], 1, "")

    def test_an_answer_without_a_list_is_malformed_and_not_empty(self) -> None:
        with pytest.raises(MalformedAnswer):
            Passes().take({"success": True, "data": {"total": 41, "page": 1}})

    def test_searching_finds_titles(self) -> None:
        sim = simulator()
        sim.populate(200, messages=1)
        rows, pages, note = ask(sim, lambda provider: walk(provider, "Unit tests"))
        assert len(rows) == 25 and all("Unit tests" in row.title for row in rows) and (pages, note) == (1, "")
