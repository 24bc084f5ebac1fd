"""An account whose base URL leads to another server: what is stored is never sent there, it has to be entered anew."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts import services
from accounts.models import Account

from .support import HTMX, fields, text

REFUSED = "This is another server: what is stored is not sent there."


def stored(account: Account) -> dict[str, str]:
    fresh = Account.objects.get(pk=account.pk)
    return {name: value.reveal() for name, value in services.credentials_of(fresh).items()}


def open_part(account: Account) -> dict[str, str]:
    """Returns what the form sends of a credential when nobody touches it: everything but the secrets."""
    secret = {field.name for field in account.provider.credential_fields if field.secret}
    return {name: value for name, value in stored(account).items() if name not in secret}


@pytest.mark.parametrize("key", ["aurod", "modelrouter", "chatnio", "nuwax", "chongzhiling"])
def test_a_stored_credential_is_never_sent_to_another_server(connected, serve, client: Client, key: str) -> None:
    _simulator, account = connected(key)
    elsewhere, url = serve(key)
    before = stored(account)
    given = fields(url, open_part(account))
    for name in ("account_test_edit", "account_edit"):
        for more in ({}, {"save_anyway": "1", "other_user": "1"}):
            refused = client.post(reverse(name, args=[account.pk]), given | more, headers=HTMX)
            assert refused.status_code == 422 and REFUSED in text(refused), text(refused)
    assert elsewhere.log == [] and stored(account) == before
    assert Account.objects.get(pk=account.pk).base_url == account.base_url


def test_with_its_secret_entered_anew_an_account_moves(connected, serve, client: Client) -> None:
    _simulator, account = connected("aurod")
    elsewhere, url = serve("aurod")
    fresh = elsewhere.credential()
    saved = client.post(reverse("account_edit", args=[account.pk]), fields(url, fresh, other_user="1"), headers=HTMX)
    assert "HX-Redirect" in saved.headers, text(saved)
    assert stored(account)["token"] == fresh["token"] and Account.objects.get(pk=account.pk).base_url == url and elsewhere.log


def test_an_optional_secret_that_is_kept_counts_too_and_one_that_is_removed_does_not(connected, serve, client: Client) -> None:
    simulator, account = connected("chongzhiling")
    elsewhere, url = serve("chongzhiling")
    typed = {"access_token": elsewhere.ready_token(), "token_in": "header", "user_id": ""}
    page = reverse("account_test_edit", args=[account.pk])
    kept = client.post(page, fields(url, typed), headers=HTMX)
    assert kept.status_code == 422 and REFUSED in text(kept) and elsewhere.log == []
    removed = client.post(page, fields(url, typed, remove_api_key="on"), headers=HTMX)
    assert removed.status_code == 200 and "The credential works." in text(removed), text(removed)
    secret = str(simulator.credential()["api_key"])
    assert elsewhere.log and not any(secret in repr(entry) for entry in elsewhere.log)


@pytest.mark.parametrize(
    ("old", "new", "elsewhere"),
    [
        ("https://a.example", "https://a.example/v2", False),
        ("https://a.example", "https://a.example:443", False),
        ("https://a.example/x", "https://A.example/x", False),
        ("https://a.example", "https://b.example", True),
        ("https://a.example", "https://sub.a.example", True),
        ("https://a.example", "https://a.example:8443", True),
        ("https://a.example", "http://a.example", True),
        ("http://a.example:443", "https://a.example", True),
    ],
)
def test_another_server_is_another_scheme_host_or_port(old: str, new: str, elsewhere: bool) -> None:
    assert services.leads_elsewhere(Account(base_url=old), new) is elsewhere


def test_an_address_that_may_not_be_called_is_refused_as_before(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    answer: Any = client.post(reverse("account_edit", args=[account.pk]), fields("http://169.254.169.254/", open_part(account)), headers=HTMX)
    assert answer.status_code == 422 and "This address cannot be used" in text(answer) and REFUSED not in text(answer)
