"""`manage.py conversations`: reading, listing, messages, and single edits that are written once and verified."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import services
from accounts.models import Account
from conversations.models import AuditEntry, Conversation
from tests.conversations.support import make_user, row, synced

ROW = ["id", "account", "remote_id", "title", "model", "updated_at", "message_count"]
MESSAGE = ["position", "id", "role", "text", "model", "created_at"]
COUNTS = ["listed", "new", "changed", "gone", "requests", "seconds"]
PROVIDERS = ["aurod", "modelrouter", "chatnio", "nuwax", "chongzhiling"]


@pytest.fixture
def at_aurod(connected):
    """A simulator with 40 conversations, Alice's account there, read once, and one of its conversations."""
    simulator, account = connected("aurod", populate=40)
    synced(account)
    simulator.log.clear()
    return simulator, account, row(account, sorted(simulator.truth())[0])


def other_model(account, conversation):
    return account.catalogue.exclude(model_id=conversation.model).first().model_id


def changed(simulator):
    return [call for call in simulator.writes() if call.changed]


# --- sync ----------------------------------------------------------------------------------------------------------------------------


def test_sync_counts_what_is_new_changed_and_gone(run, connected):
    simulator, account = connected("aurod", populate=65)
    first = run("conversations", "sync", "--account", account.pk, "--json").document
    assert list(first) == ["account", "label", *COUNTS, "note"]
    assert [first[name] for name in ("account", "listed", "new", "changed", "gone", "note")] == [str(account.pk), 65, 65, 0, 0, None]
    assert first["requests"] >= 3 and first["seconds"] > 0
    ids = sorted(simulator.truth())
    simulator.change_by_somebody(ids[0], title="改过的标题")
    simulator.remove_by_somebody(ids[1])
    again = run("conversations", "sync", "--json").document
    assert [again[name] for name in ("listed", "new", "changed", "gone")] == [64, 0, 1, 1]
    assert simulator.writes() == []
    text = run("conversations", "sync")
    assert text.code == 0 and text.out.splitlines()[0].split() == ["account", "label", *COUNTS, "note"]


def test_one_failing_account_does_not_keep_the_others_from_being_read(run, connected):
    _simulator, one = connected("aurod", populate=3, label="A")
    broken, two = connected("modelrouter", populate=3, label="B", rate_limit=0)
    _simulator, three = connected("nuwax", populate=3, label="C")
    broken.add_fault("expired", times=99)
    result = run("conversations", "sync", "--account", one.pk, two.pk, "--account", three.pk, one.pk, "--json", cold=True)
    assert result.code == 1
    assert [line.split('"label": ')[1][:3] for line in result.out.splitlines()] == ['"A"', '"C"']
    assert result.only_line.startswith("B: HTTP ")
    assert [account.conversations.count() for account in (one, two, three)] == [3, 0, 3]
    two.refresh_from_db()
    assert two.health == "needs_reauth"


def test_sync_for_a_user_reads_that_users_accounts(run, connected):
    _simulator, mine = connected("aurod", populate=2, label="mine")
    other, theirs = connected("aurod", populate=2, label="theirs", owner=make_user("bob@example.com"))
    other.log.clear()
    assert [line["label"] for line in run("conversations", "sync", "--user", "alice@example.com", "--json").lines] == ["mine"]
    refused = run("conversations", "sync", "--account", mine.pk, "--account", theirs.pk, "--user", "alice@example.com", "--json")
    assert refused.cause == "alice@example.com may not do that with this account"
    assert other.log == [] and not theirs.conversations.exists()
    services.pause_account(theirs)
    assert [line["label"] for line in run("conversations", "sync", "--json").lines] == ["mine"]
    assert run("conversations", "sync", "--account", theirs.pk, "--json").cause == "theirs: theirs is paused; resume it first"
    assert other.log == []


