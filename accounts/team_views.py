"""The pages of teams: members, roles, invitations; and the page that an invitation's link opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from . import teams
from .adapter import INVITATION
from .models import MANAGING, Membership, Role, Team, User
from .recent import recently_authenticated
from .team_forms import InvitationForm, LimitsForm, TeamForm


def _me(request: HttpRequest) -> User:
    return cast(User, request.user)


def _team(request: HttpRequest, pk: int, *roles: str) -> tuple[Team, str]:
    """Returns a team of the reader and the reader's role; Http404 for a stranger, PermissionDenied without one of the roles."""
    team = get_object_or_404(teams.teams_of(_me(request)), pk=pk)
    mine = teams.role_of(_me(request), team)
    if roles and mine not in roles:
        raise PermissionDenied
    return team, mine


def _carried_out(request: HttpRequest, change: Callable[[], Any], done: str) -> bool:
    """Carries a change out and says so, or says why not."""
    try:
        change()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return False
    messages.success(request, done)
    return True


@require_http_methods(["GET", "HEAD", "POST"])
def team_list(request: HttpRequest) -> HttpResponse:
    """The teams that one is in, and a form for a new one."""
    form = TeamForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            return redirect("team_detail", teams.create(_me(request), form.cleaned_data["name"]).pk)
        except ValidationError as error:
            form.add_error(None, error)
    mine = Membership.objects.filter(user=_me(request), team__personal=False).select_related("team").order_by("team__name")
    return render(request, "teams/list.html", {"memberships": mine, "form": form}, status=422 if form.errors else 200)


@require_safe
def team_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Members, shared accounts, and for who may the invitations and the settings."""
    team, mine = _team(request, pk)
    return _page(request, team, mine)


def _page(
    request: HttpRequest,
    team: Team,
    mine: str,
    form: InvitationForm | None = None,
    *,
    limits_form: LimitsForm | None = None,
    link: str = "",
    status: int = 200,
) -> HttpResponse:
    given = {role.value for role in teams.grantable(mine)}
    rows = [{"member": member, "may_change": member.role in given} for member in team.membership_set.select_related("user").order_by("user__email")]
    context = {
        "team": team,
        "mine": mine,
        "role": Role(mine).label,
        "rows": rows,
        "roles": teams.grantable(mine),
        "shares": team.shares.select_related("account__owner").order_by("account__label"),
        "is_owner": mine == Role.OWNER,
        "may_invite": mine in MANAGING,
        "form": form or InvitationForm(mine),
        "rename_form": TeamForm(initial={"name": team.name}),
        "limits_form": limits_form or LimitsForm(team),
        "invitations": teams.pending(team) if mine in MANAGING else [],
        "link": link,
        "days": teams.INVITATION_DAYS,
    }
    return render(request, "teams/detail.html", context, status=status)


@sensitive_variables("secret")
@require_POST
@recently_authenticated
def team_invite(request: HttpRequest, pk: int) -> HttpResponse:
    """Makes a link; this answer alone shows it, for its secret is not stored."""
    team, mine = _team(request, pk, *MANAGING)
    form = InvitationForm(mine, request.POST)
    if form.is_valid():
        try:
            _invitation, secret = teams.invite(_me(request), team, form.cleaned_data["role"], form.cleaned_data["email"])
            return _page(request, team, mine, link=request.build_absolute_uri(reverse("invitation", args=[secret])))
        except ValidationError as error:
            form.add_error(None, error)
    return _page(request, team, mine, form, status=422)


@require_POST
def team_revoke(request: HttpRequest, pk: int, invitation_pk: int) -> HttpResponse:
    """Makes a link useless."""
    team, _mine = _team(request, pk, *MANAGING)
    teams.revoke(_me(request), team, invitation_pk)
    return redirect("team_detail", pk)


@require_POST
def team_rename(request: HttpRequest, pk: int) -> HttpResponse:
    """Gives a team another name."""
    team, _mine = _team(request, pk, Role.OWNER)
    _carried_out(request, lambda: teams.rename(_me(request), team, request.POST.get("name", "")), _("Saved."))
    return redirect("team_detail", pk)


@require_POST
def team_limits(request: HttpRequest, pk: int) -> HttpResponse:
    """Says how many conversations a job of an operator or an admin may change before a second person has to approve it."""
    team, mine = _team(request, pk, Role.OWNER)
    form = LimitsForm(team, request.POST)
    if form.is_valid():
        try:
            teams.set_limits(_me(request), team, **form.cleaned_data)
            messages.success(request, _("Saved."))
            return redirect("team_detail", pk)
        except ValidationError as error:
            form.add_error(None, error)
    return _page(request, team, mine, limits_form=form, status=422)


@require_POST
@recently_authenticated
def team_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Deletes a team; the accounts stay with their owners."""
    team, _mine = _team(request, pk, Role.OWNER)
    _carried_out(request, lambda: teams.delete(_me(request), team), _("The team “%(team)s” is deleted.") % {"team": team.name})
    return redirect("team_list")


@require_POST
@recently_authenticated
def team_role(request: HttpRequest, pk: int, user_pk: int) -> HttpResponse:
    """Gives a member another role."""
    team, _mine = _team(request, pk, *MANAGING)
    user = get_object_or_404(User, pk=user_pk, membership__team=team)
    _carried_out(request, lambda: teams.set_role(_me(request), team, user, request.POST.get("role", "")), _("Saved."))
    return redirect("team_detail", pk)


@require_http_methods(["GET", "HEAD", "POST"])
@recently_authenticated(methods=["POST"])
def team_remove(request: HttpRequest, pk: int, user_pk: int) -> HttpResponse:
    """Asks, then takes a member out of a team, or lets one leave; what they had shared with it is named before."""
    team, mine = _team(request, pk)
    user = get_object_or_404(User, pk=user_pk, membership__team=team)
    leaving = user.pk == _me(request).pk
    if not leaving and teams.role_of(user, team) not in teams.grantable(mine):
        raise PermissionDenied
    if request.method == "POST":
        done = _("You have left “%(team)s”.") if leaving else _("%(person)s is not in “%(team)s” any more.")
        done = done % {"team": team.name, "person": user}
        gone = _carried_out(request, lambda: teams.remove(_me(request), team, user), done)
        return redirect("team_list") if gone and leaving else redirect("team_detail", pk)
    context = {"team": team, "person": user, "leaving": leaving, "accounts": teams.shared_and_own(user, team)}
    return render(request, "teams/remove.html", context)


# --- the link -----------------------------------------------------------------------------------------------------------------------


@login_not_required
@never_cache
@sensitive_variables("secret")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """What a link opens: a question to who is signed in, the ways in for everybody else. Only a POST joins."""
    user = request.user if request.user.is_authenticated else None
    try:
        found = teams.find_invitation(secret, user)
        if request.method == "POST" and user is not None:
            team = teams.accept(user, secret)
            request.session.pop(INVITATION, None)
            messages.success(request, _("You are in “%(team)s” now.") % {"team": team.name})
            return redirect("team_detail", team.pk)
    except teams.InvitationInvalid as invalid:
        request.session.pop(INVITATION, None)
        response = render(request, "teams/invalid.html", {"code": invalid.code}, status=410)
        response._has_been_logged = True  # type: ignore[attr-defined]  # Django's line would hold the secret, which may still open for another
        return response
    if user is None:
        request.session[INVITATION] = found.digest  # opens the sign-up
    member = user is not None and teams.role_of(user, found.team) != ""
    return render(request, "teams/invitation.html", {"invitation": found, "path": request.path, "is_member": member})
