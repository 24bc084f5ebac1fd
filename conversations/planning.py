"""Plans the items of a draft, as many at a time as have the same answer.

`plans.evaluate` is the only place of the rules. What stands here is what it looks at for an action (`_traits`): items that are equal in that are
evaluated once, and written with one statement. Where every row has an answer of its own, as a title has, each is evaluated and written for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from django.db import connection
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet, TextField
from django.db.models.functions import Cast

from accounts.models import Account, User

from . import bulk, plans, title_plans
from .models import Action, Job, JobItem
from .plans import Plan

CHUNK = 2000
KNOWN_ANSWERS = 10_000  # kept at most: a selection in which no two conversations are alike must not fill the memory
FEW = 8  # items with one answer: fewer are written one by one
NAMED_AT_ONCE = 10_000  # items that one statement names
MANY = 5000  # items of a job from which on PostgreSQL is told that they are there
# What no rule looks at; it is most of what a conversation's row weighs.
_UNSEEN = ("details", "warning", "more_models", "group")

Row = tuple[Any, ...]
Answers = dict[int, tuple[Plan, list[int]]]  # plans, told apart as objects, and the items that get them
Answered = tuple[int, str, Plan, Plan]  # item, remote id, its plan, its plan where another item of the job is the same conversation


def plan_items(job: Job, account: Account, taken: set[str]) -> None:
    """Fills the items of one account. `taken` holds the remote ids of accounts before with its upstream identity, and grows by its own."""
    names: dict[str, str] = dict(account.catalogue.values_list("model_id", "name"))
    aims = plans.chosen(job, account)
    plans.check_chosen(job, account, aims)
    distinct = title_plans.Distinct(job, account)
    answers: Answers = {}
    for pk, remote_id, made, twice in _answered(job, account, lambda item: plans.evaluate(job, item, account, aims, names)):
        if remote_id in taken:
            made = twice
        if made.reason != "left_out":
            taken.add(remote_id)
        distinct.note(pk, made)
        answers.setdefault(id(made), (made, []))[1].append(pk)
        if len(answers) >= CHUNK:
            _write(answers)
            answers = {}
    _write(answers)
    _write_targets(distinct.corrections())


def _answered(job: Job, account: Account, evaluate: Callable[[JobItem], Plan]) -> Iterator[Answered]:
    """Yields what each item of an account starts with, in their order."""
    items = job.items.filter(account=account)

    def answer(item: JobItem) -> tuple[Plan, Plan]:
        return evaluate(item), plans.left_out(job, item, "duplicate")

    traits = _traits(job, account)
    if traits is None:
        for item in whole(items).order_by("ordinal").iterator(chunk_size=CHUNK):
            yield item.pk, item.remote_id, *answer(item)
        return
    columns, trait = traits
    known: dict[Hashable, tuple[Plan, Plan]] = {}
    for rows in _chunks(items, columns):
        if len(known) > KNOWN_ANSWERS:
            known = {}
        keys = [row[2:] if trait is None else (row[2:4], trait(*row[4:])) for row in rows]
        first: dict[Hashable, int] = {}
        for row, key in zip(rows, keys, strict=True):
            if key not in known:
                first.setdefault(key, row[0])
        if first:
            found = whole(items).in_bulk(list(first.values()))
            known |= {key: answer(found[pk]) for key, pk in first.items()}
        for row, key in zip(rows, keys, strict=True):
            yield row[0], row[1], *known[key]


def whole(items: QuerySet[JobItem]) -> QuerySet[JobItem]:
    """Returns the items with all that a rule may look at."""
    return items.select_related("conversation").defer(*(f"conversation__{name}" for name in _UNSEEN))


def _chunks(items: QuerySet[JobItem], columns: dict[str, Any]) -> Iterator[list[Row]]:
    """Yields the items in their order as (id, remote id, ticked, whether the conversation is there, `columns`)."""
    there = ExpressionWrapper(Q(conversation__isnull=False, conversation__gone_at=None), BooleanField())
    wanted = items.annotate(there=there, **columns).order_by("ordinal")
    rows = wanted.values_list("pk", "remote_id", "ticked", "there", *columns)
    chunk: list[Row] = []
    for row in rows.iterator(chunk_size=CHUNK):
        chunk.append(row)
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


# --- what an answer depends on --------------------------------------------------------------------------------------------------------


def _traits(job: Job, account: Account) -> tuple[dict[str, Any], Callable[..., Hashable] | None] | None:
    """Returns which columns the rules of a job's action look at, and what of them makes two rows one case (None: all of them).

    Returns None where no two rows are one case. Beside these columns the rules look at whether a conversation is there and at what a person
    ticked. JSON is compared as the text that is stored.
    """
    if job.action == Action.SWITCH_MODEL:
        listed = {"aim": _text("target")} if "list" in job.params else {}
        return {"now": F("conversation__model"), "stored": _text("conversation__model_value")} | listed, None
    if job.action == Action.CONFIGURE:
        touched = list(plans.chosen(job, account))
        return {"config": F("conversation__config")}, lambda config: _touched(config, touched)
    if job.action == Action.RESTORE:
        stored = {"stored": _text("conversation__model_value"), "title_now": F("conversation__title"), "config": _text("conversation__config")}
        return {"was": _text("expected"), "aim": _text("target")} | stored, _restored
    return None


def _text(name: str) -> Any:
    return Cast(F(name), TextField())


def _touched(config: dict[str, Any] | None, names: list[str]) -> Hashable:
    """What a job that sets these settings sees of a conversation's."""
    if not config:
        return bool(config)
    return tuple(json.dumps(config[name], sort_keys=True) if name in config else None for name in names)


