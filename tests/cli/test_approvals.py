"""`manage.py jobs approve` and `refuse`, and what the other commands say about a job that waits for approval."""

from __future__ import annotations

import json

import pytest

from accounts import teams
from accounts.models import ShareLevel
from conversations.models import Job
from tests.accounts.team_support import people
from tests.conversations.support import synced

START = ("--user", "operator@example.com", "--action", "set-title", "--template", "{n} renamed", "--json")


@pytest.fixture
def desk(alice, connected):
    desk = people(alice)
    account = synced(connected("aurod", populate=4, label="Shop")[1])
    teams.share(alice, account, desk.team, ShareLevel.USE)
    teams.set_limits(alice, desk.team, 3, None)
    return desk


def test_a_job_above_the_limit_waits_and_says_so_at_once(run, desk):
    made = run("jobs", "start", *START)
    assert (made.code, made.document["state"]) == (0, "needs approval")
    waited = run("jobs", "start", *START, "--wait")
    assert waited.code == 3 and json.loads(waited.out)["state"] == "needs approval"
    watched = run("jobs", "watch", made.document["id"])
    assert (watched.code, watched.out.splitlines()) == (3, [f"J-{made.document['id']} needs approval: 0 of 4 done (4 pending)"])
    assert run("jobs", "show", made.document["id"], "--json").document["state"] == "needs approval"
    cancelled = run("jobs", "cancel", made.document["id"], "--json").document
    assert (cancelled["state"], cancelled["counts"]["cancelled"]) == ("cancelled", 4)


def test_a_second_person_approves_or_refuses_and_nobody_else(run, desk):
    job, other = (run("jobs", "start", *START).document["id"] for _turn in range(2))
    for user in ("operator@example.com", "viewer@example.com", "stranger@example.com"):
        assert run("jobs", "approve", job, "--user", user).cause == f"{user} may not do that"
        assert run("jobs", "refuse", job, "--user", user, "--reason", "no").cause == f"{user} may not do that"
    admin = ("--user", "admin@example.com")
    assert run("jobs", "approve", job, *admin, "--json").document["state"] == "running"
    assert run("jobs", "approve", job, *admin).cause == "the job does not wait for this approval"
    assert "Say why" in run("jobs", "refuse", other, *admin, "--reason", " ").cause
    assert run("jobs", "refuse", other, *admin, "--reason", "Later", "--json").document["state"] == "preview"
    assert Job.objects.get(pk=other).approvals.get().note == "Later"
