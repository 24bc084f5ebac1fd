"""S8 for the box: whatever is pasted, taken or refused, nothing of it comes out again but the masks with the last four characters."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts import services, trials
from accounts.models import Account, Health
from tests.accounts.devtools import FORMS, JOINED, Sent, page_request
from tests.accounts.support import HTMX
from tests.conversations import support

from .sweep import Lines, Sweep, echo, lines

EVERY = ("bash", "cmd", "powershell", "fetch", "har", "headers", "headers http/2", "headers marked")


@pytest.fixture
def log() -> Iterator[Lines]:
    with lines() as handler:
        yield handler


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """One may test as often as these tests do."""
    monkeypatch.setitem(trials.PER_MINUTE, "typed", 10_000)


class Secrets:
    """Makes secrets and remembers them."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, before: str = "") -> str:
        self.made.append(before + secrets.token_hex(24))
        return self.made[-1]

    def credential(self, simulator: Any, **more: Any) -> dict[str, str]:
        """Returns a credential of a simulated aurod that nobody else has."""
        token = simulator.token(issued=int(time.time()) - 60 - secrets.randbelow(9000), **more)
        cookie = secrets.token_hex(16)
        self.made += [token, cookie]
        return simulator.credential() | {"token": token, "cookie": f"server_name_session={cookie}"}

    def request(self, url: str, credential: dict[str, str], **more: Any) -> Sent:
        """Returns a request of aurod's pages with a secret in every place that nobody needs."""
        sent = page_request(url, credential, **more)
        rows = [(name, f"theme={self()}; {value}" if name == "cookie" else value) for name, value in sent.headers]
        rows += [("x-internal-key", self()), ("x-csrf-token", self()), ("referer", f"{url}/chat?ticket={self()}")]
        return Sent(f"{sent.url}{'&' if '?' in sent.url else '?'}sid={self()}", tuple(rows), sent.body, sent.method)


@pytest.fixture
def secret() -> Secrets:
    return Secrets()


class Box:
    """Pastes as a person does, with and without HTMX, and keeps every answer for the sweep."""

    def __init__(self, client: Client) -> None:
        self.client, self.answers = client, []  # type: ignore[var-annotated]

    def paste(self, what: str, text: str, account: Account | None = None, **more: str) -> list[int]:
        """Pastes a text into the box for a new account or one that is there; returns the statuses of both answers."""
        address = reverse("account_paste_into", args=[account.pk]) if account else reverse("account_paste")
        found = []
        for headers in (HTMX, {}):
            answer = self.client.post(address, {"text": text} | more, headers=headers)
            self.answers.append((f"{what} {more} {headers}", answer))
            found.append(answer.status_code)
        return found

    def refused(self, what: str, text: str, account: Account | None = None, **more: str) -> None:
        """Pastes what must not be taken: to read it, and to save it whatever the page says."""
        before = set(Account.objects.values_list("pk", "sealed_credentials"))
        for order in ({}, {"save": "1"}, {"save_anyway": "1"}):
            statuses = self.paste(what, text, account, **order, **more)
            assert statuses == [422, 422], (what, order, statuses)
        assert set(Account.objects.values_list("pk", "sealed_credentials")) == before, what


@pytest.fixture
def box(client: Client) -> Box:
    return Box(client)


def nowhere(box: Box, secret: Secrets, log: Lines, redis_client: Any) -> None:
    """Fails if a secret is in an answer, on a page that is opened afterwards, or behind the pages."""
    sweep = Sweep(secret.made)
    for what, answer in box.answers:
        sweep.answer(what, answer)
    for name in ("home", "account_list", "account_around", "audit_list", "job_list", "account_export", "account_add", "account_paste", "mfa_index"):
        sweep.answer(name, box.client.get(reverse(name)))
    for account in Account.objects.all():
        for name in ("account_detail", "account_edit", "account_requests", "account_history", "account_paste_into"):
            assert sweep.answer(name, box.client.get(reverse(name, args=[account.pk]))).status_code == 200
    for kind in ("csv", "json"):
        sweep.answer(f"audit.{kind}", box.client.get(reverse("audit_export", args=[kind])))
    sweep.machinery(log, redis_client)
    assert len(box.answers) > 5 and log.lines and sweep.found == {}


# --- taken ----------------------------------------------------------------------------------------------------------------------------


