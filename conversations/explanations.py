"""Says of an item's state, in a person's language, where the cause lies and what to do next; what happened is said by `states.REASONS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from .attempts import LOST
from .states import REASONS, ItemStatus

S = ItemStatus

PROVIDER = _("The cause lies with the provider.")
ACCOUNT = _("The cause lies with the account: its credential, its address or who may use it.")
SOMEBODY = _("Somebody changed it at the provider; nobody made a mistake.")
ORDER = _("The cause lies in what was asked for.")
OURS = _("The cause lies with Switchboard or its server.")

_BY_ITSELF = _("Nothing to do: it is tried again by itself.")
_NOTHING = _("Nothing to do.")
_DECIDE = _("Keep the provider's value, or overwrite it.")
_ADDRESS = _("Check the base URL of the account, then retry.")
_RETRY = _("Retry it. If it stays like this, make the change on the provider's own page.")
_CREDENTIAL = _("Replace the credential of the account, then retry.")

# Reason -> where the cause lies, and what a person does next once the item has ended.
CAUSES: dict[str, tuple[Any, Any]] = {
    "": ("", ""),
    "already_there": ("", _NOTHING),
    "unsupported": (PROVIDER, _("Leave it out, or make the change on the provider's own page.")),
    "gone": (SOMEBODY, _("Nothing to do: our last copy is kept.")),
    "duplicate": ("", _("Nothing to do: it is changed through the other account.")),
    "changed_since_preview": (SOMEBODY, _DECIDE),
    "changed_by_write": (PROVIDER, _DECIDE),
    "accepted_not_applied": (PROVIDER, _RETRY),
    "altered_by_provider": (PROVIDER, _("Compare what is stored with what was wanted.")),
    "checked_after_no_answer": (PROVIDER, _NOTHING),
    "rate_limited": (PROVIDER, _("Retry it later, or lower the pace of the account.")),
    "unavailable": (PROVIDER, _("Retry it when the provider works again.")),
    "kept": ("", _NOTHING),
    "permission": (ACCOUNT, _("Give the credential the permission at the provider, then retry.")),
    "rejected": (ORDER, _("Read the provider's own words, then choose another value.")),
    "malformed_answer": (ACCOUNT, _ADDRESS),
    "address_refused": (ACCOUNT, _ADDRESS),
    "credentials_rejected": (ACCOUNT, _CREDENTIAL),
    "outcome_unknown": (PROVIDER, _("Retry it: a retry looks first, and writes only if the change is not there.")),
    "account_needs_reauth": (ACCOUNT, _("Replace the credential of the account; then it goes on by itself.")),
    "account_paused": (ACCOUNT, _("Resume the account; then it goes on by itself.")),
    "paused": (ACCOUNT, _("Resume the account, then retry.")),
    "access_removed": (ACCOUNT, _("Ask the owner of the account to share it again.")),
    "no_target": (ORDER, _("Make a new job and choose a target for this account.")),
    "changed_since_listed": (SOMEBODY, _("Look at the new value before you run the job.")),
    "no_such_setting": (PROVIDER, _NOTHING),
    "cannot_be_restored": (PROVIDER, _("Make the change on the provider's own page.")),
    "changed_since_job": (SOMEBODY, _DECIDE),
    "hand_made": ("", _("Tick it in a new preview to change it all the same.")),
    "left_out": ("", _("Tick it in a new preview to change it all the same.")),
    "not_listed": (ORDER, _("Add it to the list and upload that again.")),
    "pattern_too_slow": (ORDER, _("Choose a simpler pattern.")),
    "canary": ("", _BY_ITSELF),
    "canary_halted": (ORDER, _("Look at the first ones, then let the account go on or cancel the job.")),
    "no_first_message": (ORDER, _("Give it a title by hand.")),
    "empty_title": (ORDER, _("Give it a title by hand, or choose another template.")),
    "needs_first_message": ("", _("Nothing to do: the job reads it before it makes the title.")),
    "not_sent": (OURS, _BY_ITSELF),
    "interrupted": (OURS, _BY_ITSELF),
    "worker_lost": (OURS, _("Tell whoever runs this server; the log of the worker has more.")),
    "not_there": ("", _NOTHING),
    "busy": (OURS, _BY_ITSELF),
    "provider_error": (PROVIDER, _RETRY),
    "internal": (OURS, _("Retry it. If it stays like this, tell whoever runs this server.")),
}

# What a state says that needs no reason.
_PLAIN: dict[ItemStatus, Any] = {
    S.PENDING: _("It has not been started yet."),
    S.RUNNING: _("It is being worked on right now."),
    S.APPLIED: _("The change was made, and the provider shows it."),
    S.UNCHANGED: REASONS["already_there"],
    S.NOT_APPLIED: REASONS["accepted_not_applied"],
    S.CANCELLED: _("The job was cancelled before this was started."),
}
# Reasons for which an item that is still pending is tried again without anybody.
_PASSING = LOST | {"rate_limited", "unavailable", "outcome_unknown", "busy"}
_LOST = _("Its worker ended or was lost before it was done.")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, where the cause lies ("" where nothing is wrong) and what to do next ("" where nothing can be said)."""

    happened: Any
    cause: Any
    next_step: Any


def explain(status: ItemStatus, reason: str, *, happened: Any = "") -> Explanation:
    """Returns the explanation of an item's state; `happened` is said instead of the sentence of the reason."""
    sentence = happened or REASONS.get(reason) or (REASONS["provider_error"] if reason else _PLAIN.get(status, ""))
    cause, next_step = CAUSES.get(reason) or ("", "")
    if status == S.PENDING and reason in _PASSING:
        next_step = _BY_ITSELF
    return Explanation(sentence, cause, next_step)


def of_run(status: ItemStatus, reason: str) -> Any:
    """Returns how one run of an item ended, as a sentence."""
    if status == S.PENDING and reason in LOST:
        return _LOST
    return REASONS.get(reason) or (REASONS["provider_error"] if reason else _PLAIN.get(status, ""))
