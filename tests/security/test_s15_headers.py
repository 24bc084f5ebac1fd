"""S15: every answer carries the strict policy. Violations, console errors and off-site requests fail the browser suite (tests/conftest.py)."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.accounts.support import HTMX
from tests.conftest import PageWatch

from .walk import address, names


def directives(text: str) -> dict[str, set[str]]:
    return {parts[0]: set(parts[1:]) for parts in (entry.split() for entry in text.split(";")) if parts}


def check(answer, where: str) -> None:
    policy = directives(answer.headers["Content-Security-Policy"])
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == {"'none'"}, where
    assert not [source for sources in policy.values() for source in sources if "unsafe" in source or "*" in source or source.startswith("http")], (
        where
    )
    assert policy["script-src"] == {"'self'"} == policy["style-src"] and policy["form-action"] == {"'self'"}, where
    assert answer.headers["X-Content-Type-Options"] == "nosniff", where
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin", where
    assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer"), where


def test_s15_every_answer_of_every_address_has_the_headers(place, client) -> None:
    addresses = {name: address(place, name) for name in names()}
    for name, path in addresses.items():
        for headers in ({}, HTMX):
            check(client.get(path, headers=headers), name)
    for name, path in addresses.items():
        check(client.post(path), f"POST {name}")


@pytest.mark.parametrize("path", ["/nowhere/", "/auth/login/", "/healthz", "/admin/login/", "/static/app.js"])
def test_s15_what_strangers_get_has_them_too(transactional_db, path: str) -> None:
    check(Client().get(path), path)


def test_s15_the_browser_suite_fails_on_what_a_page_must_not_do() -> None:
    class Context:
        """Takes what a watch registers."""

        def __init__(self) -> None:
            self.handlers: dict[str, object] = {}

        def add_init_script(self, text: str) -> None:
            assert "securitypolicyviolation" in text

        def on(self, event: str, handler: object) -> None:
            self.handlers[event] = handler

    class Message:
        """What a console says."""

        type, text, location = "error", "CSP: script-src https://evil.example", {"url": "x"}

    class Request:
        """What a page asks for."""

        url = "https://evil.example/x.js"

    for event, given in (("console", Message()), ("request", Request())):
        watch, context = PageWatch("http://localhost:1"), Context()
        watch.attach(context)  # type: ignore[arg-type]
        watch.check()
        context.handlers[event](given)  # type: ignore[operator]
        with pytest.raises(pytest.fail.Exception):
            watch.check()
