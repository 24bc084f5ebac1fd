"""宠智灵 chongzhiling: the messages of a session, in numbered pages that begin at the oldest."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.providers.chongzhiling import Chongzhiling
from accounts.providers.errors import (
    NotFound,
    RequestRejected,
)
from accounts.providers.records import Ref
from tests.simulators.chongzhiling import LONG, USER, ChongzhilingSimulator

from .test_chongzhiling import all_messages, ask, long_one, titled

# --- messages: §4, gotchas 3, 4, 5, 10 and 12 -----------------------------------------------------------------------------------------------------


def test_page_and_limit_are_always_sent_together() -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> None:
        await all_messages(provider, long_one(simulator))
        await provider.first_message(long_one(simulator))
        with pytest.raises(NotFound):
            await provider.messages(Ref("nobody"))

    ask(simulator, question)
    assert all({"page", "limit"} <= set(call.query) for call in simulator.log if "record" in call.path)
    assert all({"page", "limit"} <= set(call.body) for call in simulator.log if "list" in call.path)


@pytest.mark.parametrize("limit", [1, 2, 7, 50, 400])
def test_messages_open_at_the_newest_and_page_both_ways_without_loss_or_repeat(limit: int) -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> None:
        ref = long_one(simulator)
        newest = await provider.messages(ref, limit=limit)
        assert (newest.newer, newest.total) == (None, LONG)
        assert newest.items[-1].position == LONG
        assert min(limit // 2, LONG - 1) < len(newest.items) <= limit  # never a screen with one lonely message
        backwards = await all_messages(provider, ref, limit)
        page = await provider.messages(ref, f"after:1:{max(1, limit // 2)}", limit=limit)
        forwards = [*(await provider.messages(ref, f"before:2:{max(1, limit // 2)}", limit=limit)).items, *page.items]
        while page.newer:
            page = await provider.messages(ref, page.newer, limit=limit)
            assert len(page.items) <= limit
            forwards += page.items
        assert [row.position for row in backwards] == list(range(1, LONG + 1))
        assert len({row.key for row in backwards}) == LONG
        assert forwards == backwards
        assert not [row for row in backwards if "流程" in row.text]  # stage 8 belongs to the compatibility mode

    ask(simulator, question)


def test_earlier_pages_stay_stable_while_a_running_session_grows() -> None:
    simulator = ChongzhilingSimulator()
    ref = long_one(simulator)

    async def question(provider: Chongzhiling) -> None:
        newest = await provider.messages(ref, limit=20)
        simulator.change_by_somebody(ref.remote_id, messages=15)
        rows, page = list(newest.items), newest
        while page.older:
            page = await provider.messages(ref, page.older, limit=20)
            rows = [*page.items, *rows]
            assert page.newer
        assert [row.position for row in rows] == list(range(1, LONG + 1))
        again = await provider.messages(ref, limit=20)
        assert again.items[-1].position == LONG + 15

    ask(simulator, question)


def test_messages_that_arrive_between_counting_and_reading_are_shown() -> None:
    simulator = ChongzhilingSimulator()
    ref = long_one(simulator)

    async def question(provider: Chongzhiling) -> None:
        record = provider._record

        async def grows_after_the_first(*arguments: Any) -> Any:
            sheet = await record(*arguments)
            if arguments[1] == 1:
                simulator.change_by_somebody(ref.remote_id, messages=25)
            return sheet

        provider._record = grows_after_the_first  # type: ignore[method-assign]
        assert (await provider.messages(ref, limit=20)).items[-1].position == LONG + 25

    ask(simulator, question)


@pytest.mark.parametrize("past_end", ChongzhilingSimulator.SWITCHES["past_end"])
def test_beyond_the_last_page_there_are_no_messages(past_end: str) -> None:
    simulator = ChongzhilingSimulator(switches={"past_end": past_end})

    async def question(provider: Chongzhiling) -> None:
        page = await provider.messages(long_one(simulator), "after:14:10")
        assert (page.items, page.newer) == ((), None)
        page = await provider.messages(long_one(simulator), "before:30:10", limit=5)
        while not page.items:
            assert page.older
            page = await provider.messages(long_one(simulator), page.older, limit=5)
        assert page.items[-1].position == LONG

    ask(simulator, question)


@pytest.mark.parametrize("counted", ChongzhilingSimulator.SWITCHES["total_count"])
@pytest.mark.parametrize("limit", [4, 50])
def test_counts_that_include_hidden_messages_lose_none(counted: str, limit: int) -> None:
    simulator = ChongzhilingSimulator(switches={"total_count": counted, "message_count": "all"})

    async def question(provider: Chongzhiling) -> None:
        for key, session in simulator.sessions[USER].items():
            if session.module in (1, 4):
                rows = await all_messages(provider, Ref(key), limit)
                shown = [row for row in session.messages() if row["stage"] != 8]
                assert [row.key for row in rows] == [str(row["id"]) for row in shown]
                assert len({row.position for row in rows}) == len(rows)

    ask(simulator, question)


def test_every_role_and_an_empty_text_are_shown_and_times_stay_as_told() -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> None:
        rows = (await provider.messages(titled(simulator, "左眼红肿"))).items
        assert [row.role for row in rows] == ["user", "assistant", "assistant"]  # a "doctor" speaks for the provider
        assert rows[0].images == ("https://img.example.com/rabbit-eye.jpg",)
        assert rows[0].created_at is None
        assert rows[2].time_note == simulator.sessions[USER][titled(simulator, "左眼红肿").remote_id].messages()[2]["created_at"]
        rows = (await provider.messages(titled(simulator, "幼猫"))).items
        assert (rows[0].role, rows[0].text, rows[2].role) == ("user", "", "assistant")
        assert (await provider.messages(titled(simulator, "<script>"))).items[0].text.startswith("<script>")

    ask(simulator, question)


def test_the_first_message_of_a_knowledge_session_may_be_null_and_is_skipped() -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> None:
        assert await provider.first_message(titled(simulator, "幼猫")) == "幼猫多大可以吃罐头？"
        assert await provider.first_message(titled(simulator, "您好")) is None
        empty = next(key for key, session in simulator.sessions[USER].items() if not session.count)
        assert await provider.first_message(Ref(empty)) is None
        assert (await provider.messages(Ref(empty))).items == ()
        assert await provider.first_message(long_one(simulator)) == simulator.truth()[long_one(simulator).remote_id]["title"]

    ask(simulator, question)


@pytest.mark.parametrize("cursor", ["", "12", "before:x:3", "after:1", "before:0:5", "after:1:0", "sideways:1:2", "before:-1:2"])
def test_a_cursor_that_is_none_is_refused_without_a_request(cursor: str) -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> None:
        with pytest.raises(RequestRejected):
            await provider.messages(long_one(simulator), cursor or ":")

    ask(simulator, question)
    assert simulator.log == []
