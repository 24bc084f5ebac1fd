"""One change of one conversation, the same for a click and for an item of a job: read, compare, remember, write, verify.

`run_edit` is the algorithm; it knows neither users nor rows. `edit_now` is a person's single edit with everything around it: permission,
the claim on the remote conversation, the mirror and the audit entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts import services
from accounts.models import Account, User
from accounts.providers.base import Provider
from accounts.providers.errors import (
    CredentialsRejected,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    Unsupported,
)
from accounts.providers.records import Ref, RemoteConversation
from accounts.providers.schema import Op, validate
from accounts.request_log import about

from . import claims, mirror
from .models import AuditEntry, Conversation, Job
from .states import ItemStatus

logger = logging.getLogger(__name__)
S = ItemStatus
Values = dict[str, Any]
SaveBefore = Callable[[Values], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """How one change ended. `before`, `after` hold the touched values only; `remote` is the freshest reading."""

    status: ItemStatus
    reason: str = ""
    before: Values | None = None
    after: Values | None = None
    remote: RemoteConversation | None = None
    error: ProviderError | None = None
    wrote: bool = False

    @property
    def detail(self) -> str:
        """The provider's own words, or else our sentence, untranslated."""
        return (self.error.detail or self.error.message)[:400] if self.error else ""


Operation = Callable[[Provider, SaveBefore], Awaitable[Outcome]]


@dataclass(slots=True)
class Trust:
    """Whether the answer of a write counts as the look afterwards, for one account and one run of its lane.

    The first write of each kind is looked at independently; when its answer told the truth, later answers of that kind are believed.
    One lie ends that for good, and the account remembers it.
    """

    proved: set[str] = field(default_factory=set)
    lied: bool = False
    proving: dict[str, asyncio.Event] = field(default_factory=dict)

    async def believes(self, changes: Mapping[str, Any]) -> bool:
        """True when an answer to these changes has been proved before; waits while that is being found out.

        Whoever hears False looks, and calls `looked` afterwards in any case.
        """
        kind = self.kind(changes)
        while not self.lied and kind not in self.proved:
            if kind not in self.proving:
                self.proving[kind] = asyncio.Event()
                return False
            await self.proving[kind].wait()
        return not self.lied

    def looked(self, changes: Mapping[str, Any]) -> None:
        """Lets those go on who wait for what this look said; where it said nothing, one of them looks."""
        if (waiting := self.proving.pop(self.kind(changes), None)) is not None:
            waiting.set()

    def learn(self, changes: Mapping[str, Any], *, honest: bool) -> None:
        """Takes in what an independent look said about an answer."""
        if honest:
            self.proved.add(self.kind(changes))
        else:
            self.lied = True

    @staticmethod
    def kind(changes: Mapping[str, Any]) -> str:
        """Returns the kind of a change: the names of the values that it touches."""
        return ",".join(sorted(changes))


async def _nothing(_before: Values) -> None:
    return None


async def run_edit(
    provider: Provider,
    ref: Ref,
    target: Values,
    *,
    expected: Values | None = None,
    before: Values | None = None,
    save_before: SaveBefore = _nothing,
    trust: Trust | None = None,
    current: RemoteConversation | None = None,
) -> Outcome:
    """Brings one conversation to `target` and returns what is stored afterwards.

    `expected` is what the person saw (None: whatever is there); `before` is set when an earlier run already remembered it. `save_before`
    is awaited before any write is sent: it must have stored its argument for good when it returns, and may raise to forbid the write. Errors
    of the read are raised; an error of the write becomes an Outcome after a second look, except CredentialsRejected and retryable refusals,
    which changed nothing.
    """
    for name in target:
        if not provider.capability(provider.op_for(name)).available:
            raise provider.no(provider.op_for(name))
    current = current or await provider.read(ref)
    now = _pick(current, target)
    if _is_there(provider, now, target, written=before is not None):
        arrived = before is not None
        reason = "checked_after_no_answer" if arrived else "already_there"
        return Outcome(S.APPLIED if arrived else S.UNCHANGED, reason, before, now, current, wrote=arrived)
    allowed = [values for values in (expected, before) if values is not None]
    if allowed and not any(_same(provider, now, values) for values in allowed):
        return Outcome(S.CONFLICT, "changed_since_preview", before, now, current)
    before = now if before is None else before
    await save_before(before)
    return await _write_and_look(provider, ref, current, target, before, trust or Trust())


