"""What the pages of jobs show: rows with names instead of ids, tabs with counts, sentences. Decides nothing and writes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from accounts.explain import said, sentences
from accounts.models import Account, Health, User
from accounts.providers.schema import Op

from . import canary, canary_presenters, expiry, jobs, plans, progress, retention, ticks, undo, workers
from .context import provider_mark
from .item_values import Names, Part, Value
from .models import COUNTERS, NOT_STARTED, Action, Job, JobItem, JobState, Order
from .states import REASONS, ItemStatus, counter_of

PAGE_SIZE = 50
STALLED = timedelta(seconds=15)  # a preview of which nothing was read for so long is not being checked any more
MAIN = ("applied", "unchanged", "not_applied", "failed", "unknown")  # always shown, the others when there are any
SHOWN = (*MAIN, "conflict", "skipped", "cancelled", "waiting", "running", "pending")
LABELS: dict[str, str | Promise] = {**{status.value: status.label for status in ItemStatus}, "unknown": gettext_lazy("Unknown")}
STATUS_FILTERS: dict[str, Q] = {
    **{status.value: Q(status=status) for status in ItemStatus},
    "failed": Q(status=ItemStatus.FAILED) & ~Q(reason="outcome_unknown"),
    "unknown": Q(status=ItemStatus.FAILED, reason="outcome_unknown"),
}
GROUP_LABELS: dict[str, tuple[Any, str]] = {  # label, and the colour of a status
    "change": (gettext_lazy("Will change"), "running"),
    "reading": (gettext_lazy("First message not read yet"), "waiting"),
    "unchanged": (gettext_lazy("Already there"), "unchanged"),
    "drifted": (gettext_lazy("Changed since then"), "conflict"),
    "unsupported": (gettext_lazy("Not possible"), "skipped"),
    "gone": (gettext_lazy("Gone at the provider"), "cancelled"),
    "other": (gettext_lazy("Left out"), "conflict"),
}
TICKED_GROUPS = ("change", "reading", "unchanged", "drifted")


# --- small things -------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tab:
    """One filter of the items: what it shows, how many, where it leads."""

    key: str
    label: str | Promise
    count: int
    css: str
    url: str
    active: bool


def segments(job: Job) -> list[dict[str, Any]]:
    """Returns the parts of a job's bar; those without items are left out, and while it runs what its preview left out."""
    counts = job.counts
    if job.open:
        counts["skipped"] -= progress.left_out(job)
    return [{"label": LABELS[name], "count": count, "css": name} for name in SHOWN if (count := counts[name])]


def counted(job: Job) -> str:
    """Returns the counts that are not zero as one text, such as "124 applied, 176 not started"."""
    texts = {
        "applied": _("%(count)s applied"),
        "unchanged": _("%(count)s no change"),
        "not_applied": _("%(count)s accepted but not applied"),
        "failed": _("%(count)s failed"),
        "unknown": _("%(count)s unknown"),
        "conflict": _("%(count)s changed meanwhile"),
        "skipped": _("%(count)s skipped"),
        "cancelled": _("%(count)s not started"),
        "waiting": _("%(count)s waiting"),
        "running": _("%(count)s running"),
        "pending": _("%(count)s pending"),
    }
    parts = [texts[name] % {"count": f"{job.counts[name]:,}"} for name in SHOWN if job.counts[name]]
    return pgettext("between counts", ", ").join(parts)


def sentence(job: Job) -> str:
    """Returns where a job stands, as one truthful sentence."""
    values = {"counts": counted(job)}
    state = job.state
    if state == JobState.CANCELLED:
        return _("Cancelled: %(counts)s.") % values
    if state in (JobState.DONE, JobState.DONE_WITH_FAILURES):
        decide = ngettext("%(count)s needs a decision.", "%(count)s need a decision.", job.n_conflict) % {"count": f"{job.n_conflict:,}"}
        return sentences(_("Done: %(counts)s.") % values, decide if job.n_conflict else "")
    done, total = progress.done_of(job)
    return _("%(done)s of %(total)s done") % {"done": f"{done:,}", "total": f"{total:,}"}


