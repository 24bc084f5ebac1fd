"""`manage.py jobs`: settings, targets from a file, and undo."""

from __future__ import annotations

import json

import pytest

from conversations.models import COUNTERS, AuditEntry, Conversation, Job
from tests.conversations.support import make_user, synced
from tests.conversations.test_undo import planned, ran, stored

from .test_jobs import ALICE, at_aurod, is_complete, unused_model, worker  # noqa: F401


@pytest.fixture
def switched(at_aurod, alice):  # noqa: F811
    """A finished job that switched 12 conversations: `simulator, account, before, job`."""
    simulator, account = at_aurod
    before = stored(simulator)
    job = ran(alice, planned(alice, account.conversations.all(), "switch-model", {"targets": {"*": unused_model(account)}}))
    return simulator, account, before, job


def counted(**counts):
    return dict.fromkeys(COUNTERS, 0) | counts


# --- previews and refusals ------------------------------------------------------------------------------------------------------------


def test_settings_are_previewed_and_checked_before_anything(run, at_aurod):  # noqa: F811
    simulator, _account = at_aurod
    start = ["jobs", "start", *ALICE, "--action", "configure"]
    preview = run(*start, "--set", "temperature=0.3", "prompt=a=b", "--unset", "maxToken", "--dry-run", "--json").document
    assert preview["action"] == "configure" and preview["preview"]["change"] == 12
    (item, *_rest) = run("jobs", "items", preview["id"], "--json").lines
    assert item["target"] == {"temperature": 0.3, "prompt": "a=b", "maxToken": 0} and item["expected"].keys() == item["target"].keys()
    Job.objects.all().delete()
    simulator.log.clear()
    refused = [
        (["--set", "temperature=9.9"], "Shop 客服, setting temperature: Allowed is 0 to 1."),
        (["--set", "temperatur=1"], "There is no such setting here: temperatur."),
        (["--unset", "temperature"], "no provider default"),
    ]
    for argv, cause in refused:
        assert cause in run(*start, *argv, "--json").cause
    usage = [
        ([*start], "configure takes --set KEY=VALUE or --unset KEY"),
        ([*start, "--set", "temperature"], "--set wants KEY=VALUE, not temperature"),
        ([*start, "--set", "temperature=1", "--to", "x"], "configure takes --set"),
        (["jobs", "start", *ALICE, "--action", "switch-model", "--set", "temperature=1"], "switch-model takes --to MODEL, --map FILE or --csv FILE"),
        (["jobs", "start", *ALICE, "--action", "switch-model", "--to", "a", "--map", "x"], "switch-model takes --to MODEL, --map FILE or --csv FILE"),
        (["jobs", "start", *ALICE, "--action", "restore"], "restore takes --undo JOB"),
        (["jobs", "start", *ALICE, "--action", "set-title"], "set-title takes --template T"),
    ]
    for argv, cause in usage:
        result = run(*argv)
        assert (result.code, result.out) == (2, "") and cause in result.only_line
    assert not Job.objects.exists() and simulator.log == []


def test_settings_where_there_are_none_tell_why(run, connected, alice):
    simulator, account = connected("nuwax", populate=2)
    simulator.unlimited()
    synced(account)
    cause = run("jobs", "start", *ALICE, "--action", "configure", "--set", "temperature=0.3").cause
    assert "there is nothing to do (2 unsupported). At Nuwax the settings belong to the agent" in cause
    assert not Job.objects.exists()


def test_a_file_says_which_model_for_whom(run, at_aurod, connected, file):  # noqa: F811
    _simulator, account = at_aurod
    _simulator, second = connected("aurod", populate=4, label="second")
    synced(second)
    model = unused_model(account)
    start = ["jobs", "start", *ALICE, "--action", "switch-model", "--dry-run", "--json", "--map"]
    for given in (file(json.dumps({"Shop 客服": model}), "targets.json"), file(f"account,to\r\nShop 客服,{model}\r\n", "targets.csv")):
        preview = run(*start, given).document
        assert (preview["preview"]["change"], preview["preview"]["unsupported"]) == (12, 4)
        items = run("jobs", "items", preview["id"], "--json").lines
        assert {(item["account"], item["reason"], item["target"]) for item in items} == {
            (str(account.pk), None, model),
            (str(second.pk), "no_target", None),
        }
    assert run(*start, "-", stdin=f"aurod,{model}").document["preview"]["change"] == 16
    cause = run(*start, file(f"second,{model}\nthird,{model}\n")).cause
    assert cause.startswith("Line 2: “third” is no account")
    assert run(*start, "/no/such/file").code == 2


