"""S8: known secrets go in, then everything that can happen happens, and everything that can be looked at is searched for them."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views.debug import ExceptionReporter

from accounts import services
from accounts.models import Account, RequestLog, User
from accounts.signals import account_connected
from config.logging import OneLineFormatter
from conversations import edits, mirror, signals
from conversations.models import AuditEntry
from tests.accounts.support import HTMX, KEYS, fields
from tests.conversations import support

from .conftest import furnish
from .walk import Place, address, body, names


class Lines(logging.Handler):
    """Everything that the product's formatter makes of what is logged, from DEBUG on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


def echo(request: web.Request) -> web.Response:
    """A failure that repeats all it was sent, as gateways and debug pages do: with names, and bare, so that no shape gives a secret away."""
    text = f"no route for {request.path_qs} with " + " ".join(f"{name}: {value}" for name, value in request.headers.items())
    bare = " ".join(part.rpartition("=")[2] for value in request.headers.values() for part in value.split("; "))
    told = f"no route, was given {bare} {text}"
    return web.json_response({"code": 500, "message": told, "msg": told, "error": told, "success": False, "requestId": text}, status=500)


def canary_credential(key: str, simulator: Any) -> dict[str, str]:
    """Returns a credential that the simulator accepts; a cookie that it does not look at is a canary too."""
    credential = dict(simulator.credential())
    if "cookie" in credential:
        credential["cookie"] = f"server_name_session={secrets.token_hex(16)}"
    return credential


def needles(values: list[str]) -> list[str]:
    """Returns every form in which a secret might stand somewhere: whole, quoted, in base64, and a piece that is more than its last four."""
    found: set[str] = set()
    for value in values:
        found |= {value, quote(value, safe=""), base64.b64encode(value.encode()).decode().rstrip("="), json.dumps(value)[1:-1]}
        if len(value) >= 16:
            found.add(value[-20:-4])
        found |= {part.partition("=")[2] for part in value.split("; ") if "=" in part and len(part.partition("=")[2]) > 12}
    return sorted(found, key=len, reverse=True)


def hits(text: str, wanted: list[str]) -> list[str]:
    return [f"…{text[max(0, text.index(word) - 60) : text.index(word)]}‹secret›" for word in wanted if word in text]


