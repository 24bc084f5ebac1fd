"""Whatever is sent to whatever address: no mistake of ours (500), and an answer in time."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations import wake
from tests.accounts.support import HTMX
from tests.conftest import ROOT

from .walk import address, names

SECONDS = 10.0
LEAVING = {"account_logout", "account_delete", "job_discard"}  # they take away what the others are about; sent last
READ = re.compile(r"""(?:POST|GET|data|given|FILES)(?:\.get|\.getlist|\.pop)?[\[(]["'](\w+)["']""")
NAMED = re.compile(r"""name=["'](\w+)["']""")


def field_names() -> list[str]:
    """Returns every name under which the product looks for something that was sent."""
    found: set[str] = set()
    for part, pattern in (("accounts", READ), ("conversations", READ), ("config", READ), ("templates", NAMED)):
        for path in (ROOT / part).rglob("*"):
            if path.suffix in (".py", ".html"):
                found |= set(pattern.findall(path.read_text(encoding="utf-8")))
    return sorted(found | {"login", "password", "oldpassword", "password1", "password2", "label", "rate", "concurrency", "credential_token"})


FIELDS = field_names()
ODD = ["", "0", "-1", "1", "on", "null", "[]", "{}", '{"a": [1]}', "\0", "²", "１２", "9" * 30, "1e999", "nan", "a" * 5000, "../../etc/passwd"]
ODD += ["1,2,,x", "2026-02-30", "9999-12-31", "0001-01-01", "switch-model", "set-title", "configure", "restore", "J-1", "(a+)+$", "\u202e"]
ODD += ["?q=%ff&account=x", "{n}{", "{title:9999999}"]
VALUE = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers().map(str))
SENT = st.dictionaries(st.sampled_from(FIELDS), st.one_of(VALUE, st.lists(VALUE, max_size=3)), max_size=14)


def test_the_fuzz_knows_the_fields_of_the_forms() -> None:
    assert {"q", "title", "model", "ids", "query", "typed_count", "template", "actor", "base_url", "seen", "item"} <= set(FIELDS)


@pytest.fixture
def quiet(monkeypatch) -> None:
    """No message reaches a worker."""
    monkeypatch.setattr(wake, "send", lambda *_given, **_options: True)


def ask(client: Client, where: str, path: str, method: str, sent: dict[str, Any], headers: dict[str, str]) -> None:
    began = time.monotonic()
    answer = getattr(client, method)(path, sent, headers=headers)
    if answer.streaming:
        answer.getvalue()
    assert answer.status_code < 500, f"{method} {where} {sent!r}"
    assert time.monotonic() - began < SECONDS, f"{method} {where} {sent!r}"


def test_no_address_breaks_on_what_it_is_sent(place, client, quiet) -> None:
    addresses = {name: address(place, name) for name in names()}
    client.raise_request_exception = True

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(SENT, st.sampled_from([{}, HTMX]), st.binary(max_size=60))
    def everywhere(sent: dict[str, Any], headers: dict[str, str], content: bytes) -> None:
        for name, path in addresses.items():
            if name not in LEAVING:
                ask(client, name, path, "get", sent, headers)
                ask(client, name, path, "post", sent | {"file": SimpleUploadedFile("x.csv", content)}, headers)

    everywhere()
    for name in sorted(LEAVING, reverse=True):
        ask(client, name, addresses[name], "get", {"x": "\0"}, {})
        ask(client, name, addresses[name], "post", {"x": "\0"}, {})


def test_no_body_that_is_no_form_breaks_an_address(place, client, quiet) -> None:
    addresses = {name: address(place, name) for name in names() if name not in LEAVING}
    client.raise_request_exception = True
    for name, path in addresses.items():
        for kind, content in (
            ("application/json", b'{"a":'),
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=x", b"--x\r\n"),
            ("application/x-www-form-urlencoded", b"title=%ff%fe&model=%00&ids=%C3%28"),
            ("application/x-www-form-urlencoded; charset=utf-16", b"title=%ff"),
            ("text/plain; charset=nowhere", b"\xff"),
        ):
            answer = client.generic("POST", path, content, kind)
            assert answer.status_code < 500, f"{name} {kind}"
        for query in ("?after=%ff", "?older=%00&page=%00&cursor=%00&status=%00", "?" + "a=b&" * 900, "?sort=%F0%9F%92%A9&account=%00&q=%00&open=%00"):
            answer = client.get(path + query)
            assert answer.status_code < 500, f"{name} {query[:40]}"
