"""What members of a team see and may do at a shared account, and what ends when it is taken back."""

from __future__ import annotations

import json

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from accounts import teams
from accounts.models import Account, Role, ShareLevel, User
from conversations import access, edits, jobs, lanes, leases
from conversations.models import Conversation, Job, JobItem
from conversations.states import ItemStatus
from tests.accounts.team_support import people
from tests.conversations import support
from tests.conversations.pages import ids_in, text_of, url

S = ItemStatus


@pytest.fixture
def desk(alice):
    return people(alice)


@pytest.fixture
def shop(connected) -> Account:
    """Alice's account that tests share."""
    return support.synced(connected("modelrouter", populate=12, rate_limit=0, label="Shop")[1])


@pytest.fixture
def private(connected) -> Account:
    """Alice's account that she never shares."""
    return support.synced(connected("aurod", populate=6, label="Private")[1])


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def planned(user: User, conversations) -> Job:
    """A draft that gives conversations new titles."""
    job = jobs.create(user, "set-title", conversations)
    return jobs.plan(job, {"template": "{n} renamed", "include_hand_made": True})


def test_conversations_follow_their_account(desk, shop, private) -> None:
    def counts(user: User) -> tuple[int, int]:
        return Conversation.objects.visible_to(user).count(), Conversation.objects.editable_by(user).count()

    assert [counts(user) for user in (desk.operator, desk.viewer)] == [(0, 0)] * 2
    teams.share(desk.owner, shop, desk.team, ShareLevel.READ)
    assert [counts(user) for user in (desk.owner, desk.operator, desk.viewer)] == [(18, 18), (12, 0), (12, 0)]
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    assert [counts(user) for user in (desk.operator, desk.viewer, desk.stranger)] == [(12, 12), (12, 0), (0, 0)]


def test_one_change_of_a_viewer_is_refused_and_of_an_operator_carried_out(desk, shop) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    row = shop.conversations.select_related("account").first()
    with pytest.raises(PermissionDenied):
        edits.edit_now(desk.viewer, row, {"title": "By the viewer"})
    assert edits.edit_now(desk.operator, row, {"title": "By the operator"}).status == S.APPLIED


def test_a_reader_sees_no_write_control_in_the_list_and_on_the_conversation(desk, shop) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    row = shop.conversations.first()
    for user, uses in ((desk.viewer, False), (desk.operator, True)):
        client = browser(user)
        listed, page = text_of(client.get(reverse("conversation_list"))), text_of(client.get(url("detail", row)))
        assert len(ids_in(client.get(reverse("conversation_list")))) == 12
        assert ('name="ids"' in listed) == ("data-select-bar" in listed) == ("data-select-page" in listed) == uses
        assert (url("title", row) in page) == (url("model", row) in page) == (url("refresh", row) in page) == uses
        settings = text_of(client.get(url("settings", row)))
        assert ('type="submit"' in settings) == uses and ("not change it" in settings) == (not uses)


def test_select_all_and_forged_ids_are_cut_to_what_one_may_edit(desk, shop, private) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    teams.share(desk.owner, private, desk.team, ShareLevel.READ)
    client = browser(desk.operator)
    assert 'data-select-total="12"' in text_of(client.get(reverse("conversation_list"))), "of 18 that are listed"
    client.post(reverse("job_create"), {"action": "set-title", "all_matching": "1", "query": "", "count": "18"})
    assert set(Job.objects.get().items.values_list("account_id", flat=True)) == {shop.pk}
    forged = ",".join(str(pk) for pk in private.conversations.values_list("pk", flat=True))
    client.post(reverse("job_create"), {"action": "set-title", "ids": forged})
    browser(desk.stranger).post(reverse("job_create"), {"action": "set-title", "ids": forged})
    browser(desk.viewer).post(reverse("job_create"), {"action": "set-title", "all_matching": "1", "query": ""})
    assert Job.objects.count() == 1


@pytest.fixture
def both(desk, shop, private) -> Job:
    """A started job of Alice over a shared and a private account."""
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    job = planned(desk.owner, Conversation.objects.all())
    assert jobs.start(desk.owner, job)
    return Job.objects.get(pk=job.pk)


def test_a_job_is_cut_to_the_accounts_in_its_readers_sight(desk, shop, private, both) -> None:
    seen = {user: list(Job.objects.visible_to(user)) for user in (desk.owner, desk.admin, desk.operator, desk.viewer)}
    assert all(found == [both] for found in seen.values()) and not Job.objects.visible_to(desk.stranger)
    total = both.total
    cut = access.cut(Job.objects.get(pk=both.pk), desk.viewer)
    assert cut.total == 12 and total == 18 and set(cut.shown.values_list("account_id", flat=True)) == {shop.pk}
    assert access.cut(Job.objects.get(pk=both.pk), desk.owner).total == 18

    client, titles = browser(desk.viewer), list(private.conversations.values_list("title", flat=True))
    pages = [client.get(reverse("job_detail", args=[both.pk])), client.get(reverse("job_detail", args=[both.pk]), headers={"HX-Request": "true"})]
    reports = [client.get(reverse("job_report", args=[both.pk, kind])) for kind in ("csv", "json")]
    texts = [text_of(page) for page in pages] + [b"".join(report.streaming_content).decode() for report in reports]
    texts += [text_of(client.get(reverse(name))) for name in ("job_list", "lane_list", "conversation_list")]
    for text in texts:
        assert not [title for title in titles if title and title in text] and "Private" not in text
    assert "job-is-cut" in texts[0] and len(json.loads(texts[3])) == 12
    item = both.items.filter(account=private).first()
    assert client.get(reverse("job_item", args=[both.pk, item.pk])).status_code == 404
    assert client.get(reverse("job_item", args=[both.pk, both.items.filter(account=shop).first().pk])).status_code == 200


