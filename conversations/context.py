"""What every page shows around its content: the person's language and theme, the accounts, and what needs attention."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timeuntil
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from accounts import health
from accounts.explain import said
from accounts.models import Account, Health
from accounts.presenters import count_note, provider_mark, state_name

from . import workers
from .models import Job


def around(request: HttpRequest) -> dict[str, Any]:
    """Adds sidebar, banners, language and theme to every page of a signed-in person; fragments pay nothing for what they do not show."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"ui_theme": request.COOKIES.get(settings.THEME_COOKIE_NAME, ""), "ui_language": _language()}
    return {
        "ui_theme": user.theme,
        "ui_language": _language(),
        "sidebar": _Lazy(lambda: _sidebar(request)),
        "banners": _Lazy(lambda: _banners(request)),
    }


def _language() -> str:
    """Returns the language of the page as BCP 47 writes it, which decides the shapes of Chinese characters."""
    return {"zh-hans": "zh-Hans"}.get(get_language() or "", get_language() or "en")


class _Lazy:
    """Computes once, when a template first looks."""

    def __init__(self, compute: Any) -> None:
        self._compute = compute
        self._value: Any = None

    def _get(self) -> Any:
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value

    def __getitem__(self, key: Any) -> Any:
        return self._get()[key]

    def __iter__(self) -> Any:
        return iter(self._get())

    def __len__(self) -> int:
        return len(self._get())


def _sidebar(request: HttpRequest) -> dict[str, Any]:
    present = Count("conversations", filter=Q(conversations__gone_at__isnull=True))
    accounts = list(Account.objects.visible_to(request.user).annotate(count=present))
    chosen = set(request.GET.getlist("account"))
    visible = Job.objects.visible_to(request.user)
    path = request.path
    rows = [
        {
            "id": account.pk,
            "label": account.label,
            "provider_key": account.provider_key,
            **provider_mark(account),
            "count": account.count,
            "count_note": said(count_note(account)),
            "health": "ok" if (state := health.shown(account)) == Health.UNKNOWN else state,
            "health_label": state_name(state),
            "url": f"{reverse('conversation_list')}?account={account.pk}",
            "active": chosen == {str(account.pk)},
        }
        for account in accounts
    ]
    return {
        "nav_active": next((name for name in ("jobs", "accounts", "teams", "audit", "me") if path.startswith(f"/{name}/")), "conversations"),
        "running_jobs": visible.live().count(),
        "for_approval": visible.waiting_for(request.user).count(),
        "accounts": rows,
        "attention": health.needing_attention(Account.objects.visible_to(request.user)).count(),
        "total_count": sum(row["count"] for row in rows),
    }


def _banners(request: HttpRequest) -> list[dict[str, str]]:
    """Returns what a person should know on every page: no worker while work waits, accounts that need a new credential."""
    banners: list[dict[str, str]] = []
    waiting = Job.objects.visible_to(request.user).live().filter(n_pending__gt=0)
    syncing = Account.objects.visible_to(request.user).filter(sync_state="queued")
    if (waiting.exists() or syncing.exists()) and not workers.online():
        banners.append({"level": "danger", "text": _("No worker is online, so nothing in the queue moves. Start one with “make run”.")})
    dead = Account.objects.visible_to(request.user).filter(health=Health.NEEDS_REAUTH)
    for account in dead[:3]:
        mine = account.owner_id == request.user.pk
        banners.append(
            {
                "level": "warning",
                "text": (
                    _("%(account)s: the provider does not accept its credential any more. What is shown is our last copy.")
                    if account.sealed_credentials
                    else _("%(account)s: it was imported and needs its credential.")
                )
                % {"account": account.label},
                "url": reverse("account_edit" if mine else "account_detail", args=[account.pk]),
                "url_text": _("Replace the credential") if mine else _("Open the account"),
            }
        )
    return banners + _expiring(request)


def _expiring(request: HttpRequest) -> list[dict[str, str]]:
    """Returns the accounts whose credential ends soon and still works."""
    now = timezone.now()
    visible = health.needing_attention(Account.objects.visible_to(request.user), now).exclude(health=Health.NEEDS_REAUTH)
    return [
        {
            "level": "info",
            "text": (
                _("%(account)s: its credential has ended by its own account.") % {"account": account.label}
                if health.ended(account, now)
                else _("%(account)s: its credential ends in %(left)s.")
                % {"account": account.label, "left": timeuntil(account.credential_expires_at or now, now)}
            ),
            "url": reverse("account_edit", args=[account.pk]),
            "url_text": _("Replace the credential"),
        }
        for account in visible[:3]
    ]
