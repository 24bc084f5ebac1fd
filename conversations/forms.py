"""What a person may type or choose about conversations and jobs, checked at the field."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core import signing
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import labels
from accounts.access import READ_ONLY
from accounts.explain import sentences
from accounts.forms import form_field
from accounts.models import Account
from accounts.providers import all_providers
from accounts.providers.schema import Capability, Field, Op

from . import edits, listing
from .models import Conversation
from .querysets import ConversationQuerySet


class TextList(forms.Field):
    """Any number of short texts; what no conversation has is still a valid filter, it finds nothing."""

    widget = forms.MultipleHiddenInput
    MAX_VALUES = 50

    def clean(self, value: Any) -> list[str]:
        """Returns the texts without repeats and empty ones."""
        return [text[:200] for text in dict.fromkeys(value or ()) if text and "\0" not in text][: self.MAX_VALUES]


class DayField(forms.DateField):
    """A day as 2026-11-20; an unreadable one is named in the error, because a browser's control would show it as nothing."""

    def __init__(self, **given: Any) -> None:
        super().__init__(widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}), input_formats=["%Y-%m-%d"], required=False, **given)

    def to_python(self, value: Any) -> date | None:
        """Returns the day, None for nothing; years that no clock of ours can hold are refused."""
        try:
            day = super().to_python(value)
        except forms.ValidationError:
            day = date.min
        if day is not None and not 1970 <= day.year <= 2999:
            raise forms.ValidationError(_("“%(value)s” is not a day; write it like 2026-11-20."), params={"value": str(value)[:40]})
        return day


class FilterForm(forms.Form):
    """The filter of the list, all of it in the address: ?q=&provider=&account=&label=&model=&untitled=&updated_after=&updated_before=&gone=&sort=."""

    q = forms.CharField(label=_("Title has"), required=False, max_length=200)
    provider = forms.MultipleChoiceField(label=_("Provider"), required=False, widget=forms.CheckboxSelectMultiple)
    account = forms.ModelMultipleChoiceField(label=_("Account"), required=False, queryset=Account.objects.none(), widget=forms.CheckboxSelectMultiple)
    label = forms.MultipleChoiceField(label=_("Account label"), required=False, widget=forms.CheckboxSelectMultiple)
    model = TextList(label=_("Model"), required=False)
    untitled = forms.BooleanField(label=_("Untitled only"), required=False)
    updated_after = DayField(label=_("Updated from"))
    updated_before = DayField(label=_("Updated until"))
    gone = forms.BooleanField(label=_("Gone at the provider"), required=False)
    sort = forms.ChoiceField(
        label=_("Sort by"),
        required=False,
        choices=[
            ("", _("Newest first")),
            ("updated", _("Oldest first")),
            ("title", _("Title A to Z")),
            ("-title", _("Title Z to A")),
            ("-messages", _("Most messages")),
            ("messages", _("Fewest messages")),
        ],
    )

    def __init__(self, user: Any, data: Any = None) -> None:
        given = QueryDict(mutable=True) if data is None else data.copy()
        if given.get("sort") == listing.DEFAULT_SORT:
            del given["sort"]
        super().__init__(given, auto_id="filter_%s")
        accounts = Account.objects.visible_to(user)
        used = set(accounts.order_by().values_list("provider_key", flat=True))
        provider_field, account_field = self.fields["provider"], self.fields["account"]
        assert isinstance(provider_field, forms.MultipleChoiceField)
        assert isinstance(account_field, forms.ModelMultipleChoiceField)
        provider_field.choices = [(provider.key, provider.name) for provider in all_providers() if provider.key in used]
        account_field.queryset = accounts
        label_field = self.fields["label"]
        assert isinstance(label_field, forms.MultipleChoiceField)
        label_field.choices = [(name, name) for name in labels.names_for(user)]

    def clean(self) -> dict[str, Any]:
        """Refuses a span of time that ends before it begins."""
        cleaned = super().clean() or {}
        after, before = cleaned.get("updated_after"), cleaned.get("updated_before")
        if after and before and before < after:
            self.add_error("updated_before", gettext("This day is before the first one."))
        return cleaned

    @property
    def sort_name(self) -> str:
        """The chosen order, the default one when none or an unknown one was asked for."""
        self.is_valid()
        chosen = self.cleaned_data.get("sort", "")
        return chosen if chosen in listing.SORTS else listing.DEFAULT_SORT

    @property
    def active(self) -> dict[str, Any]:
        """The filter values in use, without the order."""
        self.is_valid()
        return {
            name: value for name, value in self.cleaned_data.items() if name != "sort" and (value.exists() if isinstance(value, QuerySet) else value)
        }

    @property
    def query(self) -> str:
        """The filter in use as a query text without the order, always spelt the same: what a selection remembers."""
        given = QueryDict(mutable=True)
        for name, value in self.active.items():
            given.setlist(name, [str(one.pk) if isinstance(one, Account) else "1" if one is True else str(one) for one in as_list(value)])
        return given.urlencode()

    def narrow(self, rows: ConversationQuerySet, *, without: str = "") -> ConversationQuerySet:
        """Returns the rows that the filter lets through; fields that could not be read are left out (and shown as errors).

        `without` leaves one field of the filter out, to find out which one hides everything.
        """
        self.is_valid()
        data = {name: value for name, value in self.cleaned_data.items() if name != without}
        rows = self._narrow_but_time(rows, data)
        if after := data.get("updated_after"):
            rows = rows.filter(updated_at__gte=_start_of(after))
        if before := data.get("updated_before"):
            rows = rows.filter(updated_at__lt=_start_of(before + timedelta(days=1)))
        return rows

    @staticmethod
    def _narrow_but_time(rows: ConversationQuerySet, data: dict[str, Any]) -> ConversationQuerySet:
        rows = rows.filter(gone_at__isnull=False) if data.get("gone") else rows.present()
        if data.get("provider"):
            rows = rows.filter(account__provider_key__in=data["provider"])
        if data.get("account"):
            rows = rows.filter(account__in=list(data["account"]))
        if data.get("label"):
            rows = rows.filter(account__in=Account.objects.filter(labels__name__in=data["label"]))
        if data.get("model"):
            rows = rows.filter(model__in=data["model"])
        if data.get("untitled"):
            rows = rows.filter(untitled=True)
        if data.get("q"):
            rows = rows.search(data["q"])
        return rows

    def left_out_without_time(self, rows: ConversationQuerySet) -> int:
        """Returns how many rows a time filter leaves out only because their provider tells no time (counted up to the list's cap)."""
        if not (self.active.get("updated_after") or self.active.get("updated_before")):
            return 0
        untold = self._narrow_but_time(rows, self.cleaned_data).filter(updated_at__isnull=True)
        return untold.capped_count(listing.COUNT_CAP)[0]


