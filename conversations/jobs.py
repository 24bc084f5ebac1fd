"""Bulk jobs from selection to report: create a draft, plan and check its preview, start, pause, cancel, retry.

A draft freezes its selection as items, so the number in the bar, in the preview and in the run is one number. Planning fills what each item
expects and aims at; checking reads the provider and corrects that. Nothing here writes to a provider: lanes do.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import redis
from django.core.cache import cache
from django.core.exceptions import EmptyResultSet, PermissionDenied, ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Account, User
from accounts.providers.records import RemoteConversation

from . import canary as canaries
from . import limits, planning, plans, title_plans, titles, wake
from .models import NOT_STARTED, Action, AuditEntry, Conversation, Job, JobItem, JobState, Order
from .plans import Plan, evaluate, left_out
from .states import ItemStatus, finish_if_done, recount, transition_all

S = ItemStatus
DRAFTS_KEPT = timedelta(days=1)
CONFIRM_ABOVE = 200  # a job of more changes needs its number typed
PACE_SECONDS = 60
KEY_LENGTH = 64  # of the column


# --- selecting ----------------------------------------------------------------------------------------------------------------------


def create(
    user: User,
    action: str,
    conversations: QuerySet[Conversation],
    *,
    selection: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    key: str = "",
) -> Job:
    """Returns a draft whose items are exactly those of `conversations` that the user may change.

    `key` names the intent that is submitted: sent again, at the same moment or later, it returns the job that it made, whatever has become of
    that. Raises ValidationError for an unknown action or when nothing is left.
    """
    if action not in dict(Action.composable()):
        raise ValidationError(_("There is no action “%(action)s”.") % {"action": action})
    editable = conversations.editable_by(user).order_by("account_id", "rank", "-sort_at", "-pk")  # type: ignore[attr-defined]

    def make() -> Job:
        job = Job.objects.create(actor=user, action=action, selection=selection or {}, params=params or {}, key=key or None)
        return filled(job, _insert_items(job, editable), _("Nothing is selected that you may change."))

    return once(user, key, make)


def once(user: User, key: str, make: Callable[[], Job]) -> Job:
    """Returns the job that `make` makes with this key in one transaction, or the one that was made with it before, or at the same moment."""
    if len(key) > KEY_LENGTH:
        raise ValidationError(_("This submit cannot be read; reload the page and try again."))
    made = Job.objects.filter(actor=user, key=key).first() if key else None
    if made is not None:
        return made
    try:
        with transaction.atomic():
            planning.hold(user)
            job = make()
    except IntegrityError:
        made = Job.objects.filter(actor=user, key=key).first() if key else None
        if made is None:
            raise
        return made
    if job.n_pending >= planning.MANY:
        planning.count_anew()
    return job


def intent(key: str, *what: str) -> str:
    """Returns the key of one page's submit of just this: after "Back" something else may be submitted from the same page."""
    return hashlib.sha256(json.dumps([key, *what]).encode()).hexdigest() if key else ""


def filled(job: Job, count: int, empty: str) -> Job:
    """Notes how many items a new draft has got; raises ValidationError with this sentence when there are none."""
    if not count:
        raise ValidationError(empty)
    Job.objects.filter(pk=job.pk).update(n_pending=count)
    job.n_pending = count
    return job


def _insert_items(job: Job, conversations: QuerySet[Conversation]) -> int:
    """Copies the selection into items with one statement, numbered in its order."""
    order = [F("account_id").asc(), F("rank").asc(nulls_last=True), F("sort_at").desc(), F("pk").desc()]
    rows = conversations.order_by().annotate(n=Window(RowNumber(), order_by=order))
    try:
        sql, params = rows.values_list("n", "account_id", "pk", "remote_id", "title", "rank").query.sql_with_params()
    except EmptyResultSet:
        return 0  # known without asking: no ids were given
    table = connection.ops.quote_name(JobItem._meta.db_table)
    columns = "ordinal, account_id, conversation_id, remote_id, title, rank, job_id, status, reason, detail, attempts, tries, lease"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT chosen.*, %s, %s, '', '', 0, 0, '' FROM ({sql}) AS chosen",
            [job.pk, S.PENDING.value, *params],
        )
        return int(cursor.rowcount)


# --- planning -----------------------------------------------------------------------------------------------------------------------


