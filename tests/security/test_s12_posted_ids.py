"""S12: posted ids and "all matching" are cut to what the user may edit; ids of others change nothing and show nothing."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from conversations.models import AuditEntry, Conversation, Job, JobItem
from tests.accounts.support import HTMX
from tests.conversations import support

from .walk import address, names, patterns


@pytest.fixture
def bob():
    return support.make_user("bob@example.com")


@pytest.fixture
def mallory(bob, connected) -> tuple[Client, list[Conversation]]:
    """Another person with conversations of their own."""
    account = support.synced(connected("modelrouter", populate=3, rate_limit=0, label="other", owner=bob)[1])
    client = Client(raise_request_exception=False)
    client.force_login(bob)
    return client, list(account.conversations.all())


def test_s12_foreign_ids_in_a_selection_are_left_out(place, mallory, bob) -> None:
    client, own = mallory
    foreign = list(place.account.conversations.values_list("pk", flat=True))
    ids = ",".join(map(str, [own[0].pk, *foreign]))
    client.post(reverse("job_create"), {"action": "set-title", "ids": ids})
    job = Job.objects.get(actor=bob)
    assert set(job.items.values_list("conversation_id", flat=True)) == {own[0].pk}
    client.post(reverse("job_create"), {"action": "set-title", "ids": ",".join(map(str, foreign))})
    assert not JobItem.objects.filter(job__actor=bob, account=place.account).exists()


def test_s12_all_matching_is_all_that_the_user_may_edit(place, mallory, bob) -> None:
    client, own = mallory
    for query in ("", f"?account={place.account.pk}", "?q="):
        client.post(reverse("job_create"), {"action": "set-title", "all_matching": "1", "query": query})
    found = set(JobItem.objects.filter(job__actor=bob).values_list("conversation_id", flat=True))
    assert found <= {row.pk for row in own} and found


def test_s12_items_of_another_job_are_neither_ticked_nor_undone_nor_decided(place, mallory, bob) -> None:
    client, own = mallory
    client.post(reverse("job_create"), {"action": "set-title", "ids": str(own[0].pk)})
    mine, foreign = Job.objects.get(actor=bob), place.job.items.first()
    before = list(JobItem.objects.filter(job__in=[place.job, place.draft]).order_by("pk").values())
    for name in ("job_item", "job_item_retry", "job_item_keep", "job_item_overwrite", "job_decide"):
        for method in ("get", "post"):
            assert getattr(client, method)(reverse(name, args=[mine.pk, foreign.pk]), headers=HTMX).status_code in (404, 405), name
    client.post(reverse("job_tick", args=[mine.pk]), {"item": place.draft.items.first().pk, "ticked": "0"}, headers=HTMX)
    client.post(reverse("job_undo", args=[mine.pk]), {"which": "ticked", "item": foreign.pk}, headers=HTMX)
    assert list(JobItem.objects.filter(job__in=[place.job, place.draft]).order_by("pk").values()) == before
    assert not Job.objects.filter(actor=bob, undo_of=place.job).exists()


# An incident is about a host; a session that is not one's own is taken for one that has ended (tests/test_access.py).
ELSEWHERE = {"incident_detail", "session_end"}
ABOUT_THINGS = sorted({name for name, _route, kinds in patterns() if {"pk", "item_pk"} & set(kinds)} - ELSEWHERE)


@pytest.mark.parametrize("method", ["get", "post"])
def test_s12_every_address_of_somebody_elses_thing_is_not_found(place, mallory, method: str) -> None:
    client, _own = mallory
    place.simulator.log.clear()
    entries = AuditEntry.objects.count()
    assert len(ABOUT_THINGS) > 30 and set(ABOUT_THINGS) <= set(names())
    for name in ABOUT_THINGS:
        for headers in ({}, HTMX):
            answer = getattr(client, method)(address(place, name), headers=headers)
            assert answer.status_code in (404, 405), f"{name}: {answer.status_code}"
    assert place.simulator.log == [] and AuditEntry.objects.count() == entries
