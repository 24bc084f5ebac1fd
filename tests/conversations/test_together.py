"""Two things at once in a real worker: a refused lane beside a free one, a short job before a long one, a click in the middle of a job.

What the simulators saw is counted; nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import pytest

from accounts.models import Account
from conversations import edits, jobs
from conversations.models import Conversation, Job, JobItem

from .support import row, synced
from .test_jobs import adds_up, other_model
from .test_lanes import in_background
from .test_worker import finished, until

pytestmark = pytest.mark.django_db(transaction=True)


def changes_of(simulator, remote_id):
    """The changes of one conversation that the provider carried out, in their order."""
    return [call for call in simulator.writes() if call.changed and call.path.endswith(f"/{remote_id}")]


def models_besides(account: Account, taken: str, count: int) -> list[str]:
    """Models that no conversation of the account uses, other than `taken`."""
    used = {taken, *account.conversations.values_list("model", flat=True)}
    found = list(account.catalogue.exclude(model_id__in=used).values_list("model_id", flat=True)[:count])
    assert len(found) == count
    return found


def switched(user, targets, rows) -> Job:
    return jobs.plan(jobs.create(user, "switch-model", rows), {"targets": targets})


def seen_rate(simulator) -> float:
    """Requests a second between the first and the last that a provider saw."""
    return (len(simulator.log) - 1) / (simulator.log[-1].at - simulator.log[0].at)


# --- two lanes ----------------------------------------------------------------------------------------------------------------------------


def test_a_lane_that_is_refused_leaves_the_other_one_its_rate(connected, alice, celery_worker_process, monkeypatch):
    monkeypatch.setattr("conversations.wake.check", lambda *names: None)  # a preview that is read beside it would be counted, now and then
    strict, refused = connected("modelrouter", label="refused", populate=30, rate_limit=0)
    easy, free = connected("modelrouter", label="free", populate=60, rate_limit=0, latency=0.02)
    for account in (refused, free):
        synced(account)
    Account.objects.filter(pk=free.pk).update(rate=30)
    first = other_model(free)
    [second] = models_besides(free, first, 1)

    easy.log.clear()
    alone = switched(alice, {str(free.pk): first}, free.conversations.all())
    assert jobs.start(alice, alone)
    until(lambda: finished(alone))
    requests, rate = len(easy.log), seen_rate(easy)

    strict.log.clear()
    easy.log.clear()
    strict.add_fault("throttle", times=100_000)
    targets = {str(free.pk): second, str(refused.pk): other_model(refused)}
    beside = switched(alice, targets, Conversation.objects.filter(account__in=[free, refused]))
    assert jobs.start(alice, beside)
    until(lambda: JobItem.objects.filter(job=beside, account=free, status="applied").count() == 60)
    begun, ended = easy.log[0].at, easy.log[-1].at
    assert [call for call in strict.log if begun <= call.at <= ended and call.fault == "throttle"], "the neighbour was refused meanwhile"
    assert not [call for call in strict.writes() if call.changed]
    assert len(easy.log) <= requests + 5, "not one request more is needed beside it"
    assert seen_rate(easy) >= 0.75 * rate
    assert Job.objects.get(pk=beside.pk).n_applied == 60

    strict.clear_faults()
    until(lambda: finished(beside))
    beside.refresh_from_db()
    assert beside.state == "done" and beside.n_applied == 90
    assert len([call for call in strict.writes() if call.changed]) == 30
    adds_up(beside)


# --- two jobs of one account ----------------------------------------------------------------------------------------------------------------


def test_five_items_overtake_three_thousand_of_the_same_account(connected, alice, celery_worker_process):
    simulator, account = connected("modelrouter", populate=3005, rate_limit=0, latency=0.005)
    synced(account)
    model = other_model(account)
    urgent = list(account.conversations.order_by("rank").values_list("pk", flat=True)[3000:3005])
    long = switched(alice, {str(account.pk): model}, account.conversations.exclude(pk__in=urgent))
    short = switched(alice, {str(account.pk): model}, account.conversations.filter(pk__in=urgent))
    assert (long.total, short.total) == (3000, 5)
    simulator.log.clear()
    assert jobs.start(alice, long, typed_count=jobs.changes(long))
    until(lambda: Job.objects.get(pk=long.pk).n_applied >= 50)
    # Jobs of the same priority share their lane; one that stands back shows that it is the priority that decides.
    assert jobs.start(alice, short, priority=-1)
    until(lambda: Job.objects.get(pk=long.pk).n_applied >= 300)
    assert Job.objects.get(pk=short.pk).n_pending == 5
    before = len(simulator.writes())
    assert jobs.prioritise(alice, short, 1)
    until(lambda: Job.objects.get(pk=short.pk).finished_at)
    ids = {str(remote_id) for remote_id in short.items.values_list("remote_id", flat=True)}
    places = [place for place, call in enumerate(simulator.writes()) if call.path.rpartition("/")[2] in ids]
    assert len(places) == 5 and max(places) - before < 1000, "it goes first, but for what was in hand already"
    assert Job.objects.get(pk=long.pk).open > 1500

    assert jobs.cancel(alice, Job.objects.get(pk=long.pk))
    until(lambda: finished(long))
    for job in (long, short):
        job.refresh_from_db()
        adds_up(job)
    assert short.n_applied == 5
    assert long.n_applied + long.n_unchanged + long.n_cancelled == 3000 and long.n_cancelled > 0
    assert len([call for call in simulator.writes() if call.changed]) == long.n_applied + 5


# --- a click during a job -----------------------------------------------------------------------------------------------------------------------


def test_a_click_during_a_job_neither_loses_nor_doubles_a_write(connected, alice, celery_worker_process):
    """Conversations are switched by hand before, behind and in the very place where the job is; each write is there once and explained."""
    simulator, account = connected("modelrouter", populate=200, rate_limit=0, latency=0.02)
    synced(account)
    target = other_model(account)
    [clicked] = models_besides(account, target, 1)
    job = switched(alice, {str(account.pk): target}, account.conversations.all())
    items = list(job.items.filter(status="pending").exclude(reason="already_there").order_by("rank", "ordinal"))
    simulator.log.clear()
    assert jobs.start(alice, job, typed_count=jobs.changes(job))
    until(lambda: Job.objects.get(pk=job.pk).n_applied >= 10)

    outcomes: dict[str, edits.Outcome] = {}

    def click(item: JobItem) -> None:
        conversation = row(account, item.remote_id)
        wanted = {"model": account.provider.model_value(conversation.model_value, clicked)}
        outcomes[item.remote_id] = edits.edit_now(alice, conversation, wanted)

    reached = job.items.filter(status="applied").order_by("finished_at").first()
    assert reached is not None
    click(reached)  # behind the job
    click(items[-1])  # long before the job gets there
    place = next(number for number, item in enumerate(items) if JobItem.objects.get(pk=item.pk).status == "pending")
    threads = [in_background(click, item) for item in items[place : place + 24 : 3]]  # where it is just now
    for thread in threads:
        thread.join(30)
    until(lambda: finished(job))
    job.refresh_from_db()
    adds_up(job)
    assert job.open == 0 and len(outcomes) == 2 + len(threads)
    assert outcomes[reached.remote_id].status == outcomes[items[-1].remote_id].status == "applied"

    truth = simulator.truth()
    for item in JobItem.objects.filter(pk__in=[one.pk for one in items]):
        outcome, changes = outcomes.get(item.remote_id), changes_of(simulator, item.remote_id)
        by_click = outcome is not None and outcome.status == "applied"
        assert len(changes) == (item.status == "applied") + by_click, item.remote_id
        assert item.status == "applied" or (item.status == "conflict" and by_click), "the job yields to the click only where it came first"
        if outcome is not None and not by_click:
            assert outcome.status == "conflict" or outcome.reason == "busy", "the click yields to the job only where the job came first"
        # The job goes first or not at all, so what was clicked is the last word.
        expected = outcome.after if by_click and outcome is not None else item.target
        assert expected is not None and truth[item.remote_id]["model"] == expected["model"]
        if item.status == "applied" and by_click:
            assert outcome is not None and outcome.before is not None and item.after is not None
            assert outcome.before["model"] == item.after["model"] == item.target["model"], "one after the other"
    assert JobItem.objects.get(pk=items[-1].pk).status == "conflict"
    assert len(changes_of(simulator, reached.remote_id)) == 2