async def run_look(provider: Provider, ref: Ref, target: Values, *, before: Values) -> Outcome:
    """Tells what became of a change that may have been sent, without sending anything: applied, not there, or a third value."""
    current = await provider.read(ref, fresh=True)
    now = _pick(current, target)
    if _is_there(provider, now, target, written=True):
        return Outcome(S.APPLIED, "checked_after_no_answer", before, now, current, wrote=True)
    if _same(provider, now, before):
        return Outcome(S.PENDING, "not_there", before, now, current)
    return Outcome(S.CONFLICT, "changed_since_preview", before, now, current)


async def _write_and_look(provider: Provider, ref: Ref, current: RemoteConversation, target: Values, before: Values, trust: Trust) -> Outcome:
    lost: OutcomeUnknown | None = None
    answered: RemoteConversation | None = None
    try:
        answered = await provider.write(current, target)
    except OutcomeUnknown as error:
        lost = error
    except NotFound as error:
        return Outcome(S.SKIPPED, "gone", before, None, current, error)
    except ProviderError as error:
        if error.retryable or isinstance(error, CredentialsRejected):
            raise  # refused and not carried out
        return Outcome(S.FAILED, error.kind, before, None, current, error)
    if answered is None or current.evasive:
        return await _look(provider, ref, current, target, before, trust, answered, lost)
    if await trust.believes(target) and _is_there(provider, _pick(answered, target), target, written=True):
        return _verdict(provider, before, target, answered)
    try:
        return await _look(provider, ref, current, target, before, trust, answered, lost)
    finally:
        trust.looked(target)


async def _look(
    provider: Provider,
    ref: Ref,
    current: RemoteConversation,
    target: Values,
    before: Values,
    trust: Trust,
    answered: RemoteConversation | None,
    lost: OutcomeUnknown | None,
) -> Outcome:
    """Reads what is stored after a write, mends what it emptied by accident, and learns whether its answer told the truth."""
    emptied: tuple[str, ...] = ()
    try:
        stored = await provider.read(ref, fresh=True)
        if emptied := provider.vanished(current, stored, target):
            trust.learn(target, honest=False)  # whatever becomes of it
            logger.warning("a write at %s emptied %s; writing it back", provider.key, ", ".join(emptied))
            await provider.repair(current, target)
            stored = await provider.read(ref, fresh=True)
            emptied = provider.vanished(current, stored, target)
    except (ProviderError, ValueError) as error:
        # Why nobody could look matters more than why no answer came: a dead credential needs a person.
        failed = error if isinstance(error, CredentialsRejected) else lost or (error if isinstance(error, ProviderError) else None)
        if emptied:  # a later look at the target alone would call this applied
            return Outcome(S.CONFLICT, "changed_by_write", before, _pick(stored, target), stored, failed, wrote=True)
        return Outcome(S.FAILED, "outcome_unknown", before, None, current, failed, wrote=True)
    if emptied:
        return Outcome(S.CONFLICT, "changed_by_write", before, _pick(stored, target), stored, lost, wrote=True)
    if answered is not None and not trust.lied:
        trust.learn(target, honest=_same(provider, _pick(answered, target), _pick(stored, target)))
    return _verdict(provider, before, target, stored, lost)


def _verdict(provider: Provider, before: Values, target: Values, stored: RemoteConversation, lost: ProviderError | None = None) -> Outcome:
    after = _pick(stored, target)
    if _same(provider, after, target):
        return Outcome(S.APPLIED, "checked_after_no_answer" if lost else "", before, after, stored, wrote=True)
    if _same(provider, after, _stored_form(provider, target)):
        return Outcome(S.APPLIED, "altered_by_provider", before, after, stored, wrote=True)
    if _same(provider, after, before):
        reason = "outcome_unknown" if lost else "accepted_not_applied"
        return Outcome(S.NOT_APPLIED, reason, before, after, stored, lost, wrote=True)
    return Outcome(S.CONFLICT, "changed_by_write", before, after, stored, lost, wrote=True)


def _pick(remote: RemoteConversation, names: Mapping[str, Any]) -> Values:
    return {name: mirror.storable(remote.values.get(name)) for name in names}


