"""What is shown of an account's health, what calls note, when the schedule asks again, and the days of the strip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import checkups, health, services, tasks
from accounts.models import Account, Health, HealthDay
from accounts.providers.errors import CredentialsRejected, NotFound, ProviderUnavailable, RateLimited
from conversations.models import Incident
from tests.conversations import support

from .support import queued, text

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stored", "paused", "ends", "wanted"),
    [
        (Health.OK, False, None, "ok"),
        (Health.OK, False, timedelta(days=4), "ok"),
        (Health.OK, False, timedelta(days=2), "expiring"),
        (Health.OK, False, timedelta(days=-1), "expiring"),
        (Health.UNKNOWN, False, None, "unknown"),
        (Health.NEEDS_REAUTH, False, timedelta(days=2), "needs_reauth"),
        (Health.RATE_LIMITED, False, None, "rate_limited"),
        (Health.UNREACHABLE, False, None, "unreachable"),
        (Health.NEEDS_REAUTH, True, timedelta(days=2), "paused"),
    ],
)
def test_one_state_is_shown_of_what_is_stored(stored, paused, ends, wanted) -> None:
    account = Account(health=stored, paused_at=NOW if paused else None, credential_expires_at=NOW + ends if ends else None)
    assert health.shown(account, NOW) == wanted


def test_every_failure_is_followed_by_a_longer_pause_up_to_a_day(connected) -> None:
    _simulator, account = connected("aurod")
    now, pauses = NOW, []
    for _time in range(16):
        health.note_failure(account, CredentialsRejected(status=401), now)
        pauses.append(account.check_after - now)
        now = account.check_after
    assert timedelta(minutes=1) <= pauses[0] <= timedelta(minutes=2)
    assert all(later > earlier for earlier, later in pairwise(pauses[:7]))
    assert timedelta(days=1) <= pauses[-1] <= timedelta(days=1.2)


def test_many_failures_in_a_row_do_not_lengthen_the_pause_before_it_is_over(connected) -> None:
    _simulator, account = connected("aurod")
    health.note_failure(account, ProviderUnavailable(status=503), NOW)
    first = account.check_after
    for second in range(20):
        health.note_failure(account, ProviderUnavailable(status=503), NOW + timedelta(seconds=second))
    assert account.check_after == first
    assert HealthDay.objects.get(account=account, day=NOW.date()).failed == 21


def test_a_provider_that_names_a_time_is_left_alone_that_long(connected) -> None:
    _simulator, account = connected("aurod")
    health.note_failure(account, RateLimited(status=429, retry_after=3000.0), NOW)
    account.refresh_from_db()
    assert account.check_after >= NOW + timedelta(seconds=3000) and health.shown(account, NOW) == "rate_limited"
    assert account not in checkups.due(NOW + timedelta(seconds=2999))
    assert account in checkups.due(account.check_after)


def test_whatever_works_counts_as_a_check(connected) -> None:
    simulator, account = connected("aurod", populate=3)
    Account.objects.filter(pk=account.pk).update(check_after=None, checked_at=None, last_success_at=None)
    account.refresh_from_db()
    assert checkups.due() == [account]
    support.synced(account)
    assert checkups.due() == [] and account.checked_at is not None
    assert checkups.due(account.check_after + timedelta(seconds=1)) == [account]
    assert HealthDay.objects.get(account=account).checks >= 1
    simulator.log.clear()


def test_a_tick_asks_each_account_once_and_a_check_asks_who_it_is(connected, redis_client) -> None:
    simulator, account = connected("aurod")
    Account.objects.filter(pk=account.pk).update(check_after=timezone.now() - timedelta(minutes=1))
    simulator.log.clear()
    assert (checkups.send_due(), checkups.send_due()) == (1, 0)
    assert queued(redis_client) == ["accounts.check"] and simulator.log == []
    tasks.check(str(account.pk))
    assert 1 <= len(simulator.log) <= 2
    account.refresh_from_db()
    assert account.check_after - account.checked_at > timedelta(minutes=10)


def test_no_tick_asks_more_than_its_number_and_none_is_forgotten(connected, redis_client, monkeypatch) -> None:
    monkeypatch.setattr(checkups, "AT_ONCE", 2)
    simulator, first = connected("aurod")
    for number in range(4):
        support.make_account(first.owner, simulator, first.base_url, label=f"more {number}")
    Account.objects.update(check_after=None)
    assert [checkups.send_due() for _tick in range(4)] == [2, 2, 1, 0]


def test_paused_silent_and_held_accounts_are_left_alone(connected, redis_client) -> None:
    _simulator, paused = connected("aurod")
    services.pause_account(paused)
    _other, held = connected("modelrouter")
    Incident.objects.create(host=held.base_url.partition("//")[2], provider_key="modelrouter", opened_at=NOW, next_probe_at=NOW)
    _third, silent = connected("nuwax")
    redis_client.set(f"switchboard:cooling:{silent.pk}", 1, ex=60)
    Account.objects.update(check_after=None)
    assert checkups.send_due() == 0 and queued(redis_client) == []
    assert checkups.check(paused.pk) is None


def test_a_refused_account_needs_attention_and_is_taken_up_again_once_it_works(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    health.note_failure(account, CredentialsRejected(status=401))
    listed = client.get(reverse("account_list") + "?attention=1")
    assert "Needs attention 1" in text(listed) and "Needs re-authentication" in text(listed)
    assert checkups.check(account.pk) is True
    account.refresh_from_db()
    assert account.health == Health.OK and account.sync_state == "queued"
    assert "Needs attention" not in text(client.get(reverse("account_list")))


def test_a_killed_token_is_found_by_the_next_check_and_its_return_by_a_later_one(connected, client: Client) -> None:
    simulator, account = connected("modelrouter")
    simulator.add_fault("expired", times=99)
    assert checkups.check(account.pk) is False
    account.refresh_from_db()
    assert (account.health, health.shown(account)) == (Health.NEEDS_REAUTH, "needs_reauth") and account.last_success_at
    assert HealthDay.objects.get(account=account).worst == Health.NEEDS_REAUTH
    assert checkups.due() == [] and checkups.due(account.check_after + timedelta(seconds=1)) == [account]
    page = text(client.get(reverse("account_list") + "?attention=1"))
    assert "The provider does not accept this account&#x27;s credential." in page and "Worked last" in page
    simulator.clear_faults()
    assert checkups.check(account.pk) is True
    assert Account.objects.get(pk=account.pk).health == Health.OK


def test_an_account_whose_credential_ends_soon_needs_attention(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    Account.objects.filter(pk=account.pk).update(credential_expires_at=timezone.now() + timedelta(days=2, hours=1, minutes=5))
    page = text(client.get(reverse("account_list")))
    assert "Needs attention 1" in page and "Expiring" in page and "The credential ends in 2 days, 1 hour" in page
    assert "1 needs attention" in page and "its credential ends in" in text(client.get(reverse("account_detail", args=[account.pk])))


def test_a_day_keeps_its_worst_and_counts_everything(connected) -> None:
    _simulator, account = connected("aurod")
    HealthDay.objects.all().delete()
    for error in (RateLimited(status=429), CredentialsRejected(status=401), ProviderUnavailable(status=500), NotFound(status=404)):
        health.note_failure(account, error, NOW)
    health.note_success(account, NOW)
    row = HealthDay.objects.get(account=account)
    assert (row.day, row.checks, row.failed, row.worst, row.cause) == (NOW.date(), 4, 3, Health.NEEDS_REAUTH, CredentialsRejected.kind)
    days = health.strip(account, NOW + timedelta(days=3))
    assert len(days) == 14 and days[-4].checks == 4 and [day.checks for day in days].count(0) == 13
    assert health.prune(NOW + timedelta(days=health.DAYS_KEPT + 1)) == 1


def test_checks_noted_at_the_same_time_are_all_counted(connected) -> None:
    _simulator, account = connected("aurod")
    HealthDay.objects.all().delete()

    def note(number: int) -> None:
        try:
            health.count(account.pk, Health.RATE_LIMITED if number == 7 else Health.OK, NOW.date())
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(note, range(24)))
    row = HealthDay.objects.get(account=account)
    assert (row.checks, row.failed, row.worst) == (24, 1, Health.RATE_LIMITED)


def test_the_strip_says_every_day_in_words(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    HealthDay.objects.all().delete()
    health.note_failure(account, ProviderUnavailable(status=500))
    page = text(client.get(reverse("account_detail", args=[account.pk])))
    assert "Unreachable: 1 of 1 checks failed" in page and page.count("not checked") >= 13


def test_what_is_heard_of_a_replaced_credential_changes_nothing(connected) -> None:
    _simulator, account = connected("aurod")
    HealthDay.objects.all().delete()
    Account.objects.filter(pk=account.pk).update(sealed_credentials="another")
    health.note_failure(account, CredentialsRejected(status=401))
    assert Account.objects.get(pk=account.pk).health == Health.OK and not HealthDay.objects.exists()
