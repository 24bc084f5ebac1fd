"""What is done with an account is in the audit log: who did it, and the values that changed, never one of a credential."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts import definitions, services, teams
from accounts.models import Account, Membership, Role
from conversations.honesty import writes_of
from conversations.models import AuditEntry
from tests.conversations import support

from .devtools import FORMS, page_request
from .support import HTMX, fields, text


def told() -> list[tuple[str, Any, Any]]:
    """Returns what the log holds, the oldest first, and empties nothing."""
    return list(AuditEntry.objects.order_by("pk").values_list("what", "before", "after"))


def post(client: Client, name: str, account: Account, given: dict[str, str] | None = None) -> None:
    answer = client.post(reverse(name, args=[account.pk]), given or {}, headers=HTMX)
    assert answer.status_code in (200, 204), text(answer)


def test_every_change_of_an_account_is_told_with_the_values_that_changed(connected, client: Client, alice) -> None:
    simulator, account = connected("aurod", label="Shop")
    for _time in range(2):  # the second time nothing changes, and nothing is told
        post(client, "account_about", account, {"colour": "blue", "note": "for support"})
        post(client, "account_labels", account, {"add": "client-a"})
        post(client, "account_pace", account, {"rate": "2", "concurrency": "3"})
        post(client, "account_pause", account)
    post(client, "account_labels", account, {"remove": "client-a"})
    post(client, "account_labels", account, {"remove": "never there"})
    post(client, "account_about", account, {"colour": "blue", "note": "for sales"})
    post(client, "lane_pace", account, {"rate": "", "concurrency": "3"})
    for _time in range(2):
        post(client, "account_resume", account)
    post(client, "lane_pause", account)
    post(client, "lane_resume", account)
    open_fields = {"app_version": "2.14.0", "user_agent": simulator.credential()["user_agent"]}
    for label in ("Work", "Work"):
        post(client, "account_edit", account, fields(account.base_url, open_fields, label=label))
    assert told() == [
        ("edit account", {"colour": "", "note": ""}, {"colour": "blue", "note": "for support"}),
        ("edit account", {"labels": []}, {"labels": ["client-a"]}),
        ("set pace", {"rate": support.FAST, "concurrency": None}, {"rate": 2.0, "concurrency": 3}),
        ("pause account", None, None),
        ("edit account", {"labels": ["client-a"]}, {"labels": []}),
        ("edit account", {"note": "for support"}, {"note": "for sales"}),
        ("set pace", {"rate": 2.0}, {"rate": None}),
        ("resume account", None, None),
        ("pause account", None, None),
        ("resume account", None, None),
        ("edit account", {"label": "Shop"}, {"label": "Work"}),
    ]
    about = set(AuditEntry.objects.values_list("actor", "actor_name", "account", "result", "ip"))
    assert about == {(alice.pk, str(alice), account.pk, "applied", "127.0.0.1")}
    assert writes_of(account) == [], "nothing of this was written at the provider"


def test_a_change_that_is_refused_is_not_told(connected, client: Client) -> None:
    _simulator, account = connected("aurod", label="Shop")
    connected("aurod", label="Taken")
    for name, given in (
        ("account_about", {"colour": "#123456"}),
        ("account_labels", {"add": " ", "place": "detail"}),
        ("account_pace", {"rate": "-1"}),
        ("account_edit", fields(account.base_url, {}, label="Taken")),
    ):
        assert client.post(reverse(name, args=[account.pk]), given, headers=HTMX).status_code == 422
    with pytest.raises(services.ValidationError):  # as when the label is taken between the check and the saving
        services.rename_account(account, "Taken", by=account.owner)
    assert told() == []


def test_adding_an_account_is_told_whichever_way_it_is_added(serve, client: Client, alice, monkeypatch, tmp_path) -> None:
    simulator, url = serve("aurod", populate=1)
    credential = simulator.credential()
    client.post(reverse("account_add_provider", args=["aurod"]), fields(url, credential, label="Typed"), headers=HTMX)
    client.post(reverse("account_paste"), {"text": FORMS["bash"](page_request(url, credential)), "save": "1"}, headers=HTMX)
    document = tmp_path / "credential.json"
    document.write_text(json.dumps(credential))
    given = ["--user", alice.email, "--provider", "aurod", "--label", "Printed", "--base-url", url, "--credentials", str(document)]
    call_command("accounts", "add", *given, stdout=StringIO())
    assert Account.objects.count() == 3
    assert told() == [("add account", None, {"provider": "aurod", "base_url": url})] * 3
    assert list(AuditEntry.objects.order_by("pk").values_list("account", flat=True)) == list(
        Account.objects.order_by("created_at").values_list("pk", flat=True)
    )
    kept = json.dumps(list(AuditEntry.objects.values("before", "after", "note", "account_label")))
    assert not any(str(value) in kept for value in credential.values() if len(str(value)) > 8)


def test_an_import_is_told_as_a_whole_and_account_by_account(serve, client: Client) -> None:
    _simulator, url = serve("aurod")
    entry = {"provider": "aurod", "base_url": url, "labels": ["client-a"], "rate": 2}
    listed = {"switchboard": "accounts", "version": definitions.VERSION, "accounts": [entry | {"label": "One"}, entry | {"label": "One"}]}
    client.post(reverse("account_import"), {"file": SimpleUploadedFile("accounts.json", json.dumps(listed).encode())})
    assert told() == [
        ("add account", None, {"provider": "aurod", "base_url": url}),
        ("import accounts", None, {"imported": 1, "refused": 1}),
    ]
    client.post(reverse("account_import"), {"file": SimpleUploadedFile("accounts.json", json.dumps(listed).encode())})
    assert len(told()) == 2, "nothing was imported"


def test_a_new_credential_is_told_with_the_address_where_that_changed_too(connected, serve, client: Client, alice) -> None:
    simulator, account = connected("aurod", label="Work")
    post(client, "account_edit", account, fields(account.base_url, simulator.credential()))
    other, url = serve("aurod")
    post(client, "account_edit", account, fields(url, other.credential(), other_user="1"))
    assert told() == [
        ("replace credential", None, None),
        ("replace credential", {"base_url": account.base_url}, {"base_url": url}),
    ]


def test_who_gets_an_account_under_another_label_reads_that(connected, alice) -> None:
    simulator, account = connected("aurod", label="Shop")
    bob = support.make_user("bob@example.com")
    support.make_account(bob, simulator, account.base_url, label="Shop")
    team = teams.create(alice, "Team")
    Membership.objects.create(team=team, user=bob, role=Role.OPERATOR)
    teams.hand_over(alice, account, bob)
    assert told()[-1] == ("hand over", {"label": "Shop"}, {"label": Account.objects.get(pk=account.pk).label})


def test_the_page_says_it_in_words(connected, client: Client) -> None:
    _simulator, account = connected("aurod", label="Shop")
    post(client, "account_about", account, {"colour": "blue", "note": "<b>for support</b>"})
    post(client, "account_labels", account, {"add": "client-a"})
    post(client, "account_labels", account, {"add": "client-b"})
    post(client, "account_pace", account, {"rate": "", "concurrency": "3"})
    post(client, "account_pause", account)
    shown = text(client.get(reverse("audit_list")))
    for words in ("Account changed", "Lane settings changed", "Account paused", "No colour", "Blue", "client-a, client-b", "the provider&#x27;s own"):
        assert words in shown, (words, shown)
    assert "&lt;b&gt;for support" in shown and "Account paused" in text(client.get(reverse("account_history", args=[account.pk]), headers=HTMX))
    only = text(client.get(reverse("audit_list"), {"what": "pace"}, headers=HTMX))
    assert "Requests per second" in only and "No colour" not in only