def _same(provider: Provider, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(provider.same_value(name, value, other.get(name)) for name, value in one.items())


def _is_there(provider: Provider, now: Values, target: Values, *, written: bool = False) -> bool:
    """True for the target; after a write of ours also for the form in which this provider is known to store it."""
    return _same(provider, now, target) or (written and _same(provider, now, _stored_form(provider, target)))


def _stored_form(provider: Provider, target: Values) -> Values:
    return {name: provider.stored_form(name, value) for name, value in target.items()}


async def run_generate(provider: Provider, ref: Ref, *, expected: Values | None, before: Values | None, save_before: SaveBefore) -> Outcome:
    """Has the provider make a title of its own, once: what was sent before is only looked at, never sent again.

    Errors of the reads are raised, and so are CredentialsRejected and retryable refusals of the order itself, which changed nothing.
    """
    current = await provider.read(ref, fresh=before is not None)
    now = {"title": current.values.get("title", current.title)}
    if before is not None:
        if now != before:
            return Outcome(S.APPLIED, "checked_after_no_answer", before, now, current, wrote=True)
        return Outcome(S.NOT_APPLIED, "outcome_unknown", before, now, current, wrote=True)
    if expected is not None and not _same(provider, now, expected):
        return Outcome(S.CONFLICT, "changed_since_preview", None, now, current)
    first = await provider.first_message(ref)
    if not first:
        return Outcome(S.SKIPPED, "no_first_message", None, now, current)
    await save_before(now)
    lost: ProviderError | None = None
    try:
        await provider.generate_title(current, first)
    except OutcomeUnknown as error:
        lost = error
    except ProviderError as error:
        if error.retryable or isinstance(error, CredentialsRejected):
            raise  # refused and not carried out
        return Outcome(S.FAILED, error.kind, None, None, current, error)
    try:
        stored = await provider.read(ref, fresh=True)
    except ProviderError as error:
        failed = error if isinstance(error, CredentialsRejected) else lost or error
        return Outcome(S.FAILED, "outcome_unknown", now, None, current, failed, wrote=True)
    after = {"title": stored.values.get("title", stored.title)}
    if after == now:
        return Outcome(S.NOT_APPLIED, "outcome_unknown" if lost else "accepted_not_applied", now, after, stored, lost, wrote=True)
    return Outcome(S.APPLIED, "checked_after_no_answer" if lost else "", now, after, stored, wrote=True)


# --- a person's single edit ---------------------------------------------------------------------------------------------------------


def check_changes(conversation: Conversation, given: Mapping[str, Any]) -> Values:
    """Returns clean target values for what a person asked (title, model as a catalogue id, settings); raises ValidationError by field."""
    provider = conversation.account.provider
    errors: dict[str, list[str]] = {}
    clean: Values = {}
    for name in given:
        capability = provider.capability(provider.op_for(name))
        if not capability.available:
            errors[name] = [_(capability.reason)]
    rest = {name: value for name, value in given.items() if name not in errors and name not in ("title", "model")}
    config, problems = validate(provider.config_fields, rest)
    clean |= config
    if "title" in given and "title" not in errors:
        try:
            clean["title"] = provider.title_field.parse(given["title"])
        except ValueError as problem:
            problems["title"] = problem.args[0], problem.args[1]
    if "model" in given and "model" not in errors:
        chosen = str(given["model"])
        if not chosen:
            problems["model"] = "This field is required.", {}
        elif not _is_offered(conversation, chosen):
            problems["model"] = _("This account does not offer the model “%(model)s”."), {"model": chosen}
        else:
            clean["model"] = provider.model_value(conversation.model_value, chosen)
    for name, (message, params) in problems.items():
        errors[name] = [_(message) % params if params else _(message)]
    if errors:
        raise ValidationError(errors)
    return clean


def _is_offered(conversation: Conversation, model_id: str) -> bool:
    catalogue = conversation.account.catalogue
    if catalogue.filter(model_id=model_id, gone_at__isnull=True).exists() or model_id == conversation.model:
        return True
    return not catalogue.exists()  # the catalogue has not been read: the provider decides


def edit_now(user: User, conversation: Conversation, target: Values, *, expected: Values | None = None, what: str = "edit") -> Outcome:
    """Changes one conversation for a person who waits, and returns how it ended; everything but a refused permission ends in an Outcome.

    `expected` is what the person saw on the screen (None: the mirror's values). Raises PermissionDenied.
    """
    if not Conversation.objects.editable_by(user).filter(pk=conversation.pk).exists():
        raise PermissionDenied
    seen = {name: conversation.values.get(name) for name in target} if expected is None else expected
    ref = mirror.ref_of(conversation)
    return _claimed(user, conversation, what, lambda provider, save: run_edit(provider, ref, target, expected=seen, save_before=save))


def generate_now(user: User, conversation: Conversation) -> Outcome:
    """Has the provider make a title for one conversation; raises PermissionDenied."""
    if not Conversation.objects.editable_by(user).filter(pk=conversation.pk).exists():
        raise PermissionDenied
    if not conversation.account.provider.capability(Op.GENERATE_TITLE).available:
        return Outcome(S.FAILED, "unsupported", error=conversation.account.provider.no(Op.GENERATE_TITLE))
    seen, ref = {"title": conversation.title}, mirror.ref_of(conversation)
    return _claimed(
        user, conversation, "generate title", lambda provider, save: run_generate(provider, ref, expected=seen, before=None, save_before=save)
    )


def _claimed(user: User, conversation: Conversation, what: str, operation: Operation) -> Outcome:
    account = conversation.account
    if Account.objects.filter(pk=account.pk, paused_at__isnull=False).exists():
        return Outcome(S.FAILED, "paused")
    try:
        claim = claims.claim(account.upstream_identity, [conversation.remote_id], holder=f"user {user.pk}", wait=3.0)
        with claim as taken, about(f"conversation:{conversation.pk}"):
            outcome = _called(account, operation) if taken else Outcome(S.FAILED, "busy")
    except redis.RedisError:
        away = ProviderUnavailable(gettext_noop("The limits of this account cannot be looked up (Redis); nothing was sent."))
        return Outcome(S.FAILED, away.kind, error=away)
    if outcome.reason == "gone":
        mirror.note_gone(conversation)
    elif outcome.remote is not None:
        if outcome.wrote:
            mirror.note_write(conversation, outcome.remote)
        else:
            mirror.upsert(account, [outcome.remote])
            conversation.refresh_from_db()
    record(user, account, conversation, what, outcome)
    return outcome


def _called(account: Account, operation: Operation) -> Outcome:
    sent: list[Values] = []  # the value before, once a write may be under way

    async def remember(before: Values) -> None:
        sent.append(before)

    try:
        return services.call(account, lambda provider: operation(provider, remember))
    except NotFound as error:
        return Outcome(S.SKIPPED, "gone", error=error)
    except Unsupported as error:
        return Outcome(S.FAILED, "unsupported", error=error)
    except ProviderError as error:
        return Outcome(S.FAILED, error.kind, error=error)
    except Exception:
        logger.exception("a single edit at account %s", account.pk)
        return Outcome(S.FAILED, "outcome_unknown" if sent else "internal", before=sent[0] if sent else None, wrote=bool(sent))


def record(user: User | None, account: Account, conversation: Conversation | None, what: str, outcome: Outcome, job: Job | None = None) -> None:
    """Adds the audit entry of a change that was tried; looking and finding nothing to do is not a change."""
    subject = (conversation.pk, conversation.remote_id) if conversation else (None, "")
    entry = audit_entry(user, account, subject, what, outcome, job)
    if entry is not None:
        entry.save(force_insert=True)


def audit_entry(
    user: User | None, account: Account, subject: tuple[int | None, str], what: str, outcome: Outcome, job: Job | None = None
) -> AuditEntry | None:
    """Returns the unsaved audit entry of an outcome, None when nothing was tried; `subject` is the conversation's id here and at its provider."""
    if outcome.status.value not in AuditEntry.RESULTS or outcome.status == S.UNCHANGED:
        return None
    return AuditEntry(
        actor_id=user.pk if user else None,
        actor_name=str(user or "")[:200],
        account_id=account.pk,
        account_label=account.label,
        conversation_id=subject[0],
        remote_id=subject[1],
        job_id=job.pk if job else None,
        what=what,
        result=outcome.status.value,
        reason=outcome.reason,
        before=outcome.before,
        after=outcome.after,
        note=job.note if job else "",
    )
