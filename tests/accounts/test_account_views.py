"""The pages of accounts over real HTTP to the simulated providers: connecting, testing, replacing, pausing, deleting, and who may."""

from __future__ import annotations

import re

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import services, trials
from accounts.models import Account, Health, SyncState, User
from accounts.providers import all_providers
from accounts.providers.errors import ProviderUnavailable
from conversations import jobs, lanes, mirror
from conversations.models import AuditEntry, JobItem
from tests.conversations import support
from tests.conversations.test_jobs import adds_up, other_model, run, switch_job

from .support import HTMX, KEYS, events, fields, queued, text

# --- connecting ---------------------------------------------------------------------------------------------------------------------


def test_without_accounts_the_list_offers_every_provider(client: Client) -> None:
    page = client.get(reverse("account_list"))
    assert "Connect your first account" in text(page)
    for provider in all_providers():
        assert reverse("account_add_provider", args=[provider.key]) in page.content.decode()
    assert client.get(reverse("account_add_provider", args=["unheard-of"])).status_code == 404


@pytest.mark.parametrize("key", KEYS)
def test_every_provider_is_connected_by_its_own_fields_and_tested_only_once(client: Client, serve, redis_client, key: str) -> None:
    simulator, url = serve(key, populate=12)
    page = client.get(reverse("account_add_provider", args=[key])).content.decode()
    provider = services.get_provider(key)
    assert all(f'name="credential_{field.name}"' in page for field in provider.credential_fields)
    assert provider.default_base_url in page
    given = fields(url, simulator.credential())

    tested = client.post(reverse("account_test_new", args=[key]), given, headers=HTMX)
    assert tested.status_code == 200 and "The credential works." in text(tested)
    assert not Account.objects.exists()
    asked = len(simulator.log)
    assert asked > 0
    saved = client.post(reverse("account_add_provider", args=[key]), given, headers=HTMX)
    assert saved.headers["HX-Redirect"] == reverse("account_list")
    assert len(simulator.log) == asked, "saving after a good test asks nothing again"

    account = Account.objects.get()
    assert (account.provider_key, account.label, account.base_url, account.owner.email) == (key, "Work", url, "alice@example.com")
    assert account.health == Health.OK and account.upstream_identity.startswith(f"{key}:")
    assert account.sync_state == SyncState.QUEUED and queued(redis_client) == ["conversations.sync"]
    listed = client.get(reverse("account_list"))
    assert "Work is connected" in text(listed) and "Waiting for a worker" in text(listed)


def test_a_good_test_says_who_how_many_and_until_when(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=75)
    shown = text(client.post(reverse("account_test_new", args=["aurod"]), fields(url, simulator.credential()), headers=HTMX))
    for words in ("Belongs to 测试用户", "Conversations 75", "Models 12", "Answer after", " ms", "Valid until"):
        assert words in shown, shown


def test_a_total_that_is_not_told_is_at_least_the_first_page(client: Client, serve) -> None:
    simulator, url = serve("chatnio", populate=130)
    shown = text(client.post(reverse("account_test_new", args=["chatnio"]), fields(url, simulator.credential()), headers=HTMX))
    assert "Conversations at least 100" in shown, shown


def test_a_refused_credential_names_the_cause_and_is_never_saved(client: Client, serve) -> None:
    simulator, url = serve("modelrouter", populate=5)
    wrong = fields(url, simulator.credential() | {"access_key_secret": "not the right secret at all"})
    tested = client.post(reverse("account_test_new", args=["modelrouter"]), wrong, headers=HTMX)
    assert tested.status_code == 200
    assert "does not accept this account&#x27;s credential" in tested.content.decode() and "HTTP 4" in text(tested)
    for more in ({}, {"save_anyway": "1"}):
        refused = client.post(reverse("account_add_provider", args=["modelrouter"]), wrong | more, headers=HTMX)
        assert refused.status_code == 422 and "Nothing was saved." in text(refused) and "save_anyway" not in refused.content.decode()
    assert not Account.objects.exists()


