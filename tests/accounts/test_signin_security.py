"""Statements S16 to S18 of the security page: cookies and sessions, limits at the door, second factors and fresh confirmation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from accounts import rotation, second_factor, vault
from accounts.models import Account, User
from config.cache import AWAY, Cache
from tests.conftest import ROOT, child_environment
from tests.conversations import support
from tests.test_platform import production

from .signing import LOGIN, SECURITY, Clock, everything_stored, is_in, make_old, session_of, sign_in, switch_totp_on
from .support import HTMX, fields

CONFIRM = "/auth/confirm/"


# --- S16: cookies and sessions ------------------------------------------------------------------------------------------------------


def test_s16_cookies_of_production_are_bound_to_the_host_and_to_https(alice: User) -> None:
    code = (
        "import django, json\ndjango.setup()\nfrom django.test import Client\nfrom django.conf import settings\n"
        "settings.STORAGES['staticfiles']['BACKEND'] = 'django.contrib.staticfiles.storage.StaticFilesStorage'\n"
        "settings.PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n"
        "client = Client(headers={'host': 'switchboard.example', 'x-forwarded-proto': 'https', 'x-forwarded-for': '192.0.2.7'})\n"
        "client.get('/auth/login/')\n"
        f"answer = client.post('/auth/login/', {{'login': 'alice@example.com', 'password': {support.PASSWORD!r}}})\n"
        "client.post('/me/theme/', {'theme': 'dark'})\nclient.post('/i18n/language/', {'language': 'en'})\n"
        "page = client.get('/me/security/')\n"
        "print(json.dumps([answer.status_code, page.status_code, page['Strict-Transport-Security'], client.cookies.output()]))"
    )
    environment = child_environment(**production(), SWITCHBOARD_TRUST_PROXY="1")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    signed_in, page, hsts, cookies = json.loads(run.stdout)
    assert (signed_in, page, hsts) == (302, 200, "max-age=31536000; includeSubDomains; preload")
    found = {line.partition(": ")[2].partition("=")[0]: line for line in cookies.splitlines()}
    assert set(found) >= {"__Host-sessionid", "__Host-csrftoken", "__Host-language", "__Host-theme"}
    for name, line in found.items():
        assert name.startswith("__Host-"), line
        assert all(part in line for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/")) and "Domain" not in line, line


def test_s16_the_deployment_checks_find_nothing_in_production_settings() -> None:
    environment = child_environment(**production())
    argv = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    run = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_s16_signing_in_begins_a_new_session_and_signing_out_ends_it_on_the_server(alice: User) -> None:
    client = Client()
    client.get(LOGIN)
    client.cookies[settings.SESSION_COOKIE_NAME] = planted = "planted0planted0planted0planted0"
    client.post(LOGIN, {"login": alice.email, "password": support.PASSWORD})
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert key != planted and is_in(client)
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = key
    assert is_in(thief)
    client.post("/auth/logout/")
    assert not is_in(thief)


def test_s16_another_password_ends_all_other_sessions(alice: User) -> None:
    here, there = sign_in(), sign_in()
    assert is_in(here) and is_in(there)
    new = "another good one 77"
    here.post("/auth/password/", {"oldpassword": support.PASSWORD, "password1": new, "password2": new})
    assert is_in(here) and not is_in(there)
    assert len(here.get(SECURITY).context["sessions"]) == 1


def test_s16_who_is_switched_off_is_out_at_once_and_does_not_come_in(alice: User) -> None:
    client = sign_in()
    assert is_in(client)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not is_in(client)
    assert not is_in(sign_in())


def test_s16_sessions_are_listed_and_end_one_by_one_or_all_together(alice: User) -> None:
    support.make_user("bob@example.com")
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    here, phone, work, bob = sign_in(), sign_in(headers={"user-agent": firefox}), sign_in(), sign_in("bob@example.com")
    listed = here.get(SECURITY).context["sessions"]
    assert [session.current for session in listed] == [True, False, False]
    assert "Firefox on Linux" in {session.device for session in listed} and {session.address for session in listed} == {"127.0.0.1"}
    there = next(session for session in listed if session.device.startswith("Firefox"))
    assert here.get(f"/me/security/sessions/{there.pk}/end/").status_code == 405
    bob.post(f"/me/security/sessions/{there.pk}/end/")
    assert is_in(phone), "nobody ends the sessions of others"
    here.post(f"/me/security/sessions/{there.pk}/end/")
    assert not is_in(phone) and is_in(work) and is_in(here)
    here.post("/me/security/sessions/end/")
    assert not is_in(work) and is_in(here) and is_in(bob)


# --- S17: the door ------------------------------------------------------------------------------------------------------------------


def attempt(email: str, password: str = "wrong", address: str = "192.0.2.1", **headers: str) -> str:
    """Returns how the door answers an attempt by a new browser, without what differs in every answer."""
    answer = Client().post(LOGIN, {"login": email, "password": password}, REMOTE_ADDR=address, headers=headers)
    form = answer.context["form"] if answer.context and "form" in answer.context else None
    return f"{answer.status_code} {answer.get('Location', '')} {form.errors.as_json() if form else ''}"


def test_s17_no_answer_tells_whether_somebody_has_an_account(alice: User) -> None:
    User.objects.filter(pk=support.make_user("off@example.com").pk).update(is_active=False)
    people = (alice.email, "nobody@example.com", "off@example.com")
    assert len({attempt(email, address=f"192.0.2.{number}") for number, email in enumerate(people)}) == 1
    signups = [
        Client().post("/auth/signup/", {"email": email, "password1": "correct horse 12", "password2": "correct horse 12"})
        for email in (alice.email, "nobody@example.com")
    ]
    assert {answer.status_code for answer in signups} == {200}
    assert signups[0].templates[0].name == signups[1].templates[0].name == "account/signup_closed.html"


def test_s17_an_account_is_limited_over_all_processes_and_addresses(alice: User) -> None:
    first = attempt(alice.email, address="192.0.2.1")
    for number in range(2, 6):
        assert attempt(alice.email, address=f"192.0.2.{number}") == first
    given = {"login": alice.email, "password": support.PASSWORD}
    code = (
        "import django\ndjango.setup()\nfrom django.test import Client\n"
        f"answer = Client(headers={{'host': 'localhost'}}).post('/auth/login/', {given}, REMOTE_ADDR='192.0.2.77')\n"
        "print(answer.status_code)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "200", f"another process knows of the attempts: {run.stdout} {run.stderr}"
    assert attempt(alice.email, support.PASSWORD, "192.0.2.78") != first, "the right password does not help meanwhile"


@pytest.mark.parametrize("behind_proxy", [False, True])
def test_s17_an_address_is_limited_and_an_invented_one_does_not_help(alice: User, settings: Any, behind_proxy: bool) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1 if behind_proxy else 0

    def arrive(number: int, password: str = "wrong") -> str:
        # What a visitor invents stands in front of what the proxy adds.
        invented = f"203.0.113.{number}"
        forwarded = f"{invented}, 198.51.100.4" if behind_proxy else invented
        email = alice.email if password == support.PASSWORD else f"{number}@example.com"
        return attempt(email, password, "192.0.2.9", **{"x-forwarded-for": forwarded})

    first = [arrive(number) for number in range(10)]
    assert len(set(first)) == 1
    assert arrive(10) != first[0]
    assert not arrive(11, support.PASSWORD).startswith("302"), "nor does the right password, from there"
    assert attempt(alice.email, support.PASSWORD, "192.0.2.10", **{"x-forwarded-for": "198.51.100.5"}).startswith("302")


def test_s17_codes_of_the_second_step_are_limited(alice: User, clock: Clock) -> None:
    seed = switch_totp_on(sign_in(), clock)
    client = sign_in()
    wrong = [client.post("/auth/code/", {"code": "000000"}).context["form"].errors.as_json() for _ in range(6)]
    assert wrong[0] == wrong[4] != wrong[5]
    client.post("/auth/code/", {"code": clock.code(seed)})
    assert not is_in(client), "the right code does not help meanwhile"


@pytest.fixture
def without_redis(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that lets the cache be away until the test ends."""

    def go() -> None:
        monkeypatch.setattr(Cache, "_away_until", 0.0)
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": f"unix://{tmp_path}/none.sock?db=1"}}
        cache._here.clear()  # what this process counted in another test

    return go


