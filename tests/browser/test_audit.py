"""The audit log in a browser: it shows what a job changed, its filter is in the address, and it fits every width in both themes."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from accounts.models import User
from conversations import jobs, lanes
from tests.browser.test_jobs import NARROW, WCAG, WIDE, at_aurod, fits, signed_in, switch_job

__all__ = ["at_aurod", "signed_in"]
pytestmark = pytest.mark.django_db(transaction=True)


def ran(user: User, account: Any) -> Any:
    job = switch_job(user, account)
    assert jobs.start(user, job, note="spring cleaning", typed_count=job.n_pending)
    while lanes.run_lane(account.pk):
        pass
    return job


@pytest.mark.parametrize(("locale", "viewport"), [("en-US", WIDE), ("zh-CN", NARROW)], ids=["en", "zh"])
def test_the_log_shows_what_a_job_changed_and_its_filter_is_in_the_address(
    at_aurod: Any, alice: User, signed_in: Any, aside: Any, locale: str, viewport: dict[str, int]
) -> None:
    _simulator, account = at_aurod
    job = aside(ran, alice, account)
    page = signed_in(locale=locale, viewport=viewport)
    page.goto("/audit/")
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
        found = Axe().run(page, options={"runOnly": WCAG})
        assert found.violations_count == 0, found.generate_report()
    assert fits(page)
    page.fill("#audit_job", str(job))
    page.wait_for_url("**job=J-*")
    rows = page.locator("#audit tbody tr")
    assert rows.count() == job.total + 1 and "spring cleaning" in rows.last.inner_text()
    assert rows.first.locator("del").count() == rows.first.locator("ins").count() == 1
    page.fill("#audit_actor", "nobody")
    page.wait_for_url("**actor=nobody**")
    page.locator("#audit .empty").wait_for()
    page.go_back()
    rows.first.wait_for()
    page.locator("[id^=audit-conversation-]").first.click()
    page.wait_for_url("**/conversations/*/")
