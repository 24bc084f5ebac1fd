"""A job above its author's limit, asked for, refused with a reason, asked for again, approved and run; and what a viewer cannot forge."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from accounts import teams
from accounts.models import Membership, Role, ShareLevel
from conversations import jobs, lanes
from conversations.models import Job
from tests.accounts.team_support import people
from tests.browser.test_teams import no_sideways_scroll
from tests.conversations import support

pytestmark = pytest.mark.django_db(transaction=True)

FORGED = """async ([address, data]) => {
  const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
  const answer = await fetch(address, {method: "POST", redirect: "manual", headers: {"X-CSRFToken": token}, body: new URLSearchParams(data)});
  return answer.status;
}"""


@pytest.fixture
def desk(alice, connected, aside):
    desk = people(alice)
    simulator, account = aside(connected, "modelrouter", populate=4, rate_limit=0, label="Shop")
    aside(support.synced, account)
    teams.share(alice, account, desk.team, ShareLevel.USE)
    desk.simulator, desk.account = simulator, account
    return desk


def test_asked_refused_asked_again_approved_and_run(page, new_context, sign_in, desk, aside) -> None:
    owner = new_context().new_page()
    sign_in(owner.context, desk.owner)
    owner.goto(f"/teams/{desk.team.pk}/")
    owner.fill("#limits_operator_limit", "0")
    owner.click("#limits-save")
    expect(owner.locator("#limits .field-error")).to_be_visible()
    owner.fill("#limits_operator_limit", "3")
    owner.click("#limits-save")
    expect(owner.locator("#limits_operator_limit")).to_have_value("3")

    job = jobs.create(desk.operator, "set-title", desk.account.conversations.all())
    aside(jobs.plan, job, {"template": "{n} renamed", "include_hand_made": True})
    sign_in(page.context, desk.operator)
    page.goto(f"/jobs/{job.pk}/")
    expect(page.locator("#needs-approval")).to_contain_text("up to 3 conversations in one job; this one changes 4 there")
    page.fill("#id_note", "spring cleaning")
    page.click("#run-button")
    expect(page.locator("#approval")).to_contain_text("may be approved by admin@example.com, alice@example.com")
    expect(page.locator("#approve, #refuse, #run-button, [id^=tick-]")).to_have_count(0)

    admin = new_context(viewport={"width": 390, "height": 844}, color_scheme="dark").new_page()
    sign_in(admin.context, desk.admin)
    admin.goto("/jobs/")
    expect(admin.locator("#for-approval")).to_contain_text("1 job waits for your approval.")
    no_sideways_scroll(admin)
    admin.click("#for-approval a")
    admin.click(f"#job-link-{job.pk}")
    expect(admin.locator("#job-preview tbody tr")).to_have_count(4)
    no_sideways_scroll(admin)
    admin.fill("#reason", "Not these titles")
    admin.click("#refuse")
    admin.wait_for_url(re.compile(r"/jobs/$"))
    expect(admin.locator("#for-approval")).to_have_count(0)

    expect(page.locator(f"#refused-{desk.team.pk}")).to_contain_text("Not these titles")  # the open page noticed it
    expect(page.locator("#id_note")).to_have_value("spring cleaning")
    page.click("#run-button")
    expect(page.locator("#withdraw")).to_be_visible()
    assert not desk.simulator.writes()

    admin.goto(f"/jobs/{job.pk}/")
    admin.click("#approve")
    expect(admin.locator("#approved-by")).to_contain_text("approved by admin@example.com")
    expect(page.locator("#job-live")).to_be_visible()  # here too
    aside(lanes.run_lane, desk.account.pk)
    expect(page.locator("#job-sentence")).to_contain_text("4 applied")
    assert len(desk.simulator.writes()) == 4


def test_a_viewer_finds_no_control_at_a_shared_account_and_forges_nothing(page, watch, sign_in, desk, aside) -> None:
    teams.set_limits(desk.owner, desk.team, 3, None)
    waiting = jobs.create(desk.operator, "set-title", desk.account.conversations.all())
    aside(jobs.plan, waiting, {"template": "{n} renamed", "include_hand_made": True})
    aside(jobs.start, desk.operator, waiting)
    row = desk.account.conversations.order_by("pk").first()
    sign_in(page.context, desk.viewer)
    for address in (
        "/conversations/",
        f"/conversations/{row.pk}/",
        f"/accounts/{desk.account.pk}/",
        f"/teams/{desk.team.pk}/",
        f"/jobs/{waiting.pk}/",
    ):
        page.goto(address)
        expect(page.locator("main")).to_contain_text(re.compile("Shop|Support desk"))
        expect(page.locator("main [hx-post], main form[method=post]")).to_have_count(0)
    forged = {
        f"/conversations/{row.pk}/title/": {"title": "forged"},
        f"/conversations/{row.pk}/model/": {"model": "forged"},
        f"/accounts/{desk.account.pk}/pause/": {},
        f"/accounts/{desk.account.pk}/delete/": {},
        f"/teams/{desk.team.pk}/limits/": {"operator_limit": ""},
        f"/jobs/{waiting.pk}/approve/": {},
        f"/jobs/{waiting.pk}/refuse/": {"reason": "forged"},
        f"/jobs/{waiting.pk}/withdraw/": {},
        f"/jobs/{waiting.pk}/start/": {},
    }
    watch.expect(r"Failed to load resource: the server responded with a status of 40[34]")
    before = row.title
    # A draft of somebody else is invisible: not even that it exists is told.
    draft = jobs.create(desk.operator, "set-title", desk.account.conversations.all())
    invisible = {f"/jobs/{draft.pk}/discard/": {}, f"/jobs/{draft.pk}/start/": {}}
    for wanted, posts in ((403, forged), (404, invisible)):
        assert {address: page.evaluate(FORGED, [address, data]) for address, data in posts.items()} == dict.fromkeys(posts, wanted)
    row.refresh_from_db()
    desk.team.refresh_from_db()
    assert (row.title, desk.team.operator_limit, Job.objects.get(pk=waiting.pk).order) == (before, 3, "ask")
    assert Membership.objects.get(team=desk.team, user=desk.viewer).role == Role.VIEWER and not desk.simulator.writes()
