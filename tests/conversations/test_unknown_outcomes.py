"""A write whose outcome nobody knows is called so, whatever keeps us from looking."""

from __future__ import annotations

import pytest

from conversations import jobs
from conversations.states import ItemStatus as S

from .support import synced
from .test_jobs import adds_up
from .test_lanes import to_end

pytestmark = pytest.mark.django_db(transaction=True)


def planned(alice, account):
    rows = account.conversations.all()
    return jobs.plan(jobs.create(alice, "set-title", rows), {"template": "New {n}", "include_hand_made": True})


def test_an_item_whose_write_may_have_arrived_ends_as_unknown_and_not_with_the_error_of_the_look(connected, alice):
    simulator, account = connected("modelrouter", populate=1)
    simulator.unlimited()
    job = planned(alice, synced(account))
    simulator.add_fault("cut_after", writes_only=True)
    simulator.add_fault("html200", method="GET", skip=1, times=1000)
    jobs.start(alice, job)
    to_end(account)
    item = job.items.get()
    assert simulator.truth()[item.remote_id]["title"] == "New 1"  # it did arrive
    assert (item.status, item.reason) == (S.FAILED, "outcome_unknown")
    adds_up(job)
    assert job.n_unknown == 1

    simulator.clear_faults()
    assert jobs.retry(alice, job) == 1
    to_end(account)
    item.refresh_from_db()
    assert (item.status, item.reason) == (S.APPLIED, "checked_after_no_answer") and len([c for c in simulator.writes() if c.changed]) == 1


def test_an_item_whose_write_was_not_sent_ends_with_the_error_that_kept_it(connected, alice):
    simulator, account = connected("modelrouter", populate=1)
    job = planned(alice, synced(account))
    simulator.add_fault("html200", method="GET", times=1000)
    jobs.start(alice, job)
    to_end(account)
    item = job.items.get()
    assert (item.status, item.reason) == (S.FAILED, "malformed_answer") and not simulator.writes()
