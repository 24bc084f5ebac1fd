"""The request log: what is kept of a text, what a request was for, that nothing is lost on the way, and that it ends."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from accounts import request_log, services, tasks
from accounts.models import RequestLog
from accounts.providers.errors import ProviderError
from accounts.providers.exchange import Exchange
from accounts.request_log import Recorder, about, clean
from config.celery import app
from tests.conversations.conftest import alice, connected, serve

__all__ = ["alice", "connected", "serve"]

PLAIN = "s3cr3tvalue0123456789abcdef"


def exchange(path: str = "/x", **values) -> Exchange:
    usual = {"at": time.time(), "method": "GET", "write": False, "status": 200, "ms": 12, "size": 34, "sent": "", "answer": "", "error": ""}
    return Exchange(path=path, **(usual | values))


@pytest.fixture
def account(connected):
    _simulator, account = connected("modelrouter", populate=5, rate_limit=0)
    RequestLog.objects.all().delete()
    return account


# --- what is kept of a text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"Cookie: a=1; b={PLAIN}",
        f'{{"message": "headers: {{\\"Cookie\\": \\"sid={PLAIN}\\"}}"}}',
        f"<p>JSESSIONID={PLAIN}</p>",
        f"got server_name_session={PLAIN} only",
        f"x;sid={PLAIN};y",
        f'{{"access_token":"{PLAIN}"}}',
        f'{{"access_token":"{PLAIN}…',
        f"Authorization: Bearer {PLAIN}",
        f"eyJhbGciOiJIUzI1NiJ9.{PLAIN}.{PLAIN}",
    ],
)
def test_secrets_that_we_do_not_know_are_masked_by_their_shape(text: str) -> None:
    assert PLAIN not in clean(text) and "***" in clean(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"phone":"13812345678"}', '{"phone":"138****5678"}'),
        ("电话13812345678。", "电话138****5678。"),
        ("+86 138 1234 5678", "138****5678"),
        ("q=%2B8613812345678&x=1", "q=138****5678&x=1"),
        ("138-1234-5678", "138****5678"),
        ("call +4915112345678 now", "call +**** now"),
    ],
)
def test_telephone_numbers_are_masked(text: str, kept: str) -> None:
    assert clean(text) == kept


@pytest.mark.parametrize(
    "text",
    ['{"id":1764320000123}', "1764320000", "/v1/conversations/7f1413812345678", "19 tokens, 1,380,013 rows", "maxTokens: 2000", "周报 2026-11-28"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert clean(text) == text


def test_what_no_database_takes_is_replaced() -> None:
    assert clean("a\0b") == "a␀b"


# --- what a request was for -----------------------------------------------------------------------------------------------------------


def test_tasks_that_run_at_the_same_time_keep_their_subjects_apart() -> None:
    recorder = Recorder(None)

    async def one(number: int) -> None:
        with about(f"item:{number}:1"):
            for _turn in range(3):
                await asyncio.sleep(0)
                recorder(exchange(f"/{number}"))

    async def all_of_them() -> None:
        with about("sync"):
            await asyncio.gather(*(one(number) for number in range(20)))
            recorder(exchange("/end"))

    asyncio.run(all_of_them())
    rows = recorder.drain()
    assert len(rows) == 61 and rows[-1].subject == "sync" and not len(recorder)
    assert all(row.subject == f"item:{row.path[1:]}:1" for row in rows[:-1])


def test_what_could_not_be_stored_is_collected_still(account) -> None:
    recorder = Recorder(account.pk)
    recorder(exchange("/1"))
    recorder(exchange("/2"))
    with pytest.raises(KeyError), recorder.draining() as rows, transaction.atomic():
        RequestLog.objects.bulk_create(rows)
        recorder(exchange("/3"))
        raise KeyError
    request_log.store(recorder.drain())
    assert list(RequestLog.objects.order_by("pk").values_list("path", flat=True)) == ["/1", "/2", "/3"]


# --- connections ----------------------------------------------------------------------------------------------------------------------


def test_a_call_leaves_its_requests_also_when_it_fails(account, connected) -> None:
    with about("conversation:7"):
        services.call(account, lambda provider: provider.list_conversations())
    row = RequestLog.objects.get()
    assert (row.account_id, row.subject, row.method, row.status, row.write) == (account.pk, "conversation:7", "GET", 200, False)
    assert row.path.startswith("/") and row.size and timezone.now() - row.at < timedelta(minutes=1)
    account.base_url = account.base_url.rsplit(":", 1)[0] + ":9"
    with pytest.raises(ProviderError):
        services.call(account, lambda provider: provider.check(), patience=services.Patience(attempts=2, seconds=5))
    assert list(RequestLog.objects.filter(subject="").values_list("status", "error")) == [(None, "unavailable")] * 2


def test_the_subject_is_that_of_each_call_on_a_line(account) -> None:
    with services.line(account) as line:
        for subject in ("conversation:1", "conversation:2"):
            with about(subject):
                line.run(lambda provider: provider.list_conversations())
    assert list(RequestLog.objects.order_by("pk").values_list("subject", flat=True)) == ["conversation:1", "conversation:2"]


def test_a_long_line_stores_on_the_way(account, monkeypatch) -> None:
    monkeypatch.setattr(services, "STORED_AT_ONCE", 2)
    with services.line(account) as line:
        line.run(lambda provider: provider.list_models())
        assert not RequestLog.objects.exists()
        line.run(lambda provider: provider.list_conversations())
        assert RequestLog.objects.count() == 2


def test_a_connection_of_asynchronous_code_is_recorded_too(account) -> None:
    async def work() -> None:
        async with services.connect(account) as provider:
            await provider.list_models()

    asyncio.run(work())
    assert RequestLog.objects.count() == 1


def test_a_typed_credential_is_tried_without_a_record(serve, transactional_db) -> None:
    simulator, url = serve("modelrouter", rate_limit=0)
    assert services.test_credentials("modelrouter", url, simulator.credential()).ok
    assert simulator.log and not RequestLog.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_requests_of_an_account_that_was_deleted_meanwhile_are_dropped(account) -> None:
    recorder = Recorder(account.pk)
    recorder(exchange())
    services.delete_account(account)
    request_log.store(recorder.drain())
    assert not RequestLog.objects.exists()


# --- how long -------------------------------------------------------------------------------------------------------------------------


def test_old_requests_are_deleted_in_batches_and_within_a_time(account, monkeypatch) -> None:
    now = timezone.now()
    ages = [timedelta(days=settings.REQUESTS_KEPT_DAYS, minutes=minutes) for minutes in range(1, 8)] + [timedelta(days=13), timedelta(0)]
    request_log.store([RequestLog(account=account, at=now - age, method="GET", path=f"/{number}", ms=1) for number, age in enumerate(ages)])
    monkeypatch.setattr(request_log, "PRUNED_AT_ONCE", 3)
    assert request_log.prune(now, seconds=-1.0) == 3
    assert request_log.prune(now) == 4
    assert request_log.prune(now) == 0
    assert set(RequestLog.objects.values_list("path", flat=True)) == {"/7", "/8"}


def test_beat_deletes_old_requests(account) -> None:
    entry = app.conf.beat_schedule["prune-requests"]
    assert entry["task"] == tasks.prune_requests.name in app.tasks
    old = timezone.now() - timedelta(days=settings.REQUESTS_KEPT_DAYS + 1)
    request_log.store([RequestLog(account=account, at=old, method="GET", path="/", ms=1)])
    tasks.prune_requests()
    assert not RequestLog.objects.exists()
    assert connection.in_atomic_block is False
