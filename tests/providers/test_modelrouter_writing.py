"""Alibaba ModelRouter: what is written, and how a write that empties other fields is noticed and repaired (sections 4.4, 5 and 9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accounts.providers.errors import (
    OutcomeUnknown,
    RequestRejected,
    Unsupported,
)
from accounts.providers.modelrouter import ModelRouter
from accounts.providers.parts.histories import read_history
from accounts.providers.records import Ref
from accounts.providers.schema import Op
from tests.simulators.modelrouter import ModelRouterSimulator
from tests.simulators.modelrouter_data import BIG_ID, FIRST_ID

from .test_modelrouter import LONG, ORDINARY, SAID, ask, refusal, simulator, written

# --- sections 4.4, 5 and 9: writing -------------------------------------------------------------------------------------------------


class TestWriting:
    @pytest.mark.parametrize(
        ("current", "chosen", "expected"),
        [
            ("[1,3]", "2", "[2,3]"),
            ("[1,3]", "3", "[3]"),
            ("[1,2,3]", "3", "[3,2]"),
            ("[1, 3]", "1", "[1, 3]"),
            ([1, 3], "2", "[2,3]"),
            ("15", "2", "[2]"),
            ("", "2", "[2]"),
            (None, "2", "[2]"),
            ("[]", "2", "[2]"),
            ("broken", "2", "[2]"),
            ("[1]", str(BIG_ID), f"[{BIG_ID}]"),
        ],
    )
    def test_switching_replaces_the_first_id_in_place_and_keeps_the_others(self, current: Any, chosen: str, expected: str) -> None:
        assert ModelRouter.model_value(current, chosen) == expected

    def test_a_model_is_named_by_its_number(self) -> None:
        with pytest.raises(RequestRejected):
            ModelRouter.model_value("[1]", "qwen-max")

    def test_the_same_ids_in_another_form_are_the_same_value(self) -> None:
        same = ModelRouter.same_value
        assert same("model", "[1,3]", "[1, 3]") and same("model", "[1,3]", [1, 3]) and same("model", "15", "[15]") and same("model", None, "[]")
        assert not same("model", "[1,3]", "[3,1]") and not same("model", "[1]", "[1,3]")
        assert same("title", None, "") and not same("title", "a", "a ")

    def test_gotcha_2_a_change_sends_its_own_field_alone(self) -> None:
        sim = simulator()
        ask(sim, written(ORDINARY, {"title": "季度复盘 Q3"}))
        ask(sim, written(ORDINARY, {"model": "[2,3]"}))
        assert [call.body for call in sim.writes()] == [{"title": "季度复盘 Q3"}, {"modelIds": "[2,3]"}]

    @pytest.mark.parametrize(("value", "wire"), [([1, 3], "[1,3]"), ("[1, 3]", "[1, 3]"), ("15", "[15]"), (None, "[]"), ("", "[]")])
    def test_gotcha_4_models_travel_as_json_text_whatever_form_undo_restores(self, value: Any, wire: str) -> None:
        sim = simulator()

        async def go(provider: ModelRouter) -> None:
            current = await provider.read(Ref(str(FIRST_ID + 4)), fresh=True)
            await provider.write(current, {"model": value})

        ask(sim, go)
        assert sim.writes()[0].body == {"modelIds": wire}

    @pytest.mark.parametrize("answer", ModelRouterSimulator.SWITCHES["update_answer"])
    def test_gotcha_7_only_the_conversation_itself_tells_what_is_stored(self, answer: str) -> None:
        sim = simulator(switches={"update_answer": answer})
        told = ask(sim, written(ORDINARY, {"title": "neu"}))
        assert (told is None) == (answer in ("true", "null", "array"))
        if told is not None:
            assert told.title == "neu" and told.thin == (answer == "without_history")
        assert sim.truth()[ORDINARY]["title"] == "neu"

    def test_a_model_that_is_not_offered_is_refused_before_anything_is_sent(self) -> None:
        for wrong in ("[77]", "[9]", "[7,3]"):  # unknown, disabled, not for chat
            sim = simulator(switches={"unknown_model": "accepted"})
            assert isinstance(refusal(sim, written(ORDINARY, {"model": wrong})), RequestRejected)
            assert sim.writes() == []

    def test_a_key_that_may_not_read_the_catalogue_can_still_switch(self) -> None:
        sim = simulator(denied_actions={"ModelRouterQueryModelList"})
        ask(sim, written(ORDINARY, {"model": "[2,3]"}))
        assert sim.truth()[ORDINARY]["model"] == "[2,3]"
        assert isinstance(refusal(sim, written(ORDINARY, {"model": "[77]"})), RequestRejected)  # the service's own refusal

    @pytest.mark.parametrize(
        ("offset", "switches", "change"),
        [
            *((offset, {"update": "whole"}, {"title": "nur der Titel"}) for offset in (0, 1, 2, 6, 7, 8, 14)),
            *((offset, {"update": "whole_null"}, {"model": "[2]"}) for offset in (0, 2, 8, 14)),
            *((offset, {"update": "whole", "json_fields": "real"}, {"title": "nur der Titel"}) for offset in (1, 6, 14)),
            (2, {"update": "whole_null", "json_fields": "real"}, {"model": "[2]"}),
        ],
    )
    def test_gotcha_1_a_whole_write_is_noticed_repaired_and_remembered(self, offset: int, switches: dict[str, str], change: dict[str, Any]) -> None:
        identifier = str(FIRST_ID + offset)
        sim, memory = simulator(switches=switches), {}
        expected = sim.truth()[identifier] | change

        async def first(provider: ModelRouter) -> None:
            before = await provider.read(Ref(identifier), fresh=True)
            told = await provider.write(before, change)
            after = await provider.read(Ref(identifier), fresh=True)
            lost = set(ModelRouter.vanished(before, after, change))
            assert "chatData" in lost and lost & {"title", "model"} and lost.isdisjoint(change)
            assert told is not None and "chatData" in ModelRouter.vanished(before, told, change)
            await provider.repair(before, change)

        def same_history() -> bool:
            stored = sim.rows[int(identifier)]
            return read_history(stored["chatData"]).parts == original.parts

        original = read_history(sim._history(sim.rows[int(identifier)]))
        ask(sim, first, memory=memory)
        found = sim.truth()[identifier]
        assert same_history() and memory["whole_write"] is True
        assert found["title"] == expected["title"] and ModelRouter.same_value("model", found["model"], expected["model"])
        assert found["message_count"] == expected["message_count"]
        if "json_fields" not in switches:
            assert found == expected  # to the byte
        count = len(sim.writes())
        ask(sim, written(identifier, {"title": "noch einmal"}), memory=memory)
        assert len(sim.writes()) == count + 1 and set(sim.writes()[-1].body) == {"title", "modelIds", "chatData", "messageCount"}
        assert sim.truth()[identifier] == found | {"title": "noch einmal"} and same_history()

    def test_gotcha_1_a_partial_write_loses_nothing(self) -> None:
        sim = simulator()

        async def go(provider: ModelRouter) -> None:
            before = await provider.read(Ref(LONG), fresh=True)
            told = await provider.write(before, {"title": "neu"})
            assert told is not None and ModelRouter.vanished(before, told, {"title": "neu"}) == ()

        expected = sim.truth()[LONG] | {"title": "neu"}
        ask(sim, go)
        assert sim.truth()[LONG] == expected

    def test_a_thin_object_neither_proves_a_loss_nor_is_written_back(self) -> None:
        sim, memory = simulator(), {"whole_write": True}

        async def go(provider: ModelRouter) -> None:
            row = next(row for row in (await provider.list_conversations()).items if row.remote_id == LONG)
            whole = await provider.read(Ref(LONG))
            assert ModelRouter.vanished(whole, row, {}) == ()
            await provider.write(row, {"title": "aus der Liste"})  # reads the history first
            with pytest.raises(Unsupported):
                await provider.repair(row, {"title": "x"})

        expected = sim.truth()[LONG] | {"title": "aus der Liste"}
        ask(sim, go, memory=memory)
        assert sim.truth()[LONG] == expected and len(sim.writes()) == 1

    def test_a_whole_write_carries_over_what_others_changed_since_an_old_read(self) -> None:
        sim = simulator()

        async def go(provider: ModelRouter) -> None:
            old = await provider.read(Ref(ORDINARY), fresh=True)
            object.__setattr__(old, "read_at", old.read_at - 60)
            sim.change_by_somebody(ORDINARY, chat_data=json.dumps({"messages": [*SAID, *SAID]}), message_count=4)
            await provider.write(old, {"title": "später"})

        ask(sim, go, memory={"whole_write": True})
        assert sim.truth()[ORDINARY]["message_count"] == 4 and len(read_history(sim.rows[FIRST_ID]["chatData"]).parts[0][1]) == 4

    def test_gotchas_3_and_14_nothing_is_null_and_nothing_unknown_is_sent(self) -> None:
        sim = simulator()
        identifier = str(FIRST_ID + 11)  # its title is null
        ask(sim, written(identifier, {"model": "[1]"}), memory={"whole_write": True})
        assert sim.writes()[0].body == {"modelIds": "[1]", "chatData": "", "messageCount": 0}

    def test_gotcha_18_a_lost_answer_is_unknown_and_was_sent_once(self) -> None:
        sim = simulator()
        sim.add_fault("cut_after", writes_only=True)
        assert isinstance(refusal(sim, written(ORDINARY, {"title": "angekommen"})), OutcomeUnknown)
        assert len(sim.writes()) == 1 and sim.truth()[ORDINARY]["title"] == "angekommen"

    def test_titles_in_chinese_with_emoji_and_half_an_emoji_arrive_unharmed(self) -> None:
        sim = simulator()
        for title in ("数据库 🗄️ 索引", "cut \ud83d", ' "quotes" \\ and\ttabs '):
            ask(sim, written(ORDINARY, {"title": title}))
            assert sim.truth()[ORDINARY]["title"] == title

    @pytest.mark.parametrize("switch", ["title_limit", "empty_title"])
    def test_a_title_that_the_service_does_not_take_is_refused_or_stored_otherwise_but_never_claimed(self, switch: str) -> None:
        for answer in ModelRouterSimulator.SWITCHES[switch]:
            sim = simulator(switches={switch: answer})
            title = "长" * 150 if switch == "title_limit" else ""
            if answer.startswith("refused"):
                assert isinstance(refusal(sim, written(ORDINARY, {"title": title})), RequestRejected)
            else:
                told = ask(sim, written(ORDINARY, {"title": title}))
                assert told.title == sim.truth()[ORDINARY]["title"]

    def test_the_title_is_not_made_by_the_service_later(self) -> None:
        assert not ModelRouter.capability(Op.GENERATE_TITLE).available and ModelRouter.capability(Op.GENERATE_TITLE).reason
