"""`manage.py accounts`: credentials of all five providers from files and stdin, tested, sealed, listed, tried again and deleted."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from accounts import services
from accounts.models import Account
from conversations import jobs
from conversations.models import AuditEntry, Job
from tests.conversations.support import make_user, synced
from tests.simulators import nuwax_data

FIELDS = ["id", "provider", "label", "owner", "base_url", "health", "cause", "conversations", "synced_at"]
PROVIDERS = ["aurod", "modelrouter", "chatnio", "nuwax", "chongzhiling"]
# Shaped like the real ones, and refused.
WRONG = {
    "aurod": {"token": "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjF9.c3ludGhldGlj", "app_version": "2.14.0"},
    "modelrouter": {"access_key_id": "LTAI5tSyntheticWrongKey1", "access_key_secret": "syntheticwrongsecret0123456789"},
    "chatnio": {"secret": "sk-" + "0" * 60},
    "nuwax": {"api_key": "ak-" + "0" * 32},
    "chongzhiling": {"api_key": "synthetic-wrong-key-0001", "user_id": "10086"},
}


@pytest.fixture
def add(run, alice, file):
    """A function that adds an account of Alice's from a document, which is given on stdin, or as a file when `path` is true."""

    def call(key, url, document, *more, label="One", path=False, **options):
        text = document if isinstance(document, str | bytes) else json.dumps(document, ensure_ascii=False)
        source = file(text, "credentials.json") if path else "-"
        argv = ["accounts", "add", "--user", alice.email, "--provider", key, "--label", label, "--base-url", url, "--credentials", source]
        return run(*argv, "--json", *more, stdin=b"" if path else text, **options)

    return call


def secrets_of(key, document):
    names = {field.name for field in services.get_provider(key).credential_fields if field.secret}
    return [value for name, value in document.items() if name in names]


def everything_stored():
    """The text of every table: what a thief of the database would read."""
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        rows = []
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            rows.append(repr(cursor.fetchall()))
    return "\n".join(rows)


@pytest.mark.parametrize("key", PROVIDERS)
def test_an_account_of_each_provider_is_tested_and_stored(run, add, serve, alice, key):
    simulator, url = serve(key, populate=7)
    simulator.unlimited()
    document = simulator.credential()
    row = add(key, url + "/", document, label=f"  {key} 账号 ", path=key in ("aurod", "nuwax")).document
    assert list(row) == FIELDS
    account = Account.objects.get()
    assert row == {
        "id": str(account.pk),
        "provider": key,
        "label": f"{key} 账号",
        "owner": alice.email,
        "base_url": url,
        "health": "ok",
        "cause": None,
        "conversations": None,  # nobody has read them yet
        "synced_at": None,
    }
    assert simulator.log and not simulator.writes()
    opened = {name: value.reveal() for name, value in services.credentials_of(account).items()}
    assert opened == services.clean_credentials(account.provider, document)

    tested = run("accounts", "test", "--account", account.pk, "--json").document
    assert tested["id"] == str(account.pk) and tested["latency_ms"] >= 0
    assert tested["conversations"] == len(simulator.truth()) or key == "nuwax"
    assert "" not in tested.values()

    synced(account)
    (listed,) = run("accounts", "list", "--json").lines
    assert list(listed) == FIELDS and listed["conversations"] == account.conversations.count() > 0 and listed["synced_at"] is not None
    stored = everything_stored()
    for secret in secrets_of(key, document):
        assert not any(secret in text for text in [*run.seen, stored])


@pytest.mark.parametrize("key", PROVIDERS)
def test_a_wrong_credential_is_refused_and_nothing_is_stored(run, add, serve, key):
    simulator, url = serve(key, populate=2)
    simulator.unlimited()
    cause = add(key, url, WRONG[key]).cause
    assert cause.startswith(("credentials_rejected: ", "rejected: ")) and len(cause) > 30, cause
    assert simulator.log and not Account.objects.exists()
    assert not any(secret in text for text in run.seen for secret in secrets_of(key, WRONG[key]))


@pytest.mark.parametrize("key", PROVIDERS)
def test_no_test_stores_it_without_a_request(run, add, serve, key):
    simulator, url = serve(key, populate=2)
    row = add(key, url, WRONG[key], "--no-test").document
    assert simulator.log == []
    assert row["health"] is None and row["cause"] is None and Account.objects.get().health == "unknown"


def test_documents_may_hold_numbers_lists_and_nulls(run, add, serve):
    simulator, url = serve("nuwax", populate=5)
    document = {"api_key": nuwax_data.ACCOUNT_KEY, "agent_ids": [nuwax_data.HELPDESK, str(nuwax_data.MARKET)]}
    row = add("nuwax", url, document, label="account key").document
    opened = services.credentials_of(Account.objects.get(pk=row["id"]))
    assert opened["agent_ids"].reveal() == f"{nuwax_data.HELPDESK}, {nuwax_data.MARKET}"
    assert add("nuwax", url, simulator.agent_credential(), label="agent key").document["health"] == "ok"

    simulator, url = serve("chongzhiling", populate=3)
    numbered = simulator.credential() | {"access_token": None}
    assert add("chongzhiling", url, "\ufeff" + json.dumps(numbered), label="key, null token").document["health"] == "ok"
    token = simulator.ready_token()
    assert add("chongzhiling", url, {"access_token": token}, label="ready token").document["health"] == "ok"
    assert not any(token in text for text in run.seen)


