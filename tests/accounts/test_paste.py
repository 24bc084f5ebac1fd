"""Pasting a capture: what the page shows of it, saving, replacing in place, and that nothing of the text is anywhere afterwards."""

from __future__ import annotations

import json
import logging
import re
import time

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from accounts import services, trials
from accounts.models import Account, Health, User
from conversations import jobs, lanes
from conversations.models import AuditEntry, JobItem
from tests.cli.test_accounts import everything_stored
from tests.conversations import support
from tests.conversations.test_jobs import other_model, switch_job

from .devtools import FORMS, JOINED, Sent, page_request
from .support import HTMX, queued, text

PASTE = "account_paste"


def paste(client: Client, given: str, account: Account | None = None, **more: str):
    url = reverse("account_paste_into", args=[account.pk]) if account else reverse(PASTE)
    return client.post(url, {"text": given} | more, headers=HTMX)


def opened(account: Account) -> dict[str, str]:
    return {name: value.reveal() for name, value in services.credentials_of(account).items()}


# --- connecting ---------------------------------------------------------------------------------------------------------------------


def test_the_connect_page_offers_the_box_and_the_providers(client: Client) -> None:
    for name in ("account_add", PASTE):  # the second is where a reload leads after an answer without HTMX
        page = client.get(reverse(name)).content.decode()
        assert 'name="text"' in page and reverse(PASTE) in page and reverse("account_add_provider", args=["nuwax"]) in page


@pytest.mark.parametrize("form", ["cmd crlf", "bash", "powershell", "fetch", "har", "headers http/2"])
def test_a_capture_is_read_tested_and_saved_with_one_test(client: Client, serve, redis_client, form: str) -> None:
    simulator, url = serve("aurod", populate=12)
    credential = simulator.credential()
    given = FORMS[form](page_request(url, credential))
    read = paste(client, given)
    shown = text(read)
    assert read.status_code == 200, shown
    for words in ("The credential works.", "测试用户", "Conversations 12", "Valid until", url, "Token ••••" + credential["token"][-4:], "x-other"):
        assert words in shown, (words, shown)
    assert ("cookie: this form never contains it" in shown.lower()) == (form == "fetch")
    assert not Account.objects.exists()
    asked = len(simulator.log)
    saved = paste(client, given, save="1", read_as="aurod", label="Pasted")
    assert saved.headers["HX-Redirect"] == reverse("account_list")
    assert len(simulator.log) == asked, "saving after a good test asks nothing again"
    account = Account.objects.get()
    assert (account.label, account.base_url, account.health, account.owner.email) == ("Pasted", url, Health.OK, "alice@example.com")
    left_out = {"cookie", "user_agent"} if form == "fetch" else set()
    assert opened(account) == {name: value for name, value in credential.items() if name not in left_out}
    assert queued(redis_client) == ["conversations.sync"]


def test_a_label_is_proposed_and_saving_at_once_tests_first(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=1)
    given = FORMS["cmd"](page_request(url, simulator.credential()))
    assert 'value="aurod"' in paste(client, given).content.decode()
    assert "HX-Redirect" in paste(client, given, save="1").headers
    assert 'value="aurod 2"' in paste(client, given).content.decode()
    taken = paste(client, given, save="1", label="aurod", read_as="aurod")
    assert taken.status_code == 422 and "You already have an account with this label." in text(taken)


def test_what_cmd_lost_is_named_and_not_stored(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=1)
    damaged = simulator.credential() | {"cookie": "server_name_session=新对话", "user_agent": "Mozilla 新"}
    given = FORMS["cmd"](page_request(url, damaged))
    shown = text(paste(client, given))
    assert "Cookie: this form writes blanks in the place of characters outside ASCII" in shown and "User agent: this form writes blanks" in shown
    paste(client, given, save="1")
    assert set(opened(Account.objects.get())) == {"token", "app_version"}


def test_what_a_capture_lacks_is_asked_for_and_a_typed_secret_stays_in_the_page(client: Client, serve) -> None:
    simulator, url = serve("modelrouter", populate=3)
    credential = simulator.credential()
    asked = paste(client, credential["access_key_id"])
    page = asked.content.decode()
    assert asked.status_code == 200 and "does not contain everything" in text(asked) and 'name="save"' not in page
    field = re.search(r'<input[^>]*name="credential_access_key_secret"[^>]*>', page)
    assert field and 'hx-preserve="true"' in field[0] and 'name="base_url"' in page
    assert simulator.log == []
    typed = {"read_as": "modelrouter", "base_url": url, "credential_access_key_secret": credential["access_key_secret"]}
    tested = paste(client, credential["access_key_id"], **typed)
    assert "The credential works." in text(tested) and credential["access_key_secret"] not in tested.content.decode()
    assert "HX-Redirect" in paste(client, credential["access_key_id"], **typed, label="Cloud", save="1").headers
    assert opened(Account.objects.get(label="Cloud")) == credential


