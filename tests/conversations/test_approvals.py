"""Limits of roles and the approval by a second person: who must be asked, who may answer, and that nothing is sent before."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import services, teams
from accounts.models import Account, Membership, Role, ShareLevel, Team, User
from conversations import access, approvals, jobs, lanes, leases, limits, ticks, undo
from conversations.models import Approval, AuditEntry, Conversation, Job
from tests.accounts.team_support import people
from tests.conversations import support
from tests.conversations.pages import text_of


@pytest.fixture
def desk(alice):
    """A team in which operators may change 5 conversations in one job."""
    desk = people(alice)
    teams.set_limits(alice, desk.team, 5, None)
    return desk


@pytest.fixture
def at_shop(desk, connected):
    """A simulator with 12 conversations and Alice's account there, which the team may use."""
    simulator, account = connected("modelrouter", populate=12, rate_limit=0, label="Shop")
    support.synced(account)
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    simulator.log.clear()
    return simulator, account


@pytest.fixture
def shop(at_shop) -> Account:
    return at_shop[1]


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def planned(user: User, conversations) -> Job:
    job = jobs.create(user, "set-title", conversations)
    return jobs.plan(job, {"template": "{n} renamed", "include_hand_made": True})


def some(account: Account, count: int):
    return Conversation.objects.filter(pk__in=list(account.conversations.order_by("pk").values_list("pk", flat=True)[:count]))


def asked(user: User, account: Account, count: int = 12) -> Job:
    """A job that waits for approval."""
    job = planned(user, some(account, count))
    assert jobs.start(user, job, note="why") and job.order == "ask"
    return job


def audited(job: Job) -> list[str]:
    return list(AuditEntry.objects.filter(job=job).order_by("pk").values_list("what", flat=True))


# --- limits ---------------------------------------------------------------------------------------------------------------------------


def test_only_owners_set_limits_and_the_log_says_from_what_to_what(desk) -> None:
    for actor in (desk.admin, desk.operator, desk.viewer, desk.stranger):
        with pytest.raises(PermissionDenied):
            teams.set_limits(actor, desk.team, None, None)
    for wrong in (0, -1, teams.MOST_ROWS + 1):
        with pytest.raises(ValidationError) as refused:
            teams.set_limits(desk.owner, desk.team, 5, wrong)
        assert list(refused.value.message_dict) == ["admin_limit"]
    teams.set_limits(desk.owner, desk.team, 5, 40)
    teams.set_limits(desk.owner, desk.team, 5, 40)  # the same: nothing to tell
    entries = AuditEntry.objects.filter(team=desk.team, what="set limits").order_by("pk")
    assert [entry.after for entry in entries] == [{"operator_limit": 5, "admin_limit": None}, {"operator_limit": 5, "admin_limit": 40}]
    assert entries[1].before == {"operator_limit": 5, "admin_limit": None}
    page = text_of(browser(desk.owner).get(reverse("audit_list"), {"what": "limits"}))
    assert "Limit of operators" in page and "no limit" in page


def test_the_teams_page_has_a_form_for_owners_and_a_sentence_for_the_others(desk) -> None:
    address, detail = reverse("team_limits", args=[desk.team.pk]), reverse("team_detail", args=[desk.team.pk])
    for user in (desk.admin, desk.operator, desk.viewer):
        page = text_of(browser(user).get(detail))
        assert "limits-save" not in page and "up to 5 conversations" in page and "Admins: no limit" in page
        assert browser(user).post(address, {"operator_limit": "9"}).status_code == 403
    assert browser(desk.stranger).post(address, {"operator_limit": "9"}).status_code == 404
    client = browser(desk.owner)
    assert "limits-save" in text_of(client.get(detail))
    for wrong in ("0", "-3", "many", "1.5", "99999999999"):
        answer = client.post(address, {"operator_limit": wrong, "admin_limit": "7"})
        assert answer.status_code == 422 and 'id="limits_operator_limit_error"' in text_of(answer)
    assert client.post(address, {"operator_limit": "", "admin_limit": "7"}).status_code == 302
    desk.team.refresh_from_db()
    assert (desk.team.operator_limit, desk.team.admin_limit) == (None, 7)


