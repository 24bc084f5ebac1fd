"""Labels, colour and note of accounts; the parts of an account's page; and the filters by label."""

from __future__ import annotations

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from accounts import labels
from accounts.models import Account, RequestLog
from conversations.forms import FilterForm
from conversations.models import AuditEntry, Conversation
from tests.conversations import support

from .support import HTMX, text


def test_an_owner_adds_and_removes_labels_on_the_page(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    url = reverse("account_labels", args=[account.pk])
    added = client.post(url, {"add": "  client   a ", "place": "detail"}, headers=HTMX)
    assert added.status_code == 200 and "client a" in text(added)
    client.post(url, {"add": "client a", "place": "detail"}, headers=HTMX)
    assert [label.name for label in account.labels.all()] == ["client a"]
    client.post(url, {"remove": "client a", "place": "detail"}, headers=HTMX)
    assert not account.labels.exists()


@pytest.mark.parametrize(
    ("given", "words"), [("  ", "Give the label a name."), ("x" * 41, "at most 40 characters"), ("a\0b", "Give the label a name.")]
)
def test_a_label_that_cannot_be_stored_is_refused_at_the_field(connected, client: Client, given: str, words: str) -> None:
    _simulator, account = connected("aurod")
    refused = client.post(reverse("account_labels", args=[account.pk]), {"add": given, "place": "detail"}, headers=HTMX)
    assert refused.status_code == 422 and words in text(refused) and not account.labels.exists()


def test_an_account_has_so_many_labels_and_no_more(connected) -> None:
    _simulator, account = connected("aurod")
    for number in range(labels.PER_ACCOUNT):
        labels.add(account, f"label {number}")
    labels.add(account, "label 0")
    with pytest.raises(labels.ValidationError):
        labels.add(account, "one more")
    assert account.labels.count() == labels.PER_ACCOUNT


def test_colour_and_note_are_saved_and_foreign_colours_refused(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    url = reverse("account_about", args=[account.pk])
    assert client.post(url, {"colour": "blue", "note": "for support"}, headers=HTMX).status_code == 200
    assert client.post(url, {"colour": "#123456", "note": "x"}, headers=HTMX).status_code == 422
    account.refresh_from_db()
    assert (account.colour, account.note) == ("blue", "for support")


def test_the_lists_of_accounts_and_conversations_are_filtered_by_label(connected, client: Client, alice) -> None:
    _simulator, first = connected("aurod", label="Erste", populate=4)
    _other, second = connected("modelrouter", label="Zweite", populate=3)
    for account in (first, second):
        support.synced(account)
    labels.add(first, "client-a")
    labels.add(first, "client-b")
    rows = client.get(reverse("account_list"), {"label": "client-a"}).content.decode()
    assert f'id="account-{first.pk}"' in rows and f'id="account-{second.pk}"' not in rows
    assert "No account has this label" in text(client.get(reverse("account_list"), {"label": "nobody"}))
    form = FilterForm(alice, QueryDict("label=client-a&label=client-b"))
    found = form.narrow(Conversation.objects.visible_to(alice))
    assert found.count() == 4 and set(found.values_list("account", flat=True)) == {first.pk}
    assert form.query == "label=client-a&label=client-b"
    listed = text(client.get(reverse("conversation_list"), {"label": "client-a"}))
    assert "Account label" in listed and "client-a" in listed


def test_labels_of_others_do_not_show(connected, client: Client) -> None:
    simulator, mine = connected("aurod")
    bob = support.make_user("bob@example.com")
    foreign = support.make_account(bob, simulator, mine.base_url)
    labels.add(foreign, "secret project")
    assert "secret project" not in client.get(reverse("account_list")).content.decode()
    assert labels.names_for(mine.owner) == [] and labels.names_for(bob) == ["secret project"]


@pytest.mark.parametrize(
    ("name", "method"), [("account_requests", "get"), ("account_history", "get"), ("account_labels", "post"), ("account_about", "post")]
)
def test_the_parts_of_a_page_are_nobody_elses(connected, name: str, method: str) -> None:
    _simulator, account = connected("aurod")
    bob = Client()
    bob.force_login(support.make_user("bob@example.com"))
    assert getattr(bob, method)(reverse(name, args=[account.pk]), {"add": "x", "note": "x"}).status_code == 404
    wrong = "post" if method == "get" else "get"
    assert getattr(bob, wrong)(reverse(name, args=[account.pk])).status_code == 405
    assert not account.labels.exists() and Account.objects.get(pk=account.pk).note == ""


def test_requests_are_shown_page_by_page_the_newest_first(connected, client: Client) -> None:
    _simulator, account = connected("aurod")
    RequestLog.objects.all().delete()
    url = reverse("account_requests", args=[account.pk])
    assert "No request is on record" in text(client.get(url, headers=HTMX))
    at = account.created_at
    RequestLog.objects.bulk_create(RequestLog(account=account, at=at, method="GET", path=f"/number/{n}", status=200, ms=5) for n in range(30))
    first = client.get(url, headers=HTMX).content.decode()
    assert "/number/29<" in first and "/number/5<" in first and "/number/4<" not in first
    last = list(account.requests.all())[24].pk
    rest = client.get(url, {"before": last}, headers=HTMX).content.decode()
    assert "/number/4<" in rest and "/number/0<" in rest and "/number/5<" not in rest and "Earlier requests" not in rest
    assert client.get(url, {"before": "x' or 1"}, headers=HTMX).status_code == 200


def test_history_says_who_did_what_page_by_page(connected, client: Client, alice) -> None:
    _simulator, account = connected("aurod")
    url = reverse("account_history", args=[account.pk])
    assert "Nothing was changed through this account yet." in text(client.get(url, headers=HTMX))
    for number in range(27):
        AuditEntry.objects.create(actor=alice, actor_name="Alice", account=account, remote_id=f"r{number}", what="rename", result="applied")
    first = client.get(url, headers=HTMX)
    assert "Alice · Set title" in text(first) and "r26" in text(first) and "r1 " not in text(first)
    oldest = AuditEntry.objects.get(remote_id="r2")
    rest = text(client.get(url, {"before": oldest.pk}, headers=HTMX))
    assert "r1 " in rest and "r0 " in rest and "r2 " not in rest


def test_models_tell_how_many_conversations_are_on_them(connected, client: Client) -> None:
    _simulator, account = connected("modelrouter", populate=9)
    support.synced(account)
    model = account.conversations.exclude(model="").first().model
    used = account.conversations.filter(model=model).count()
    page = client.get(reverse("account_detail", args=[account.pk])).content.decode()
    link = f'?account={account.pk}&amp;model={model}">{used}</a>'
    assert link in page