def spoken(job: Job, *, offline: bool = False) -> str:
    """Returns what a screen reader hears of the progress."""
    if not job.open:
        return sentence(job)
    parts = [sentence(job)]
    if job.problems:
        parts.append(_("%(count)s with problems") % {"count": f"{job.problems:,}"})
    if offline:
        parts.append(_("no worker is online"))
    return pgettext("between counts", ", ").join(parts)


def duration(seconds: float) -> str:
    """Returns a span of time in words that are short enough for a table: 0.4 s, 12 s, 3 min, 2 h."""
    if seconds < 10:
        return _("%(n)s s") % {"n": f"{max(seconds, 0.1):.1f}"}
    if seconds < 100:
        return _("%(n)s s") % {"n": round(seconds)}
    if seconds < 6000:
        return _("%(n)s min") % {"n": round(seconds / 60)}
    return _("%(n)s h") % {"n": round(seconds / 3600)}


# --- rows ---------------------------------------------------------------------------------------------------------------------------


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


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def item_page(job: Job, items: QuerySet[JobItem], given: QueryDict, count: int, keep: str) -> ItemPage:
    """Returns the page of items that `after` or `before` (an ordinal) names; the rows of a page do not jump while their statuses change."""
    after, before = _number(given.get("after", "")), _number(given.get("before", ""))
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


def _query(given: QueryDict, *names: str) -> str:
    """Returns the parameters of a request that belong to its page, as a query text."""
    kept = QueryDict(mutable=True)
    for name in names:
        if given.get(name):
            kept[name] = str(given[name])
    return kept.urlencode()


def _with(address: str, query: str) -> str:
    return f"{address}?{query}" if query else address


# --- the running or ended job -------------------------------------------------------------------------------------------------------


def waits(job: Job, user: User) -> list[dict[str, Any]]:
    """Returns for which accounts, and why, items of a job wait for a person, and whether only a new credential helps, which this one may paste."""
    if not job.n_waiting:
        return []
    waiting = job.shown.filter(status=ItemStatus.WAITING).exclude(reason__in=canary.HELD)
    rows = waiting.order_by().values("account_id", "reason").annotate(count=Count("pk"))
    accounts = Account.objects.in_bulk({row["account_id"] for row in rows})
    owned = set(Account.objects.owned_by(user).filter(pk__in=accounts).values_list("pk", flat=True))
    return [
        {
            "account": accounts[row["account_id"]],
            "count": row["count"],
            "reason": REASONS.get(row["reason"], ""),
            "locked": row["reason"] == "account_needs_reauth",
            "owned": row["account_id"] in owned,
        }
        for row in rows
    ]


def live_context(job: Job, given: QueryDict, user: User) -> dict[str, Any]:
    """Returns the context of a started job: its numbers from its own row, and one page of its items."""
    status = given.get("status", "")
    status = status if status in COUNTERS else ""
    detail = reverse("job_detail", args=[job.pk])
    names = [name for name in SHOWN if name in MAIN or job.counts[name] or name == status]
    tabs = [Tab("", _("All"), job.total, "", detail, not status)]
    tabs += [Tab(name, LABELS[name], job.counts[name], name, f"{detail}?status={name}", name == status) for name in names]
    items = job.shown.filter(STATUS_FILTERS[status]) if status else job.shown.all()
    per_minute = round(jobs.pace(job) or 0) if job.is_live else 0
    query = _query(given, "status", "after", "before")
    stuck = job.n_pending + job.n_running  # those under way too: nobody is left to take them over
    offline = job.is_live and stuck > 0 and not workers.online()
    return {
        "job": job,
        "tabs": tabs,
        "chosen": status,
        "page": item_page(job, items, given, job.counts[status] if status else job.total, f"status={status}" if status else ""),
        "segments": segments(job),
        "sentence": sentence(job),
        "spoken": spoken(job, offline=offline),
        "percent": progress.percent(job),
        "per_minute": per_minute,
        "eta": duration(eta) if (eta := jobs.eta_seconds(job, per_minute)) is not None else "",
        "took": duration((job.finished_at - job.started_at).total_seconds()) if job.finished_at and job.started_at else "",
        "undoable": undo.undoable(job),
        "retryable": job.n_failed + job.n_unknown + job.n_not_applied,
        "waits": waits(job, user),
        "trials": canary_presenters.trial_rows(job),
        "kept_until": retention.kept_until(job),
        "again_key": secrets.token_hex(16),
        "undo_key": secrets.token_hex(16),
        "offline": offline,
        "stuck": stuck,
        "last_worker": workers.last_seen() if offline else None,
        "query": query,
        "poll_url": _with(detail, query),
    }


