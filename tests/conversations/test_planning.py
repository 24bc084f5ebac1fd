"""Many items planned at once get what each of them would get for itself."""

from __future__ import annotations

import random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from conversations import jobs, plans, titles
from conversations.models import Action, Conversation, Job, JobItem

ROWS = 60  # of each account
MODELS = (("1", ["1"]), ("2", ["2"]), ("2", ["2", "7"]), ("", ""), (None, None), ("3", ["3"]))
CONFIGS = ({}, {"temperature": 0.5}, {"temperature": 1, "memory": True}, {"temperature": 1.0, "memory": False})

# action, parameters, and what is noted with the items before: targets of a list, or all that an undo knows.
CASES = {
    "one model for all": (Action.SWITCH_MODEL, {"targets": {"*": "2"}}, None),
    "a model for each model": (Action.SWITCH_MODEL, {"targets": {"modelrouter": {"1": "5", "2": "1", "": "3"}, "aurod": {"*": "2"}}}, None),
    "no model for some accounts": (Action.SWITCH_MODEL, {"targets": {"aurod": "2"}}, None),
    "models of a list": (Action.SWITCH_MODEL, {"list": "models.csv"}, [None, {"model": "2"}, {"model": "5"}, {"model": ""}]),
    "a template": (Action.SET_TITLE, {"template": "{n} {title:8} {model}"}, None),
    "a template that needs first messages": (Action.SET_TITLE, {"template": "{first_message:9}", "include_hand_made": True}, None),
    "find and replace": (Action.SET_TITLE, {"find": "same", "replace": "other"}, None),
    "titles of a list": (Action.SET_TITLE, {"list": "titles.csv"}, [None, {"title": "same"}, {"title": ""}]),
    "the provider's titles": (Action.SET_TITLE, {"generate": True}, None),
    "a setting": (Action.CONFIGURE, {"config": {"*": {"temperature": 1}}}, None),
    "settings for one provider": (Action.CONFIGURE, {"config": {"aurod": {"temperature": 1}}}, None),
    "undo": (
        Action.RESTORE,
        {},
        [{"model": ["1"]}, {"model": ["2"]}, {"title": "same 1"}, {"temperature": 1}, {"model": ["2"], "title": "same 2"}, {"memory": True}, None],
    ),
}


@pytest.fixture
def mirror(alice):
    """Accounts of three providers, two of them of one person at one place; rows of every kind, many of them alike."""
    chance = random.Random(7)
    now = timezone.now()
    accounts = []
    for key, identity in (("modelrouter", "one"), ("modelrouter", "one"), ("aurod", "other"), ("chongzhiling", "third"), ("nuwax", "fourth")):
        account = Account.objects.create(
            owner=alice, provider_key=key, label=f"{key} {len(accounts)}", base_url="http://127.0.0.1:9", upstream_identity=identity
        )
        for model in ("1", "2", "3", "5"):
            account.catalogue.create(model_id=model, name=f"model {model}")
        rows = []
        for number in range(ROWS):
            model, value = chance.choice(MODELS)
            rows.append(
                Conversation(
                    account=account,
                    remote_id=str(number // 2 if key == "nuwax" else number),  # some ids were given to two conversations
                    generation=number % 2 if key == "nuwax" else 0,
                    title=f"same {chance.randrange(4)}",
                    untitled=chance.random() < 0.5,
                    model=model,
                    model_value=value,
                    config=chance.choice(CONFIGS),
                    first_message=chance.choice((None, "", "What is the time?")),
                    rank=number,
                    gone_at=now if chance.random() < 0.2 else None,
                    sort_at=now,
                    first_seen_at=now,
                    seen_at=now,
                )
            )
        Conversation.objects.bulk_create(rows)
        accounts.append(account)
    return accounts


def draft(alice, action, noted):
    """Returns a draft of the whole mirror in which a person has ticked and unticked rows; some conversations have been deleted since."""
    chance = random.Random(11)
    job = jobs.create(alice, Action.SWITCH_MODEL, Conversation.objects.all())
    Job.objects.filter(pk=job.pk).update(action=action)
    items = list(job.items.order_by("ordinal"))
    for item in items:
        item.ticked = chance.choice((None, None, None, True, False))
        item.target = chance.choice(noted) if noted else None
        if action == Action.RESTORE:
            item.target = item.target or {"model": ["1"]}
            item.expected = {name: chance.choice((["2"], "same 1", 1)) for name in item.target}
        if chance.random() < 0.1:
            item.conversation = None
    JobItem.objects.bulk_update(items, ["ticked", "target", "expected", "conversation"])
    job.refresh_from_db()
    return job


def one_by_one(job, params):
    """Returns item -> what it starts with, by the rules alone: each item for itself, in order."""
    job.params = params
    found, taken = {}, set()
    for account in Account.objects.filter(jobitem__job=job).distinct():
        names, aims = dict(account.catalogue.values_list("model_id", "name")), plans.chosen(job, account)
        for item in job.items.filter(account=account).select_related("conversation").order_by("ordinal"):
            key = (account.upstream_identity, item.remote_id)
            twice = key in taken
            made = plans.left_out(job, item, "duplicate") if twice else plans.evaluate(job, item, account, aims, names)
            if made.reason != "left_out":
                taken.add(key)
            found[item.pk] = made
    return found


@pytest.mark.parametrize("case", CASES)
def test_items_that_are_planned_together_get_what_each_would_get_alone(mirror, alice, case):
    action, params, noted = CASES[case]
    job = draft(alice, action, noted)
    alone = one_by_one(job, params)
    jobs.plan(job, params)
    numbered = action == Action.SET_TITLE and titles.numbers(params)
    for item in job.items.all():
        made = alone[item.pk]
        assert (item.expected, item.status) == (made.expected, made.status), item
        if numbered and made.target and made.status == "pending":  # titles are told apart by numbers afterwards
            assert item.target["title"].startswith(made.target["title"])
        else:
            assert (item.target, item.reason) == (made.target, made.reason), item
    assert len({(made.status, made.reason) for made in alone.values()}) >= 4, "the rows are of many kinds"


def test_a_model_switch_costs_as_many_statements_for_many_conversations_as_for_few(mirror, alice):
    def statements(rows):
        job = jobs.create(alice, Action.SWITCH_MODEL, rows)
        with CaptureQueriesContext(connection) as seen:
            jobs.plan(job, {"targets": {"*": "2"}})
        assert job.n_pending
        return len(seen)

    account = mirror[2]
    few = statements(account.conversations.all())
    template = account.conversations.filter(gone_at=None).first()
    copies = [Conversation(**{**values, "id": None, "remote_id": f"more {n}"}) for n, values in enumerate([row_values(template)] * 1500)]
    Conversation.objects.bulk_create(copies)
    assert statements(account.conversations.all()) <= few + 2


def row_values(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
