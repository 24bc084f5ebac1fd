"""How fast, beside a bare loop: one worker, two workers, and the requests that an item costs."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from . import bare, processes, product
from .product import IN_FLIGHT, Measured
from .table import cores, median_and_all
from .world import World

ACCOUNTS = 8


def _bare(simulators: processes.Simulators, loops: int = 1, in_flight: int = IN_FLIGHT) -> Measured:
    """Runs the bare loop, or several that share the simulators."""
    simulators.forget()
    meter = processes.Meter(simulators=simulators.pids).start()
    done = bare.run(simulators.key, in_flight, [simulators.urls[number::loops] for number in range(loops)])
    shares = {f"loop {number}": cpu / done.seconds for number, cpu in enumerate(done.cpus, 1)} | {
        "simulators": meter.used("simulators") / done.seconds  # the loops' own start is not in it: they waited for each other
    }
    return Measured(done.items, done.seconds, sum(done.cpus), len(simulators.all_calls()), 0.0, shares)


def _median(runs: list[Measured], name: str) -> float:
    return statistics.median(getattr(run, name) for run in runs)


def side_by_side(world: World, key: str, items: int) -> None:
    """One worker and one bare loop on the same kind of simulators, in turn, so that a slow minute hits both."""
    copies = ACCOUNTS if key == "modelrouter" else 1
    size = items // copies
    ours: list[Measured] = []
    theirs: list[Measured] = []
    with (
        processes.simulators(key, copies=copies, size=size, latency=world.latency) as for_bare,
        processes.simulators(key, copies=copies, size=size, latency=world.latency) as for_product,
    ):
        accounts = product.connect(world.user, for_product)
        for number in range(world.rounds):
            if number:
                product.read_again(accounts)
            theirs.append(_bare(for_bare))
            ours.append(product.run(world.user, accounts, for_product, [world.worker], world.redis))
    what = f"{key}, {copies} x {IN_FLIGHT} in flight, {size * copies} items"
    ratio = _median(ours, "rate") / _median(theirs, "rate")
    for name, runs in (("bare aiohttp loop", theirs), ("Switchboard job", ours)):
        memory = f"{max(run.memory for run in runs):.0f} MB" if runs is ours else "–"
        rate = median_and_all((run.rate for run in runs), 0)
        per_item = _median(runs, "requests") / runs[0].items
        figures = (rate, f"{ratio if runs is ours else 1:.2f}", f"{_median(runs, 'cpu_per_1000'):.2f}", f"{per_item:.2f}", memory)
        world.report.rate(what, name, *figures)
        world.report.note(f"{key}, {name}: cores used in the last round: {cores(runs[-1].shares)}.")
    if theirs[-1].shares["simulators"] > 0.85:
        world.report.note(f"{key}: the simulator was the bottleneck of the bare loop.")
    if key != "modelrouter":
        world.report.bar(f"items/s of a whole job beside a bare loop, {key}", f"{ratio:.2f}")
        return
    cpu, memory_used = _median(ours, "cpu_per_1000"), max(run.memory for run in ours)
    world.report.bar("items/s of a whole job beside a bare loop, GET + PUT per item", f"{ratio:.2f}", "≥ 0.90", ratio >= 0.90)
    world.report.bar("worker CPU per 1,000 items", f"{cpu:.2f} CPU-s", "≤ 2.0 CPU-s", cpu <= 2.0)
    world.report.bar("worker memory, the most of all rounds (PSS)", f"{memory_used:.0f} MB", "≤ 130 MB", memory_used <= 130)


def requests_per_item(world: World, items: int) -> None:
    """A model switch of one large aurod account: how many requests the provider saw for each item."""
    with processes.simulators("aurod", copies=1, size=items, latency=world.latency) as simulators:
        accounts = product.connect(world.user, simulators)
        done = product.run(world.user, accounts, simulators, [world.worker], world.redis)
    each = done.requests / done.items
    world.report.bar(f"requests per item, aurod model switch of {done.items:,}", f"{each:.3f}", "≤ 1.15 (naive is 3)", each <= 1.15)


def two_workers(world: World, items: int) -> None:
    """Twice the accounts for twice the workers, beside what two bare loops make of the same machine.

    Once at the latency of the other rows, where the cores may be the limit, and once at four times of it, where they are not.
    """
    for latency, share in ((world.latency, 1.0), (4 * world.latency, 0.35)):
        _two_workers(world, latency, max(2 * IN_FLIGHT, int(items * share) // ACCOUNTS))


def _two_workers(world: World, latency: float, size: int) -> None:
    runs: dict[str, list[Measured]] = {"loop": [], "loops": [], "one": [], "two": []}
    with ExitStack() as running:
        sets = {}
        for name, copies in (("loop", ACCOUNTS), ("loops", 2 * ACCOUNTS), ("one", ACCOUNTS), ("two", 2 * ACCOUNTS)):
            served = processes.simulators("modelrouter", copies=copies, size=size, latency=latency, processes=copies // ACCOUNTS)
            sets[name] = running.enter_context(served)
        accounts = {name: product.connect(world.user, sets[name]) for name in ("one", "two")}
        for number in range(world.rounds):
            if number:
                product.read_again([*accounts["one"], *accounts["two"]])
            runs["loop"].append(_bare(sets["loop"]))
            runs["one"].append(product.run(world.user, accounts["one"], sets["one"], [world.worker], world.redis))
            runs["loops"].append(_bare(sets["loops"], 2))
            with processes.worker() as second:
                time.sleep(1)  # it takes over what dead processes left, which is nothing, and is idle
                runs["two"].append(product.run(world.user, accounts["two"], sets["two"], [world.worker, second], world.redis))
    rates = {name: _median(found, "rate") for name, found in runs.items()}
    ours, machine = rates["two"] / rates["one"], rates["loops"] / rates["loop"]
    what = f"two workers to one, modelrouter, {latency * 1000:.0f} ms, {ACCOUNTS} accounts each"
    measured = f"{ours:.2f} ({rates['two']:.0f} to {rates['one']:.0f} items/s); two bare loops to one: {machine:.2f}"
    # Every core busy, no core left for what it would take, or two bare loops no better: then more processes need more machine.
    needed, busy, nearly_all = 1.8 * sum(runs["one"][-1].shares.values()), sum(runs["two"][-1].shares.values()), 0.9 * processes.cores()
    excused = ours < 1.8 and (ours >= 0.95 * machine or max(needed, busy) > nearly_all)
    world.report.bar(what, measured, "≥ 1.8, or the machine is the limit", ours >= 1.8, instead="the machine is the limit" if excused else "")
    world.report.note(f"two workers, {latency * 1000:.0f} ms: 1.8 times of what one uses would be {needed:.2f} of {processes.cores()} cores.")
    for name, who in (("loops", "two bare loops"), ("one", "one worker"), ("two", "two workers")):
        world.report.note(f"two workers, {latency * 1000:.0f} ms, {who}: cores used in the last round: {cores(runs[name][-1].shares)}.")
