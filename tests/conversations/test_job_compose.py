"""Beginning a job: what the list's selection bar posts, and the page that asks what is to be done with it."""

from __future__ import annotations

import json
import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations import jobs
from conversations.job_forms import options_of
from conversations.models import Conversation, Job

from .support import make_account, make_user, synced

HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def at_aurod(connected):
    simulator, account = connected("aurod", populate=30)
    return simulator, synced(account)


def selection(rows, **more):
    ids = list(rows.values_list("pk", flat=True))
    return {"ids": ",".join(map(str, ids)), "query": "", "count": str(len(ids)), "action": "switch-model", **more}


def shown_numbers(html, prefix="tab"):
    """The counts beside the tabs of a page, by their key."""
    found = re.findall(rf'id="{prefix}-([\w-]+)".*?<strong>([\d,]+)</strong>', html, re.DOTALL)
    return {key: int(count.replace(",", "")) for key, count in found}


# --- the selection ------------------------------------------------------------------------------------------------------------------


def test_a_selection_is_cut_to_what_one_may_change(at_aurod, serve, alice, client):
    _simulator, account = at_aurod
    simulator, url = serve("aurod", populate=10)
    foreign = synced(make_account(make_user("mallory@example.com"), simulator, url))
    rows = Conversation.objects.filter(
        pk__in=[*account.conversations.values_list("pk", flat=True)[:5], *foreign.conversations.values_list("pk", flat=True)]
    )
    answer = client.post(reverse("job_create"), selection(rows))
    job = Job.objects.get()
    assert answer.status_code == 302 and answer.url == reverse("job_compose", args=[job.pk])
    assert job.total == 5 and {item.account_id for item in job.items.all()} == {account.pk}
    page = client.get(answer.url).content.decode()
    assert "15 were selected in the list, and 5 are in this job" in page


def test_all_that_match_but_some(at_aurod, alice, client):
    _simulator, account = at_aurod
    untitled = account.conversations.filter(untitled=True)
    left_out = untitled.first()
    data = {"all_matching": "1", "minus": str(left_out.pk), "query": "?untitled=on&sort=title", "count": str(untitled.count() - 1)}
    answer = client.post(reverse("job_create"), data | {"action": "set-title"}, headers=HTMX)
    job = Job.objects.get()
    assert answer.status_code == 200 and answer["HX-Redirect"] == reverse("job_compose", args=[job.pk])
    assert set(job.items.values_list("conversation", flat=True)) == set(untitled.exclude(pk=left_out.pk).values_list("pk", flat=True))
    assert b"count-differs" not in client.get(reverse("job_compose", args=[job.pk])).content


@pytest.mark.parametrize(
    "data",
    [
        {"ids": "", "action": "switch-model"},
        {"ids": "1,two", "action": "switch-model"},
        {"ids": "9" * 30, "action": "switch-model"},
        {"ids": "999999", "action": "switch-model"},
        # A filter that cannot be read would select everything.
        {"all_matching": "1", "query": "account=00000000-0000-0000-0000-000000000000", "action": "switch-model"},
        {"all_matching": "1", "query": "q=nothing+has+this+title", "action": "switch-model"},
        {"all_matching": "1", "query": "", "action": "drop-table"},
    ],
)
def test_a_selection_that_is_none_is_refused_where_one_came_from(at_aurod, client, data):
    came_from = "http://testserver/conversations/?q=x"
    answer = client.post(reverse("job_create"), data, headers={"Referer": came_from})
    assert answer.status_code == 302 and answer.url == came_from
    assert not Job.objects.exists()
    assert len(client.get(reverse("job_list")).context["messages"]) == 1
    toast = client.post(reverse("job_create"), data, headers=HTMX)
    assert toast.status_code == 204 and json.loads(toast["HX-Trigger"])["toast"]["level"] == "danger"


def test_a_refusal_never_leads_away_from_the_site(client):
    answer = client.post(reverse("job_create"), {"ids": ""}, headers={"Referer": "https://elsewhere.example/"})
    assert answer.status_code == 302 and answer.url == "/"


# --- composing ----------------------------------------------------------------------------------------------------------------------


def test_models_are_chosen_by_provider_and_account(connected, alice, client):
    _simulator, one = connected("aurod", populate=6, label="one")
    _simulator, two = connected("aurod", populate=4, label="two")
    _simulator, three = connected("aurod", populate=3, label="three")
    able = [synced(account) for account in (one, two, three)]
    simulator, nuwax = connected("nuwax", populate=5)
    simulator.limit_scale = 1000
    synced(nuwax)
    job = jobs.create(alice, "switch-model", Conversation.objects.all())
    address = reverse("job_compose", args=[job.pk])
    page = client.get(address).content.decode()
    assert "At Nuwax the agent carries the model" in page and "5 conversations will be skipped." in page
    model, special = (row.model_id for row in one.catalogue.all()[:2])
    data = {"action": "switch-model", "provider-aurod": model, f"account-{two.pk}": special, f"account-{three.pk}": "-"}
    answer = client.post(address, data)
    assert answer.status_code == 302 and answer.url == reverse("job_detail", args=[job.pk])
    job.refresh_from_db()
    assert job.params == {"targets": {str(one.pk): model, str(two.pk): special}}
    by_account = {account: set(job.items.filter(account=account).values_list("status", "reason")) for account in [*able, nuwax]}
    assert by_account[three] == {("skipped", "no_target")} and by_account[nuwax] == {("skipped", "unsupported")}
    assert {target["model"] for target in job.items.filter(account=two).values_list("target", flat=True)} == {special}
    form = client.get(address).context["form"]
    assert form["provider-aurod"].value() == model and form[f"account-{two.pk}"].value() == special
    assert form[f"account-{three.pk}"].value() == "-" and form[f"account-{one.pk}"].value() == ""