def another_team(desk, account: Account, limit: int | None, role: Role = Role.OPERATOR, level: str = ShareLevel.USE) -> Team:
    team = teams.create(desk.owner, "Second desk")
    Membership.objects.create(team=team, user=desk.operator, role=role)
    teams.set_limits(desk.owner, team, limit, limit)
    teams.share(desk.owner, account, team, level)
    return team


def test_at_the_limit_a_job_runs_and_above_it_the_team_is_asked(desk, shop) -> None:
    assert limits.exceeded(desk.operator, {shop.pk: 5}) == []
    assert limits.exceeded(desk.operator, {shop.pk: 6}) == [limits.Excess(desk.team, 6, 5)]
    assert limits.exceeded(desk.admin, {shop.pk: 1000}) == limits.exceeded(desk.owner, {shop.pk: 1000}) == []
    assert limits.exceeded(desk.viewer, {shop.pk: 1000}) == []  # may change nothing there at all
    teams.set_limits(desk.owner, desk.team, None, 10)
    assert limits.exceeded(desk.operator, {shop.pk: 1000}) == [] and limits.exceeded(desk.owner, {shop.pk: 1000}) == []
    assert limits.exceeded(desk.admin, {shop.pk: 11}) == [limits.Excess(desk.team, 11, 10)]


def test_each_job_is_counted_by_itself_and_the_teams_page_says_so(desk, shop) -> None:
    rows = list(shop.conversations.order_by("pk").values_list("pk", flat=True))
    for part in (rows[:5], rows[5:10]):
        job = planned(desk.operator, Conversation.objects.filter(pk__in=part))
        assert jobs.start(desk.operator, job) and job.order == "run"
    for user in (desk.owner, desk.operator):
        page = text_of(browser(user).get(reverse("team_detail", args=[desk.team.pk])))
        assert "Each job is counted by itself: neither what its author's other jobs change nor single edits are added." in page


def test_rows_are_summed_over_the_accounts_of_a_team_and_own_accounts_count_nowhere(desk, shop, connected) -> None:
    second = connected("aurod", populate=2, label="Second")[1]
    own = connected("aurod", populate=2, label="Own", owner=desk.operator)[1]
    teams.share(desk.owner, second, desk.team, ShareLevel.USE)
    teams.share(desk.operator, own, desk.team, ShareLevel.USE)
    assert limits.exceeded(desk.operator, {shop.pk: 3, second.pk: 2, own.pk: 900}) == []
    assert limits.exceeded(desk.operator, {shop.pk: 3, second.pk: 3, own.pk: 900}) == [limits.Excess(desk.team, 6, 5)]
    assert limits.exceeded(desk.admin, {own.pk: 900}) == []


def test_of_several_teams_the_most_generous_counts(desk, shop) -> None:
    team = another_team(desk, shop, 8)
    assert limits.exceeded(desk.operator, {shop.pk: 8}) == []
    assert limits.exceeded(desk.operator, {shop.pk: 9}) == [limits.Excess(team, 9, 8)]
    teams.set_limits(desk.owner, team, None, None)
    assert limits.exceeded(desk.operator, {shop.pk: 900}) == []
    teams.set_limits(desk.owner, team, 8, 8)
    teams.share(desk.owner, shop, team, ShareLevel.READ)  # gives nothing any more
    assert limits.exceeded(desk.operator, {shop.pk: 6}) == [limits.Excess(desk.team, 6, 5)]


def test_a_limit_holds_within_each_team_by_itself(desk, shop, connected) -> None:
    other = connected("aurod", populate=2, label="Other")[1]
    team = another_team(desk, other, 3)
    assert limits.exceeded(desk.operator, {shop.pk: 5, other.pk: 3}) == []
    assert limits.exceeded(desk.operator, {shop.pk: 6, other.pk: 4}) == [limits.Excess(team, 4, 3), limits.Excess(desk.team, 6, 5)]


