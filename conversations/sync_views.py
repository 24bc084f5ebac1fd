"""Reading an account's conversations, asked for, cancelled and watched from the pages of accounts."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import trigger_client_event

from accounts.access import find
from accounts.models import Account
from accounts.views import CHANGED, show
from config.htmx import hx_toast

from . import honesty, mirror, wake


def _editable(request: HttpRequest, pk: UUID) -> Account:
    return find(Account.objects.editable_by(request.user), Account.objects.visible_to(request.user), pk=pk)


@require_POST
def account_sync(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Asks a worker to read an account now; asked twice, it is read once."""
    account = _editable(request, pk)
    if account.paused_at:
        return hx_toast(HttpResponse(status=409), _("%(label)s is paused; resume it first.") % {"label": account.label}, "warning")
    if mirror.request_sync(account):
        wake.sync(account.pk)
    return show(request, account)


@require_POST
def account_sync_cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Stops a reading after the page it is at; what was read stays."""
    account = _editable(request, pk)
    mirror.cancel_sync(account)
    return show(request, account)


@require_GET
def account_sync_progress(request: HttpRequest, pk: UUID) -> HttpResponse:
    """How far a reading is; asked every second while it runs. Its end is told to the page, whose counts then follow."""
    account = get_object_or_404(Account.objects.visible_to(request.user), pk=pk)
    response = show(request, account)
    return response if account.is_syncing else trigger_client_event(response, CHANGED, {})


@require_GET
def account_writes(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What became of the writes of the last weeks; a part of the account's page."""
    account = get_object_or_404(Account.objects.visible_to(request.user), pk=pk)
    return render(request, "accounts/_writes.html", {"writes": honesty.writes_of(account), "days": honesty.DAYS})
