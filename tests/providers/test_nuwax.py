"""Nuwax against its strict simulator: the shared suite, then the traps of its contract one by one."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import pytest

from accounts.providers.base import Pace, Patience, Provider
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
from accounts.providers.nuwax import Nuwax
from accounts.providers.records import MessagePage, Ref, RemoteConversation
from accounts.providers.schema import Op
from tests.simulators import kit
from tests.simulators.nuwax import NuwaxSimulator
from tests.simulators.nuwax_data import ACCOUNT_KEY, AGENT_KEY, HELPDESK, MARKET, OFF_KEY, OLD_KEY, OTHER_KEY, QUIET, STRANGER, Key

from .contract import ContractSuite

T = TypeVar("T")
QUICK = Patience(attempts=3, seconds=3.0)
BRISK = Pace(rate=1000.0, burst=100, concurrency=8, cool_down=0.05)


class TestNuwax(ContractSuite):
    """The row of the shared suite."""

    key = "nuwax"
    other_model = None
    config_change: dict[str, Any] = {}
    bad_config: dict[str, Any] = {}

    def make(self, **arguments: Any) -> NuwaxSimulator:
        """Returns a simulator without limits, or, where the switch asks for them, with few requests in a short minute."""
        limited = arguments.get("switches", {}).get("rate") == "per_minute"
        return NuwaxSimulator(**({"per_minute": 2, "window": 0.08} if limited else {}) | arguments)


# --- helpers ------------------------------------------------------------------------------------------------------------------------


@contextmanager
def served(**arguments: Any) -> Iterator[tuple[NuwaxSimulator, str]]:
    simulator = NuwaxSimulator(**arguments)
    with kit.serve(simulator) as url:
        yield simulator, url


def ask(url: str, operation: Callable[[Nuwax], Awaitable[T]], credentials: dict[str, str] | None = None, **arguments: Any) -> T:
    """Runs one operation with a provider of its own; account key and three agents unless told otherwise."""

    async def once() -> T:
        async with httpx.AsyncClient(trust_env=False) as http:
            given = credentials or {"api_key": ACCOUNT_KEY, "agent_ids": f"{HELPDESK}, {MARKET}, {QUIET}"}
            return await operation(Nuwax(http, given, base_url=url, **({"patience": QUICK, "pace": BRISK} | arguments)))

    return asyncio.run(once())


async def list_all(provider: Provider) -> list[RemoteConversation]:
    found, cursor = [], None
    while True:
        page = await provider.list_conversations(cursor)
        found += page.items
        if (cursor := page.next) is None:
            return found


async def all_messages(provider: Provider, ref: Ref, limit: int) -> list[MessagePage]:
    """Returns the pages from the newest back to the oldest."""
    pages = [await provider.messages(ref, limit=limit)]
    while pages[-1].older:
        pages.append(await provider.messages(ref, pages[-1].older, limit=limit))
    return pages


def some_id(simulator: NuwaxSimulator, title: str) -> str:
    return next(remote_id for remote_id, row in simulator.truth().items() if row["title"] == title)


def requests(simulator: NuwaxSimulator, path: str) -> list[kit.Call]:
    return [call for call in simulator.log if path in call.path]


# --- credentials (sections 1, 6) ----------------------------------------------------------------------------------------------------


def test_agent_ids_may_be_text_a_number_or_a_list_and_the_key_may_bring_its_scheme() -> None:
    wanted = {"api_key": "ak-1", "agent_ids": "88, 91"}
    for ids in ("88,91", " 88  91 ", "88；91、88", [88, 91], ["88", 91, 88]):
        assert Nuwax.clean_credentials({"api_key": " Bearer ak-1 ", "agent_ids": ids}) == wanted, ids
    assert Nuwax.clean_credentials({"api_key": "Authorization: Basic ak-1", "agent_ids": 88}) == {"api_key": "ak-1", "agent_ids": "88"}
    assert Nuwax.clean_credentials({"api_key": "ak-1", "agent_ids": []}) == {"api_key": "ak-1"}
    assert Nuwax.check_credentials(wanted) == {}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "api_key"),
        ({"api_key": "eyJhbGciOi.eyJzdWIi.c2ln"}, "api_key"),
        ({"api_key": "ak-密钥"}, "api_key"),
        ({"api_key": "ak-1", "agent_ids": "Helpdesk"}, "agent_ids"),
        ({"api_key": "ak-1", "agent_ids": "88, -1"}, "agent_ids"),
        ({"api_key": "ak-1", "agent_ids": str(2**63)}, "agent_ids"),
    ],
)
def test_what_cannot_be_a_credential_is_told_before_anything_is_sent(given: dict[str, str], field: str) -> None:
    assert list(Nuwax.check_credentials(given)) == [field]


def test_an_agent_key_names_its_own_agent() -> None:
    with served() as (simulator, url):
        identity = ask(url, lambda provider: provider.check(), {"api_key": AGENT_KEY})
        rows = ask(url, list_all, {"api_key": AGENT_KEY})
    assert (identity.user_id, identity.name) == ("42", "Helpdesk")
    assert {row.remote_id for row in rows} == {key for key, row in simulator.truth().items() if row["agentId"] == HELPDESK}
    assert {row.group for row in rows} == {"Helpdesk"}


@pytest.mark.parametrize("scope", NuwaxSimulator.SWITCHES["agent_key_scope"])
def test_agent_ids_beside_an_agent_key_are_taken_at_their_word(scope: str) -> None:
    with served(switches={"agent_key_scope": scope}) as (simulator, url):
        rows = ask(url, list_all, {"api_key": AGENT_KEY, "agent_ids": f"{HELPDESK}, {MARKET}"})
        reached = {HELPDESK} if scope == "own_agent" else {HELPDESK, MARKET}
        assert {row.remote_id for row in rows} == {key for key, row in simulator.truth().items() if row["agentId"] in reached}
        assert not requests(simulator, "/api/v1/agent")


@pytest.mark.parametrize("answer", NuwaxSimulator.SWITCHES["agent_endpoint"])
def test_an_account_key_without_agent_ids_is_told_to_name_them(answer: str) -> None:
    with served(switches={"agent_endpoint": answer}) as (_simulator, url), pytest.raises(CredentialsRejected, match="several agents; name their ids"):
        ask(url, lambda provider: provider.check(), {"api_key": ACCOUNT_KEY})


def test_check_tells_the_owner_and_the_agents_and_an_unknown_agent_stands_as_its_number() -> None:
    with served() as (_simulator, url):
        credentials = {"api_key": ACCOUNT_KEY, "agent_ids": f"{HELPDESK} {MARKET} 4711"}
        identity = ask(url, lambda provider: provider.check(), credentials)
    assert (identity.user_id, identity.name) == ("42", "Helpdesk, 市场助手, #4711")


# --- codes (section 2) --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", NuwaxSimulator.SWITCHES["language"])
@pytest.mark.parametrize(
    ("key", "sentence"),
    [("ak-" + "0" * 32, "does not know this API key"), (OFF_KEY, "switched off"), (OLD_KEY, "expired"), ("jwt.jwt.jwt", "sees no API key")],
)
def test_gotcha_4_messages_about_the_key_mean_the_credential_in_both_languages(key: str, sentence: str, language: str) -> None:
    with served(switches={"language": language}) as (_simulator, url):
        for credentials in ({"api_key": key}, {"api_key": key, "agent_ids": "88"}):
            with pytest.raises(CredentialsRejected, match=sentence) as caught:
                ask(url, lambda provider: provider.check(), credentials)
            assert key not in str(caught.value)


@pytest.mark.parametrize("language", NuwaxSimulator.SWITCHES["language"])
def test_gotcha_4_a_4000_without_those_words_is_a_refused_request(language: str) -> None:
    with served(switches={"language": language}) as (_simulator, url), pytest.raises(RequestRejected):
        ask(url, lambda provider: provider.request("GET", "/api/v1/chat/conversation/list"))


def test_gotcha_5_a_good_key_without_permission_is_not_a_bad_credential() -> None:
    limited = Key(42, only=frozenset({"list"}))  # section 2: `list` is counted on `detail`, so this key opens nothing
    with served(keys={"ak-limited": limited}) as (_simulator, url):
        with pytest.raises(PermissionRefused, match="administrator has not opened"):
            ask(url, lambda provider: provider.check(), {"api_key": "ak-limited", "agent_ids": "88"})
        with pytest.raises(PermissionRefused):
            ask(url, lambda provider: provider.request("GET", "/api/v1/system/model/list"))


@pytest.mark.parametrize(
    ("method", "path", "key", "kind"),
    [
        ("GET", "/api/v1/nowhere", AGENT_KEY, RequestRejected),  # 4040 is about a path, never about a conversation
        ("GET", "/api/v1/nowhere", ACCOUNT_KEY, PermissionRefused),
        ("DELETE", "/api/v1/space/list", ACCOUNT_KEY, RequestRejected),  # 4050
        ("GET", "/api/agent/conversation/list", ACCOUNT_KEY, CredentialsRejected),  # 4010
        ("GET", "/api/v1/chat/conversation/abc", ACCOUNT_KEY, ProviderUnavailable),  # 5000
    ],
)
def test_codes_about_paths_are_no_statement_about_a_conversation(method: str, path: str, key: str, kind: type[ProviderError]) -> None:
    with served() as (_simulator, url), pytest.raises(kind):
        ask(url, lambda provider: provider.request(method, path), {"api_key": key}, patience=Patience(attempts=1))


def test_a_host_without_a_tenant_means_the_base_url() -> None:
    with served(tenant_known=False) as (_simulator, url), pytest.raises(MalformedAnswer, match="check the base URL") as caught:
        ask(url, lambda provider: provider.check())
    assert "nuwax.example" not in str(caught.value)  # the address it would send a browser to is not ours to show


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_gotcha_3_a_proxys_html_says_nothing_about_the_key_or_the_conversation(status: int) -> None:
    with served(proxy_status=status) as (_simulator, url):
        with pytest.raises(MalformedAnswer):
            ask(url, lambda provider: provider.read(Ref("2210017")))
        with pytest.raises(MalformedAnswer):
            ask(url, lambda provider: provider.write(RemoteConversation("2210017", ""), {"title": "x"}))


@pytest.mark.parametrize(("status", "of_read", "of_write"), [(429, RateLimited, RateLimited), (502, ProviderUnavailable, OutcomeUnknown)])
def test_a_proxys_overload_keeps_its_meaning(status: int, of_read: type[ProviderError], of_write: type[ProviderError]) -> None:
    once = Patience(attempts=1)
    with served(proxy_status=status) as (_simulator, url):
        with pytest.raises(of_read):
            ask(url, lambda provider: provider.read(Ref("2210017")), patience=once)
        with pytest.raises(of_write):
            ask(url, lambda provider: provider.write(RemoteConversation("2210017", ""), {"title": "x"}), patience=once)


def test_the_minutes_limit_is_waited_for_and_counts_per_entry() -> None:
    with served(switches={"rate": "per_minute"}, per_minute=3, window=0.4) as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")

        async def read_often(provider: Nuwax) -> int:
            for _number in range(7):
                await provider.read(Ref(remote_id), fresh=True)
            return provider.requests

        sent = ask(url, read_often, patience=Patience(attempts=20, seconds=5.0), pace=Pace(rate=1000.0, cool_down=0.1))
    assert sent > 7  # some were refused, and each of the seven came through


@pytest.mark.parametrize("language", NuwaxSimulator.SWITCHES["language"])
def test_the_days_limit_asks_for_a_long_wait(language: str) -> None:
    with served(per_day=1, switches={"language": language}) as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")
        ask(url, lambda provider: provider.read(Ref(remote_id)))
        with pytest.raises(RateLimited, match="per day") as caught:
            ask(url, lambda provider: provider.read(Ref(remote_id)))
    assert caught.value.retry_after is not None and caught.value.retry_after >= 600


def test_budgets_are_kept_per_user_and_entry_and_a_list_counts_as_a_detail() -> None:
    provider = Nuwax(httpx.AsyncClient(trust_env=False), {"api_key": ACCOUNT_KEY}, identity="nuwax:host:42")
    keys = {
        name: provider.limit(method, path).key
        for name, method, path in (
            ("list", "GET", "/api/v1/chat/conversation/list"),
            ("detail", "GET", "/api/v1/chat/conversation/7"),
            ("messages", "GET", "/api/v1/chat/7/messages"),
            ("update", "POST", "/api/v1/chat/conversation/7/update"),
        )
    }
    assert keys["list"] == keys["detail"] and len(set(keys.values())) == 3
    assert all(key.startswith("nuwax:host:42:") for key in keys.values())


# --- lists (3.1) --------------------------------------------------------------------------------------------------------------------


def _raw_list(url: str, **params: Any) -> list[int]:
    answer = httpx.get(
        f"{url}/api/v1/chat/conversation/list", params={"agentId": HELPDESK} | params, headers={"Authorization": ACCOUNT_KEY}, trust_env=False
    )
    return [row["id"] for row in answer.json()["data"]]


def test_gotcha_1_worked_example_walking_with_last_id_loses_a_conversation_and_we_do_not_walk() -> None:
    with served() as (simulator, url):
        simulator.populate(0)
        for number in (3, 2, 1):  # 1 was modified last, then 2, then 3
            simulator.add_conversation(HELPDESK, f"Number {number}", id=number)
        assert (_raw_list(url, limit=2), _raw_list(url, limit=2, lastId=2)) == ([1, 2], [1])  # the trap is there: 3 is never seen
        rows = ask(url, list_all)
    assert [row.remote_id for row in rows] == ["1", "2", "3"]
    assert not [call for call in simulator.log if call.query.get("lastId") and call.query["limit"] != "2"]


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
def test_a_full_answer_is_asked_for_again_with_a_doubled_limit(count: int) -> None:
    with served() as (simulator, url):
        simulator.populate(0)
        for number in range(count):
            simulator.add_conversation(HELPDESK, f"Title {number}")
        memory: dict[str, Any] = {}
        credentials = {"api_key": ACCOUNT_KEY, "agent_ids": str(HELPDESK)}
        for _again in range(2):
            rows = ask(url, list_all, credentials, memory=memory)
            assert len({row.remote_id for row in rows}) == len(rows) == count
        limits = [int(call.query["limit"]) for call in requests(simulator, "/list")]
    enough = 1000 if count < 1000 else 2000 if count < 2000 else 4000
    assert limits == [limit for limit in (1000, 2000, 4000) if limit <= enough] + [enough]  # the second time it knows how many there are


def test_5000_conversations_are_each_listed_once_while_rows_are_renamed_upstream() -> None:
    with served() as (simulator, url):
        simulator.populate(5000)
        ids, stop, renamed = sorted(simulator.truth()), threading.Event(), 0

        def rename() -> None:
            nonlocal renamed
            while not stop.wait(0.0005):
                simulator.change_by_somebody(ids[renamed * 37 % len(ids)], title=f"Renamed {renamed}")
                renamed += 1

        somebody = threading.Thread(target=rename)
        somebody.start()
        try:
            rows = ask(url, list_all)
        finally:
            stop.set()
            somebody.join()
    assert renamed > 5
    assert len(rows) == 5000 and {row.remote_id for row in rows} == set(ids)


def test_gotcha_2_untitled_foreign_debugging_and_scheduled_conversations_are_in_no_list_and_the_product_says_so() -> None:
    with served() as (simulator, url):
        rows = ask(url, list_all)
        assert {row.remote_id for row in rows} == set(simulator.truth())
        assert simulator.unlisted() and not {row.remote_id for row in rows} & set(simulator.unlisted())
    assert "never had a title" in Nuwax.capability(Op.LIST).note


@pytest.mark.parametrize("language", NuwaxSimulator.SWITCHES["language"])
def test_an_untitled_conversation_reads_as_what_is_stored_in_whatever_language_the_phrase_comes(language: str) -> None:
    with served(switches={"language": language}) as (simulator, url):
        for remote_id, row in simulator.unlisted().items():
            if row["title"] != "Unnamed conversation":
                continue
            read = ask(url, lambda provider, wanted=remote_id: provider.read(Ref(wanted)))
            assert (read.title, read.values) == ("Unnamed conversation", {"title": "Unnamed conversation"})
            assert Nuwax.is_untitled(read.title)


def test_rows_tell_agent_status_times_and_variables() -> None:
    with served() as (simulator, url):
        row = next(row for row in ask(url, list_all) if row.title == "五月市场活动 🎉")
        read = ask(url, lambda provider: provider.read(Ref(some_id(simulator, "退货流程咨询"))))
    assert row.group == row.details["Agent"] == "市场助手" and row.thin and row.model is None
    assert row.created_at and row.updated_at and row.created_at.utcoffset() is not None and row.updated_at >= row.created_at
    assert (read.details["Status"], read.details["Type"], read.details["Agent type"]) == ("COMPLETE", "Chat", "ChatBot")
    assert read.details["Variables"] == '{"language": "zh"}' and not read.thin


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("退货", {"退货流程咨询"}),
        ("INVOICE", {"Invoice 2026-0417 shows the wrong address"}),
        ("100%", {"100% cotton or 50_50 blend?"}),
        ("0_5", {"100% cotton or 50_50 blend?"}),  # "_" would also fit 0-0 and the like
        ("%", {"100% cotton or 50_50 blend?"}),
        ("C:\\temp", {"Files in C:\\temp"}),
        ("nothing like it", set()),
    ],
)
def test_search_finds_titles_and_takes_wildcards_as_they_are(text: str, titles: set[str]) -> None:
    with served() as (simulator, url):
        simulator.add_conversation(MARKET, "Files in C:\\temp")
        simulator.add_conversation(MARKET, "Files in C:/temp")

        page = ask(url, lambda provider: provider.search(text))
        assert page.next is None and len(page.items) == page.total
        assert {re.sub(r" \(\d+\)$", "", row.title) for row in page.items} == titles


def test_many_are_found_again_with_few_requests_and_the_unlisted_and_the_gone_are_told_apart() -> None:
    with served() as (simulator, url):
        simulator.populate(300)
        ids = list(simulator.truth())
        untitled = simulator.add_conversation(HELPDESK, "Unnamed conversation", topicUpdated=0)
        simulator.remove_by_somebody(ids[3])
        refs = [Ref(remote_id) for remote_id in [*ids, untitled]]
        found = ask(url, lambda provider: provider.find(refs))
        assert set(found) == {*ids, untitled} - {ids[3]}
        assert len(simulator.log) == 5  # three lists and two single reads
        few = ask(url, lambda provider: provider.find(refs[:4]))
        assert set(few) == set(ids[:3])


# --- reading and the agent that is not published (gotcha 8) ---------------------------------------------------------------------------


@pytest.mark.parametrize("remote_id", ["abc", "0", "-5", "12/34", str(2**64), "", "９"])
def test_an_id_that_is_none_is_not_found_and_nothing_is_sent(remote_id: str) -> None:
    with served() as (simulator, url), pytest.raises(NotFound):
        ask(url, lambda provider: provider.read(Ref(remote_id)))
    assert simulator.log == []


def test_another_users_conversation_is_not_found() -> None:
    with served() as (simulator, url):
        foreign = next(str(held.row["id"]) for held in simulator.conversations.values() if held.row["userId"] == STRANGER)
        with pytest.raises(NotFound):
            ask(url, lambda provider: provider.read(Ref(foreign)))
        assert ask(url, list_all, {"api_key": OTHER_KEY, "agent_ids": str(HELPDESK)})[0].remote_id == foreign


@pytest.mark.parametrize("size", [20, 400])
def test_gotcha_8_a_rename_at_an_unpublished_agent_has_an_unknown_outcome_and_a_read_tells_the_truth(size: int) -> None:
    with served() as (simulator, url):
        simulator.populate(size)
        remote_id, row = next(iter(simulator.truth().items()))
        simulator.change_by_somebody(remote_id, agent="unpublished")

        async def rename(provider: Nuwax) -> tuple[RemoteConversation, RemoteConversation]:
            before = await provider.read(Ref(remote_id, row["title"]), fresh=True)
            with pytest.raises(OutcomeUnknown):
                await provider.write(before, {"title": "五月退货问题"})
            return before, await provider.read(Ref(remote_id, row["title"]), fresh=True)

        before, after = ask(url, rename)
        assert len(simulator.writes()) == 1
        assert (before.title, after.title) == (row["title"], simulator.truth()[remote_id]["title"]) == (row["title"], "五月退货问题")
        assert "not published" in after.warning and after.thin
        biggest = max(int(call.query["limit"]) for call in requests(simulator, "/list"))
        assert biggest <= 50  # neither read needed the whole list


def test_gotcha_8_messages_of_an_unpublished_agent_are_refused_with_the_reason_and_the_conversation_is_not_called_gone() -> None:
    with served() as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")
        simulator.change_by_somebody(remote_id, agent="unpublished")
        for operation in (lambda provider: provider.messages(Ref(remote_id)), lambda provider: provider.first_message(Ref(remote_id))):
            with pytest.raises(RequestRejected, match="not published"):
                ask(url, operation)


def test_a_write_to_a_conversation_that_is_gone_is_unknown_and_the_read_after_it_says_gone() -> None:
    with served() as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")
        current = ask(url, lambda provider: provider.read(Ref(remote_id)))
        simulator.remove_by_somebody(remote_id)
        with pytest.raises(OutcomeUnknown):
            ask(url, lambda provider: provider.write(current, {"title": "x"}))
        with pytest.raises(NotFound):
            ask(url, lambda provider: provider.read(Ref(remote_id, current.title), fresh=True))
