"""`make campaign`: jobs over five accounts while everything goes wrong at random; afterwards no number lies, and undo brings everything back.

The product is the real one: Celery workers, which are killed, its embedded Redis, which is killed too, a database of its own (SQLite, or the
PostgreSQL of DATABASE_URL), simulated providers over loopback. What goes wrong is chosen by the seed; when it strikes depends on the machine.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback
from pathlib import Path

from tests.bench import environment

MOST_PRINTED = 25


def arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    given = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    given.add_argument("--items", type=int, default=2000, help="items of the three jobs together (2000)")
    given.add_argument("--seed", type=int, default=0, help="the choice of what goes wrong (a new one)")
    given.add_argument("--seconds", type=float, default=900, help="after which it is given up (900)")
    return given.parse_args()


def main() -> int:
    """Runs the campaign, prints what happened, and returns 1 when something was not as it should be."""
    given = arguments()
    seed = given.seed or random.SystemRandom().randrange(1, 10**6)
    environment.set_up()
    from django.conf import settings
    from django.db import connections

    from . import checks
    from .machines import Redis, Worker
    from .story import Broken, Campaign

    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # of the connections that the simulators cut
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    with environment.running() as pid:
        tell(f"campaign of {given.items} items, seed {seed}, {environment.described()}")
        redis, workers = Redis(pid), [Worker(number, Path(settings.DATA_DIR)) for number in (1, 2)]
        campaign = Campaign(given.items, seed, given.seconds, workers, redis, tell)
        with campaign.served():
            try:
                planned = campaign.plan()
                campaign.worsen()
                campaign.start(planned)
                for worker in workers:
                    worker.start()
                campaign.storm(planned)
                tell("the storm is over")
                campaign.check(planned, ended_well=False)
                campaign.mend(planned)
                tell("what failed was tried once more")
                campaign.check(planned, ended_well=True)
                campaign.change_late(planned)
                campaign.undo(planned)
                for worker in workers:
                    worker.stop()
                checks.of_records(campaign.found)
                checks.of_rest_of_database(campaign.found)
            except Exception as error:
                campaign.found.problems.append(str(error) if isinstance(error, Broken) else traceback.format_exc())
            finally:
                for worker in workers:
                    worker.stop()
            said = [worker.said() for worker in workers]
        redis.stop()
        connections.close_all()
    tell("happened: " + ", ".join(f"{count} {name}" for name, count in sorted(campaign.happened.items())))
    tell("looked at: " + ", ".join(f"{count} {name}" for name, count in sorted(campaign.found.done.items())))
    problems = campaign.found.problems
    if problems:
        print(f"\n{len(problems)} problems (seed {seed}):", *problems[:MOST_PRINTED], *said, sep="\n- ")
    else:
        tell("no number lied, nothing was lost or doubled, and everything came back")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
