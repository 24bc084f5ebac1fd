"""What the job pages promise when things go wrong or were wrong before: groups that add up, a decision, a dead credential, nobody at work."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F
from django.utils.translation import gettext, override

from accounts.models import Account, Health, User
from conversations import checks, jobs, workers
from conversations.models import Conversation, Job, Worker
from tests.conversations.support import synced

from .test_jobs import NARROW, WIDE, at_aurod, fits, other_model, runner, signed_in, switch_job

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["at_aurod", "signed_in"]
pytestmark = pytest.mark.django_db(transaction=True)


def shown(page: Page) -> dict[str, int]:
    """The groups of a preview and their counts, as a person reads them."""
    tabs = page.locator("#job-preview .count-tab").evaluate_all("tabs => tabs.map(tab => [tab.id, tab.querySelector('strong').textContent])")
    return {name.removeprefix("tab-"): int(count) for name, count in tabs}


@pytest.mark.parametrize("at_aurod", [20], indirect=True, ids=["twenty"])
def test_the_groups_of_a_preview_add_up_and_each_shows_its_own(at_aurod: Any, alice: User, signed_in: Any, connected: Any, aside: Any) -> None:
    simulator, account = at_aurod
    nuwax, unable = aside(connected, "nuwax", populate=3)
    aside(synced, unable)
    workers.beat()
    model = other_model(account).model_id
    ids = list(account.conversations.order_by("rank").values_list("remote_id", flat=True))
    for remote_id in ids[:2]:
        simulator.remove_by_somebody(remote_id)
    for remote_id in ids[2:5]:
        simulator.change_by_somebody(remote_id, model=model)
    job = jobs.plan(jobs.create(alice, "switch-model", Conversation.objects.all()), {"targets": {str(account.pk): model}})
    page = signed_in(viewport=WIDE)
    page.goto(f"/jobs/{job.pk}/")
    assert shown(page) == {"all": 23, "change": 20, "unsupported": 3}, "what our copy says"
    simulator.log.clear()

    def check() -> None:
        while checks.check_preview(job.pk, account.pk):
            pass

    aside(check)
    page.locator("#check-text[data-announce-now]").wait_for()
    page.locator(f"#tick-{job.items.get(remote_id=ids[5]).pk}").uncheck()
    page.locator("#run-button", has_text="14").wait_for()
    groups = shown(page)
    assert groups == {"all": 23, "change": 14, "unchanged": 3, "unsupported": 3, "gone": 2, "other": 1}
    assert sum(count for name, count in groups.items() if name != "all") == groups["all"]
    for name, count in groups.items():
        page.locator(f"#tab-{name}").click()
        page.locator(f'#tab-{name}[aria-current="true"]').wait_for()
        assert page.locator("tr[data-row]").count() == count, name
    assert simulator.writes() == [] == nuwax.writes()


def test_a_conflict_is_left_as_it_is_when_one_says_so_and_another_overwritten(at_aurod: Any, alice: User, signed_in: Any) -> None:
    simulator, account = at_aurod
    workers.beat()
    job = switch_job(alice, account)
    kept, overwritten = job.items.get(ordinal=3), job.items.get(ordinal=4)
    for item in (kept, overwritten):
        simulator.change_by_somebody(item.remote_id, model="claude-sonnet-4-5")
    jobs.start(alice, job)
    page = signed_in(viewport=NARROW)
    page.goto(f"/jobs/{job.pk}/")
    with runner(account):
        page.locator('#job-live .card-head [data-status="done with failures"]').wait_for()
        page.locator("#tab-conflict", has_text="2").click()
        page.locator(f"#keep-{kept.pk}").wait_for()
        assert fits(page)
        page.locator(f"#keep-{kept.pk}").click()
        page.locator("#tab-conflict", has_text="1").wait_for()
        page.locator(f"#overwrite-{overwritten.pk}").click()
        page.locator('#job-live .card-head [data-status="done"]').wait_for()
    truth = simulator.truth()
    assert truth[kept.remote_id]["model"] == "claude-sonnet-4-5"
    assert truth[overwritten.remote_id]["model"] == overwritten.target["model"]
    assert not [call for call in simulator.writes() if kept.remote_id in f"{call.path} {call.body}"], "nothing was sent for what is kept"
    job.refresh_from_db()
    assert (job.n_applied, job.n_skipped) == (29, 1)


@pytest.mark.parametrize("at_aurod", [40], indirect=True, ids=["forty"])
def test_a_credential_that_dies_midway_is_replaced_and_the_same_job_goes_on(at_aurod: Any, alice: User, signed_in: Any) -> None:
    """In Chinese, on a phone: the whole way from the job that waits, through the form of the account, back to its end."""
    simulator, account = at_aurod
    workers.beat()
    with override("zh-hans"):
        waiting, replace = gettext("Waiting for a new credential."), gettext("Replace the credential")
    simulator.add_fault("expired", writes_only=True, times=9999, skip=12)
    job = switch_job(alice, account)
    jobs.start(alice, job)
    page = signed_in(viewport=NARROW, locale="zh-CN")
    page.goto(f"/jobs/{job.pk}/")
    with runner(account):
        page.locator('#job-live .card-head [data-status="waiting"]').wait_for()
        assert waiting in page.locator("#wait-1").inner_text() and fits(page)
        job.refresh_from_db()
        first = set(job.items.filter(status="applied").values_list("pk", flat=True))
        assert 0 < len(first) < 40 and job.n_waiting == 40 - len(first) and job.n_failed == 0
        sent = len(simulator.log)
        page.get_by_role("link", name=replace).first.click()
        page.wait_for_url(f"**/accounts/{account.pk}/edit/")
        assert len(simulator.log) == sent, "nothing is sent with a dead credential"
        simulator.clear_faults()
        page.fill("#id_credential_token", simulator.credential()["token"])
        assert fits(page)
        page.locator("#save-button").click()
        page.wait_for_url(f"**/accounts/{account.pk}/")
        page.goto(f"/jobs/{job.pk}/")
        page.locator('#job-live .card-head [data-status="done"]').wait_for()
        assert page.locator("#wait-1").count() == 0 and fits(page)
    job.refresh_from_db()
    account.refresh_from_db()
    assert job.n_applied == 40 and account.health == Health.OK and Job.objects.count() == 1
    assert {values["model"] for values in simulator.truth().values()} == {other_model_of(job, account)}
    assert len([call for call in simulator.writes() if call.changed]) == 40, "what was applied before is not written again"


def other_model_of(job: Job, account: Account) -> str:
    return str(job.params["targets"][str(account.pk)])


def test_a_job_without_a_worker_says_so_and_how_much_waits(at_aurod: Any, alice: User, signed_in: Any) -> None:
    _simulator, account = at_aurod
    job = switch_job(alice, account)
    page = signed_in()
    page.goto(f"/jobs/{job.pk}/")
    assert "30" in page.locator("#no-worker").inner_text(), "the preview is not read either"
    page.locator("#run-button").click()
    page.locator("#job-live #no-worker", has_text="30 conversations wait.").wait_for()
    workers.beat()
    page.locator("#no-worker").wait_for(state="detached")
    # It was killed: its last sign of life is as old as the page still believes in. That and a poll are well within 30 seconds.
    assert workers.ALIVE.total_seconds() <= 25
    Worker.objects.update(seen_at=F("seen_at") - workers.ALIVE + timedelta(seconds=2))
    page.locator("#job-live #no-worker", has_text="No worker online since").wait_for(timeout=8000)
    assert "30 conversations wait." in page.locator("#no-worker").inner_text()
    page.goto("/jobs/lanes/")
    assert "30 conversations wait." in page.locator("#no-worker").inner_text()
    assert fits(page)
