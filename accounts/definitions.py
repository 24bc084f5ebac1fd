"""Definitions of accounts as a JSON document without any secret: what is exported here is imported there, and the credentials are entered there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from . import deeds, labels, services
from .forms import PaceForm
from .models import Account, Health, User
from .providers import get_provider

VERSION = 1
MOST = 500  # entries of a document
LARGEST = 1_000_000  # bytes of one
MISSING = "credential_missing"  # the cause of an account that waits for its credential
_TEXTS = ("provider", "label", "base_url", "colour", "note")
_KNOWN = {*_TEXTS, "labels", "concurrency", "rate"}


class NotADocument(Exception):
    """What was given is no document of accounts; the text says why, to whoever gave it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that was not imported: its number in the document, from 1, its label as far as it has one, and why."""

    number: int
    label: str
    reason: str


@dataclass(slots=True)
class Imported:
    """What an import did: the accounts that it made, and the entries that it refused."""

    created: list[Account] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def export(accounts: Iterable[Account]) -> str:
    """Returns the definitions of accounts as a JSON text. Nothing in it comes from a credential, not even what may be shown of one."""
    document = {"switchboard": "accounts", "version": VERSION, "accounts": [_entry(account) for account in accounts]}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _entry(account: Account) -> dict[str, Any]:
    return {
        "provider": account.provider_key,
        "label": account.label,
        "base_url": account.base_url,
        "labels": [label.name for label in account.labels.all()],
        "colour": account.colour,
        "note": account.note,
        "concurrency": account.concurrency,
        "rate": account.rate,
    }


def read(text: str) -> list[Any]:
    """Returns the entries of a document; raises NotADocument."""
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except (ValueError, RecursionError) as error:
        raise NotADocument(_("This is not JSON.")) from error
    if not isinstance(document, dict) or document.get("switchboard") != "accounts" or not isinstance(document.get("accounts"), list):
        raise NotADocument(_("This is not a list of accounts that Switchboard exported."))
    if document.get("version") != VERSION:
        raise NotADocument(_("This list has a version that is not known here."))
    if len(document["accounts"]) > MOST:
        raise NotADocument(_("This list has more than %(limit)d accounts.") % {"limit": MOST})
    return document["accounts"]


def import_accounts(owner: User, text: str) -> Imported:
    """Makes an account of every good entry, each waiting for its credential; the others are told with their reason. Raises NotADocument."""
    done = Imported()
    for number, entry in enumerate(read(text), 1):
        try:
            with transaction.atomic():
                done.created.append(_create(owner, entry))
        except ValidationError as error:
            label = entry.get("label") if isinstance(entry, dict) else ""
            done.refused.append(Refused(number, label[:80] if isinstance(label, str) else "", " ".join(error.messages)))
    if done.created:
        deeds.tell(owner, "import accounts", after={"imported": len(done.created), "refused": len(done.refused)})
    return done


def _create(owner: User, entry: Any) -> Account:
    if not isinstance(entry, dict):
        raise ValidationError(_("The entry is not an object."))
    if unknown := sorted(set(entry) - _KNOWN):
        raise ValidationError(_("The entry has fields that are not known here: %(names)s.") % {"names": ", ".join(unknown)[:200]})
    if any(not isinstance(entry.get(name, ""), str) or "\0" in entry.get(name, "") for name in _TEXTS):
        raise ValidationError(_("The fields %(names)s must be text.") % {"names": ", ".join(_TEXTS)})
    try:
        provider = get_provider(entry.get("provider", ""))
    except KeyError as error:
        raise ValidationError(_("There is no provider “%(name)s”.") % {"name": entry.get("provider", "")[:40]}) from error
    account = Account(owner=owner, provider_key=provider.key, label=entry.get("label", "").strip())
    account.base_url = services.check_address(provider, entry.get("base_url", ""))
    account.health, account.cause = Health.NEEDS_REAUTH, MISSING
    account.upstream_identity = services.identity_of(provider.key, account.base_url, "", account.pk)
    _fill(account, entry)
    try:
        with transaction.atomic():
            account.save(force_insert=True)
    except IntegrityError as error:
        raise ValidationError(_("You already have an account with this label.")) from error
    names = entry.get("labels", [])
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        raise ValidationError(_("The labels must be a list of texts."))
    deeds.tell(owner, "add account", account=account, after={"provider": provider.key, "base_url": account.base_url})
    for name in names:
        labels.add(account, name)
    return account


def _fill(account: Account, entry: dict[str, Any]) -> None:
    """Sets what a person may set, checked as on the pages; raises ValidationError with the names of the fields."""
    about = labels.AboutForm({name: entry.get(name, "") for name in ("colour", "note")}, instance=account)
    numbers = {name: entry.get(name) for name in ("concurrency", "rate")}
    if any(isinstance(value, bool) or not isinstance(value, int | float | None) for value in numbers.values()):
        raise ValidationError(_("The fields %(names)s must be numbers.") % {"names": ", ".join(numbers)})
    pace = PaceForm({name: "" if value is None else str(value) for name, value in numbers.items()}, instance=account)
    for form in (about, pace):
        if not form.is_valid():
            raise ValidationError([f"{form.fields[name].label}: {' '.join(map(str, errors))}" for name, errors in form.errors.items()])
    try:
        account.clean_fields(exclude=["sealed_credentials", "upstream_identity"])
    except ValidationError as error:
        names = {field.name: field.verbose_name for field in Account._meta.fields}
        raise ValidationError([f"{names[name]}: {' '.join(messages)}" for name, messages in error.message_dict.items()]) from error