def test_a_key_alone_goes_nowhere_until_the_person_has_seen_the_address(client: Client, serve) -> None:
    simulator, url = serve("chatnio", populate=2)
    key = simulator.credential()["secret"]
    asked = paste(client, key, save="1")
    assert asked.status_code == 200 and "so nothing was sent yet" in text(asked)
    assert 'value="https://api.chatnio.net"' in asked.content.decode() and 'name="save"' not in asked.content.decode()
    assert simulator.log == [] and not Account.objects.exists()
    tested = paste(client, key, read_as="chatnio", base_url=url)
    assert "The credential works." in text(tested) and f'value="{url}"' in tested.content.decode()
    assert "HX-Redirect" in paste(client, key, read_as="chatnio", base_url=url, save="1").headers
    assert (Account.objects.get().base_url, opened(Account.objects.get())) == (url, {"secret": key})


def test_a_token_of_which_the_provider_is_not_certain_asks_for_it(client: Client) -> None:
    asked = paste(client, "TOKEN-synthetic-0001-000001")
    assert asked.status_code == 422 and '<select id="paste-provider" name="provider">' in asked.content.decode()
    assert 'value="chongzhiling"' in asked.content.decode() and 'value="aurod"' not in asked.content.decode()
    named = paste(client, "TOKEN-synthetic-0001-000001", provider="chatnio")
    assert named.status_code == 200 and "Chat Nio" in text(named) and 'type="hidden" name="provider" value="chatnio"' in named.content.decode()


def test_what_was_named_for_one_text_does_not_stand_in_the_way_of_the_next(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=1)
    read = paste(client, FORMS["cmd"](page_request(url, simulator.credential())), provider="chatnio", read_as="chatnio")
    assert "The credential works." in text(read)


def test_an_unknown_host_says_what_is_missing_and_offers_to_read_it_as_one_of_them(client: Client) -> None:
    asked = paste(client, FORMS["bash"](Sent("https://shop.example.org/cart", (("accept", "*/*"),))))
    assert asked.status_code == 422
    assert "Its host and its path are not known, and it has no authorization header." in text(asked)
    assert all(f'value="{key}"' in asked.content.decode() for key in ("aurod", "nuwax"))


@pytest.mark.parametrize("url", ["http://10.0.0.7", "https://169.254.169.254", "https://[::ffff:10.0.0.1]", "http://provider.example"])
def test_addresses_that_may_not_be_called_are_refused_before_any_request(client: Client, serve, url: str) -> None:
    simulator, _url = serve("aurod", populate=1)
    refused = paste(client, FORMS["cmd"](page_request(url, simulator.credential())), save="1")
    assert refused.status_code == 422 and "This address cannot be used" in text(refused)
    assert simulator.log == [] and not Account.objects.exists()


def test_an_expired_capture_says_since_when_and_what_to_do(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=1)
    expired = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 40 * 86400)}
    refused = paste(client, FORMS["cmd"](page_request(url, expired)), save="1")
    shown = text(refused)
    assert refused.status_code == 422 and "This token has expired; sign in at the site again" in shown and " Expired " in shown
    assert 'id="paste-expiry"' in refused.content.decode() and 'name="save"' not in refused.content.decode()
    assert simulator.log == [] and not Account.objects.exists()


def test_a_sign_in_and_what_is_no_capture_are_refused(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=1)
    body = json.dumps({"account": "user@example.com", "password": "synthetic-password"})
    login = page_request(url, simulator.credential(), without="authorization", body=body, path="/api/user/login")
    for given, words in [
        (FORMS["cmd"](login), "it contains the password and no token yet"),
        (FORMS["bash"](page_request(url, simulator.credential(), without="authorization")), "whose headers include “authorization”"),
        ("", "There is nothing to read."),
        ("curl 'https://ai.aurod.cn/x", "ends in the middle"),
        ("x" * 600_000, "longer than 500,000"),
        ("hello there", "none of the forms"),
    ]:
        refused = paste(client, given, save="1")
        assert refused.status_code == 422 and words in text(refused), words
        assert "synthetic-password" not in refused.content.decode()
    assert simulator.log == [] and not Account.objects.exists()


def test_a_provider_that_is_down_offers_to_save_all_the_same(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=1)
    given = FORMS["cmd"](page_request(url, simulator.credential()))
    simulator.add_fault("error", times=99)
    down = paste(client, given, save="1")
    assert down.status_code == 422 and 'name="save_anyway"' in down.content.decode()
    assert "HX-Redirect" in paste(client, given, save_anyway="1").headers