def test_s17_while_redis_is_away_people_come_in_and_attempts_are_still_counted(alice: User, clock: Clock, without_redis: Callable[[], None]) -> None:
    support.make_user("bob@example.com")
    inside = sign_in("bob@example.com")
    seed = switch_totp_on(sign_in(), clock)
    halfway = [sign_in(), sign_in()]
    without_redis()
    with pytest.raises(AWAY):
        cache.set("anything-else", 1)
    assert is_in(inside), "who is in stays in"
    first = attempt("carol@example.com")
    assert [attempt("carol@example.com") for _ in range(4)] == [first] * 4
    assert attempt("carol@example.com") != first
    assert is_in(sign_in("bob@example.com")), "and the others come in"
    for client in halfway:
        client.post("/auth/code/", {"code": clock.code(seed)})
    assert [is_in(client) for client in halfway] == [True, False], "a code is good once"


def test_s17_a_session_that_redis_cannot_forget_is_not_said_to_be_over(alice: User, without_redis: Callable[[], None]) -> None:
    client = sign_in()
    client.raise_request_exception = False
    without_redis()
    assert client.post("/auth/logout/").status_code == 503


# --- S18: second factors, sealed ----------------------------------------------------------------------------------------------------


def test_s18_neither_seed_nor_recovery_codes_are_stored_in_clear(alice: User, clock: Clock, redis_client: redis.Redis) -> None:
    client = sign_in()
    seed = client.get("/me/security/app/on/").context["form"].secret
    assert seed not in everything_stored(redis_client), "while it waits for its first code"
    wrong = client.post("/me/security/app/on/", {"code": "000000"})
    assert wrong.context["form"].errors and wrong.context["form"].secret == seed
    assert client.post("/me/security/app/on/", {"code": clock.code(seed)})["Location"] == "/me/security/codes/"
    codes = client.get("/me/security/codes/").context["unused_codes"]
    recovery = Authenticator.objects.get(type="recovery_codes")
    recovery_seed = second_factor.open_seed(recovery.data["seed"], alice.pk)
    assert len(codes) == 10 and client.get("/me/security/codes/download/").content.decode().split() == codes
    stored = everything_stored(redis_client)
    assert "alice@example.com" in stored, "what is searched is the database"
    for secret in (seed, recovery_seed, *codes):
        assert secret not in stored
    assert Authenticator.objects.get(type="totp").data["secret"].startswith("v1.")


