"""What the page of an account shows of this app's own: the history of what was done there."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.models import Account

from . import audit
from .models import AuditEntry

ENTRIES = 25


@require_GET
def account_history(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What was done through an account, the newest first; `before` names the entry to go on after."""
    account = get_object_or_404(Account.objects.visible_to(request.user), pk=pk)
    entries, before = AuditEntry.objects.filter(account=account), request.GET.get("before", "")
    place = entries.filter(pk=int(before[:18])).first() if before.isascii() and before.isdecimal() else None
    if place is not None:
        entries = entries.filter(at__lte=place.at).filter(Q(at__lt=place.at) | Q(pk__lt=place.pk))
    found = list(entries.order_by("-at", "-pk").select_related("conversation")[: ENTRIES + 1])
    rows = [{"entry": entry, "what": audit.name_of(entry.what)} for entry in found[:ENTRIES]]
    last = found[ENTRIES - 1].pk if len(found) > ENTRIES else None
    return render(request, "accounts/_history.html", {"account": account, "rows": rows, "last": last, "first": place is None})
