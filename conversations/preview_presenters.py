"""What a preview shows: groups that add up to the selection, by account, and a page of its items. Decides nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from accounts.models import Account, Health
from accounts.providers.schema import Op

from . import expiry, jobs, ticks, workers
from .context import provider_mark
from .job_presenters import Tab, duration
from .models import Action, Job, JobItem
from .row_presenters import item_page, query_of
from .states import ItemStatus

STALLED = timedelta(seconds=15)  # a preview of which nothing was read for so long is not being checked any more
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
    query = query_of(given, "group", "after", "before")
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
