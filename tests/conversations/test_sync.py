"""Reading an account: every conversation exactly once, whatever moves meanwhile, and nothing dropped on one bad answer."""

from __future__ import annotations

import pytest
from django.db import connection

from accounts.models import Account, SyncState
from accounts.providers.errors import CredentialsRejected, ProviderUnavailable
from conversations import listing, mirror
from conversations.models import Conversation

from .support import row, synced


def titles(account: Account) -> dict[str, str]:
    return dict(account.conversations.present().values_list("remote_id", "title"))


def truth(simulator) -> dict[str, str]:
    return {remote_id: values["title"] for remote_id, values in simulator.truth().items()}


@pytest.mark.parametrize("key", ["aurod", "modelrouter", "nuwax", "chongzhiling"])
def test_a_listing_is_mirrored_completely(connected, key):
    simulator, account = connected(key, populate=230)
    progress = mirror.sync(account)
    assert titles(account) == truth(simulator)
    assert (progress.listed, progress.new, progress.changed, progress.gone) == (230, 230, 0, 0)
    account.refresh_from_db()
    assert account.sync_state == SyncState.DONE and account.health == "ok" and account.synced_at is not None


def test_a_second_reading_says_what_changed_and_what_is_gone(connected):
    simulator, account = connected("aurod", populate=100)
    synced(account)
    ids = sorted(simulator.truth())
    simulator.change_by_somebody(ids[3], title="changed by its owner")
    simulator.remove_by_somebody(ids[50])
    progress = mirror.sync(account)
    assert (progress.new, progress.changed, progress.gone) == (0, 1, 1)
    assert row(account, ids[3]).title == "changed by its owner"
    assert row(account, ids[3]).changed_upstream_at is not None
    assert Conversation.objects.get(account=account, remote_id=ids[50]).gone_at is not None
    assert titles(account) == truth(simulator)


def test_an_empty_answer_drops_nothing(connected):
    simulator, account = connected("modelrouter", populate=30)
    synced(account)
    kept = simulator.truth()
    simulator.populate(0)
    assert simulator.truth() == {} and kept
    mirror.sync(account)
    assert account.conversations.present().count() == 30


def test_one_bad_page_keeps_the_rows_and_names_the_cause(connected, monkeypatch):
    simulator, account = connected("aurod", populate=100)
    synced(account)
    monkeypatch.setattr(mirror.services, "BACKGROUND", mirror.services.Patience(attempts=1, seconds=1))
    monkeypatch.setitem(mirror.services.line.__wrapped__.__kwdefaults__, "patience", mirror.services.Patience(attempts=1, seconds=1))
    simulator.add_fault("error", path="/session", times=99)
    with pytest.raises(ProviderUnavailable):
        mirror.sync(account)
    account.refresh_from_db()
    assert account.sync_state == SyncState.FAILED and account.health == "unreachable" and "500" in account.cause_detail
    assert account.conversations.present().count() == 100


def test_a_dead_credential_is_noted(connected):
    simulator, account = connected("aurod", populate=10)
    simulator.add_fault("expired", times=99)
    with pytest.raises(CredentialsRejected):
        mirror.sync(account)
    account.refresh_from_db()
    assert account.health == "needs_reauth" and account.needs_attention


def test_a_reading_stops_when_asked_and_goes_on_from_its_place(connected):
    _simulator, account = connected("aurod", populate=200)
    assert mirror.sync(account, slice_seconds=0) is None
    account.refresh_from_db()
    assert account.sync_state == SyncState.QUEUED and account.sync_cursor
    assert 0 < account.conversations.count() < 200
    assert mirror.sync(account).listed == 200
    assert account.conversations.count() == 200


def test_a_cancelled_reading_keeps_what_it_read(connected):
    _simulator, account = connected("aurod", populate=200)
    upsert = mirror.upsert

    def and_cancel(*args, **kwargs):
        Account.objects.filter(pk=account.pk).update(sync_cancel=True)
        return upsert(*args, **kwargs)

    mirror.upsert = and_cancel
    try:
        with pytest.raises(mirror.SyncStopped):
            mirror.sync(account)
    finally:
        mirror.upsert = upsert
    account.refresh_from_db()
    assert account.sync_state == SyncState.CANCELLED and account.conversations.count() == 30


def test_only_one_process_reads_an_account(connected):
    _simulator, account = connected("aurod", populate=10)
    Account.objects.filter(pk=account.pk).update(sync_holder="somebody", sync_lease_until=mirror.timezone.now() + mirror.LEASE)
    with pytest.raises(mirror.SyncBusy):
        mirror.sync(account)


def test_chatnio_reaches_every_older_conversation_and_asks_each_only_once(connected):
    simulator, account = connected("chatnio", populate=250)
    simulator.limit_scale = 1000
    progress = mirror.sync(account)
    assert titles(account) == truth(simulator)
    assert progress.listed == len(simulator.truth())
    loads = [call.query["id"] for call in simulator.log if call.path.endswith("/conversation/load")]
    assert len(loads) == len(set(loads))
    assert not account.conversations.filter(thin=True).exists()
    again = mirror.sync(account)
    assert (again.new, again.changed, again.gone) == (0, 0, 0) and again.requests < 8


def test_newest_first_keeps_the_providers_order_where_it_tells_no_time(connected):
    simulator, account = connected("chatnio", populate=120)
    simulator.unlimited()
    mirror.sync(account)
    ids = [int(found) for found in account.conversations.order_by("-sort_at", "-pk").values_list("remote_id", flat=True)]
    assert ids == sorted(ids, reverse=True)
    assert not account.conversations.filter(updated_at__isnull=False).exists()


def test_what_has_no_time_stands_behind_what_has_one_until_it_arrives_later(connected):
    _other, dated = connected("aurod", populate=20)
    simulator, undated = connected("chatnio", populate=120)
    simulator.unlimited()
    for account in (dated, undated):
        mirror.sync(account)
    newest_first = listing.page(Conversation.objects.all(), size=200).rows
    assert [row.account_id for row in newest_first] == [dated.pk] * 20 + [undated.pk] * 120
    simulator.populate(121)
    mirror.sync(undated)
    first = listing.page(Conversation.objects.all()).rows[0]
    assert first.account_id == undated.pk and first.pk not in {row.pk for row in newest_first}


def test_a_batch_of_rows_costs_a_handful_of_statements(connected, django_assert_max_num_queries):
    _simulator, account = connected("nuwax", populate=300)
    with django_assert_max_num_queries(40):
        mirror.sync(account)
    assert account.conversations.count() == 300
    assert connection.in_atomic_block is False
