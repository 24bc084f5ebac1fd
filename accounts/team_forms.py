"""The forms of teams, invitations and sharing; what they offer is what their user may give."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from . import teams
from .models import Account, ShareLevel, Team, User


class TeamForm(forms.Form):
    """The name of a team."""

    name = forms.CharField(label=_("Name"), max_length=150)


class InvitationForm(forms.Form):
    """The role that a link gives, and whom it is for."""

    role = forms.ChoiceField(label=_("Role"))
    email = forms.EmailField(label=_("E-mail address"), required=False, help_text=_("When given, only this person can use the link."))

    def __init__(self, mine: str, data: Any = None) -> None:
        super().__init__(data, initial={"role": "operator"}, auto_id="invite_%s")
        self.fields["role"].choices = [(role.value, role.label) for role in teams.grantable(mine)]  # type: ignore[attr-defined]


class ShareForm(forms.Form):
    """With which of one's teams an account is shared, and what they may do."""

    team = forms.ModelChoiceField(label=_("Team"), queryset=Team.objects.none(), empty_label=None)
    level = forms.ChoiceField(label=_("Access"), choices=ShareLevel.choices)

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data, initial={"level": ShareLevel.USE}, auto_id="share_%s")
        self.fields["team"].queryset = teams.teams_of(user).order_by("name")  # type: ignore[attr-defined]


class HandOverForm(forms.Form):
    """Who is to own an account."""

    to = forms.ModelChoiceField(label=_("New owner"), queryset=User.objects.none(), empty_label=None)

    def __init__(self, account: Account, data: Any = None) -> None:
        super().__init__(data, auto_id="hand_over_%s")
        self.fields["to"].queryset = teams.heirs(account)  # type: ignore[attr-defined]


class LimitsForm(forms.Form):
    """Up to how many conversations one job of a role may change without the approval of a second person; nothing for any number."""

    operator_limit = forms.IntegerField(label=_("Operators, conversations in one job"), required=False, min_value=1, max_value=teams.MOST_ROWS)
    admin_limit = forms.IntegerField(label=_("Admins, conversations in one job"), required=False, min_value=1, max_value=teams.MOST_ROWS)

    def __init__(self, team: Team, data: Any = None) -> None:
        initial = {"operator_limit": team.operator_limit, "admin_limit": team.admin_limit}
        super().__init__(data, initial=initial, auto_id="limits_%s")
        for field in self.fields.values():
            field.widget.attrs["placeholder"] = _("no limit")
