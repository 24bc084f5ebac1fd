"""S8: known secrets go in, then everything that can happen happens, and everything that can be looked at is searched for them.

The persons are those of tests/test_access.py, and nobody at all, and an operator of the admin site. What is pasted is in test_s08_pasted.py.
"""

from __future__ import annotations

import dataclasses
import io
import secrets
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse
from django.views.debug import ExceptionReporter

from accounts import services, teams
from accounts.models import Account, Membership, RequestLog, Role, ShareLevel, User
from accounts.signals import account_connected
from conversations import edits, jobs, mirror, signals
from conversations.models import AuditEntry, Job
from tests.accounts.support import HTMX, KEYS, fields
from tests.accounts.team_support import people
from tests.conversations import support
from tests.test_access import ROLES

from .conftest import furnish
from .sweep import Lines, Sweep, echo, everything_at, lines
from .walk import Place, address, body, patterns

MEMBERS = ("reader", "viewer", "operator", "admin", "owner")  # who see the shared accounts


@dataclasses.dataclass
class World:
    """What was furnished: a place at each provider, the secrets that went in, and a browser for each person."""

    places: list[Place]
    secrets: list[str]
    browsers: dict[str, Client] = dataclasses.field(default_factory=dict)
    users: dict[str, User] = dataclasses.field(default_factory=dict)
    team: int = 0


def canary_credential(key: str, simulator: Any) -> dict[str, str]:
    """Returns a credential that the simulator accepts; a cookie that it does not look at is a canary too."""
    credential = dict(simulator.credential())
    if "cookie" in credential:
        credential["cookie"] = f"server_name_session={secrets.token_hex(16)}"
    return credential


@pytest.fixture
def world(client, alice, serve) -> World:
    """An account at every provider, connected through the form and shared, with jobs, edits, readings and errors that repeat what was sent."""
    account_connected.disconnect(dispatch_uid="conversations.connected")
    made = World([], [])
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
        made.places.append(happenings(client, alice, simulator, account))
        made.secrets += [value for name, value in credential.items() if name in secret and len(value) > 7]
    signals.connect()
    for place in made.places:
        if place.job is None:  # a provider that cannot switch stored conversations
            place.job, place.draft = made.places[0].job, made.places[0].draft
    peopled(made, client, alice)
    return made


def happenings(client: Client, alice: User, simulator: Any, account: Account) -> Place:
    """Lets a job run, and a reading, a test and an edit fail with answers that repeat the request."""
    place = Place(simulator, account, None, None)  # type: ignore[arg-type]
    with suppress(ValidationError):
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


def peopled(world: World, client: Client, alice: User) -> None:
    """Shares everything with a team for use and with another to read, and lets others fail and ask there too."""
    desk, readers = people(alice), teams.create(alice, "Readers")
    world.users = {name: getattr(desk, name) for name in ROLES if name != "reader"} | {"reader": support.make_user("reader@example.com")}
    Membership.objects.create(team=readers, user=world.users["reader"], role=Role.OPERATOR)
    for place in world.places:
        teams.share(alice, place.account, desk.team, ShareLevel.USE)
        teams.share(alice, place.account, readers, ShareLevel.READ)
        place.team = desk.team.pk
    world.users["superuser"] = User.objects.create_superuser("root@example.com", "x" * 12)
    world.browsers = {"anonymous": Client(raise_request_exception=False)}
    for name, user in world.users.items():
        world.browsers[name] = client if user == alice else Client(raise_request_exception=False)
        world.browsers[name].force_login(user)
    place = world.places[0]
    place.simulator.add_fault("error", times=30)
    edits.edit_now(desk.operator, place.account.conversations.first(), {"title": "by another"})
    world.browsers["operator"].post(reverse("account_sync", args=[place.account.pk]), headers=HTMX)
    place.simulator.clear_faults()
    mirror.cancel_sync(place.account)
    world.secrets += [teams.invite(alice, desk.team, Role.VIEWER)[1], secrets.token_urlsafe(24)]  # the last one is a password that nobody has
    teams.set_limits(alice, desk.team, 1, None)
    asked = jobs.plan(jobs.create(desk.operator, "set-title", place.account.conversations.all()), {"template": "{n}.", "include_hand_made": True})
    assert jobs.start(desk.operator, asked) and asked.order == "ask"


def routes(who: str, world: World) -> Iterator[tuple[str, Place, bool]]:
    """Yields the addresses of a person's walk: all of them at one place, and at the others those that lead to something there."""
    for number, place in enumerate(world.places):
        whole = who == "owner" or number == (ROLES.index(who) if who in ROLES else 0) % len(world.places)
        for name, _route, kinds in {name: (name, route, kinds) for name, route, kinds in patterns()}.values():
            if name != "account_logout" and (whole or (who in MEMBERS and "UUIDConverter" in kinds.values())):
                yield name, place, whole
    if who in MEMBERS:  # the job that waits for an approval: its page and what belongs to it
        asked = Job.objects.get(order="ask")
        for name in ("job_detail", "job_item", "job_report", "job_list"):
            yield name, Place(world.places[0].simulator, world.places[0].account, asked, asked, world.team), True


@pytest.fixture
def log() -> Iterator[Lines]:
    with lines() as handler:
        yield handler


def test_s08_no_secret_comes_out_anywhere(log, world, redis_client, monkeypatch) -> None:
    sweep = Sweep(world.secrets)
    assert len(sweep.wanted) > 30
    # The errors did repeat the secrets: what is searched for was there to be told.
    assert RequestLog.objects.filter(answer__contains="no route").exists() and AuditEntry.objects.exists()
    for who in world.browsers:
        walked(who, world, sweep)
        files(who, world, sweep)
        refusals(who, world, sweep)
    operators_site(world, sweep)
    commands(world, sweep)
    assert b"celery" in set(redis_client.scan_iter("*")) and str(world.places[0].account.pk) in everything_at(redis_client, b"celery")
    broken_with_a_secret_in_hand(world, sweep, monkeypatch)
    sweep.machinery(log, redis_client)
    assert sweep.looked > 3000 and len(log.lines) > 500
    assert sweep.found == {}


