"""How long credentials really last: when one begins, when its end is noted, and the estimate for the one after."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import definitions, health, lifetimes, services
from accounts.models import Account, Health
from accounts.providers.errors import CredentialsRejected, ProviderUnavailable

from .devtools import FORMS, page_request
from .support import HTMX, fields, text

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def kept(account: Account) -> list[int]:
    return Account.objects.values_list("lifetimes", flat=True).get(pk=account.pk)


def began(account: Account, hours: float, *before: int) -> Account:
    """Lets the present credential be so many hours old, and the ones before it have lasted these seconds."""
    changes = {"credential_since": NOW - timedelta(hours=hours), "lifetimes": list(before), "health": Health.OK, "credential_expires_at": None}
    Account.objects.filter(pk=account.pk).update(**changes)
    return Account.objects.get(pk=account.pk)


def refused(account: Account, at: datetime = NOW, status: int | None = 401) -> None:
    health.note_failure(account, CredentialsRejected(status=status), at)


def test_a_credential_begins_when_it_is_stored_whichever_way(serve, client: Client, alice, tmp_path) -> None:
    simulator, url = serve("aurod", populate=1)
    credential, start = simulator.credential(), timezone.now()
    client.post(reverse("account_add_provider", args=["aurod"]), fields(url, credential, label="Typed"), headers=HTMX)
    client.post(reverse("account_paste"), {"text": FORMS["bash"](page_request(url, credential)), "save": "1"}, headers=HTMX)
    document = tmp_path / "credential.json"
    document.write_text(json.dumps(credential))
    given = ["--user", alice.email, "--provider", "aurod", "--label", "Printed", "--base-url", url, "--credentials", str(document)]
    call_command("accounts", "add", *given, stdout=StringIO())
    accounts = list(Account.objects.all())
    assert len(accounts) == 3 and all(account.credential_since >= start for account in accounts)

    entry = {"provider": "aurod", "base_url": url, "label": "Imported"}
    listed = json.dumps({"switchboard": "accounts", "version": definitions.VERSION, "accounts": [entry]})
    (imported,) = definitions.import_accounts(alice, listed).created
    assert Account.objects.get(pk=imported.pk).credential_since is None
    account = began(accounts[0], 5)
    saved = client.post(reverse("account_edit", args=[account.pk]), fields(url, credential, label=account.label), headers=HTMX)
    assert "HX-Redirect" in saved.headers and Account.objects.get(pk=account.pk).credential_since >= start
    refused(Account.objects.get(pk=imported.pk))
    assert kept(imported) == []


def test_its_end_is_noted_once_at_the_first_refusal(connected) -> None:
    _simulator, account = connected("aurod")
    account = began(account, 6)
    health.note_failure(account, ProviderUnavailable(status=503), NOW)
    assert kept(account) == []
    stale = Account.objects.get(pk=account.pk)
    refused(account)
    assert kept(account) == [6 * 3600] and account.health == Health.NEEDS_REAUTH
    for one in (account, stale, Account.objects.get(pk=account.pk)):
        refused(one, NOW + timedelta(hours=1))
    assert kept(account) == [6 * 3600]


@pytest.mark.parametrize(
    ("hours", "status"), [pytest.param(59 / 3600, 401, id="never worked"), pytest.param(6, None, id="our keys are gone, nobody was asked")]
)
def test_what_is_no_lifetime_is_not_noted(connected, hours: float, status: int | None) -> None:
    _simulator, account = connected("aurod")
    account = began(account, hours)
    refused(account, status=status)
    assert kept(account) == [] and Account.objects.get(pk=account.pk).health == Health.NEEDS_REAUTH


def test_an_end_of_a_credential_that_was_replaced_meanwhile_says_nothing_about_the_new_one(connected) -> None:
    simulator, account = connected("aurod")
    stale = began(account, 6)
    services.replace_credentials(account, simulator.credential())
    refused(stale)
    assert kept(account) == []


def test_the_last_five_are_kept(connected) -> None:
    _simulator, account = connected("aurod")
    account = began(account, 2, 1000, 2000, 3000, 4000, 5000)
    refused(account)
    assert kept(account) == [2000, 3000, 4000, 5000, 7200]


def test_of_several_processes_that_are_refused_at_once_one_notes_it(connected) -> None:
    _simulator, account = connected("aurod")
    copies = [began(account, 6)] + [Account.objects.get(pk=account.pk) for _number in range(7)]

    def once(copy: Account) -> None:
        try:
            refused(copy)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, copies))
    assert kept(account) == [6 * 3600]


def test_a_credential_that_works_again_had_not_ended(connected) -> None:
    _simulator, account = connected("aurod")
    account = began(account, 6, 7200)
    refused(account)
    health.note_success(Account.objects.get(pk=account.pk), NOW + timedelta(hours=1))
    assert kept(account) == [7200]
    again = Account.objects.get(pk=account.pk)
    refused(again, NOW + timedelta(hours=4))
    assert kept(account) == [7200, 10 * 3600]


@pytest.mark.parametrize(
    ("before", "told", "state", "wanted"),
    [
        ([3600], None, Health.OK, None),
        ([3600, 7200], None, Health.OK, 5400),
        ([3600, 7200, 86_400], None, Health.OK, 7200),
        ([3600, 7200], NOW, Health.OK, None),
        ([3600, 7200], None, Health.NEEDS_REAUTH, None),
        ([3600, 7200], None, Health.UNREACHABLE, 5400),
    ],
)
def test_the_estimate_is_the_median_of_at_least_two(before: list[int], told: Any, state: str, wanted: int | None) -> None:
    account = Account(credential_since=NOW, lifetimes=before, credential_expires_at=told, health=state)
    found = lifetimes.forecast(account)
    assert (found and (found.ends - NOW).total_seconds()) == wanted
    assert found is None or found.seen == len(before)
    assert lifetimes.forecast(Account(lifetimes=before)) is None, "nobody knows since when"


def test_the_page_of_an_account_calls_it_an_estimate(connected, client: Client) -> None:
    _simulator, account = connected("modelrouter")
    page = reverse("account_detail", args=[account.pk])

    def shown(hours: float, *before: int) -> str:
        began(account, 0, *before)
        Account.objects.filter(pk=account.pk).update(credential_since=timezone.now() - timedelta(hours=hours))
        return text(client.get(page)).replace("\xa0", " ")

    assert "Estimate" not in shown(1, 21_600)
    assert shown(1, 18_000, 21_600, 25_000).count("It usually lasts about 6 hours (3 seen).") == 2, "beside the expiry, and under the days"
    assert "Estimate: it usually lasts about 6 hours (2 seen), so it may end at any time." in shown(7, 21_600, 21_600)
    Account.objects.filter(pk=account.pk).update(credential_expires_at=timezone.now() + timedelta(days=20))
    told = text(client.get(page))
    assert "Estimate" not in told and "The credential says that it is valid until" in told


def test_a_real_refusal_is_noted_on_the_way(connected) -> None:
    simulator, account = connected("aurod", populate=3)
    Account.objects.filter(pk=account.pk).update(credential_since=timezone.now() - timedelta(hours=2))
    simulator.add_fault("expired", times=9999)
    assert not services.test_account(Account.objects.get(pk=account.pk)).ok
    (lasted,) = kept(account)
    assert 7200 <= lasted < 7300
    simulator.clear_faults()
    services.replace_credentials(account, simulator.credential())
    assert Account.objects.get(pk=account.pk).lifetimes == [lasted]
