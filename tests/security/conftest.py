from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from accounts.models import Account, User
from conversations import jobs, lanes
from conversations.models import Job
from tests.conversations import support
from tests.conversations.conftest import alice, connected, serve

from .walk import Place

__all__ = ["alice", "connected", "serve"]


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser, as far as Django's test client is one; what breaks is answered, not raised."""
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    return client


@pytest.fixture
def place(alice: User, connected: Callable[..., Any]) -> Place:
    """A place with everything in it: an account that was read, an ended job, a preview, entries of the audit log."""
    simulator, account = connected("modelrouter", populate=6, rate_limit=0)
    support.synced(account)
    return furnish(alice, simulator, account)


def furnish(user: User, simulator: Any, account: Account) -> Place:
    """Runs a job over an account's conversations, and leaves a preview beside it."""
    unused = account.catalogue.exclude(model_id__in=set(account.conversations.values_list("model", flat=True))).first() or account.catalogue.first()
    if unused is None:
        raise ValidationError("This provider has no models.")
    done, draft = (planned(user, account, unused.model_id) for _number in range(2))
    assert jobs.start(user, done, note="for the record")
    while lanes.run_lane(account.pk):
        pass
    done.refresh_from_db()
    return Place(simulator, account, done, draft)


def planned(user: User, account: Account, model: str) -> Job:
    """Returns a preview over all of an account's conversations."""
    job = jobs.create(user, "switch-model", account.conversations.all())
    jobs.plan(job, {"targets": {str(account.pk): model}})
    return job