def test_only_the_author_has_a_jobs_controls_and_admins_of_the_team_pause_it(desk, both) -> None:
    for user, pauses in ((desk.viewer, False), (desk.operator, False), (desk.admin, True)):
        client = browser(user)
        page = text_of(client.get(reverse("job_detail", args=[both.pk])))
        assert ('id="job-pause"' in page) == pauses and 'id="job-cancel"' not in page and 'id="again-form"' not in page
        for order in ("cancel", "resume", "retry", "first", "again", "undo", *([] if pauses else ["pause"])):
            assert client.post(reverse(f"job_{order}", args=[both.pk])).status_code == 403, order
    assert browser(desk.admin).post(reverse("job_pause", args=[both.pk])).status_code == 302
    both.refresh_from_db()
    assert both.order == "pause"
    assert browser(desk.stranger).post(reverse("job_pause", args=[both.pk])).status_code == 404


def test_a_draft_is_its_authors_alone(desk, shop) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    draft = planned(desk.operator, shop.conversations.all())
    for user in (desk.owner, desk.admin, desk.viewer):
        assert browser(user).get(reverse("job_detail", args=[draft.pk])).status_code == 404
    assert browser(desk.operator).get(reverse("job_detail", args=[draft.pk])).status_code == 200


def test_whoever_owns_the_account_sees_what_others_run_there(desk, shop) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    job = planned(desk.operator, shop.conversations.all())
    jobs.start(desk.operator, job)
    assert list(Job.objects.visible_to(desk.owner)) == [job]


ENDINGS = {
    "unshare": lambda desk, shop: teams.unshare(desk.owner, shop, desk.team),
    "only read": lambda desk, shop: teams.share(desk.owner, shop, desk.team, ShareLevel.READ),
    "role": lambda desk, shop: teams.set_role(desk.owner, desk.team, desk.operator, Role.VIEWER),
    "removal": lambda desk, shop: teams.remove(desk.admin, desk.team, desk.operator),
    "team deleted": lambda desk, shop: teams.delete(desk.owner, desk.team),
}


@pytest.mark.parametrize("way", ENDINGS)
@pytest.mark.parametrize("parked", [False, True])
def test_who_loses_access_has_nothing_run_any_more(desk, shop, way: str, parked: bool) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    mine, theirs = planned(desk.owner, shop.conversations.all()), planned(desk.operator, shop.conversations.all())
    for job in (mine, theirs):
        jobs.start(job.actor, job)
    if parked:
        leases.park(shop, "account_needs_reauth")
    ENDINGS[way](desk, shop)
    theirs.refresh_from_db()
    mine.refresh_from_db()
    assert theirs.n_skipped == 12 and theirs.finished_at is not None
    assert set(theirs.items.values_list("status", "reason")) == {("skipped", "access_removed")}
    assert mine.n_pending + mine.n_waiting == 12, "its owner's job goes on"
    if way in ("unshare", "removal", "team deleted"):
        page = text_of(browser(desk.operator).get(reverse("job_detail", args=[theirs.pk])))
        assert "renamed" not in page and "Shop" not in page


def test_what_may_have_been_sent_is_looked_at_before_it_ends(desk, connected) -> None:
    simulator, shop = connected("modelrouter", populate=12, rate_limit=0)
    support.synced(shop)
    teams.share(desk.owner, shop, desk.team, ShareLevel.USE)
    job = planned(desk.operator, shop.conversations.all())
    jobs.start(desk.operator, job)
    item = job.items.order_by("ordinal").first()
    JobItem.objects.filter(pk=item.pk).update(before=item.expected, attempts=1)
    simulator.log.clear()
    teams.unshare(desk.owner, shop, desk.team)
    item.refresh_from_db()
    assert item.status == S.PENDING and job.items.filter(status=S.SKIPPED).count() == 11
    lanes.run_lane(shop.pk)
    item.refresh_from_db()
    assert (item.status, item.reason) == (S.SKIPPED, "access_removed") and item.after == item.expected
    assert simulator.log and not simulator.writes()


def test_a_new_owner_of_the_account_stops_what_the_old_one_may_not_finish(desk, shop) -> None:
    teams.share(desk.owner, shop, desk.team, ShareLevel.READ)
    job = planned(desk.owner, shop.conversations.all())
    jobs.start(desk.owner, job)
    teams.hand_over(desk.owner, shop, desk.operator)
    job.refresh_from_db()
    assert job.n_skipped == 12 and job.finished_at is not None