def as_list(value: Any) -> list[Any]:
    """Returns the values of a field that may hold one or several."""
    return list(value) if isinstance(value, QuerySet | list | tuple) else [value]


# --- settings -----------------------------------------------------------------------------------------------------------------------

_SEEN_SALT = "conversations.settings.seen"
# Shown, disabled and with the reason, where a provider stores no settings at all: people look for these.
_USUAL = (
    Field("temperature", _("Temperature"), "number"),  # type: ignore[arg-type]
    Field("context", _("Context messages"), "int"),  # type: ignore[arg-type]
    Field("prompt", _("System prompt"), "textarea"),  # type: ignore[arg-type]
)


class SettingsForm(forms.Form):
    """Every setting that this conversation's provider stores, title and model included; what cannot be changed is disabled and says why.

    `changes` holds only what differs from what was shown; `seen` is what was shown, so that a change made meanwhile is not overwritten.
    `typed` are the changed values as the form shows them.
    """

    seen_values = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, row: Conversation, data: Any = None, *, may_edit: bool = True) -> None:
        self.row = row
        self.may_edit = may_edit
        self.changes: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}
        self.typed: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.warnings: dict[str, str] = {}
        super().__init__(data, initial={"seen_values": pack_shown(row), **_initial(row)}, auto_id="dialog_%s")
        provider = row.account.provider
        self._add("title", provider.title_field, provider.capability(Op.RENAME))
        self._add_model(row)
        for field in provider.config_fields or _USUAL:
            self._add(field.name, field, provider.capability(Op.EDIT_CONFIG))

    def _add(self, name: str, declared: Field, capability: Capability) -> None:
        field = form_field(declared, required=False)  # an empty required field is refused in the provider's own words
        field.help_text = sentences(range_of(declared), gettext(declared.help) if declared.help else "")
        self.fields[name] = field
        if declared.warning and not declared.read_only:
            self.warnings[name] = gettext(declared.warning)
        reason = _reason(self.row, capability)
        if not reason and name != "title" and self.row.config and name not in self.row.config:
            reason = gettext("This conversation has no such setting at its provider.")
        self._disable(name, reason, locked=declared.read_only)

    def _add_model(self, row: Conversation) -> None:
        offered = row.account.catalogue.filter(gone_at__isnull=True)
        choices = [(model.model_id, model.choice_text) for model in offered]
        if row.model and row.model not in {model.model_id for model in offered}:
            choices.insert(0, (row.model, gettext("%(model)s (no longer offered)") % {"model": row.model} if offered else row.model))
        if not row.model:
            choices.insert(0, ("", "–"))
        capability = row.account.provider.capability(Op.SWITCH_MODEL)
        self.fields["model"] = forms.ChoiceField(
            label=_("Model"), choices=choices, required=False, help_text=gettext(capability.note) if capability.note else ""
        )
        self._disable("model", _reason(row, capability))

    def _disable(self, name: str, reason: str, *, locked: bool = False) -> None:
        reason = reason if self.may_edit else str(READ_ONLY)
        self.fields[name].disabled = locked or bool(reason)
        if reason:
            self.reasons[name] = reason
            self.fields[name].help_text = ""
            self.fields[name].widget.attrs.pop("rows", None)
            self.warnings.pop(name, None)

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The visible fields in order, each with the reason why it is disabled and with what to beware of ("" for none)."""
        return [
            {"field": field, "reason": self.reasons.get(field.name, ""), "warning": self.warnings.get(field.name, "")}
            for field in self.visible_fields()
        ]

    @property
    def editable(self) -> bool:
        """True when at least one field can be changed."""
        return any(not field.field.disabled for field in self.visible_fields())

    def clean(self) -> dict[str, Any]:
        """Finds out what was changed and checks that against the provider's ranges, each error at its field."""
        cleaned = super().clean() or {}
        try:
            pk, self.seen = signing.loads(cleaned.get("seen_values") or "", salt=_SEEN_SALT)
        except (signing.BadSignature, ValueError):
            pk = None
        if pk != self.row.pk:
            raise forms.ValidationError(_("This form is too old; open it again."))
        shown = _initial(self.row, self.seen)
        for name, field in self.fields.items():
            if name == "seen_values" or name not in cleaned or field.disabled:
                continue
            value = _as_shown(_text(cleaned[name]), _text(shown.get(name)))
            if value != _text(shown.get(name)):
                self.typed[name] = value
        try:
            self.changes = edits.check_changes(self.row, self.typed)
        except forms.ValidationError as error:
            for name, messages in error.message_dict.items():
                self.add_error(name if name in self.fields else None, messages)
        self.seen = {name: self.seen.get(name) for name in self.changes}
        return cleaned


