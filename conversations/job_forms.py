"""What a person may choose and type about jobs: the selection that the list posts, models per provider, ways to make titles, the last word."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Account, CatalogueModel
from accounts.providers.base import Provider
from accounts.providers.schema import Op

from . import jobs, titles
from .context import provider_mark
from .forms import FilterForm
from .models import Action, Conversation, Job
from .querysets import ConversationQuerySet

MOST_IDS = 20_000  # ticked one by one; a larger selection is "all that match, but these"
UNUSUAL = 10  # times the usual price of a catalogue
SKIP = "-"  # an account's own choice to be left out; an empty one follows its provider's


# --- the selection ------------------------------------------------------------------------------------------------------------------


def selected(user: Any, data: QueryDict) -> tuple[ConversationQuerySet, dict[str, Any]]:
    """Returns the conversations that the selection bar posted, and how they were selected, for people.

    Raises ValidationError for ids and filters that cannot be read: a filter that is left out would select more than was seen.
    """
    query = data.get("query", "").lstrip("?")
    count = data.get("count", "")
    how: dict[str, Any] = {"query": query, "count": int(count) if count.isdecimal() and len(count) < 10 else None}
    if not data.get("all_matching"):
        return Conversation.objects.filter(pk__in=_ids(data.get("ids", ""))), how
    minus = _ids(data.get("minus", ""))
    return _matching(user, query).exclude(pk__in=minus), how | {"all": True, "minus": minus}


def selected_again(user: Any, job: Job) -> tuple[ConversationQuerySet, dict[str, Any]]:
    """Returns what a new run of a job is about: what matches its filter now, or else the conversations that it was about.

    Raises ValidationError for a filter that cannot be read any more.
    """
    how = {name: job.selection[name] for name in ("query", "all", "minus") if name in job.selection}
    if how.get("all"):
        return _matching(user, how.get("query", "")).exclude(pk__in=how.get("minus", [])), how
    same = job.items.exclude(ticked=False).filter(conversation__isnull=False)
    return Conversation.objects.filter(pk__in=same.values("conversation_id")), how


def _matching(user: Any, query: str) -> ConversationQuerySet:
    form = FilterForm(user, QueryDict(query))
    if not form.is_valid():
        raise ValidationError(_("The filter of this selection cannot be read any more. Reload the list and select again."))
    return form.narrow(Conversation.objects.visible_to(user))


def _ids(text: str) -> list[int]:
    ids = jobs.ids_of(text.split(","))
    if len(ids) > MOST_IDS or any(number >= 2**63 for number in ids):
        raise ValidationError(_("These are too many single conversations; use “select all matching”."))
    return ids


# --- whom a job concerns ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Part:
    """One account's share of a job: how many conversations, and on which models they are now (name, count), the commonest first."""

    account: Account
    count: int
    now: list[tuple[str, int]]
    mark: dict[str, Any]


def parts_of(job: Job) -> list[Part]:
    """Returns the accounts of a job with their shares, ordered by provider and label."""
    used: dict[Any, Counter[str]] = {}
    for account_id, model, count in job.shown.order_by().values_list("account_id", "conversation__model").annotate(count=Count("pk")):
        used.setdefault(account_id, Counter())[model or ""] += count
    accounts = sorted(Account.objects.filter(pk__in=list(used)), key=lambda account: (account.provider.name.casefold(), account.label))
    found = []
    for account in accounts:
        names = dict(account.catalogue.values_list("model_id", "name"))
        now = [(names.get(model, model), count) for model, count in used[account.pk].most_common() if model]
        found.append(Part(account, used[account.pk].total(), now, provider_mark(account)))
    return found


@dataclass(slots=True)
class Unable:
    """Conversations of one account that a job would skip, with the provider's reason."""

    part: Part
    reason: str


def unable(parts: Iterable[Part], op: Op) -> list[Unable]:
    """Returns the parts whose provider does not offer an operation."""
    capabilities = [(part, part.account.provider.capability(op)) for part in parts]
    return [Unable(part, _(capability.reason)) for part, capability in capabilities if not capability.available]


