"""How far a job has come: what its preview left out was never going to be run and must not look like progress."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.http import QueryDict

from conversations import checks, job_presenters, jobs, lane_board, live_presenters, preview_presenters, progress, undo
from conversations.models import Conversation, Job
from conversations.states import ItemStatus as S

from .support import synced
from .test_jobs import other_model
from .test_lanes import to_end

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def half(connected, alice):
    """A started job over 20 conversations of which 4 are gone, and 12 of an account that cannot switch models."""
    simulator, account = connected("modelrouter", populate=20, rate_limit=0)
    _other, unable = connected("nuwax", populate=12)
    for one in (account, unable):
        synced(one)
    for remote_id in sorted(simulator.truth())[:4]:
        simulator.remove_by_somebody(remote_id)
    job = jobs.plan(jobs.create(alice, "switch-model", Conversation.objects.all()), {"targets": {str(account.pk): other_model(account)}})
    while checks.check_preview(job.pk, account.pk):
        pass
    assert jobs.start(alice, job)
    return Job.objects.get(pk=job.pk), account


def test_what_the_preview_left_out_is_neither_done_nor_a_lane(half, alice):
    job, account = half
    assert job.total == 32 and job.n_skipped == 16
    context = live_presenters.live_context(job, QueryDict(), alice)
    assert (context["percent"], context["sentence"]) == (0, "0 of 16 done")
    assert [part["css"] for part in context["segments"]] == ["pending"]
    [lane] = lane_board.job_context(job, alice)["lanes"]
    assert (lane.account, lane.done, lane.total) == (account, 0, 16)


def test_the_numbers_follow_while_it_runs_and_say_everything_at_the_end(half, alice):
    job, _account = half
    items = list(job.items.filter(status=S.PENDING))
    job.items.filter(pk__in=[item.pk for item in items[:4]]).update(status=S.APPLIED, started_at=job.started_at, finished_at=job.started_at)
    job.items.filter(pk=items[4].pk).update(status=S.SKIPPED, reason="gone", started_at=job.started_at, finished_at=job.started_at)
    jobs.recount(job)
    job.refresh_from_db()
    assert progress.done_of(job) == (5, 16) and progress.percent(job) == 31
    assert {part["css"]: part["count"] for part in job_presenters.segments(job)} == {"applied": 4, "skipped": 1, "pending": 11}
    assert jobs.cancel(alice, job)
    job.refresh_from_db()
    assert job_presenters.sentence(job) == "Cancelled: 4 applied, 17 skipped, 11 not started."
    assert {part["css"]: part["count"] for part in job_presenters.segments(job)} == {"applied": 4, "skipped": 17, "cancelled": 11}


def test_it_is_counted_once_and_not_at_every_look(half, django_assert_num_queries):
    job, _account = half
    assert progress.left_out(job) == 16
    with django_assert_num_queries(0):
        assert progress.left_out(job) == 16
    cache.clear()
    with django_assert_num_queries(1):
        assert progress.percent(job) == 0


def test_an_undo_of_what_somebody_put_back_already_shows_what_is_there(connected, alice):
    simulator, account = connected("aurod", populate=1)
    simulator.unlimited()
    synced(account)
    old = account.conversations.get().model
    job = jobs.plan(jobs.create(alice, "switch-model", account.conversations.all()), {"targets": {str(account.pk): other_model(account)}})
    assert jobs.start(alice, job)
    to_end(account)
    item = job.items.get()
    assert item.status == S.APPLIED and item.before == {"model": old}
    simulator.change_by_somebody(item.remote_id, model=old)
    back = undo.undo(alice, Job.objects.get(pk=job.pk))
    while checks.check_preview(back.pk, account.pk):
        pass
    [shown] = preview_presenters.preview_context(Job.objects.get(pk=back.pk), QueryDict())["page"].rows
    assert shown.item.reason == "already_there" and shown.after is None
    name = account.catalogue.get(model_id=old).name
    assert shown.before is not None and shown.before.text == name