def test_saving_without_a_test_tests_and_offers_to_save_when_the_provider_is_down(client: Client, serve, redis_client) -> None:
    simulator, url = serve("aurod", populate=5)
    given = fields(url, simulator.credential())
    simulator.add_fault("error", times=99)
    down = client.post(reverse("account_add_provider", args=["aurod"]), given, headers=HTMX)
    assert down.status_code == 422 and 'name="save_anyway"' in down.content.decode() and "out of order" in text(down)
    assert not Account.objects.exists()
    asked = len(simulator.log)
    saved = client.post(reverse("account_add_provider", args=["aurod"]), given | {"save_anyway": "1"}, headers=HTMX)
    assert "HX-Redirect" in saved.headers and len(simulator.log) == asked
    account = Account.objects.get()
    assert account.health == Health.UNKNOWN and "conversations.sync" in queued(redis_client)


def test_models_that_cannot_be_read_do_not_stop_the_saving(client: Client, serve) -> None:
    simulator, url = serve("aurod", populate=5)
    simulator.add_fault("error", path="/tmpl", times=99)
    tested = client.post(reverse("account_test_new", args=["aurod"]), fields(url, simulator.credential()), headers=HTMX)
    assert "The credential works." in text(tested) and "could not be read" in text(tested)
    assert client.post(reverse("account_add_provider", args=["aurod"]), fields(url, simulator.credential()), headers=HTMX).headers["HX-Redirect"]


@pytest.mark.parametrize(
    "url",
    [
        "http://provider.example",
        "https://user:pw@provider.example",
        "https://provider.example:8443",
        "https://2130706433",
        "https://0x7f.1",
        "file:///etc/passwd",
        "https://[::ffff:10.0.0.1]",
        "https://10.0.0.8",
        "https://169.254.169.254",
        "not an address",
        "",
    ],
)
def test_an_address_that_may_not_be_called_is_refused_at_its_field(client: Client, serve, url: str) -> None:
    simulator, _url = serve("aurod", populate=1)
    for name in ("account_test_new", "account_add_provider"):
        answer = client.post(reverse(name, args=["aurod"]), fields(url, simulator.credential()), headers=HTMX)
        notes = re.search(r'id="id_base_url_notes".*?<div class="field-help"', answer.content.decode(), re.S)
        assert answer.status_code == 422 and notes and "field-error" in notes.group()
    assert simulator.log == [] and not Account.objects.exists()


def test_a_name_that_leads_to_a_private_address_is_refused_at_the_field_when_it_is_called(client: Client, serve, settings, monkeypatch) -> None:
    simulator, url = serve("aurod", populate=1)
    settings.EGRESS_ALLOW_CIDRS = []
    settings.EGRESS_HTTP_HOSTS = ["localhost"]
    named = url.replace("127.0.0.1", "localhost")
    answer = client.post(reverse("account_test_new", args=["aurod"]), fields(named, simulator.credential()), headers=HTMX)
    notes = re.search(r'id="id_base_url_notes".*?<div class="field-help"', answer.content.decode(), re.S)
    assert notes and "may not connect to that address" in notes.group()
    assert simulator.log == []


def test_fields_are_checked_before_anything_is_sent_and_keep_what_is_no_secret(client: Client, serve) -> None:
    _simulator, url = serve("aurod", populate=1)
    given = fields(url, {"token": "two words\u00e9", "app_version": "2" * 50, "user_agent": "my browser"})
    page = client.post(reverse("account_add_provider", args=["aurod"]), given)
    shown = page.content.decode()
    assert page.status_code == 422 and "At most 40 characters; these are 50." in shown and "Copy the header" in shown
    assert 'value="my browser"' in shown and 'value="Work"' in shown and "two words" not in shown
    fragment = client.post(reverse("account_add_provider", args=["aurod"]), given, headers=HTMX).content.decode()
    assert "<input" not in fragment and "<html" not in fragment, "an answer to HTMX replaces no field"


