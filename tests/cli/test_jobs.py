"""`manage.py jobs`: previews that write nothing, jobs that a real worker runs, and what is said about their results."""

from __future__ import annotations

import csv
import io
import json
import threading
import time

import pytest

from accounts import services
from conversations import canary, jobs, wake
from conversations.management.commands import jobs as command
from conversations.models import COUNTERS, AuditEntry, Conversation, Job
from conversations.states import ItemStatus, Move, transition
from tests.conversations.support import make_user, synced

JOB = ["id", "action", "state", "counts"]
ITEM = ["id", "account", "remote_id", "title", "status", "reason", "expected", "before", "target", "after", "attempts"]
ALICE = ("--user", "alice@example.com")


@pytest.fixture
def at_aurod(connected):
    """A simulator with 12 conversations and Alice's account there, read once."""
    simulator, account = connected("aurod", populate=12, label="Shop 客服")
    synced(account)
    simulator.log.clear()
    return simulator, account


def unused_model(account):
    used = set(account.conversations.values_list("model", flat=True))
    return account.catalogue.exclude(model_id__in=used).first().model_id


def writes(simulator):
    """How often each conversation was written, and how often that changed something."""
    return len(simulator.writes()), len([call for call in simulator.writes() if call.changed])


def is_complete(job):
    """True when a job document has exactly the promised fields."""
    return list(job)[:4] == JOB and list(job["counts"]) == list(COUNTERS) and all(isinstance(n, int) for n in job["counts"].values())


# --- previews and refusals: no worker is there ---------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_split_and_writes_nothing(run, at_aurod, connected):
    simulator, account = at_aurod
    chatnio, other = connected("chatnio", populate=3)
    chatnio.unlimited()
    synced(other)
    model = account.conversations.first().model
    already = account.conversations.filter(model=model).count()
    preview = run("jobs", "start", *ALICE, "--action", "switch-model", "--to", model, "--dry-run", "--json").document
    assert list(preview) == [*JOB, "preview"] and is_complete(preview)
    assert (preview["action"], preview["state"], sum(preview["counts"].values())) == ("switch-model", "preview", 15)
    split = {"change": 12 - already, "reading": 0, "unchanged": already, "drifted": 0, "unsupported": 3, "gone": 0, "other": 0}
    assert preview["preview"] == split
    items = run("jobs", "items", preview["id"], "--json").lines
    assert len(items) == 15 and all(list(item) == ITEM for item in items)
    assert "" not in {value for item in items for name, value in item.items() if name != "title"}
    assert {(item["status"], item["reason"]) for item in items if item["account"] == str(other.pk)} == {("skipped", "unsupported")}
    for item in items:
        if item["account"] == str(account.pk):
            assert (item["expected"], item["target"]) == (Conversation.objects.get(remote_id=item["remote_id"], account=account).model, model)
            assert (item["before"], item["after"], item["attempts"]) == (None, None, 0)
    titles = run("jobs", "start", *ALICE, "--action", "set-title", "--template", "{first_message:9} {n}", "--dry-run", "--json").document
    assert titles["preview"]["reading"] + titles["preview"]["change"] == 15
    assert simulator.writes() == [] == chatnio.writes() and not AuditEntry.objects.exists()


def test_the_selection_is_what_was_asked_for(run, at_aurod, connected, file):
    _simulator, account = at_aurod
    _simulator, second = connected("aurod", populate=4, label="second")
    synced(second)
    rows = list(account.conversations.order_by("pk"))
    Conversation.objects.filter(pk=rows[0].pk).update(title="退款流程")
    model = unused_model(account)

    def selected(*filters, stdin=""):
        start = ["jobs", "start", *ALICE, "--action", "switch-model", "--to", model, "--dry-run", "--json"]
        return {item["remote_id"] for item in run("jobs", "items", run(*start, *filters, stdin=stdin).document["id"], "--json").lines}

    assert len(selected("--account", account.pk)) == 12
    assert selected("--search", "退款") == {rows[0].remote_id}
    on_model = {row.remote_id for row in rows if row.model == rows[1].model}
    assert selected("--model", rows[1].model, "--account", account.pk) == on_model
    ids = file(f"\ufeff{rows[2].pk}\r\n\n  {rows[3].pk} \n{rows[2].pk}\n")
    assert selected("--ids", ids) == {rows[2].remote_id, rows[3].remote_id}
    assert selected("--ids", "-", stdin=f"{rows[5].pk}\n") == {rows[5].remote_id}
    assert selected("--ids", ids, "--account", account.pk, second.pk, "--model", rows[2].model) >= {rows[2].remote_id}