def test_s08_nothing_of_a_capture_that_was_taken_comes_out(log, box, secret, serve, redis_client) -> None:
    simulator, url = serve("aurod", populate=3)
    for number, form in enumerate(EVERY):
        given = FORMS[form](secret.request(url, secret.credential(simulator)))
        place = {"read_as": "aurod", "base_url": url, "label": f"By {form}"}
        assert box.paste(form, given) == [200, 200], form
        box.paste(f"{form}, saved", given, save="1", **place)
        assert Account.objects.count() == number + 1, form
        masked = box.answers[-4][1].content.decode()
        assert "••••" in masked and "The credential works." in masked
    into = Account.objects.get(label="By cmd")
    fresh = secret.credential(simulator)
    box.paste("into", FORMS["bash"](secret.request(url, fresh)), into, save="1")
    assert services.credentials_of(Account.objects.get(pk=into.pk))["token"].reveal() == fresh["token"]
    joined = JOINED["bash"].join(FORMS["bash"](secret.request(url, secret.credential(simulator))) for _one in range(2))
    assert box.paste("copied all", joined) == [200, 200]
    token = secret.credential(simulator)["token"]
    assert box.paste("a token alone", f"authorization: Bearer {token}") == [200, 200]
    box.paste("a token alone, placed", token, read_as="aurod", base_url=url, credential_app_version="2.14.0", label="By token", save="1")
    assert Account.objects.filter(label="By token").exists()
    nowhere(box, secret, log, redis_client)


@pytest.mark.parametrize("key", ["chatnio", "chongzhiling", "modelrouter", "nuwax"])
def test_s08_nothing_of_a_document_or_a_key_that_was_taken_comes_out(log, box, secret, serve, redis_client, key: str) -> None:
    simulator, url = serve(key, populate=3)
    credential = simulator.credential()
    provider = services.get_provider(key)
    secret.made += [credential[field.name] for field in provider.credential_fields if field.secret and len(credential.get(field.name, "")) > 7]
    assert secret.made
    document = json.dumps(credential | {"base_url": url})
    assert box.paste("a document", document, provider=key) == [200, 200]
    box.paste("a document, saved", document, provider=key, read_as=key, label="By document", save="1")
    assert Account.objects.filter(label="By document").exists()
    for value in list(secret.made):
        box.paste("a key alone", value, provider=key, read_as=key, base_url=url)
    nowhere(box, secret, log, redis_client)


# --- refused --------------------------------------------------------------------------------------------------------------------------


def wrong_place(secret: Secrets, simulator: Any, url: str, form: str) -> str:
    return FORMS[form](secret.request(url, secret.credential(simulator)))


def sign_in(secret: Secrets, url: str, path: str) -> Sent:
    """The request of a sign-in page: a password and no token."""
    body = json.dumps({"account": "user@example.com", "password": secret("Pw-")})
    return secret.request(
        url, {"token": "", "cookie": f"a={secret()}", "user_agent": "x", "app_version": "1"}, without="authorization", body=body, path=path
    )


NONSENSE: dict[str, Callable[[str], str]] = {
    "words": lambda given: f"please connect my account, the key is {given} and so is the rest",
    "lines": lambda given: f"user: {given}\npassword: {given}\n",
    "lines without names": lambda given: f"{given}\n{given}",
    "headers without a host": lambda given: f"authorization: Bearer {given}\nx-app-version: 2.14.0",
    "a request line alone": lambda given: f"GET /api/user/info?token={given} HTTP/1.1\nauthorization {given}",
    "a document cut off": lambda given: f'{{"token": "{given}", "app_version": ',
    "a document of unknown names": lambda given: f'{{"{given}": "{given}", "user": "x"}}',
    "a list": lambda given: f'["{given}"]',
    "curl cut off": lambda given: f"curl 'https://ai.aurod.cn/api/user/info' -H 'authorization: {given}",
    "curl to nowhere": lambda given: f"curl ftp://{given}@ai.aurod.cn/x -H 'authorization: {given}'",
    "curl with a user": lambda given: f"curl -u user:{given} https://ai.aurod.cn/api/user/info",
    "cmd cut off": lambda given: f'curl ^"https://ai.aurod.cn/api/user/info^" -H ^"authorization: {given}',
    "fetch with variables": lambda given: f'fetch(address, {{headers: {{authorization: "{given}"}}}})',
    "PowerShell cut off": lambda given: f'Invoke-WebRequest -Uri "https://ai.aurod.cn/api/user/info?token={given}',
    "a HAR without entries": lambda given: json.dumps({"log": {"entries": [], "comment": given}}),
    "an unknown host": lambda given: f"curl 'https://shop.example.org/{given}?{given}={given}' -H 'authorization: {given}' -b '{given}={given}'",
    "an address that is none": lambda given: f"curl 'https://{given}:99999/api/user/info' -H 'authorization: {given}'",
    "too long": lambda given: f"curl 'https://ai.aurod.cn/api/user/info' -H 'authorization: {given}'" + " " * 500_001,
}


def test_s08_nothing_of_nonsense_with_a_secret_in_it_comes_out(log, box, secret, connected, redis_client) -> None:
    _simulator, account = connected("aurod", populate=2)
    for what, made in NONSENSE.items():
        box.refused(what, made(secret(f"sk-{what[:1]}")))
        box.refused(f"{what}, into", made(secret()), account)
    nowhere(box, secret, log, redis_client)


