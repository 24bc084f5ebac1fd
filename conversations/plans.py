"""What an item of a job starts with: what it expects to find, what it aims at, or why it is left out. Read from our copy, sends nothing.

How titles are made is in titles.py, how two equal ones are told apart in title_plans.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from accounts.models import Account
from accounts.providers.base import Provider
from accounts.providers.schema import Op, validate

from . import titles
from .models import Action, Conversation, Job, JobItem
from .states import ItemStatus

S = ItemStatus
TICKABLE = ("left_out", "hand_made")  # reasons that a tick in the preview overrules
OPS = {Action.SWITCH_MODEL: Op.SWITCH_MODEL, Action.SET_TITLE: Op.RENAME, Action.CONFIGURE: Op.EDIT_CONFIG}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one item starts with."""

    expected: dict[str, Any] | None
    target: dict[str, Any] | None
    status: ItemStatus = S.PENDING
    reason: str = ""


def left_out(job: Job, item: JobItem, reason: str) -> Plan:
    """Returns the plan of an item that will not be run; what an undo expects and restores, and what a list said, stays to be seen."""
    undoing = job.action == Action.RESTORE
    return Plan(item.expected if undoing else None, item.target if undoing or "list" in job.params else None, S.SKIPPED, reason)


def evaluate(job: Job, item: JobItem, account: Account, aims: dict[str, Any], names: dict[str, str], first_message: str | None = None) -> Plan:
    """Returns what an item starts with: by the rules of the action, unless a person ticked or unticked it in the preview.

    `aims` is what `chosen` says of the account, `names` holds the names of its models by id.
    """
    made = _by_rule(job, item, account, aims, names, first_message)
    open_to_choice = made.status == S.PENDING or made.reason in TICKABLE
    if item.ticked is None or not open_to_choice:
        return made
    if not item.ticked:
        return Plan(made.expected, made.target, S.SKIPPED, "left_out")
    if made.status == S.PENDING:
        return made
    if made.target is None:
        return Plan(made.expected, None, S.PENDING, "needs_first_message")
    return _compared(account.provider, made.expected or {}, made.target)


def _by_rule(job: Job, item: JobItem, account: Account, aims: dict[str, Any], names: dict[str, str], first_message: str | None) -> Plan:
    """Returns what an item starts with, from its conversation's row as it is now."""
    row, provider = item.conversation, account.provider
    if row is None or row.gone_at is not None:
        return left_out(job, item, "gone")
    if job.action == Action.RESTORE:
        return restored(item, row, provider)
    op = Op.GENERATE_TITLE if job.params.get("generate") else OPS[Action(job.action)]
    if not provider.capability(op).available:
        return left_out(job, item, "unsupported")
    if job.action == Action.CONFIGURE:
        return configured(row, provider, aims)
    if "list" in job.params and item.target is None:
        return left_out(job, item, "not_listed")
    if job.action == Action.SWITCH_MODEL:
        if "list" in job.params:
            model = next(iter(provider.models_in((item.target or {}).get("model"))), "")
        else:
            model = aims.get(row.model or "") or aims.get("*", "")
        if not model:
            return left_out(job, item, "no_target")
        return _compared(provider, {"model": row.model_value}, {"model": provider.model_value(row.model_value, model)})
    return _titled(job, item, row, account, names, first_message)


def _titled(job: Job, item: JobItem, row: Conversation, account: Account, names: dict[str, str], first_message: str | None) -> Plan:
    expected = {"title": row.title}
    if titles.leaves_out(job.params, row) and item.ticked is not True:
        return Plan(expected, None, S.SKIPPED, "hand_made")
    if job.params.get("generate"):
        return Plan(expected, None)
    first = first_message if first_message is not None else row.first_message
    made = titles.make(job.params, row, account, names.get(row.model or "", row.model or ""), item.ordinal, first, item.target)
    if made.values is None:
        return Plan(expected, None, S.PENDING if made.reason == "needs_first_message" else S.SKIPPED, made.reason)
    return _compared(account.provider, expected, made.values)


