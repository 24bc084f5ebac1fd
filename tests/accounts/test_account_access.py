"""Who may do what on the pages of accounts, what never shows there, and what goes with a person: language and theme."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts import services
from accounts.models import Account, Health, SyncState
from tests.conversations import support

from .support import HTMX, KEYS, fields

# --- who may, and what never shows --------------------------------------------------------------------------------------------------

WITH_ACCOUNT = {
    "account_detail": "get",
    "account_edit": "get",
    "account_test_edit": "post",
    "account_test": "post",
    "account_pause": "post",
    "account_resume": "post",
    "account_pace": "post",
    "account_delete": "post",
    "account_sync": "post",
    "account_sync_cancel": "post",
    "account_sync_progress": "get",
}


@pytest.mark.parametrize("name", WITH_ACCOUNT)
def test_an_account_of_somebody_else_does_not_exist(connected, client: Client, name: str) -> None:
    simulator, account = connected("aurod", populate=1)
    before = Account.objects.values().get(pk=account.pk)
    bob = Client()
    bob.force_login(support.make_user("bob@example.com"))
    simulator.log.clear()
    for method in ("get", "post"):
        answers = {
            getattr(bob, method)(reverse(name, args=[pk]), fields(account.base_url, simulator.credential()), headers=headers).status_code
            for pk in (account.pk, uuid4())
            for headers in ({}, HTMX)
        }
        wanted = {404} if method == WITH_ACCOUNT[name] or name == "account_edit" else {405}
        assert answers == wanted, f"{method} {name}"
    assert Account.objects.values().get(pk=account.pk) == before and simulator.log == []
    assert account.label not in bob.get(reverse("account_list")).content.decode()
    strangers = Client()
    assert strangers.get(reverse(name, args=[account.pk])).status_code == 302
    assert reverse("account_login") in strangers.post(reverse(name, args=[account.pk])).headers["Location"]


@pytest.mark.parametrize("name", [name for name, method in WITH_ACCOUNT.items() if method == "post"])
def test_looking_changes_nothing_and_forged_posts_are_refused(client: Client, alice, connected, name: str) -> None:
    _simulator, account = connected("aurod", populate=1)
    before = Account.objects.values().get(pk=account.pk)
    assert client.get(reverse(name, args=[account.pk])).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    for headers in ({}, HTMX):
        assert strict.post(reverse(name, args=[account.pk]), headers=headers).status_code == 403
    assert Account.objects.values().get(pk=account.pk) == before


def test_no_page_and_no_answer_gives_a_secret_away(client: Client, serve, redis_client) -> None:
    shown = []
    for key in KEYS:
        simulator, url = serve(key, populate=3)
        credential = simulator.credential()
        secrets = {field.name for field in services.get_provider(key).credential_fields if field.secret}
        canary = {name: f"CANARY-{key}-{name}-0123456789" if name in secrets else value for name, value in credential.items()}
        for given in (fields(url, canary), fields("https://10.0.0.1", canary), fields(url, credential, label=key)):
            for headers in (HTMX, {}):
                shown.append(client.post(reverse("account_test_new", args=[key]), given, headers=headers))
                shown.append(client.post(reverse("account_add_provider", args=[key]), given, headers=headers))
        account = Account.objects.get(label=key)
        shown.append(client.post(reverse("account_edit", args=[account.pk]), fields(url, canary, label="x" * 99)))
        shown.append(client.post(reverse("account_test_edit", args=[account.pk]), fields(url, canary), headers=HTMX))
        shown += [client.get(reverse(name, args=[account.pk])) for name in ("account_detail", "account_edit", "account_sync_progress")]
        shown += [client.post(reverse(name, args=[account.pk]), headers=HTMX) for name in ("account_test", "account_sync")]
        words = [value for name, value in credential.items() if name in secrets] + ["CANARY-"]
        pages = [*shown, client.get(reverse("account_list")), client.get(reverse("account_around"))]
        for page in pages:
            body = page.content.decode() + str(page.headers)
            assert not [word for word in words if word in body], page.request["PATH_INFO"]
        broker = b"".join(redis_client.lrange("celery", 0, -1)).decode()
        assert not [word for word in words if word in broker]
        assert key not in ("aurod",) or f"••••{credential['token'][-4:]}" in client.get(reverse("account_edit", args=[account.pk])).content.decode()
    assert len(shown) > 50 and {200, 422} <= {page.status_code for page in shown}


PAYLOADS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7070707|add:7070707 }}{% now 'Y' %}", "' hx-get='/x' x='"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_others_wrote_stays_text(client: Client, connected, payload: str) -> None:
    _simulator, account = connected("aurod", populate=1, label=payload[:80])
    Account.objects.filter(pk=account.pk).update(
        upstream_name=payload,
        health=Health.NEEDS_REAUTH,
        cause="credentials_rejected",
        cause_detail=f"credentials_rejected\n401\n{payload}\n{payload}",
        sync_state=SyncState.FAILED,
        sync_progress={"note": payload, "error": f"rejected\n400\n{payload}\n{payload}"},
        hints=account.hints | {"app_version": payload},
    )
    account.catalogue.create(model_id=payload, name=payload, price=payload, note=payload, group=payload)
    for name, args in (("account_list", []), ("account_detail", [account.pk]), ("account_edit", [account.pk]), ("account_around", [])):
        page = client.get(reverse(name, args=args)).content.decode()
        assert "<script>alert" not in page and "<img src=x" not in page and " hx-get='/x'" not in page
        assert "14141414" not in page and ("{{ 7070707|add:7070707 }}" in page or "add" not in payload)


# --- the person's own settings ------------------------------------------------------------------------------------------------------


def test_the_language_goes_with_the_person(client: Client, alice) -> None:
    german = {"Accept-Language": "zh-CN"}
    assert 'lang="zh-Hans"' in client.get(reverse("account_list"), headers=german).content.decode(), "the first visit follows the browser"
    chosen = client.post(reverse("set_language"), {"language": "en", "next": "/accounts/"})
    assert chosen.headers["Location"] == "/accounts/" and chosen.cookies["language"].value == "en"
    alice.refresh_from_db()
    assert alice.language == "en"
    elsewhere = Client()
    elsewhere.force_login(alice)
    page = elsewhere.get(reverse("account_list"), headers=german)
    assert 'lang="en"' in page.content.decode() and page.headers["Content-Language"] == "en"
    client.post(reverse("set_language"), {"language": "tlh"})
    alice.refresh_from_db()
    assert alice.language == "en"
    stranger = Client()
    assert stranger.post(reverse("set_language"), {"language": "zh-hans"}).cookies["language"].value == "zh-hans"
    assert client.get(reverse("set_language")).status_code == 405


def test_the_theme_goes_with_the_person_and_back_to_pages_of_ours_only(client: Client, alice) -> None:
    answer = client.post(reverse("set_theme"), {"theme": "dark", "next": "https://elsewhere.example/"})
    assert answer.headers["Location"] == "/" and answer.cookies["theme"].value == "dark"
    assert 'data-bs-theme="dark"' in client.get(reverse("account_list")).content.decode()
    client.post(reverse("set_theme"), {"theme": '"><script>', "next": "/accounts/"})
    alice.refresh_from_db()
    assert alice.theme == ""
    assert Client().post(reverse("set_theme"), {"theme": "dark"}).status_code == 302
