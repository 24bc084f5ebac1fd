"""Definitions of accounts out of one installation and into another, without secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts import checkups, definitions, labels, services
from accounts.models import Account, Health
from accounts.providers.errors import CredentialsRejected
from conversations import mirror
from tests.conversations import support

from .support import HTMX, KEYS, events, fields, text


def document(*entries: Any, **more: Any) -> str:
    return json.dumps({"switchboard": "accounts", "version": 1, "accounts": list(entries)} | more)


def upload(client: Client, content: str | bytes) -> Any:
    data = content.encode() if isinstance(content, str) else content
    return client.post(reverse("account_import"), {"file": SimpleUploadedFile("accounts.json", data)})


@pytest.mark.parametrize("key", KEYS)
def test_what_is_exported_holds_no_secret_and_is_imported_elsewhere(connected, client: Client, key: str) -> None:
    simulator, account = connected(key, label="Work 工作")
    labels.add(account, "client-a")
    Account.objects.filter(pk=account.pk).update(colour="blue", note="for support", concurrency=2, rate=1.5)
    answer = client.get(reverse("account_export"))
    assert "attachment" in answer.headers["Content-Disposition"]
    exported = answer.content.decode()
    secret = {field.name for field in account.provider.credential_fields if field.secret}
    for name, value in simulator.credential().items():
        if name in secret:
            assert str(value) not in exported and str(value)[-4:] not in exported
    assert account.sealed_credentials not in exported

    bob = support.make_user("bob@example.com")
    done = definitions.import_accounts(bob, exported)
    assert done.refused == [] and len(done.created) == 1
    found = Account.objects.get(owner=bob)
    columns = ("provider_key", "label", "base_url", "colour", "note", "concurrency", "rate")
    fresh = Account.objects.get(pk=account.pk)
    assert [getattr(found, name) for name in columns] == [getattr(fresh, name) for name in columns]
    assert [label.name for label in found.labels.all()] == ["client-a"]
    assert (found.health, found.cause, found.sealed_credentials) == (Health.NEEDS_REAUTH, "credential_missing", "")
    assert definitions.export([found]) == definitions.export([fresh])


def test_only_ones_own_accounts_are_exported(connected, client: Client) -> None:
    simulator, mine = connected("aurod", label="Mine")
    support.make_account(support.make_user("bob@example.com"), simulator, mine.base_url, label="Theirs")
    exported = json.loads(client.get(reverse("account_export")).content)
    assert [entry["label"] for entry in exported["accounts"]] == ["Mine"]


def test_an_imported_account_asks_for_its_credential_and_then_works(serve, client: Client, alice) -> None:
    simulator, url = serve("aurod", populate=3)
    page = upload(client, document({"provider": "aurod", "label": "Imported", "base_url": url}))
    assert page.status_code == 200 and "1 account imported" in text(page)
    account = Account.objects.get()
    listed = text(client.get(reverse("account_list")))
    assert "Credential needed" in listed and "Needs attention 1" in listed and "it was imported and needs its credential" in listed
    assert checkups.due() == []
    with pytest.raises(CredentialsRejected):
        mirror.sync(account)
    tested = client.post(reverse("account_test", args=[account.pk]), headers=HTMX)
    assert tested.status_code == 200 and "Credential needed" in text(tested) and simulator.log == []

    given = fields(url, simulator.credential(), label="Imported")
    saved = client.post(reverse("account_edit", args=[account.pk]), given, headers=HTMX)
    assert saved.headers["HX-Redirect"], events(saved)
    account.refresh_from_db()
    assert account.health == Health.OK and services.test_account(account).ok


def test_good_entries_are_imported_and_each_bad_one_says_why(serve, client: Client, alice) -> None:
    _simulator, url = serve("aurod")
    good = {"provider": "aurod", "label": "Good", "base_url": url}
    bad = [
        ({"provider": "unheard-of"}, "There is no provider"),
        ({"base_url": "http://169.254.169.254/"}, "This address cannot be used"),
        ({"label": ""}, "label"),
        ({"label": "Good"}, "You already have an account with this label."),
        ({"colour": "#fff"}, "Colour:"),
        ({"rate": 0}, "Requests per second:"),
        ({"rate": "fast"}, "must be numbers"),
        ({"rate": float("nan")}, "Requests per second:"),
        ({"concurrency": True}, "must be numbers"),
        ({"labels": "a"}, "list of texts"),
        ({"labels": ["x" * 41]}, "at most 40 characters"),
        ({"token": "abc"}, "not known here: token"),
        ({"note": 5}, "must be text"),
        ({"note": "x" * 2001}, "Note:"),
    ]
    entries = [good, *({**good, "label": f"Bad {number}", **change} for number, (change, _why) in enumerate(bad)), "no object"]
    done = definitions.import_accounts(alice, document(*entries))
    assert [account.label for account in done.created] == ["Good"] and Account.objects.count() == 1
    assert [entry.number for entry in done.refused] == list(range(2, len(entries) + 1))
    for refused, (_change, why) in zip(done.refused, bad, strict=False):
        assert why.lower() in refused.reason.lower(), refused
    assert "not an object" in done.refused[-1].reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("[1", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"\\ud800"', "not JSON"),
        ("[]", "not a list of accounts"),
        (document(version=2), "a version that is not known"),
        (document(*range(501)), "more than 500 accounts"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"x" * 1_000_001, "too large"),
    ],
)
def test_what_is_no_export_is_refused_as_a_whole(client: Client, content, words: str) -> None:
    refused = upload(client, content)
    assert refused.status_code == 422 and (words in text(refused) or (not content and "Choose a file first." in text(refused)))
    assert not Account.objects.exists()


def test_without_a_file_the_page_says_so(client: Client) -> None:
    assert "Choose a file first." in text(client.post(reverse("account_import")))
    assert "holds no credentials" in text(client.get(reverse("account_import")))
    assert client.post(reverse("account_export")).status_code == 405
