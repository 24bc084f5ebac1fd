"""How long the preview of a large selection takes, from our own copy."""

from __future__ import annotations

import secrets
import time
from statistics import median

from django.db import connection
from django.utils import timezone

from accounts.models import Account
from conversations import jobs
from conversations.models import Conversation

from . import product
from .table import median_and_all
from .world import World

ACCOUNTS = 8


def plan(world: World, items: int) -> None:
    """Selects and plans `items` conversations that are in the mirror; no provider is asked."""
    now = timezone.now()
    times = {"sort_at": now, "first_seen_at": now, "seen_at": now}
    accounts = []
    for number in range(ACCOUNTS):
        name = f"plan {number} {secrets.token_hex(3)}"
        account = Account.objects.create(
            owner=world.user, provider_key="modelrouter", label=name, base_url="http://127.0.0.1:9", upstream_identity=name
        )
        account.catalogue.create(model_id="5", name="five")
        Conversation.objects.bulk_create(
            (
                Conversation(account=account, remote_id=str(row), title=f"A conversation, {row}", model="1", model_value="[1]", rank=row, **times)
                for row in range(items // ACCOUNTS)
            ),
            batch_size=5000,
        )
        accounts.append(account)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE conversations_conversation")  # as autovacuum does within a minute
    rows = Conversation.objects.filter(account__in=accounts)
    took = []
    for _round in range(world.rounds):
        began = time.perf_counter()
        job = jobs.create(world.user, "switch-model", rows)
        with product.unchecked():
            jobs.plan(job, {"targets": {"*": "5"}})
        took.append(time.perf_counter() - began)
        assert job.n_pending == items // ACCOUNTS * ACCOUNTS, job.counts
    world.report.bar(f"plan {job.total:,} items", f"{median_and_all(took)} s", "≤ 2 s", median(took) <= 2)