def test_a_label_is_given_once_and_a_free_one_is_proposed(client: Client, connected) -> None:
    simulator, account = connected("aurod", label="aurod")
    assert 'value="aurod 2"' in client.get(reverse("account_add_provider", args=["aurod"])).content.decode()
    given = fields(account.base_url, simulator.credential(), label="aurod")
    answer = client.post(reverse("account_add_provider", args=["aurod"]), given, headers=HTMX)
    assert answer.status_code == 422 and "You already have an account with this label." in text(answer)
    bob = Client()
    bob.force_login(support.make_user("bob@example.com"))
    assert "HX-Redirect" in bob.post(reverse("account_add_provider", args=["aurod"]), given, headers=HTMX).headers


def test_tests_are_limited_per_person(client: Client, serve, monkeypatch) -> None:
    monkeypatch.setattr(trials, "PER_MINUTE", {"typed": 2, "stored": 2})
    simulator, url = serve("aurod", populate=1)
    given = fields(url, simulator.credential())
    for _time in range(2):
        assert client.post(reverse("account_test_new", args=["aurod"]), given, headers=HTMX).status_code == 200
    asked = len(simulator.log)
    refused = client.post(reverse("account_test_new", args=["aurod"]), given, headers=HTMX)
    assert refused.status_code == 429 and "try again in" in events(refused)["toast"]["message"]
    again = client.post(reverse("account_add_provider", args=["aurod"]), given | {"credential_app_version": "2.14.1"})
    assert again.status_code == 429 and "try again in" in text(again)
    assert len(simulator.log) == asked
    bob = Client()
    bob.force_login(support.make_user("bob@example.com"))
    assert bob.post(reverse("account_test_new", args=["aurod"]), given, headers=HTMX).status_code == 200


def test_a_remembered_test_is_bound_to_person_address_and_credential(alice: User, serve) -> None:
    simulator, url = serve("aurod", populate=3)
    document = services.clean_credentials(services.get_provider("aurod"), simulator.credential())
    report = trials.test(alice, "aurod", url, document)
    assert trials.recall(alice, "aurod", url, document) == report and report.expires_at is not None
    bob = support.make_user("bob@example.com")
    assert trials.recall(bob, "aurod", url, document) is None
    assert trials.recall(alice, "aurod", url + "/x", document) is None
    assert trials.recall(alice, "aurod", url, document | {"app_version": "9"}) is None
    kept = cache._cache.get_client().keys("*account-test:*")
    assert kept and not any(document["token"].encode() in key for key in kept)


# --- editing and replacing ----------------------------------------------------------------------------------------------------------


def test_another_label_asks_nobody_and_keeps_the_credential(client: Client, connected) -> None:
    simulator, account = connected("aurod")
    simulator.log.clear()
    form = client.get(reverse("account_edit", args=[account.pk])).content.decode()
    secret = services.credentials_of(account)["token"].reveal()
    assert f"••••{secret[-4:]}" in form and secret not in form and "Leave empty to keep it." in form
    open_fields = {"app_version": "2.14.0", "user_agent": simulator.credential()["user_agent"]}
    answer = client.post(reverse("account_edit", args=[account.pk]), fields(account.base_url, open_fields, label="Renamed"), headers=HTMX)
    assert answer.headers["HX-Redirect"] == reverse("account_detail", args=[account.pk])
    account.refresh_from_db()
    assert account.label == "Renamed" and simulator.log == []
    assert services.credentials_of(account)["token"].reveal() == secret


def test_a_new_credential_takes_the_place_of_a_dead_one_and_waiting_items_go_on(client: Client, connected, alice, redis_client) -> None:
    simulator, account = connected("aurod", populate=40)
    support.synced(account)
    ids = set(account.conversations.values_list("pk", flat=True))
    job = switch_job(alice, account, other_model(account))
    simulator.add_fault("expired", times=9999)
    run(job, alice, account)
    assert job.n_waiting == 40 and Account.objects.get(pk=account.pk).health == Health.NEEDS_REAUTH
    simulator.clear_faults()
    redis_client.delete("celery")
    fresh = simulator.credential()
    answer = client.post(reverse("account_edit", args=[account.pk]), fields(account.base_url, fresh), headers=HTMX)
    assert "HX-Redirect" in answer.headers, text(answer)
    replaced = Account.objects.get(pk=account.pk)
    assert replaced.health == Health.OK and replaced.cause == "" and set(replaced.conversations.values_list("pk", flat=True)) == ids
    job.refresh_from_db()
    assert job.n_waiting == 0 and job.n_pending == 40
    assert {"conversations.run_lane", "conversations.sync"} <= set(queued(redis_client))
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    assert job.n_applied == 40
    adds_up(job)


