"""The warning that a job outlives the credential of an account."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from conversations import expiry, jobs, preview_presenters
from tests.accounts.support import text

from .support import synced


def previewed(connected, alice):
    """A preview that would change all 30 conversations of an account: (account, job, its author's client, its page)."""
    _simulator, account = connected("modelrouter", populate=30)
    synced(account)
    unused = account.catalogue.exclude(model_id__in=set(account.conversations.values_list("model", flat=True))).first()
    job = jobs.create(alice, "switch-model", account.conversations.all())
    jobs.plan(job, {"targets": {str(account.pk): unused.model_id}})
    client = Client()
    client.force_login(alice)
    return account, job, client, reverse("job_detail", args=[job.pk])


def test_a_preview_warns_of_a_credential_that_ends_before_the_job_does(connected, alice) -> None:
    account, job, client, page = previewed(connected, alice)

    now = timezone.now()
    Account.objects.filter(pk=account.pk).update(rate=0.1, credential_expires_at=now + timedelta(hours=3))
    assert expiry.outlived(preview_presenters.shares(job), now) == []
    assert "its credential ends in" not in text(client.get(page))

    Account.objects.filter(pk=account.pk).update(credential_expires_at=now + timedelta(minutes=5, seconds=30))
    (one,) = expiry.outlived(preview_presenters.shares(job), now)
    assert (one.account, one.needs, one.ended) == (account, timedelta(seconds=900), False)
    assert f"{account.label} needs about 15 min, its credential ends in 5 min." in text(client.get(page))

    Account.objects.filter(pk=account.pk).update(credential_expires_at=now - timedelta(minutes=1))
    assert "has ended by its own account" in text(client.get(page))


def test_where_the_credential_does_not_say_the_preview_estimates_and_blocks_nothing(connected, alice) -> None:
    account, job, client, page = previewed(connected, alice)
    now = timezone.now()

    def lasting(since: timedelta, *seconds: int) -> str:
        Account.objects.filter(pk=account.pk).update(rate=0.1, credential_expires_at=None, credential_since=now - since, lifetimes=list(seconds))
        return text(client.get(page))

    assert "Estimate" not in lasting(timedelta(hours=1), 4000), "one may have been an accident"
    assert "Estimate" not in lasting(timedelta(hours=1), 36_000, 36_000), "15 minutes fit into what is left"
    shown = lasting(timedelta(minutes=55, seconds=-30), 3000, 3600, 4200)
    assert f"Estimate: {account.label} needs about 15 min, its credential may end in 5 min: it usually lasts about 1 hour (3 seen)." in shown
    assert "its credential ends in" not in shown
    assert "and this one has lasted longer" in lasting(timedelta(hours=5), 3600, 3600)
    Account.objects.filter(pk=account.pk).update(credential_expires_at=now + timedelta(hours=3))
    assert "Estimate" not in text(client.get(page)), "what the credential says counts"
    lasting(timedelta(hours=5), 3600, 3600)
    assert jobs.start(alice, job, typed_count=30)
