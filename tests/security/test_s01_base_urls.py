"""S1: one function guards the form, the command line and the transport; what it refuses, it refuses in all of them."""

from __future__ import annotations

import json

import httpx
import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts import services
from accounts.egress import EgressPolicy, EgressRefused, build_client, check_url
from accounts.models import Account
from tests.accounts.raw_server import Names, go
from tests.accounts.support import fields

EVIL = {
    "plain http": "http://api.example.com",
    "user": "https://user@api.example.com",
    "password": "https://user:password@127.0.0.1",
    "decimal address": "https://2130706433",
    "hexadecimal address": "https://0x7f000001",
    "octal address": "https://0177.0.0.1",
    "short address": "https://127.1",
    "private address": "https://10.0.0.1",
    "loopback": "https://127.0.0.1",
    "international name": "https://аpi.example.com",
    "full-width digits": "https://１２７.0.0.1",
    "trailing dot": "https://localhost.",
    "IPv6 loopback": "https://[::1]",
    "IPv4 in IPv6": "https://[::ffff:127.0.0.1]",
    "NAT64": "https://[64:ff9b::127.0.0.1]",
    "zone": "https://[fe80::1%25eth0]",
    "metadata": "https://169.254.169.254",
    "port": "https://api.example.com:8443",
    "another scheme": "file:///etc/passwd",
}


@pytest.fixture(autouse=True)
def strict(settings) -> None:
    settings.EGRESS_HTTP_HOSTS, settings.EGRESS_ALLOW_CIDRS, settings.EGRESS_PORTS = [], [], []


@pytest.mark.parametrize("url", EVIL.values(), ids=EVIL)
def test_s01_an_evil_url_is_refused_by_the_function_and_by_services(url: str) -> None:
    with pytest.raises(EgressRefused):
        check_url(url)
    with pytest.raises(ValidationError):
        services.check_address(services.get_provider("aurod"), url)


@pytest.mark.parametrize("url", EVIL.values(), ids=EVIL)
def test_s01_an_evil_url_is_refused_by_the_form(client, serve, url: str) -> None:
    simulator, _url = serve("aurod")
    for name in ("account_add_provider", "account_test_new"):
        answer = client.post(reverse(name, args=["aurod"]), fields(url, simulator.credential()))
        assert answer.status_code == 422, name
    assert not Account.objects.exists() and simulator.log == []


@pytest.mark.parametrize("url", EVIL.values(), ids=EVIL)
def test_s01_an_evil_url_is_refused_by_the_command_line(alice, serve, tmp_path, url: str) -> None:
    simulator, _url = serve("aurod")
    document = tmp_path / "credential.json"
    document.write_text(json.dumps(simulator.credential()))
    given = ["--user", alice.email, "--provider", "aurod", "--label", "x", "--base-url", url, "--credentials", str(document), "--no-test"]
    with pytest.raises(CommandError):
        call_command("accounts", "add", *given)
    assert not Account.objects.exists()


@pytest.mark.parametrize("url", EVIL.values(), ids=EVIL)
def test_s01_an_evil_url_that_got_into_the_database_is_refused_by_the_transport(url: str) -> None:
    async def scenario() -> None:
        names = Names(["10.0.0.1"])
        async with build_client(EgressPolicy(), concurrency=1, resolver=names) as client:
            with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
                await client.get(url)
        assert [name for name in names.asked if not name.startswith("xn--")] == []  # nobody was even asked for its address

    go(scenario)


def test_s01_an_ordinary_url_is_taken() -> None:
    assert services.check_address(services.get_provider("chatnio"), "https://api.example.com/v1/") == "https://api.example.com/v1"
