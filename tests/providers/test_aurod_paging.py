"""aurod's lists: sessions and records whose rows move while one pages, and the one session that can only be found in a list."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from accounts.providers.aurod import Aurod
from accounts.providers.base import Provider
from accounts.providers.errors import (
    NotFound,
    RequestRejected,
)
from accounts.providers.parts.rounds import Rounds
from accounts.providers.records import Page, Ref, RemoteConversation, RemoteMessage
from tests.providers.test_aurod import BY_UPDATE, Case
from tests.simulators.aurod import AurodSimulator
from tests.simulators.kit import Call


class TestListingWhileRowsMove(Case):
    """2.5: rows move between pages when something is created, deleted, edited or pinned."""

    @pytest.mark.parametrize("switches", [{}, BY_UPDATE], ids=["by creation", "by update"])
    def test_ten_thousand_sessions_are_listed_exactly_once_while_rows_are_renamed(self, switches: dict[str, str]) -> None:
        simulator = self.make(switches=switches)
        simulator.populate(10_000)
        ids = list(simulator.truth())
        chance = random.Random(7)

        def rename(_pages: int) -> None:
            for _time in range(3):
                simulator.change_by_somebody(chance.choice(ids), title="改名")

        found = self.using(simulator, lambda provider: self.walk(provider, rename))
        assert set(found) == set(ids)
        assert 334 <= len(simulator.log) <= (334 if not switches else 420)

    @pytest.mark.parametrize("switches", [{}, BY_UPDATE], ids=["by creation", "by update"])
    def test_a_row_pulled_over_the_page_boundary_by_a_deletion_is_found(self, switches: dict[str, str]) -> None:
        simulator = self.make(switches=switches)
        simulator.populate(100)
        order = list(self.using(simulator, self.walk))

        def delete(pages: int) -> None:
            if pages == 1:
                simulator.remove_by_somebody(order[3])

        found = self.using(simulator, lambda provider: self.walk(provider, delete))
        assert set(simulator.truth()) <= set(found) and order[30] in found

    def test_a_row_that_is_unpinned_while_we_page_hides_nothing(self) -> None:
        simulator = self.make()
        simulator.populate(100)
        oldest = next(iter(simulator.truth()))
        simulator.change_by_somebody(oldest, topSort=5)

        def unpin(pages: int) -> None:
            if pages == 1:
                simulator.change_by_somebody(oldest, topSort=0)

        assert set(self.using(simulator, lambda provider: self.walk(provider, unpin))) == set(simulator.truth())

    def test_a_quiet_list_costs_one_request_a_page(self) -> None:
        simulator = self.make()
        simulator.populate(90)
        self.using(simulator, self.walk)
        assert [call.query["page"] for call in simulator.log] == ["1", "2", "3"]

    @pytest.mark.parametrize("remembered", [True, False], ids=["memory saved", "memory lost"])
    @pytest.mark.parametrize("moves", [False, True], ids=["quiet", "rows move"])
    def test_a_walk_is_continued_by_other_provider_objects(self, moves: bool, remembered: bool) -> None:
        """A worker reads a large account in slices: each goes on from the cursor of the one before; after a crash the memory is older."""
        simulator = self.make(switches=BY_UPDATE)
        simulator.populate(400)
        ids = list(simulator.truth())

        async def walk(url: str) -> tuple[set[str], str, str]:
            found: set[str] = set()
            cursor: str | None = None
            saved = "{}"
            for step in range(60):
                memory = json.loads(saved)
                async with self.provider(simulator, url, memory=memory) as provider:
                    for _page in range(5):
                        page: Page[RemoteConversation] = await provider.list_conversations(cursor)
                        found.update(item.remote_id for item in page.items)
                        if (cursor := page.next) is None:
                            return found, page.note, json.dumps(memory)
                        if moves and step < 2:
                            simulator.change_by_somebody(ids[step * 30 + _page], title="renamed")
                saved = json.dumps(memory) if remembered else saved
            raise AssertionError("no end")

        with self.served(simulator) as url:
            found, note, memory = self.run(walk(url))
        assert found == set(ids) and memory == "{}"
        if remembered:
            assert not note and len(simulator.log) <= (14 if not moves else 17)

    def test_what_is_gone_is_confirmed_without_another_walk(self) -> None:
        simulator = self.make()
        simulator.populate(300)
        refs = [Ref(remote_id, "x", 5) for remote_id in list(simulator.truth())[:4]]
        for ref in refs[:3]:
            simulator.remove_by_somebody(ref.remote_id)

        async def work(provider: Provider) -> dict[str, RemoteConversation]:
            await self.walk(provider)
            simulator.log.clear()
            return await provider.find(refs[:3])

        assert self.using(simulator, work) == {} and len(simulator.log) == 3

    @pytest.mark.parametrize("form", ["refused", "empty"])
    def test_what_is_still_there_is_found_by_one_walk_for_all(self, form: str) -> None:
        simulator = self.make(switches={"unknown_records": form})
        simulator.populate(300)
        refs = [Ref(remote_id, "x", 5) for remote_id in list(simulator.truth())[:4]]
        simulator.remove_by_somebody(refs[0].remote_id)
        for listed_before in (False, True):

            async def work(provider: Provider, listed_before: bool = listed_before) -> dict[str, RemoteConversation]:
                if listed_before:
                    await self.walk(provider)
                simulator.log.clear()
                return await provider.find(refs)

            assert self.using(simulator, work).keys() == {ref.remote_id for ref in refs[1:]}
            assert len(simulator.log) <= 12

    def test_a_total_that_promises_more_than_the_pages_show_ends_after_a_round_without_news(self) -> None:
        walk, reads = Rounds(), 0
        while reads < 50:
            reads += 1
            if walk.take([f"{walk.page}-{number}" for number in range(10)], 32, 3):
                break
        assert reads == 3 + 3 + 3 and not walk.note

    @pytest.mark.parametrize("seed", range(200))
    def test_whatever_moves_every_row_that_stays_is_seen(self, seed: int) -> None:
        """The walk alone, over a plain list in which rows jump to the front, come and go between any two pages; handed over in every third seed."""
        chance = random.Random(seed)
        rows = [str(number) for number in range(chance.choice([0, 1, 29, 30, 31, 95, 200]))]
        stay, walk, size, made, seen = set(rows), Rounds(), 10, 1000, set[str]()
        for _read in range(400):
            page = rows[(walk.page - 1) * size : walk.page * size]
            seen.update(page)
            if walk.take(page, len(rows), -(-len(rows) // size)):
                break
            if seed % 3 == 0 and chance.random() < 0.15:
                state = {"walk": walk.name, "page": walk.page, "step": walk.reads, "round": walk.rounds}
                walk = Rounds.restored(state, json.loads(json.dumps(walk.kept())) if chance.random() < 0.7 else None)
            # Rows that come and rows that go between the same two pages hide each other in `total`; no client can tell.
            moves = chance.choice([["jump", "create"], ["jump", "jump", "delete"]])
            for _time in range(chance.choice([0, 0, 1, 3])):
                if (what := chance.choice(moves)) == "create":
                    rows.insert(0, str(made := made + 1))
                elif rows:
                    row = rows.pop(chance.randrange(len(rows)))
                    stay.discard(row) if what == "delete" else rows.insert(0, row)
        else:
            raise AssertionError("no end")
        assert walk.note or stay <= seen


class TestReadingOne(Case):
    """5.5: there is no such call; the object comes from a list page."""

    def reads(self, simulator: AurodSimulator, work: Callable[[Provider], Any]) -> tuple[Any, list[Call]]:
        simulator.log.clear()
        result = self.using(simulator, work)
        return result, list(simulator.log)

    @pytest.fixture
    def simulator(self) -> AurodSimulator:
        simulator = self.make()
        simulator.populate(300)
        return simulator

    def row(self, simulator: AurodSimulator, rank: int) -> Ref:
        remote_id = list(simulator.truth())[-1 - rank]
        return Ref(remote_id, simulator.truth()[remote_id]["title"], rank)

    def test_the_page_of_its_rank_is_asked_first(self, simulator: AurodSimulator) -> None:
        ref = self.row(simulator, 95)
        item, calls = self.reads(simulator, lambda provider: provider.read(ref))
        assert item.remote_id == ref.remote_id and [call.query for call in calls] == [{"page": "4"}]

    def test_then_the_pages_beside_it(self, simulator: AurodSimulator) -> None:
        ref = replace(self.row(simulator, 85), rank=95)
        item, calls = self.reads(simulator, lambda provider: provider.read(ref))
        assert item.remote_id == ref.remote_id and [call.query["page"] for call in calls] == ["4", "5", "3"]

    def test_then_its_title_is_searched(self, simulator: AurodSimulator) -> None:
        ref = self.row(simulator, 95)
        simulator.change_by_somebody(ref.remote_id, title="独一无二的标题")
        ref = replace(ref, title="独一无二的标题", rank=280)
        item, calls = self.reads(simulator, lambda provider: provider.read(ref))
        assert item.remote_id == ref.remote_id and calls[-1].query == {"page": "1", "search": "独一无二的标题"} and len(calls) == 4

    def test_then_all_pages_and_only_then_it_is_not_found(self, simulator: AurodSimulator) -> None:
        ref = replace(self.row(simulator, 250), title="an old title", rank=5)
        item, calls = self.reads(simulator, lambda provider: provider.read(ref))
        assert item.remote_id == ref.remote_id and calls[-1].query == {"page": "9"}
        simulator.remove_by_somebody(ref.remote_id)
        simulator.log.clear()
        with pytest.raises(NotFound):
            self.using(simulator, lambda provider: provider.read(ref))
        assert {call.query["page"] for call in simulator.log} == {str(page) for page in range(1, 11)}

    def test_a_title_nobody_chose_is_not_searched(self, simulator: AurodSimulator) -> None:
        ref = Ref(self.row(simulator, 250).remote_id, "新对话", 5)
        _item, calls = self.reads(simulator, lambda provider: provider.read(ref))
        assert all("search" not in call.query for call in calls)

    def test_many_deleted_sessions_cost_one_walk(self, simulator: AurodSimulator) -> None:
        refs = [self.row(simulator, rank) for rank in (10, 100, 200)]
        for ref in refs:
            simulator.remove_by_somebody(ref.remote_id)

        async def work(provider: Provider) -> list[Any]:
            return await asyncio.gather(*(provider.read(ref) for ref in refs), return_exceptions=True)

        results, calls = self.reads(simulator, work)
        assert all(isinstance(result, NotFound) for result in results)
        assert len(calls) <= 10 + 4 * len(refs)

    def test_text_that_is_no_id_is_not_found_without_a_request(self, simulator: AurodSimulator) -> None:
        for remote_id in ("", "abc", "1/../2", "１２"):
            with pytest.raises(NotFound):
                self.reads(simulator, lambda provider, remote_id=remote_id: provider.read(Ref(remote_id)))
            assert simulator.log == []

    def test_thirty_reads_at_once_share_one_request(self, simulator: AurodSimulator) -> None:
        refs = [self.row(simulator, rank) for rank in range(30, 60)]
        for fresh in (False, True):

            async def work(provider: Provider, fresh: bool = fresh) -> list[RemoteConversation]:
                return await asyncio.gather(*(provider.read(ref, fresh=fresh) for ref in refs))

            items, calls = self.reads(simulator, work)
            assert [item.remote_id for item in items] == [ref.remote_id for ref in refs] and len(calls) == 1

    def test_an_object_read_a_moment_ago_is_served_again_until_it_is_three_seconds_old(
        self, simulator: AurodSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = self.row(simulator, 40)

        async def work(provider: Provider) -> list[int]:
            counts = []
            await provider.read(ref)
            await provider.read(ref)
            counts.append(len(simulator.log))
            monkeypatch.setattr("accounts.providers.parts.listing.FRESH_FOR", 0.0)
            await provider.read(ref)
            counts.append(len(simulator.log))
            return counts

        assert self.reads(simulator, work)[0] == [1, 2]

    def test_a_fresh_read_shares_no_request_that_began_before_it(self, simulator: AurodSimulator) -> None:
        """The answer of the first request is made before the change and delivered after the fresh read was asked for."""
        ref = self.row(simulator, 0)
        answered, release = asyncio.Event(), asyncio.Event()

        async def work(url: str) -> tuple[str, str]:
            async with self.provider(simulator, url) as provider:
                send = provider.http.send

                async def held_back(request: httpx.Request) -> httpx.Response:
                    response = await send(request)
                    if not answered.is_set():
                        answered.set()
                        await release.wait()
                    return response

                provider.http.send = held_back  # type: ignore[method-assign,assignment]
                first = asyncio.create_task(provider.read(ref))
                await answered.wait()
                simulator.change_by_somebody(ref.remote_id, title="changed")
                second = asyncio.create_task(provider.read(ref, fresh=True))
                await asyncio.sleep(0)
                release.set()
                return (await first).title, (await second).title

        with self.served(simulator) as url:
            before, after = self.run(work(url))
        assert before != "changed" and after == "changed"

    def test_a_page_read_before_a_write_never_hides_the_write(self, simulator: AurodSimulator) -> None:
        ref, other = self.row(simulator, 0), self.row(simulator, 1)
        answered, release = asyncio.Event(), asyncio.Event()

        async def work(url: str) -> str:
            async with self.provider(simulator, url) as provider:
                current = await provider.read(ref)
                send = provider.http.send

                async def held_back(request: httpx.Request) -> httpx.Response:
                    response = await send(request)
                    if request.method == "GET" and not answered.is_set():
                        answered.set()
                        await release.wait()
                    return response

                provider.http.send = held_back  # type: ignore[method-assign,assignment]
                page = asyncio.create_task(provider.read(other, fresh=True))  # holds our row too, as it was before the write
                await answered.wait()
                await provider.write(current, {"title": "written"})
                release.set()
                await page
                return (await provider.read(ref)).title

        with self.served(simulator) as url:
            assert self.run(work(url)) == "written"

    def test_one_caller_that_gives_up_does_not_take_the_request_from_the_others(self, simulator: AurodSimulator) -> None:
        simulator.latency = 0.1
        refs = [self.row(simulator, rank) for rank in (0, 1)]

        async def work(provider: Provider) -> RemoteConversation:
            first, second = (asyncio.create_task(provider.read(ref)) for ref in refs)
            await asyncio.sleep(0.02)
            first.cancel()
            return await second

        item, calls = self.reads(simulator, work)
        assert item.remote_id == refs[1].remote_id and len(calls) == 1

    def test_a_request_that_everybody_gave_up_is_not_shared_with_who_comes_next(self, simulator: AurodSimulator) -> None:
        simulator.latency = 0.1
        refs = [self.row(simulator, rank) for rank in (0, 1)]

        async def work(provider: Provider) -> RemoteConversation:
            first = asyncio.create_task(provider.read(refs[0]))
            await asyncio.sleep(0.02)
            first.cancel()
            second = asyncio.create_task(provider.read(refs[1]))  # asks while the first one is being given up
            return await second

        assert self.reads(simulator, work)[0].remote_id == refs[1].remote_id

    @pytest.mark.parametrize("switches", [{}, BY_UPDATE], ids=["by creation", "by update"])
    @pytest.mark.parametrize("backwards", [False, True], ids=["newest first", "oldest first"])
    def test_a_bulk_job_costs_a_thirtieth_of_a_read_and_one_write_per_item(self, switches: dict[str, str], backwards: bool) -> None:
        simulator = self.make(switches=switches)
        simulator.populate(600)
        found = self.using(simulator, self.walk)
        refs = [self.ref(sighting) for sighting in found.values()]
        if backwards:
            refs.reverse()
        simulator.log.clear()

        async def work(provider: Provider) -> None:
            waiting = iter(refs)

            async def one_after_the_other() -> None:
                for ref in waiting:
                    answer = await provider.write(await provider.read(ref), {"model": "qwen3-max"})
                    assert answer is not None and answer.model == "qwen3-max"

            await asyncio.gather(*(one_after_the_other() for _worker in range(3)))

        self.using(simulator, work)
        assert {stored["model"] for stored in simulator.truth().values()} == {"qwen3-max"}
        assert len(self.sent(simulator, "PUT")) == 600
        assert len(self.sent(simulator, "GET")) <= 600 / 30 * 1.1 + 2


class TestRecords(Case):
    """5.9, 4.2 and gotchas 11, 14 and 16."""

    def test_a_record_becomes_a_question_and_an_answer(self) -> None:
        simulator = self.make()
        page = self.using(simulator, lambda provider: provider.messages(Ref(simulator.long_id), limit=1000))
        assert [message.position for message in page.items[:4]] == [1, 2, 3, 4]
        first, second = page.items[:2]
        assert (first.role, second.role) == ("user", "assistant") and first.key != second.key
        created = datetime.strptime(simulator.truth()[simulator.long_id]["created"], "%Y-%m-%d %H:%M:%S") + timedelta(minutes=7)
        assert first.created_at is not None and first.created_at.astimezone(UTC).replace(tzinfo=None) == created - timedelta(hours=8)
        assert second.model == simulator.truth()[simulator.long_id]["model"] and second.tokens == 48
        assert page.items[6].images == ("https://img.example.com/a.png",) and page.items[6].files == ("https://files.example.com/b.pdf",)

    def test_an_answer_that_is_empty_is_left_out_and_its_place_stays_free(self) -> None:
        simulator = self.make()
        page = self.using(simulator, lambda provider: provider.messages(Ref(simulator.long_id), limit=1000))
        assert [message.position for message in page.items[7:11]] == [8, 9, 11, 12]

    def test_markers_and_answers_made_anew_are_told_apart(self) -> None:
        simulator = self.make(switches={"release": "3.4"})
        page = self.using(simulator, lambda provider: provider.messages(Ref(simulator.long_id), limit=1000))
        (marker,) = [message for message in page.items if message.role == "system"]
        assert marker.position == 41 and marker.text
        again = [message for message in page.items if message.position == 62]
        assert [message.text for message in again][1:] == ["另一个回答"] and again[1].model == "deepseek-chat"
        assert len({message.key for message in page.items}) == len(page.items)

    def test_gotcha_14_the_address_of_the_person_is_never_kept(self) -> None:
        simulator = self.make()
        page = self.using(simulator, lambda provider: provider.messages(Ref(simulator.long_id), limit=1000))
        assert "203.0.113.7" not in repr(page)

    def test_gotcha_11_the_first_message_is_the_oldest_question_and_markers_are_passed_over(self) -> None:
        simulator = self.make(switches={"release": "3.4"})
        simulator.written[int(simulator.long_id)][0] |= {"recordType": "context_clear", "userText": "清除上下文"}
        text = self.using(simulator, lambda provider: provider.first_message(Ref(simulator.long_id)))
        assert text is not None and text.endswith("(2)") and len(simulator.log) == 2

    def test_gotcha_11_a_title_that_nobody_chose_is_known(self) -> None:
        assert Aurod.is_untitled("新对话") and Aurod.is_untitled(" ") and not Aurod.is_untitled("新对话 2")

    def test_a_first_message_is_found_although_the_last_page_changes_meanwhile(self) -> None:
        simulator = self.make()
        simulator.populate(1, messages=40)
        (remote_id,) = simulator.truth()

        async def work(provider: Provider) -> str | None:
            ask, asked = provider._records, 0

            async def changing(given: str, page: int) -> Any:
                nonlocal asked
                answer = await ask(given, page)
                asked += 1
                if asked == 1:
                    simulator.add_record(remote_id, "new", "new")
                return answer

            provider._records = changing
            return await provider.first_message(Ref(remote_id))

        text = self.using(simulator, work)
        assert text is not None and text.endswith("(1)")

    def test_records_of_an_unknown_session(self) -> None:
        for form in AurodSimulator.SWITCHES["unknown_id"]:
            simulator = self.make(switches={"unknown_id": form})
            with pytest.raises(NotFound):
                self.using(simulator, lambda provider: provider.messages(Ref("1")))
            with pytest.raises(NotFound):
                self.using(simulator, lambda provider: provider.first_message(Ref("1")))

    @pytest.mark.parametrize("cursor", ["", "x", "[]", "{}", '{"go":"older"}', '{"go":"away","id":1,"place":1,"of":1}'])
    def test_a_cursor_that_is_none_is_refused(self, cursor: str) -> None:
        simulator = self.make()
        with pytest.raises(RequestRejected):
            self.using(simulator, lambda provider: provider.messages(Ref(simulator.long_id), cursor))

    def test_a_message_that_slides_over_the_page_boundary_is_not_lost(self) -> None:
        """Deleting a newer record moves the next older one onto the page that was read already."""
        simulator = self.make()
        simulator.populate(1, messages=80)
        (remote_id,) = simulator.truth()

        async def work(provider: Provider) -> tuple[list[RemoteMessage], list[RemoteMessage]]:
            newest = await provider.messages(Ref(remote_id), limit=20)
            simulator.remove_record(remote_id, 38)
            return list((await provider.messages(Ref(remote_id), newest.older, limit=20)).items), list(newest.items)

        older, newest = self.using(simulator, work)
        assert newest[0].text.endswith("(31)") and older[-2].text.endswith("(30)")

    @pytest.mark.parametrize("seed", range(12))
    def test_nothing_is_lost_or_shown_twice_while_messages_arrive_and_go(self, seed: int) -> None:
        """Reads backwards to the beginning and forwards again while records are added and deleted between the pages."""
        chance = random.Random(seed)
        simulator = self.make()
        simulator.populate(1, messages=2 * chance.choice([1, 19, 40, 67]))
        (remote_id,) = simulator.truth()
        ref, limit = Ref(remote_id), chance.choice([2, 6, 20, 50])

        def places() -> list[int]:
            return [record["id"] for record in simulator._held_records(int(remote_id))]

        def disturb() -> set[int]:
            before = set(places())
            for _time in range(chance.choice([0, 1, 1, 4, 13])):
                simulator.add_record(remote_id, "arrived", "arrived")
            if seed % 2 and len(places()) > 2 and chance.random() < 0.4:
                simulator.remove_record(remote_id, chance.randrange(1, len(places())))
            return before - set(places())

        async def work(provider: Provider) -> None:
            there, gone = set(places()), set[int]()
            page = await provider.messages(ref, limit=limit)
            back: list[RemoteMessage] = list(page.items)
            while page.older:
                gone |= disturb()
                page = await provider.messages(ref, page.older, limit=limit)
                back = [*page.items, *back]
            keys = [int(message.key.split(":")[0]) for message in back if message.role == "user"]
            assert keys == sorted(set(keys)) and there - gone <= set(keys)
            there, gone, forth = set(places()), set[int](), list(page.items)
            for _step in range(400):
                if page.newer is None:
                    break
                gone |= disturb() if len(forth) < 60 else set()
                page = await provider.messages(ref, page.newer, limit=limit)
                forth += page.items
            keys = [int(message.key.split(":")[0]) for message in forth if message.role == "user"]
            assert page.newer is None and keys == sorted(set(keys)) and set(places()) - {k for k in keys if k not in there} - set(keys) <= gone

        self.using(simulator, work)