def test_sync_waits_for_its_turn_while_another_process_reads(run, connected):
    _simulator, account = connected("aurod", populate=5)
    Account.objects.filter(pk=account.pk).update(sync_holder="another", sync_lease_until=timezone.now() + timedelta(seconds=60))
    results = []
    command = threading.Thread(target=lambda: results.append(run("conversations", "sync", "--account", account.pk, "--json")))
    command.start()
    command.join(1.5)
    assert command.is_alive() and not account.conversations.exists()
    Account.objects.filter(pk=account.pk).update(sync_holder="")
    command.join(30)
    assert results[0].document["listed"] == 5


# --- list ----------------------------------------------------------------------------------------------------------------------------


def test_the_list_and_its_filters(run, connected):
    simulator, shop = connected("aurod", populate=60, label="shop")
    _simulator, clinic = connected("chongzhiling", populate=5, label="clinic", owner=make_user("bob@example.com"))
    ids = sorted(simulator.truth())
    simulator.change_by_somebody(ids[7], title="关于退款流程的问题")
    simulator.change_by_somebody(ids[8], title="退款 and shipping")
    synced(shop)
    synced(clinic)
    everything = run("conversations", "list", "--json").lines
    assert len(everything) == 65 == len({line["id"] for line in everything}) and all(list(line) == ROW for line in everything)
    assert "" not in {line[name] for line in everything for name in ROW if name != "title"}
    stored = {conversation.pk: conversation for conversation in Conversation.objects.all()}
    for line in everything:
        conversation = stored[line["id"]]
        assert line["account"] == str(conversation.account_id) and line["remote_id"] == conversation.remote_id and line["title"] == conversation.title
    assert [line["id"] for line in everything] == [c.pk for c in Conversation.objects.order_by("-sort_at", "-pk")]
    assert {line["model"] for line in everything if line["account"] == str(clinic.pk)} == {None}  # its provider tells none

    def found(*filters):
        return [line["remote_id"] for line in run("conversations", "list", *filters, "--json").lines]

    assert set(found("--search", "退款")) == {ids[7], ids[8]}
    assert found("--search", "退款 SHIPPING") == [ids[8]]
    assert found("--search", "退货") == []
    assert len(found("--account", clinic.pk)) == 5 and len(found("--account", clinic.pk, shop.pk)) == 65
    assert found("--limit", 7) == [line["remote_id"] for line in everything][:7]
    assert len(found("--user", "bob@example.com")) == 5
    model = stored[everything[0]["id"]].model or shop.conversations.exclude(model=None).first().model
    assert set(found("--model", model)) == set(shop.conversations.filter(model=model).values_list("remote_id", flat=True)) != set()
    Conversation.objects.filter(remote_id=ids[7]).update(gone_at=timezone.now())
    assert found("--search", "退款") == [ids[8]]


# --- messages and show ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PROVIDERS)
def test_messages_newest_page_and_all(run, connected, key):
    simulator, account = connected(key)
    simulator.unlimited()
    simulator.populate(1, messages=130)
    conversation = synced(account).conversations.get()
    everything = run("conversations", "messages", conversation.pk, "--all", "--json").lines
    newest = run("conversations", "messages", conversation.pk, "--json").lines
    assert all(list(message) == MESSAGE for message in everything + newest)
    assert [message["position"] for message in everything] == list(range(1, len(everything) + 1))
    assert len(everything) == len({message["id"] for message in everything}) >= 130
    assert {message["role"] for message in everything} >= {"user", "assistant"} and everything[0]["role"] in ("user", "system")
    times = [message["created_at"] for message in everything if message["created_at"]]
    assert times == sorted(times)
    assert 0 < len(newest) < len(everything)
    assert [message["id"] for message in newest] == [message["id"] for message in everything][-len(newest) :]
    for message, whole in zip(newest, everything[-len(newest) :], strict=True):
        assert message["position"] in (None, whole["position"]) and message | {"position": 0} == whole | {"position": 0}
    assert not any(message["model"] == "" or message["created_at"] == "" or message["id"] == "" for message in everything)
    assert simulator.writes() == []


