"""A file of targets: what it may say, and that every mistake is found with its line."""

from __future__ import annotations

import json
import re

import pytest
from django.core.exceptions import ValidationError

from conversations import jobs, targets
from conversations.models import Conversation

from .support import synced
from .test_undo import planned, ran


@pytest.fixture
def accounts(connected):
    """Two accounts at aurod and one at ModelRouter, read: `one, two, router`."""
    found = []
    for key, label in (("aurod", "one"), ("aurod", "店铺, 二"), ("modelrouter", "router")):
        simulator, account = connected(key, label=label, populate=4)
        simulator.unlimited()
        found.append(synced(account))
    return found


def test_json_and_csv_say_the_same(accounts):
    one, two, router = accounts
    a, b, c = list(one.catalogue.values_list("model_id", flat=True))[:3]
    document = {str(one.pk): a, "店铺, 二": {a: b, "*": c}, "modelrouter": "2"}
    lines = ["account,from,to", f"{one.pk},,{a}", "", f'"店铺, 二",{a},{b}', f'"店铺, 二",*,{c}', "modelrouter, ,2"]
    wanted = {str(one.pk): a, str(two.pk): {a: b, "*": c}, "modelrouter": "2"}
    assert targets.read(json.dumps(document), accounts) == wanted
    assert targets.read(json.dumps(document, indent=2, ensure_ascii=False), accounts) == wanted
    assert targets.read("\r\n".join(lines), accounts) == wanted
    assert targets.read(f"router,1\n{one.pk},{a}\n", accounts) == {str(router.pk): "1", str(one.pk): a}


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ('{\n "one": "A",\n "aurod" "B"}', 3, "this is not JSON"),
        ('{\n "one": "A",\n "nobody": "B"}', 3, "“nobody” is no account that you may change"),
        ('{\n "one": "A",\n "router": "no such model"}', 3, "router does not offer the model “no such model”"),
        ('{\n "one": {\n "A": "B",\n "B": 7}}', 4, "named by its id"),
        ('{"one": "A",\n\n "one": "B"}', 3, "“one” is named a second time"),
        ('{"one": ""}', 1, "no model is named"),
        ('{"one": {"A": "B",\n "A": "B"}}', 2, "“one, A” is named a second time"),
        ("account,to\none,A\nnobody,B\n", 3, "“nobody” is no account"),
        ("one,A\n\none\n", 3, "two or three cells"),
        ("one,A\nrouter,2\none,B", 3, "a second time"),
        ('one,A\n"one,B', 2, "this is not CSV"),
        ("one,A,\n", 1, "no model is named"),
        ("", None, "The file names no model."),
        ("account,to\n", None, "The file names no model."),
        ("{}", None, "The file names no model."),
    ],
)
def test_every_mistake_is_found_with_its_line(accounts, text, line, cause):
    a, b = list(accounts[0].catalogue.values_list("model_id", flat=True))[:2]
    text = re.sub(r"\bA\b", a, re.sub(r"\bB\b", b, text))
    cause = re.sub(r"\bA\b", a, cause)
    with pytest.raises(ValidationError) as refused:
        targets.read(text, accounts)
    (message,) = refused.value.messages
    assert cause in message and (line is None or message.startswith(f"Line {line}: "))


def test_two_accounts_of_one_name_are_told_apart_by_their_ids(accounts):
    one, two, _router = accounts
    two.label = "one"
    with pytest.raises(ValidationError, match="Line 1: several accounts are called “one”"):
        targets.read("one,2", [one, two])
    model = one.catalogue.first().model_id
    assert targets.read(f"{str(one.pk).upper()},{model}", [one, two]) == {str(one.pk): model}


def test_the_model_that_a_conversation_is_on_decides_where_a_file_says_so(accounts, alice):
    one, two, router = accounts
    rows = list(one.conversations.order_by("pk"))
    first, rest = rows[0], [row for row in rows[1:] if row.model != rows[0].model]
    assert rest
    a, b = [model for model in one.catalogue.values_list("model_id", flat=True) if model not in {row.model for row in rows}][:2]
    given = targets.read(json.dumps({"one": {first.model: a}, "店铺, 二": b}), accounts)
    job = planned(alice, Conversation.objects.all(), "switch-model", {"targets": given})
    by_row = {item.conversation_id: (item.status, item.reason, item.target) for item in job.items.all()}
    assert by_row[first.pk] == ("pending", "", {"model": a})
    assert all(by_row[row.pk] == ("skipped", "no_target", None) for row in rest)
    assert all(by_row[row.pk] == ("pending", "", {"model": b}) for row in two.conversations.all())
    assert all(by_row[row.pk] == ("skipped", "no_target", None) for row in router.conversations.all())
    job = ran(alice, job)
    assert {item.after["model"] for item in job.items.filter(account=one, status="applied")} == {a}


def test_a_model_that_an_account_of_a_named_provider_does_not_offer_is_refused(accounts, alice):
    job = jobs.create(alice, "switch-model", Conversation.objects.all())
    known = accounts[0].catalogue.first().model_id
    with pytest.raises(ValidationError, match="does not offer the model “nonsense”"):
        jobs.plan(job, {"targets": targets.read(f"aurod,{known},nonsense", accounts)})
