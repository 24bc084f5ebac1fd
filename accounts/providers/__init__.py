"""The doorway: which providers there are. A provider is a module of this package with one public subclass of Provider."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from .base import Provider


@cache
def _by_key() -> dict[str, type[Provider]]:
    found: dict[str, type[Provider]] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for value in vars(loaded).values():
            declared_here = isinstance(value, type) and issubclass(value, Provider) and value.__module__ == loaded.__name__
            if declared_here and value is not Provider and not value.__name__.startswith("_"):
                found[value.key] = value
    return dict(sorted(found.items(), key=lambda pair: pair[1].name.lower()))


def all_providers() -> tuple[type[Provider], ...]:
    """Returns every provider, sorted by name."""
    return tuple(_by_key().values())


def get_provider(key: str) -> type[Provider]:
    """Returns the provider with this key; raises KeyError for an unknown one."""
    return _by_key()[key]