def test_without_htmx_the_page_answers_and_the_text_is_to_be_pasted_again(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=2)
    given = FORMS["bash"](page_request(url, simulator.credential()))
    read = client.post(reverse(PASTE), {"text": given})
    assert read.status_code == 200 and "The text was not kept" in text(read) and "Or enter it by hand" in text(read)
    assert client.post(reverse(PASTE), {"text": given, "save": "1"}).headers["Location"] == reverse("account_list")


def test_too_many_tests_are_refused_kindly(client: Client, serve, monkeypatch) -> None:
    monkeypatch.setitem(trials.PER_MINUTE, "typed", 1)
    simulator, url = serve("aurod", populate=1)
    assert paste(client, FORMS["cmd"](page_request(url, simulator.credential()))).status_code == 200
    asked = len(simulator.log)
    given = FORMS["cmd"](page_request(url, simulator.credential() | {"app_version": "2.16.0"}))
    assert paste(client, given).status_code == 429
    assert "tested many times" in text(client.post(reverse(PASTE), {"text": given}))
    assert len(simulator.log) == asked


# --- replacing ----------------------------------------------------------------------------------------------------------------------


def test_pasting_into_an_account_keeps_its_id_label_and_history_and_what_waited_goes_on(client: Client, connected, alice: User, redis_client) -> None:
    simulator, account = connected("aurod", populate=6)
    support.synced(account)
    job = switch_job(alice, account, other_model(account))
    simulator.add_fault("expired", times=9999)
    assert jobs.start(alice, job, typed_count=job.n_pending)
    while lanes.run_lane(account.pk):
        pass
    simulator.clear_faults()
    waiting = JobItem.objects.filter(job=job, status="waiting", reason="account_needs_reauth")
    assert waiting.count() == job.items.count() and Account.objects.get(pk=account.pk).health == Health.NEEDS_REAUTH
    before = set(account.conversations.values_list("pk", flat=True))
    fresh = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 60)}
    given = FORMS["cmd"](page_request(account.base_url, fresh))
    read = paste(client, given, account)
    assert read.status_code == 200 and "Replace the credential" in text(read) and 'name="label"' not in read.content.decode()
    saved = paste(client, given, account, save="1", next=reverse("job_detail", args=[job.pk]))
    assert saved.headers["HX-Redirect"] == reverse("job_detail", args=[job.pk])
    again = Account.objects.get(pk=account.pk)
    assert (again.label, again.health) == (account.label, Health.OK) and opened(again) == fresh
    assert set(again.conversations.values_list("pk", flat=True)) == before
    assert not waiting.exists() and any("lane" in task for task in queued(redis_client))
    while lanes.run_lane(account.pk):
        pass
    assert not JobItem.objects.filter(job=job).exclude(status="applied").exists()
    assert AuditEntry.objects.filter(account=account, what="replace credential").exists()


def test_headers_that_do_not_say_http_or_https_are_those_of_the_account_they_went_to(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=2)
    fresh = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 60)}
    given = FORMS["headers crlf"](page_request(account.base_url, fresh))
    assert "https is supposed" in text(paste(client, given)) and "Address https://127.0.0.1" in text(paste(client, given))
    read = paste(client, given, account)
    assert "The credential works." in text(read) and "is supposed" not in text(read)
    assert "HX-Redirect" in paste(client, given, account, save="1").headers
    assert opened(Account.objects.get(pk=account.pk)) == fresh


@pytest.mark.parametrize(("language", "words"), [("en", ("request headers", "a token or key")), ("zh-hans", ("请求头", "令牌或密钥"))])
def test_what_it_was_read_as_is_said_in_words(client: Client, connected, language: str, words: tuple[str, str]) -> None:
    simulator, account = connected("aurod", populate=1)
    User.objects.update(language=language)
    request = FORMS["headers crlf"](page_request(account.base_url, simulator.credential()))
    for given, word in zip((request, simulator.credential()["token"]), words, strict=True):
        assert f"<dd> {word} </dd>" in " ".join(paste(client, given, account).content.decode().split())


def test_a_capture_of_another_user_is_blocked_until_the_person_insists(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=3)
    services.test_account(account)
    given = FORMS["bash"](page_request(account.base_url, simulator.second_credential()))
    before = Account.objects.get(pk=account.pk).sealed_credentials
    assert "Nothing was saved." not in text(paste(client, given, account)), "a test does not save"
    blocked = paste(client, given, account, save="1")
    assert "Nothing was saved." in text(blocked), "the press of the button is answered"
    assert blocked.status_code == 422 and "This credential belongs to “第二用户”, the account to “测试用户”." in text(blocked)
    assert Account.objects.get(pk=account.pk).sealed_credentials == before
    assert paste(client, given, account, save="1", other_user="1").headers["HX-Redirect"] == reverse("account_detail", args=[account.pk])
    assert opened(Account.objects.get(pk=account.pk))["token"] == simulator.second_credential()["token"]


