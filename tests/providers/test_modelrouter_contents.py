"""Alibaba ModelRouter: conversations and the histories inside them (sections 3 and 5)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.providers.errors import (
    NotFound,
    Unsupported,
)
from accounts.providers.modelrouter import ModelRouter
from accounts.providers.parts.histories import read_history
from accounts.providers.records import Ref, RemoteMessage
from accounts.providers.schema import Op
from tests.simulators.modelrouter import ModelRouterSimulator
from tests.simulators.modelrouter_data import BIG_ID, FIRST_ID

from .test_modelrouter import LONG, ORDINARY, SAID, ask, read, refusal, simulator, walk, written

# --- sections 3 and 5: what a conversation is ---------------------------------------------------------------------------------------


class TestConversations:
    def test_values_are_exactly_what_is_stored_and_the_first_id_is_the_model(self) -> None:
        found = {row.remote_id: row for row in ask(simulator(), walk)[0]}
        spaced = found[str(FIRST_ID + 2)]
        assert (spaced.values["model"], spaced.model, spaced.more_models) == ("[1, 3]", "1", ("3",))
        assert "first one" in spaced.warning
        bare = found[str(FIRST_ID + 5)]
        assert (bare.values["model"], bare.model, bare.more_models, bare.warning) == ("15", "15", (), "")
        untitled = found[str(FIRST_ID + 11)]
        assert (untitled.title, untitled.values, untitled.model) == ("", {"title": None, "model": ""}, None)
        assert found[str(FIRST_ID + 10)].values == {"title": "", "model": "[]"}

    def test_gotcha_5_ids_are_64_bit_and_an_empty_one_is_refused_before_a_url_is_built(self) -> None:
        sim = simulator()
        assert ask(sim, read(str(BIG_ID))).remote_id == str(BIG_ID)
        count = len(sim.log)
        for wrong in ("", "../models", "１２", "12 "):
            assert isinstance(refusal(sim, read(wrong)), NotFound)
        assert len(sim.log) == count

    def test_gotcha_16_disabled_conversations_are_shown_as_disabled(self) -> None:
        rows = ask(simulator(), walk)[0]
        assert [row.remote_id for row in rows if row.disabled] == [str(FIRST_ID + 12)]

    def test_gotcha_17_rows_of_a_list_keep_no_history_and_are_thin(self) -> None:
        rows = ask(simulator(), walk)[0]
        assert rows and all(row.thin and "chatData" not in row.raw for row in rows)
        assert ask(simulator(), read(LONG)).thin is False

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["list_history"])
    def test_counts_and_first_messages_of_rows_never_come_from_half_a_history(self, answer: str) -> None:
        row = next(row for row in ask(simulator(switches={"list_history": answer}), walk)[0] if row.remote_id == LONG)
        assert row.message_count == 130
        assert (row.first_message is not None) == (answer == "whole")

    def test_the_counted_number_of_messages_is_shown_where_both_are_at_hand(self) -> None:
        whole = ask(simulator(), read(str(FIRST_ID + 6)))
        assert whole.message_count == 2
        assert whole.details["Message count as stored"] == "9"
        assert ask(simulator(), read(str(FIRST_ID + 8))).message_count == 3  # unreadable: only the stored number is there

    def test_settings_inside_the_history_are_shown_and_not_editable(self) -> None:
        whole = ask(simulator(), read(str(FIRST_ID + 6)))
        assert whole.details["model"] == "qwen/qwen-max/r0" and whole.details["temperature"] == "0.7"
        assert not ModelRouter.capability(Op.EDIT_CONFIG).available and ModelRouter.capability(Op.EDIT_CONFIG).reason
        sim = simulator()
        assert isinstance(refusal(sim, written(ORDINARY, {"temperature": 1})), Unsupported)
        assert sim.writes() == []

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["times"])
    def test_gotcha_20_a_time_without_a_zone_is_not_told_but_noted(self, answer: str) -> None:
        found = ask(simulator(switches={"times": answer}), read(ORDINARY))
        if answer == "no_zone":
            assert found.updated_at is None
            assert any("time zone unknown" in label for label in found.details)
        else:
            assert found.updated_at is not None and found.updated_at.tzinfo is UTC
            assert found.updated_at.year == datetime(2025, 1, 2).year

    def test_a_read_may_be_answered_again_for_three_seconds_and_fresh_asks(self) -> None:
        sim = simulator()

        async def go(provider: ModelRouter) -> None:
            await provider.read(Ref(ORDINARY))
            await provider.messages(Ref(ORDINARY))
            await provider.first_message(Ref(ORDINARY))
            assert len(sim.log) == 1
            await provider.read(Ref(ORDINARY), fresh=True)
            assert len(sim.log) == 2
            await provider.read(Ref(LONG))
            assert len(sim.log) == 3

        ask(sim, go)

    def test_a_read_after_a_write_is_never_the_object_from_before(self) -> None:
        sim = simulator(switches={"update_answer": "true"})

        async def go(provider: ModelRouter) -> str:
            await provider.write(await provider.read(Ref(ORDINARY)), {"title": "danach"})
            return (await provider.read(Ref(ORDINARY))).title

        assert ask(sim, go) == "danach"

    def test_the_catalogue_offers_enabled_chat_models_and_no_addresses(self) -> None:
        for total in ("number", "missing"):
            models = ask(simulator(switches={"total": total, "page_cap": "20"}), lambda provider: provider.list_models())
            assert [model.id for model in models] == ["1", "2", "3", "5", "15", str(BIG_ID)]
            assert models[2].name == "DeepSeek-V3" and models[2].group == "deepseek" and "upstream.invalid" not in repr(models)


# --- section 5: messages ------------------------------------------------------------------------------------------------------------


def texts(stored: Any) -> list[tuple[str, str]]:
    """(label, text) of every message in a stored history."""
    return [(label, entry["content"]) for label, part in read_history(stored).parts for entry in part]


class TestMessages:
    @pytest.mark.parametrize("stored", [None, "", "{}", "[]", {}, [], '"{}"', "null", '""', '{"messages":[]}'])
    def test_form_1_nothing(self, stored: Any) -> None:
        assert read_history(stored).count == 0 and read_history(stored).note == ""

    @pytest.mark.parametrize(
        "stored", [{"messages": SAID}, json.dumps({"messages": SAID}), json.dumps(json.dumps({"messages": SAID})), json.dumps(SAID), SAID]
    )
    def test_forms_2_3_and_5_one_history(self, stored: Any) -> None:
        assert texts(stored) == [("", "你好"), ("", "Hi")]

    def test_form_3_keeps_the_other_keys_as_settings(self) -> None:
        assert read_history({"messages": SAID, "model": "qwen/qwen-max/r0", "stream": True}).settings == {"model": "qwen/qwen-max/r0", "stream": True}

    @pytest.mark.parametrize(
        "stored",
        [
            {"1": SAID, "3": SAID},
            {"1": {"messages": SAID}, "3": {"messages": SAID}, "layout": "columns"},
            [{"modelId": 1, "messages": SAID}, {"model": "3", "messages": SAID}],
        ],
    )
    def test_forms_4_and_5_one_history_per_model(self, stored: Any) -> None:
        assert texts(stored) == [("1", "你好"), ("1", "Hi"), ("3", "你好"), ("3", "Hi")]

    @pytest.mark.parametrize("stored", ["42", "true", '"words"', '{"a":1}', "[1,2]", {"messages": {"odd": 1}}, [[]]])
    def test_form_6_anything_else_shows_nothing_and_says_so(self, stored: Any) -> None:
        assert read_history(stored).count == 0 and read_history(stored).note

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["messages", "role", "content", "modelId", "1"]), inner),
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_no_json_whatever_breaks_the_reader(self, stored: Any) -> None:
        for form in (stored, json.dumps(stored), json.dumps(json.dumps(stored))):
            assert read_history(form).count >= 0

    def test_several_histories_follow_one_another_labelled_by_model(self) -> None:
        page = ask(simulator(), lambda provider: provider.messages(Ref(str(FIRST_ID + 1))))
        assert [(m.position, m.model, m.role) for m in page.items] == [
            (1, "1", "user"),
            (2, "1", "assistant"),
            (3, "3", "user"),
            (4, "3", "assistant"),
        ]
        assert "per model" in page.note and page.total == 4

    def test_an_unreadable_history_is_announced_and_survives_a_whole_write(self) -> None:
        sim = simulator(switches={"update": "whole"})
        identifier = str(FIRST_ID + 8)
        page = ask(sim, lambda provider: provider.messages(Ref(identifier)))
        assert page.items == () and "unreadable" in page.note
        before = sim.truth()[identifier]["history"]
        ask(sim, written(identifier, {"title": "trotzdem"}), memory={"whole_write": True})
        assert sim.truth()[identifier]["history"] == before and sim.truth()[identifier]["title"] == "trotzdem"

    def test_parts_tools_and_reasoning_are_told_apart(self) -> None:
        page = ask(simulator(), lambda provider: provider.messages(Ref(str(FIRST_ID + 7))))
        system, user, call, tool, answer = page.items
        assert (system.role, user.role, call.role, tool.role, answer.role) == ("system", "user", "assistant", "tool", "assistant")
        assert (user.text, user.images) == ("这是什么?", ("https://example.com/a.png",))
        assert (call.text, call.tools) == ("", ("look",))
        assert (answer.text, answer.reasoning) == ("一只猫。", "The tool says so.")

    def test_half_an_emoji_in_a_history_does_not_break_the_page(self) -> None:
        sim = simulator()
        sim.change_by_somebody(ORDINARY, chat_data='{"messages":[{"role":"user","content":"cut \\ud83d"}]}')
        page = ask(sim, lambda provider: provider.messages(Ref(ORDINARY)))
        assert page.items[0].text.encode() == b"cut ?"

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["history"])
    def test_paging_runs_through_every_form_in_both_directions(self, answer: str) -> None:
        async def go(provider: ModelRouter) -> None:
            backwards: list[RemoteMessage] = []
            page = await provider.messages(Ref(LONG), limit=40)
            assert page.newer is None
            while True:
                backwards = [*page.items, *backwards]
                if page.older is None:
                    break
                page = await provider.messages(Ref(LONG), page.older, limit=40)
            forwards = list(page.items)
            while page.newer is not None:
                page = await provider.messages(Ref(LONG), page.newer, limit=40)
                forwards += page.items
            assert backwards == forwards and [m.position for m in forwards] == list(range(1, 131))
            assert len({m.key for m in forwards}) == 130
            assert await provider.first_message(Ref(LONG)) == forwards[0].text

        ask(simulator(switches={"history": answer}), go)
