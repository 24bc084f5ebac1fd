"""The models of an account: what joins a catalogue that was known is new for two weeks, what leaves it is gone, what comes back is neither."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import catalogue
from accounts.models import Account, CatalogueModel
from accounts.providers.records import RemoteModel
from conversations import jobs
from conversations.forms import SettingsForm
from conversations.job_forms import SwitchModelForm, parts_of
from tests.conversations import support

from .support import HTMX, text


def read(account: Account, *ids: str) -> set[str]:
    """Stores a catalogue of these models and returns which of all are new."""
    catalogue.store(account, [RemoteModel(id=name, name=name.upper()) for name in ids])
    return {model.model_id for model in account.catalogue.all() if model.is_new}


def test_what_joins_a_known_catalogue_is_new_and_what_comes_back_is_not(connected) -> None:
    _simulator, account = connected("modelrouter")
    assert read(account, "a", "b") == set(), "of a first reading nothing is known"
    assert read(account, "a", "b") == set()
    assert read(account, "a", "c") == {"c"}
    assert read(account, "a", "b", "c") == {"c"}
    assert set(account.catalogue.filter(gone_at=None).values_list("model_id", flat=True)) == {"a", "b", "c"}
    joined = account.catalogue.get(model_id="c").new_since
    read(account, "a", "b", "c")
    assert account.catalogue.get(model_id="c").new_since == joined, "it stays when it is read again"
    account.catalogue.update(gone_at=timezone.now())
    assert read(account, "a", "d") == {"c", "d"}


def test_a_model_is_new_for_two_weeks() -> None:
    now = timezone.now()
    for days, wanted in ((0, True), (13.9, True), (14.1, False)):
        assert CatalogueModel(new_since=now - timedelta(days=days)).is_new is wanted
    assert not CatalogueModel().is_new


def test_the_first_reading_of_a_real_account_marks_nothing_and_the_next_one_what_joined(connected, client: Client) -> None:
    _simulator, account = connected("modelrouter", populate=3)
    support.synced(account)
    assert not account.catalogue.exclude(new_since=None).exists()
    account.catalogue.filter(pk=account.catalogue.first().pk).delete()
    support.synced(account)
    assert account.catalogue.exclude(new_since=None).count() == 1


@pytest.fixture
def joined(connected) -> tuple[Account, CatalogueModel]:
    """An account with conversations, and a model of its that is new."""
    _simulator, account = connected("modelrouter", populate=3)
    support.synced(account)
    model = account.catalogue.exclude(model_id__in=account.conversations.values("model")).first()
    account.catalogue.filter(pk=model.pk).update(new_since=timezone.now())
    return account, account.catalogue.get(pk=model.pk)


def test_a_new_model_is_marked_wherever_one_chooses(joined, client: Client, alice, django_assert_max_num_queries: Any) -> None:
    account, model = joined
    row = account.conversations.first()
    page = text(client.get(reverse("account_detail", args=[account.pk])))
    assert page.count(" new ") == 1
    picker = text(client.get(reverse("conversation_model", args=[row.pk]), headers=HTMX))
    assert picker.count(" new ") == 1
    choices = dict(SettingsForm(row, may_edit=True).fields["model"].choices)
    assert [name for name, words in choices.items() if words.endswith("new")] == [model.model_id]
    job = jobs.create(alice, "switch-model", account.conversations.all())
    options = SwitchModelForm(job, parts_of(job)).choices[0].options
    assert [option.id for option in options if option.is_new] == [model.model_id]
    composed = text(client.get(reverse("job_compose", args=[job.pk])))
    assert " new " in composed
    account.catalogue.filter(pk=model.pk).update(gone_at=timezone.now())
    assert " new " not in text(client.get(reverse("account_detail", args=[account.pk])))
