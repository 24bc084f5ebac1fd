"""Settings of many conversations: only what was touched differs afterwards, and what a provider would refuse never leaves the form."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from accounts.providers.aurod import Aurod
from conversations import jobs
from conversations.models import Conversation, Job
from conversations.states import ItemStatus as S

from .pages import text_of
from .support import synced
from .test_undo import checked, planned, ran, stored

PROMPT = "第一行\n“第二行” \n" + "字" * 4000


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def at_aurod(connected):
    simulator, account = connected("aurod", populate=12)
    simulator.unlimited()
    return simulator, synced(account)


def touched(**settings):
    """What a browser sends for settings that are set, with one that is returned to the provider's default."""
    sent = {"action": "configure"}
    for name, value in settings.items():
        sent |= {f"do-aurod-{name}": "default"} if value is None else {f"do-aurod-{name}": "set", f"set-aurod-{name}": value}
    return sent


# --- from the form to the provider ----------------------------------------------------------------------------------------------------


def test_only_what_was_touched_differs_afterwards(at_aurod, alice, client):
    simulator, account = at_aurod
    for remote_id in list(simulator.truth())[:3]:
        simulator.change_by_somebody(remote_id, maxToken=500)
    synced(account)
    before = stored(simulator)
    job = jobs.create(alice, "configure", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    untouched = {"do-aurod-topSort": "", "set-aurod-topSort": "99"}  # typed, then left as it is after all
    sent = touched(temperature="0.3", contextCount="12", prompt=PROMPT.replace("\n", "\r\n"), maxToken=None) | untouched
    answer = client.post(address, sent)
    assert answer.status_code == 302 and answer.url == reverse("job_detail", args=[job.pk])
    job.refresh_from_db()
    assert job.params == {"config": {"aurod": {"temperature": 0.3, "contextCount": 12, "prompt": PROMPT, "maxToken": None}}}
    names = {"temperature", "contextCount", "prompt", "maxToken"}
    assert all(item.expected.keys() == item.target.keys() == names for item in job.items.all())
    ran(alice, checked(job))
    assert job.items.filter(status=S.APPLIED).count() == 12
    aim = {"temperature": 0.3, "contextCount": 12, "prompt": PROMPT, "maxToken": 0}
    assert stored(simulator) == {remote_id: values | aim for remote_id, values in before.items()}
    assert type(next(iter(stored(simulator).values()))["contextCount"]) is int


def test_one_setting_changes_for_all_and_no_other(at_aurod, alice):
    simulator, account = at_aurod
    before = stored(simulator)
    job = ran(alice, planned(alice, account.conversations.all(), "configure", {"config": {str(account.pk): {"temperature": "0.3"}}}))
    assert job.n_applied == 12
    assert stored(simulator) == {remote_id: values | {"temperature": 0.3} for remote_id, values in before.items()}
    again = planned(alice, account.conversations.all(), "configure", {"config": {"*": {"temperature": 0.3}}})
    assert jobs.groups(again)["unchanged"] == 12 and jobs.changes(again) == 0


def test_a_setting_that_somebody_changed_is_a_conflict_and_another_one_is_not(at_aurod, alice):
    simulator, account = at_aurod
    job = planned(alice, account.conversations.all(), "configure", {"config": {"aurod": {"temperature": 0.3}}})
    drifted, other = list(simulator.truth())[:2]
    simulator.change_by_somebody(drifted, temperature=0.8)
    simulator.change_by_somebody(other, contextCount=3)
    job = ran(alice, job)
    assert (job.n_applied, job.n_conflict) == (11, 1) and job.items.get(status=S.CONFLICT).remote_id == drifted
    assert simulator.truth()[drifted]["temperature"] == 0.8
    assert (simulator.truth()[other]["temperature"], simulator.truth()[other]["contextCount"]) == (0.3, 3)


# --- planning -------------------------------------------------------------------------------------------------------------------------


def test_the_nearest_settings_count(connected, alice):
    simulators, accounts = zip(*(connected("aurod", populate=2, label=label) for label in ("one", "two")), strict=True)
    for account in accounts:
        synced(account)
    config = {"aurod": {"temperature": 0.4}, str(accounts[1].pk): {"contextCount": 5}, "*": {"topSort": 9}}
    job = planned(alice, Conversation.objects.all(), "configure", {"config": config})
    assert [item.target for item in job.items.filter(account=accounts[0])] == [{"temperature": 0.4}] * 2
    assert [item.target for item in job.items.filter(account=accounts[1])] == [{"contextCount": 5}] * 2
    assert all(simulator.writes() == [] for simulator in simulators)


def test_where_there_is_nothing_to_set_the_reason_is_told(connected, at_aurod, alice, client):
    _simulator, account = at_aurod
    for key in ("modelrouter", "nuwax", "chatnio", "chongzhiling"):
        simulator, other = connected(key, populate=2)
        simulator.unlimited()
        synced(other)
    lacks = account.conversations.first()
    config = {name: value for name, value in lacks.config.items() if name != "temperature"}
    Conversation.objects.filter(pk=lacks.pk).update(config=config)
    job = planned(alice, Conversation.objects.all(), "configure", {"config": {"aurod": {"temperature": 0.3}}})
    reasons = set(job.items.exclude(account=account).values_list("status", "reason"))
    assert reasons == {("skipped", "unsupported")}
    assert job.items.get(conversation=lacks).reason == "no_such_setting"
    assert jobs.groups(job)["unsupported"] == job.n_skipped == 9 and jobs.changes(job) == 11
    page = text_of(client.get(reverse("job_detail", args=[job.pk]), {"group": "unsupported"}))
    assert "ModelRouter stores no settings" in page and "no such setting at its provider" in page
    compose = text_of(client.get(reverse("job_compose", args=[job.pk])))
    assert compose.count("2 conversations will be skipped.") == 4 and "At Nuwax the settings belong to the agent" in compose


@pytest.mark.parametrize(
    ("params", "cause"),
    [
        ({}, "at least one setting"),
        ({"config": {}}, "at least one setting"),
        ({"config": {"aurod": {}}}, "at least one setting"),
        ({"config": {"aurod": {"temperature": 9.9}}}, "aurod one, setting temperature: Allowed is 0 to 1."),
        ({"config": {"*": {"temperatur": 1}}}, "There is no such setting here: temperatur."),
        ({"config": {"*": {"temperature": None}}}, "no provider default"),
    ],
)
def test_what_a_provider_would_refuse_is_refused_before_any_request(at_aurod, alice, params, cause):
    simulator, account = at_aurod
    simulator.log.clear()
    job = jobs.create(alice, "configure", account.conversations.all())
    with pytest.raises(ValidationError, match=re.escape(cause)):
        jobs.plan(job, params)
    job.refresh_from_db()
    assert job.planned_at is None and simulator.log == []


# --- the form -------------------------------------------------------------------------------------------------------------------------


def test_mistakes_come_back_at_their_fields_and_keep_what_was_typed(at_aurod, alice, client):
    simulator, account = at_aurod
    simulator.log.clear()
    job = jobs.create(alice, "configure", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    answer = client.post(address, touched(temperature="9.9", contextCount="", frequencyPenalty="abc", prompt="neu"))
    assert answer.status_code == 422
    assert answer.context["form"].errors == {
        "set-aurod-temperature": ["Allowed is 0 to 1."],
        "set-aurod-contextCount": ["Enter a whole number."],
        "set-aurod-frequencyPenalty": ["Enter a number."],
    }
    page = text_of(answer)
    assert 'value="9.9"' in page and ">\nneu</textarea>" in page and page.count('<option value="set" selected>') == 4
    nothing = client.post(address, {"action": "configure"})
    assert nothing.status_code == 422 and nothing.context["form"].non_field_errors() == ["Choose at least one setting to change."]
    forged = client.post(address, {"action": "configure", "do-aurod-temperature": "default"})
    assert forged.status_code == 422 and list(forged.context["form"].errors) == ["do-aurod-temperature"]
    job.refresh_from_db()
    assert job.planned_at is None and simulator.log == []


def test_the_form_grows_from_the_declared_settings_and_remembers_what_was_chosen(at_aurod, alice, client):
    _simulator, account = at_aurod
    job = planned(alice, account.conversations.all(), "configure", {"config": {"aurod": {"temperature": 0.3, "maxToken": None, "prompt": ""}}})
    page = client.get(reverse("job_compose", args=[job.pk]))
    form, text = page.context["form"], text_of(page)
    assert [setting.declared.name for setting in form.sections[0].settings] == [field.name for field in Aurod.config_fields]
    assert {name: form[f"do-aurod-{name}"].value() for name in ("temperature", "maxToken", "prompt", "icon")} == {
        "temperature": "set",
        "maxToken": "default",
        "prompt": "set",
        "icon": "",
    }
    assert form["set-aurod-temperature"].value() == 0.3
    assert text.count("Provider default: the model's own") == 1  # where a provider has none, none is offered
    assert "0 to 1." in text and "usage policy" in text and 'aria-current="true">Edit settings' in text
    assert "Undo" not in re.findall(r'id="action-([\w-]+)"', text) and re.findall(r'id="action-([\w-]+)"', text) == [
        "switch-model",
        "set-title",
        "configure",
        "list",
    ]


def test_a_default_that_is_stored_as_nothing_and_a_yes_or_no_go_through(at_aurod, alice, client, monkeypatch):
    """What no provider declares today: a default that is null, a choice, a yes or no, a setting to be read only."""
    fields = list(Aurod.config_fields)
    fields[2] = replace(fields[2], default_label="as the site has it")
    fields += [
        replace(fields[-1], name="stream", label="Stream", kind="bool"),
        replace(fields[-1], name="size", label="Size", kind="choice", choices=(("s", "Small"), ("l", "Large"))),
        replace(fields[-1], name="owner", label="Owner", read_only=True),
    ]
    monkeypatch.setattr(Aurod, "config_fields", tuple(fields))
    _simulator, account = at_aurod
    row = account.conversations.first()
    Conversation.objects.filter(account=account).update(config=row.config | {"stream": False, "size": "s", "owner": "x"})
    job = jobs.create(alice, "configure", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    assert "set-aurod-owner" not in text_of(client.get(address))
    assert client.post(address, touched(temperature=None, stream="true", size="l")).status_code == 302
    assert job.items.first().target == {"temperature": None, "stream": True, "size": "l"}
    page = text_of(client.get(reverse("job_detail", args=[job.pk])))
    assert "as the site has it" in page and "Large" in page and ">Yes<" in page and ">No<" in page
    assert client.post(address, touched(size="xxl")).status_code == 422
    assert client.get(address).context["form"]["set-aurod-stream"].value() == "true"


def test_the_preview_shows_each_touched_setting_before_and_after(at_aurod, alice, client):
    _simulator, account = at_aurod
    settings = {"temperature": 0.3, "prompt": "<b>新</b>" + "字" * 400, "maxToken": None}
    job = planned(alice, account.conversations.filter(rank=0), "configure", {"config": {"aurod": settings}})
    page = client.get(reverse("job_detail", args=[job.pk])).content.decode()
    assert re.findall(r"<dt>([^<]+)</dt>", page) == ["Token cap", "Temperature", "System prompt"]
    assert "&lt;b&gt;新&lt;/b&gt;" in page and "字" * 200 not in page.split("<ins")[3].split(">")[1]
    assert "<ins" in page and ">0.3</ins>" in page
    ran(alice, job)
    done = client.get(reverse("job_detail", args=[job.pk])).content.decode()
    assert re.findall(r"<dt>([^<]+)</dt>", done) == ["Token cap", "Temperature", "System prompt"]


def test_the_selection_bar_leads_to_settings_and_never_to_an_undo(at_aurod, client):
    _simulator, account = at_aurod
    row = account.conversations.first()
    assert 'name="action" value="configure"' in text_of(client.get(reverse("conversation_list")))
    answer = client.post(reverse("job_create"), {"ids": str(row.pk), "action": "configure", "count": "1"})
    assert 'class="setting"' in text_of(client.get(answer.url))
    client.post(reverse("job_create"), {"ids": str(row.pk), "action": "restore", "count": "1"})
    assert Job.objects.get().action == "configure"
    composed = client.get(answer.url, {"action": "restore"})
    assert composed.status_code == 200 and composed.context["action"] == "configure"