def dump() -> Iterator[tuple[str, str]]:
    """Yields the whole database as text: each table, and on SQLite also what its own dump says."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            yield table, "\n".join(repr(row) for row in cursor.fetchall())
    if connection.vendor == "sqlite":
        with sqlite3.connect(connection.settings_dict["NAME"]) as other:
            yield "iterdump", "\n".join(other.iterdump())
        yield "file", Path(connection.settings_dict["NAME"]).read_bytes().decode("latin-1")


@pytest.fixture
def world(client, alice, serve) -> list[tuple[Place, list[str]]]:
    """An account at every provider, connected through the form, with jobs, edits, readings and errors that repeat what was sent."""
    account_connected.disconnect(dispatch_uid="conversations.connected")
    made = []
    for key in KEYS:
        simulator, url = serve(key, populate=4)
        simulator.unlimited()
        credential = canary_credential(key, simulator)
        answer = client.post(reverse("account_add_provider", args=[key]), fields(url, credential, label=key))
        assert answer.status_code in (200, 302), answer.content.decode()
        account = Account.objects.get(label=key)
        Account.objects.filter(pk=account.pk).update(rate=support.FAST)
        account.refresh_from_db()
        secret = {field.name for field in account.provider.credential_fields if field.secret}
        support.synced(account)
        place = happenings(client, alice, simulator, account)
        made.append((place, [value for name, value in credential.items() if name in secret and len(value) > 7]))
    signals.connect()
    return made


def happenings(client: Client, alice: User, simulator: Any, account: Account) -> Place:
    """Lets a job run, and a reading, a test and an edit fail with answers that repeat the request."""
    place = Place(simulator, account, None, None)  # type: ignore[arg-type]
    with suppress(ValidationError):  # a provider that cannot switch stored conversations
        place = furnish(alice, simulator, account)
    simulator.failed = echo
    simulator.add_fault("error", times=30)
    edits.edit_now(alice, account.conversations.first(), {"title": "another"})
    client.post(reverse("account_test", args=[account.pk]), headers=HTMX)
    row = account.conversations.first()
    client.get(reverse("conversation_messages", args=[row.pk]), headers=HTMX)
    client.post(reverse("account_sync", args=[account.pk]), headers=HTMX)
    simulator.clear_faults()
    simulator.add_fault("expired", times=2)
    services.test_account(Account.objects.get(pk=account.pk))
    simulator.clear_faults()
    mirror.cancel_sync(account)
    return place


def test_s08_no_secret_comes_out_anywhere(log, world, client, alice, redis_client, monkeypatch) -> None:
    wanted = needles([value for _place, values in world for value in values])
    assert len(wanted) > 12
    found: dict[str, list[str]] = {}
    looked = 0

    def search(where: str, text: str) -> None:
        nonlocal looked
        looked += 1
        if bad := hits(text, wanted):
            found[where] = bad

    # The errors did repeat the secrets: what is searched for was there to be told.
    assert RequestLog.objects.filter(answer__contains="no route").exists() and AuditEntry.objects.exists()
    people = {"owner": client, "anonymous": Client(raise_request_exception=False)}
    for name, user in (("stranger", support.make_user("bob@example.com")), ("admin", User.objects.create_superuser("root@example.com", "x" * 12))):
        people[name] = Client(raise_request_exception=False)
        people[name].force_login(user)
    for who, browser in people.items():
        for place, _values in world if who == "owner" else world[:1]:
            if place.job is None:
                place.job, place.draft = world[0][0].job, world[0][0].draft
            for name in names():
                if name in ("account_logout",):
                    continue
                for headers in ({}, HTMX):
                    answer = browser.get(address(place, name), headers=headers)
                    search(f"{who} {name} {headers}", body(answer))
                    assert answer.status_code != 500, name
    for kind in ("csv", "json"):
        for place, _values in world:
            search(f"report.{kind}", body(client.get(reverse("job_report", args=[place.job.pk, kind]))))
        search(f"audit.{kind}", body(client.get(reverse("audit_export", args=[kind]))))
    for path in ("/admin/", "/nowhere/", "/conversations/999999999/"):
        for who, browser in people.items():
            search(f"{who} {path}", body(browser.get(path)))
    for command in (["accounts", "list"], ["jobs", "report", str(world[0][0].job.pk)], ["jobs", "items", str(world[0][0].job.pk)]):
        out = io.StringIO()
        call_command(*command, "--json", stdout=out)
        search(" ".join(command), out.getvalue())

    # A mistake of ours while a credential is in our hands: the page, the log and what a report of it would say.
    place, values = world[0]
    monkeypatch.setattr("accounts.views.services.check_address", broken)
    given = fields(place.account.base_url, {"token": values[0], "app_version": "1"}, label="new")
    answer = client.post(reverse("account_add_provider", args=[place.account.provider_key]), given)
    search(f"500 page ({answer.status_code})", body(answer))
    search("error report", report_of(given))

    for key in redis_client.scan_iter("*"):
        search(f"redis {key!r}", everything_at(redis_client, key))
    for table, text in dump():
        search(f"database {table}", text)
    search("log", "\n".join(log.lines))
    assert looked > 300 and len(log.lines) > 50
    assert found == {}


def broken(*_given: Any) -> None:
    raise RuntimeError("a mistake of ours")


def report_of(given: dict[str, str]) -> str:
    """Returns what Django's report of an exception says of a request with these fields, with a secret in a local variable."""
    request = RequestFactory().post("/accounts/new/aurod/", given)
    token = given["credential_token"]
    try:
        broken(token)
    except RuntimeError:
        reporter = ExceptionReporter(request, *sys.exc_info(), is_email=True)
        return reporter.get_traceback_html() + reporter.get_traceback_text()
    raise AssertionError


def everything_at(redis_client: Any, key: bytes) -> str:
    kind = redis_client.type(key).decode()
    reading = {
        "list": lambda: redis_client.lrange(key, 0, -1),
        "hash": lambda: redis_client.hgetall(key),
        "set": lambda: redis_client.smembers(key),
        "zset": lambda: redis_client.zrange(key, 0, -1, withscores=True),
        "string": lambda: redis_client.get(key),
    }.get(kind, lambda: kind)
    return f"{key!r} {reading()!r}"


@pytest.mark.parametrize("key", KEYS)
def test_s08_credentials_are_write_only_and_their_last_four_characters_are_all_that_shows(client, connected, key) -> None:
    simulator, account = connected(key)
    page = body(client.get(reverse("account_edit", args=[account.pk])))
    for field in account.provider.credential_fields:
        value = simulator.credential().get(field.name, "")
        if field.secret and len(value) > 12:
            assert value not in page and value[-6:] not in page, field.name
