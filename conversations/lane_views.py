"""The pages of lanes and incidents, and what one may do with a lane: pause it, let it go on, change its pace."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import trigger_client_event

from accounts import deeds, services
from accounts.access import find
from accounts.forms import PaceForm
from accounts.models import Account, User
from config.htmx import hx_toast, render_page_or_fragment, safe_next, wants_fragment

from . import incidents, lane_board

CHANGED = "lanes-changed"  # the page's event after which a board is read again


def _me(request: HttpRequest) -> User:
    """Who asks; nobody gets here without having signed in."""
    return cast(User, request.user)


def _owned(request: HttpRequest, pk: UUID) -> Account:
    return find(Account.objects.owned_by(_me(request)), Account.objects.visible_to(_me(request)), pk=pk)


def _done(request: HttpRequest, text: str, *events: str) -> HttpResponse:
    """Says what was done; the board that is open reads itself again."""
    if not wants_fragment(request):
        return redirect(safe_next(request))
    response = hx_toast(HttpResponse(status=204), text)
    for event in (CHANGED, *events):
        trigger_client_event(response, event)
    return response


@require_safe
def lane_list(request: HttpRequest) -> HttpResponse:
    """Every account with work, over all jobs that one may see, and the workers."""
    return render_page_or_fragment(request, "jobs/lanes.html", "jobs/_lanes_page.html", lane_board.page_context(_me(request)))


@require_POST
def lane_pause(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Nothing is read or written through the account until it is resumed."""
    account = _owned(request, pk)
    services.pause_account(account, by=_me(request))
    return _done(request, _("%(label)s is paused: what is under way ends, nothing new begins.") % {"label": account.label}, "accounts-changed")


@require_POST
def lane_resume(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The account goes on with what waited for it."""
    account = _owned(request, pk)
    services.resume_account(account, by=_me(request))
    return _done(request, _("%(label)s goes on.") % {"label": account.label}, "accounts-changed")


@require_http_methods(["GET", "HEAD", "POST"])
def lane_pace(request: HttpRequest, pk: UUID) -> HttpResponse:
    """How fast the account may work; a lane that is at work begins its next conversation with it."""
    account = _owned(request, pk)
    form = PaceForm(request.POST if request.method == "POST" else None, instance=account)
    if request.method == "POST" and form.is_valid():
        deeds.change(account, "set pace", form.cleaned_data, _me(request))
        return _done(request, _("The new pace holds from the next conversation on."), "dialog-close")
    if not wants_fragment(request) and request.method != "POST":
        return redirect("account_detail", account.pk)
    return render(request, "jobs/_lane_pace.html", {"account": account, "form": form}, status=422 if form.errors else 200)


@require_safe
def incident_list(request: HttpRequest) -> HttpResponse:
    """Open and past incidents at hosts where one sees an account."""
    return render(request, "jobs/incidents.html", incidents.list_context(_me(request)))


@require_safe
def incident_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """What happened at a host, and what it held up; polled while it is open."""
    incident = get_object_or_404(incidents.visible_to(_me(request)), pk=pk)
    return render_page_or_fragment(request, "jobs/incident.html", "jobs/_incident.html", incidents.context(incident, _me(request)))