# --- switch model -------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Option:
    """One model that a provider's conversations can be switched to."""

    id: str
    name: str
    group: str
    price: str
    note: str
    unusual: bool
    missing_at: list[str] = field(default_factory=list)  # accounts that do not offer it
    is_new: bool = False  # it joined the catalogue of one of them a few days ago


@dataclass(slots=True)
class Choice:
    """What is to be chosen for one provider: its accounts, its models, and the names of the form's fields."""

    provider: type[Provider]
    parts: list[Part]
    options: list[Option]
    name: str
    overrides: dict[Any, str]  # account id -> field name, when there are several accounts
    form: forms.Form

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
        """What to know before switching here."""
        note = self.provider.capability(Op.SWITCH_MODEL).note
        return _(note) if note else ""

    @property
    def now(self) -> list[tuple[str, int]]:
        """The models that these conversations are on, the commonest first."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(dict(part.now))
        return total.most_common()

    @property
    def field(self) -> forms.BoundField:
        """The provider's field."""
        return self.form[self.name]

    @property
    def value(self) -> str:
        """What is chosen."""
        return self.field.value() or ""

    @property
    def chosen(self) -> Option | None:
        """The chosen model, None when these are to be skipped."""
        return next((option for option in self.options if option.id == self.value), None)

    @property
    def accounts(self) -> list[tuple[Part, forms.BoundField]]:
        """Accounts with a field of their own."""
        return [(part, self.form[self.overrides[part.account.pk]]) for part in self.parts if part.account.pk in self.overrides]

    @property
    def is_divided(self) -> bool:
        """True when an account's own choice is made or wrong, so that it must be seen."""
        return any(bound.value() or bound.errors for _part, bound in self.accounts)


def _amount(price: str) -> float | None:
    """The first number of a price; what follows ("per 1,000 tokens") is the same for all."""
    found = re.search(r"\d[\d,]*(?:\.\d+)?", price)
    return float(found.group().replace(",", "")) if found else None


def options_of(catalogues: dict[Any, list[CatalogueModel]], labels: dict[Any, str]) -> list[Option]:
    """Returns the models of several accounts at one provider as one list, those with a price far above the usual one marked."""
    offered: dict[str, list[Any]] = {}
    models: dict[str, CatalogueModel] = {}
    for account_id, rows in catalogues.items():
        for row in rows:
            models.setdefault(row.model_id, row)
            offered.setdefault(row.model_id, []).append(account_id)
    new = {row.model_id for rows in catalogues.values() for row in rows if row.is_new}
    amounts = {key: amount for key, row in models.items() if (amount := _amount(row.price)) is not None}
    usual = statistics.median_low([amount for amount in amounts.values() if amount] or [0.0])
    return [
        Option(
            key,
            row.name,
            row.group,
            row.shown_price,
            row.note,
            amounts.get(key, 0.0) > UNUSUAL * usual,
            # An account whose catalogue has not been read yet may well offer it.
            [labels[account_id] for account_id, rows in catalogues.items() if rows and account_id not in offered[key]],
            key in new,
        )
        for key, row in models.items()
    ]