def test_the_credential_of_another_user_is_taken_only_when_that_is_wanted(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=5)
    stored = services.credentials_of(account)["token"].reveal()
    other = simulator.second_credential()
    given = fields(account.base_url, other)
    tested = client.post(reverse("account_test_edit", args=[account.pk]), given, headers=HTMX)
    assert "The credential works." in text(tested) and 'name="other_user"' in tested.content.decode()
    refused = client.post(reverse("account_edit", args=[account.pk]), given, headers=HTMX)
    assert refused.status_code == 422 and "This credential belongs to “" in text(refused)
    assert account.upstream_name and f"the account to “{account.upstream_name}”" in text(refused)
    account.refresh_from_db()
    before = account.upstream_identity
    assert services.credentials_of(account)["token"].reveal() == stored
    taken = client.post(reverse("account_edit", args=[account.pk]), given | {"other_user": "1"}, headers=HTMX)
    assert "HX-Redirect" in taken.headers
    account.refresh_from_db()
    assert services.credentials_of(account)["token"].reveal() == other["token"] and account.upstream_identity != before


def test_a_test_in_the_edit_form_uses_the_stored_secrets_with_what_was_typed(client: Client, connected) -> None:
    _simulator, account = connected("aurod", populate=5)
    stored = services.credentials_of(account)["token"].reveal()
    good = client.post(reverse("account_test_edit", args=[account.pk]), fields(account.base_url, {"app_version": "2.14.0"}), headers=HTMX)
    assert "The credential works." in text(good)
    bad = client.post(reverse("account_test_edit", args=[account.pk]), fields(account.base_url, {"token": "wrong"}), headers=HTMX)
    assert "does not accept" in text(bad)
    account.refresh_from_db()
    assert services.credentials_of(account)["token"].reveal() == stored and account.health == Health.OK


def test_an_optional_secret_can_be_removed(client: Client, connected) -> None:
    simulator, account = connected("chongzhiling", populate=5)
    assert 'name="remove_api_key"' in client.get(reverse("account_edit", args=[account.pk])).content.decode()
    token = {"access_token": simulator.ready_token(), "token_in": "header", "user_id": ""}
    both = client.post(reverse("account_edit", args=[account.pk]), fields(account.base_url, token), headers=HTMX)
    assert both.status_code == 422 and "not both" in text(both)
    taken = client.post(reverse("account_edit", args=[account.pk]), fields(account.base_url, token, remove_api_key="on"), headers=HTMX)
    assert "HX-Redirect" in taken.headers, text(taken)
    account.refresh_from_db()
    assert set(services.credentials_of(account)) == {"access_token", "token_in"}


def test_a_seal_that_cannot_be_opened_asks_for_everything_again(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=5)
    Account.objects.filter(pk=account.pk).update(sealed_credentials="broken")
    empty = client.post(reverse("account_edit", args=[account.pk]), fields(account.base_url, {}), headers=HTMX)
    assert empty.status_code == 422 and "This field is required." in text(empty)
    given = fields(account.base_url, simulator.credential())
    assert "HX-Redirect" in client.post(reverse("account_edit", args=[account.pk]), given, headers=HTMX).headers
    account.refresh_from_db()
    assert services.credentials_of(account)["token"].reveal() == given["credential_token"]


# --- the list and what one does there -----------------------------------------------------------------------------------------------