def test_a_limit_speaks_to_the_author_and_about_the_author_to_others(desk, shop) -> None:
    job = planned(desk.operator, some(shop, 12))
    address = reverse("job_detail", args=[job.pk])
    assert "your role may change up to 5 conversations" in text_of(browser(desk.operator).get(address))
    assert jobs.start(desk.operator, job, note="why")
    own, other = text_of(browser(desk.operator).get(address)), text_of(browser(desk.admin).get(address))
    assert "your role may change up to 5 conversations" in own and "the role of its author" not in own
    assert "the role of its author may change up to 5 conversations" in other and "your role" not in other


# --- asking ---------------------------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_approval_and_everything_after(desk, at_shop) -> None:
    simulator, shop = at_shop
    job = asked(desk.operator, shop)
    assert (job.state, job.started_at, job.note) == ("needs approval", None, "why") and not job.is_live
    assert not leases.has_work(shop.pk) and lanes.run_lane(shop.pk) is False
    assert leases.park(shop, "account_paused") == 0 and simulator.writes() == []
    assert audited(job) == ["approval requested"] and AuditEntry.objects.get(job=job).after == {"rows": 12, "limit": 5}
    assert approvals.approve(desk.admin, job) and job.order == "run" and job.started_at is not None
    lanes.run_lane(shop.pk)
    job.refresh_from_db()
    assert (job.state, job.n_applied, len(simulator.writes())) == ("done", 12, 12)
    assert audited(job)[:3] == ["approval requested", "approved", "job started"]
    who = dict(AuditEntry.objects.filter(job=job, conversation=None).values_list("what", "actor__email"))
    assert who == {"approval requested": "operator@example.com", "approved": "admin@example.com", "job started": "operator@example.com"}
    again = undo.undo(desk.operator, job)
    assert jobs.start(desk.operator, again) and again.order == "ask"  # an undo of so many is as much
    assert jobs.retry(desk.operator, again) == 0 and jobs.pause(desk.admin, again) is False


def test_below_the_limit_nobody_is_asked(desk, shop) -> None:
    job = planned(desk.operator, some(shop, 5))
    assert jobs.start(desk.operator, job) and job.order == "run" and not Approval.objects.exists()


def test_the_orders_of_the_request_hold_when_it_runs(desk, shop) -> None:
    job = planned(desk.operator, shop.conversations.all())
    jobs.start(desk.operator, job, canary=2, canary_limit=10, priority=3)
    assert (job.order, job.n_pending, job.n_waiting) == ("ask", 12, 0)
    approvals.approve(desk.admin, job)
    assert (job.order, job.priority, job.canary_limit, job.n_pending, job.n_waiting) == ("run", 3, 10, 2, 10)


def test_the_typed_number_and_an_empty_job_are_checked_when_it_is_asked_for(desk, shop, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "CONFIRM_ABOVE", 10)
    job = planned(desk.operator, shop.conversations.all())
    with pytest.raises(ValidationError):
        jobs.start(desk.operator, job)
    job.refresh_from_db()
    assert job.order == "draft" and not Approval.objects.exists()
    assert jobs.start(desk.operator, job, typed_count=12) and job.order == "ask"
    assert jobs.start(desk.operator, job, typed_count=12) is False and audited(job) == ["approval requested"]


def test_what_waits_is_changed_by_nobody_and_not_thrown_away(desk, shop) -> None:
    job = asked(desk.operator, shop)
    with pytest.raises(ValidationError):
        jobs.plan(job, {"template": "other {n}", "include_hand_made": True})
    assert jobs.discard(desk.operator, job) is False
    assert jobs.discard_old_drafts(timezone.now() + 9 * jobs.DRAFTS_KEPT) == 0
    client = browser(desk.operator)
    for name in ("compose", "tick", "check", "discard", "start", "pause", "resume", "cancel", "retry", "first"):
        answer = client.post(reverse(f"job_{name}", args=[job.pk]), {"all": "1"})
        assert answer.status_code == 302, name
    job.refresh_from_db()
    assert (job.order, job.n_pending, job.priority) == ("ask", 12, 0)


