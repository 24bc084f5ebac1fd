"""The way through all addresses of the product, whoever added them: every name of the URL configuration with arguments that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import Account
from conversations.models import AuditEntry, Job

FOREIGN = ("admin",)  # Django's own site


@dataclass(slots=True)
class Place:
    """What the addresses of a walk lead to."""

    simulator: Any
    account: Account
    job: Job
    draft: Job
    team: int = 1

    def argument(self, route: str, name: str, kind: str) -> Any:
        """Returns what stands for one part of a route."""
        if kind == "UUIDConverter":
            return self.account.pk
        if kind == "SlugConverter":
            return self.account.provider_key
        if kind == "StringConverter":
            return "json" if name == "kind" else "x"
        if name == "item_pk":
            return self.job.items.values_list("pk", flat=True).first()
        if name == "entry_pk":
            return AuditEntry.objects.filter(result="applied").values_list("pk", flat=True).last()
        if "teams/" in route and name == "pk":
            return self.team
        if "conversations/" in route:
            return self.account.conversations.values_list("pk", flat=True).first()
        return self.job.pk if "jobs/" in route else 1


def patterns(resolver: URLResolver | None = None, before: str = "") -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yields (name, route, converters) of every address with a name."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            if entry.namespace not in FOREIGN:
                yield from patterns(entry, route)
        elif isinstance(entry, URLPattern) and entry.name:
            yield entry.name, route, {name: type(kind).__name__ for name, kind in entry.pattern.converters.items()}


def names() -> list[str]:
    """Returns the names of all addresses."""
    return sorted({name for name, _route, _kinds in patterns()})


def address(place: Place, name: str) -> str:
    """Returns the address of a name, with arguments that lead to something in the place."""
    route, kinds = next((route, kinds) for found, route, kinds in patterns() if found == name)
    return reverse(name, kwargs={part: place.argument(route, part, kind) for part, kind in kinds.items()})


def body(answer: Any) -> str:
    """Returns everything that an answer tells: its headers and its content, streamed or not."""
    content = answer.getvalue() if answer.streaming else answer.content
    return f"{answer.headers}\n{answer.cookies}\n{content.decode('utf-8', 'replace')}"
