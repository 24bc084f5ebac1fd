"""Chat Nio: conversations found by number, what is remembered of them, and an outage that looks like deletion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accounts.providers.base import Patience
from accounts.providers.chatnio import UNREADABLE
from accounts.providers.errors import (
    CredentialsRejected,
    NotFound,
    ProviderUnavailable,
)
from accounts.providers.parts import numbers
from accounts.providers.records import Ref, RemoteConversation

from .test_chatnio import connected, listed, paths, run, site

# --- the list -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["100", "about"])
def test_gotcha_2_all_250_are_reached_once_and_a_repeat_costs_one_request(length: str) -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            first = await provider.list_conversations()
            assert all(row.thin and row.model is None and row.message_count is None and row.first_message is None for row in first.items)
            assert first.total is None and first.note == numbers.OLDER
            whole, notes = await listed(provider)
        truth = simulator.truth()
        assert {remote_id: (row.title, row.model, row.message_count) for remote_id, row in whole.items()} == {
            remote_id: (stored["title"], stored["model"], stored["messages"]) for remote_id, stored in truth.items()
        }
        assert all(row.first_message for row in whole.values())
        assert notes[-1] == "" and notes[1] == numbers.OLDER
        loads = [int(call.query["id"]) for call in simulator.log if call.path == "/conversation/load"]
        below = min(int(row.remote_id) for row in first.items)
        holes = {number for number in range(1, below) if str(number) not in truth}
        assert {number: loads.count(number) for number in holes} == dict.fromkeys(holes, 2)  # one look more before a hole is believed
        assert len(loads) <= len(truth) + 2 * len(holes) + len(holes) // 8 + 1  # and one at a witness per step
        memory = json.loads(json.dumps(memory))
        simulator.log.clear()
        async with connected(url, simulator.credential(), memory=memory) as provider:
            again, notes = await listed(provider, whole)
            assert (again, notes) == ({}, ["", ""])
            assert paths(simulator) == ["/conversation/list"]
            renamed, new = first.items[3].remote_id, simulator.start_talk("brand new")
            simulator.change_by_somebody(renamed, title="改了名字")
            again, notes = await listed(provider, whole)
            assert {remote_id: row.title for remote_id, row in again.items()} == {new: "brand new", renamed: "改了名字"}
            assert len(simulator.log) <= 1 + 1 + 2 + 1  # two lists, two loads, one look at a hole because the highest id changed

    with site(switches={"list_length": length}) as (simulator, url):
        simulator.populate(250, holes=6)
        run(story())


def test_a_walk_goes_on_where_another_process_left_it() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        whole: dict[str, RemoteConversation] = {}
        cursor: str | None = None
        for _step in range(200):
            async with connected(url, simulator.credential(), memory=memory) as provider:
                page = await provider.list_conversations(cursor, known=whole)
            memory = json.loads(json.dumps(memory))
            whole |= {row.remote_id: row for row in page.items if not row.thin}
            if (cursor := page.next) is None:
                break
        assert set(whole) == set(simulator.truth())

    with site() as (simulator, url):
        simulator.populate(140, holes=3)
        run(story())


def test_ids_between_listed_ones_are_never_asked_for() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            whole, notes = await listed(provider)
        assert set(whole) == {"2", "900", "901"} and notes[0] == numbers.OLDER
        assert {call.query["id"] for call in simulator.log if call.path == "/conversation/load"} == {"1", "2", "900", "901"}

    with site() as (simulator, url):
        simulator.populate(901)
        simulator.user.talks = {number: simulator.user.talks[number] for number in (2, 900, 901)}
        run(story())


def test_gotcha_9_numbers_that_were_empty_are_asked_again_after_numbering_fell_below_them() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            whole, _notes = await listed(provider)
            assert len(whole) == 120
            simulator.user.talks = {number: talk for number, talk in simulator.user.talks.items() if number <= 2}
            reused = [simulator.start_talk(f"second life {count}") for count in range(200)]
            again, _notes = await listed(provider)  # the caller drops what it held when names or first messages differ
        assert set(again) == set(simulator.truth()) and reused[0] == "3"
        assert again["3"].title == "second life 0" and again["3"].first_message == "Hello again"

    with site() as (simulator, url):
        simulator.populate(120, holes=4)
        run(story())


def test_numbers_that_do_not_begin_at_one_do_not_cost_thousands_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "QUIET", 60)

    async def story(expected: set[str], note: str) -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            whole, notes = await listed(provider)
            assert set(whole) == expected and notes[-1] == note
            assert paths(simulator).count("/conversation/load") < len(expected) + 2 * (60 + 16) + 20
            simulator.log.clear()
            again, notes = await listed(provider, whole)
            assert again == {} and notes[-1] == note
            assert paths(simulator).count("/conversation/load") < (1 if not note else 2 * (60 + 16) + 20)

    with site() as (simulator, url):
        talk = simulator.user.talks[1]
        simulator.user.talks = {5_000_000 + 7 * number: talk for number in range(3)}
        run(story(set(simulator.truth()), ""))
        simulator.log.clear()
        simulator.user.talks = {5_000_000 + number: talk for number in range(110)}
        run(story(set(simulator.truth()), numbers.LATER))


def test_one_crashing_conversation_does_not_stop_the_walk_and_is_no_hole() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory, patience=Patience(attempts=1, seconds=2)) as provider:
            whole, notes = await listed(provider)
            assert set(simulator.truth()) - set(whole) == {"25", "28"}
            assert UNREADABLE in notes
            simulator.crashing, simulator.unreadable = set(), set()
            again, _notes = await listed(provider, whole)
            assert set(again) == {"25", "28"}

    with site() as (simulator, url):
        simulator.populate(110)
        simulator.crashing, simulator.unreadable = {25}, {28}
        run(story())


def test_the_list_of_an_account_that_never_had_any_is_empty() -> None:
    async def story() -> None:
        async with connected(url, simulator.credential()) as provider:
            page = await provider.list_conversations()
            assert page.items == () and page.next is None and page.total == 0

    for answer in ("null", "empty"):
        with site(switches={"nothing": answer}) as (simulator, url):
            simulator.populate(0)
            run(story())


# --- outage or loss? --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", ["accepted", "refused"])
def test_gotcha_6_an_outage_of_the_database_is_never_taken_for_deletion(cached: str) -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            page = await provider.list_conversations()
            page = await provider.list_conversations(page.next)
            held = await provider.read(Ref("9"))
            simulator.outage = True
            unsure = ProviderUnavailable if cached == "accepted" else (ProviderUnavailable, CredentialsRejected)
            for call in (
                provider.read(Ref("9"), fresh=True),
                provider.first_message(Ref("11")),
                provider.list_conversations(),
                provider.list_conversations(page.next),
                provider.write(held, {"title": "x"}),
            ):
                with pytest.raises(unsure):
                    await call
            simulator.outage = False
            whole, _notes = await listed(provider)
            assert set(whole) == set(simulator.truth())  # nothing was remembered as a hole
            assert (await provider.read(Ref("9"), fresh=True)).title == held.title

    with site(login=True, switches={"outage_token": cached}) as (simulator, url):
        simulator.populate(130)
        run(story())


@pytest.mark.parametrize("failing", [(20, 20), (20, 23), (18, 30), (98, 99)])
def test_gotcha_6_a_short_failure_of_the_database_makes_no_holes(failing: tuple[int, int]) -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            await provider.check()
            simulator.failing_loads = failing
            whole, _notes = await listed(provider)
            again, _notes = await listed(provider, whole)
            assert set(whole) | set(again) == set(simulator.truth())
            assert int(memory["floor"]) == 31 and not memory["holes"]

    with site() as (simulator, url):
        simulator.populate(130)
        run(story())


@pytest.mark.parametrize("first_lost", [108, 130])
def test_gotcha_6_an_outage_in_the_middle_of_a_walk_ends_it_and_makes_no_holes(first_lost: int) -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            await provider.check()
            simulator.failing_loads = (first_lost, 10_000)
            with pytest.raises(ProviderUnavailable):
                await listed(provider)
            assert not memory["holes"]
            simulator.failing_loads = (0, 0)
            whole, _notes = await listed(provider)
            assert set(whole) == set(simulator.truth())

    with site(login=True) as (simulator, url):
        simulator.populate(130)
        run(story())


def test_gotcha_6_a_conversation_is_gone_only_when_another_one_is_there() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            await provider.list_conversations()
            witness = memory["witness"]
            simulator.remove_by_somebody("5")
            simulator.log.clear()
            with pytest.raises(NotFound):
                await provider.read(Ref("5"))
            assert paths(simulator) == ["/conversation/load", "/state", "/conversation/list", "/conversation/load"]
            simulator.remove_by_somebody(witness)
            with pytest.raises(NotFound):
                await provider.read(Ref(witness))
            assert memory["witness"] in simulator.truth()
            simulator.unreadable = {4}
            with pytest.raises(ProviderUnavailable):  # it is listed, so it is not gone
                await provider.read(Ref("4"))
            for nonsense in ("0", "-3", "abc", "1.0", "007", "٣", "9" * 30, ""):
                with pytest.raises(NotFound):
                    await provider.read(Ref(nonsense))

    with site() as (simulator, url):
        run(story())


def test_gotcha_6_an_account_that_was_really_emptied_is_believed_after_the_caches_of_the_site_have_ended() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, simulator.credential(), memory=memory) as provider:
            await provider.list_conversations()
            simulator.user.talks.clear()
            for call in (provider.list_conversations(), provider.read(Ref("1"))):
                with pytest.raises(ProviderUnavailable):
                    await call
            memory["empty_since"] -= 3600
            with pytest.raises(NotFound):
                await provider.read(Ref("1"))
            assert (await provider.list_conversations()).total == 0
            with pytest.raises(NotFound):
                await provider.read(Ref("2"))
            assert simulator.start_talk() == "1"
            assert [row.remote_id for row in (await provider.list_conversations()).items] == ["1"]

    with site() as (simulator, url):
        run(story())


def test_what_is_known_about_ids_does_not_survive_a_change_of_the_user_behind_the_account() -> None:
    async def story() -> None:
        memory: dict[str, Any] = {}
        async with connected(url, {"secret": simulator.user.key}, memory=memory) as provider:
            await listed(provider)
            assert memory["holes"]
        # The topmost of the holes is one for both, so only forgetting all of them finds the others.
        simulator.second.talks = {number: simulator.user.talks[1] for number in range(1, 131) if number != 29}
        async with connected(url, {"secret": simulator.second.key}, memory=memory) as provider:
            whole, _notes = await listed(provider)
            assert set(whole) == set(map(str, simulator.second.talks))

    with site() as (simulator, url):
        run(story())