# --- pages and files ------------------------------------------------------------------------------------------------------------------

SHOWN = ("account_detail", "account_requests", "account_history", "conversation_detail", "job_detail", "job_item")


def walked(who: str, world: World, sweep: Sweep) -> None:
    """Walks over every address as one person, as a page and as a fragment; who may see it did see it."""
    for name, place, whole in routes(who, world):
        for headers in ({}, HTMX) if whole else ({},):
            answer = sweep.answer(f"{who} {name} {place.account.label} {headers}", world.browsers[who].get(address(place, name), headers=headers))
            assert answer.status_code != 500, (who, name)
            if not headers and name in SHOWN and place in world.places:
                assert answer.status_code == (200 if who in MEMBERS else 302 if who == "anonymous" else 404), (who, name)


def files(who: str, world: World, sweep: Sweep) -> None:
    """Downloads what may be downloaded."""
    if who == "anonymous":
        return
    browser = world.browsers[who]
    for kind in ("csv", "json"):
        for place in world.places:
            report = sweep.answer(f"{who} report.{kind}", browser.get(reverse("job_report", args=[place.job.pk, kind])))
            assert report.status_code == (200 if who in MEMBERS else 404), who
        assert sweep.answer(f"{who} audit.{kind}", browser.get(reverse("audit_export", args=[kind]))).status_code == 200
    assert sweep.answer(f"{who} accounts.json", browser.get(reverse("account_export"))).status_code == 200


def refusals(who: str, world: World, sweep: Sweep) -> None:
    """Lets a person meet every page that says no, with a secret in what they sent."""
    browser, strict = world.browsers[who], Client(enforce_csrf_checks=True, raise_request_exception=False)
    if who in world.users:
        strict.force_login(world.users[who])
    add = reverse("account_add_provider", args=["aurod"])
    given = fields("http://10.0.0.7", {"token": world.secrets[0], "app_version": "1"}, label="new")
    many = "&".join(f"x{number}={world.secrets[0]}" for number in range(1100))
    for headers in ({}, HTMX):
        answers = [
            strict.post(add, given, headers=headers),
            browser.post("/nowhere/", given, headers=headers),
            browser.post("/conversations/999999999/", given, headers=headers),
            browser.post(reverse("account_history", args=[world.places[0].account.pk]), given, headers=headers),
            browser.post(add, given, headers=headers),
            browser.generic("POST", add, many, "application/x-www-form-urlencoded", headers=headers),
            browser.post(reverse("account_login"), {"login": "nobody@example.com", "password": world.secrets[-1]}, headers=headers),
        ]
        for number, answer in enumerate(answers):
            sweep.answer(f"{who} refusal {number} {headers}", answer)
        if who != "anonymous":
            assert [answer.status_code for answer in answers[:6]] == [403, 404, 405, 405, 422, 400], who


def operators_site(world: World, sweep: Sweep) -> None:
    """Looks at every page of Django's admin site, which only its operators may."""
    for model in admin.site._registry:
        for part in ("changelist", "add", "change"):
            first = model._default_manager.first()
            try:
                path = reverse(
                    f"admin:{model._meta.app_label}_{model._meta.model_name}_{part}", args=[first.pk] if part == "change" and first else []
                )
            except NoReverseMatch:
                continue
            for who in ("superuser", "owner"):
                answer = sweep.answer(f"{who} {path}", world.browsers[who].get(path))
                assert (answer.status_code == 200) == (who == "superuser"), path


def commands(world: World, sweep: Sweep) -> None:
    """Runs the commands that show something."""
    place = world.places[0]
    row = str(place.account.conversations.values_list("pk", flat=True).first())
    for command in (
        ["accounts", "list"],
        ["accounts", "export", "--user", "alice@example.com"],
        ["conversations", "list"],
        ["conversations", "show", row],
        ["jobs", "show", str(place.job)],
        *(["jobs", part, str(one.job.pk)] for part in ("report", "items") for one in world.places),
    ):
        out, err = io.StringIO(), io.StringIO()
        call_command(*command, "--json", stdout=out, stderr=err)
        sweep.look(" ".join(command), out.getvalue() + err.getvalue())
        assert out.getvalue(), command


# --- a mistake of ours ----------------------------------------------------------------------------------------------------------------


def broken_with_a_secret_in_hand(world: World, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks while a credential is in our hands: the page, the log and what a report of it would say."""
    place = world.places[0]
    monkeypatch.setattr("accounts.views.services.check_address", broken)
    given = fields(place.account.base_url, {"token": world.secrets[0], "app_version": "1"}, label="new")
    for who, browser in world.browsers.items():
        for headers in ({}, HTMX):
            answer = browser.post(reverse("account_add_provider", args=[place.account.provider_key]), given, headers=headers)
            sweep.answer(f"{who} 500 {headers}", answer)
            assert answer.status_code == 500 or who == "anonymous"
    sweep.look("error report", report_of(given))


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


@pytest.mark.parametrize("key", KEYS)
def test_s08_credentials_are_write_only_and_their_last_four_characters_are_all_that_shows(client, connected, key) -> None:
    simulator, account = connected(key)
    page = body(client.get(reverse("account_edit", args=[account.pk])))
    for field in account.provider.credential_fields:
        value = simulator.credential().get(field.name, "")
        if field.secret and len(value) > 12:
            assert value not in page and value[-6:] not in page, field.name