def _restored(was: str | None, aim: str | None, stored: str | None, title: str | None, config: str | None) -> Hashable:
    """What an undo sees of a conversation: only the values that it is to bring back."""
    names = json.loads(aim) if aim else {}
    # What a copy without a model says of one can only stand among its settings.
    other = config if stored is None or names.keys() - {"title", "model"} else None
    return was, aim, stored if "model" in names else None, title if "title" in names else None, other


# --- writing ------------------------------------------------------------------------------------------------------------------------


def _columns(made: Plan) -> Row:
    return _dump(made.expected), _dump(made.target), made.status.value, made.reason


def plan_row(item: JobItem, made: Plan) -> Row:
    """Returns what `write_plans` takes of one item."""
    return *_columns(made), item.pk


def _dump(values: dict[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(values, ensure_ascii=False)


def _write(answers: Answers) -> None:
    """Writes what items of a draft start with, by answer; they count as not read at their providers yet."""
    write_plans([(*_columns(made), pk) for made, pks in answers.values() if len(pks) < FEW for pk in pks])
    table = connection.ops.quote_name(JobItem._meta.db_table)
    sets = "expected = %s, target = %s, status = %s, reason = %s, checked_at = NULL"
    with connection.cursor() as cursor:
        for made, pks in answers.values():
            for begin in range(0, len(pks) if len(pks) >= FEW else 0, NAMED_AT_ONCE):
                named, given = _named(pks[begin : begin + NAMED_AT_ONCE])
                cursor.execute(f"UPDATE {table} SET {sets} WHERE id {named}", [*_columns(made), *given])


def _named(pks: list[int]) -> tuple[str, list[Any]]:
    """Returns the condition that is true of these ids, and its parameters."""
    if connection.vendor == "postgresql":
        return "= ANY(%s)", [pks]  # read in a quarter less time than a list
    return f"IN ({','.join(map(str, pks))})", []  # numbers of our own, written out: it takes fewer parameters than items


def write_plans(batch: list[Row], *, unread: bool = True) -> None:
    """Writes what items of a draft start with; `unread` also makes them count as not read at their providers yet."""
    if not batch:
        return
    table = connection.ops.quote_name(JobItem._meta.db_table)
    forget = ", checked_at = NULL" if unread else ""
    bulk.execute(f"UPDATE {table} SET expected = %s, target = %s, status = %s, reason = %s{forget} WHERE id = %s", batch)


def _write_targets(found: Iterable[tuple[str, str, int]]) -> None:
    rows = list(found)
    table = connection.ops.quote_name(JobItem._meta.db_table)
    bulk.execute(f"UPDATE {table} SET target = %s, reason = %s WHERE id = %s", rows)


def hold(user: User) -> None:
    """Keeps the accounts that a person may change from being deleted until the end of the transaction, as a reference to them would."""
    if connection.vendor == "postgresql":
        editable = list(Account.objects.editable_by(user).order_by("pk").values_list("pk", flat=True))
        with connection.cursor() as cursor:
            table = connection.ops.quote_name(Account._meta.db_table)
            cursor.execute(f"SELECT id FROM {table} WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE", [editable])


def count_anew() -> None:
    """Lets PostgreSQL see that its table of items has grown by many; until it does, it plans for a few rows and reads them over and over."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {connection.ops.quote_name(JobItem._meta.db_table)} (job_id, account_id, status)")