REFUSED_DOCUMENTS = [
    ("aurod", "token=abc", 2, "the credential document is not JSON"),
    ("aurod", "", 2, "the credential document is not JSON"),
    ("aurod", b"\xff\xfe", 2, "cannot read standard input"),
    ("aurod", '{"token": "\\ud800"}', 2, "the credential document is not JSON"),
    ("aurod", '["token"]', 2, "the credential document must be a JSON object"),
    ("aurod", {}, 1, "token: This field is required."),
    ("aurod", {"token": {"a": 1}}, 1, "token: This must be text."),
    ("aurod", {"token": True}, 1, "token: This must be text."),
    ("aurod", {"token": "x", "password": "y"}, 1, "aurod has no field password."),
    ("modelrouter", {"access_key_id": "LTAIsynthetic"}, 1, "access_key_secret: This field is required."),
    ("modelrouter", {"access_key_id": "STS.synthetic1", "access_key_secret": "s"}, 1, "security_token: "),
    ("nuwax", {"api_key": "ak-synthetic", "agent_ids": ["x"]}, 1, "agent_ids: Agent ids are whole numbers"),
    ("chongzhiling", {"user_id": "1"}, 1, "api_key: Give an API key or a company id"),
    ("chongzhiling", {"corp_id": "corp"}, 1, "user_id: A key needs the user id"),
]


def test_documents_that_cannot_be_tried_are_refused_before_any_request(add, serve):
    simulator, url = serve("aurod")  # whoever is there: nobody is asked
    for key, document, code, cause in REFUSED_DOCUMENTS:
        result = add(key, url, document)
        assert (result.code, result.out) == (code, "") and cause in result.only_line, (key, document)
    assert simulator.log == [] and not Account.objects.exists()


def test_what_else_is_wrong_with_a_new_account(run, add, serve, alice):
    simulator, url = serve("aurod", populate=2)
    document = simulator.credential()
    for address in ("http://10.0.0.7/", "http://example.com/", "https://user:pw@example.com/", "ftp://127.0.0.1/", "not an address"):
        assert add("aurod", address, document).cause.startswith("This address cannot be used: ")
    assert "label: " in add("aurod", url, document, label="   ").cause
    assert "label: " in add("aurod", url, document, label="x" * 81).cause
    assert simulator.log == []
    add("aurod", url, document, label="Taken", path=True)
    assert add("aurod", url, document, "--no-test", label="Taken").cause == "label: You already have an account with this label."
    alice.is_active = False
    alice.save()
    assert add("aurod", url, document, label="Other").cause == "alice@example.com is not active"
    assert Account.objects.count() == 1


def test_the_list_shows_one_users_accounts_or_all(run, connected):
    _simulator, mine = connected("aurod", populate=1, label="mine")
    _simulator, theirs = connected("chatnio", populate=1, label="theirs", owner=make_user("bob@example.com"))
    assert {row["id"] for row in run("accounts", "list", "--json").lines} == {str(mine.pk), str(theirs.pk)}
    assert [row["label"] for row in run("accounts", "list", "--user", "bob@example.com", "--json").lines] == ["theirs"]
    table = run("accounts", "list", "--user", "ALICE@example.com").out.splitlines()
    assert table[0].split() == FIELDS and len(table) == 2 and " - " in table[1]  # unknown is a dash


def test_an_expired_credential_shows_in_test_and_list(run, connected):
    simulator, account = connected("aurod", populate=1)
    simulator.add_fault("expired", times=99)
    assert run("accounts", "test", "--account", account.pk, "--json").cause.startswith("credentials_rejected: ")
    (row,) = run("accounts", "list", "--json").lines
    assert (row["health"], row["cause"]) == ("needs_reauth", "credentials_rejected")
    simulator.clear_faults()
    assert run("accounts", "test", "--account", account.pk, "--json").document["conversations"] == 1
    assert run("accounts", "list", "--json").lines[0]["health"] == "ok"


def test_what_another_user_may_not_do_with_an_account(run, connected):
    simulator, account = connected("aurod", populate=1)
    make_user("bob@example.com")
    simulator.log.clear()
    for command in ("test", "delete"):
        cause = run("accounts", command, "--account", account.pk, "--user", "bob@example.com", "--json").cause
        assert cause == "bob@example.com may not do that with this account"
        assert run("accounts", command, "--account", account.pk, "--user", "carol@example.com").cause == "there is no user carol@example.com"
    services.pause_account(account)
    assert "paused" in run("accounts", "test", "--account", account.pk).cause
    assert simulator.log == [] and Account.objects.filter(pk=account.pk).exists()


def test_deleting_ends_open_items_and_is_recorded(run, connected, alice):
    simulator, account = connected("aurod", populate=3, label="Shop 客服")
    synced(account)
    job = jobs.plan(jobs.create(alice, "set-title", account.conversations.all()), {"template": "x {n}", "include_hand_made": True})
    jobs.start(alice, job)
    simulator.log.clear()
    row = run("accounts", "delete", "--account", account.pk, "--user", alice.email, "--json").document
    assert row == {"id": str(account.pk), "label": "Shop 客服", "deleted": True}
    assert not Account.objects.exists() and simulator.log == []
    assert Job.objects.get().counts["cancelled"] == 3
    entry = AuditEntry.objects.get(what="delete account")
    assert (entry.actor, entry.what, entry.account_label, entry.result) == (alice, "delete account", "Shop 客服", "applied")
    assert run("accounts", "delete", "--account", account.pk).cause == f"there is no account {account.pk}"