def test_a_dead_credential_shows_on_its_row_only_and_in_the_filter(client: Client, connected) -> None:
    simulator, account = connected("modelrouter", populate=5)
    _other, healthy = connected("nuwax", populate=5)
    simulator.add_fault("expired", times=99)
    answer = client.post(reverse("account_test", args=[account.pk]), headers=HTMX)
    shown = text(answer)
    assert "Needs re-authentication" in shown and "HTTP" in shown and "Worked last" in shown and "Replace credential" in shown
    assert "accounts-changed" in events(answer)
    everything, chosen = client.get(reverse("account_list")), client.get(reverse("account_list") + "?attention=1")
    assert "Needs attention 1" in text(everything) and f'id="account-{healthy.pk}"' in everything.content.decode()
    assert f'id="account-{account.pk}"' in chosen.content.decode() and f'id="account-{healthy.pk}"' not in chosen.content.decode()
    healthy.refresh_from_db()
    assert healthy.health == Health.OK


def test_a_test_that_succeeds_again_lets_waiting_items_go_on(client: Client, connected, alice) -> None:
    simulator, account = connected("aurod", populate=10)
    support.synced(account)
    job = switch_job(alice, account, other_model(account))
    simulator.add_fault("expired", times=9999)
    run(job, alice, account)
    simulator.clear_faults()
    answer = client.post(reverse("account_test", args=[account.pk]), headers=HTMX)
    assert "OK" in text(answer) and "10 conversations" in text(answer) and "12 models" in text(answer)
    job.refresh_from_db()
    assert job.n_waiting == 0 and job.n_pending == 10


def test_a_paused_account_lets_items_wait_and_takes_them_up_again(client: Client, connected, alice, redis_client) -> None:
    simulator, account = connected("aurod", populate=10)
    support.synced(account)
    job = switch_job(alice, account, other_model(account))
    jobs.start(alice, job)
    paused = client.post(reverse("account_pause", args=[account.pk]), headers=HTMX)
    assert "Paused" in text(paused)
    simulator.log.clear()
    assert lanes.run_lane(account.pk) is False and simulator.log == []
    assert set(JobItem.objects.values_list("status", "reason")) == {("waiting", "account_paused")}
    for name in ("account_test", "account_sync"):
        refused = client.post(reverse(name, args=[account.pk]), headers=HTMX)
        assert refused.status_code == 409 and "is paused" in events(refused)["toast"]["message"] and simulator.log == []
    redis_client.delete("celery")
    client.post(reverse("account_resume", args=[account.pk]), headers=HTMX)
    assert {"conversations.run_lane", "conversations.sync"} == set(queued(redis_client))
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    assert job.n_applied == 10
    adds_up(job)


def test_deleting_asks_nothing_of_the_provider_and_lets_jobs_end(client: Client, connected, alice) -> None:
    simulator, account = connected("aurod", populate=10)
    _other, kept = connected("nuwax", populate=5)
    support.synced(account)
    job = switch_job(alice, account, other_model(account))
    jobs.start(alice, job)
    page = client.get(reverse("account_detail", args=[account.pk])).content.decode()
    assert re.search(r'data-confirm="[^"]*our copy of 10 conversations[^"]*At aurod nothing changes', page)
    simulator.log.clear()
    answer = client.post(reverse("account_delete", args=[account.pk]))
    assert answer.status_code == 302 and simulator.log == []
    assert list(Account.objects.all()) == [kept]
    assert AuditEntry.objects.get(what="delete account").actor == alice
    job.refresh_from_db()
    assert job.open == 0 and job.finished_at is not None


def test_pace_is_set_within_bounds_and_empty_means_the_providers_own(client: Client, connected) -> None:
    _simulator, account = connected("aurod", populate=1)
    url = reverse("account_pace", args=[account.pk])
    for concurrency, rate in (("0", ""), ("33", ""), ("", "0"), ("x", "")):
        answer = client.post(url, {"concurrency": concurrency, "rate": rate}, headers=HTMX)
        assert answer.status_code == 422 and "field-error" in answer.content.decode()
    assert client.post(url, {"concurrency": "2", "rate": "1.5"}, headers=HTMX).status_code == 200
    account.refresh_from_db()
    assert (account.concurrency, account.rate) == (2, 1.5) and services.pace_of(account).rate == 1.5
    client.post(url, {"concurrency": "", "rate": ""})
    account.refresh_from_db()
    assert (account.concurrency, account.rate) == (None, None) and services.pace_of(account).rate == account.provider.pace.rate