def test_show_reads_anew_and_says_when_it_is_gone(run, at_aurod):
    simulator, _account, conversation = at_aurod
    simulator.change_by_somebody(conversation.remote_id, title="新的标题", temperature=0.7)
    shown = run("conversations", "show", conversation.pk, "--json").document
    assert list(shown) == [*ROW, "config", "details", "first_message"]
    assert shown["title"] == "新的标题" and shown["config"]["temperature"] == 0.7 and shown["first_message"] != ""
    simulator.remove_by_somebody(conversation.remote_id)
    assert run("conversations", "show", conversation.pk, "--json").cause.startswith("gone: ")
    assert conversation.remote_id not in {line["remote_id"] for line in run("conversations", "list", "--json").lines}


# --- single edits --------------------------------------------------------------------------------------------------------------------


def test_switch_rename_and_configure_write_once_and_are_recorded(run, at_aurod, alice):
    simulator, account, conversation = at_aurod
    before = simulator.truth()
    model = other_model(account, conversation)

    switched = run("conversations", "switch", conversation.pk, "--model", model, "--json", cold=True).document
    assert list(switched) == [*ROW, "status", "reason", "before", "after"]
    assert (switched["status"], switched["reason"], switched["model"]) == ("applied", None, model)
    assert (switched["before"], switched["after"]) == ({"model": before[conversation.remote_id]["model"]}, {"model": model})
    renamed = run("conversations", "rename", conversation.pk, "--title", "退货政策 — 问答", "--user", "Alice@Example.com", "--json").document
    assert (renamed["status"], renamed["title"]) == ("applied", "退货政策 — 问答")
    settings = ["--set", "temperature=0.5", "contextCount=0", "--set", "prompt=a = b"]
    configured = run("conversations", "configure", conversation.pk, *settings, "--title", "Third", "--json").document
    assert configured["after"] == {"temperature": 0.5, "contextCount": 0, "prompt": "a = b", "title": "Third"}

    after = simulator.truth()
    wanted = before[conversation.remote_id] | configured["after"] | {"model": model}
    assert after == before | {conversation.remote_id: wanted}
    assert len(simulator.writes()) == 3 == len(changed(simulator))
    entries = AuditEntry.objects.order_by("pk")
    assert [(entry.actor, entry.what, entry.result) for entry in entries] == [
        (alice, "switch model", "applied"),
        (alice, "rename", "applied"),
        (alice, "edit settings", "applied"),
    ]
    again = run("conversations", "switch", conversation.pk, "--model", model, "--json").document
    assert (again["status"], again["reason"]) == ("unchanged", "already_there") and len(simulator.writes()) == 3


REFUSED = [
    (["configure", "ID", "--set", "temperature=1.5"], "temperature: Allowed is 0 to 1."),
    (["configure", "ID", "--set", "temperature=warm"], "temperature: Enter a number."),
    (["configure", "ID", "--set", "contextCount=66"], "contextCount: Allowed is 0 to 65."),
    (["configure", "ID", "--set", "contextCount=1.5"], "contextCount: Enter a whole number."),
    (["configure", "ID", "--set", "maxToken=-1"], "maxToken: Enter 0 or more."),
    (["configure", "ID", "--set", "colour=red"], "colour: There is no such setting here: colour."),
    (["configure", "ID", "--set", "temperature=0.5", "uid=1"], "uid: There is no such setting here: uid."),
    (["configure", "ID", "--title", "x", "--set", "temperature=9"], "temperature: Allowed is 0 to 1."),
    (["rename", "ID", "--title", " "], "title: This field is required."),
    (["rename", "ID", "--title", "字" * 51], "title: At most 50 characters; these are 51."),
    (["switch", "ID", "--model", "no-such-model"], "model: This account does not offer the model “no-such-model”."),
    (["switch", "ID", "--model", "gpt-4o", "--user", "bob@example.com"], "bob@example.com may not change conversations of this account"),
    (["rename", "ID", "--title", "x", "--user", "bob@example.com"], "bob@example.com may not change conversations of this account"),
    (["configure", "ID", "--set", "temperature=1", "--user", "bob@example.com"], "bob@example.com may not change conversations of this account"),
    (["rename", "ID", "--title", "x", "--user", "carol@example.com"], "there is no user carol@example.com"),
]


