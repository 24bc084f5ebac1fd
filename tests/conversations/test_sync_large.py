"""Large accounts: every conversation is listed exactly once, however busily somebody renames them meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from accounts.models import SyncState
from conversations import mirror
from tests.simulators.kit import Simulator

pytestmark = pytest.mark.django_db(transaction=True)


class Renaming(threading.Thread):
    """Renames conversations at random in the provider's own page, about two hundred a second, until it is told to stop."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(daemon=True)
        self.simulator, self.done, self.renamed = simulator, threading.Event(), Counter[str]()
        self.ids = sorted(simulator.truth())

    def run(self) -> None:
        chance = random.Random(7)
        while not self.done.wait(0.005):
            remote_id = chance.choice(self.ids)
            self.simulator.change_by_somebody(remote_id, title=f"renamed {chance.randrange(10**6)}")
            self.renamed[remote_id] += 1

    def __enter__(self) -> Renaming:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.done.set()
        self.join()


@pytest.mark.parametrize(
    ("key", "count", "switches"),
    [("aurod", 10_000, {}), ("aurod", 10_000, {"list_order": "updated"}), ("modelrouter", 3_000, {}), ("nuwax", 5_000, {})],
)
def test_a_large_account_is_listed_exactly_once_while_rows_are_renamed(connected, key, count, switches):
    simulator, account = connected(key, populate=count, switches=switches)  # by time of change, a renamed row jumps to the front
    simulator.unlimited()
    began = time.monotonic()
    with Renaming(simulator) as somebody:
        progress = mirror.sync(account)
    seconds = time.monotonic() - began
    assert len(somebody.renamed) > 20
    truth = {remote_id: values["title"] for remote_id, values in simulator.truth().items()}
    rows = account.conversations.values_list("remote_id", "generation", "title", "gone_at")
    assert Counter(remote_id for remote_id, _generation, _title, _gone in rows) == Counter(list(truth))
    assert all(generation == 0 and gone is None for _remote_id, generation, _title, gone in rows)
    assert (progress.listed, progress.new, progress.gone) == (count, count, 0)
    wrong = {remote_id for remote_id, _generation, title, _gone in rows if title != truth[remote_id]}
    assert wrong <= set(somebody.renamed)  # renamed after their page had been read
    account.refresh_from_db()
    assert account.sync_state == SyncState.DONE
    print(f"{key}: {count} in {seconds:.1f} s, {progress.requests} requests, {sum(somebody.renamed.values())} renames")

    again = mirror.sync(account)  # in peace: what was renamed too late the first time is seen now
    assert (again.listed, again.new, again.gone) == (count, 0, 0)
    assert dict(account.conversations.values_list("remote_id", "title")) == {key: values["title"] for key, values in simulator.truth().items()}
    assert sorted(account.conversations.values_list("rank", flat=True)) == list(range(count))


def test_chatnio_with_more_than_its_list_shows_reaches_all(connected):
    simulator, account = connected("chatnio", populate=250)
    simulator.unlimited()
    began = time.monotonic()
    with Renaming(simulator) as somebody:
        progress = mirror.sync(account)
    assert set(account.conversations.values_list("remote_id", flat=True)) == set(simulator.truth()) and len(somebody.ids) == 250
    assert (progress.listed, progress.new, progress.gone) == (250, 250, 0)
    assert account.conversations.count() == 250 and not account.conversations.filter(thin=True).exists()
    print(f"chatnio: 250 in {time.monotonic() - began:.1f} s, {progress.requests} requests")
