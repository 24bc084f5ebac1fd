"""The words by which accounts are grouped, and their colour and note."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from . import deeds
from .models import Account, AccountLabel, User

LONGEST = 40
PER_ACCOUNT = 20
# The tones of badges; "" is the usual grey.
COLOURS: dict[str, Any] = {
    "": gettext_lazy("No colour"),
    "blue": gettext_lazy("Blue"),
    "green": gettext_lazy("Green"),
    "yellow": gettext_lazy("Yellow"),
    "orange": gettext_lazy("Orange"),
    "red": gettext_lazy("Red"),
    "purple": gettext_lazy("Purple"),
}


def clean_name(given: str) -> str:
    """Returns a label as it is stored; raises ValidationError for one that cannot be."""
    name = " ".join(given.split())
    if not name or "\0" in name:
        raise ValidationError(_("Give the label a name."))
    if len(name) > LONGEST:
        raise ValidationError(_("A label has at most %(limit)d characters.") % {"limit": LONGEST})
    return name


@transaction.atomic
def add(account: Account, given: str, *, by: User | None = None) -> None:
    """Gives an account a label, once; raises ValidationError for one that cannot be stored, or one too many.

    Without `by` the audit log is not told: then the label is part of something that is told as a whole.
    """
    name = clean_name(given)
    if account.labels.exclude(name=name).count() >= PER_ACCOUNT:
        raise ValidationError(_("An account has at most %(limit)d labels.") % {"limit": PER_ACCOUNT})
    before = _names(account)
    AccountLabel.objects.bulk_create([AccountLabel(account=account, name=name)], ignore_conflicts=True)
    _told(account, before, by)


@transaction.atomic
def remove(account: Account, name: str, *, by: User | None = None) -> None:
    """Takes a label away from an account; `by` as in `add`."""
    before = _names(account)
    account.labels.filter(name=name).delete()
    _told(account, before, by)


def _names(account: Account) -> list[str]:
    return list(AccountLabel.objects.filter(account=account).order_by("name").values_list("name", flat=True))


def _told(account: Account, before: list[str], by: User | None) -> None:
    if by is not None and (now := _names(account)) != before:
        deeds.tell(by, "edit account", account=account, before={"labels": before}, after={"labels": now})


def names_for(user: Any) -> list[str]:
    """Returns the labels of all accounts that a user may see, each once."""
    visible = Account.objects.visible_to(user)
    return list(AccountLabel.objects.filter(account__in=visible).order_by("name").values_list("name", flat=True).distinct())


class AboutForm(forms.ModelForm):
    """Colour and note of an account."""

    colour = forms.ChoiceField(label=gettext_lazy("Colour"), required=False, choices=COLOURS.items)

    class Meta:
        model = Account
        fields = ["colour", "note"]
        widgets = {"note": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, data: Any = None, *, instance: Account) -> None:
        super().__init__(data, instance=instance, label_suffix="")
