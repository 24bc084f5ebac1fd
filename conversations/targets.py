"""A file that says which model each account, or each provider, is to be switched to; every complaint names its line.

JSON: {"aurod": "gpt-4.1", "Shop": {"gpt-4o": "gpt-4.1", "*": "kimi-k2"}}; a key is an account's id, its label or a provider's key, a value a model's
catalogue id, or current model -> new model with "*" for all the others. What is not named is left alone.
CSV: lines `account,model` or `account,current model,model`, with or without a head line (account,to or account,from,to).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from accounts.models import Account
from accounts.providers import all_providers

OTHERS = "*"
_HEADS = (["account", "to"], ["account", "from", "to"])
Entry = tuple[int, str, str, str]  # line, whose, current model ("*" for the others), new model


def read(text: str, accounts: Iterable[Account]) -> dict[str, Any]:
    """Returns the targets of a switch-model job that a file of the above form describes; `accounts` are those that may be named.

    Raises ValidationError with the number of the first line that cannot be used.
    """
    entries = _json(text) if text.lstrip().startswith("{") else _csv(text)
    known = list(accounts)
    targets: dict[str, dict[str, str]] = {}
    for line, whose, current, model in entries:
        key, concerned = _key(line, whose, known)
        if not model:
            raise _wrong(line, _("no model is named for “%(name)s”.") % {"name": whose})
        if current in targets.get(key, {}):
            raise _wrong(line, _("“%(name)s” is named a second time.") % {"name": whose if current == OTHERS else f"{whose}, {current}"})
        _check_offered(line, concerned, model)
        targets.setdefault(key, {})[current] = model
    if not targets:
        raise ValidationError(_("The file names no model."))
    return {key: chosen[OTHERS] if chosen.keys() == {OTHERS} else chosen for key, chosen in targets.items()}


def _json(text: str) -> Iterator[Entry]:
    try:
        given = json.loads(text, object_pairs_hook=_Pairs)
    except RecursionError as error:
        raise ValidationError(_("The file is nested too deeply.")) from error
    except json.JSONDecodeError as error:
        raise _wrong(error.lineno, _("this is not JSON (%(cause)s).") % {"cause": error.msg}) from error
    place = 0
    for whose, value in given:
        line, place = _line_of(text, whose, place)
        pairs = value if isinstance(value, _Pairs) else [(OTHERS, value)]
        for current, model in pairs:
            if isinstance(value, _Pairs):
                line, place = _line_of(text, current, place)
            if not isinstance(model, str):
                raise _wrong(line, _("a model is named by its id, as text."))
            yield line, whose.strip(), current.strip() or OTHERS, model.strip()


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in their order, a name that stands there twice included."""


def _line_of(text: str, name: str, place: int) -> tuple[int, int]:
    """Returns the line on which a name stands, looked for from `place` on, and the place behind it."""
    spellings = "|".join(re.escape(spelling) for spelling in (json.dumps(name, ensure_ascii=False), json.dumps(name)))
    found = re.compile(rf"(?:{spellings})\s*:").search(text, place)
    at = found.start() if found else place
    return text.count("\n", 0, at) + 1, at + 1


def _csv(text: str) -> Iterator[Entry]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    first = True
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _wrong(reader.line_num, _("this is not CSV (%(cause)s).") % {"cause": error}) from error
        if cells is None:
            return
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        head, first = first and [cell.lower() for cell in cells] in _HEADS, False
        if head:
            continue
        if len(cells) not in (2, 3):
            raise _wrong(reader.line_num, _("two or three cells are wanted: account, perhaps the current model, and the new one."))
        yield reader.line_num, cells[0], (cells[1] if len(cells) == 3 else "") or OTHERS, cells[-1]


def _key(line: int, whose: str, accounts: list[Account]) -> tuple[str, list[Account]]:
    """Returns under which key a job's parameters hold it, and the accounts that it concerns."""
    one = [account for account in accounts if str(account.pk) == whose.lower()] or [account for account in accounts if account.label == whose]
    if len(one) == 1:
        return str(one[0].pk), one
    if one:
        raise _wrong(line, _("several accounts are called “%(name)s”; name it by its id.") % {"name": whose})
    if whose in {provider.key for provider in all_providers()}:
        return whose, []  # whether each of its accounts offers the model, planning tells
    raise _wrong(line, _("“%(name)s” is no account that you may change, and no provider.") % {"name": whose[:80]})


def _check_offered(line: int, accounts: list[Account], model: str) -> None:
    for account in accounts:
        offered = account.catalogue.filter(gone_at__isnull=True)
        if offered.exists() and not offered.filter(model_id=model).exists():
            raise _wrong(line, _("%(account)s does not offer the model “%(model)s”.") % {"account": account.label, "model": model[:80]})


def _wrong(line: int, cause: str) -> ValidationError:
    return ValidationError(_("Line %(number)d: %(cause)s") % {"number": line, "cause": cause})