def test_what_cannot_be_started_leaves_no_job_behind(run, at_aurod, connected, file, alice):
    simulator, account = at_aurod
    clinic, third = connected("chongzhiling", populate=2, label="clinic")
    synced(third)
    _simulator, theirs = connected("aurod", populate=2, label="theirs", owner=make_user("bob@example.com"))
    foreign = synced(theirs).conversations.first()
    mine = account.conversations.first()
    model = unused_model(account)
    switch = ["--action", "switch-model", "--to", model]
    sentence = third.provider.capability(command.plans.OPS["switch-model"]).reason
    refused = [
        (["--action", "set-title", "--template", "{titel} x"], "{titel} at character 1 is not known"),
        (["--action", "set-title", "--template", "{title"], "A brace is not closed"),
        (["--action", "set-title", "--template", " "], "Write a template"),
        (["--action", "switch-model", "--to", "no-such-model"], "Shop 客服 does not offer the model “no-such-model”."),
        (["--action", "switch-model", "--to", ""], "Choose a model"),
        ([*switch, "--search", "no title has this"], "Nothing is selected"),
        ([*switch, "--account", str(theirs.pk)], "alice@example.com may not change conversations of theirs"),
        ([*switch, "--account", "7"], "there is no account 7"),
        ([*switch, "--ids", str(file(f"{mine.pk}\nseven\n", "bad.txt"))], "Line 2 is not a conversation id: seven"),
        ([*switch, "--ids", str(file(f"{mine.pk}\n{foreign.pk}\n", "foreign.txt"))], f"do not exist: {foreign.pk}"),
        ([*switch, "--ids", str(file("987654321\n987654322\n", "none.txt"))], "do not exist: 987654321, 987654322"),
        ([*switch, "--ids", str(file("9" * 30, "huge.txt"))], "Line 1 is not a conversation id: " + "9" * 30),
        ([*switch, "--account", str(third.pk)], f"there is nothing to do (2 unsupported). {sentence}"),
    ]
    for argv, cause in refused:
        assert cause in run("jobs", "start", *ALICE, *argv, "--json").cause
    assert run("jobs", "start", "--user", "carol@example.com", *switch).cause == "there is no user carol@example.com"
    missing = run("jobs", "start", *ALICE, *switch, "--ids", "/no/such/file")
    assert (missing.code, missing.out) == (2, "") and "/no/such/file" in missing.only_line
    alice.is_active = False
    alice.save()
    assert run("jobs", "start", *ALICE, *switch).cause == "alice@example.com is not active"
    assert not Job.objects.exists() and simulator.log == [] and not clinic.writes()


def test_waiting_without_a_worker_ends_with_no_worker_online(run, at_aurod):
    simulator, account = at_aurod
    assert command.NO_WORKER_AFTER == 30
    argv = ["jobs", "start", *ALICE, "--action", "switch-model", "--to", unused_model(account), "--wait", "--json"]
    began = time.monotonic()
    result = run(*argv, SWITCHBOARD_NO_WORKER_AFTER="1")
    assert 1 <= time.monotonic() - began < 15
    assert result.code == 1 and result.only_line.startswith("no worker online")
    job = json.loads(result.out)
    assert is_complete(job) and (job["state"], job["counts"]["pending"]) == ("running", 12)
    assert simulator.log == []

    # A worker that was killed left a sign of life: its clock is not believed, its silence is.
    command.workers.beat()
    began = time.monotonic()
    again = run(*argv[:-2], "--wait", SWITCHBOARD_NO_WORKER_AFTER="1")
    assert time.monotonic() - began < 15
    assert again.code == 1 and "no worker online" in again.err and "state: running" in again.out

    make_user("bob@example.com")
    assert run("jobs", "cancel", job["id"], "--user", "bob@example.com", "--json").cause == "bob@example.com may not give orders to this job"
    cancelled = run("jobs", "cancel", f"J-{job['id']}", "--json").document
    assert is_complete(cancelled) and (cancelled["state"], cancelled["counts"]["cancelled"]) == ("cancelled", 12)
    assert run("jobs", "cancel", job["id"], "--json").cause == "the job has ended already"
    assert run("jobs", "retry", job["id"], "--json").cause == "no item of this job can be tried again"
    assert run("jobs", "show", job["id"], "--json").document == cancelled
    assert {item["status"] for item in run("jobs", "items", job["id"], "--json").lines} == {"cancelled"}
    assert simulator.log == []


