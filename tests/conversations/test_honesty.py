"""What an account's page says about a provider that accepts changes and does not make them."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations import edits, honesty

from .pages import text_of
from .support import make_user, synced
from .test_jobs import other_model, run, switch_job


def test_a_provider_that_ignores_model_writes_is_called_what_it_is(connected, alice):
    simulator, account = connected("modelrouter", populate=6, rate_limit=0)
    synced(account)
    client = Client()
    client.force_login(alice)
    address = reverse("account_writes", args=[account.pk])
    assert "Nothing was changed through this account yet." in text_of(client.get(address))
    simulator.add_fault("ignore", writes_only=True, times=1000)
    job = run(switch_job(alice, account, other_model(account)), alice, account)
    assert (job.n_applied, job.n_not_applied) == (0, 6)
    simulator.clear_faults()
    assert edits.edit_now(alice, account.conversations.first(), {"title": "a new one"}).status == "applied"
    page = text_of(client.get(address))
    assert "0 of 6 applied" in page and "6 accepted and not applied" in page and "1 of 1 applied" in page
    assert honesty.writes_of(account, timezone.now() + timedelta(days=31)) == []
    stranger = Client()
    stranger.force_login(make_user("stranger@example.com"))
    assert stranger.get(address).status_code == 404
