"""The product as its users drive it: accounts at simulators, drafts, and one job from the click to its last result."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from accounts import services
from accounts.models import Account, SyncState, User
from accounts.providers import get_provider
from conversations import jobs, mirror, wake
from conversations.models import Conversation, Job

from .processes import Broken, Meter, Simulators, pss_of, wait_until

FAST = 100_000.0  # requests a second: the limiter is asked, and never in the way
IN_FLIGHT = 8


def connect(user: User, simulators: Simulators, *, rate: float = FAST, in_flight: int = IN_FLIGHT) -> list[Account]:
    """Connects an account to each simulator; the worker reads them, as it does for a person."""
    found = []
    for number, url in enumerate(simulators.urls):
        key = simulators.key
        document = services.clean_credentials(get_provider(key), httpx.get(f"{url}/_sim/credential", trust_env=False).json())
        report = services.test_credentials(key, url, document)
        if report.error is not None:
            raise Broken(f"the credential of {key} was refused: {report.error}")
        account = services.add_account(user, key, f"{key} {number} {secrets.token_hex(3)}", url, document, report=report)
        Account.objects.filter(pk=account.pk).update(rate=rate, concurrency=in_flight)
        found.append(account)
    _read(found)
    return found


def _read(accounts: list[Account]) -> None:
    for account in accounts:
        wait_until(lambda pk=account.pk: Account.objects.get(pk=pk).sync_state == SyncState.DONE, 300, f"{account} to be read")  # type: ignore[misc]
        account.refresh_from_db()


def read_again(accounts: list[Account]) -> None:
    """Reads the listings of accounts anew: after a job, the places of their conversations are others."""
    for account in accounts:
        if mirror.request_sync(account):
            wake.sync(account.pk)
    _read(accounts)


@contextmanager
def unchecked() -> Iterator[None]:
    """Keeps the reading of previews away from what is measured."""
    send, jobs.wake.check = jobs.wake.check, lambda *_ids: None
    try:
        yield
    finally:
        jobs.wake.check = send


def draft(user: User, accounts: list[Account]) -> Job:
    """Returns a planned job that gives every conversation of these accounts a model that none of them has."""
    rows = Conversation.objects.filter(account__in=accounts, gone_at__isnull=True)
    used = set(rows.order_by().values_list("model", flat=True).distinct())
    offered = accounts[0].catalogue.filter(gone_at__isnull=True).order_by("pk").values_list("model_id", flat=True)
    target = next((model for model in offered if model not in used), None)
    if target is None:
        raise Broken("every model of the catalogue is in use already")
    job = jobs.create(user, "switch-model", rows)
    with unchecked():
        return jobs.plan(job, {"targets": {"*": target}})


def wait_for_end(job: Job, seconds: float = 600, look: Callable[[], None] = lambda: None) -> Job:
    """Returns the job once its last item has ended."""

    def ended() -> bool:
        look()
        job.refresh_from_db()
        return job.finished_at is not None

    wait_until(ended, seconds, f"{job} to end", every=0.25)
    return job


@dataclass
class Measured:
    """One run: items, seconds, CPU seconds of who did the work, requests the providers saw, memory in MB, cores used by whom."""

    items: int
    seconds: float
    cpu: float
    requests: int
    memory: float
    shares: dict[str, float]

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds for a thousand items."""
        return self.cpu / self.items * 1000


def run(user: User, accounts: list[Account], simulators: Simulators, workers: list[int], redis: int) -> Measured:
    """Runs one switch-model job over accounts with a fresh listing and measures from the click to the last result."""
    job = draft(user, accounts)
    simulators.forget()
    memory = [0.0]
    meter = Meter(**{f"worker {number}": [pid] for number, pid in enumerate(workers, 1)}, simulators=simulators.pids, Redis=[redis]).start()
    clicked = time.time()
    jobs.start(user, job, typed_count=job.n_pending)
    wait_for_end(job, look=lambda: memory.append(sum(map(pss_of, workers))) if time.time() - clicked > len(memory) else None)
    shares = meter.shares()
    cpu = sum(meter.used(name) for name in meter.groups if name.startswith("worker"))
    assert job.finished_at is not None
    seconds = job.finished_at.timestamp() - clicked
    memory.append(sum(map(pss_of, workers)))
    if job.n_applied != job.total:
        raise Broken(f"not every item was applied: { ({name: count for name, count in job.counts.items() if count}) }")
    return Measured(job.total, seconds, cpu, len(simulators.all_calls()), max(memory), shares)