def test_a_job_is_paused_resumed_and_watched_without_a_worker(run, at_aurod, alice):
    _simulator, account = at_aurod
    start = ["jobs", "start", *ALICE, "--action", "switch-model", "--to", unused_model(account), "--json"]
    job = run(*start, "--priority", "3").document
    assert Job.objects.get(pk=job["id"]).priority == 3
    watched = run("jobs", "watch", job["id"], "--json", SWITCHBOARD_NO_WORKER_AFTER="1")
    assert watched.code == 1 and watched.only_line.startswith("no worker online") and json.loads(watched.out) == job
    assert run("jobs", "resume", job["id"], "--json").cause == "the job is not paused"
    paused = run("jobs", "pause", f"J-{job['id']}", "--json").document
    assert is_complete(paused) and paused["state"] == "paused"
    assert run("jobs", "pause", job["id"], "--json").cause == "the job is not running"
    make_user("bob@example.com")
    for order in ("pause", "resume"):
        assert "may not give orders" in run("jobs", order, job["id"], "--user", "bob@example.com", "--json").cause
    assert run("jobs", "resume", job["id"], "--json").document["state"] == "running"
    draft = run(*start, "--dry-run").document
    assert run("jobs", "watch", draft["id"], "--json").cause == "the job has not been started"
    for wrong in (["--canary", "0"], ["--canary", "1001"], ["--canary", "5", "--canary-limit", "100"], ["--priority", "-1001"]):
        assert run(*start, *wrong).code == 2
    assert Job.objects.count() == 2


def test_an_account_that_its_first_conversations_stopped_is_let_go_on(run, at_aurod, alice):
    _simulator, account = at_aurod
    start = ["jobs", "start", *ALICE, "--action", "switch-model", "--to", unused_model(account), "--json"]
    job = run(*start, "--canary", "5", "--canary-limit", "0").document
    assert (job["counts"]["pending"], job["counts"]["waiting"]) == (5, 7) and Job.objects.get().canary_limit == 0
    items = Job.objects.get().items.filter(status="pending")
    moves = [Move(item.pk, job["id"], ItemStatus.PENDING, ItemStatus.RUNNING) for item in items]
    transition(moves)
    transition([Move(move.item_id, job["id"], ItemStatus.RUNNING, ItemStatus.NOT_APPLIED) for move in moves])
    canary.judge(Job.objects.get(), account.pk)
    watched = run("jobs", "watch", job["id"])
    assert watched.code == 3 and watched.out == f"J-{job['id']} waiting: 5 of 12 done (7 waiting, 5 not_applied)\n"
    resume = ["jobs", "resume", job["id"], "--account", account.pk, "--json"]
    assert run(*resume).document["counts"]["pending"] == 7
    assert run(*resume).cause == "nothing of this account waits for its first conversations"