def check_params(action: str, params: dict[str, Any]) -> None:
    """Raises ValidationError when a job's parameters cannot be planned with.

    switch-model: {"targets": {account id, provider key or "*": catalogue id, or {current model or "*": catalogue id}}};
    set-title: {"template"}, {"find", "replace", "regex"} or {"generate": true}, and {"include_hand_made"};
    both: {"list": name} when the items hold their targets already (lists.py);
    configure: {"config": {account id, provider key or "*": {setting: value, None for the provider's default}}}; restore: nothing.
    """
    if "list" in params:
        return
    if action == Action.SWITCH_MODEL:
        targets = params.get("targets")
        if not isinstance(targets, dict) or not any(targets.values()):
            raise ValidationError(_("Choose a model for at least one account."))
    elif action == Action.CONFIGURE:
        config = params.get("config")
        if not isinstance(config, dict) or not any(config.values()):
            raise ValidationError(_("Choose at least one setting to change."))
    elif action == Action.RESTORE:
        return
    elif "find" in params:
        titles.check_find(params)
    elif not params.get("generate"):
        titles.check_template(params.get("template", ""))


def plan(job: Job, params: dict[str, Any]) -> Job:
    """Fills expected value, target and reason of every item from our own copy and returns the job with exact counters.

    Raises ValidationError for parameters that cannot be used and for a job that is no draft any more. Sends nothing.
    """
    check_params(job.action, params)
    if job.order != Order.DRAFT:
        raise ValidationError(_("This job has been started; make a new one."))
    job.params = params
    shown = job.items.exclude(conversation=None).values_list("conversation__title", flat=True)
    with titles.prepared(params, shown, strict=True), transaction.atomic():
        # Planned and started at the same moment: whoever comes second is refused or waits.
        if not Job.objects.select_for_update().filter(pk=job.pk, order=Order.DRAFT).exists():
            raise ValidationError(_("This job has been started; make a new one."))
        taken: dict[str, set[str]] = {}
        for account in Account.objects.filter(Exists(job.items.filter(account=OuterRef("pk")))):
            planning.plan_items(job, account, taken.setdefault(account.upstream_identity, set()))
        job.planned_at = timezone.now()
        job.save(update_fields=["action", "params", "planned_at"])
        recount(job)
    wake_checks(job)
    return job


def wake_checks(job: Job) -> None:
    """Asks the workers to read what a preview holds and nobody has read yet."""
    unread = job.items.unchecked().filter(account=OuterRef("pk"))
    for account_id in Account.objects.filter(Exists(unread)).values_list("pk", flat=True):
        wake.check(job.pk, account_id)


def chosen_model(job: Job, account: Account) -> str:
    """Returns the catalogue id that a switch-model job aims at for an account, "" when none was chosen for all of its conversations."""
    return plans.chosen_models(job, account).get("*", "")


def is_settled_by_copy(item: JobItem) -> bool:
    """True when an item of a preview will not be run at all."""
    return item.status == S.SKIPPED


# --- the preview --------------------------------------------------------------------------------------------------------------------

# The groups of a preview: name -> what belongs to it. They add up to the selection.
NOT_POSSIBLE = ("unsupported", "no_target", "no_such_setting", "cannot_be_restored")
GROUPS: dict[str, Q] = {
    "change": Q(status=S.PENDING) & ~Q(reason__in=["already_there", "needs_first_message", "changed_since_job"]),
    "reading": Q(status=S.PENDING, reason="needs_first_message"),
    "unchanged": Q(status=S.PENDING, reason="already_there"),
    "drifted": Q(status=S.PENDING, reason="changed_since_job"),
    "unsupported": Q(status=S.SKIPPED, reason__in=NOT_POSSIBLE),
    "gone": Q(status=S.SKIPPED, reason="gone"),
    "other": Q(status=S.SKIPPED) & ~Q(reason__in=[*NOT_POSSIBLE, "gone"]),
}


def groups(job: Job) -> dict[str, int]:
    """Returns how many items of a preview are in each group; the numbers add up to the job's total."""
    return job.items.aggregate(**{name: Count("pk", filter=condition) for name, condition in GROUPS.items()})