class SwitchModelForm(forms.Form):
    """One model per provider, and where a provider has several accounts, perhaps another one for an account."""

    def __init__(self, job: Job, parts: list[Part], data: Any = None) -> None:
        super().__init__(data)
        able = [part for part in parts if part.account.provider.capability(Op.SWITCH_MODEL).available]
        before = {part.account.pk: jobs.chosen_model(job, part.account) for part in able} if job.action == Action.SWITCH_MODEL else {}
        self.unable = unable(parts, Op.SWITCH_MODEL)
        self.choices: list[Choice] = []
        by_provider: dict[str, list[Part]] = {}
        for part in able:
            by_provider.setdefault(part.account.provider_key, []).append(part)
        for key, own in by_provider.items():
            self.choices.append(self._choice(key, own, before))

    def _choice(self, key: str, parts: list[Part], before: dict[Any, str]) -> Choice:
        catalogues = {part.account.pk: list(part.account.catalogue.filter(gone_at__isnull=True)) for part in parts}
        options = options_of(catalogues, {part.account.pk: part.account.label for part in parts})
        commonest = Counter(model for part in parts if (model := before.get(part.account.pk))).most_common(1)
        chosen = commonest[0][0] if commonest else ""
        # A catalogue that has not been read leaves nothing to choose from: then the id is typed, and the provider judges it.
        self.fields[f"provider-{key}"] = forms.CharField(label=gettext_lazy("Model"), required=False, max_length=200, initial=chosen)
        overrides = {}
        for part in parts if len(parts) > 1 and options else ():
            model = before.get(part.account.pk, chosen)
            name = overrides[part.account.pk] = f"account-{part.account.pk}"
            offered = [(row.model_id, row.choice_text) for row in catalogues[part.account.pk]]
            choices = [("", gettext_lazy("As above")), (SKIP, gettext_lazy("Skip these")), *offered]
            self.fields[name] = forms.ChoiceField(
                label=part.account.label,
                required=False,
                choices=choices,
                initial="" if model == chosen else model or SKIP,
            )
        return Choice(parts[0].account.provider, parts, options, f"provider-{key}", overrides, self)

    def clean(self) -> dict[str, Any]:
        """Adds `targets`, the parameters of the job: account id -> catalogue id."""
        data = self.cleaned_data
        targets: dict[str, str] = {}
        for choice in self.choices:
            for part in choice.parts:
                own = data.get(choice.overrides.get(part.account.pk, ""), "")
                model = "" if own == SKIP else own or data.get(choice.name, "")
                if not model:
                    continue
                option = next((option for option in choice.options if option.id == model), None)
                if choice.options and (option is None or part.account.label in option.missing_at):
                    where = choice.overrides.get(part.account.pk, choice.name) if option else choice.name
                    self.add_error(where, _("%(account)s does not offer the model “%(model)s”.") % {"account": part.account.label, "model": model})
                targets[str(part.account.pk)] = model
        if not targets and not self.errors and self.choices:
            self.add_error(self.choices[0].name, _("Choose a model for at least one account."))
        data["targets"] = targets
        return data

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the job."""
        return {"targets": self.cleaned_data["targets"]}


# --- set titles ---------------------------------------------------------------------------------------------------------------------

TEMPLATE, REPLACE, GENERATE = "template", "replace", "generate"


class TitleForm(forms.Form):
    """The three ways to make titles: a template, find and replace (perhaps with a regular expression), or the provider's own."""

    mode = forms.ChoiceField(
        label=gettext_lazy("Make titles"),
        widget=forms.RadioSelect,
        choices=[
            (TEMPLATE, gettext_lazy("From a template")),
            (REPLACE, gettext_lazy("Find and replace")),
            (GENERATE, gettext_lazy("The provider's own title")),
        ],
    )
    template = forms.CharField(label=gettext_lazy("Template"), required=False, max_length=500, strip=False)
    find = forms.CharField(label=gettext_lazy("Find"), required=False, max_length=200, strip=False)
    replace = forms.CharField(label=gettext_lazy("Replace with"), required=False, max_length=200, strip=False)
    regex = forms.BooleanField(
        label=gettext_lazy("Regular expression"),
        required=False,
        help_text=gettext_lazy("Groups are ( ) and are put in as \\1, \\2 …; (?i) at the beginning ignores case."),
    )
    include_hand_made = forms.BooleanField(label=gettext_lazy("Also replace titles that people chose"), required=False)

    def __init__(self, job: Job, parts: list[Part], data: Any = None) -> None:
        params = job.params if job.action == Action.SET_TITLE else {}
        mode = GENERATE if params.get("generate") else REPLACE if "find" in params else TEMPLATE
        super().__init__(data, initial={"mode": mode, "template": "{first_message:30}", **params})
        self._job, self._parts = job, parts
        for name in ("template", "find", "replace"):
            self.fields[name].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}
        self.unable = unable(parts, Op.RENAME)
        capabilities = [(part, part.account.provider.capability(Op.GENERATE_TITLE)) for part in parts]
        self.generators = [part for part, capability in capabilities if capability.available]
        self.generate_notes = list(
            dict.fromkeys(_(capability.note) for _part, capability in capabilities if capability.available and capability.note)
        )
        self.not_generating = unable(parts, Op.GENERATE_TITLE)

    def clean(self) -> dict[str, Any]:
        """Checks the fields of the chosen way only."""
        data = self.cleaned_data
        if data.get("mode") == TEMPLATE and "template" not in self.errors:
            try:
                titles.check_template(data.get("template", ""))
            except ValidationError as error:
                self.add_error("template", error)
        if data.get("mode") == REPLACE and not {"find", "replace"} & set(self.errors):
            try:
                titles.check_find(self.params)
            except ValidationError as error:
                self.add_error(None if hasattr(error, "error_dict") else "find", error)
        if data.get("mode") == GENERATE and not self.generators:
            self.add_error("mode", _("None of these accounts can make a title by itself."))
        return data

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the job."""
        data = self.cleaned_data
        if data["mode"] == REPLACE:
            return {"find": data["find"], "replace": data["replace"]} | ({"regex": True} if data["regex"] else {})
        made: dict[str, Any] = {"generate": True} if data["mode"] == GENERATE else {"template": data["template"]}
        return made | ({"include_hand_made": True} if data["include_hand_made"] else {})

    @property
    def typed_params(self) -> dict[str, Any] | None:
        """What the parameters would be for what is typed so far, unchecked; None when there is nothing to show of it."""
        mode, find = self["mode"].value(), self["find"].value() or ""
        if mode == REPLACE:
            return {"find": find, "replace": self["replace"].value() or "", "regex": bool(self["regex"].value())} if find else None
        template = {"template": self["template"].value() or "", "include_hand_made": bool(self["include_hand_made"].value())}
        return None if mode == GENERATE else template

    @property
    def hand_made(self) -> int:
        """How many of these conversations have a title that a person chose."""
        return self._job.shown.filter(conversation__untitled=False, account__in=[part.account for part in self._parts]).count()

    @property
    def placeholders(self) -> list[tuple[str, Any]]:
        """What can stand in a template, with its meaning."""
        meanings = {
            "first_message": _("The beginning of the first message, here 30 characters"),
            "title": _("The title it has now"),
            "model": _("The name of its model"),
            "account": _("The name of its account"),
            "date": _("The day it was created, or changed where that is not told"),
            "n": _("Its number in this job"),
        }
        return [("{first_message:30}" if name == "first_message" else f"{{{name}}}", meanings[name]) for name in titles.PLACEHOLDERS]


# --- running ------------------------------------------------------------------------------------------------------------------------


class StartForm(forms.Form):
    """The last word before a job runs: a note for the record, for many conversations their number, and whether a few are tried first."""

    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=300)
    typed_count = forms.CharField(label=gettext_lazy("Number of changes"), required=False, max_length=20)
    canary = forms.IntegerField(label=gettext_lazy("Try first, in each account"), required=False, min_value=1, max_value=1000)
    canary_limit = forms.IntegerField(label=gettext_lazy("Stop the account above"), required=False, min_value=0, max_value=99, initial=20)

    def __init__(self, data: Any = None, job: Job | None = None) -> None:
        # What was ordered before, where a refused job is a preview again.
        given = {"note": job.note, "canary": job.canary, "canary_limit": job.canary_limit} if job else {}
        super().__init__(data, initial=given)
        self.fields["note"].widget.attrs["placeholder"] = _("Note for the record")
        self.fields["typed_count"].widget.attrs |= {"inputmode": "numeric", "autocomplete": "off"}
        self.fields["canary"].widget.attrs["placeholder"] = _("all at once")

    def clean_typed_count(self) -> int | None:
        """Returns the number, written with or without separators."""
        text = re.sub(r"[\s,.'’，]", "", self.cleaned_data["typed_count"])
        return int(text) if text.isdecimal() and len(text) < 10 else None

    @property
    def orders(self) -> dict[str, Any]:
        """What `jobs.start` takes."""
        return {name: self.cleaned_data[name] for name in ("note", "typed_count", "canary", "canary_limit")}
