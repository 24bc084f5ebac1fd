"""How fresh our copy of each account is: what is being read, what failed and how old the rest is; and whether the list should be shown anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from accounts.access import Rights
from accounts.explain import explain, said, unpack
from accounts.models import Account, Health, SyncState
from accounts.presenters import count_note, provider_mark

WORKING, IDLE = 2, 30  # seconds between two looks


def show(account: Account, rights: Rights) -> dict[str, Any]:
    """Returns the line of one account: state (paused, reading, failing, never or fresh), progress, cause and what is incomplete."""
    progress = account.sync_progress
    failed = unpack(account.cause_detail) if account.health not in (Health.OK, Health.UNKNOWN) else None
    if failed is None and account.sync_state == SyncState.FAILED:
        failed = unpack(str(progress.get("error", "")))
    broken = failed is not None or account.sync_state == SyncState.FAILED
    if account.paused_at:
        state = "paused"
    elif account.is_syncing:
        state = "reading"
    elif broken:
        state = "failing"
    else:
        state = "fresh" if account.synced_at else "never"
    return {
        "account": account,
        "may_edit": rights.may_edit(account.pk),
        "owned": rights.may_own(account),
        "mark": provider_mark(account),
        "state": state,
        "broken": broken and state != "paused",
        "cause": explain(failed) if failed else None,
        "needs_reauth": account.health == Health.NEEDS_REAUTH,
        "listed": progress.get("listed", 0),
        "total": progress.get("total"),
        "note": said(count_note(account)),
    }


def context(request: HttpRequest, accounts: Sequence[Account] | QuerySet[Account]) -> dict[str, Any]:
    """Returns the lines of all accounts, the oldest reading among them, and the address under which the page asks again."""
    rights = Rights(request.user)
    shown = [show(account, rights) for account in accounts]
    reading = [line for line in shown if line["state"] == "reading"]
    read = [line["account"].synced_at for line in shown if line["account"].synced_at]
    since = _since(request)
    arrived = _arrived(request, shown)
    following = {"since": (since if since and not arrived else timezone.now()).isoformat(), "listed": _listed(shown), "first": int(_is_first(shown))}
    return {
        "lines": shown,
        "reading": reading,
        "failing": [line for line in shown if line["broken"] and not line["needs_reauth"]],  # those have a banner on every page
        "refused": [line for line in shown if line["needs_reauth"]],
        "noted": [line for line in shown if line["note"]],
        "oldest": min(read) if len(read) == len(shown) and read else None,
        "arrived": arrived,
        "is_stale": not arrived and since is not None and any(_brought_news(line["account"], since) for line in shown),
        "show_url": request.htmx.current_url_abs_path if request.htmx else "",  # type: ignore[attr-defined]
        "poll_url": f"{reverse('conversation_freshness')}?{urlencode(following)}",
        "every": WORKING if reading else IDLE,
    }


def empty_list(shown: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Returns what to say where there is no conversation at all: none yet, because they are being read, or none at the provider."""
    if any(line["state"] == "reading" for line in shown):
        return {"icon": "refresh", "title": _("Reading the conversations…"), "text": _("They appear here as they are read.")}
    if shown and all(line["broken"] for line in shown):
        return {"icon": "cloud-off", "title": _("Nothing could be read yet"), "text": _("The causes are named above.")}
    if any(line["state"] == "never" for line in shown):
        return {"icon": "clock", "title": _("Not read yet"), "text": _("The first reading of your accounts has not begun.")}
    return {"icon": "inbox", "title": _("No conversations"), "text": _("The accounts hold no conversations.")}


def _since(request: HttpRequest) -> Any:
    try:
        since = parse_datetime(request.GET.get("since", ""))
    except ValueError:
        return None
    return since if since is not None and since.tzinfo is not None else None


def _is_first(shown: Sequence[dict[str, Any]]) -> bool:
    return any(line["state"] == "reading" and line["account"].synced_at is None for line in shown)


def _listed(shown: Sequence[dict[str, Any]]) -> int:
    return sum(line["listed"] for line in shown if line["account"].synced_at is None)


def _arrived(request: HttpRequest, shown: Sequence[dict[str, Any]]) -> bool:
    """True when a first reading has brought rows since the page last looked: then the list follows by itself."""
    if request.GET.get("first") != "1":
        return False
    return not _is_first(shown) or str(_listed(shown)) != request.GET.get("listed")


def _brought_news(account: Account, since: Any) -> bool:
    progress = account.sync_progress
    news = sum(int(progress.get(name) or 0) for name in ("new", "changed", "gone"))
    return account.synced_at is not None and account.synced_at > since and news > 0