def changes_by_account(job: Job) -> dict[Any, int]:
    """Returns how many items of a preview would be changed, by the id of their account. What is already there is only looked at."""
    found = job.items.filter(GROUPS["change"] | GROUPS["reading"]).order_by().values("account_id").annotate(count=Count("pk"))
    return {row["account_id"]: row["count"] for row in found}


def changes(job: Job) -> int:
    """Returns how many items of a preview would be changed: the number on the button."""
    return sum(changes_by_account(job).values())


def unchecked(job: Job) -> int:
    """Returns how many items of a preview have not been read at their provider yet."""
    return job.items.unchecked().count()


def recheck(job: Job, account: Account, found: dict[int, RemoteConversation | None], first: dict[int, str]) -> None:
    """Corrects items of a draft by what was just read: item id -> reading, None where the provider denied it; `first` holds first messages."""
    names = dict(account.catalogue.values_list("model_id", "name"))
    chosen = plans.chosen(job, account)
    now = timezone.now()
    shown = job.items.filter(pk__in=list(found)).exclude(conversation=None).values_list("conversation__title", flat=True)
    with titles.prepared(job.params, shown), transaction.atomic():
        draft = Job.objects.select_for_update().filter(pk=job.pk, order=Order.DRAFT, planned_at=job.planned_at)
        if not draft.exists():
            return
        items = list(job.items.filter(pk__in=list(found), checked_at__isnull=True).select_related("conversation"))
        made = [(item, _found_again(job, item, account, chosen, names, found[item.pk], first.get(item.pk))) for item in items]
        settled = title_plans.Distinct(job, account).settled(made)
        for item in items:
            plan = settled[item.pk]
            if plan.reason == "" and item.expected is not None and plan.expected != item.expected:
                plan = replace(plan, reason="changed_since_listed")
            job.items.filter(pk=item.pk).update(expected=plan.expected, target=plan.target, status=plan.status, reason=plan.reason, checked_at=now)
        recount(job)


def _found_again(
    job: Job, item: JobItem, account: Account, chosen: dict[str, Any], names: dict[str, str], found: RemoteConversation | None, first: str | None
) -> Plan:
    return left_out(job, item, "gone") if found is None else evaluate(job, item, account, chosen, names, first)


# --- orders -------------------------------------------------------------------------------------------------------------------------


def _mine(user: User, job: Job) -> None:
    """Raises PermissionDenied unless a job is this person's."""
    if not Job.objects.editable_by(user).filter(pk=job.pk).exists():
        raise PermissionDenied


def start(
    user: User,
    job: Job,
    *,
    note: str = "",
    typed_count: int | None = None,
    canary: int | None = None,
    canary_limit: int | None = None,
    priority: int = 0,
) -> bool:
    """Runs a planned draft and returns True; False when it runs already, so that a second click or a repeated request does nothing.

    Where its author may not change so many conversations alone it waits for the approval of others instead (limits.py, approvals.py).

    Above CONFIRM_ABOVE changes `typed_count` must be their number. `canary` conversations of each account are tried first (canary.py). Raises
    PermissionDenied, ValidationError.
    """
    _mine(user, job)
    job.refresh_from_db()
    if job.order != Order.DRAFT:
        return False
    if job.planned_at is None:
        raise ValidationError(_("Choose what the job should do first."))
    with transaction.atomic():
        # A preview that was planned anew since it was read above is not the one that was agreed to.
        draft = Job.objects.select_for_update().filter(pk=job.pk, order=Order.DRAFT, planned_at=job.planned_at).first()
        if draft is None:
            return False
        if not draft.n_pending:
            raise ValidationError(_("There is nothing to do in this job."))
        rows = changes_by_account(draft)
        count = sum(rows.values())
        if count > CONFIRM_ABOVE and typed_count != count:
            raise ValidationError({"typed_count": [_("Type the number of conversations, %(count)d, to run this job.") % {"count": count}]})
        ordered = {"note": note.strip()[:300], "priority": priority}
        tried = {"canary": canary or None} | ({} if canary_limit is None else {"canary_limit": canary_limit})
        Job.objects.filter(pk=job.pk).update(**ordered, **tried)
        draft.refresh_from_db()
        needed = limits.exceeded(user, rows)
        limits.ask(draft, needed)
        if needed:
            Job.objects.filter(pk=job.pk).update(order=Order.ASK)
        else:
            begin(draft, count)
    job.refresh_from_db()
    return True