def pack_shown(row: Conversation) -> str:
    """Returns every value of a conversation as a form shows them, signed: what an edit compares with what is stored by then."""
    return signing.dumps([row.pk, row.values], salt=_SEEN_SALT, compress=True)


def _reason(row: Conversation, capability: Capability) -> str:
    if row.gone_at is not None:
        return gettext("It is deleted at the provider.")
    return "" if capability.available else gettext(capability.reason)


def range_of(declared: Field) -> str:
    """Returns what a person may give for a declared field, as a sentence; "" where anything goes."""
    low, high = declared.minimum, declared.maximum
    if declared.max_length:
        return gettext("At most %(limit)d characters.") % {"limit": declared.max_length}
    if low is not None and high is not None:
        return gettext("%(minimum)s to %(maximum)s.") % {"minimum": f"{low:g}", "maximum": f"{high:g}"}
    return gettext("%(minimum)s or more.") % {"minimum": f"{low:g}"} if low is not None else ""


def _initial(row: Conversation, values: dict[str, Any] | None = None) -> dict[str, Any]:
    shown = {name: _text(value) for name, value in (row.values if values is None else values).items() if name != "model"}
    stored = (row.values if values is None else values).get("model")
    shown["model"] = (row.model or "") if stored is None else next(iter(row.account.provider.models_in(stored)), "")
    return shown


def _as_shown(text: str, shown: str) -> str:
    """Browsers send line ends as CRLF; a text that was not touched must come out as it went in, and a new one with plain line ends."""
    plain = text.replace("\r\n", "\n")
    return shown if plain == shown.replace("\r\n", "\n").replace("\r", "\n") else plain


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _start_of(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
