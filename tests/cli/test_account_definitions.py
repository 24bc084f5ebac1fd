"""`manage.py accounts export|import`: out of one user's hands into another's, without secrets."""

from __future__ import annotations

import json

from accounts import labels
from accounts.models import Account, Health
from tests.conversations.support import make_user


def test_accounts_are_exported_and_imported(run, connected, alice, file):
    simulator, account = connected("nuwax", label="Market 市场")
    labels.add(account, "client-a")
    Account.objects.filter(pk=account.pk).update(rate=2.5)
    printed = run("accounts", "export", "--user", alice.email)
    assert printed.code == 0 and json.loads(printed.out)["accounts"][0]["label"] == "Market 市场"
    assert simulator.credential()["api_key"] not in printed.out

    bob = make_user("bob@example.com")
    made = run("accounts", "import", "--user", bob.email, "--file", file(printed.out, "accounts.json"), "--json")
    assert made.code == 0, made.err
    assert [(row["label"], row["health"], row["cause"]) for row in made.lines] == [("Market 市场", "needs_reauth", "credential_missing")]
    assert Account.objects.get(owner=bob).health == Health.NEEDS_REAUTH
    again = run("accounts", "import", "--user", bob.email, "--file", "-", "--json", stdin=printed.out)
    assert again.code == 1 and again.out == "" and "entry 1 (Market 市场): You already have an account with this label." in again.err


def test_what_is_no_export_is_wrong_usage(run, alice):
    refused = run("accounts", "import", "--user", alice.email, "--file", "-", stdin="{}")
    assert refused.code == 2 and "not a list of accounts" in refused.err and not Account.objects.exists()