# --- the preview --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Share:
    """One account's part of a preview: its groups, what it aims at, and why nothing is being read there, if so."""

    account: Account
    mark: dict[str, Any]
    groups: dict[str, int]
    unchecked: int
    checked: int
    checked_at: datetime | None
    target: str
    hindrance: str
    unticked: int  # left out by the rules or by a person, and may be ticked again

    @property
    def total(self) -> int:
        """Conversations of this account."""
        return sum(self.groups.values())

    @property
    def changes(self) -> int:
        """How many of them would be changed."""
        return self.groups["change"] + self.groups["reading"]


def shares(job: Job) -> list[Share]:
    """Returns a preview's groups by account, with one query over the items."""
    counts = {name: Count("pk", filter=condition) for name, condition in jobs.GROUPS.items()}
    unchecked = Count("pk", filter=Q(status=ItemStatus.PENDING, checked_at__isnull=True))
    aggregates: dict[str, Any] = counts | {
        "unchecked": unchecked,
        "checked": Count("checked_at"),
        "last": Max("checked_at"),
        "unticked": Count("pk", filter=ticks.UNTICKED),
    }
    rows: Any = list(job.shown.order_by().values("account_id").annotate(**aggregates))
    accounts = Account.objects.in_bulk([row["account_id"] for row in rows])
    found = []
    for row in rows:
        account = accounts[row["account_id"]]
        able = job.action == Action.SWITCH_MODEL and account.provider.capability(Op.SWITCH_MODEL).available
        model = jobs.chosen_model(job, account) if able else ""
        name = account.catalogue.filter(model_id=model).values_list("name", flat=True).first() if model else ""
        groups = {name: row[name] for name in jobs.GROUPS}
        target, hindrance = name or model, _hindrance(account)
        found.append(
            Share(account, provider_mark(account), groups, row["unchecked"], row["checked"], row["last"], target, hindrance, row["unticked"])
        )
    return sorted(found, key=lambda share: (-share.changes, share.account.label))


def _hindrance(account: Account) -> str:
    if account.paused_at:
        return _("the account is paused")
    return str(account.get_health_display()) if account.health in (Health.NEEDS_REAUTH, Health.UNREACHABLE, Health.RATE_LIMITED) else ""


def chosen_items(job: Job, group: str) -> QuerySet[JobItem]:
    """Returns the items of one group of a preview, all of them for no group."""
    return job.shown.filter(jobs.GROUPS[group]) if group in jobs.GROUPS else job.shown.all()


def by_provider(found: Iterable[Share]) -> str:
    """Returns what would change as counts by provider and account: "120 at aurod (Shop 100, Research 20) · 31 at Nuwax (Helpdesk 31)"."""
    providers: dict[str, list[Share]] = {}
    for share in found:
        if share.changes:
            providers.setdefault(share.account.provider.name, []).append(share)
    texts = []
    for name, own in providers.items():
        each = pgettext("between counts", ", ").join(f"{share.account.label} {share.changes:,}" for share in own)
        values = {"provider": name, "count": f"{sum(share.changes for share in own):,}", "accounts": each}
        texts.append(_("%(count)s at %(provider)s (%(accounts)s)") % values)
    return " · ".join(texts)


