"""The filter of the audit log; all of it is in the address."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Account

from . import audit
from .forms import DayField
from .models import Result
from .querysets import AuditQuerySet

_JOB = re.compile(r"(?:job:)?\s*(?:J-)?([0-9]{1,18})", re.IGNORECASE)


class NumberField(forms.CharField):
    """A number as pages show it; `pattern` finds its digits."""

    def __init__(self, pattern: re.Pattern[str], wrong: Any, **given: Any) -> None:
        super().__init__(required=False, max_length=40, **given)
        self._pattern, self._wrong = pattern, wrong

    def clean(self, value: Any) -> int | None:
        """Returns the number, None for nothing."""
        text = super().clean(value)
        found = self._pattern.fullmatch(text) if text else None
        if text and found is None:
            raise forms.ValidationError(self._wrong)
        return int(found[1]) if found else None


class AccountField(forms.ModelChoiceField):
    """One of the accounts; what is no id at all is as unknown as an id of none, and says so in the same words."""

    def to_python(self, value: Any) -> Account | None:
        """Returns the account, None for nothing."""
        try:
            return super().to_python(value)
        except forms.ValidationError as error:
            raise forms.ValidationError(self.error_messages["invalid_choice"], code="invalid_choice", params={"value": value}) from error


class AuditFilterForm(forms.Form):
    """?actor=&account=&conversation=&job=&what=&result=&since=&until=."""

    actor = forms.CharField(label=_("Who"), required=False, max_length=200)
    what = forms.ChoiceField(
        label=_("What"), required=False, choices=[("", _("Everything")), *((key, name) for key, (name, _w) in audit.KINDS.items())]
    )
    result = forms.ChoiceField(label=_("Result"), required=False, choices=[("", _("Any result")), *Result.choices])
    account = AccountField(label=_("Account"), required=False, queryset=Account.objects.none(), empty_label=_("All accounts"))
    job = NumberField(_JOB, _("A job is written like J-42."), label=_("Job"))
    conversation = NumberField(re.compile(r"([0-9]{1,18})"), _("A conversation is written as the number in its address."), label=_("Conversation"))
    since = DayField(label=_("From"))
    until = DayField(label=_("Until"))

    def __init__(self, user: Any, data: Any) -> None:
        super().__init__(data, auto_id="audit_%s")
        account, what = self.fields["account"], self.fields["what"]
        assert isinstance(account, AccountField)
        assert isinstance(what, forms.ChoiceField)
        what.choices = [("", _("Everything")), *((key, name) for key, (name, _words) in audit.KINDS.items())]
        account.queryset = Account.objects.visible_to(user)

    def clean(self) -> dict[str, Any]:
        """Refuses a span of time that ends before it begins."""
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until < since:
            self.add_error("until", gettext("This day is before the first one."))
        return cleaned

    @property
    def active(self) -> dict[str, Any]:
        """The filter values in use."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}

    @property
    def texts(self) -> dict[str, str]:
        """The same as text, for the entry that says what was exported."""
        return {name: str(value.pk) if isinstance(value, Account) else str(value) for name, value in self.active.items()}

    def narrow(self, entries: AuditQuerySet) -> AuditQuerySet:
        """Narrows to what the filter says; a value that cannot be read filters nothing out, and its field says so."""
        active = self.active
        if actor := active.get("actor"):
            entries = entries.filter(actor_name__icontains=actor)
        if what := active.get("what"):
            entries = entries.filter(what__in=audit.words_of(what))
        for name in ("result", "account", "job", "conversation"):
            if name in active:
                entries = entries.filter(**{name: active[name]})
        if since := active.get("since"):
            entries = entries.filter(at__gte=datetime.combine(since, time.min, UTC))
        if until := active.get("until"):
            entries = entries.filter(at__lt=datetime.combine(until + timedelta(days=1), time.min, UTC))
        return entries
