"""The values of a change as people read them: names of models instead of ids, labels of settings, "the provider's default"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from accounts.models import Account, CatalogueModel
from accounts.providers.schema import Field

from .models import AuditEntry, JobItem
from .titles import cut

LONG = 160  # characters of a text that a row shows; the rest is in its tooltip
LONGEST = 4000


@dataclass(slots=True)
class Value:
    """One side of a change: what people read, and what is stored where that differs."""

    text: str
    stored: str = ""
    muted: bool = False  # not a value but words about it


@dataclass(slots=True)
class Part:
    """One value of several that change together."""

    label: str
    before: Value | None
    after: Value | None
    found: Value | None


class Names:
    """What the values of the items on one page are called."""

    def __init__(self, items: Iterable[JobItem | AuditEntry]) -> None:
        rows = CatalogueModel.objects.filter(account_id__in={item.account_id for item in items})
        self._names = {(account, model): name for account, model, name in rows.values_list("account_id", "model_id", "name")}

    def value(self, account: Account, values: Mapping[str, Any] | None) -> Value | None:
        """Returns what a job changes as people read it: the one value, or several with their labels in one line."""
        if not values:
            return None
        if len(values) == 1 and not values.keys().isdisjoint(("title", "model")):
            return self._one(account, *next(iter(values.items())))
        parts = [(label_of(account, name), self._one(account, name, values[name])) for name in _in_order(account, values)]
        return Value(pgettext("between counts", ", ").join(f"{label} {value.text}" for label, value in parts))

    def parts(self, account: Account, before: Mapping[str, Any], after: Mapping[str, Any], found: Mapping[str, Any]) -> list[Part]:
        """Returns the settings that change, one by one; nothing for a title or a model, which needs no label."""
        names = _in_order(account, {**before, **after, **found})
        if not set(names) - {"title", "model"}:
            return []
        sides = [{name: self._one(account, name, side[name]) for name in names if name in side} for side in (before, after, found)]
        return [Part(label_of(account, name), *(side.get(name) for side in sides)) for name in names]

    def _one(self, account: Account, name: str, stored: Any) -> Value:
        if name == "title":
            return Value(str(stored)) if stored else Value(_("no title"), muted=True)
        if name == "model":
            ids = account.provider.models_in(stored)
            shown = " + ".join(self._names.get((account.pk, model), model) for model in ids)
            return Value(shown, "" if shown == str(stored) else str(stored)) if ids else Value(_("none"), muted=True)
        return setting(_declared(account, name), stored)


def setting(declared: Field | None, stored: Any) -> Value:
    """Returns a setting as people read it."""
    if declared is not None and declared.default_label and stored == declared.default_value:
        return Value(_(declared.default_label), "" if stored is None else str(stored), muted=True)
    if stored is None:
        return Value(_("not set"), muted=True)
    if isinstance(stored, bool):
        return Value(_("Yes") if stored else _("No"))
    labels = dict(declared.choices) if declared is not None else {}
    if stored in labels:
        return Value(_(labels[stored]), str(stored))
    text = str(stored)
    if not text.strip():
        return Value(_("empty"), muted=True) if not text else Value(_("only blanks"), muted=True)
    return Value(text) if len(text) <= LONG else Value(cut(text, LONG - 1) + "…", cut(text, LONGEST))


def label_of(account: Account, name: str) -> str:
    """Returns what people call a value that is stored under this name."""
    if name in ("title", "model"):
        return _("Title") if name == "title" else _("Model")
    declared = _declared(account, name)
    return _(declared.label) if declared is not None else name


def _in_order(account: Account, names: Iterable[str]) -> list[str]:
    """Returns the names as forms show them; a database does not keep the order of what it stores."""
    known = ["title", "model", *(field.name for field in account.provider.config_fields)]
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def _declared(account: Account, name: str) -> Field | None:
    return next((field for field in account.provider.config_fields if field.name == name), None)
