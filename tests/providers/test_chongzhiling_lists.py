"""宠智灵 chongzhiling: the list, which moves while it is read, and one session found in it."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.providers.chongzhiling import Chongzhiling
from accounts.providers.errors import (
    NotFound,
)
from accounts.providers.records import Ref
from tests.simulators.chongzhiling import LONG, USER, ChongzhilingSimulator

from .test_chongzhiling import all_messages, ask, calls, long_one, titled, walk

# --- the list: §3, gotchas 6, 7 and 10 --------------------------------------------------------------------------------------------------------


def test_the_list_holds_consultations_and_knowledge_questions_of_this_user_only() -> None:
    simulator = ChongzhilingSimulator()
    found, restarts = ask(simulator, walk)
    assert set(found) == set(simulator.truth())
    assert restarts == 0
    assert all(call.body["module_type"] == [1, 4] for call in simulator.log if "list" in call.path)


def test_a_session_that_becomes_active_while_the_list_is_read_is_not_missed() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(230)
    last = list(simulator.order[USER])[::-1]

    def somebody_writes(page: int) -> None:
        # Rows from the end of the list jump to a page that was read already; others make them slide down.
        if page <= 3:
            for number in range(6):
                simulator.change_by_somebody(last[page * 6 + number])

    found, restarts = ask(simulator, lambda provider: walk(provider, somebody_writes))
    assert set(found) == set(simulator.truth())
    assert restarts == 0
    assert calls(simulator, "session-list") <= 5 + 2


def test_more_movement_than_one_page_holds_is_caught_up_with() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(400)
    last = list(simulator.order[USER])[::-1]

    def somebody_writes(page: int) -> None:
        for number in range(70 if page in (1, 3) else 0):
            simulator.change_by_somebody(last[(page - 1) * 70 + number])

    found, _restarts = ask(simulator, lambda provider: walk(provider, somebody_writes))
    assert set(found) == set(simulator.truth())


def test_a_list_that_never_rests_comes_to_an_end_and_says_so() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(120)

    async def question(provider: Chongzhiling) -> str:
        page = await provider.list_conversations()
        while page.next:
            for key in list(simulator.order[USER])[::-1][:60]:
                simulator.change_by_somebody(key)
            page = await provider.list_conversations(page.next)
        return page.note

    assert "moving" in ask(simulator, question)
    assert calls(simulator, "session-list") < 40


def test_rows_that_vanish_while_the_list_is_read_make_it_begin_again() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(160)
    first = list(simulator.order[USER])

    def somebody_deletes(page: int) -> None:
        if page == 1:
            for key in first[:5]:
                simulator.remove_by_somebody(key)

    found, restarts = ask(simulator, lambda provider: walk(provider, somebody_deletes))
    assert set(simulator.truth()) <= set(found)
    assert restarts == 1


@pytest.mark.parametrize("past_end", ChongzhilingSimulator.SWITCHES["past_end"])
def test_a_list_that_became_shorter_than_the_next_page_begins_again(past_end: str) -> None:
    simulator = ChongzhilingSimulator(switches={"past_end": past_end})
    simulator.populate(60)
    first = list(simulator.order[USER])

    def somebody_deletes(page: int) -> None:
        for key in first[:20] if page == 1 else ():
            simulator.remove_by_somebody(key)

    found, restarts = ask(simulator, lambda provider: walk(provider, somebody_deletes))
    assert set(simulator.truth()) <= set(found)
    assert restarts == 1


def test_ten_thousand_sessions_are_listed_once_each() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(10_000)
    found, _restarts = ask(simulator, walk)
    assert set(found) == set(simulator.truth())
    assert calls(simulator, "session-list") == 200 + 1  # and one look back at the top


@pytest.mark.parametrize("largest", ChongzhilingSimulator.SWITCHES["limit_max"])
def test_the_page_size_is_what_the_answer_says_and_a_refused_one_is_made_smaller(largest: str) -> None:
    simulator = ChongzhilingSimulator(switches={"limit_max": largest})
    memory: dict[str, Any] = {}

    async def question(provider: Chongzhiling) -> None:
        assert set((await walk(provider))[0]) == set(simulator.truth())
        rank = 33
        ref = Ref(list(simulator.truth())[rank], rank=rank)
        before = provider.requests
        assert (await provider.read(ref, fresh=True)).remote_id == ref.remote_id
        assert provider.requests == before + 1
        rows = await all_messages(provider, long_one(simulator), 80)
        assert [row.position for row in rows] == list(range(1, LONG + 1))

    ask(simulator, question, memory=memory)
    assert memory.get("list_size") == {"none": None, "capped_at_20": 20, "refused_above_20": 10}[largest]


def test_a_row_tells_status_report_and_module_in_words_and_no_time_as_a_time() -> None:
    simulator = ChongzhilingSimulator()
    rows = {row.remote_id: row for row in ask(simulator, lambda provider: provider.list_conversations()).items}
    row = rows[titled(simulator, "兔子不吃草，精神差").remote_id]
    assert (row.title, row.group, row.message_count, row.model) == ("兔子不吃草，精神差", "Consultation", 5, None)
    assert (row.created_at, row.updated_at) == (None, None)
    assert row.details == {
        "Module": "Consultation",
        "Status": "Finished",
        "Report": "Ready",
        "Pet": "512",
        "Medical record": "90001",
        "Last activity (zone not told)": "2026-05-11T09:07:32",
        "Created (zone not told)": "2026-05-11T08:07:32",
        "Changed (zone not told)": "2026-05-11T17:07:32",
    }
    assert {row.group for row in rows.values()} == {"Consultation", "Knowledge questions"}


@pytest.mark.parametrize("empty", ChongzhilingSimulator.SWITCHES["empty_title"])
def test_an_empty_session_is_untitled(empty: str) -> None:
    simulator = ChongzhilingSimulator(switches={"empty_title": empty})
    rows = ask(simulator, lambda provider: provider.list_conversations()).items
    untitled = [row for row in rows if Chongzhiling.is_untitled(row.title)]
    assert [row.message_count for row in untitled] == [0, 0]


# --- one session: found in the list ------------------------------------------------------------------------------------------------------------


def test_read_goes_to_the_page_where_the_row_was_last() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(400)
    keys = list(simulator.truth())

    async def question(provider: Chongzhiling) -> None:
        assert (await provider.read(Ref(keys[260], rank=260), fresh=True)).remote_id == keys[260]

    ask(simulator, question)
    assert [call.body["page"] for call in simulator.log if "list" in call.path] == [6]


def test_read_finds_a_row_that_moved_to_the_top_or_to_the_next_page() -> None:
    simulator = ChongzhilingSimulator()
    simulator.populate(400)
    keys = list(simulator.truth())
    simulator.change_by_somebody(keys[260])  # now rank 0; everything above rank 260 slides down

    async def question(provider: Chongzhiling) -> None:
        for rank, expected in ((260, 2), (249, 3), (10, 1), (398, 1)):
            before = provider.requests
            assert (await provider.read(Ref(keys[rank], rank=rank), fresh=True)).remote_id == keys[rank]
            assert provider.requests - before == expected + (before == 0), rank

    ask(simulator, question)


@pytest.mark.parametrize("past_end", ChongzhilingSimulator.SWITCHES["past_end"])
@pytest.mark.parametrize("rank", [None, 0, 120, 5_000])
def test_read_finds_a_row_whose_rank_is_wrong(rank: int | None, past_end: str) -> None:
    simulator = ChongzhilingSimulator(switches={"past_end": past_end})
    simulator.populate(300)
    key = list(simulator.truth())[222]
    row = ask(simulator, lambda provider: provider.read(Ref(key, rank=rank), fresh=True))
    assert row.title == simulator.truth()[key]["title"]


@pytest.mark.parametrize("form", ChongzhilingSimulator.SWITCHES["not_found"])
def test_read_of_an_unknown_id_is_not_found_without_walking_the_whole_list(form: str) -> None:
    simulator = ChongzhilingSimulator(switches={"not_found": form})
    simulator.populate(3_000)
    foreign = next(iter(simulator.sessions["clinic-user-02"]))
    for key in ("00000000-0000-4000-9000-000000000000", foreign):
        simulator.log.clear()
        with pytest.raises(NotFound):
            ask(simulator, lambda provider, key=key: provider.read(Ref(key, rank=70), fresh=True))
        assert len(simulator.log) <= 1 + 4 + 1


def test_read_answers_from_rows_read_a_moment_ago_unless_asked_afresh() -> None:
    simulator = ChongzhilingSimulator()

    async def question(provider: Chongzhiling) -> None:
        rows = (await provider.list_conversations()).items
        before = provider.requests
        for row in rows:
            assert await provider.read(Ref(row.remote_id)) is not None
        assert provider.requests == before
        simulator.change_by_somebody(rows[3].remote_id, title="新的标题")
        assert (await provider.read(Ref(rows[3].remote_id))).title == rows[3].title
        assert (await provider.read(Ref(rows[3].remote_id), fresh=True)).title == "新的标题"
        provider._seen.forget()
        assert (await provider.read(Ref(rows[4].remote_id))).remote_id == rows[4].remote_id
        assert provider.requests == before + 2

    ask(simulator, question)