def begin(job: Job, count: int, **entry: Any) -> None:
    """Lets a job with so many changes run, at once or after its last approval, within the transaction that has its row; `entry` is for the log."""
    Job.objects.filter(pk=job.pk).update(order=Order.RUN, started_at=timezone.now())
    job.refresh_from_db()
    canaries.hold(job)
    note_order(job.actor, job, "undo started" if job.undo_of_id else "job started", {"changes": count}, **entry)
    wake_lanes(job)


def note_order(user: User, job: Job, what: str, numbers: dict[str, Any], **entry: Any) -> None:
    """Adds the audit entry of an order to a whole job; an order has no result of its own."""
    AuditEntry.objects.create(actor=user, actor_name=str(user)[:200], job=job, what=what, note=job.note, after=numbers, **entry)


def wake_lanes(job: Job) -> None:
    """Wakes the lane of every account with work in this job."""
    for account_id in job.items.filter(status=S.PENDING).order_by().values_list("account_id", flat=True).distinct():
        wake.lane(account_id)


def pause(user: User, job: Job) -> bool:
    """Stops starting items; what is under way ends. Returns False when the job does not run. Admins of a team may, too (JobQuerySet.pausable_by)."""
    if not Job.objects.pausable_by(user).filter(pk=job.pk).exists():
        raise PermissionDenied
    return bool(Job.objects.filter(pk=job.pk, order=Order.RUN, finished_at__isnull=True).update(order=Order.PAUSE))


def resume(user: User, job: Job) -> bool:
    """Goes on with a paused job. Returns False when it is not paused."""
    _mine(user, job)
    with transaction.atomic():
        resumed = bool(Job.objects.filter(pk=job.pk, order=Order.PAUSE).update(order=Order.RUN))
        if resumed:
            wake_lanes(job)
    return resumed


def prioritise(user: User, job: Job, priority: int) -> bool:
    """Lets lanes take a job's items before those of jobs with a lower priority. Returns False when it has ended or has that priority."""
    _mine(user, job)
    return bool(Job.objects.filter(pk=job.pk, finished_at__isnull=True).exclude(priority=priority).update(priority=priority))


def cancel(user: User, job: Job) -> bool:
    """Ends a job truthfully: what has not been started never is, what is under way ends. Returns False when it has ended already."""
    _mine(user, job)
    with transaction.atomic():
        stopped = Job.objects.filter(pk=job.pk, order__in=[Order.RUN, Order.PAUSE, *NOT_STARTED], finished_at__isnull=True)
        if not stopped.update(order=Order.CANCEL):
            return False
        sweep_cancelled(job)
        finish_if_done(job.pk)
        ended = Job.objects.get(pk=job.pk)
        if ended.started_at or ended.approvals.exists():
            note_order(user, ended, "job cancelled", {name: count for name, count in ended.counts.items() if count})
        wake_lanes(job)  # for what may have been sent: a look tells whether it may be called not started
    return True


def sweep_cancelled(job: Job | None = None) -> None:
    """Ends what cancelled jobs (or this one) have not started, also what came back to them later.

    An item whose write may have been sent stays until a look has told; where nobody can look it ends as unknown.
    """
    items = JobItem.objects.filter(job__order=Order.CANCEL, job__finished_at__isnull=True)
    items = items if job is None else items.filter(job=job)
    transition_all(items.filter(before__isnull=True), S.PENDING, S.CANCELLED)
    transition_all(items.filter(reason="not_there"), S.PENDING, S.CANCELLED, reason="not_there")
    transition_all(items.filter(before__isnull=False), S.WAITING, S.FAILED, reason="outcome_unknown")
    transition_all(items, S.WAITING, S.CANCELLED)


# What an item that is tried once more forgets of its last end.
_AGAIN: dict[str, Any] = {"not_before": None, "tries": 0, "finished_at": None, "detail": "", "http_status": None}


def retry(user: User, job: Job) -> int:
    """Sends failed and not-applied items of the same job once more and returns how many; applied ones are never written again.

    A paused job stays paused, a cancelled one runs again with these.
    """
    _mine(user, job)
    if job.order in NOT_STARTED:
        return 0
    with transaction.atomic():
        _reopen(job.pk)
        count = transition_all(job.items.all(), S.FAILED, S.PENDING, decided=True, **_AGAIN)
        count += transition_all(job.items.all(), S.NOT_APPLIED, S.PENDING, decided=True, **_AGAIN)
        if not count:
            transaction.set_rollback(True)
            return 0
        wake_lanes(job)
    return count


