"""`manage.py accounts add --capture`: a pasted request becomes an account, and its text is nowhere afterwards."""

from __future__ import annotations

import json
import time

import pytest

from accounts import services
from accounts.models import Account
from tests.accounts.devtools import FORMS, Sent, page_request

from .test_accounts import FIELDS, everything_stored

LOGIN = json.dumps({"account": "user@example.com", "password": "synthetic-password"})


@pytest.fixture
def add(run, alice, file):
    """A function that adds an account of Alice's from a capture, on stdin, or in a file when `path` is true."""

    def call(text, *more, label="One", path=False):
        source = file(text, "capture.txt") if path else "-"
        return run("accounts", "add", "--user", alice.email, "--label", label, "--capture", source, "--json", *more, stdin="" if path else text)

    return call


@pytest.mark.parametrize("form", ["cmd crlf", "bash", "powershell", "har"])
def test_a_capture_finds_provider_and_address_and_is_stored_after_a_test(run, add, serve, form):
    simulator, url = serve("aurod", populate=7)
    credential = simulator.credential()
    row = add(FORMS[form](page_request(url, credential)), path=form == "bash").document
    assert list(row) == FIELDS and (row["provider"], row["base_url"], row["health"]) == ("aurod", url, "ok")
    assert simulator.log and not simulator.writes()
    opened = services.credentials_of(Account.objects.get())
    assert {name: value.reveal() for name, value in opened.items()} == credential
    everything = [*run.seen, everything_stored()]
    for value in (credential["token"], credential["cookie"], "dark-marker", "other-marker"):
        assert not any(value in text for text in everything)


def test_what_the_form_leaves_out_is_said_on_standard_error(add, serve):
    simulator, url = serve("aurod", populate=1)
    result = add(FORMS["fetch"](page_request(url, simulator.credential())))
    assert result.code == 0 and json.loads(result.out)["health"] == "ok"
    assert [line.split(":")[0] + line.split(":")[1] for line in sorted(result.err.splitlines())] == [
        "note cookie not taken",
        "note user-agent not taken",
    ]


def test_a_bare_key_takes_the_usual_address_or_the_one_that_is_given(add, serve):
    simulator, url = serve("chatnio", populate=2)
    row = add(simulator.credential()["secret"], "--base-url", url).document
    assert (row["provider"], row["base_url"], row["health"]) == ("chatnio", url, "ok")


def test_what_a_capture_lacks_may_come_in_a_document(run, add, serve, file):
    simulator, url = serve("nuwax", populate=3)
    credential = simulator.credential()
    more = file(json.dumps({"agent_ids": credential["agent_ids"]}), "more.json")
    row = add(credential["api_key"], "--base-url", url, "--credentials", more).document
    assert (row["provider"], row["health"]) == ("nuwax", "ok")
    assert "agent_ids" in services.credentials_of(Account.objects.get())


def test_captures_that_are_of_no_use_are_refused_with_the_reason_and_without_a_request(run, add, serve):
    simulator, url = serve("aurod", populate=1)
    credential = simulator.credential()
    bare = page_request(url, credential, without="authorization")
    for text, code, cause in [
        (FORMS["cmd"](page_request(url, credential, without="authorization", body=LOGIN)), 1, "it contains the password and no token yet"),
        (FORMS["cmd"](bare), 1, "carries no credential"),
        (FORMS["bash"](Sent("https://shop.example.org/cart")), 1, "--provider: aurod, chatnio"),
        (FORMS["bash"](page_request("http://10.0.0.7", credential)), 1, "This address cannot be used: "),
        ("curl 'https://ai.aurod.cn/x", 2, "ends in the middle"),
        ("", 2, "There is nothing to read"),
        ("LTAI5tSyntheticKey01", 1, "access_key_secret: This field is required."),
    ]:
        result = add(text)
        assert (result.code, result.out) == (code, "") and cause in result.only_line, result
    assert simulator.log == [] and not Account.objects.exists()
    assert not any(credential["token"] in text or "synthetic-password" in text for text in run.seen)


def test_an_expired_token_says_since_when(add, serve):
    simulator, url = serve("aurod", populate=1)
    credential = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 32 * 86400)}
    cause = add(FORMS["cmd"](page_request(url, credential))).cause
    assert "This token has expired" in cause and cause.rstrip(")").endswith("UTC")


def test_either_a_capture_or_a_document_is_needed(run, alice):
    for more in ((), ("--provider", "aurod"), ("--credentials", "-"), ("--capture", "-", "--credentials", "-")):
        result = run("accounts", "add", "--user", alice.email, "--label", "One", *more)
        assert (result.code, result.out) == (2, "") and "--capture" in result.only_line
