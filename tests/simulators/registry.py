"""Finds the simulators: each module of this package with a subclass of Simulator that has a key."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from .kit import Simulator

# The demo's ports follow this order.
ORDER = ("aurod", "modelrouter", "chatnio", "nuwax", "chongzhiling")


def simulators() -> list[type[Simulator]]:
    """Returns every simulator class, the known five first and in their order."""
    found: dict[str, type[Simulator]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name in ("kit", "registry", "__main__"):
            continue
        loaded = importlib.import_module(f"{__package__}.{module.name}")
        for value in vars(loaded).values():
            if isinstance(value, type) and issubclass(value, Simulator) and value.key and value.__module__ == loaded.__name__:
                found[value.key] = value
    return sorted(found.values(), key=lambda kind: (ORDER.index(kind.key) if kind.key in ORDER else len(ORDER), kind.key))


def simulator(key: str) -> type[Simulator]:
    """Returns the simulator of one provider; raises KeyError when it has none."""
    return {kind.key: kind for kind in simulators()}[key]