def test_an_item_whose_outcome_nobody_knows_is_unknown(run, at_aurod, alice):
    _simulator, account = at_aurod
    job = jobs.plan(jobs.create(alice, "set-title", account.conversations.filter(rank__lt=3)), {"template": "x", "include_hand_made": True})
    jobs.start(alice, job)
    items = list(job.items.all())
    transition([Move(item.pk, job.pk, ItemStatus.PENDING, ItemStatus.RUNNING) for item in items])
    ended = ((items[0], "outcome_unknown"), (items[1], "rejected"))
    transition([Move(item.pk, job.pk, ItemStatus.RUNNING, ItemStatus.FAILED, reason, {"before": {"title": item.title}}) for item, reason in ended])
    counts = run("jobs", "show", job.pk, "--json").document["counts"]
    assert counts == dict.fromkeys(COUNTERS, 0) | {"unknown": 1, "failed": 1, "running": 1}
    found = run("jobs", "items", job.pk, "--json").lines
    assert [(item["status"], item["reason"]) for item in found] == [("unknown", "outcome_unknown"), ("failed", "rejected"), ("running", None)]
    assert [item["id"] for item in run("jobs", "items", job.pk, "--status", "unknown", "--json").lines] == [items[0].pk]
    assert (found[0]["before"], found[0]["after"]) == (items[0].title, None)


@pytest.fixture
def worker(celery_worker_factory):
    """A real worker, and somebody who wakes the reaper as beat does."""
    process = celery_worker_factory()
    over = threading.Event()

    def beat():
        while not over.wait(0.5):
            wake.send("conversations.reap")

    beating = threading.Thread(target=beat)
    beating.start()
    yield process
    over.set()
    beating.join()


# --- with a real worker --------------------------------------------------------------------------------------------------------------


def test_jobs_that_a_worker_runs(run, at_aurod, connected, alice, worker):
    simulator, account = at_aurod
    reader, clinic = connected("chongzhiling", populate=2, label="clinic")
    synced(clinic)
    make_user("bob@example.com")
    model = unused_model(account)
    before = simulator.truth()
    start = ["jobs", "start", *ALICE, "--wait", "--json"]
    switch = [*start, "--action", "switch-model", "--account", account.pk]

    # Everything applied: 0, each conversation written once.
    done = run(*switch, "--to", model, "--note", "cheaper", cold=True).document
    assert is_complete(done) and list(done) == JOB
    assert (done["state"], done["counts"]) == ("done", dict.fromkeys(COUNTERS, 0) | {"applied": 12})
    assert {values["model"] for values in simulator.truth().values()} == {model} and writes(simulator) == (12, 12)
    items = run("jobs", "items", done["id"], "--json").lines
    assert [item["before"] for item in items] == [before[item["remote_id"]]["model"] for item in items]
    assert {(item["status"], item["reason"], item["target"], item["after"], item["attempts"]) for item in items} == {
        ("applied", None, model, model, 1)
    }
    changes = AuditEntry.objects.exclude(conversation=None)
    assert set(changes.values_list("actor", "job", "result", "note")) == {(alice.pk, done["id"], "applied", "cheaper")}
    assert AuditEntry.objects.get(conversation=None).what == "job started"
    assert Job.objects.get(pk=done["id"]).note == "cheaper"

    watched = run("jobs", "watch", done["id"], "--json")
    assert watched.code == 0 and watched.lines == [done]

    # Everything there already: 0, nothing written.
    same = run(*switch, "--to", model).document
    assert same["counts"]["unchanged"] == 12 and writes(simulator) == (12, 12)

    # One that the provider ignores, two that it cannot do: 3; the ignored one alone is tried again.
    simulator.change_by_somebody(items[3]["remote_id"], title='=HYPERLINK("x")，退款')
    synced(account)
    simulator.add_fault("ignore")
    result = run(*start, "--action", "set-title", "--template", "客服·{title}")
    assert (result.code, result.err) == (3, "")
    titled = json.loads(result.out)
    assert titled["state"] == "done with failures"
    assert titled["counts"] == dict.fromkeys(COUNTERS, 0) | {"applied": 11, "not_applied": 1, "skipped": 2}
    (ignored,) = run("jobs", "items", titled["id"], "--status", "not_applied", "--json").lines
    assert (ignored["reason"], ignored["after"]) == ("accepted_not_applied", ignored["before"])
    assert run("jobs", "retry", titled["id"], "--user", "bob@example.com").cause == "bob@example.com may not give orders to this job"
    retried = run("jobs", "retry", titled["id"], *ALICE, "--json").document
    assert is_complete(retried) and retried["counts"]["not_applied"] == 0
    final = until_ended(run, titled["id"])
    assert final["counts"] == dict.fromkeys(COUNTERS, 0) | {"applied": 12, "skipped": 2} and final["state"] == "done"
    assert writes(simulator) == (12 + 13, 12 + 12) and reader.writes() == []
    assert all(values["title"].startswith("客服·") for values in simulator.truth().values())

    check_report(run, titled["id"], simulator)

    # A dead credential: the items wait for a person, and so does nobody else.
    simulator.add_fault("expired", times=999)
    waiting = run(*switch, "--to", before[items[0]["remote_id"]]["model"])
    assert waiting.code == 3 and json.loads(waiting.out)["state"] == "waiting"
    assert json.loads(waiting.out)["counts"]["waiting"] == 12


