"""How soon a worker that is told to stop has handed back what it had under way, as at every deployment."""

from __future__ import annotations

import os
import signal
import time

from conversations import jobs, leases
from conversations.models import Job, JobItem, Lane

from . import processes, product
from .processes import Broken, Simulators, wait_until
from .table import median_and_all
from .world import World

ACCOUNTS = 16  # twice as many as one worker has threads for lanes
SLOW = 5.0  # seconds of a provider that takes longer for an answer than a worker gets to stop


def at_a_stop(world: World, items: int) -> None:
    """Sends SIGTERM to one of two workers at full load, once for each round, at providers of the usual latency and at slow ones."""
    with processes.simulators("modelrouter", copies=ACCOUNTS, size=items // ACCOUNTS, latency=world.latency) as simulators:
        accounts = product.connect(world.user, simulators)
        for latency in (world.latency, SLOW):
            took = []
            for _round in range(world.rounds):
                job = product.draft(world.user, accounts)
                took.append(_stopped(world, job, simulators, latency))
                product.read_again(accounts)
            what = f"SIGTERM to everything handed back, {job.total:,} items, answers in {latency * 1000:.0f} ms"
            world.report.bar(what, f"{median_and_all(took)} s", "≤ 3 s", max(took) <= 3.0)


def _stopped(world: World, job: Job, simulators: Simulators, latency: float) -> float:
    """Returns the seconds from the signal until no lane and no item is the worker's any more; the other worker then ends the job."""
    with processes.worker() as pid:
        jobs.start(world.user, job, typed_count=job.n_pending)
        mine = f"{leases.host_name()}:{pid}:"
        lanes = Lane.objects.filter(holder__startswith=mine)
        running = JobItem.objects.filter(job=job, status="running", lease__startswith=mine)
        wait_until(lambda: lanes.count() >= ACCOUNTS // 4 and running.count() >= product.IN_FLIGHT, 60, "the second worker to be busy", every=0.01)
        simulators.answer_in(latency)
        if latency > world.latency:
            time.sleep(2 * world.latency)  # by now everything that is under way waits for a slow answer
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not running.exists() and not lanes.exists(), 60, "the worker to hand back", every=0.01)
        seconds = time.monotonic() - began
    simulators.answer_in(world.latency)
    product.wait_for_end(job)
    if job.n_applied != job.total:
        raise Broken(f"not every item was applied: { ({name: count for name, count in job.counts.items() if count}) }")
    return seconds
