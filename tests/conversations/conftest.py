from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from accounts.models import Account, User
from conversations import jobs
from conversations.models import Job
from tests.conversations import support
from tests.simulators import kit, registry


@pytest.fixture
def alice(transactional_db: None) -> User:
    """A user; the database is a real one that other threads and processes see."""
    return support.make_user()


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[kit.Simulator, str]]]:
    """A function that serves a simulator: `simulator, url = serve("aurod", populate=100)`."""
    with ExitStack() as running:

        def start(key: str, *, populate: int = 0, **arguments: Any) -> tuple[kit.Simulator, str]:
            simulator = registry.simulator(key)(**arguments)
            if populate:
                simulator.populate(populate)
            return simulator, running.enter_context(kit.serve(simulator))

        yield start


@pytest.fixture
def connected(alice: User, serve: Callable[..., tuple[kit.Simulator, str]]) -> Callable[..., tuple[kit.Simulator, Account]]:
    """A function that serves a simulator and connects Alice to it: `simulator, account = connected("aurod")`."""

    def connect(key: str, *, label: str = "", owner: User | None = None, **arguments: Any) -> tuple[kit.Simulator, Account]:
        simulator, url = serve(key, **arguments)
        return simulator, support.make_account(owner or alice, simulator, url, label=label)

    return connect


@pytest.fixture
def begin(connected: Callable[..., tuple[kit.Simulator, Account]], alice: User) -> Callable[..., tuple[kit.Simulator, Account, Job]]:
    """A function that starts a job over everything at a new ModelRouter: `simulator, account, job = begin(40)`."""

    def start(count: int = 40, **arguments: Any) -> tuple[kit.Simulator, Account, Job]:
        simulator, account = connected("modelrouter", populate=count, rate_limit=0, **arguments)
        support.synced(account)
        unused = account.catalogue.exclude(model_id__in=set(account.conversations.values_list("model", flat=True))).first()
        assert unused is not None
        job = jobs.create(alice, "switch-model", account.conversations.all())
        jobs.plan(job, {"targets": {str(account.pk): unused.model_id}})
        assert jobs.start(alice, job, typed_count=count)
        simulator.log.clear()
        return simulator, account, job

    return start
