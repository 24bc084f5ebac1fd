"""What goes wrong: faults of the providers, somebody else's changes, and how the log of a provider is read afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.simulators.kit import Call, Fault, Simulator

# Shares of the requests; of an "ignore" or an "echo", of the writes.
SHARES = {"error": 0.03, "html": 0.03, "cut_before": 0.03, "cut_after": 0.04, "error_after": 0.03, "slow": 0.03, "ignore": 0.06}
ALWAYS = 10**6
ECHO = 0.1
UNANSWERED = frozenset({"error", "html", "cut_before", "cut_after", "error_after"})  # nobody knows what became of such a write
SLOW = 0.3  # seconds
FIRST_LIES = 12  # writes that a liar answers with what it did not store, before any answer of its could earn trust
OVERLAP = 10.0  # seconds within which a write of ours may still rest on what was read before somebody's change
REMOVED = 0.25  # of somebody's changes


def worsen(simulator: Simulator, *, throttles: int, liar: bool) -> None:
    """Lets a provider fail at random from now on. Each kind happens at least once where enough is asked of it."""
    for number, (kind, share) in enumerate(SHARES.items()):
        simulator.add_fault(kind, skip=2 + number, seconds=SLOW, writes_only=kind == "ignore")
        simulator.add_fault(kind, share=share, times=ALWAYS, seconds=SLOW, writes_only=kind == "ignore")
    if throttles:
        simulator.add_fault("throttle", skip=9)
        simulator.add_fault("throttle", share=0.02, times=throttles - 1)
    if liar:
        simulator.faults.insert(0, Fault("echo", writes_only=True, times=FIRST_LIES))


def lie_on(simulator: Simulator) -> None:
    """Lets a provider whose answers nobody believes any more go on lying now and then."""
    simulator.add_fault("echo", writes_only=True, share=ECHO, times=ALWAYS)


# --- what a provider saw ------------------------------------------------------------------------------------------------------------


def id_of(call: Call) -> str:
    """Returns the conversation that a logged request is about, "" for a list."""
    body = call.body if isinstance(call.body, dict) else {}
    parts = [part for part in call.path.split("/") if part.isdigit()]
    return parts[0] if parts else str(call.query.get("id") or body.get("id") or "")


def _looks(simulator: Simulator, call: Call) -> bool:
    """True when a request reads conversations, and not only their messages; a list counts where it answers whole objects."""
    if any(part in call.path for part in ("/record/", "/messages")):
        return False
    return bool(id_of(call)) or simulator.key in ("aurod", "nuwax")


def repeated_blindly(simulator: Simulator) -> list[Call]:
    """Returns the writes that followed an unanswered write of the same conversation without a read in between."""
    blind: list[Call] = []
    unknown: set[str] = set()
    for call in list(simulator.log):
        remote_id = id_of(call)
        if call.write:
            if remote_id in unknown:
                blind.append(call)
            unknown = unknown | {remote_id} if call.fault in UNANSWERED else unknown - {remote_id}
        elif _looks(simulator, call):
            unknown = unknown - {remote_id} if remote_id else set()
    return blind


# --- somebody else ------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Change:
    """What somebody else did to a conversation: new values, or None for a removal."""

    at: float
    values: dict[str, Any] | None


@dataclass
class Somebody:
    """Changes conversations in the providers' own pages, each once; first those to which no write of ours was sent, later any."""

    simulators: dict[Any, Simulator]  # by account
    chance: random.Random
    most: int
    changes: dict[tuple[Any, str], Change] = field(default_factory=dict)
    late: dict[tuple[Any, str], Change] = field(default_factory=dict)

    def act(self) -> None:
        """Changes or removes one conversation that no write of ours has reached."""
        if len(self.changes) >= self.most:
            return
        account = self.chance.choice(list(self.simulators))
        simulator = self.simulators[account]
        with simulator.lock:
            taken = {id_of(call) for call in simulator.writes()} | {remote_id for pk, remote_id in self.changes if pk == account}
            free = sorted(set(simulator.truth()) - taken)
            if free:
                remote_id = self.chance.choice(free)
                self.changes[account, remote_id] = self._change(simulator, remote_id, "somebody's", remove=self.chance.random() < REMOVED)

    def act_late(self, rows: list[tuple[Any, str]]) -> None:
        """Changes or removes some of the conversations, whatever we wrote to them."""
        for number, (account, remote_id) in enumerate(rows):
            self.late[account, remote_id] = self._change(self.simulators[account], remote_id, "later", remove=number % 4 == 0)

    def _change(self, simulator: Simulator, remote_id: str, word: str, *, remove: bool) -> Change:
        if remove:
            simulator.remove_by_somebody(remote_id)
            return Change(time.monotonic(), None)
        values = {"title": f"{word} {remote_id[-4:]}"}
        simulator.change_by_somebody(remote_id, **values)
        return Change(time.monotonic(), values)

    def removed(self, account: Any, remote_id: str) -> bool:
        """True when somebody removed the conversation."""
        found = (changes.get((account, remote_id)) for changes in (self.changes, self.late))
        return any(change is not None and change.values is None for change in found)

    def overlapped(self, account: Any, remote_id: str) -> bool:
        """True when a write of ours went out so soon after the change that it may rest on a reading from before; no provider can rule that out."""
        change = self.changes.get((account, remote_id))
        sent = (call.at for call in self.simulators[account].writes() if id_of(call) == remote_id)
        return change is not None and any(0 <= at - change.at < OVERLAP for at in sent)

    def all_overlapped(self) -> Iterator[tuple[Any, str]]:
        """Yields the changed conversations of which `overlapped` is true."""
        yield from (key for key in self.changes if self.overlapped(*key))
