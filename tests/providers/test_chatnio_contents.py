"""Chat Nio: what is written, and what a conversation holds."""

from __future__ import annotations

import httpx
import pytest

from accounts.providers.chatnio import ChatNio
from accounts.providers.errors import (
    NotFound,
    OutcomeUnknown,
    RequestRejected,
    Unsupported,
)
from accounts.providers.records import Ref
from accounts.providers.schema import Op, Scope

from .test_chatnio import connected, run, site

# --- writing ------------------------------------------------------------------------------------------------------------------------------


def test_gotcha_11_names_that_the_site_would_lose_are_refused_before_sending() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            current = await provider.read(Ref("1"))
            for bad in ("字" * 256, None, 5):
                with pytest.raises(RequestRejected):
                    await provider.write(current, {"title": bad})
            assert simulator.writes() == []
            for good in ("", "   ", "字" * 255, "🏔️" * 127, " blank around ", "<b>&amp;</b>\n{first_message}"):
                assert await provider.write(current, {"title": good}) is None
                assert (await provider.read(Ref("1"), fresh=True)).values["title"] == good == simulator.truth()["1"]["title"]

    with site() as (simulator, url):
        run(story())


def test_the_simulated_site_loses_long_names_behind_a_success() -> None:
    async def story(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False, headers={"authorization": simulator.user.key}, base_url=url) as http:
            assert (await http.post("/conversation/rename", json={"id": 1, "name": "x" * 256})).json() == {"status": True, "message": ""}
            for bad in ({"id": "1", "name": "x"}, {"id": 1.0, "name": "x"}, {"id": 1, "name": 5}, [1]):
                assert (await http.post("/conversation/rename", json=bad)).json() == {"status": False, "message": "invalid form"}
            assert (await http.post("/conversation/rename", data={"id": "1", "name": "x"})).json()["message"] == "invalid form"

    for answer, length in (("lost", len("第一次对话 · first talk")), ("cut", 255)):
        with site(switches={"long_names": answer}) as (simulator, url):
            run(story(url))
            assert len(simulator.truth()["1"]["title"]) == length


def test_gotcha_12_new_chat_counts_as_untitled_and_renaming_to_it_carries_a_warning() -> None:
    assert ChatNio.is_untitled("new chat") and ChatNio.is_untitled("") and not ChatNio.is_untitled("New chat 2")
    assert "new chat" in ChatNio.title_field.warning and "new chat" in ChatNio.capability(Op.RENAME).note


def test_gotcha_17_a_site_that_cannot_rename_says_so_and_is_not_written_to_twice() -> None:
    async def story(expected: type[Exception]) -> None:
        async with connected(url, simulator.credential()) as provider:
            current = await provider.read(Ref("1"))
            with pytest.raises(expected) as caught:
                await provider.write(current, {"title": "x"})
            assert "3.10" in str(caught.value) and len(simulator.writes()) == 1

    for installation, expected in (("api_only", Unsupported), ("static", OutcomeUnknown)):
        with site(without=("/conversation/rename",), switches={"installation": installation}) as (simulator, url):
            run(story(expected))


def test_models_and_settings_cannot_be_written_and_nothing_is_sent() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            current = await provider.read(Ref("1"))
            before = len(simulator.log)
            for changes in ({"model": "qwen-plus"}, {"temperature": 0.5}, {"title": "x", "model": "qwen-plus"}):
                with pytest.raises(Unsupported):
                    await provider.write(current, changes)
            assert len(simulator.log) == before
        assert ChatNio.capability(Op.SWITCH_MODEL).scope == ChatNio.capability(Op.EDIT_CONFIG).scope == Scope.PER_MESSAGE

    with site() as (simulator, url):
        run(story())


def test_gotcha_9_a_gone_conversation_is_not_renamed_elsewhere() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            current = await provider.read(Ref("5"))
            simulator.remove_by_somebody("5")
            with pytest.raises(NotFound):
                await provider.write(current, {"title": "x"})
            assert [call.changed for call in simulator.writes()] == [False]

    with site() as (simulator, url):
        run(story())