def test_refused_before_any_request(run, at_aurod):
    simulator, _account, conversation = at_aurod
    make_user("bob@example.com")
    for argv, cause in REFUSED:
        given = [conversation.pk if word == "ID" else word for word in argv]
        assert run("conversations", *given, "--json").cause == cause
    assert simulator.log == [] and not AuditEntry.objects.exists()


def test_wrong_usage_of_configure(run, at_aurod):
    simulator, _account, conversation = at_aurod
    for argv, cause in (([], "nothing to change"), (["--set", "temperature"], "KEY=VALUE"), (["--set", "=1"], "KEY=VALUE")):
        result = run("conversations", "configure", conversation.pk, *argv)
        assert (result.code, result.out) == (2, "") and cause in result.only_line
    assert simulator.log == []


def test_what_the_provider_did_not_do_is_1_with_what_happened(run, at_aurod, alice):
    simulator, account, conversation = at_aurod
    before = simulator.truth()
    for fault in ("ignore", "echo"):
        simulator.add_fault(fault)
        cause = run("conversations", "switch", conversation.pk, "--model", other_model(account, conversation), "--json").cause
        assert cause == "not_applied: The provider accepted the change but still shows the old value."
    assert simulator.truth() == before and len(simulator.writes()) == 2
    simulator.add_fault("cut_after", writes_only=True)
    lost = run("conversations", "rename", conversation.pk, "--title", "arrived", "--json").document
    assert (lost["status"], lost["reason"]) == ("applied", "checked_after_no_answer")
    assert len(simulator.writes()) == 3  # looked at again, never sent again
    simulator.add_fault("expired", times=99)
    assert run("conversations", "rename", conversation.pk, "--title", "z", "--json").cause.startswith("failed: ")
    simulator.clear_faults()
    simulator.change_by_somebody(conversation.remote_id, title="somebody's own")
    assert run("conversations", "rename", conversation.pk, "--title", "mine", "--json").cause.startswith("conflict: ")
    simulator.remove_by_somebody(conversation.remote_id)
    assert run("conversations", "rename", conversation.pk, "--title", "mine", "--json").cause.startswith("skipped: ")
    assert len(simulator.writes()) == 3
    results = list(AuditEntry.objects.order_by("pk").values_list("actor", "result"))
    assert results == [(alice.pk, result) for result in ("not_applied", "not_applied", "applied", "failed", "conflict")]


@pytest.mark.parametrize(
    ("key", "argv", "field"),
    [
        ("chatnio", ["switch", "ID", "--model", "gpt-4o"], "model"),
        ("nuwax", ["switch", "ID", "--model", "1"], "model"),
        ("chongzhiling", ["switch", "ID", "--model", "any"], "model"),
        ("chongzhiling", ["rename", "ID", "--title", "x"], "title"),
        ("modelrouter", ["configure", "ID", "--set", "temperature=1"], "temperature"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_provider_does_not_offer_is_1_with_its_sentence(run, connected, key, argv, field):
    simulator, account = connected(key, populate=2)
    conversation = synced(account).conversations.first()
    simulator.log.clear()
    provider = account.provider
    sentence = provider.capability(provider.op_for(field)).reason
    assert len(sentence) > 20
    cause = run("conversations", *[conversation.pk if word == "ID" else word for word in argv], "--json").cause
    assert cause == f"{field}: {sentence}"
    assert simulator.log == []
