"""How titles would come out of what is being typed, for the first conversations of a draft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import Account
from accounts.providers.schema import Op

from . import numbering, titles
from .item_values import Value
from .models import Job, JobItem
from .states import REASONS


@dataclass(slots=True)
class Example:
    """How one title would come out."""

    before: Value
    after: Value
    changed: bool


EXAMPLES = 3
LOOKED_AT = 2000


def title_examples(job: Job, params: dict[str, Any]) -> list[Example]:
    """Returns how the first selected conversations would be titled; for find and replace, the first that hold the text."""
    items = job.shown.filter(conversation__isnull=False).select_related("account", "conversation").order_by("ordinal")
    items = items.filter(account__in=[account for account in _accounts(job) if account.provider.capability(Op.RENAME).available])
    makes = "template" in params and not params.get("include_hand_made")
    if makes and items.filter(conversation__untitled=True).exists():
        items = items.filter(conversation__untitled=True)  # the others are left out
    with titles.prepared(params, items.values_list("conversation__title", flat=True)[:LOOKED_AT]):
        return _title_examples(items, params)


def _title_examples(items: QuerySet[JobItem], params: dict[str, Any]) -> list[Example]:
    found: list[Example] = []
    names: dict[Any, dict[str, str]] = {}
    taken: dict[Any, set[str]] = {}
    for item in items[:LOOKED_AT].iterator(chunk_size=100):
        row, account = item.conversation, item.account
        if row is None or not titles.is_found(params, row.title):
            continue
        known = names.setdefault(account.pk, dict(account.catalogue.values_list("model_id", "name")))
        made = titles.make(params, row, account, known.get(row.model or "", row.model or ""), item.ordinal, row.first_message)
        before = Value(row.title) if row.title else Value(_("no title"), muted=True)
        if made.values is None:
            found.append(Example(before, Value(str(REASONS[made.reason]), muted=True), False))
        else:
            wanted = numbering.Wanted(item.pk, made.values["title"], row.title, account.provider.title_field.max_length or 255)
            title = numbering.distribute([wanted], taken.setdefault(account.pk, set()))[item.pk]
            found.append(Example(before, Value(title), title != row.title))
        if len(found) == EXAMPLES:
            break
    return found


def _accounts(job: Job) -> QuerySet[Account]:
    return Account.objects.filter(pk__in=job.shown.order_by().values("account_id").distinct())