def test_cancelled_before_an_answer_nothing_was_started(desk, at_shop) -> None:
    simulator, shop = at_shop
    job = asked(desk.operator, shop)
    assert jobs.cancel(desk.operator, job)
    job.refresh_from_db()
    assert (job.state, job.n_cancelled, job.started_at) == ("cancelled", 12, None) and audited(job) == ["approval requested", "job cancelled"]
    assert approvals.approve(desk.admin, job) is False and simulator.writes() == []
    assert browser(desk.operator).get(reverse("job_detail", args=[job.pk])).status_code == 200


# --- answering ------------------------------------------------------------------------------------------------------------------------


def test_nobody_answers_about_a_job_of_their_own_and_nobody_without_the_role(desk, shop) -> None:
    teams.set_limits(desk.owner, desk.team, 5, 8)
    own, other = asked(desk.admin, shop), asked(desk.operator, shop)
    gone = support.make_user("gone@example.com")
    Membership.objects.create(team=desk.team, user=gone, role=Role.OWNER)
    User.objects.filter(pk=gone.pk).update(is_active=False)
    gone.refresh_from_db()
    for job, users in ((own, [desk.admin]), (other, [desk.operator]), (own, [desk.operator, desk.viewer, desk.stranger, gone])):
        for user in users:
            with pytest.raises(PermissionDenied):
                approvals.approve(user, job)
            with pytest.raises(PermissionDenied):
                approvals.refuse(user, job, "no")
    with pytest.raises(PermissionDenied):
        approvals.withdraw(desk.admin, other)
    assert {job.order for job in Job.objects.all()} == {"ask"}
    assert approvals.approve(desk.owner, own)


def test_an_admin_who_became_one_after_asking_cannot_approve_it(desk, shop) -> None:
    job = asked(desk.operator, shop)
    teams.set_limits(desk.owner, desk.team, 5, 6)
    teams.set_role(desk.owner, desk.team, desk.operator, Role.ADMIN)
    with pytest.raises(PermissionDenied):
        approvals.approve(desk.operator, job)
    assert approvals.approve(desk.owner, job)


def test_an_admin_approves_up_to_the_own_limit_and_an_owner_anything(desk, shop) -> None:
    teams.set_limits(desk.owner, desk.team, 5, 11)
    job = asked(desk.operator, shop)
    assert not Job.objects.waiting_for(desk.admin) and list(Job.objects.waiting_for(desk.owner)) == [job]
    assert approvals.approvers(job.approvals.get()) == [desk.owner]
    with pytest.raises(PermissionDenied, match="an owner of the team can"):
        approvals.approve(desk.admin, job)
    page = text_of(browser(desk.admin).get(reverse("job_detail", args=[job.pk])))
    assert "limit-too-low" in page and 'id="approve"' not in page and 'id="refuse"' in page
    teams.set_limits(desk.owner, desk.team, 5, 12)
    assert list(Job.objects.waiting_for(desk.admin)) == [job] and approvals.approve(desk.admin, job)


def test_refused_with_a_reason_it_is_a_preview_again_and_its_author_reads_why(desk, at_shop) -> None:
    simulator, shop = at_shop
    job = asked(desk.operator, shop)
    for empty in ("", "  \0 ", "x" * 301):
        with pytest.raises(ValidationError):
            approvals.refuse(desk.admin, job, empty)
    assert approvals.refuse(desk.admin, job, "Not before <b>Monday</b>") and (job.order, job.state) == ("draft", "preview")
    assert approvals.refuse(desk.admin, job, "again") is False and approvals.approve(desk.admin, job) is False
    assert audited(job) == ["approval requested", "approval refused"]
    assert AuditEntry.objects.get(what="approval refused").note == "Not before <b>Monday</b>"
    page = browser(desk.operator).get(reverse("job_detail", args=[job.pk])).content.decode()
    assert "admin@example.com refused this" in page and "Not before &lt;b&gt;Monday&lt;/b&gt;" in page and 'value="why"' in page
    assert browser(desk.admin).get(reverse("job_detail", args=[job.pk])).status_code == 404
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(days=9))
    assert jobs.discard_old_drafts() == 0  # its author has a day to read that
    assert jobs.start(desk.operator, job) and job.order == "ask"  # asked anew
    assert list(job.approvals.values_list("decided_at", "note")) == [(None, "")] and simulator.writes() == []
    assert approvals.approve(desk.owner, job) and job.order == "run"


