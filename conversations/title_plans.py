"""Between the plan of a job and its titles: no two items of an account aim at the same title."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accounts.models import Account

from . import numbering, titles
from .models import Action, Job, JobItem
from .states import ItemStatus

if TYPE_CHECKING:
    from .jobs import Plan


class Distinct:
    """Tells the titles of one account's items of a job apart, first as a whole while it is planned, then where a plan is corrected."""

    def __init__(self, job: Job, account: Account) -> None:
        self.job, self.account = job, account
        self.limit = account.provider.title_field.max_length or 255
        self.numbers = job.action == Action.SET_TITLE and titles.numbers(job.params)
        self._wanted: list[numbering.Wanted] = []
        self._taken: set[str] = set()

    def note(self, pk: int, made: Plan) -> None:
        """Remembers what an item would aim at by itself."""
        wanted = self._of(pk, made)
        if wanted is None:
            return
        if titles.is_left_as_it_is(self.job.params, wanted.title, wanted.now):
            self._taken.add(wanted.now)
        else:
            self._wanted.append(wanted)

    def corrections(self) -> Iterator[tuple[str, str, int]]:
        """Yields (target, reason, item) of every noted item that has to aim at something else."""
        made = numbering.distribute(self._wanted, self._taken)
        for wanted in self._wanted:
            if made[wanted.pk] != wanted.title:
                target = {"title": made[wanted.pk]}
                yield json.dumps(target, ensure_ascii=False), self._reason({"title": wanted.now}, target), wanted.pk

    def settled(self, plans: Iterable[tuple[JobItem, Plan]]) -> dict[int, Plan]:
        """Returns item -> plan for a few items that are planned again, kept apart from all others of the job."""
        found = {item.pk: made for item, made in plans}
        wanted = [one for pk, made in found.items() if (one := self._of(pk, made)) is not None]
        wanted = [one for one in wanted if not titles.is_left_as_it_is(self.job.params, one.title, one.now)]
        if not wanted:
            return found
        old = {item.pk: item.target["title"] for item, _made in plans if item.target and "title" in item.target}
        for pk, title in numbering.settle(self.job.pk, self.account.pk, wanted, old).items():
            target = {"title": title}
            found[pk] = replace(found[pk], target=target, reason=self._reason(found[pk].expected or {}, target))
        return found

    def _of(self, pk: int, made: Plan) -> numbering.Wanted | None:
        if not self.numbers or made.target is None or made.expected is None or made.status != ItemStatus.PENDING:
            return None
        return numbering.Wanted(pk, str(made.target["title"]), str(made.expected["title"] or ""), self.limit)

    def _reason(self, expected: dict[str, Any], target: dict[str, Any]) -> str:
        return "already_there" if self.account.provider.same_value("title", expected.get("title"), target["title"]) else ""
