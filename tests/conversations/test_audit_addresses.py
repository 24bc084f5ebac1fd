"""The address in the audit log: whose it is, and that nothing which a visitor writes breaks a page or stands for another's."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
from django.urls import reverse

from config import client as client_address
from conversations import jobs, lanes
from conversations.models import AuditEntry

from .pages import text_of
from .support import synced
from .test_jobs import other_model, switch_job


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.mark.parametrize(
    ("proxies", "forwarded", "wanted"),
    [
        (0, "", "192.0.2.9"),
        (0, "203.0.113.1", "192.0.2.9"),
        (1, "203.0.113.1, 198.51.100.4", "198.51.100.4"),
        (1, "", "192.0.2.9"),
        (1, "[2001:db8::1]:443", "2001:db8::1"),
        (1, "fe80::1%<b>=1+1" + "x" * 80, "fe80::1"),
        (1, "no address", ""),
        (1, "203.0.113.1,", "192.0.2.9"),
        (1, "999.1.1.1", ""),
        (1, "é, \x80", ""),
        (2, "203.0.113.1", ""),
    ],
)
def test_an_entry_holds_the_address_that_signing_in_is_limited_by(client, settings: Any, proxies: int, forwarded: str, wanted: str) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    answer = client.get(reverse("audit_export", args=["json"]), REMOTE_ADDR="192.0.2.9", headers=headers)
    assert answer.status_code == 200
    assert AuditEntry.objects.get().ip == wanted
    assert client_address.address() == "", "it ends with the request"


def test_a_request_without_an_address_is_answered(client) -> None:
    assert client.get(reverse("audit_export", args=["json"]), REMOTE_ADDR="").status_code == 200
    assert AuditEntry.objects.get().ip == ""


def test_a_server_that_speaks_asgi_tells_it_too(alice, settings: Any) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    client = AsyncClient()
    client.force_login(alice)
    for headers in ({"x-forwarded-for": "198.51.100.4"}, {}):
        assert async_to_sync(client.get)(reverse("audit_export", args=["json"]), headers=headers).status_code == 200
    assert list(AuditEntry.objects.order_by("pk").values_list("ip", flat=True)) == ["198.51.100.4", "127.0.0.1"]


def test_what_a_worker_did_has_none(connected, alice) -> None:
    account = synced(connected("modelrouter", populate=2, rate_limit=0)[1])
    job = switch_job(alice, account, other_model(account))
    with client_address.at("192.0.2.1"):
        assert jobs.start(alice, job)
    while lanes.run_lane(account.pk):
        pass
    assert set(AuditEntry.objects.values_list("what", "ip")) == {("job started", "192.0.2.1"), ("switch-model", "")}


def test_the_page_and_the_files_show_it(client, alice) -> None:
    with client_address.at("198.51.100.4"):
        AuditEntry.objects.create(actor=alice, actor_name="alice", what="create team")
    page = text_of(client.get(reverse("audit_list")))
    assert "198.51.100.4</span>" in page and "|default" not in page
    rows = list(csv.DictReader(io.StringIO(client.get(reverse("audit_export", args=["csv"])).getvalue().decode("utf-8-sig"))))
    assert [row["ip"] for row in rows] == ["127.0.0.1", "198.51.100.4"]
    assert json.loads(client.get(reverse("audit_export", args=["json"])).getvalue())[-1]["ip"] == "198.51.100.4"