def test_withdrawn_it_is_a_preview_that_can_be_made_smaller_and_run(desk, shop) -> None:
    job = asked(desk.operator, shop)
    assert approvals.withdraw(desk.operator, job) and job.order == "draft"
    assert approvals.withdraw(desk.operator, job) is False and approvals.approve(desk.admin, job) is False
    jobs.plan(job, {"template": "{n} renamed", "include_hand_made": True})
    left = list(job.items.order_by("pk").values_list("pk", flat=True)[:7])
    assert ticks.tick(desk.operator, job, job.items.filter(pk__in=left), ticked=False) == 7
    job.refresh_from_db()
    assert jobs.start(desk.operator, job) and job.order == "run" and not job.approvals.exists()


def test_a_job_at_accounts_of_two_teams_needs_both(desk, shop, connected) -> None:
    other = support.synced(connected("aurod", populate=6, label="Other")[1])
    team = another_team(desk, other, 3)
    second = support.make_user("second@example.com")
    Membership.objects.create(team=team, user=second, role=Role.ADMIN)
    teams.set_limits(desk.owner, team, 3, None)
    job = planned(desk.operator, Conversation.objects.filter(account__in=[shop, other]))
    jobs.start(desk.operator, job)
    assert dict(job.approvals.values_list("team__name", "rows")) == {"Support desk": 12, "Second desk": 6}
    assert access.cut(Job.objects.get(pk=job.pk), second).total == 6
    page = text_of(browser(second).get(reverse("job_detail", args=[job.pk])))
    assert "Other" in page and "job-is-cut" in page and 'id="approve"' in page
    assert approvals.approve(desk.admin, job) and job.order == "ask"
    assert approvals.approve(desk.admin, job) is False
    assert approvals.approve(second, job) and job.order == "run"
    third = planned(desk.operator, Conversation.objects.filter(account__in=[shop, other]))
    jobs.start(desk.operator, third)
    assert approvals.approve(desk.owner, third) and third.order == "run"  # leads both


# --- what changes in between ----------------------------------------------------------------------------------------------------------


def test_a_limit_that_is_gone_needs_no_approval_any_more(desk, shop) -> None:
    job = asked(desk.operator, shop)
    assert not approvals.outdated(job)
    teams.set_limits(desk.owner, desk.team, None, None)
    assert approvals.outdated(job)
    assert "approval-outdated" in text_of(browser(desk.operator).get(reverse("job_detail", args=[job.pk])))
    assert approvals.approve(desk.admin, job) and job.order == "run"


def test_shared_through_another_team_since_that_one_is_asked(desk, shop) -> None:
    job = asked(desk.operator, shop)
    team = another_team(desk, shop, 7)
    assert approvals.approve(desk.admin, job) is False and job.order == "ask"
    assert list(job.approvals.values_list("team_id", "rows", "row_limit")) == [(team.pk, 12, 7)]
    with pytest.raises(PermissionDenied):
        approvals.approve(desk.admin, job)
    assert approvals.approve(desk.owner, job) and Job.objects.get(pk=job.pk).order == "run"


def test_an_approval_of_fewer_rows_than_count_now_is_asked_for_anew(desk, shop, connected) -> None:
    other = support.synced(connected("aurod", populate=6, label="Other")[1])
    team = another_team(desk, other, 3)
    job = planned(desk.operator, Conversation.objects.filter(account__in=[shop, other]))
    jobs.start(desk.operator, job)
    assert approvals.approve(desk.admin, job) and job.order == "ask"
    teams.share(desk.owner, other, desk.team, ShareLevel.USE)
    teams.unshare(desk.owner, other, team)  # all 18 count here now; 12 were approved
    second = support.make_user("second@example.com")
    Membership.objects.create(team=desk.team, user=second, role=Role.ADMIN)
    assert approvals.approve(desk.owner, job) and job.order == "run"
    assert list(job.approvals.values_list("team__name", "rows", "decided_by__email")) == [("Support desk", 18, "alice@example.com")]


