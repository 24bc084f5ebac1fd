"""What all measurements share: who asks, the worker that runs all along, and the sizes."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.models import User

from .table import Report


@dataclass
class World:
    """One run of the benchmark."""

    user: User
    worker: int  # process ids
    redis: int
    report: Report
    rounds: int
    latency: float
