"""What every provider must do, written once; a provider joins with a subclass of ContractSuite in tests/providers/test_<key>.py.

    class TestAurod(ContractSuite):
        key = "aurod"
        other_model = "deepseek-reasoner"
        config_change = {"temperature": 0.3, "contextCount": 4}
        bad_config = {"temperature": 9}

The provider talks to its strict simulator over loopback HTTP through the product's own guarded client. Which tests apply follows from the
declared capabilities: what is offered is exercised, what is not must raise Unsupported and send nothing. Faults (kit.FAULTS) and switches
(the simulator's SWITCHES) are walked one by one. Where a provider's contract asks for another outcome than the usual one, its row says so in
`read_outcomes`, `write_outcomes` and `switch_outcomes`. A provider's own tests subclass ProviderCase, which has the helpers without the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from accounts.providers.base import Patience, Provider
from accounts.providers.errors import (
    CredentialsRejected,
    NotFound,
    ProviderError,
    RateLimited,
    Unsupported,
)
from accounts.providers.records import Identity, MessagePage, Ref, RemoteConversation, RemoteMessage
from accounts.providers.schema import Op, validate
from tests.providers.case import CARRIED_OUT, GIVES_UP_AFTER, ONCE, READ_OUTCOMES, TITLES, WRITE_OUTCOMES, Outcome, ProviderCase, T


class ContractSuite(ProviderCase):
    """The shared tests; a subclass named Test… is a provider's row."""

    # --- declarations -----------------------------------------------------------------------------------------------------------------------

    def test_every_operation_is_declared_and_every_missing_one_says_why(self) -> None:
        for op in Op:
            assert op in self.kind.capabilities, op
            assert self.offers(op) or self.kind.capability(op).reason, op
        for op in self.writes_offered():
            assert self.change_for(op, RemoteConversation("1", "x", values={"model": "x"})), f"the row declares nothing to write for {op}"
        assert any(not setting.read_only for setting in self.kind.config_fields) == self.offers(Op.EDIT_CONFIG)

    def test_the_simulators_own_credential_is_complete_and_clean(self) -> None:
        given = self.make().credential()
        assert set(given) <= {field.name for field in self.kind.credential_fields}
        assert self.kind.check_credentials(self.kind.clean_credentials(given)) == {}
        assert self.kind.check_credentials({}) != {}

    def test_settings_out_of_range_are_refused_before_anything_is_sent(self) -> None:
        self.needs(Op.EDIT_CONFIG)
        clean, errors = validate(self.kind.config_fields, dict(self.config_change))
        assert clean == self.config_change and not errors
        assert self.bad_config and validate(self.kind.config_fields, dict(self.bad_config))[1].keys() == self.bad_config.keys()

    def test_titles_are_limited_as_the_contract_says(self) -> None:
        self.needs(Op.RENAME)
        limit = self.kind.title_field.max_length
        assert limit is not None and self.kind.title_field.parse("字" * limit) == "字" * limit
        with pytest.raises(ValueError):
            self.kind.title_field.parse("字" * (limit + 1))

    # --- credentials --------------------------------------------------------------------------------------------------------------------------

    def test_check_tells_who_the_credential_belongs_to(self) -> None:
        async def twice(provider: Provider) -> tuple[Identity, Identity]:
            return await provider.check(), await provider.check()

        first, second = self.using(self.make(), twice)
        assert isinstance(first, Identity) and first == second

    def test_a_wrong_credential_is_rejected(self) -> None:
        simulator = self.make()
        with pytest.raises(CredentialsRejected):
            self.using(simulator, lambda provider: provider.check(), credentials=self.wrong_credentials(simulator))

    def test_an_expired_credential_is_rejected_on_every_call_and_nothing_changes(self) -> None:
        simulator = self.make()
        before = simulator.truth()

        async def work(provider: Provider) -> None:
            simulator.add_fault("expired", times=10_000)
            with pytest.raises(CredentialsRejected):
                await provider.check()
            with pytest.raises(CredentialsRejected):
                await self.walk(provider)

        self.using(simulator, work)
        assert simulator.truth() == before

    # --- listing --------------------------------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_a_short_list_is_complete(self, count: int) -> None:
        simulator = self.make()
        simulator.populate(count)
        found = self.using(simulator, self.walk)
        assert set(found) == set(simulator.truth())

    def test_a_list_of_several_pages_is_complete_and_tells_what_is_stored(self) -> None:
        simulator = self.make()
        simulator.populate(self.several_pages)
        found = self.using(simulator, self.walk)
        assert set(found) == set(simulator.truth()) and len(found) == self.several_pages
        for remote_id, (_rank, item) in found.items():
            if not item.thin:
                self.same_as_stored(item, self.truth_of(simulator, remote_id))
            assert item.title == simulator.truth()[remote_id]["title"]

    def test_a_list_is_complete_while_rows_are_renamed_upstream(self, order: Mapping[str, str]) -> None:
        simulator = self.make(switches=dict(order))
        simulator.populate(self.several_pages)
        ids = list(simulator.truth())

        def rename(pages: int) -> None:
            # One from either end and one from the middle: whichever way the list runs, some are still to come.
            for place in (pages % len(ids), -1 - pages % len(ids), (len(ids) // 2 + 7 * pages) % len(ids)):
                simulator.change_by_somebody(ids[place], title=f"renamed {pages}")

        found = self.using(simulator, lambda provider: self.walk(provider, rename))
        assert set(found) == set(ids)

    def test_the_demos_own_conversations_are_listed(self) -> None:
        simulator = self.make()
        found = self.using(simulator, self.walk)
        assert found and set(found) <= set(simulator.truth())

    def test_search_finds_by_title(self) -> None:
        self.needs(Op.SEARCH)
        simulator = self.make()
        simulator.populate(self.several_pages)
        wanted = list(simulator.truth())[self.several_pages // 2]
        simulator.change_by_somebody(wanted, title="寻找这一个")
        page = self.using(simulator, lambda provider: provider.search("寻找这一个"))
        assert [item.remote_id for item in page.items] == [wanted]

    # --- reading --------------------------------------------------------------------------------------------------------------------------------

    def test_reading_one_tells_what_is_stored(self) -> None:
        self.needs(Op.READ)
        simulator = self.make()
        simulator.populate(self.several_pages)

        async def work(provider: Provider) -> list[RemoteConversation]:
            found = list((await self.walk(provider)).values())
            return [await provider.read(self.ref(found[place]), fresh=True) for place in (0, len(found) // 2, -1)]

        for item in self.using(simulator, work):
            self.same_as_stored(item, self.truth_of(simulator, item.remote_id))

    def test_reading_works_without_any_hint_where_it_is(self) -> None:
        self.needs(Op.READ)
        simulator = self.make()
        simulator.populate(self.several_pages)
        wanted = list(simulator.truth())[3]
        item = self.using(simulator, lambda provider: provider.read(Ref(wanted)))
        self.same_as_stored(item, self.truth_of(simulator, wanted))

    def test_a_fresh_read_sees_what_somebody_changed_a_moment_ago(self) -> None:
        self.needs(Op.READ)
        simulator = self.make()
        simulator.populate(7)

        async def work(provider: Provider) -> RemoteConversation:
            ref = self.ref((await self.walk(provider))[self.writable(simulator)])
            await provider.read(ref)
            simulator.change_by_somebody(ref.remote_id, title="changed by somebody")
            return await provider.read(ref, fresh=True)

        assert self.using(simulator, work).title == "changed by somebody"

    def test_an_unknown_conversation_is_not_found(self) -> None:
        self.needs(Op.READ)
        simulator = self.make()
        simulator.populate(7)
        with pytest.raises(NotFound):
            self.using(simulator, lambda provider: provider.read(Ref(self.unknown_id)))

    def test_a_conversation_deleted_upstream_is_not_found(self) -> None:
        self.needs(Op.READ)
        simulator = self.make()
        simulator.populate(7)

        async def work(provider: Provider) -> None:
            ref = self.ref((await self.walk(provider))[self.writable(simulator)])
            simulator.remove_by_somebody(ref.remote_id)
            await provider.read(ref, fresh=True)

        with pytest.raises(NotFound):
            self.using(simulator, work)

    # --- messages -------------------------------------------------------------------------------------------------------------------------------

    def test_messages_page_both_ways_without_loss_or_repeat(self) -> None:
        self.needs(Op.MESSAGES)
        simulator = self.make()
        simulator.populate(2, messages=self.many_messages)

        async def work(provider: Provider) -> tuple[list[RemoteMessage], list[RemoteMessage], str | None]:
            ref = self.ref(next(iter((await self.walk(provider)).values())))
            first = await provider.first_message(ref) if self.offers(Op.FIRST_MESSAGE) else None
            return *await self.all_messages(provider, ref, self.page_limit), first

        back, forth, first = self.using(simulator, work)
        assert len(back) == self.many_messages
        assert [message.key for message in back] == [message.key for message in forth]
        assert len({message.key for message in back}) == len(back)
        told = [message.position for message in back if message.position is not None]
        assert told == sorted(told) and all(place > 0 for place in told)
        assert {message.role for message in back} <= {"user", "assistant", "system", "tool"}
        if self.offers(Op.FIRST_MESSAGE):
            assert first == next(message.text for message in back if message.role == "user")

    def test_a_conversation_without_messages_is_empty(self) -> None:
        self.needs(Op.MESSAGES)
        simulator = self.make()
        simulator.populate(1, messages=0)

        async def work(provider: Provider) -> tuple[MessagePage, str | None]:
            ref = self.ref(next(iter((await self.walk(provider)).values())))
            return await provider.messages(ref), await provider.first_message(ref) if self.offers(Op.FIRST_MESSAGE) else None

        page, first = self.using(simulator, work)
        assert page.items == () and page.older is None and page.newer is None and first is None

    # --- models ---------------------------------------------------------------------------------------------------------------------------------

    def test_models_come_without_repeats(self) -> None:
        self.needs(Op.MODELS)
        models = self.using(self.make(), lambda provider: provider.list_models())
        ids = [model.id for model in models]
        assert ids and len(ids) == len(set(ids)) and all(model.name for model in models)
        assert self.other_model is None or self.other_model in ids

    # --- writing --------------------------------------------------------------------------------------------------------------------------------

    def write_and_compare(self, changes_for: Callable[[RemoteConversation], dict[str, Any]]) -> None:
        """Writes once and asserts: one write arrived, exactly the touched fields differ, answer and fresh read both tell what is stored."""
        simulator = self.make()

        async def work(provider: Provider) -> None:
            current = await self.current(provider, simulator)
            changes = changes_for(current)
            assert all(current.values[name] != value for name, value in changes.items()), "a write that would change nothing shows nothing"
            before, others = self.truth_of(simulator, current.remote_id), simulator.truth()
            sent = len(simulator.writes())
            answer = await provider.write(current, changes)
            assert len(simulator.writes()) == sent + 1
            after = self.truth_of(simulator, current.remote_id)
            expected = {name: self.kind.stored_form(name, value) for name, value in changes.items()}
            assert after == before | expected
            assert {key for key, stored in simulator.truth().items() if stored != others[key]} == {current.remote_id}
            read = await provider.read(Ref(current.remote_id, current.title), fresh=True)
            for told in (read, answer):
                if told is not None:
                    self.same_as_stored(told, after)
                    assert {name: told.values[name] for name in changes} == expected
            assert provider.vanished(current, read, changes) == ()

        self.using(simulator, work)

    def test_switching_the_model_changes_nothing_else(self) -> None:
        self.needs(Op.SWITCH_MODEL)
        self.write_and_compare(lambda current: self.change_for(Op.SWITCH_MODEL, current))

    @pytest.mark.parametrize("title", [*TITLES, "the longest"])
    def test_renaming_changes_nothing_else(self, title: str) -> None:
        self.needs(Op.RENAME)
        limit = self.kind.title_field.max_length or 50
        self.write_and_compare(lambda current: {"title": "长" * limit if title == "the longest" else title})

    def test_editing_settings_changes_nothing_else(self) -> None:
        self.needs(Op.EDIT_CONFIG)
        self.write_and_compare(lambda current: self.change_for(Op.EDIT_CONFIG, current))

    def test_the_providers_own_title_is_stored(self) -> None:
        self.needs(Op.GENERATE_TITLE)
        simulator = self.make()

        async def work(provider: Provider) -> None:
            current = await self.current(provider, simulator)
            sent = len(simulator.writes())
            made = await provider.generate_title(current, "How do I sort a list in Python?")
            assert made.title == simulator.truth()[current.remote_id]["title"] and made.title
            assert len(simulator.writes()) == sent + 1

        self.using(simulator, work)

    def test_what_is_not_offered_raises_unsupported_and_sends_nothing(self) -> None:
        simulator = self.make()

        async def work(provider: Provider) -> None:
            found = next(iter((await self.walk(provider)).values()))
            ref, item = self.ref(found), found[1]
            calls: dict[Op, Callable[[], Awaitable[Any]]] = {
                Op.CHECK: provider.check,
                Op.LIST: provider.list_conversations,
                Op.SEARCH: lambda: provider.search("x"),
                Op.READ: lambda: provider.read(ref, fresh=True),
                Op.MESSAGES: lambda: provider.messages(ref),
                Op.FIRST_MESSAGE: lambda: provider.first_message(ref),
                Op.MODELS: provider.list_models,
                Op.SWITCH_MODEL: lambda: provider.write(item, {"model": "another"}),
                Op.RENAME: lambda: provider.write(item, {"title": "another"}),
                Op.EDIT_CONFIG: lambda: provider.write(item, {"setting": 1}),
                Op.GENERATE_TITLE: lambda: provider.generate_title(item, "hello"),
            }
            for op in (op for op in Op if not self.offers(op)):
                sent = len(simulator.log)
                with pytest.raises(Unsupported) as refused:
                    await calls[op]()
                assert len(simulator.log) == sent, op
                assert str(refused.value)

        self.using(simulator, work)

    # --- faults ---------------------------------------------------------------------------------------------------------------------------------

    def outcome(self, error: ProviderError | None) -> Outcome:
        """Returns how an operation ended, for a comparison that names both classes when it fails."""
        return type(error) if error is not None else None

    async def attempt(self, work: Awaitable[Any]) -> ProviderError | None:
        """Awaits one operation; returns its ProviderError, or None."""
        try:
            await work
        except ProviderError as error:
            return error
        return None

    def test_a_failing_read_has_the_promised_error(self, read_fault: str) -> None:
        simulator = self.make()

        async def work(provider: Provider) -> ProviderError | None:
            provider.read_timeout = GIVES_UP_AFTER  # type: ignore[misc]
            simulator.add_fault(read_fault, seconds=2 * GIVES_UP_AFTER)
            return await self.attempt(provider.list_conversations())

        error = self.using(simulator, work, patience=ONCE)
        assert self.outcome(error) == ({**READ_OUTCOMES, **self.read_outcomes})[read_fault]

    def test_a_failing_read_is_repeated_when_that_can_help(self, read_fault: str) -> None:
        promised = ({**READ_OUTCOMES, **self.read_outcomes})[read_fault]
        if promised is None or not promised.retryable:
            pytest.skip("not repeated")
        simulator = self.make()

        async def work(provider: Provider) -> ProviderError | None:
            provider.read_timeout = GIVES_UP_AFTER  # type: ignore[misc]
            simulator.add_fault(read_fault, seconds=2 * GIVES_UP_AFTER)
            return await self.attempt(provider.list_conversations())

        assert self.using(simulator, work) is None

    def test_a_failing_write_has_the_promised_error_and_is_never_sent_twice(self, write_fault: str) -> None:
        ops = self.writes_offered()
        if not ops:
            pytest.skip("nothing can be written here")
        simulator = self.make()

        async def work(url: str) -> tuple[ProviderError | None, int]:
            async with self.provider(simulator, url) as provider:
                current = await self.current(provider, simulator)
                changes = self.change_for(ops[0], current)
                sent = len(simulator.writes())
                provider.read_timeout = GIVES_UP_AFTER  # type: ignore[misc]
                simulator.add_fault(write_fault, writes_only=True, seconds=2 * GIVES_UP_AFTER)
                error = await self.attempt(provider.write(current, changes))
            arrived = simulator.writes()[sent:]
            if write_fault == "slow":
                for _tick in range(200):  # carried out after we gave up
                    if any(call.changed for call in arrived):
                        break
                    await asyncio.sleep(0.02)
            async with self.provider(simulator, url) as provider:  # another object: this one knows nothing of the write
                read = await provider.read(Ref(current.remote_id, current.title), fresh=True)
            wanted = {name: self.kind.stored_form(name, value) for name, value in changes.items()}
            told = {name: read.values[name] for name in changes}
            assert told == (wanted if write_fault in CARRIED_OUT else {name: current.values[name] for name in changes})
            assert sum(call.changed for call in arrived) == (1 if write_fault in CARRIED_OUT else 0)
            return error, len(arrived)

        with self.served(simulator) as url:
            error, arrived = self.run(work(url))
        assert self.outcome(error) == ({**WRITE_OUTCOMES, **self.write_outcomes})[write_fault]
        assert arrived == (2 if write_fault == "throttle" else 1)

    def test_a_provider_that_only_throttles_is_told_as_such(self) -> None:
        simulator = self.make()

        async def work(provider: Provider) -> ProviderError | None:
            simulator.add_fault("throttle", times=10_000)
            return await self.attempt(provider.list_conversations())

        error = self.using(simulator, work, patience=Patience(attempts=2, seconds=3.0))
        assert isinstance(error, RateLimited) and error.retry_after is not None

    def test_no_error_and_no_object_shows_a_secret(self) -> None:
        simulator = self.make()
        given = self.kind.clean_credentials(simulator.credential())
        secrets = [given[field.name] for field in self.kind.credential_fields if field.secret and field.name in given]
        shown: list[str] = []

        async def work(provider: Provider) -> None:
            shown.extend([repr(provider), str(provider.__dict__), repr(await provider.check())])
            for fault in READ_OUTCOMES:
                provider.read_timeout = GIVES_UP_AFTER  # type: ignore[misc]
                simulator.add_fault(fault, seconds=2 * GIVES_UP_AFTER)
                error: BaseException | None = await self.attempt(provider.list_conversations())
                while error is not None:
                    shown.extend([str(error), repr(error), str(error.__dict__)])
                    error = error.__cause__ or error.__context__

        self.using(simulator, work, patience=ONCE)
        assert secrets and shown
        for secret in secrets:
            for part in (secret, secret[:20], secret[-20:]):
                assert not any(part in text for text in shown)

    # --- switches -------------------------------------------------------------------------------------------------------------------------------

    def test_every_answer_to_an_open_question_is_survived(self, switch: tuple[str, str]) -> None:
        name, answer = switch
        simulator = self.make(switches={} if name == "none" else {name: answer})
        simulator.populate(self.several_pages, messages=self.page_limit + 6)
        expected = self.switch_outcomes.get(switch, {})

        async def step(what: str, work: Awaitable[T]) -> T | None:
            if what not in expected:
                return await work
            with pytest.raises(expected[what]):
                await work
            return None

        async def work(provider: Provider) -> None:
            if self.offers(Op.CHECK):
                await step("check", provider.check())
            found = await step("list", self.walk(provider))
            if found is None:
                return
            assert set(found) == set(simulator.truth())
            wanted = self.writable(simulator)
            ref = self.ref(found[wanted])
            if self.offers(Op.MODELS):
                await step("models", provider.list_models())
            if self.offers(Op.MESSAGES) and (gathered := await step("messages", self.all_messages(provider, ref, self.page_limit))):
                back, forth = gathered
                assert len(back) == self.page_limit + 6
                assert [message.key for message in back] == [message.key for message in forth]
            if self.offers(Op.READ):
                item = await step("read", provider.read(ref, fresh=True))
                if item is None:
                    return
                self.same_as_stored(item, self.truth_of(simulator, wanted))
                with pytest.raises(NotFound):
                    await provider.read(Ref(self.unknown_id), fresh=True)
            for op in self.writes_offered():
                current = await provider.read(Ref(wanted, ref.title, ref.rank), fresh=True)
                changes = self.change_for(op, current)
                before = self.truth_of(simulator, wanted)
                await step(str(op), provider.write(current, changes))
                after = {} if str(op) in expected else {key: self.kind.stored_form(key, value) for key, value in changes.items()}
                assert self.truth_of(simulator, wanted) == before | after, op
                read = await provider.read(Ref(wanted, ref.title, ref.rank), fresh=True)
                self.same_as_stored(read, self.truth_of(simulator, wanted))
                assert provider.vanished(current, read, changes) == ()

        self.using(simulator, work)

    def test_every_answer_is_survived_with_a_wrong_credential_and_when_throttled(self, switch: tuple[str, str]) -> None:
        name, answer = switch
        simulator = self.make(switches={} if name == "none" else {name: answer})

        async def throttled(provider: Provider) -> ProviderError | None:
            simulator.add_fault("throttle")
            return await self.attempt(provider.list_conversations())

        async def rejected(url: str) -> None:
            async with self.provider(simulator, url, credentials=self.wrong_credentials(simulator)) as provider:
                with pytest.raises(CredentialsRejected):
                    await provider.list_conversations()
            async with self.provider(simulator, url) as provider:
                if "list" not in self.switch_outcomes.get(switch, {}):
                    assert await throttled(provider) is None

        with self.served(simulator) as url:
            self.run(rejected(url))
