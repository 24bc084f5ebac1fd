"""Sharing an account with a team, taking it back, handing it over: its owner's alone."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from . import teams
from .access import find
from .models import Account, AccountShare, Membership, Team, User
from .recent import recently_authenticated
from .team_forms import HandOverForm, ShareForm


def _owned(request: HttpRequest, pk: UUID) -> Account:
    return find(Account.objects.owned_by(request.user), Account.objects.visible_to(request.user), pk=pk)


def context(account: Account, user: User, *, owned: bool) -> dict[str, Any]:
    """Returns what the page of an account shows of its sharing: to its owner all of it, to others through which teams they see it."""
    shares = AccountShare.objects.filter(account=account).select_related("team").order_by("team__name")
    if not owned:
        return {"shares": shares.filter(team__in=Membership.objects.filter(user=user).values("team"))}
    heirs = HandOverForm(account)
    return {
        "shares": shares,
        "share_form": ShareForm(user) if teams.teams_of(user).exists() else None,
        "hand_over_form": heirs if teams.heirs(account).exists() else None,
    }


def _back(account: Account) -> HttpResponse:
    response = redirect("account_detail", account.pk)
    response["Location"] += "#sharing"
    return response


@require_POST
@recently_authenticated
def account_share(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Shares an account with a team of its owner, or changes what the team may do."""
    account, form = _owned(request, pk), ShareForm(cast(User, request.user), request.POST)
    if form.is_valid():
        teams.share(cast(User, request.user), account, form.cleaned_data["team"], form.cleaned_data["level"])
        messages.success(request, _("%(label)s is shared with “%(team)s”.") % {"label": account.label, "team": form.cleaned_data["team"]})
    else:
        messages.error(request, _("Choose one of your teams and what it may do."))
    return _back(account)


@require_POST
@recently_authenticated
def account_unshare(request: HttpRequest, pk: UUID, team_pk: int) -> HttpResponse:
    """Takes an account back from a team; jobs of its members end there."""
    account, team = _owned(request, pk), get_object_or_404(Team, pk=team_pk, shares__account=pk)
    teams.unshare(cast(User, request.user), account, team)
    messages.success(request, _("%(label)s is not shared with “%(team)s” any more.") % {"label": account.label, "team": team.name})
    return _back(account)


@require_POST
@recently_authenticated
def account_hand_over(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Makes somebody of a common team the owner of an account."""
    account = _owned(request, pk)
    form = HandOverForm(account, request.POST)
    try:
        if form.is_valid():
            teams.hand_over(cast(User, request.user), account, form.cleaned_data["to"])
            messages.success(request, _("%(label)s belongs to %(person)s now.") % {"label": account.label, "person": form.cleaned_data["to"]})
            return redirect("account_list")
        messages.error(request, _("An account can only go to somebody in one of your teams."))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    return _back(account)
