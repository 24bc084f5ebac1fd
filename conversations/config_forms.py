"""The form that edits settings of many conversations: grown from what their providers declare, each setting left alone unless it is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.forms import form_field
from accounts.providers.base import Provider
from accounts.providers.schema import Field, Op, validate

from .forms import range_of
from .job_forms import Part, unable
from .models import Action, Job

KEEP, SET, DEFAULT = "", "set", "default"


@dataclass(slots=True)
class Setting:
    """One setting of a provider: what to do with it, and the value that it gets."""

    declared: Field
    form: forms.Form
    does: str  # the names of the two form fields
    value: str

    @property
    def what(self) -> forms.BoundField:
        """The choice: leave as it is, set to, or the provider's default."""
        return self.form[self.does]

    @property
    def field(self) -> forms.BoundField:
        """The value."""
        return self.form[self.value]

    @property
    def warning(self) -> str:
        """What to beware of before it is changed."""
        return _(self.declared.warning) if self.declared.warning else ""


@dataclass(slots=True)
class Section:
    """One provider with its conversations in the job and its settings."""

    provider: type[Provider]
    parts: list[Part]
    settings: list[Setting]

    @property
    def label(self) -> str:
        """The provider's name (a template cannot ask the class: it would call it)."""
        return self.provider.name

    @property
    def mark(self) -> dict[str, Any]:
        """Letter and colour of the provider."""
        return self.parts[0].mark

    @property
    def count(self) -> int:
        """Conversations of this provider in the job."""
        return sum(part.count for part in self.parts)

    @property
    def note(self) -> str:
        """What to know before changing settings here."""
        note = self.provider.capability(Op.EDIT_CONFIG).note
        return _(note) if note else ""


class ConfigureForm(forms.Form):
    """For each provider its own settings; only those that are touched become part of the job."""

    def __init__(self, job: Job, parts: list[Part], data: Any = None) -> None:
        super().__init__(data)
        self.unable = unable(parts, Op.EDIT_CONFIG)
        self.config: dict[str, dict[str, Any]] = {}
        self.sections: list[Section] = []
        before = job.params.get("config", {}) if job.action == Action.CONFIGURE else {}
        by_provider: dict[str, list[Part]] = {}
        for part in parts:
            if part.account.provider.capability(Op.EDIT_CONFIG).available:
                by_provider.setdefault(part.account.provider_key, []).append(part)
        for key, own in by_provider.items():
            provider = own[0].account.provider
            given = before.get(key) or before.get("*") or {}
            settings = [self._setting(key, declared, given) for declared in provider.config_fields if not declared.read_only]
            self.sections.append(Section(provider, own, settings))

    @property
    def choices(self) -> list[Section]:
        """What there is to choose from; empty when no provider stores settings."""
        return self.sections

    def _setting(self, key: str, declared: Field, given: dict[str, Any]) -> Setting:
        does, name = f"do-{key}-{declared.name}", f"set-{key}-{declared.name}"
        choices: list[tuple[str, Any]] = [(KEEP, gettext_lazy("Leave as it is")), (SET, gettext_lazy("Set to"))]
        if declared.default_label:
            choices.append((DEFAULT, _("Provider default: %(meaning)s") % {"meaning": _(declared.default_label)}))
        touched = given.get(declared.name)
        initial = KEEP if declared.name not in given else DEFAULT if touched is None else SET
        self.fields[does] = forms.ChoiceField(label=_(declared.label), choices=choices, required=False, initial=initial)
        field = form_field(declared, required=False)
        field.help_text = " ".join(filter(None, [range_of(declared), _(declared.help) if declared.help else ""]))
        field.label = _("%(setting)s: new value") % {"setting": _(declared.label)}
        field.initial = {True: "true", False: "false"}.get(touched, touched) if isinstance(touched, bool) else touched
        self.fields[name] = field
        return Setting(declared, self, does, name)

    def clean(self) -> dict[str, Any]:
        """Finds out what was touched and checks that against the provider's ranges, each error at its field."""
        data = self.cleaned_data
        for section in self.sections:
            given: dict[str, Any] = {}
            for setting in section.settings:
                if data.get(setting.does) == DEFAULT:
                    given[setting.declared.name] = None
                elif data.get(setting.does) == SET:
                    # Browsers send line ends as CRLF; what is typed here is new, so its line ends are plain ones.
                    given[setting.declared.name] = str(data.get(setting.value, "")).replace("\r\n", "\n")
            clean, problems = validate(section.provider.config_fields, given)
            for setting in section.settings:
                if setting.declared.name in problems:
                    message, params = problems[setting.declared.name]
                    self.add_error(setting.value, _(message) % params if params else _(message))
            if clean:
                touched = {name: None if given[name] is None else value for name, value in clean.items()}
                self.config[section.provider.key] = touched
        if not self.config and not self.errors:
            self.add_error(None, _("Choose at least one setting to change."))
        return data

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the job."""
        return {"config": self.config}