def _compared(provider: type[Provider], expected: dict[str, Any], target: dict[str, Any]) -> Plan:
    return Plan(expected, target, S.PENDING, "already_there" if _same(provider, expected, target) else "")


# --- what a job aims at ---------------------------------------------------------------------------------------------------------------


def chosen(job: Job, account: Account) -> dict[str, Any]:
    """Returns what a job aims at for an account: current model -> new one with "*" for all others, or setting -> value; {} for nothing."""
    if job.action == Action.SWITCH_MODEL:
        return chosen_models(job, account)
    if job.action == Action.CONFIGURE and account.provider.capability(Op.EDIT_CONFIG).available:
        return validate(account.provider.config_fields, _of_account(job.params.get("config"), account) or {})[0]
    return {}


def check_chosen(job: Job, account: Account, aims: dict[str, Any]) -> None:
    """Raises ValidationError for a model that an account does not offer, and for settings that its provider does not have or would refuse."""
    provider = account.provider
    if job.action == Action.SWITCH_MODEL and aims and provider.capability(Op.SWITCH_MODEL).available:
        offered = set(account.catalogue.filter(gone_at__isnull=True).values_list("model_id", flat=True))
        for model in aims.values():
            if offered and model not in offered:  # a catalogue that was not read leaves it to the provider
                raise ValidationError(_("%(account)s does not offer the model “%(model)s”.") % {"account": account.label, "model": model})
    if job.action == Action.CONFIGURE and provider.capability(Op.EDIT_CONFIG).available:
        _clean, problems = validate(provider.config_fields, _of_account(job.params.get("config"), account) or {})
        if problems:
            texts = {name: _(message) % params if params else _(message) for name, (message, params) in problems.items()}
            wording = _("%(account)s, setting %(setting)s: %(problem)s")
            raise ValidationError([wording % {"account": account.label, "setting": name, "problem": text} for name, text in texts.items()])


def chosen_models(job: Job, account: Account) -> dict[str, str]:
    """Returns current model -> new one, "*" for all the others."""
    given = _of_account(job.params.get("targets"), account)
    if isinstance(given, dict):
        return {str(current): str(new) for current, new in given.items() if new}
    return {"*": str(given)} if given else {}


def _of_account(given: Any, account: Account) -> Any:
    """Returns what parameters say for an account: its own, else its provider's, else everybody's."""
    given = given or {}
    return given.get(str(account.pk)) or given.get(account.provider_key) or given.get("*")


# --- settings -----------------------------------------------------------------------------------------------------------------------


def configured(row: Conversation, provider: type[Provider], settings: dict[str, Any]) -> Plan:
    """Returns the plan of a conversation whose settings are edited: it holds the touched ones and no other."""
    if not settings:
        return Plan(None, None, S.SKIPPED, "no_target")
    if row.config and not settings.keys() <= row.config.keys():
        return Plan(None, None, S.SKIPPED, "no_such_setting")
    expected = {name: row.config.get(name) for name in settings}
    return _compared(provider, expected, settings)


# --- the way back -------------------------------------------------------------------------------------------------------------------


def restored(item: JobItem, row: Conversation, provider: type[Provider]) -> Plan:
    """Returns the plan of an item of an undo: values are those that the undone job noted, only the reason follows our copy."""
    target, expected = item.target or {}, item.expected or {}
    now = {name: value for name, value in row.values.items() if name in target}  # what the copy does not tell says nothing
    if cannot_restore(provider, item):
        return Plan(expected, target, S.SKIPPED, "cannot_be_restored")
    if len(now) == len(target) and _same(provider, now, target):
        return Plan(expected, target, S.PENDING, "already_there")
    return Plan(expected, target, S.PENDING, "" if _same(provider, now, expected) else "changed_since_job")


def cannot_restore(provider: type[Provider], item: JobItem) -> list[str]:
    """Returns the provider's sentences about values of an undo that it cannot store again."""
    sentences = (provider.cannot_store(name, value) for name, value in (item.target or {}).items())
    return list(dict.fromkeys(sentence for sentence in sentences if sentence))


def _same(provider: type[Provider], one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(provider.same_value(name, value, other.get(name)) for name, value in one.items())