def preview_context(job: Job, given: QueryDict) -> dict[str, Any]:
    """Returns the context of a planned draft: groups that add up to the selection, and one page of its items."""
    found = shares(job)
    totals = {name: sum(share.groups[name] for share in found) for name in jobs.GROUPS}
    total, unchecked = sum(totals.values()), sum(share.unchecked for share in found)
    changes = totals["change"] + totals["reading"]
    group = given.get("group", "")
    group = group if group in jobs.GROUPS else ""
    detail = reverse("job_detail", args=[job.pk])
    tabs = [Tab("", _("All"), total, "", detail, not group)]
    for name, (label, css) in GROUP_LABELS.items():
        if totals[name] or name == "change" or name == group:
            tabs.append(Tab(name, label, totals[name], css, f"{detail}?group={name}", name == group))
    items = chosen_items(job, group)
    unticked = sum(share.unticked for share in found)
    ticked = sum(totals[name] for name in TICKED_GROUPS)
    lately = max((at for at in [job.planned_at, *(share.checked_at for share in found)] if at), default=None)
    stalled = bool(unchecked) and (lately is None or timezone.now() - lately > STALLED)
    query = _query(given, "group", "after", "before")
    poll = QueryDict(query, mutable=True)
    poll["bar"] = "1" if changes else "0"
    offline = bool(unchecked) and not workers.online()
    return {
        "job": job,
        "shares": found,
        "tabs": tabs,
        "chosen": group,
        "page": item_page(job, items, given, totals[group] if group else total, f"group={group}" if group else ""),
        "segments": [{"label": label, "count": totals[name], "css": css} for name, (label, css) in GROUP_LABELS.items() if totals[name]],
        "total": total,
        "changes": changes,
        "by_provider": by_provider(found),
        "stuck": totals["unsupported"] + totals["gone"] + totals["other"] - unticked,
        "tickable": (ticked or unticked) if not group else unticked if group == "other" else group in TICKED_GROUPS and totals[group],
        "all_ticked": group in TICKED_GROUPS or not (group or unticked),
        "outlived": [(one, duration(one.needs.total_seconds()), duration(one.left.total_seconds())) for one in expiry.outlived(found)],
        "confirm": changes > jobs.CONFIRM_ABOVE,
        "unchecked": unchecked,
        "checked": sum(share.checked for share in found),
        "readable": sum(share.checked for share in found) + unchecked,
        "stalled": stalled,
        "hindered": [share for share in found if share.unchecked and share.hindrance],
        "offline": offline,
        "last_worker": workers.last_seen() if offline else None,
        "query": query,
        "poll_query": poll.urlencode(),
        "poll_url": f"{detail}?{poll.urlencode()}",
        "poll_every": "" if not unchecked else "5s" if stalled else "1s",
    }


# --- the list -----------------------------------------------------------------------------------------------------------------------


TABS = ("running", "approval", "previews", "finished")


def _list_row(job: Job) -> dict[str, Any]:
    at = job.finished_at or job.started_at or job.created_at
    selected = ngettext("%(count)s conversation", "%(count)s conversations", job.total) % {"count": f"{job.total:,}"}
    counts = selected if job.order in NOT_STARTED else counted(job)
    return {"job": job, "segments": segments(job), "sentence": sentence(job), "counts": counts, "at": at, "kept_until": retention.kept_until(job)}


def list_context(visible: QuerySet[Job], given: QueryDict) -> dict[str, Any]:
    """Returns the context of the list of jobs: one tab of it, newest first."""
    sets = {
        "running": visible.live(),  # type: ignore[attr-defined]
        "approval": visible.filter(order=Order.ASK),
        "previews": visible.filter(order=Order.DRAFT),
        "finished": visible.filter(finished_at__isnull=False),
    }
    counts = {name: rows.count() for name, rows in sets.items()}
    chosen = given.get("tab", "")
    if chosen not in TABS:
        chosen = next((name for name in ("running", "approval", "finished", "previews") if counts[name]), "running")
    shown = [name for name in TABS if name != "approval" or counts[name] or name == chosen]
    labels = {"running": _("Running"), "approval": _("Needs approval"), "previews": _("Previews"), "finished": _("Finished")}
    address = reverse("job_list")
    before = _number(given.get("before", ""))
    rows = sets[chosen].select_related("actor")
    found = list((rows.filter(pk__lt=before) if before else rows).order_by("-pk")[: PAGE_SIZE + 1])
    query = _query(given, "before")
    return {
        "tabs": [Tab(name, labels[name], counts[name], "", f"{address}?tab={name}", name == chosen) for name in shown],
        "chosen": chosen,
        "any": any(counts.values()),
        "jobs": [_list_row(job) for job in found[:PAGE_SIZE]],
        "newest_url": f"{address}?tab={chosen}" if before else "",
        "older_url": f"{address}?tab={chosen}&before={found[PAGE_SIZE - 1].pk}" if len(found) > PAGE_SIZE else "",
        "live": any(job.is_live for job in found) if chosen == "running" else bool(counts["running"]),
        "poll_url": f"{address}?tab={chosen}{'&' if query else ''}{query}",
    }
