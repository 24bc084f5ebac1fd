"""Nuwax against its strict simulator: titles, the server's own titles, messages and models; the simulator's own strictness."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from accounts.providers.errors import OutcomeUnknown, RequestRejected, Unsupported
from accounts.providers.nuwax import Nuwax
from accounts.providers.records import MessagePage, Ref, RemoteConversation
from accounts.providers.schema import Op, Scope
from tests.simulators.nuwax import NuwaxSimulator
from tests.simulators.nuwax_data import ACCOUNT_KEY, FOREIGN, HELPDESK

from .test_nuwax import QUICK, all_messages, ask, list_all, served, some_id

# --- titles (3.3) -------------------------------------------------------------------------------------------------------------------


def _rename(url: str, remote_id: str, title: str) -> RemoteConversation | None:
    return ask(url, lambda provider: provider.write(RemoteConversation(remote_id, ""), {"title": title}))


@pytest.mark.parametrize(
    ("title", "stored"),
    [
        ("五月退货问题", "五月退货问题"),
        ('"主题：退货" 与 "换货"', "退货 与 换货"),
        ('Say "hello"', 'Say "hello"'),
        ("主题：退货", "主题：退货"),
        ("  spaces stay  ", "  spaces stay  "),
        ("👩‍👩‍👧 家庭", "👩‍👩‍👧 家庭"),
    ],
)
def test_a_title_that_starts_with_a_double_quote_loses_all_of_them_and_that_is_declared(title: str, stored: str) -> None:
    assert Nuwax.stored_form("title", title) == stored
    with served() as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")
        answer = _rename(url, remote_id, title)
        assert answer is not None
        assert answer.values["title"] == simulator.truth()[remote_id]["title"] == stored
        assert simulator.writes()[0].body == {"topic": title}


@pytest.mark.parametrize("title", ["", "   ", '""', '"主题："', "长" * 256, "a" * 256])
def test_a_title_that_would_be_blank_or_too_long_is_never_sent(title: str) -> None:
    with served() as (simulator, url):
        with pytest.raises(RequestRejected):
            _rename(url, some_id(simulator, "退货流程咨询"), title)
        assert simulator.writes() == [] and simulator.model_calls == 0


@pytest.mark.parametrize("title", ["长" * 255, "🎉" * 255])
def test_the_limit_is_255_characters_not_bytes_or_utf_16_units(title: str) -> None:
    with served() as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")
        _rename(url, remote_id, title)
        assert simulator.truth()[remote_id]["title"] == title


def test_an_untitled_conversation_appears_in_the_list_once_it_is_renamed() -> None:
    with served() as (simulator, url):
        remote_id = next(key for key, row in simulator.unlisted().items() if row["title"] == "Unnamed conversation")
        answer = _rename(url, remote_id, "Now it has one")
        assert answer is not None and answer.title == "Now it has one"
        assert remote_id in {row.remote_id for row in ask(url, list_all)}


def test_model_and_settings_cannot_be_written_and_nothing_is_sent() -> None:
    with served() as (simulator, url):
        current = RemoteConversation(some_id(simulator, "退货流程咨询"), "")
        for changes in ({"model": "305"}, {"title": "x", "model": "305"}, {"icon": "x"}, {"title": "x", "icon": "y"}, {}):
            with pytest.raises(Unsupported):
                ask(url, lambda provider, wanted=changes: provider.write(current, wanted))
        assert simulator.log == []
    assert Nuwax.capability(Op.SWITCH_MODEL).scope is Scope.PER_MESSAGE and "agent carries the model" in Nuwax.capability(Op.SWITCH_MODEL).reason
    assert not Nuwax.capability(Op.EDIT_CONFIG).available and "shared by all its conversations" in Nuwax.capability(Op.EDIT_CONFIG).reason


# --- the title made by the server (3.3, gotchas 6 and 9) ------------------------------------------------------------------------------


def _generate(url: str, remote_id: str, text: str = "退货需要多久?", **arguments: Any) -> RemoteConversation:
    return ask(url, lambda provider: provider.generate_title(RemoteConversation(remote_id, "退货流程咨询"), text), **arguments)


@pytest.mark.parametrize("way", NuwaxSimulator.SWITCHES["first_message"])
@pytest.mark.parametrize("answer", NuwaxSimulator.SWITCHES["update_answer"])
def test_a_made_title_is_what_the_server_stored_whichever_way_it_makes_it(way: str, answer: str) -> None:
    with served(switches={"first_message": way, "update_answer": answer}) as (simulator, url):
        remote_id = some_id(simulator, "退货流程咨询")
        made = _generate(url, remote_id, "退货🎉" * 400)
        assert made.title == simulator.truth()[remote_id]["title"] != "退货流程咨询"
        assert len(simulator.writes()) == 1 and set(simulator.writes()[0].body) == {"firstMessage"}


def test_gotcha_6_a_lost_answer_is_never_ordered_again() -> None:
    for fault in ("cut_after", "error_after", "error", "html", "empty"):
        with served() as (simulator, url):
            remote_id = some_id(simulator, "退货流程咨询")
            simulator.add_fault(fault, writes_only=True)
            with pytest.raises(OutcomeUnknown):
                _generate(url, remote_id)
            assert len(simulator.writes()) == 1, fault
            assert simulator.model_calls == (1 if fault.endswith("after") else 0)


def test_a_refusal_for_the_rate_was_not_carried_out_so_the_order_goes_out_again() -> None:
    with served() as (simulator, url):
        simulator.add_fault("throttle", writes_only=True)
        _generate(url, some_id(simulator, "退货流程咨询"))
        assert (len(simulator.writes()), simulator.model_calls) == (2, 1)


def test_gotcha_9_a_made_title_may_take_longer_than_a_read() -> None:
    with served(title_seconds=0.5) as (simulator, url):
        Impatient = type("Impatient", (Nuwax,), {"read_timeout": 0.2})

        async def order() -> RemoteConversation:
            async with httpx.AsyncClient(trust_env=False) as http:
                provider = Impatient(http, simulator.credential(), base_url=url, patience=QUICK)
                return await provider.generate_title(RemoteConversation(some_id(simulator, "退货流程咨询"), ""), "退货需要多久?")

        assert asyncio.run(order()).title.startswith("关于")


def test_nothing_is_ordered_from_an_empty_message() -> None:
    with served() as (simulator, url):
        with pytest.raises(RequestRejected):
            _generate(url, some_id(simulator, "退货流程咨询"), " \n ")
        assert simulator.log == []


def test_the_order_is_announced_as_slow_billed_and_not_repeatable() -> None:
    note = Nuwax.capability(Op.GENERATE_TITLE).note
    assert "slow" in note and "billed" in note and "another title every time" in note


# --- messages (3.4) -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", NuwaxSimulator.SWITCHES["hidden_messages"])
@pytest.mark.parametrize("limit", [7, 32, 50, 200])
def test_gotcha_10_short_and_empty_pages_are_not_the_end(hidden: str, limit: int) -> None:
    with served(switches={"hidden_messages": hidden}) as (simulator, url):
        remote_id = next(str(held.row["id"]) for held in simulator.conversations.values() if held.look == "long")
        wanted = simulator.visible_messages(remote_id)

        async def both_ways(provider: Nuwax) -> tuple[list[MessagePage], list[MessagePage]]:
            back = await all_messages(provider, Ref(remote_id), limit)
            forth = [back[-1]]
            while forth[-1].newer:
                forth.append(await provider.messages(Ref(remote_id), forth[-1].newer, limit=limit))
            return back, forth

        back, forth = ask(url, both_ways)
    assert len(wanted) == 128 and back[0].newer is None
    assert [len(page.items) for page in back[:-1]] == [limit] * (len(back) - 1) and back[-1].items  # full pages, and no empty one at the end
    assert [(message.role.upper(), message.text) for page in reversed(back) for message in page.items] == wanted
    assert [(message.role.upper(), message.text) for page in forth for message in page.items] == wanted
    assert [message.position for message in back[-1].items] == list(range(1, len(back[-1].items) + 1))
    assert len({message.key for page in back for message in page.items}) == len(wanted)


def test_a_short_conversation_is_opened_with_two_requests_and_an_empty_one_too() -> None:
    with served() as (simulator, url):
        for title, count in (("退货流程咨询", 2), ("空白的一次会话", 0)):
            ref = Ref(some_id(simulator, title))
            simulator.log.clear()
            page = ask(url, lambda provider, wanted=ref: provider.messages(wanted))
            assert (len(page.items), page.older, page.newer) == (count, None, None)
            assert len(simulator.log) == 2


def test_the_next_newer_page_does_not_read_the_whole_conversation() -> None:
    with served() as (simulator, url):
        ref = Ref(simulator.add_conversation(HELPDESK, "Long", count=4000))

        async def back_and_forth(provider: Nuwax) -> tuple[MessagePage, MessagePage, int]:
            newest = await provider.messages(ref)
            older = await provider.messages(ref, newest.older)
            sent = provider.requests
            return newest, await provider.messages(ref, older.newer), provider.requests - sent

        newest, again, sent = ask(url, back_and_forth)
    assert again.items == newest.items and again.newer is None and sent == 2


def test_a_place_that_is_none_is_refused() -> None:
    with served() as (simulator, url):
        for cursor in ("before:x", "sideways:1", "12"):
            with pytest.raises(RequestRejected):
                ask(url, lambda provider, wanted=cursor: provider.messages(Ref(some_id(simulator, "退货流程咨询")), wanted))


@pytest.mark.parametrize(("components", "tool"), [("named", "search_orders"), ("texts", "search_orders"), ("unnamed", "tool")])
def test_thoughts_files_quotes_and_tools_reach_the_reader(components: str, tool: str) -> None:
    with served(switches={"components": components}) as (simulator, url):
        remote_id = next(str(held.row["id"]) for held in simulator.conversations.values() if held.look == "rich")
        first, second, third = ask(url, lambda provider: provider.messages(Ref(remote_id))).items[:3]
        simulator_texts = [text for _role, text in simulator.visible_messages(remote_id)]
    assert (first.role, second.role) == ("user", "assistant")
    assert first.images == ("https://files.example/1.png",) and first.files == ("合同.pdf",)
    assert second.reasoning == "先查订单,再回答。" and second.tools == (tool,)
    assert third.text == f"> 三到五个工作日\n> 不含周末\n\n{simulator_texts[2]}"
    assert first.created_at and first.created_at.utcoffset() is not None


@pytest.mark.parametrize("hidden", NuwaxSimulator.SWITCHES["hidden_messages"])
def test_the_first_message_is_the_oldest_users(hidden: str) -> None:
    with served(switches={"hidden_messages": hidden}) as (simulator, url):
        for title, count in (("Far away", 2300), ("Near", 3)):
            remote_id = simulator.add_conversation(HELPDESK, title, count=count)
            wanted = simulator.visible_messages(remote_id)[0][1]
            assert ask(url, lambda provider, held=remote_id: provider.first_message(Ref(held))) == wanted
        empty = some_id(simulator, "空白的一次会话")
        assert ask(url, lambda provider: provider.first_message(Ref(empty))) is None


# --- models (5) ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api_info_list", NuwaxSimulator.SWITCHES["api_info_list"])
def test_models_come_from_the_spaces_for_information_and_upstream_keys_are_dropped(api_info_list: str) -> None:
    with served(switches={"api_info_list": api_info_list}) as (_simulator, url):
        models = ask(url, lambda provider: provider.list_models())
    assert [(model.id, model.name, model.group, model.note) for model in models] == [
        ("305", "Kimi K2", "个人空间", "kimi-k2"),
        ("306", "通义千问-Max", "个人空间", "qwen-max"),
        ("411", "DeepSeek V3", "Support team", "deepseek-chat"),
    ]
    assert "upstream" not in repr(models)
    assert Nuwax.capability(Op.MODELS).available and "for information" in Nuwax.capability(Op.MODELS).note


# --- the simulator itself -------------------------------------------------------------------------------------------------------------


def test_the_simulator_refuses_what_the_contract_refuses() -> None:
    with served() as (simulator, url), httpx.Client(base_url=url, headers={"Authorization": ACCOUNT_KEY}, trust_env=False) as raw:
        remote_id = some_id(simulator, "退货流程咨询")
        path = f"/api/v1/chat/conversation/{remote_id}/update"

        def code(answer: httpx.Response) -> str:
            assert answer.status_code == 200
            return answer.json()["code"]

        assert code(raw.get("/api/v1/chat/conversation/list")) == "4000"  # no agentId
        assert code(raw.get("/api/v1/chat/conversation/list", params={"agentId": "x"})) == "5000"
        assert code(raw.get("/api/v1/chat/conversation/list", params={"agentId": FOREIGN})) == "0000"  # an unknown agent is an empty list
        assert code(raw.post(path)) == code(raw.post(path, content=b'{"topic": "x"}')) == "4000"  # no body; no content type
        assert code(raw.post(path, json={"topic": ["x"]})) == code(raw.post(path, json=["x"])) == "4000"
        assert code(raw.post(path, json={"topic": "长" * 256})) == "5000"
        assert code(raw.post("/api/v1/chat/conversation/1/update", json={"topic": "x"})) == "0001"
        assert code(raw.put(path, json={"topic": "x"})) == "4050"
        assert simulator.truth()[remote_id]["title"] == "退货流程咨询"
        assert len(raw.get("/api/v1/chat/conversation/list", params={"agentId": HELPDESK}).json()["data"]) == 10  # the default limit
        assert raw.get("/api/v1/chat/conversation/list", params={"agentId": HELPDESK, "limit": 0}).json()["data"] == []
        made = raw.post(path, json={"topic": "  ", "firstMessage": "退货"}).json()["data"]["topic"]
        assert made.startswith("关于“退货”")  # a blank topic counts as absent
        assert raw.post(path, json={"topic": "Both", "firstMessage": "退货"}).json()["data"]["topic"] == "Both"
        assert simulator.model_calls == 1


def test_the_simulators_control_door_stands_beside_its_one_route() -> None:
    with served() as (simulator, url), httpx.Client(base_url=url, trust_env=False) as raw:
        assert raw.get("/_sim/truth").json() == simulator.truth()
        assert raw.get("/_sim/credential").json() == simulator.credential()
        assert raw.post("/_sim/do", json={"do": "populate", "count": 3}).status_code == 200 and len(simulator.truth()) == 3