def test_an_undo_is_previewed_for_all_or_for_some(run, switched, file):
    simulator, account, _before, job = switched
    simulator.log.clear()
    preview = run("jobs", "undo", job.pk, "--dry-run", "--json").document
    assert is_complete(preview) and (preview["action"], preview["state"], preview["preview"]["change"]) == ("restore", "preview", 12)
    ids = [item["id"] for item in run("jobs", "items", job.pk, "--json").lines][:5]
    some = run("jobs", "undo", f"J-{job.pk}", "--items", "-", "--dry-run", "--json", stdin="\n".join(map(str, ids))).document
    items = run("jobs", "items", some["id"], "--json").lines
    assert len(items) == 5
    old = {item["remote_id"]: item for item in run("jobs", "items", job.pk, "--json").lines}
    assert all((item["expected"], item["target"]) == (old[item["remote_id"]]["after"], old[item["remote_id"]]["before"]) for item in items)
    conversation = account.conversations.first()
    narrowed = ["jobs", "start", *ALICE, "--action", "restore", "--undo", job.pk, "--dry-run", "--json"]
    assert sum(run(*narrowed, "--ids", file(str(conversation.pk))).document["counts"].values()) == 1
    assert sum(run(*narrowed).document["counts"].values()) == 12
    assert simulator.writes() == []


def test_an_undo_that_cannot_be_is_refused_and_leaves_nothing_behind(run, switched, alice, file, connected):
    simulator, account, _before, job = switched
    draft = planned(alice, account.conversations.all(), "set-title", {"template": "x", "include_hand_made": True})
    make_user("bob@example.com")
    known = Job.objects.count()
    simulator.log.clear()
    refused = [
        (["jobs", "undo", 999], "there is no job 999"),
        (["jobs", "undo", draft.pk], "Only a job that has ended can be undone."),
        (["jobs", "undo", job.pk, "--user", "bob@example.com"], "bob@example.com may not give orders to this job"),
        (["jobs", "start", "--user", "bob@example.com", "--action", "restore", "--undo", job.pk], "bob@example.com may not give orders to this job"),
        (["jobs", "undo", job.pk, "--items", file("1\ntwo\n", "bad.txt")], "Line 2 is not the id of an item: two"),
        (["jobs", "undo", job.pk, "--items", file(str(draft.items.first().pk), "foreign.txt")], f"names items that job {job.pk} did not change"),
        (["jobs", "undo", job.pk, "--items", file("\n", "empty.txt")], "There is nothing to undo"),
        (["jobs", "start", *ALICE, "--action", "restore", "--undo", job.pk, "--search", "no such words"], "There is nothing to undo"),
    ]
    for argv, cause in refused:
        assert cause in run(*argv).cause
    assert Job.objects.count() == known and simulator.log == []
    Conversation.objects.filter(account=account).update(gone_at="2026-01-01T00:00Z")
    assert "there is nothing to do (12 gone)" in run("jobs", "undo", job.pk).cause
    assert Job.objects.count() == known


# --- with a real worker ---------------------------------------------------------------------------------------------------------------


def test_settings_and_their_undo_that_a_worker_runs(run, at_aurod, alice, worker):  # noqa: F811
    simulator, account = at_aurod
    before = stored(simulator)
    wanted = ["--action", "configure", "--account", account.pk, "--set", "temperature=0.7", "contextCount=3", "--wait", "--json"]
    done = run("jobs", "start", *ALICE, *wanted).document
    assert (done["action"], done["state"], done["counts"]) == ("configure", "done", counted(applied=12))
    assert stored(simulator) == {key: values | {"temperature": 0.7, "contextCount": 3} for key, values in before.items()}
    ids = [item["id"] for item in run("jobs", "items", done["id"], "--json").lines][:4]
    some = run("jobs", "undo", done["id"], "--items", "-", "--wait", "--json", "--note", "why", stdin="\n".join(map(str, ids))).document
    assert (some["action"], some["counts"]) == ("restore", counted(applied=4))
    assert Job.objects.get(pk=some["id"]).undo_of_id == done["id"] and Job.objects.get(pk=some["id"]).note == "why"
    back = run("jobs", "undo", done["id"], "--wait", "--json").document
    assert back["counts"] == counted(applied=8, unchanged=4) and stored(simulator) == before
    assert AuditEntry.objects.filter(what="restore", result="applied", actor=alice).count() == 12
    simulator.change_by_somebody(next(iter(before)), temperature=0.1)
    again = run("jobs", "undo", back["id"], "--wait", "--json")
    assert again.code == 3 and json.loads(again.out)["counts"] == counted(applied=7, conflict=1)
