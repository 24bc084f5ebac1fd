"""Undo: a new job that writes back what a finished one replaced, and nothing else."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.test import Client
from django.urls import reverse

from accounts.models import Account
from conversations import checks, edits, jobs, lanes, plans, undo
from conversations.models import AuditEntry, Conversation, Job
from conversations.states import ItemStatus as S

from .pages import HX, text_of, toast_of
from .support import make_user, row, synced
from .test_jobs import adds_up, other_model, switch_job
from .test_lanes import to_end


@pytest.fixture
def switched(connected, alice):
    """A finished job that switched 12 conversations at aurod: `simulator, account, job`."""
    simulator, account = connected("aurod", populate=12)
    simulator.unlimited()
    synced(account)
    return simulator, account, ran(alice, switch_job(alice, account, other_model(account)))


def planned(user, rows, action, params):
    return jobs.plan(jobs.create(user, action, rows), params)


def ran(user, job):
    """Runs a planned job to its end in this process and returns it as it is then."""
    assert jobs.start(user, job, typed_count=jobs.changes(job))
    for account in Account.objects.filter(jobitem__job=job).distinct():
        to_end(account)
    job.refresh_from_db()
    adds_up(job)
    return job


def checked(job):
    for account_id in job.items.order_by().values_list("account_id", flat=True).distinct():
        while checks.check_preview(job.pk, account_id):
            pass
    return Job.objects.get(pk=job.pk)


def stored(simulator, *but):
    """What the provider holds, without the times that every write moves."""
    return {key: {name: value for name, value in values.items() if name not in ("updated", *but)} for key, values in simulator.truth().items()}


# --- what comes back ------------------------------------------------------------------------------------------------------------------


PATHS = [
    ("aurod", "switch-model", lambda account: {"targets": {"*": other_model(account)}}),
    ("aurod", "set-title", lambda account: {"template": "改名 {n}", "include_hand_made": True}),
    ("aurod", "configure", lambda account: {"config": {"aurod": {"temperature": 0.9, "prompt": "两行\r\n“引号” \n", "maxToken": 77}}}),
    ("modelrouter", "switch-model", lambda account: {"targets": {"*": other_model(account)}}),
    ("modelrouter", "set-title", lambda account: {"template": "改名 {n}", "include_hand_made": True}),
    ("nuwax", "set-title", lambda account: {"template": "改名 {n}", "include_hand_made": True}),
    ("nuwax", "set-title", lambda account: {"generate": True, "include_hand_made": True}),
    ("chatnio", "set-title", lambda account: {"template": "改名 {n}", "include_hand_made": True}),
]


@pytest.mark.parametrize(("key", "action", "params"), PATHS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_undo_brings_every_value_back_byte_for_byte_and_so_does_the_undo_of_the_undo(connected, alice, key, action, params):
    simulator, account = connected(key, populate=12)
    simulator.unlimited()
    synced(account)
    but = ("icon",) if params(account).get("generate") else ()  # Nuwax makes a picture as well, which nobody can give it again
    before = stored(simulator, *but)
    job = ran(alice, planned(alice, account.conversations.all(), action, params(account)))
    after = stored(simulator, *but)
    assert job.n_applied == 12 and all(after[remote_id] != before[remote_id] for remote_id in before)
    back = undo.undo(alice, job)
    assert back.undo_of == job and back.order == "draft" and back.total == 12 and jobs.changes(back) == 12
    ran(alice, back)
    assert back.state == "done" and back.n_applied == 12
    assert stored(simulator, *but) == before
    assert AuditEntry.objects.filter(job=back, what="restore", result="applied").count() == 12
    again = ran(alice, undo.undo(alice, back))
    assert again.undo_of == back and again.n_applied == 12
    assert stored(simulator, *but) == after


def test_only_what_the_job_really_changed_is_undone(connected, alice):
    simulator, account = connected("aurod", populate=12)
    simulator.unlimited()
    synced(account)
    model = other_model(account)
    ids = sorted(simulator.truth())
    simulator.change_by_somebody(ids[0], model=model)  # there already
    simulator.remove_by_somebody(ids[1])
    theirs = account.catalogue.exclude(model_id__in=[model, row(account, ids[2]).model]).first().model_id
    job = switch_job(alice, account, model)
    simulator.change_by_somebody(ids[2], model=theirs)
    before = stored(simulator)
    simulator.add_fault("ignore")
    job = ran(alice, job)
    assert (job.n_unchanged + job.n_conflict, job.n_not_applied, job.n_skipped, job.n_applied) == (2, 1, 1, 8)
    changed = {remote_id for remote_id, values in stored(simulator).items() if values != before[remote_id]}
    back = undo.undo(alice, job)
    assert back.total == undo.undoable(job) == 8 and {item.remote_id for item in back.items.all()} == changed
    ran(alice, back)
    assert stored(simulator) == before


def test_many_chosen_rows_are_named_in_portions(switched, alice, monkeypatch):
    _simulator, _account, job = switched
    monkeypatch.setattr(undo, "MOST_NAMED", 3)
    chosen = list(job.items.order_by("ordinal").values_list("pk", flat=True))[1:]
    back = undo.undo(alice, job, [*chosen[::-1], chosen[0], 999_999])
    assert [item.ordinal for item in back.items.all()] == list(range(1, 12)) and back.n_pending == 11


def test_chosen_rows_alone_are_undone(switched, alice):
    simulator, _account, job = switched
    after = stored(simulator)
    chosen = list(job.items.order_by("ordinal")[2:7])
    back = ran(alice, undo.undo(alice, job, [item.pk for item in chosen]))
    assert back.total == back.n_applied == 5 and [item.ordinal for item in back.items.all()] == [1, 2, 3, 4, 5]
    truth = stored(simulator)
    assert {key for key in truth if truth[key] != after[key]} == {item.remote_id for item in chosen}
    assert all(truth[item.remote_id]["model"] == item.before["model"] for item in chosen)
    rest = undo.undo(alice, job)
    ran(alice, rest)
    assert (rest.n_applied, rest.n_unchanged) == (7, 5)


def test_what_a_cancelled_job_had_changed_can_be_undone(connected, alice):
    simulator, account = connected("aurod", populate=12)
    simulator.unlimited()
    synced(account)
    before = stored(simulator)
    job = switch_job(alice, account, other_model(account))
    jobs.start(alice, job)
    with pytest.raises(ValidationError, match="has ended"):
        undo.undo(alice, job)
    held = list(job.items.values_list("pk", flat=True)[:4])
    job.items.exclude(pk__in=held).update(not_before="2999-01-01T00:00Z")
    while lanes.run_lane(account.pk):
        pass
    with pytest.raises(ValidationError, match="has ended"):
        undo.undo(alice, job)
    assert jobs.cancel(alice, job)
    job.refresh_from_db()
    assert job.state == "cancelled" and (job.n_applied, job.n_cancelled) == (4, 8)
    back = ran(alice, undo.undo(alice, job))
    assert back.n_applied == back.total == 4 and stored(simulator) == before


# --- what somebody changed since ------------------------------------------------------------------------------------------------------


def test_what_was_changed_since_is_a_conflict_and_nothing_is_written(switched, alice):
    simulator, account, job = switched
    item = job.items.get(ordinal=3)
    theirs = account.catalogue.exclude(model_id__in=[item.before["model"], item.after["model"]]).first().model_id
    back = undo.undo(alice, job)
    simulator.change_by_somebody(item.remote_id, model=theirs)
    simulator.log.clear()
    ran(alice, back)
    assert (back.n_applied, back.n_conflict) == (11, 1) and back.state == "done with failures"
    found = back.items.get(status=S.CONFLICT)
    assert found.remote_id == item.remote_id and found.after == {"model": theirs}
    assert not [call for call in simulator.writes() if item.remote_id in call.path]
    assert simulator.truth()[item.remote_id]["model"] == theirs
    assert jobs.decide(alice, found, overwrite=True)
    to_end(account)
    assert simulator.truth()[item.remote_id]["model"] == item.before["model"]


def test_the_preview_names_what_was_changed_since_what_is_gone_and_what_is_back_already(switched, alice):
    simulator, account, job = switched
    drifted, gone, back_already = job.items.order_by("ordinal")[:3]
    theirs = account.catalogue.exclude(model_id__in=[drifted.before["model"], drifted.after["model"]]).first().model_id
    back = undo.undo(alice, job)
    assert jobs.groups(back)["change"] == 12
    simulator.change_by_somebody(drifted.remote_id, model=theirs)
    simulator.remove_by_somebody(gone.remote_id)
    simulator.change_by_somebody(back_already.remote_id, model=back_already.before["model"])
    simulator.log.clear()
    back = checked(back)
    groups = {name: count for name, count in jobs.groups(back).items() if count}
    assert groups == {"change": 9, "unchanged": 1, "drifted": 1, "gone": 1} and jobs.changes(back) == 9
    items = {item.remote_id: item for item in back.items.all()}
    assert items[drifted.remote_id].reason == "changed_since_job" and items[gone.remote_id].reason == "gone"
    for old in (drifted, gone, back_already):  # frozen, whatever our copy says
        assert (items[old.remote_id].expected, items[old.remote_id].target) == (old.after, old.before)
    assert simulator.writes() == []
    ran(alice, back)
    assert (back.n_applied, back.n_unchanged, back.n_conflict, back.n_skipped) == (9, 1, 1, 1)
    assert simulator.truth()[drifted.remote_id]["model"] == theirs
    # What our copy knows already is shown at once.
    assert jobs.groups(undo.undo(alice, job))["drifted"] == 1


def test_an_edit_of_ours_since_the_job_is_not_undone_with_it(switched, alice):
    simulator, account, job = switched
    item = job.items.first()
    mine = account.catalogue.exclude(model_id__in=[item.before["model"], item.after["model"]]).first().model_id
    assert edits.edit_now(alice, item.conversation, {"model": mine}).status == S.APPLIED
    back = ran(alice, undo.undo(alice, job))
    assert (back.n_applied, back.n_conflict) == (11, 1) and simulator.truth()[item.remote_id]["model"] == mine


# --- what a provider cannot store again -----------------------------------------------------------------------------------------------


def test_a_title_that_nuwax_would_alter_is_named_and_left_alone(connected, alice):
    simulator, account = connected("nuwax", populate=4)
    simulator.unlimited()
    quoted, plain = sorted(simulator.truth())[:2]
    simulator.change_by_somebody(quoted, title='"季度" 复盘')
    simulator.change_by_somebody(plain, title='复盘 "季度"')
    synced(account)
    job = ran(alice, planned(alice, account.conversations.all(), "set-title", {"template": "改名 {n}", "include_hand_made": True}))
    back = checked(undo.undo(alice, job))
    item = back.items.get(status=S.SKIPPED)
    assert (item.remote_id, item.reason, item.target) == (quoted, "cannot_be_restored", {"title": '"季度" 复盘'})
    assert jobs.groups(back)["unsupported"] == 1 and "double quote" in plans.cannot_restore(account.provider, item)[0]
    ran(alice, back)
    assert (back.n_applied, back.n_skipped) == (3, 1)
    assert simulator.truth()[plain]["title"] == '复盘 "季度"' and simulator.truth()[quoted]["title"].startswith("改名")


def test_a_field_of_modelrouter_that_was_empty_is_named_and_left_alone(connected, alice):
    simulator, account = connected("modelrouter", populate=4)
    simulator.unlimited()
    untitled, modelless = sorted(simulator.truth())[:2]
    simulator.change_by_somebody(untitled, title="")
    simulator.change_by_somebody(modelless, model="[]")
    synced(account)
    titled = ran(alice, planned(alice, account.conversations.all(), "set-title", {"template": "改名 {n}", "include_hand_made": True}))
    switch = ran(alice, switch_job(alice, account, other_model(account)))
    for job, remote_id in ((titled, untitled), (switch, modelless)):
        back = undo.undo(alice, job)
        (item,) = back.items.filter(reason="cannot_be_restored")
        assert item.remote_id == remote_id and plans.cannot_restore(account.provider, item)
        back = ran(alice, back)
        assert (back.n_applied, back.n_skipped) == (3, 1)


@pytest.mark.parametrize(("key", "title"), [("chatnio", ""), ("chatnio", "  "), ("aurod", "长" * 80), ("chatnio", "x" * 255)])
def test_limits_that_only_keep_people_from_typing_nonsense_never_block_an_undo(connected, alice, key, title):
    simulator, account = connected(key, populate=3)
    simulator.unlimited()
    remote_id = sorted(simulator.truth())[0]
    simulator.change_by_somebody(remote_id, title=title)
    synced(account)
    before = stored(simulator)
    job = ran(alice, planned(alice, account.conversations.all(), "set-title", {"template": "改名 {n}", "include_hand_made": True}))
    ran(alice, undo.undo(alice, job))
    assert simulator.truth()[remote_id]["title"] == title and stored(simulator) == before


# --- who may --------------------------------------------------------------------------------------------------------------------------


def test_an_undo_is_for_whom_the_job_is_and_for_what_they_may_still_change(switched, alice):
    _simulator, account, job = switched
    mallory = make_user("mallory@example.com")
    with pytest.raises(PermissionDenied):
        undo.undo(mallory, job)
    Account.objects.filter(pk=account.pk).update(owner=mallory)
    with pytest.raises(ValidationError, match="nothing to undo"):
        undo.undo(alice, job)
    with pytest.raises(ValidationError, match="no action"):
        jobs.create(mallory, "restore", Conversation.objects.all())
    assert Job.objects.count() == 1


def test_access_that_is_removed_after_the_preview_is_missed_when_it_runs(switched, alice):
    simulator, account, job = switched
    back = undo.undo(alice, job)
    jobs.start(alice, back)
    Account.objects.filter(pk=account.pk).update(owner=make_user("bob@example.com"))
    after = stored(simulator)
    to_end(account)
    back.refresh_from_db()
    assert back.n_skipped == 12 and set(back.items.values_list("reason", flat=True)) == {"access_removed"}
    assert stored(simulator) == after


# --- the pages ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


def test_an_ended_job_offers_its_undo_and_the_links_lead_both_ways(switched, alice, client):
    _simulator, _account, job = switched
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert "Undo 12 changes…" in page and page.count('class="form-check-input undo-tick"') == 12 and "undone by" not in page
    answer = client.post(reverse("job_undo", args=[job.pk]), {"which": "all"})
    back = Job.objects.get(undo_of=job)
    address = reverse("job_detail", args=[back.pk])
    assert answer.status_code == 302 and answer.url == address
    preview = text_of(client.get(address))
    assert f'undoes <a href="{reverse("job_detail", args=[job.pk])}">{job}</a>' in preview
    assert "12 of 12 would change" in preview and "Run 12 changes" in preview and 'id="change"' not in preview
    assert client.get(reverse("job_compose", args=[back.pk])).url == address
    assert "undo being prepared" in text_of(client.get(reverse("job_detail", args=[job.pk])))
    ran(alice, back)
    assert f'undone by <a href="{address}">{back}</a>' in text_of(client.get(reverse("job_detail", args=[job.pk])))
    done = text_of(client.get(address))
    assert "Undo 12 changes…" in done and f">{job}</a>" in done
    assert f"Undo {job}" in text_of(client.get(reverse("job_list")))


def test_an_undo_that_is_sent_twice_makes_one_draft_and_another_choice_from_the_same_page_another(switched, client):
    _simulator, _account, job = switched
    address = reverse("job_undo", args=[job.pk])
    answers = {client.post(address, {"which": "all", "key": "one"}).url for _turn in range(2)}
    assert answers == {reverse("job_detail", args=[Job.objects.get(undo_of=job).pk])}
    client.post(address, {"which": "ticked", "item": [job.items.first().pk], "key": "one"})
    assert sorted(Job.objects.filter(undo_of=job).values_list("n_pending", flat=True)) == [1, 12]


def test_ticked_rows_are_undone_and_no_ticks_are_asked_for(switched, client):
    _simulator, _account, job = switched
    address = reverse("job_undo", args=[job.pk])
    ticked = [item.pk for item in job.items.all()[:5]]
    client.post(address, {"which": "ticked", "item": ticked})
    back = Job.objects.get(undo_of=job)
    assert back.total == 5
    refused = client.post(address, {"which": "ticked"}, headers=HX)
    assert refused.status_code == 204 and "Tick the rows" in toast_of(refused)["message"]
    answer = client.post(address, {"which": "ticked", "item": "x"})
    assert answer.url == reverse("job_detail", args=[job.pk]) and Job.objects.filter(undo_of=job).count() == 1


def test_the_pages_name_what_was_changed_since_and_what_cannot_be_restored(connected, alice, client):
    simulator, account = connected("nuwax", populate=4)
    simulator.unlimited()
    quoted, other = sorted(simulator.truth())[:2]
    simulator.change_by_somebody(quoted, title='"季度" 复盘')
    synced(account)
    job = ran(alice, planned(alice, account.conversations.all(), "set-title", {"template": "改名 {n}", "include_hand_made": True}))
    simulator.change_by_somebody(other, title="别人的标题")
    back = checked(undo.undo(alice, job))
    page = text_of(client.get(reverse("job_detail", args=[back.pk])))
    assert "loses all its double quotes" in page and "别人的标题" in page and "left alone until you decide" in page
    assert 'id="tab-drifted"' in page and "2 of 4 would change" in page


def test_nobody_undoes_the_job_of_somebody_else_and_nothing_is_offered_while_it_runs(switched, alice, client):
    _simulator, account, job = switched
    stranger = Client()
    stranger.force_login(make_user("mallory@example.com"))
    address = reverse("job_undo", args=[job.pk])
    assert stranger.post(address, {"which": "all"}).status_code == 404
    assert client.get(address).status_code == 405
    assert Client().post(address).status_code == 302
    draft = switch_job(alice, account, account.catalogue.first().model_id)
    jobs.start(alice, draft)
    running = text_of(client.get(reverse("job_detail", args=[draft.pk])))
    assert "undo-form" not in running and "undo-tick" not in running
    client.post(reverse("job_undo", args=[draft.pk]), {"which": "all"})
    assert not Job.objects.filter(action="restore").exists()
