"""The watch over the pages: a browser test is worth little if it does not notice."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.conftest import PageWatch

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_watch_sees_what_must_not_happen(page: Page, watch: PageWatch) -> None:
    page.goto("/auth/login/")
    watch.check()
    page.evaluate("console.error('boom')")
    page.evaluate("() => { const s = document.createElement('script'); s.textContent = '1'; document.head.append(s) }")
    page.evaluate("() => fetch('https://elsewhere.example/').catch(() => 0)")
    with page.expect_event("pageerror"):
        page.evaluate("() => { setTimeout(() => { throw new Error('late') }, 0) }")
    with socket.socket() as silent:
        # A move to another site, where nobody listens.
        silent.bind(("127.0.0.1", 0))
        elsewhere = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Exception, match="ERR_CONNECTION_REFUSED"):
            page.goto(elsewhere)

    with pytest.raises(pytest.fail.Exception) as caught:
        watch.check()
    text = str(caught.value)
    for problem in (
        "console: boom",
        "CSP: script-src-elem inline",
        "CSP: connect-src https://elsewhere.example/",
        "page error",
        f"leaves the site: {elsewhere}",
    ):
        assert problem in text

    watch.problems = ["console: 418"]
    watch.expect("418")
    watch.check()
