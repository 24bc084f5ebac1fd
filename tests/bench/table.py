"""What is printed: the throughput side by side, each bar with what was measured beside it, and notes on the machine."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version


@dataclass
class Report:
    """Collects the lines of one run."""

    throughput: list[str] = field(default_factory=list)
    bars: list[tuple[str, str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tell: Callable[[str], None] = lambda _text: None

    def bar(self, what: str, measured: str, bar: str = "", met: bool | None = None, *, instead: str = "") -> None:
        """Adds a line of the table of bars; `instead` is the verdict where neither pass nor fail says it."""
        verdict = instead or {True: "pass", False: "**fail**", None: "–"}[met]
        self.bars.append((what, measured, bar or "no bar", verdict))
        self.tell(f"{what}: {measured} ({bar or 'no bar'}) {verdict}")

    def rate(self, what: str, who: str, *figures: str) -> None:
        """Adds a line of the table of throughput."""
        self.throughput.append(f"| {what} | {who} | {' | '.join(figures)} |")
        self.tell(f"{what}, {who}: {', '.join(figures)}")

    def note(self, text: str) -> None:
        """Adds a line below the tables."""
        self.notes.append(text)
        self.tell(text)

    def printed(self, database: str, conditions: str) -> str:
        """Returns the whole report in Markdown."""
        names = ("django", "celery", "redis", "httpx", "httpx-aiohttp", "aiohttp", "granian", "psycopg")
        lines = [f"{os.cpu_count()} cores, Python {platform.python_version()}, {database}; {conditions}"]
        lines += [", ".join(f"{name} {version(name)}" for name in names)]
        if self.throughput:
            lines += ["", "| what | who | items/s | ratio | CPU-s per 1,000 | requests per item | memory (PSS) |", "|---|---|---|---|---|---|---|"]
            lines += self.throughput
        lines += ["", "| what | measured | bar | |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in self.bars]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)


def median_and_all(values: Iterable[float], digits: int = 2) -> str:
    """Returns "0.31 (0.29, 0.31, 0.40)": the median and what it is the median of."""
    found = sorted(values)
    shown = ", ".join(f"{value:.{digits}f}" for value in found)
    return f"{statistics.median(found):.{digits}f}" + (f" ({shown})" if len(found) > 1 else "")


def cores(shares: dict[str, float]) -> str:
    """Returns "worker 0.98, simulators 0.31" of a core."""
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())


def percentile(values: Iterable[float], share: float) -> float:
    """Returns the least of the values that this share of all does not exceed."""
    found = sorted(values)
    return found[max(0, math.ceil(share * len(found)) - 1)]