# --- reading ------------------------------------------------------------------------------------------------------------------------------


def test_gotcha_14_long_inline_pictures_are_named_and_all_other_text_is_left_as_it_is() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            drawn = (await provider.messages(Ref("7"))).items[1].text
            assert drawn == "Here you are: [PNG, 1.3 MB] – and a link ![dog](https://example.com/dog.png)"
            small = f"![dot](data:image/gif;base64,{'A' * 1999}) <img src='data:image/svg+xml;base64,{'B' * 4000}'>"
            simulator.user.talks[7].lines = [{"role": "user", "content": small}]
            page = await provider.read(Ref("7"), fresh=True)
            assert page.first_message == f"![dot](data:image/gif;base64,{'A' * 1999}) <img src='[SVG+XML, 3 kB]'>"
            dangerous = (await provider.messages(Ref("5"))).items[0]
            assert dangerous.text.startswith("<img src=x onerror=") and "& more" in dangerous.text

    with site() as (simulator, url):
        run(story())


def test_messages_have_positions_reasoning_and_tools() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            page = await provider.messages(Ref("8"), limit=50)
            assert [message.position for message in page.items] == list(range(78, 128)) and page.total == 127
            first = await provider.messages(Ref("8"), "before:5", limit=50)
            assert first.items[3].reasoning == "Think first, then answer." and first.older is None and first.newer == "after:4"
            tools = (await provider.messages(Ref("10"))).items
            assert [message.role for message in tools] == ["user", "assistant", "tool", "assistant"]
            assert tools[1].tools == tools[2].tools == ("weather",)
            assert len({message.key for message in tools}) == 4
            empty = await provider.read(Ref("12"))
            assert empty.message_count == 0 and empty.first_message is None and (await provider.messages(Ref("12"))).items == ()
            assert (await provider.read(Ref("14"))).details["Task"] == "task-0001"
            assert (await provider.first_message(Ref("6"))) == "Two greetings"

    with site() as (simulator, url):
        run(story())


def test_a_load_serves_reading_and_messages_for_three_seconds_but_never_a_fresh_read() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            await provider.check()
            simulator.log.clear()
            await provider.read(Ref("1"))
            await provider.first_message(Ref("1"))
            await provider.messages(Ref("1"))
            assert len(simulator.log) == 1
            await provider.read(Ref("1"), fresh=True)
            assert len(simulator.log) == 2
            await provider.write(await provider.read(Ref("1")), {"title": "x"})
            assert (await provider.read(Ref("1"))).title == "x"

    with site() as (simulator, url):
        run(story())


def test_the_model_shown_is_that_of_the_first_message_and_says_so() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            simulator.change_by_somebody("1", model="gpt-4o")
            row = await provider.read(Ref("1"))
            assert row.model == "glm-4" and row.message_count == 4 and "first message" in row.details["Model"]
            simulator.switches["database"] = "sqlite"
            row = await provider.read(Ref("1"), fresh=True)
            assert row.model == "gpt-3.5-turbo" and "SQLite" in row.details["Model"]

    with site() as (simulator, url):
        run(story())


def test_models_come_with_names_and_prices_or_from_the_plain_list() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            models = {model.id: model for model in await provider.list_models()}
            assert models["glm-4"].price == "free" and models["gpt-4o"].price == "0.5 per request"
            assert models["qwen-plus"].price == "0.02 in, 0.06 out per 1,000 tokens" and models["deepseek-chat"].price == ""
            assert models["glm-4"].name == ("GLM-4" if catalogue == "market" else "glm-4")
            simulator.without = ("/v1/market", "/v1/charge")
            assert [model.id for model in await provider.list_models()] == list(models)

    for catalogue in ("market", "empty_market", "null_market"):
        for installation in ("api_only", "static"):
            with site(switches={"catalogue": catalogue, "installation": installation}) as (simulator, url):
                run(story())
