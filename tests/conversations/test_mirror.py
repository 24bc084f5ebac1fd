"""Our copy while others write, with data that nobody would type, and when the account changes under a reading."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
import redis
from django.db import connection
from django.utils import timezone as clock

from accounts import services
from accounts.models import Account, SyncState
from accounts.providers.records import RemoteConversation
from conversations import claims, edits, mirror, tasks
from conversations.models import AuditEntry, Conversation
from conversations.states import ItemStatus as S

from .support import row, synced

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account(connected) -> Account:
    """An account at a ModelRouter with 20 conversations, read."""
    return synced(connected("modelrouter", populate=20, rate_limit=0)[1])


def remote(remote_id: str, **values) -> RemoteConversation:
    title = values.pop("title", f"title {remote_id}")
    return RemoteConversation(remote_id, title, values={"title": title, **values.pop("values", {})}, **values)


def in_background(function, *arguments) -> threading.Thread:
    def run():
        try:
            function(*arguments)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


# --- who comes late ---------------------------------------------------------------------------------------------------------------------


def test_a_page_that_was_asked_for_before_our_write_does_not_undo_it_in_our_copy(connected, alice, monkeypatch):
    _simulator, account = connected("aurod", populate=20)
    synced(account)
    conversation = row(account, account.conversations.first().remote_id)
    upsert = mirror.upsert

    def written_meanwhile(at, found, **how):
        if how.get("started"):
            monkeypatch.setattr(mirror, "upsert", upsert)
            assert edits.edit_now(alice, conversation, {"title": "written meanwhile"}).status == S.APPLIED
        return upsert(at, found, **how)

    monkeypatch.setattr(mirror, "upsert", written_meanwhile)
    mirror.sync(account)
    conversation.refresh_from_db()
    assert conversation.title == "written meanwhile" and conversation.changed_upstream_at is None
    assert mirror.sync(account).changed == 0


def test_a_reading_from_before_the_end_does_not_bring_a_conversation_back(account):
    conversation = account.conversations.first()
    asked = clock.now()
    mirror.note_gone(conversation)
    mirror.upsert(account, [remote(conversation.remote_id)], as_of=asked)
    conversation.refresh_from_db()
    assert conversation.gone_at is not None and account.conversations.count() == 20
    mirror.upsert(account, [remote(conversation.remote_id, title=conversation.title)], as_of=clock.now())
    conversation.refresh_from_db()
    assert conversation.gone_at is None


def test_a_clock_that_was_ahead_does_not_close_a_row_for_good(account):
    conversation = account.conversations.first()
    account.conversations.update(seen_at=clock.now() + timedelta(hours=3))
    mirror.upsert(account, [remote(conversation.remote_id, title="from now")])
    conversation.refresh_from_db()
    assert conversation.title == "from now" and conversation.seen_at <= clock.now()


def test_writers_of_the_same_rows_do_not_wait_for_each_other_in_a_circle(account):
    found = [remote(f"new-{number}") for number in range(300)]
    failed: list[BaseException] = []

    def write(order: list[RemoteConversation]) -> None:
        try:
            for turn in range(8):
                mirror.upsert(account, [remote(one.remote_id, title=f"turn {turn}") for one in order], as_of=clock.now())
        except BaseException as error:
            failed.append(error)

    threads = [in_background(write, order) for order in (found, found[::-1], found[150:] + found[:150])]
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert account.conversations.filter(title="turn 7").count() == 300


# --- what providers send ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [("cut \ud83d", "cut \ufffd"), ("nul \0 inside", "nul \ufffd inside"), ("joined \ud83d\ude00", "joined 😀"), ("家 😀 é", "家 😀 é")],
)
def test_text_that_no_database_takes_is_stored_readably(account, given, stored):
    mirror.upsert(account, [remote("900", title=given, first_message=given, group=given, details={"a": given}, values={"prompt": given})])
    found = row(account, "900")
    assert (found.title, found.first_message, found.group, found.details, found.config) == (stored, stored, stored, {"a": stored}, {"prompt": stored})
    mirror.upsert(account, [remote("900", title=given, first_message=given, values={"prompt": given})])
    assert row(account, "900").changed_upstream_at is None


def test_numbers_and_times_that_mean_nothing_are_not_told(account):
    never = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=8)))
    odd = remote("901", model="m" * 300, message_count=-1, created_at=never, updated_at=never, values={"temperature": float("nan")})
    mirror.upsert(account, [odd, remote("902", message_count=2**40, updated_at=datetime(9999, 12, 31, 23, tzinfo=UTC))])
    found = row(account, "901")
    assert (found.message_count, found.created_at, found.updated_at, found.config) == (None, None, None, {"temperature": None})
    assert found.model == "m" * 200 and row(account, "902").updated_at is None


def test_a_row_that_comes_twice_in_one_batch_is_written_once(account):
    mirror.upsert(account, [remote("903", title="first"), remote("903", title="second")])
    assert row(account, "903").title == "second"


def test_a_title_with_half_an_emoji_can_be_switched_and_renamed(connected, alice):
    simulator, account = connected("modelrouter", populate=5, rate_limit=0)
    remote_id = sorted(simulator.truth())[0]
    simulator.change_by_somebody(remote_id, title="cut \ud83d")
    synced(account)
    conversation = row(account, remote_id)
    assert conversation.title == "cut \ufffd"
    other = account.catalogue.exclude(model_id=conversation.model).first().model_id
    assert edits.edit_now(alice, conversation, {"model": other}).status == S.APPLIED
    assert simulator.truth()[remote_id]["title"] == "cut \ud83d"  # carried over as it was
    conversation.refresh_from_db()
    assert edits.edit_now(alice, conversation, {"title": "whole"}).status == S.APPLIED
    assert AuditEntry.objects.first().before == {"title": "cut \ufffd"}


def test_a_listing_may_hold_more_rows_than_a_statement_takes_variables(account):
    counts = mirror.upsert(account, [remote(f"row-{number}") for number in range(40_000)])
    assert counts.new == 40_000


# --- the reading and its account ------------------------------------------------------------------------------------------------------------


def test_a_reading_that_is_taken_up_again_goes_on_counting(connected):
    _simulator, account = connected("aurod", populate=100)
    assert mirror.sync(account, slice_seconds=0) is None
    Account.objects.filter(pk=account.pk).update(sync_state=SyncState.FAILED)  # as after a killed worker
    assert mirror.request_sync(account)
    mirror.sync(account)
    ranks = dict(account.conversations.values_list("remote_id", "rank"))
    assert sorted(ranks.values()) == list(range(100))
    mirror.sync(account)  # in one go
    assert dict(account.conversations.values_list("remote_id", "rank")) == ranks


def test_an_account_that_was_paused_just_now_is_not_read(connected):
    simulator, account = connected("aurod", populate=10)
    Account.objects.filter(pk=account.pk).update(paused_at=clock.now())
    simulator.log.clear()
    assert not mirror.request_sync(account)
    with pytest.raises(mirror.SyncStopped):
        mirror.sync(account)
    assert simulator.log == [] and not account.conversations.exists()


def test_an_account_that_is_deleted_while_it_is_read_ends_the_reading_quietly(connected, monkeypatch):
    _simulator, account = connected("aurod", populate=100)
    upsert = mirror.upsert

    def and_delete(at, found, **how):
        services.delete_account(Account.objects.get(pk=account.pk))
        return upsert(at, found, **how)

    monkeypatch.setattr(mirror, "upsert", and_delete)
    with pytest.raises(mirror.SyncStopped):
        mirror.sync(account)
    assert not Conversation.objects.exists()


def test_an_account_can_be_deleted_at_any_moment_of_its_reading(connected):
    failed: list[BaseException] = []

    def read(account: Account) -> None:
        try:
            mirror.sync(account)
        except (mirror.SyncStopped, mirror.SyncBusy):
            return
        except BaseException as error:
            failed.append(error)

    for rows in (1, 60, 150):
        _simulator, account = connected("modelrouter", populate=400, rate_limit=0)
        reading = in_background(read, account)
        while account.conversations.count() < rows:
            reading.join(0.005)
        services.delete_account(Account.objects.get(pk=account.pk))
        reading.join(20)
    assert failed == [] and not Conversation.objects.exists()


def test_an_error_of_ours_is_said_on_the_account(connected, monkeypatch):
    _simulator, account = connected("aurod", populate=10)
    monkeypatch.setattr(mirror, "_known", lambda _account: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mirror.sync(account)
    account.refresh_from_db()
    assert account.sync_state == SyncState.FAILED and mirror.BROKEN in account.sync_progress["error"]
    assert account.sync_holder == ""


def test_a_second_message_for_a_reading_that_is_done_reads_nothing(connected):
    simulator, account = connected("aurod", populate=10)
    assert mirror.request_sync(account)
    tasks.sync(str(account.pk))
    account.refresh_from_db()
    assert account.sync_state == SyncState.DONE
    simulator.log.clear()
    tasks.sync(str(account.pk))
    assert simulator.log == []


def test_a_reading_whose_credential_was_replaced_meanwhile_says_nothing_about_the_new_one(connected, monkeypatch):
    simulator, account = connected("aurod", populate=10)
    stale = Account.objects.get(pk=account.pk)
    document = simulator.credential()
    services.replace_credentials(account, document, report=services.test_credentials(account.provider_key, account.base_url, document))
    simulator.add_fault("expired", times=99)
    with pytest.raises(services.CredentialsRejected):
        services.call(stale, lambda provider: provider.check())
    account.refresh_from_db()
    assert account.health == "ok"


# --- a click ----------------------------------------------------------------------------------------------------------------------------------


def test_a_conversation_that_vanishes_between_read_and_write_is_marked_gone(connected, alice):
    simulator, account = connected("modelrouter", populate=5, rate_limit=0)
    synced(account)
    conversation = account.conversations.first()
    provider = services.get_provider("modelrouter")
    write = provider.write

    async def too_late(self, current, changes):
        simulator.remove_by_somebody(current.remote_id)
        return await write(self, current, changes)

    provider.write = too_late
    try:
        outcome = edits.edit_now(alice, conversation, {"title": "too late"})
    finally:
        provider.write = write
    assert (outcome.status, outcome.reason) == (S.SKIPPED, "gone")
    conversation.refresh_from_db()
    assert conversation.gone_at is not None


def test_an_error_of_ours_after_the_write_of_a_click_is_called_unknown_and_recorded(connected, alice, monkeypatch):
    simulator, account = connected("modelrouter", populate=3, rate_limit=0)
    conversation = synced(account).conversations.first()
    provider = services.get_provider("modelrouter")
    write = provider.write

    async def broken(self, current, changes):
        await write(self, current, changes)
        raise KeyError("an answer that nobody expected")

    monkeypatch.setattr(provider, "write", broken)
    outcome = edits.edit_now(alice, conversation, {"title": "written"})
    assert (outcome.status, outcome.reason) == (S.FAILED, "outcome_unknown")
    entry = AuditEntry.objects.get()
    assert (entry.reason, entry.before) == ("outcome_unknown", {"title": conversation.title})
    assert simulator.truth()[conversation.remote_id]["title"] == "written"


def test_a_click_at_a_paused_account_sends_nothing(connected, alice):
    simulator, account = connected("modelrouter", populate=3, rate_limit=0)
    conversation = synced(account).conversations.first()
    simulator.log.clear()
    services.pause_account(Account.objects.get(pk=account.pk))
    outcome = edits.edit_now(alice, conversation, {"title": "never"})
    assert (outcome.status, outcome.reason) == (S.FAILED, "paused") and simulator.log == []


def test_a_new_credential_keeps_what_was_learned_meanwhile(connected):
    simulator, account = connected("modelrouter", populate=1)
    stale = Account.objects.get(pk=account.pk)
    services.learn(account, {"answers_lie": True})
    services.replace_credentials(stale, simulator.credential())
    assert Account.objects.get(pk=account.pk).memory["answers_lie"] is True


def test_without_redis_a_click_changes_nothing_and_says_so(account, alice, monkeypatch):
    def away(*_arguments):
        raise redis.ConnectionError("no Redis")

    monkeypatch.setattr(claims, "take", away)
    outcome = edits.edit_now(alice, account.conversations.first(), {"title": "never"})
    assert (outcome.status, outcome.reason) == (S.FAILED, "unavailable") and "Redis" in str(outcome.error)


def test_a_click_waits_for_another_one_and_then_says_that_it_is_busy(account, alice, monkeypatch):
    conversation = account.conversations.first()
    monkeypatch.setattr(claims.time, "sleep", lambda _seconds: None)
    with claims.claim(account.upstream_identity, [conversation.remote_id], holder="another") as mine:
        assert mine
        assert edits.edit_now(alice, conversation, {"title": "never"}).reason == "busy"
    assert edits.edit_now(alice, conversation, {"title": "then"}).status == S.APPLIED