@pytest.mark.parametrize("key", KEYS)
def test_the_page_of_an_account_tells_every_capability_with_its_reason(client: Client, connected, key: str) -> None:
    _simulator, account = connected(key, populate=5)
    support.synced(account)
    shown = client.get(reverse("account_detail", args=[account.pk]))
    page = text(shown).replace("&#x27;", "'").replace("&quot;", '"')
    for capability in account.provider.capabilities.values():
        assert (capability.note if capability.available else capability.reason) in page
    for field in account.provider.config_fields:
        assert field.label in page
    for model in account.catalogue.all():
        assert model.name in page and model.price in page


# --- reading ------------------------------------------------------------------------------------------------------------------------


def test_reading_is_asked_for_watched_and_cancelled(client: Client, connected, redis_client) -> None:
    _simulator, account = connected("aurod", populate=100)
    progress = reverse("account_sync_progress", args=[account.pk])
    started = client.post(reverse("account_sync", args=[account.pk]), headers=HTMX)
    assert "Waiting for a worker" in text(started) and 'hx-trigger="every 1s"' in started.content.decode()
    client.post(reverse("account_sync", args=[account.pk]), headers=HTMX)
    assert queued(redis_client) == ["conversations.sync"], "asked twice, read once"

    account.refresh_from_db()
    assert mirror.sync(account, slice_seconds=0) is None
    running = client.get(progress, headers=HTMX)
    assert "30 of 100 read" in text(running) and '<progress class="sync-bar" max="100" value="30"' in running.content.decode()
    assert "accounts-changed" not in events(running)
    cancelled = client.post(reverse("account_sync_cancel", args=[account.pk]), headers=HTMX)
    assert "Reading cancelled" in text(cancelled) and "every 1s" not in cancelled.content.decode()

    account.refresh_from_db()
    support.synced(account)
    done = client.get(progress + "?place=detail", headers=HTMX)
    assert "Synced" in text(done) and 'id="account-overview"' in done.content.decode() and "every 1s" not in done.content.decode()
    assert "accounts-changed" in events(done)
    assert client.get(progress).status_code == 302, "without HTMX there is the page of the account"


def test_a_failed_reading_says_why_in_words(client: Client, connected) -> None:
    simulator, account = connected("aurod", populate=10)
    simulator.add_fault("error", path="/session", times=99)
    with pytest.raises(ProviderUnavailable), pytest.MonkeyPatch.context() as patched:
        patched.setitem(services.line.__wrapped__.__kwdefaults__, "patience", services.Patience(attempts=1, seconds=1))
        mirror.sync(account)
    shown = text(client.get(reverse("account_list")))
    assert "Reading failed" in shown and "Unreachable" in shown and "The provider cannot be reached or is out of order. HTTP 500" in shown


def test_the_note_of_an_incomplete_list_stands_beside_its_count(client: Client, connected) -> None:
    _simulator, account = connected("chatnio", populate=130)
    note = {"listed": 100, "note": "newest 100, older ones being read"}
    Account.objects.filter(pk=account.pk).update(sync_state=SyncState.RUNNING, sync_progress=note)
    assert "newest 100, older ones being read" in text(client.get(reverse("account_list")))


def test_the_list_costs_the_same_few_statements_however_many_accounts_there_are(client: Client, connected, django_assert_max_num_queries) -> None:
    _simulator, account = connected("aurod", populate=3)
    support.synced(account)
    for number in range(20):
        Account.objects.create(
            owner=account.owner, provider_key="aurod", label=f"n{number}", base_url=account.base_url, synced_at=timezone.now(), hints={}
        )
    client.get(reverse("account_list"))
    with django_assert_max_num_queries(17):
        client.get(reverse("account_list"))