def test_s18_signing_in_asks_for_a_code_that_is_good_once(alice: User, clock: Clock) -> None:
    seed = switch_totp_on(sign_in(), clock)
    client = Client()
    answer = client.post(LOGIN, {"login": alice.email, "password": support.PASSWORD, "next": "/accounts/"})
    assert answer["Location"] == "/auth/code/" and not is_in(client)
    assert client.post("/auth/code/", {"code": "000000"}).context["form"].errors and not is_in(client)
    code = clock.code(seed)
    assert client.post("/auth/code/", {"code": code})["Location"] == "/accounts/" and is_in(client)
    replay = sign_in()
    replay.post("/auth/code/", {"code": code})
    assert not is_in(replay)
    replay.post("/auth/code/", {"code": clock.code(seed)})
    assert not is_in(replay)
    clock.tick()
    replay.post("/auth/code/", {"code": clock.code(seed)})
    assert is_in(replay)


def test_s18_a_recovery_code_lets_in_once(alice: User, clock: Clock) -> None:
    inside = sign_in()
    switch_totp_on(inside, clock)
    code = inside.get("/me/security/codes/").context["unused_codes"][0]
    for expected in (True, False):
        client = sign_in()
        client.post("/auth/code/", {"code": code})
        assert is_in(client) is expected
    assert inside.get(SECURITY).context["codes"] == {"left": 9, "total": 10}
    inside.post("/me/security/codes/new/")
    assert code not in inside.get("/me/security/codes/").context["unused_codes"]
    assert inside.get(SECURITY).context["codes"] == {"left": 10, "total": 10}


def test_s18_a_seed_in_the_row_of_somebody_else_does_not_open(alice: User, clock: Clock) -> None:
    support.make_user("mallory@example.com")
    switch_totp_on(sign_in(), clock)
    theirs = switch_totp_on(sign_in("mallory@example.com"), clock)
    planted = Authenticator.objects.get(user__email="mallory@example.com", type="totp").data
    Authenticator.objects.filter(user=alice, type="totp").update(data=planted)
    client = sign_in()
    answer = client.post("/auth/code/", {"code": clock.code(theirs)})
    assert answer.status_code == 200 and not is_in(client)
    assert "does not open" in answer.context["form"].errors["code"][0]