def retry_item(user: User, item: JobItem) -> bool:
    """Sends one failed or not-applied item once more. Returns False when it is in another state by now."""
    _mine(user, item.job)
    if item.job.order in NOT_STARTED:
        return False
    one = JobItem.objects.filter(pk=item.pk)
    with transaction.atomic():
        _reopen(item.job_id)
        if not sum(transition_all(one, old, S.PENDING, decided=True, **_AGAIN) for old in (S.FAILED, S.NOT_APPLIED)):
            transaction.set_rollback(True)
            return False
        wake.lane(item.account_id)
    return True


def _reopen(job_id: int) -> None:
    Job.objects.filter(pk=job_id, order=Order.CANCEL).update(order=Order.RUN)


def decide(user: User, item: JobItem, *, overwrite: bool) -> bool:
    """Ends a conflict by a person's decision: `overwrite` aims again from the value shown, otherwise the provider's value is kept."""
    _mine(user, item.job)
    conflict = JobItem.objects.filter(pk=item.pk)
    if not overwrite:
        return bool(transition_all(conflict, S.CONFLICT, S.SKIPPED, reason="kept", decided=True))
    with transaction.atomic():
        _reopen(item.job_id)
        seen = item.after or item.expected
        # What an earlier write of ours remembered stays: undo goes back to the value from before the job.
        if not transition_all(conflict, S.CONFLICT, S.PENDING, decided=True, expected=seen, tries=0, finished_at=None, not_before=None):
            transaction.set_rollback(True)
            return False
        wake.lane(item.account_id)
    return True


def discard(user: User, job: Job) -> bool:
    """Deletes a draft, which has changed nothing. Returns False for a job that has been started: it stays as a record."""
    _mine(user, job)
    with transaction.atomic():
        draft = Job.objects.select_for_update().filter(pk=job.pk, order=Order.DRAFT).first()
        if draft is not None:
            draft.delete()
    return draft is not None


def discard_old_drafts(now: datetime | None = None) -> int:
    """Deletes drafts that nobody started within a day of their last plan or refusal; returns how many."""
    before = (now or timezone.now()) - DRAFTS_KEPT
    old = Job.objects.filter(order=Order.DRAFT, created_at__lt=before).exclude(planned_at__gte=before).order_by("pk")
    with transaction.atomic():
        drafts = list(old.select_for_update())
        for draft in drafts:
            draft.delete()
    return len(drafts)


# --- what a job shows ---------------------------------------------------------------------------------------------------------------


def pace(job: Job) -> float | None:
    """Returns how many items a minute ended lately, None while nothing can be said.

    Measured between looks at the job over the last minute, so that a pause or a retry a day later does not count as work.
    """
    key, now, ended = f"job-pace:{job.pk}", time.time(), job.total - job.open
    try:
        found = [(at, count) for at, count in cache.get(key) or () if now - at < PACE_SECONDS and count <= ended]
        if not found or now - found[-1][0] >= PACE_SECONDS / 12:
            cache.set(key, [*found, (now, ended)], PACE_SECONDS)
    except redis.RedisError:
        return None
    if not found or now - found[0][0] < 1:
        return None
    return 60 * (ended - found[0][1]) / (now - found[0][0])


def eta_seconds(job: Job, per_minute: float | None) -> int | None:
    """Returns about how many seconds a running job still needs at this pace, None when nothing can be said."""
    if job.state != JobState.RUNNING or not per_minute:
        return None
    return round(60 * (job.n_pending + job.n_running) / per_minute)


def ids_of(given: Iterable[str], *, items: bool = False) -> list[int]:
    """Returns conversation ids (or those of `items`) from text lines (a file of ids), raising ValidationError with the line that is none."""
    refusal = _("Line %(number)d is not the id of an item: %(text)s") if items else _("Line %(number)d is not a conversation id: %(text)s")
    found: list[int] = []
    for number, line in enumerate(given, start=1):
        text = line.strip()
        if not text:
            continue
        if not text.isdecimal() or len(text) > 18:
            raise ValidationError(refusal % {"number": number, "text": text[:40]})
        found.append(int(text))
    return found