def test_s08_nothing_of_a_capture_for_something_else_comes_out(log, box, secret, connected, serve, redis_client) -> None:
    simulator, account = connected("aurod", populate=2)
    _nuwax, other = connected("nuwax", populate=2)
    _second, elsewhere = serve("aurod", populate=1)
    aurod = "https://ai.aurod.cn"
    for form in EVERY:
        box.refused(f"wrong provider, {form}", wrong_place(secret, simulator, aurod, form), other)
        box.refused(f"wrong site, {form}", wrong_place(secret, simulator, elsewhere, form), account)
        box.refused(f"private address, {form}", wrong_place(secret, simulator, "https://10.0.0.7", form))
        box.refused(f"sign-in, {form}", with_body(FORMS[form], sign_in(secret, aurod, "/api/user/login")))
        box.refused(f"unknown sign-in, {form}", with_body(FORMS[form], sign_in(secret, "https://shop.example.org", "/login")))
        expired = secret.credential(simulator) | {"token": simulator.token(issued=int(time.time()) - 40 * 86400)}
        secret.made.append(expired["token"])
        box.refused(f"expired, {form}", FORMS[form](secret.request(account.base_url, expired)), account)
        box.refused(f"cut off, {form}", FORMS[form](secret.request(aurod, secret.credential(simulator)))[:150])
    assert simulator.log and not [call for call in simulator.log if call.path.endswith("login")]
    nowhere(box, secret, log, redis_client)


def with_body(form: Callable[[Sent], str], sent: Sent) -> str:
    """Returns a request in a form; headers have their body behind an empty line, as some views show it."""
    text = form(sent)
    return text if "Pw-" in text else f"{text}\n{sent.body}"


def test_s08_nothing_of_a_capture_that_its_provider_refuses_comes_out(log, box, secret, connected, redis_client) -> None:
    simulator, account = connected("aurod", populate=2)
    services.test_account(account)
    simulator.failed, simulator.expired, simulator.throttled = (partial(echo, status=status) for status in (500, 401, 429))
    for form, fault in (("cmd", "error"), ("fetch", "expired"), ("headers http/2", "throttle"), ("bash", "html")):
        simulator.add_fault(fault, times=99)
        given = FORMS[form](secret.request(account.base_url, secret.credential(simulator)))
        assert box.paste(f"{form}, {fault}", given, save="1", label="never") == [422, 422]
        box.paste(f"{form}, {fault}, into", given, account)
        simulator.clear_faults()
        another = FORMS[form](secret.request(account.base_url, secret.credential(simulator, uid=10002)))
        box.paste(f"another user, {form}", another, account)
        assert box.paste(f"another user, {form}", another, account, save="1") == [422, 422]
    assert not Account.objects.filter(label="never").exists()
    assert any("no route" in answer.content.decode() for _what, answer in box.answers), "what it repeated was told, but for the secrets"
    assert Account.objects.get(pk=account.pk).health == Health.OK
    nowhere(box, secret, log, redis_client)


def test_s08_nothing_of_a_capture_comes_out_where_the_request_itself_is_refused(
    log, box, secret, connected, alice, redis_client, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, account = connected("aurod", populate=2)
    given = FORMS["cmd"](secret.request(account.base_url, secret.credential(simulator)))
    stranger, strict, old = (Client(raise_request_exception=False, enforce_csrf_checks=number == 1) for number in range(3))
    stranger.force_login(support.make_user("mallory@example.com"))
    strict.force_login(alice)
    old.force_login(alice)
    session = old.session
    for name in ("signed_in_at", "account_authentication_methods"):
        session.pop(name, None)
    session.save()
    into, new = reverse("account_paste_into", args=[account.pk]), reverse("account_paste")
    for who, client, path, codes in (
        ("nobody", Client(), new, {302, 200, 204}),
        ("stranger", stranger, into, {404}),
        ("without a token", strict, new, {403}),
        ("without a recent proof", old, into, {302, 200}),
    ):
        for headers in (HTMX, {}):
            answer = client.post(path, {"text": given, "save": "1"}, headers=headers)
            box.answers.append((f"{who} {headers}", answer))
            assert answer.status_code in codes, who
    monkeypatch.setitem(trials.PER_MINUTE, "typed", 0)
    assert box.paste("too often", given) == [429, 429]
    monkeypatch.setattr("accounts.paste_views.capture.read", broken)
    assert box.paste("a mistake of ours", given, account) == [500, 500]
    nowhere(box, secret, log, redis_client)


def broken(*_given: Any, **_more: Any) -> None:
    raise RuntimeError("a mistake of ours")