def test_a_capture_of_another_site_or_provider_is_refused(client: Client, connected, serve) -> None:
    simulator, account = connected("aurod", populate=1)
    other, url = serve("aurod", populate=1)
    refused = paste(client, FORMS["cmd"](page_request(url, other.credential())), account, save="1")
    assert refused.status_code == 422 and "went to another site than this account" in text(refused)
    foreign = Sent("https://nuwax.com/api/v1/agent", (("authorization", "Bearer ak-" + "0" * 32),))
    assert "one of another provider" in text(paste(client, FORMS["bash"](foreign), account))
    assert other.log == [] and opened(account) == simulator.credential()


def test_what_the_form_leaves_out_stays_as_it_is(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=1)
    fresh = simulator.credential() | {"token": simulator.token(issued=int(time.time()) - 60)}
    assert "HX-Redirect" in paste(client, FORMS["fetch"](page_request(account.base_url, fresh)), account, save="1").headers
    assert opened(Account.objects.get(pk=account.pk)) == fresh


def test_the_box_for_an_account_is_a_page_and_a_dialog_and_its_owners_alone(client: Client, connected) -> None:
    _simulator, account = connected("aurod", populate=1)
    url = reverse("account_paste_into", args=[account.pk])
    page = client.get(url, {"next": "/jobs/1/"}).content.decode()
    assert "<html" in page and 'name="next" value="/jobs/1/"' in page
    dialog = client.get(url, headers=HTMX | {"HX-Current-URL": "http://testserver/jobs/7/"}).content.decode()
    assert "<html" not in dialog and 'id="dialog-title"' in dialog and 'name="next" value="/jobs/7/"' in dialog
    stranger = Client()
    stranger.force_login(support.make_user("stranger@example.com"))
    assert stranger.get(url).status_code == 404 and paste(stranger, "x", account).status_code == 404
    assert reverse("account_paste_into", args=[account.pk]) in client.get(reverse("account_edit", args=[account.pk])).content.decode()


def test_pasting_into_an_account_needs_a_recent_proof(client: Client, connected) -> None:
    _simulator, account = connected("aurod", populate=1)
    session = client.session
    session.pop("signed_in_at", None)
    session.pop("account_authentication_methods", None)
    session.save()
    before = Account.objects.get(pk=account.pk).sealed_credentials
    asked = paste(client, "a token", account, save="1")
    assert asked.headers["HX-Redirect"].startswith(reverse("account_reauthenticate"))
    assert Account.objects.get(pk=account.pk).sealed_credentials == before


def test_an_address_elsewhere_is_never_gone_back_to(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=1)
    given = FORMS["cmd"](page_request(account.base_url, simulator.credential()))
    saved = paste(client, given, account, save="1", next="https://evil.example/")
    assert "evil" not in saved.headers["HX-Redirect"]


# --- nothing of it is anywhere ------------------------------------------------------------------------------------------------------


def test_nothing_of_the_text_is_in_any_answer_log_session_cache_or_table(client: Client, serve, caplog, redis_client) -> None:
    simulator, url = serve("aurod", populate=3)
    credential = simulator.credential() | {"user_agent": "agent-marker/1.0"}
    body = json.dumps({"prompt": "body-marker", "password": "password-marker"})
    sent = page_request(url, credential, body=body, path="/api/chat/session/1?q=query-marker")
    texts = [JOINED["bash"].join([FORMS["bash"](sent)] * 2), FORMS["cmd"](sent), FORMS["powershell"](sent), FORMS["fetch"](sent), FORMS["har"](sent)]
    texts += [text[:-40] for text in texts] + [text.replace(url, "http://10.0.0.7") for text in texts]
    answers: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for number, given in enumerate(texts):
            for more in ({}, {"save": "1", "label": f"Account {number}", "read_as": "aurod"}):
                for headers in (HTMX, {}):
                    answer = client.post(reverse(PASTE), {"text": given} | more, headers=headers)
                    answers.append(f"{answer.headers}{answer.content.decode()}")
        simulator.add_fault("error", times=99)
        answers.append(paste(client, texts[0].replace("dark-marker", "x"), save="1").content.decode())
    assert Account.objects.exists()
    secrets = [credential["token"], credential["cookie"].partition("=")[2], "dark-marker", "other-marker", "query-marker", "body-marker"]
    kept = "\n".join(str(session.get_decoded()) for session in Session.objects.all())
    kept += "\n".join(repr(redis_client.dump(key)) for key in redis_client.scan_iter("*") if b"celery" not in key)
    for secret in [*secrets, "password-marker"]:
        assert not [answer[:200] for answer in answers if secret in answer], secret
        assert secret not in caplog.text and secret not in everything_stored() and secret not in kept, secret
    assert not any("agent-marker" in answer for answer in answers) and "agent-marker" not in caplog.text
