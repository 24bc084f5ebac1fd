"""Whatever is sent to whatever address: no mistake of ours (500), and an answer in time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django import forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import get_resolver, reverse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts import services, teams, trials
from accounts.models import ShareLevel, Team
from accounts.providers.errors import ProviderUnavailable
from conversations import jobs, wake
from conversations.models import Job
from tests.accounts.devtools import FORMS, page_request
from tests.accounts.support import HTMX
from tests.accounts.team_support import people
from tests.conftest import ROOT

from .walk import address, names

SECONDS = 10.0
LEAVING = {"account_logout", "account_delete", "job_discard"}  # they take away what the others are about; sent last
READ = re.compile(r"""(?:POST|GET|data|given|FILES)(?:\.get|\.getlist|\.pop)?[\[(]["'](\w+)["']""")
NAMED = re.compile(r"""name=["'](\w+)["']""")


def all_forms(form: type[forms.BaseForm] = forms.BaseForm) -> Iterator[type[forms.BaseForm]]:
    """Yields every class of forms that is known once all addresses are."""
    for one in form.__subclasses__():
        yield one
        yield from all_forms(one)


def field_names() -> list[str]:
    """Returns every name under which the product looks for something that was sent."""
    assert get_resolver().url_patterns
    ours = [form for form in all_forms() if form.__module__.startswith(("accounts.", "conversations."))]
    found = {name for form in ours for name in getattr(form, "base_fields", {})}
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
    assert {"text", "read_as", "operator_limit", "admin_limit", "reason", "note", "canary", "canary_limit", "level", "role"} <= set(FIELDS)


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


@pytest.mark.parametrize("back", ["0", "home", "jobs/1/", "\0", "//evil.example/", "javascript:alert(1)"])
def test_a_way_back_that_is_no_address_of_this_site_leads_to_the_first_page(client, back: str) -> None:
    client.raise_request_exception = True
    for name in ("set_theme", "job_create"):
        assert client.post(reverse(name), {"next": back, "theme": "dark"}).headers["Location"] == "/"


# --- what is pasted -------------------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["^", "'", '"', "\\", "\n", "\n\n", "\r\n", " ^\n", "\0", "\ufeff", "…", ": ", ":", "{", "]", "&", "$(", "-H ", "😀", "\ufffd"]
)
CREDENTIAL = st.fixed_dictionaries(dict.fromkeys(("token", "cookie", "user_agent", "app_version"), VALUE))
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2), PIECES), max_size=3)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "save": st.just("1"),
        "save_anyway": st.just("1"),
        "other_user": st.just("1"),
        "read_as": st.sampled_from(["aurod", "nuwax", "x\0"]),
        "provider": st.sampled_from(["aurod", "chatnio", ""]),
        "label": VALUE,
        "base_url": VALUE,
        "credential_app_version": VALUE,
        "next": VALUE,
    },
)


def changed(text: str, changes: list[tuple[float, float, str]]) -> str:
    """Returns a text with pieces in the place of parts of it."""
    for where, length, piece in changes:
        at = int(where * len(text))
        text = text[:at] + piece + text[at + int(length * len(text)) :]
    return text


@pytest.mark.parametrize("form", FORMS)
def test_no_capture_breaks_the_box(connected, client, quiet, monkeypatch, form: str) -> None:
    _simulator, account = connected("aurod", populate=1)
    away = services.TestReport(error=ProviderUnavailable("away"))
    monkeypatch.setattr(services, "test_credentials", lambda *_given, **_more: away)  # what providers answer is no matter here
    monkeypatch.setitem(trials.PER_MINUTE, "typed", 100_000)
    client.raise_request_exception = True
    boxes = [reverse("account_paste"), reverse("account_paste_into", args=[account.pk])]

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from([account.base_url, "https://ai.aurod.cn", "https://10.0.0.7", "x"]), CREDENTIAL, CHANGES, MORE, st.sampled_from([{}, HTMX])
    )
    def pasted(url: str, credential: dict[str, str], changes: list[Any], more: dict[str, str], headers: dict[str, str]) -> None:
        text = changed(FORMS[form](page_request(url, credential)), changes)
        for box in boxes:
            ask(client, form, box, "post", more | {"text": text}, headers)

    pasted()


# --- limits and approvals -------------------------------------------------------------------------------------------------------------

ORDERS = ("operator_limit", "admin_limit", "reason", "note", "typed_count", "canary", "canary_limit", "priority")


def test_no_limit_and_no_answer_to_a_job_that_waits_for_approval_breaks(place, client, alice, quiet) -> None:
    desk = people(alice)
    teams.share(alice, place.account, desk.team, ShareLevel.USE)
    operator = Client()
    operator.force_login(desk.operator)
    client.raise_request_exception = True
    limits = reverse("team_limits", args=[desk.team.pk])
    ended: set[str] = set()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.dictionaries(st.sampled_from(ORDERS), st.one_of(VALUE, st.lists(VALUE, max_size=3)), max_size=6),
        st.sampled_from(["job_approve", "job_refuse", "job_withdraw"]),
        st.sampled_from([{}, HTMX]),
    )
    @example({"reason": "no"}, "job_refuse", HTMX)
    @example({"note": "x"}, "job_approve", {})
    def answered(sent: dict[str, Any], name: str, headers: dict[str, str]) -> None:
        Team.objects.filter(pk=desk.team.pk).update(operator_limit=1)
        job = jobs.plan(jobs.create(desk.operator, "set-title", place.account.conversations.all()), {"template": "{n}.", "include_hand_made": True})
        ask(operator, "job_start", reverse("job_start", args=[job.pk]), "post", sent, headers)
        for browser in (operator, client):
            ask(browser, "job_detail", reverse("job_detail", args=[job.pk]), "get", {}, headers)
            ask(browser, name, reverse(name, args=[job.pk]), "post", sent, headers)
        ask(client, "team_limits", limits, "post", sent, headers)
        ended.add(Job.objects.get(pk=job.pk).order)

    answered()
    assert ended >= {"draft", "run"}, "refused ones are previews again, approved ones run"


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
