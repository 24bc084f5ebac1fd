"""`manage.py jobs start` for titles and lists: find and replace, regular expressions, files with one line for each conversation."""

from __future__ import annotations

import pytest

from conversations.models import Conversation, Job
from tests.conversations.support import synced

START = ("jobs", "start", "--user", "alice@example.com")
TITLES = (*START, "--action", "set-title")


@pytest.fixture
def at_aurod(connected):
    """Alice's account with 12 conversations at a simulator, read once."""
    simulator, account = connected("aurod", populate=12, label="Shop 客服")
    return simulator, synced(account)


def targets(run, *argv, **more):
    """Returns remote id -> target of a dry run."""
    job = run(*argv, "--dry-run", "--json", **more).document
    return {item["remote_id"]: item["target"] for item in run("jobs", "items", job["id"], "--json").lines}


def test_find_and_replace_with_and_without_a_regular_expression(run, at_aurod):
    _simulator, account = at_aurod
    one = account.conversations.filter(untitled=False).first()
    Conversation.objects.filter(pk=one.pk).update(title="2026-01 a.b")
    ids = ("--ids", "-")
    assert targets(run, *TITLES, *ids, "--find", "a.b", "--replace", "周报", stdin=str(one.pk)) == {one.remote_id: "2026-01 周报"}
    assert targets(run, *TITLES, *ids, "--find", "2026-01 ", stdin=str(one.pk)) == {one.remote_id: "a.b"}
    found = targets(run, *TITLES, *ids, "--find", r"(\d+)-(\d+) .*", "--replace", r"\2/\1", "--regex", stdin=str(one.pk))
    assert found == {one.remote_id: "01/2026"}
    assert run(*TITLES, "--find", "(a", "--regex").cause == "find: At character 1: a parenthesis is not closed."
    assert run(*TITLES, "--find", "a", "--replace", r"\1", "--regex").cause.startswith("replace: At character 2:")
    assert "takes too long" in run(*TITLES, "--find", "(?:(?:(?:(?:){1000}){1000}){1000}){1000}", "--regex").cause


def test_a_command_replaces_every_title_unless_told_to_keep_them(run, at_aurod):
    _simulator, account = at_aurod
    untitled = set(account.conversations.filter(untitled=True).values_list("remote_id", flat=True))
    assert 0 < len(untitled) < 12
    assert all(targets(run, *TITLES, "--template", "T {n}").values())
    kept = targets(run, *TITLES, "--template", "T {n}", "--keep-titles")
    assert len(kept) == 12 and {remote_id for remote_id, target in kept.items() if target} == untitled


def test_a_list_makes_a_job_of_exactly_its_lines_and_names_the_others(run, at_aurod, file):
    simulator, account = at_aurod
    rows = list(account.conversations.order_by("rank"))
    text = f'id,title\n{rows[0].pk},"周报，第 1 期"\n{rows[1].pk},two\n99999999,x\n{rows[0].pk},again\n,lost\n'
    path = file(text.encode("gb18030"), "titles.csv")
    preview = run(*TITLES, "--csv", path, "--dry-run", "--json").document
    assert list(preview) == ["id", "action", "state", "counts", "preview", "rejected"] and preview["preview"]["change"] == 2
    assert [one["line"] for one in preview["rejected"]] == [4, 5, 6]
    assert preview["rejected"][0] == {"line": 4, "reason": "There is no conversation 99999999."}
    items = run("jobs", "items", preview["id"], "--json").lines
    assert {item["remote_id"]: item["target"] for item in items} == {rows[0].remote_id: "周报，第 1 期", rows[1].remote_id: "two"}
    assert Job.objects.get(pk=preview["id"]).params["list"] == "titles.csv"
    started = run(*TITLES, "--csv", "-", "--json", stdin=f"account,remote_id,title\nShop 客服,{rows[2].remote_id},three\n").document
    assert started["state"] == "running" and started["rejected"] == []
    assert simulator.writes() == []


def test_models_come_from_a_list_too(run, at_aurod, file):
    _simulator, account = at_aurod
    row = account.conversations.first()
    model = account.catalogue.exclude(model_id=row.model).first().model_id
    path = file(f'{{"id": {row.pk}, "model": "{model}"}}\n{{"id": {row.pk + 1}, "model": "no-such"}}\n', "models.jsonl")
    assert targets(run, *START, "--action", "switch-model", "--csv", path) == {row.remote_id: model}


def test_lists_and_options_that_cannot_be_used_leave_no_job_behind(run, at_aurod, file):
    simulator, _account = at_aurod
    refused = [
        ("id,name\n1,x\n", "Line 1 must name the columns"),
        ("id,title\n99999999,x\n", "None of these lines can be carried out. Line 2: There is no conversation 99999999."),
        ('id,title\n1,"x\n', "Line 2: a quotation mark is opened there"),
        ("", "The list is empty."),
    ]
    for text, cause in refused:
        assert cause in run(*TITLES, "--csv", file(text, "list.csv")).cause
    usage = [
        (*TITLES, "--csv", "/no/such/file"),
        (*TITLES, "--csv", file("id,title\n1,x", "list.csv"), "--search", "x"),
        (*TITLES, "--csv", file("id,title\n1,x", "list.csv"), "--template", "x"),
        (*TITLES, "--template", "x", "--regex"),
        (*TITLES, "--template", "x", "--replace", "y"),
        (*TITLES, "--find", "x", "--keep-titles"),
        (*START, "--action", "switch-model", "--find", "x"),
        (*START, "--action", "configure", "--template", "x"),
    ]
    for argv in usage:
        result = run(*argv)
        assert (result.code, result.out) == (2, ""), argv
    assert not Job.objects.exists() and simulator.writes() == []
