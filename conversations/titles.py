"""How bulk titles are made: a template, find and replace, an uploaded list, or the provider's own; always cut so that no character breaks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Account

from . import numbering, patterns
from .graphemes import cut
from .masking import mask
from .models import Conversation, Job, JobItem

PLACEHOLDERS = ("first_message", "title", "model", "account", "date", "n")
_PLACEHOLDER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")


@dataclass(frozen=True, slots=True)
class Made:
    """A title as it will be written, or why there is none yet: values is None, and `reason` tells."""

    values: dict[str, Any] | None
    reason: str = ""


def check_template(template: str) -> None:
    """Raises ValidationError naming what cannot be understood in a template, at its place."""
    if not template.strip():
        raise ValidationError(_("Write a template, for example {first_message:30}."))
    for found in _PLACEHOLDER.finditer(template):
        name, width = found.group(1), found.group(2)
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{placeholder}}}" for placeholder in PLACEHOLDERS)
            raise ValidationError(
                _("{%(name)s} at character %(place)d is not known; there are %(known)s.") % {"name": name, "place": found.start() + 1, "known": known}
            )
        if width is not None and (not width.isdigit() or not 1 <= int(width) <= 500):
            raise ValidationError(
                _("{%(name)s:%(width)s} at character %(place)d: after the colon write a number of characters, 1 to 500.")
                % {"name": name, "width": width, "place": found.start() + 1}
            )
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValidationError(_("A brace is not closed: write {title}, {first_message:30}."))


def needs_first_message(params: dict[str, Any]) -> bool:
    """True when titles of this job cannot be made without each conversation's first message."""
    return any(found.group(1) == "first_message" for found in _PLACEHOLDER.finditer(params.get("template", "")))


def one_line(text: str) -> str:
    """Returns text with every run of white space made one space, as a title wants it."""
    return " ".join(text.split())


def render(template: str, *, title: str, first_message: str, model: str, account: str, date: datetime | None, n: int, limit: int) -> str:
    """Returns the title that a template gives, cut to the provider's limit; what looks like a secret in the first message is masked."""
    values = {
        "title": title,
        "first_message": one_line(mask(first_message)),
        "model": model,
        "account": account,
        "date": timezone.localtime(date).strftime("%Y-%m-%d") if date else "",
        "n": str(n),
    }

    def put(found: re.Match[str]) -> str:
        text = values[found.group(1)]
        return cut(text, int(found.group(2))) if found.group(2) else text

    return cut(one_line(_PLACEHOLDER.sub(put, template)), limit).strip()


def make(
    params: dict[str, Any],
    row: Conversation,
    account: Account,
    model_name: str,
    n: int,
    first_message: str | None,
    listed: dict[str, Any] | None = None,
) -> Made:
    """Returns the title of one conversation under a job's parameters.

    `first_message` None means that it has not been read yet; `listed` is what a list says about it.
    """
    limit = account.provider.title_field.max_length or 255
    if "list" in params:
        title = str((listed or {}).get("title") or "")
    elif "find" in params:
        replaced = _replaced(params, row.title)
        if replaced is None:
            return Made(None, "pattern_too_slow")
        title = cut(replaced, limit) if replaced != row.title else row.title
    else:
        if first_message is None and needs_first_message(params):
            return Made(None, "needs_first_message")
        if not first_message and needs_first_message(params):
            return Made(None, "no_first_message")
        title = render(
            params["template"],
            title=row.title,
            first_message=first_message or "",
            model=model_name,
            account=account.label,
            date=row.created_at or row.updated_at,
            n=n,
            limit=limit,
        )
    if not title.strip():
        return Made(None, "empty_title")
    return Made({"title": title})


def _replaced(params: dict[str, Any], title: str) -> str | None:
    if params.get("regex"):
        found = patterns.replaced(params["find"], params.get("replace", ""), title)
        return found if found is None or found == title else one_line(found)
    return title.replace(params["find"], params.get("replace", "")) if params["find"] else title


def check_find(params: dict[str, Any]) -> None:
    """Raises ValidationError, for a regular expression at its field, when nothing can be found and replaced with these."""
    if not params["find"]:
        raise ValidationError(_("Write what is to be found."))
    if params.get("regex"):
        patterns.check(params["find"], params.get("replace", ""))


def is_found(params: dict[str, Any], title: str) -> bool:
    """True when a title holds what is looked for, and where nothing is looked for."""
    return "find" not in params or (_replaced(params, title) != title if params.get("regex") else params["find"] in title)


def prepared(params: dict[str, Any], found: Iterable[str], *, strict: bool = False) -> AbstractContextManager[None]:
    """Returns a block in which the titles of many rows are made at once where that is quicker.

    `strict` raises ValidationError when one of them cannot be made.
    """
    if not params.get("regex"):
        return nullcontext()
    return patterns.prepared(params["find"], params.get("replace", ""), found, strict=strict)


def leaves_out(params: dict[str, Any], row: Conversation) -> bool:
    """True when a job that makes titles leaves this row alone, because a person chose its title and nobody asked for that to be replaced."""
    makes = "template" in params or bool(params.get("generate"))
    return makes and not row.untitled and not params.get("include_hand_made")


def numbers(params: dict[str, Any]) -> bool:
    """True when equal titles of this job are told apart by a number."""
    return not params.get("generate") and "targets" not in params


def is_left_as_it_is(params: dict[str, Any], title: str, now: str) -> bool:
    """True when what was looked for is not in a title, which therefore stays, whoever else has the same one."""
    return "find" in params and title == now


def for_item(job: Job, item: JobItem, account: Account, first_message: str | None) -> Made:
    """Returns the title for an item whose first message was read only now; "" stands for a conversation without one.

    It is kept with the item at once, so that those made after it in the same job differ from it.
    """
    row = item.conversation or Conversation(title=item.title, account=account)
    name = account.catalogue.filter(model_id=row.model or "").values_list("name", flat=True).first() if item.conversation_id else None
    made = make(job.params, row, account, name or row.model or "", item.ordinal, first_message or "")
    if made.values is None or "find" in job.params:
        return made
    wanted = numbering.Wanted(item.pk, made.values["title"], row.title, account.provider.title_field.max_length or 255)
    values = {"title": numbering.settle(job.pk, account.pk, [wanted], {})[item.pk]}
    JobItem.objects.filter(pk=item.pk, target__isnull=True).update(target=values)
    return Made(values)
