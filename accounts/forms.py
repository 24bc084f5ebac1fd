"""Forms that grow from what a provider declares; no provider has a form of its own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from . import services
from .explain import sentences
from .models import Account, User
from .providers.base import Provider
from .providers.errors import CredentialsRejected
from .providers.schema import Field

# Names of form fields begin with these, so that no provider's field meets one of the form's own.
CREDENTIAL, REMOVE = "credential_", "remove_"


def form_field(declared: Field, *, required: bool | None = None) -> forms.Field:
    """Returns the form field of a declared one: type, bounds, help, and write-only where it is a secret.

    The value stays text; `Field.parse` (which the command line and the API use as well) turns it into what is stored and names errors.
    """
    attrs: dict[str, Any] = {"placeholder": gettext(declared.placeholder)} if declared.placeholder else {}
    common: dict[str, Any] = {
        "label": gettext(declared.label) if declared.label else declared.name,
        "help_text": sentences(*(gettext(text) for text in (declared.help, declared.warning) if text)),
        "required": declared.required if required is None else required,
    }
    if declared.kind == "choice" or declared.choices:
        choices = [(value, gettext(label)) for value, label in declared.choices]
        return forms.ChoiceField(choices=choices, **common)
    if declared.kind == "bool":
        return forms.ChoiceField(choices=[("true", _("Yes")), ("false", _("No"))], **common)
    if declared.kind in ("int", "number"):
        bounds = {"min": declared.minimum, "max": declared.maximum, "step": declared.step or (1 if declared.kind == "int" else "any")}
        # The bounds are hints for the browser's control; what counts is checked on the server, in the person's language.
        attrs |= {name: f"{value:g}" if isinstance(value, int | float) else value for name, value in bounds.items() if value is not None}
        attrs |= {"inputmode": "decimal" if declared.kind == "number" else "numeric"}
        return forms.CharField(widget=forms.NumberInput(attrs=attrs), **common)
    if declared.secret:
        attrs |= {"autocomplete": "off", "spellcheck": "false"}
        return forms.CharField(widget=forms.PasswordInput(attrs={**attrs, "autocomplete": "new-password"}, render_value=False), strip=True, **common)
    widget: forms.Widget = forms.Textarea(attrs={**attrs, "rows": 8}) if declared.kind == "textarea" else forms.TextInput(attrs=attrs)
    return forms.CharField(widget=widget, strip=False, **common)


class AccountForm(forms.Form):
    """Label, address and credential of an account at one provider, new or (with `account`) stored.

    A stored secret is never shown; an empty field keeps it, and where the provider can do without it a box removes it. It stays at the server it
    was given for: with an address at another one it has to be entered anew, so that nobody at a stranger's keyboard sends it to themselves. After
    `is_valid()` `document()` is the credential as it would be stored and `credential_changed` tells whether it differs from the stored one.
    """

    label = forms.CharField(max_length=80, label=_("Label"), help_text=_("The name under which you will find this account."))
    base_url = forms.CharField(
        max_length=300, label=_("Base URL"), widget=forms.TextInput(attrs={"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"})
    )

    def __init__(self, user: User, provider: type[Provider], data: Any = None, *, account: Account | None = None) -> None:
        self.user, self.provider, self.account = user, provider, account
        self._document: dict[str, str] = {}
        self._stored = self._open(account) if account else {}
        hints = account.hints if account and self._stored else {}
        initial = {
            "label": account.label if account else _free_label(user, provider),
            "base_url": account.base_url if account else provider.default_base_url,
        }
        for declared in provider.credential_fields:
            if not declared.secret:
                initial[CREDENTIAL + declared.name] = hints.get(declared.name, "")
        super().__init__(data, initial=initial, label_suffix="")
        self.fields["base_url"].help_text = gettext(provider.base_url_help) if provider.base_url_help else ""
        for declared in provider.credential_fields:
            kept = declared.secret and declared.name in self._stored
            self.fields[CREDENTIAL + declared.name] = form_field(declared, required=declared.required and not kept)
            if kept and not declared.required:
                self.fields[REMOVE + declared.name] = forms.BooleanField(required=False, label=_("Remove the stored value"))
        for name, field in self.fields.items():
            # The place of notes exists before there is an error, so the description need not change when one comes.
            field.widget.attrs["aria-describedby"] = f"{self[name].auto_id}_notes"

    @staticmethod
    def _open(account: Account) -> dict[str, str]:
        try:
            return {name: value.reveal() for name, value in services.credentials_of(account).items()}
        except CredentialsRejected:
            return {}  # sealed with a key that is gone: everything has to be given again

    def rows(self) -> list[dict[str, Any]]:
        """Returns the credential's fields as the template shows them: `field`, `secret`, `kept` (the mask) and `remove` (the box, if any)."""
        rows = []
        for declared in self.provider.credential_fields:
            kept = self.account.hints.get(declared.name, "") if self.account and declared.name in self._stored else ""
            remove = self[REMOVE + declared.name] if REMOVE + declared.name in self.fields else None
            kept = kept if declared.secret else ""
            rows.append({"field": self[CREDENTIAL + declared.name], "secret": declared.secret, "kept": kept, "remove": remove})
        return rows

    def clean_label(self) -> str:
        """Refuses a label that the person has given to another account."""
        label = self.cleaned_data["label"].strip()
        same = Account.objects.filter(owner=self.account.owner if self.account else self.user, label=label).first()
        if same is not None and same != self.account:
            raise ValidationError(_("You already have an account with this label."))
        return label

    def clean_base_url(self) -> str:
        """Applies the rules about addresses that may be called."""
        return services.check_address(self.provider, self.cleaned_data["base_url"])

    def clean(self) -> dict[str, Any]:
        """Puts the credential together and has the provider's own rules look at it."""
        data = super().clean() or self.cleaned_data
        given: dict[str, str] = {}
        for declared in self.provider.credential_fields:
            name = CREDENTIAL + declared.name
            given[declared.name] = value = data.get(name, "")
            try:
                if value:
                    declared.parse(value)
            except ValueError as error:
                self.add_error(name, gettext(error.args[0]) % error.args[1])
        removed = [declared.name for declared in self.provider.credential_fields if data.get(REMOVE + declared.name)]
        stored = self._stored
        if self.account and services.leads_elsewhere(self.account, data.get("base_url", self.account.base_url)):
            secrets = [declared for declared in self.provider.credential_fields if declared.secret and declared.name in stored]
            stored = {name: value for name, value in stored.items() if name not in {declared.name for declared in secrets}}
            self._ask_again([declared for declared in secrets if not given[declared.name] and declared.name not in removed])
        merged = services.merge_credentials(self.provider, stored, given)
        try:
            self._document = services.clean_credentials(self.provider, {name: value for name, value in merged.items() if name not in removed})
        except ValidationError as refused:
            for name, messages in refused.message_dict.items():
                field = CREDENTIAL + name if name else None
                if field not in self.errors:
                    self.add_error(field, messages)
        return data

    def _ask_again(self, missing: list[Field]) -> None:
        """Asks for stored secrets that would go to another server than the one they were given for."""
        if missing:
            names = pgettext("between counts", ", ").join(gettext(declared.label) or declared.name for declared in missing)
            self.add_error("base_url", gettext("This is another server: what is stored is not sent there. Enter anew: %(names)s.") % {"names": names})

    def document(self) -> dict[str, str]:
        """Returns the credential to store, in clear; for services, never for a page."""
        return self._document

    document.alters_data = True  # type: ignore[attr-defined]  # a template that names it gets nothing

    @property
    def credential_changed(self) -> bool:
        """True when saving changes what is sent to the provider or where it is sent, or when a secret was typed, be it the stored one."""
        secrets = [declared.name for declared in self.provider.credential_fields if declared.secret]
        if self.account is None or any(self.cleaned_data.get(CREDENTIAL + name) for name in secrets):
            return True
        return self._document != self._stored or self.cleaned_data["base_url"] != self.account.base_url