ENDINGS = {
    "unshare": lambda desk, shop: teams.unshare(desk.owner, shop, desk.team),
    "role": lambda desk, shop: teams.set_role(desk.owner, desk.team, desk.operator, Role.VIEWER),
    "removal": lambda desk, shop: teams.remove(desk.admin, desk.team, desk.operator),
}


@pytest.mark.parametrize("way", ENDINGS)
def test_whose_author_has_lost_the_account_sends_nothing_even_if_approved(desk, at_shop, way: str) -> None:
    simulator, shop = at_shop
    job = asked(desk.operator, shop)
    ENDINGS[way](desk, shop)
    job.refresh_from_db()
    assert (job.order, job.n_pending) == ("ask", 12)
    approvals.approve(desk.admin, job)
    lanes.run_lane(shop.pk)
    job.refresh_from_db()
    assert (job.n_skipped, job.n_applied) == (12, 0) and simulator.writes() == []


def test_a_team_that_is_deleted_leaves_a_job_that_its_author_withdraws(desk, shop) -> None:
    job = asked(desk.operator, shop)
    teams.delete(desk.owner, desk.team)
    with pytest.raises(PermissionDenied):
        approvals.approve(desk.owner, job)
    assert browser(desk.operator).get(reverse("job_detail", args=[job.pk])).status_code == 200
    assert approvals.withdraw(desk.operator, job) and job.order == "draft"


def test_an_author_who_may_not_sign_in_any_more_and_an_account_that_is_gone_run_nothing(desk, shop) -> None:
    job = asked(desk.operator, shop)
    User.objects.filter(pk=desk.operator.pk).update(is_active=False)
    with pytest.raises(ValidationError):
        approvals.approve(desk.admin, job)
    User.objects.filter(pk=desk.operator.pk).update(is_active=True)
    services.delete_account(shop, by=desk.owner)
    job.refresh_from_db()
    assert (job.order, job.finished_at, job.n_pending) == ("ask", None, 0)
    with pytest.raises(ValidationError):
        approvals.approve(desk.admin, job)
    assert browser(desk.operator).get(reverse("job_detail", args=[job.pk])).status_code == 200


def test_two_who_approve_at_the_same_moment_start_it_once(desk, shop) -> None:
    job = asked(desk.operator, shop)
    together, given = threading.Barrier(2), []

    def answer(user: User) -> None:
        try:
            together.wait(10)
            given.append(approvals.approve(user, Job.objects.get(pk=job.pk)))
        except OperationalError as error:
            given.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=answer, args=(user,)) for user in (desk.admin, desk.owner)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    job.refresh_from_db()
    assert sorted(given) == [False, True] and job.order == "run"
    assert audited(job) == ["approval requested", "approved", "job started"]


