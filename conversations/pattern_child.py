"""Runs as a process of its own: replaces a regular expression in titles, each within a time limit. Imports nothing but the standard library.

Reads one JSON document from standard input and writes one: {"titles": [text, or null where the time ran out]}, or {"error": field, "cause", "place"}.
"""

import contextlib
import json
import re
import signal
import sys
import time
import warnings

MEMORY = 512 * 1024 * 1024
LONGEST = 10_000  # characters of a result; it is cut to the provider's limit anyway


class TooSlow(Exception):
    """The time for one step is over."""


def _ring(_number: int, _frame: object) -> None:
    raise TooSlow


def main(given: dict) -> dict:
    """Returns the answer to one document; the alarm interrupts a match, because the matcher looks for signals now and then."""
    signal.signal(signal.SIGALRM, _ring)
    warnings.simplefilter("ignore")
    field = "find"
    try:
        signal.setitimer(signal.ITIMER_REAL, given["limit"])
        pattern = re.compile(given["find"])
        field = "replace"
        pattern.sub(given["replace"], "")  # reads the replacement, whether or not anything is found
    except (TooSlow, MemoryError):
        if field == "find":
            return {"error": "find", "cause": "slow", "place": None}
    except (re.error, IndexError, ValueError, OverflowError, RecursionError) as error:
        return {"error": field, "cause": str(getattr(error, "msg", "") or error), "place": getattr(error, "pos", None)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    made = []
    ends = time.monotonic() + given["total"]
    for title in given["titles"]:
        try:
            if time.monotonic() > ends:
                raise TooSlow
            signal.setitimer(signal.ITIMER_REAL, given["limit"])
            made.append(pattern.sub(given["replace"], title)[:LONGEST])
        except (TooSlow, MemoryError):
            made.append(None)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return {"titles": made}


if __name__ == "__main__":
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    json.dump(main(json.load(sys.stdin)), sys.stdout)