def _free_label(user: User, provider: type[Provider]) -> str:
    """Returns the provider's name, with a number where the person has an account of that name already."""
    taken = set(Account.objects.filter(owner=user).values_list("label", flat=True))
    numbered = (f"{provider.name} {number}" for number in range(2, len(taken) + 3))
    return next(label for label in (provider.name, *numbered) if label not in taken)


class PaceForm(forms.ModelForm):
    """How many requests at once and how many a second an account may make; an empty field leaves it to the provider's declaration."""

    concurrency = forms.IntegerField(label=_("Requests at once"), required=False, min_value=1, max_value=32)
    rate = forms.FloatField(label=_("Requests per second"), required=False, min_value=0.1, max_value=1000)

    class Meta:
        model = Account
        fields = ["concurrency", "rate"]

    def __init__(self, data: Any = None, *, instance: Account) -> None:
        super().__init__(data, instance=instance, label_suffix="")
        self.initial["rate"] = None if instance.rate is None else f"{instance.rate:g}"
        pace = instance.provider.pace
        for name, own in (("concurrency", f"{pace.concurrency}"), ("rate", f"{pace.rate:g}")):
            self.fields[name].widget.attrs["placeholder"] = own
            self.fields[name].help_text = gettext("Empty means %(number)s, which suits %(provider)s.") % {
                "number": own,
                "provider": instance.provider.name,
            }


class NameForm(forms.ModelForm):
    """How others see a person named."""

    class Meta:
        model = User
        fields = ["name"]
        labels = {"name": _("Your name")}
        help_texts = {"name": _("What your teammates see. Without one they see your e-mail address.")}