def test_approved_and_refused_at_the_same_moment_only_one_of_them_holds(desk, shop) -> None:
    job = asked(desk.operator, shop)
    together, given = threading.Barrier(2), {}

    def answer(name: str, act) -> None:
        try:
            together.wait(10)
            given[name] = act(Job.objects.get(pk=job.pk))
        finally:
            connection.close()

    acts = {"run": lambda job: approvals.approve(desk.admin, job), "draft": lambda job: approvals.refuse(desk.owner, job, "no")}
    threads = [threading.Thread(target=answer, args=item) for item in acts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    job.refresh_from_db()
    assert sorted(given.values()) == [False, True] and given[job.order] is True


# --- pages ----------------------------------------------------------------------------------------------------------------------------


def test_the_author_sees_before_the_click_that_it_needs_approval_and_then_who_may_give_it(desk, shop) -> None:
    client = browser(desk.operator)
    small, job = planned(desk.operator, some(shop, 5)), planned(desk.operator, shop.conversations.all())
    page = text_of(client.get(reverse("job_detail", args=[small.pk])))
    assert "Run 5 changes" in page and "needs-approval" not in page
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert "Ask for approval of 12 changes" in page and "up to 5 conversations in one job; this one changes 12 there" in page
    assert client.post(reverse("job_start", args=[job.pk])).headers["Location"] == reverse("job_detail", args=[job.pk])
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert "may be approved by admin@example.com, alice@example.com" in page and 'id="withdraw"' in page
    assert 'id="approve"' not in page and 'id="refuse"' not in page and 'id="tick-' not in page and 'id="run-button"' not in page


def test_an_approver_notices_it_and_sees_the_same_preview(desk, shop) -> None:
    job = asked(desk.operator, shop)
    for user, noticed in ((desk.admin, True), (desk.owner, True), (desk.operator, False), (desk.viewer, False)):
        client = browser(user)
        page = text_of(client.get(reverse("job_list")))
        assert ("for-approval" in page) == ("approval-badge" in page) == noticed and "Needs approval" in page
        assert ("approval-badge" in text_of(client.get(reverse("job_badge")))) == noticed
        detail = text_of(client.get(reverse("job_detail", args=[job.pk])))
        assert ('id="approve"' in detail) == ('id="refuse"' in detail) == noticed and "12 of 12 would change" in detail
        assert detail.count(" renamed") >= 12 and 'id="tick-' not in detail
    assert browser(desk.stranger).get(reverse("job_detail", args=[job.pk])).status_code == 404


def test_answers_are_posts_and_a_second_one_finds_it_decided(desk, shop) -> None:
    job = asked(desk.operator, shop)
    for user, code in ((desk.viewer, 403), (desk.operator, 403), (desk.stranger, 404)):
        for name in ("approve", "refuse"):
            assert browser(user).post(reverse(f"job_{name}", args=[job.pk]), {"reason": "x"}).status_code == code
    admin = browser(desk.admin)
    for name in ("approve", "refuse", "withdraw"):
        assert admin.get(reverse(f"job_{name}", args=[job.pk])).status_code == 405
    assert admin.post(reverse("job_withdraw", args=[job.pk])).status_code == 403
    answer = admin.post(reverse("job_refuse", args=[job.pk]), {"reason": " "})
    assert answer.status_code == 422 and "reason_error" in text_of(answer)
    assert "Refused" in text_of(admin.post(reverse("job_refuse", args=[job.pk]), {"reason": "Later"}, follow=True))
    assert "decided already" in text_of(browser(desk.owner).post(reverse("job_approve", args=[job.pk]), follow=True))
    jobs.start(desk.operator, Job.objects.get(pk=job.pk))
    assert "the job runs" in text_of(admin.post(reverse("job_approve", args=[job.pk]), follow=True))
    page = admin.post(reverse("job_approve", args=[job.pk]), follow=True)
    assert "decided already" in text_of(page) and "approved by admin@example.com" in text_of(page)


def test_an_open_page_notices_the_answer(desk, shop) -> None:
    job = asked(desk.operator, shop)
    client, address = browser(desk.operator), reverse("job_detail", args=[job.pk])
    inside = {"HX-Request": "true", "HX-Target": "job-preview"}
    assert 'hx-trigger="every 5s"' in text_of(client.get(address, {"asked": "0"}, headers=inside))
    assert client.get(address, {"bar": "1"}, headers=inside).headers["HX-Redirect"] == address
    approvals.refuse(desk.admin, job, "Later")
    assert client.get(address, {"asked": "0"}, headers=inside).headers["HX-Refresh"] == "true"
    jobs.start(desk.operator, Job.objects.get(pk=job.pk))
    approvals.approve(desk.admin, job)
    assert client.get(address, {"asked": "0"}, headers=inside).headers["HX-Redirect"] == address


def test_the_badge_costs_one_query_more(desk, shop, django_assert_max_num_queries) -> None:
    asked(desk.operator, shop)
    visible = Job.objects.visible_to(desk.admin)
    with django_assert_max_num_queries(1):
        assert visible.waiting_for(desk.admin).count() == 1
