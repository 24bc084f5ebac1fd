"""Settings of many conversations and undo, as a person does them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from accounts.models import Account, User
from conversations import jobs
from conversations.models import Job

from .test_jobs import NARROW, WCAG, WIDE, at_aurod, runner, signed_in  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("at_aurod", [6], indirect=True)
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_setting_is_changed_for_many_and_two_of_them_are_undone(
    live_server: Any,
    at_aurod: tuple[Any, Account],  # noqa: F811
    alice: User,
    signed_in: Any,  # noqa: F811
    viewport: dict[str, int],
    aside: Any,
) -> None:
    simulator, account = at_aurod
    before = {key: values["temperature"] for key, values in simulator.truth().items()}
    page = signed_in(viewport=viewport)
    job = aside(lambda: jobs.create(alice, "configure", account.conversations.all()))
    page.goto(f"{live_server.url}/jobs/{job.pk}/compose/")
    value = page.get_by_label("Temperature: new value")
    assert not value.is_visible()
    page.get_by_label("Temperature", exact=True).select_option("Set to")
    value.fill("0.9")
    assert value.is_visible() and not page.get_by_label("System prompt: new value").is_visible()
    assert Axe().run(page, options={"runOnly": WCAG}).violations_count == 0
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("6 of 6 would change").first.wait_for()
    with runner(account):
        page.get_by_role("button", name="Run 6 changes").click()
        page.get_by_role("button", name="Undo 6 changes…").wait_for()
        assert {values["temperature"] for values in simulator.truth().values()} == {0.9}
        assert not page.get_by_role("button", name="Undo the ticked rows…").is_visible()
        for box in page.get_by_label("Undo this one").all()[:2]:
            box.check()
        assert Axe().run(page, options={"runOnly": WCAG}).violations_count == 0
        page.get_by_role("button", name="Undo the ticked rows…").click()
        page.get_by_text("2 of 2 would change").first.wait_for()
        page.get_by_role("button", name="Run 2 changes").click()
        page.get_by_role("button", name="Undo 2 changes…").wait_for()
    truth = {key: values["temperature"] for key, values in simulator.truth().items()}
    assert sum(truth[key] == before[key] for key in before) == 2
    page.get_by_role("link", name=re.compile(r"^J-\d+$")).first.click()
    page.get_by_text("undone by").wait_for()
    assert aside(Job.objects.count) == 2