def test_s18_seeds_follow_a_new_key(alice: User, clock: Clock, settings: Any) -> None:
    seed = switch_totp_on(sign_in(), clock)
    old = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = [vault.new_key(), *old]
    assert rotation.look().stale == 2
    report = rotation.rotate()
    assert (report.resealed, report.stale) == (2, 0)
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    client = sign_in()
    client.post("/auth/code/", {"code": clock.code(seed)})
    assert is_in(client)


def test_s18_switching_codes_off_makes_the_password_enough_again(alice: User, clock: Clock) -> None:
    client = sign_in()
    switch_totp_on(client, clock)
    assert client.get("/me/security/app/off/").status_code == 200
    client.post("/me/security/app/off/")
    assert not Authenticator.objects.exists() and is_in(sign_in())


def test_s18_who_lost_everything_is_let_in_by_the_operator(alice: User, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    inside = sign_in()
    switch_totp_on(inside, clock)
    call_command("users", "rescue", "--email", "Alice@example.com", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["email"], shown["removed"], shown["signed_out"]) == (alice.email, 2, 1)
    assert not is_in(inside) and is_in(sign_in())
    with pytest.raises(CommandError, match="there is no user nobody@"):
        call_command("users", "rescue", "--email", "nobody@example.com")


# --- S18: fresh confirmation --------------------------------------------------------------------------------------------------------


def confirmed(client: Client, answer: Any, password: str = support.PASSWORD) -> Any:
    """Returns the answer to the confirmation to which another answer led."""
    url = answer.headers.get("HX-Redirect") or answer["Location"]
    assert url.startswith(f"{CONFIRM}?next=")
    page = client.get(url)
    assert page.status_code == 200
    return client.post(CONFIRM, {"password": password, "next": page.context["redirect_field_value"]})


def test_s18_a_credential_is_replaced_only_after_a_fresh_confirmation(connected: Callable[..., Any], alice: User, redis_client: redis.Redis) -> None:
    simulator, account = connected("aurod", populate=1)
    client = sign_in()
    url = reverse("account_edit", args=[account.pk])
    assert client.get(url).status_code == 200, "who has just signed in is not asked"
    make_old(client)
    sealed = Account.objects.get(pk=account.pk).sealed_credentials
    asked = client.get(url)
    assert asked["Location"] == f"{CONFIRM}?next={url}"
    given = fields(account.base_url, simulator.credential(), label=account.label)
    before = len(simulator.log)
    refused = [
        client.post(url, given, headers={"referer": f"http://testserver{url}"}),
        client.post(url, given, headers=HTMX | {"HX-Current-URL": f"http://testserver{url}"}),
        client.post(reverse("account_test_edit", args=[account.pk]), given, headers=HTMX | {"HX-Current-URL": f"http://testserver{url}"}),
    ]
    assert [answer.status_code for answer in refused] == [302, 200, 200]
    for answer in refused:
        assert (answer.headers.get("HX-Redirect") or answer["Location"]) == f"{CONFIRM}?next={url}"
    assert Account.objects.get(pk=account.pk).sealed_credentials == sealed and len(simulator.log) == before
    secret = next(value for name, value in simulator.credential().items() if name == "token")
    assert secret not in everything_stored(redis_client), "what was posted is kept nowhere"
    wrong = confirmed(client, asked, "not the password")
    assert wrong.status_code == 200 and client.get(url).status_code == 302
    assert confirmed(client, asked)["Location"] == url
    assert client.get(url).status_code == 200
    assert client.post(url, given).status_code == 302
    assert Account.objects.get(pk=account.pk).sealed_credentials != sealed


def test_s18_a_label_alone_needs_no_confirmation(connected: Callable[..., Any], alice: User) -> None:
    _simulator, account = connected("aurod", populate=1)
    client = sign_in()
    form = client.get(reverse("account_edit", args=[account.pk])).context["form"]
    make_old(client)
    given = {name: form[name].value() or "" for name in form.fields if not name.startswith("remove_")} | {"label": "Renamed"}
    assert client.post(reverse("account_edit", args=[account.pk]), given)["Location"] == reverse("account_detail", args=[account.pk])
    assert Account.objects.get(pk=account.pk).label == "Renamed"


def test_s18_deleting_an_account_needs_a_fresh_confirmation(connected: Callable[..., Any], alice: User) -> None:
    _simulator, account = connected("aurod", populate=1)
    client = sign_in()
    make_old(client)
    url = reverse("account_delete", args=[account.pk])
    back = reverse("account_detail", args=[account.pk])
    asked = client.post(url, headers={"referer": f"http://testserver{back}"})
    assert asked["Location"] == f"{CONFIRM}?next={back}" and Account.objects.filter(pk=account.pk).exists()
    assert client.post(url, headers={"referer": "https://evil.example/"})["Location"] == f"{CONFIRM}?next=/"
    assert confirmed(client, asked)["Location"] == back
    client.post(url)
    assert not Account.objects.filter(pk=account.pk).exists()


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("what", ["job", "audit"])
def test_s18_files_leave_only_after_a_fresh_confirmation(begin: Callable[..., Any], alice: User, what: str, kind: str) -> None:
    _simulator, _account, job = begin(3)
    client = sign_in()
    page, url = {
        "job": (reverse("job_detail", args=[job.pk]), reverse("job_report", args=[job.pk, kind])),
        "audit": (reverse("audit_list"), reverse("audit_export", args=[kind])),
    }[what]
    shown = client.get(page).content.decode()
    links = [tag for tag in re.findall(r"<a[^>]*>", shown) if f'href="{url}"' in tag]
    assert links and not any(re.search(r" download\b", tag) for tag in links), "a confirmation is a page, not a file to store"
    file_type = {"csv": "text/csv", "json": "application/json"}[kind]
    assert client.get(url)["Content-Type"].startswith(file_type)
    make_old(client)
    asked = client.get(url, headers={"referer": f"http://testserver{page}"})
    assert asked["Location"] == f"{CONFIRM}?next={page}", "back to the page with the link: a file shows nothing"
    assert confirmed(client, asked)["Location"] == page
    assert client.get(url)["Content-Type"].startswith(file_type)


def test_s18_second_factors_change_only_after_a_fresh_confirmation(alice: User, clock: Clock) -> None:
    client = sign_in()
    switch_totp_on(client, clock)
    make_old(client)
    before = list(Authenticator.objects.values())
    pages = {
        "/me/security/app/off/": "post",
        "/me/security/codes/new/": "post",
        "/me/security/codes/": "get",
        "/me/security/codes/download/": "get",
        "/me/security/passkeys/add/": "get",
    }
    for url, method in pages.items():
        answer = getattr(client, method)(url)
        assert answer.status_code == 302 and answer["Location"].startswith(f"{CONFIRM}?next="), url
    client.post("/me/security/passkeys/add/", {"name": "x", "credential": "{}"})
    assert list(Authenticator.objects.values()) == before
    assert "account_reauthentication_state" not in session_of(client), "what was posted is kept nowhere"
    by_code = client.get("/auth/confirm/code/?next=/me/security/codes/")
    assert by_code.status_code == 200
    seed = second_factor.open_seed(before[0]["data"]["secret"], alice.pk)
    assert client.post("/auth/confirm/code/", {"code": clock.code(seed), "next": "/me/security/codes/"})["Location"] == "/me/security/codes/"
    assert client.get("/me/security/codes/").status_code == 200


def test_s18_confirmations_are_limited(alice: User) -> None:
    client = sign_in()
    make_old(client)
    answers = [client.post(CONFIRM, {"password": "wrong", "next": SECURITY}) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200}
    client.post(CONFIRM, {"password": support.PASSWORD, "next": SECURITY})
    assert client.get("/me/security/app/on/").status_code == 302


def test_s18_the_password_alone_of_two_steps_is_no_proof(alice: User, clock: Clock) -> None:
    seed = switch_totp_on(sign_in(), clock)
    client = sign_in()
    records = session_of(client)["account_authentication_methods"]
    assert [record["method"] for record in records] == ["password"] and "signed_in_at" not in session_of(client)
    client.post("/auth/code/", {"code": clock.code(seed)})
    make_old(client)
    assert client.get("/me/security/app/off/").status_code == 302