def test_what_cannot_be_planned_comes_back_at_its_field(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = jobs.create(alice, "switch-model", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    wrong = {
        "provider-aurod": [{"provider-aurod": ""}, {"provider-aurod": "no such model"}],
        "template": [{"template": ""}, {"template": "{titel}"}, {"template": "{title"}, {"template": "{title:0}"}],
        "find": [{"mode": "replace", "find": "", "replace": "x"}],
        "mode": [{"mode": "generate"}, {"mode": "magic"}],
    }
    for field, given in wrong.items():
        for data in given:
            action = "switch-model" if field.startswith("provider") else "set-title"
            answer = client.post(address, {"action": action, "mode": "template", **data})
            assert answer.status_code == 422, data
            assert list(answer.context["form"].errors) == [field], data
    job.refresh_from_db()
    assert job.planned_at is None and job.action == "switch-model"


def test_a_model_that_only_one_account_offers(connected, alice, client):
    _simulator, one = connected("aurod", populate=3, label="one")
    _simulator, two = connected("aurod", populate=3, label="two")
    gone = synced(two).catalogue.first()
    synced(one)
    gone.gone_at = timezone.now()
    gone.save()
    job = jobs.create(alice, "switch-model", Conversation.objects.all())
    address = reverse("job_compose", args=[job.pk])
    assert "not at two" in client.get(address).content.decode()
    answer = client.post(address, {"action": "switch-model", "provider-aurod": gone.model_id})
    assert answer.status_code == 422 and list(answer.context["form"].errors) == [f"account-{two.pk}"]
    assert client.post(address, {"action": "switch-model", "provider-aurod": gone.model_id, f"account-{two.pk}": "-"}).status_code == 302


def test_a_price_far_above_the_others_is_marked(at_aurod, alice, client):
    _simulator, account = at_aurod
    options = options_of({account.pk: list(account.catalogue.all())}, {account.pk: account.label})
    assert {option.id for option in options if option.unusual} == {"claude-opus-4-6", "claude-sonnet-4-5"}
    job = jobs.create(alice, "switch-model", account.conversations.all())
    assert client.get(reverse("job_compose", args=[job.pk])).content.decode().count("option-note is-unusual") == 2


def test_a_catalogue_that_was_not_read_leaves_a_field_to_type_in(at_aurod, alice, client):
    _simulator, account = at_aurod
    account.catalogue.all().delete()
    job = jobs.create(alice, "switch-model", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    assert 'type="text" name="provider-aurod"' in client.get(address).content.decode()
    assert client.post(address, {"action": "switch-model", "provider-aurod": "kimi-k2"}).status_code == 302


def test_examples_are_those_of_the_preview(at_aurod, alice, client):
    _simulator, account = at_aurod
    account.conversations.update(first_message="第一句话 with <b>markup</b>")
    job = jobs.create(alice, "set-title", account.conversations.all())
    example = reverse("job_example", args=[job.pk])
    every = {"mode": "template", "template": "{n} · {first_message:12}", "include_hand_made": "on"}
    shown = client.get(example, every).content.decode()
    jobs.plan(job, {"template": "{n} · {first_message:12}", "include_hand_made": True})
    for item in job.items.all()[:3]:
        assert item.target["title"].replace("<", "&lt;") in shown
    assert "{titel}" in client.get(example, {"mode": "template", "template": "{titel}"}).content.decode()
    title = account.conversations.exclude(title="").first().title
    replaced = client.get(example, {"mode": "replace", "find": title, "replace": "=cmd"}).content.decode()
    assert "=cmd" in replaced
    assert "None of the first titles" in client.get(example, {"mode": "replace", "find": "\x7f", "replace": ""}).content.decode()


def test_a_title_job_says_when_the_first_message_is_not_read_yet(at_aurod, alice, client):
    _simulator, account = at_aurod
    account.conversations.update(first_message=None)
    job = jobs.create(alice, "set-title", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    assert "Waiting for the first message." in client.get(address).content.decode()
    every = {"action": "set-title", "mode": "template", "template": "{first_message}", "include_hand_made": "on"}
    assert client.post(address, every).status_code == 302
    assert shown_numbers(client.get(reverse("job_detail", args=[job.pk])).content.decode())["reading"] == 30


def test_a_providers_own_titles_are_announced_and_planned(connected, alice, client):
    simulator, account = connected("nuwax", populate=5)
    simulator.limit_scale = 1000
    synced(account)
    job = jobs.create(alice, "switch-model", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    page = client.get(address, {"action": "set-title"}).content.decode()
    assert "slow, billed, not repeatable" in page and "asked for only once" in page
    assert client.post(address, {"action": "set-title", "mode": "generate", "include_hand_made": "on"}).status_code == 302
    job.refresh_from_db()
    assert job.action == "set-title" and job.params == {"generate": True, "include_hand_made": True} and jobs.changes(job) == 5
    assert "the provider&#x27;s own title" in client.get(reverse("job_detail", args=[job.pk])).content.decode()
