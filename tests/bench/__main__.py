"""`make bench`: whole product jobs beside a bare client on the same simulated providers in the same run, each bar with what was measured.

The product is driven from outside: a real Celery worker, the database, the pages of the web server, and what the providers saw. Each part runs
for itself with --only. What is printed are medians and ratios within this run: on a shared machine only ratios mean something.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from . import environment

PARTS = ("modelrouter", "aurod", "requests", "page", "limit", "processes", "stop", "plan")


def arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    given = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    given.add_argument("--only", choices=PARTS, action="append", help="only this part (may be given again)")
    given.add_argument("--quick", action="store_true", help="one round of small sizes: shows that everything runs, and measures nothing")
    given.add_argument("--rounds", type=int, help="runs of which the median is printed (3)")
    given.add_argument("--items", type=int, help="conversations of a throughput job (4000)")
    given.add_argument("--latency", type=float, default=0.05, help="seconds before each answer of the simulated provider (0.05)")
    return given.parse_args()


def main() -> int:
    """Measures, prints the report in Markdown, and returns 1 when a part could not be measured at all."""
    given = arguments()
    environment.set_up()
    from django.db import connections

    from accounts.models import User
    from conversations import jobs
    from conversations.models import Job

    from . import clicks, planning, processes, stops, throughput
    from .table import Report
    from .world import World

    quick = given.quick
    rounds = given.rounds or (1 if quick else 3)
    items = given.items or (320 if quick else 4000)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends as well
    began = time.monotonic()
    report = Report(tell=lambda text: print(f"[{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True))
    broken = 0
    with environment.running() as redis, processes.beat(), processes.worker() as worker:
        user = User.objects.create_user(f"bench-{secrets.token_hex(3)}@example.com", secrets.token_hex(8))
        world = World(user, worker, redis, report, rounds, given.latency)
        parts: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
            "modelrouter": (throughput.side_by_side, ("modelrouter", items)),
            "aurod": (throughput.side_by_side, ("aurod", max(60, items // 4))),
            "requests": (throughput.requests_per_item, (300 if quick else 3000,)),
            "page": (clicks.at_the_job_page, (2000 if quick else 10_000, 2.0 if quick else 8.0)),
            "limit": (clicks.kept_within_a_limit, (5.0 if quick else 30.0,)),
            "processes": (throughput.two_workers, (items // 2,)),
            "stop": (stops.at_a_stop, (320 if quick else 4000,)),
            "plan": (planning.plan, (4_000 if quick else 100_000,)),
        }
        for name in PARTS:
            if given.only and name not in given.only:
                continue
            try:
                parts[name][0](world, *parts[name][1])
            except Exception as error:  # the other parts can still be measured
                broken += 1
                if not isinstance(error, processes.Broken):
                    traceback.print_exc()
                report.bar(name, f"could not be measured: {type(error).__name__}: {error}", instead="**broken**")
                for job in Job.objects.live():
                    jobs.cancel(user, job)
        database = environment.described()
        connections.close_all()
    conditions = f"latency {given.latency * 1000:.0f} ms, medians of {rounds}, {time.monotonic() - began:.0f} s" + (", quick" if quick else "")
    print(report.printed(database, conditions))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
