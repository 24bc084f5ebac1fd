"""The rows of a job, with names instead of ids, and their pages. Decides nothing and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.explain import said, sentences
from accounts.providers.schema import Op

from . import plans, ticks
from .context import provider_mark
from .item_values import Names, Part, Value
from .job_presenters import LABELS, duration
from .models import NOT_STARTED, Action, Job, JobItem
from .states import REASONS, ItemStatus, counter_of

PAGE_SIZE = 50


@dataclass(slots=True)
class Row:
    """One item as a table shows it."""

    item: JobItem
    mark: dict[str, Any]
    status: str
    label: str | Promise
    before: Value | None
    after: Value | None
    found: Value | None  # what a conflict found in place of `before`
    reason: str
    detail: str
    took: str
    copied_at: datetime | None  # how old our copy is, where the provider was not asked
    tick: bool | None  # in a preview: ticked or not, None where there is no choice
    parts: list[Part]  # the settings that change, one by one


def _planned(job: Job, item: JobItem) -> Value | None:
    """What stands on the right of an item without a target."""
    if item.status in (ItemStatus.SKIPPED, ItemStatus.CANCELLED) or item.target is not None:
        return None
    if job.params.get("generate"):
        return Value(_("the provider's own title"), muted=True)
    return Value(_("from its first message"), muted=True) if job.action == Action.SET_TITLE else None


def reason_of(job: Job, item: JobItem) -> str:
    """Returns what the reason of an item says, "" where there is none; of what a provider cannot do, the provider's own reason."""
    if item.reason == "cannot_be_restored":
        return sentences(*(_(sentence) for sentence in plans.cannot_restore(item.account.provider, item))) or str(REASONS[item.reason])
    if item.reason == "unsupported" and Action(job.action) in plans.OPS:
        op = Op.GENERATE_TITLE if job.params.get("generate") else plans.OPS[Action(job.action)]
        return _(item.account.provider.capability(op).reason) or str(REASONS["unsupported"])
    return str(REASONS.get(item.reason) or (REASONS["provider_error"] if item.reason else ""))


def _row(job: Job, item: JobItem, names: Names) -> Row:
    status = counter_of(ItemStatus(item.status), item.reason)
    draft = job.order in NOT_STARTED
    account = item.account
    conflict = item.status == ItemStatus.CONFLICT
    stored = item.after if item.status in (ItemStatus.APPLIED, ItemStatus.SKIPPED) else None
    took = (item.finished_at - item.started_at).total_seconds() if item.finished_at and item.started_at else None
    copied = item.conversation.seen_at if draft and item.checked_at is None and item.conversation else None
    aim = stored if stored is not None else item.target
    before, found = item.before or item.expected, item.after if conflict else _drift(item)
    after = names.value(account, aim) or _planned(job, item)
    reason, detail = reason_of(job, item), said(item.detail)  # where the provider had no words of its own, the detail is one of our sentences
    if item.reason == "already_there":  # what it has, not what an undo expected to find
        before, after = (item.target or before, None) if job.action == Action.RESTORE else (before, None)
    return Row(
        item=item,
        mark=provider_mark(account),
        status=status,
        label=LABELS[status],
        before=names.value(account, before),
        after=after,
        found=names.value(account, found),
        reason=reason,
        detail="" if detail == reason else detail,
        took=duration(max(0.0, took)) if took is not None else "",
        copied_at=copied,
        tick=True if item.status == ItemStatus.PENDING else False if item.reason in plans.TICKABLE else None,
        parts=names.parts(account, before or {}, {} if after is None else aim or {}, found or {}),
    )


def _drift(item: JobItem) -> dict[str, Any] | None:
    """Returns what our copy holds in place of what an undo expects, where that is known to be something else."""
    if item.reason != "changed_since_job" or item.conversation is None:
        return None
    return {name: value for name, value in item.conversation.values.items() if name in (item.target or {})}


@dataclass(slots=True)
class ItemPage:
    """Some rows of a job, and the addresses before and after them."""

    rows: list[Row]
    newer_url: str
    older_url: str
    info: str


def number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def item_page(job: Job, items: QuerySet[JobItem], given: QueryDict, count: int, keep: str) -> ItemPage:
    """Returns the page of items that `after` or `before` (an ordinal) names; the rows of a page do not jump while their statuses change."""
    after, before = number(given.get("after", "")), number(given.get("before", ""))
    chosen = items.select_related("account", "conversation")
    if before is not None:
        found = list(chosen.filter(ordinal__lt=before).order_by("-ordinal")[: PAGE_SIZE + 1])
        more_before, more_after = len(found) > PAGE_SIZE, True
        found = found[:PAGE_SIZE][::-1]
    else:
        found = list(chosen.filter(ordinal__gt=after or 0).order_by("ordinal")[: PAGE_SIZE + 1])
        more_before, more_after = bool(after), len(found) > PAGE_SIZE
        found = found[:PAGE_SIZE]
    names = Names(found)
    base = f"{reverse('job_detail', args=[job.pk])}?{keep}{'&' if keep else ''}"
    info = ""
    if found and (keep or ticks.removed(job)):  # without the removed ones the numbers have gaps
        info = ngettext("%(count)s conversation", "%(count)s conversations", count) % {"count": f"{count:,}"}
    elif found:
        values = {"first": f"{found[0].ordinal:,}", "last": f"{found[-1].ordinal:,}", "count": f"{count:,}"}
        info = _("%(first)s–%(last)s of %(count)s") % values
    return ItemPage(
        [_row(job, item, names) for item in found],
        f"{base}before={found[0].ordinal}" if found and more_before else "",
        f"{base}after={found[-1].ordinal}" if found and more_after else "",
        info,
    )


def query_of(given: QueryDict, *names: str) -> str:
    """Returns the parameters of a request that belong to its page, as a query text."""
    kept = QueryDict(mutable=True)
    for name in names:
        if given.get(name):
            kept[name] = str(given[name])
    return kept.urlencode()


def with_query(address: str, query: str) -> str:
    return f"{address}?{query}" if query else address