def until_ended(run, number):
    deadline = time.monotonic() + 30
    while True:
        job = run("jobs", "show", number, "--json").document
        if not any(job["counts"][name] for name in ("pending", "running", "waiting")):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


def check_report(run, number, simulator):
    """The CSV: RFC 4180, Chinese intact, no cell that a spreadsheet would run; and the same as JSON lines."""
    report = run("jobs", "report", number)
    assert (report.code, report.err) == (0, "") and report.out.startswith("\ufeffid,account,account_label,provider,remote_id,title,")
    assert report.out.count("\r\n") == 15 == report.out.count("\n")
    rows = list(csv.DictReader(io.StringIO(report.out.removeprefix("\ufeff"), newline="")))
    lines = run("jobs", "report", number, "--json").lines
    assert len(rows) == len(lines) == 14
    truth = simulator.truth()
    applied = [row for row in rows if row["status"] == "applied"]
    assert len(applied) == 12 and all(row["after"] == truth[row["remote_id"]]["title"] for row in applied)
    assert {row["account_label"] for row in rows} == {"Shop 客服", "clinic"}
    (formula,) = [row for row in rows if "HYPERLINK" in row["title"]]
    assert formula["title"] == '\'=HYPERLINK("x")，退款' and formula["before"].startswith("'=") and formula["after"].startswith("客服·=HYPERLINK")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert [line["id"] for line in lines] == [int(row["id"]) for row in rows]
    assert "" not in {value for line in lines for value in line.values()}
    assert len(run("jobs", "report", number, "--status", "skipped", "--json").lines) == 2


def test_a_job_is_watched_to_its_end(run, at_aurod, worker):
    simulator, account = at_aurod
    simulator.latency = 0.05
    simulator.add_fault("ignore", writes_only=True, times=1, skip=8)
    job = run("jobs", "start", *ALICE, "--action", "switch-model", "--to", unused_model(account), "--canary", "2", "--json").document
    watched = run("jobs", "watch", job["id"], "--json")
    lines = [json.loads(line) for line in watched.out.splitlines()]
    done = [line["counts"]["applied"] + line["counts"]["not_applied"] for line in lines]
    assert (watched.code, watched.err) == (3, "") and len(done) > 1 and done == sorted(done) and done[-1] == 12
    assert lines[-1]["state"] == "done with failures" and lines[-1]["counts"]["not_applied"] == 1


def test_a_large_job_starts_while_a_worker_reads_its_preview(run, connected, worker, file):
    simulator, account = connected("modelrouter", populate=400, rate_limit=0)
    synced(account)
    models = list(account.catalogue.values_list("model_id", flat=True))
    rows = list(account.conversations.all())
    target = models[1]
    ids = file("\n".join(str(row.pk) for row in rows[:300]))
    done = run("jobs", "start", *ALICE, "--action", "switch-model", "--ids", ids, "--to", target, "--wait", "--json").document
    assert done["counts"]["applied"] + done["counts"]["unchanged"] == 300 and done["counts"]["applied"] > 200
    assert len(simulator.writes()) == done["counts"]["applied"]
    services.pause_account(account)
    assert "paused" in run("conversations", "switch", rows[350].pk, "--model", target).cause
