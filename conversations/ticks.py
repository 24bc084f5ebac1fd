"""What a person ticks and unticks in a preview: single rows, whole groups, and everything that cannot change at once.

A choice is kept with its item (`JobItem.ticked`), and planning and checking respect it. The counters of the draft stay exact, so the number
on the button is the number that would run.
"""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Account, User

from . import planning, plans, title_plans, titles, wake
from .models import Job, JobItem, Order
from .states import ItemStatus, recount

S = ItemStatus
TICKED = Q(status=S.PENDING)
UNTICKED = Q(status=S.SKIPPED, reason__in=plans.TICKABLE)
STUCK = Q(status=S.SKIPPED) & ~Q(reason__in=plans.TICKABLE)  # cannot be changed, whatever a person ticks


def tick(user: User, job: Job, items: QuerySet[JobItem], *, ticked: bool) -> int:
    """Keeps a person's choice for those items of a draft that can be chosen, and returns how many of them changed."""
    with transaction.atomic():
        draft = _draft(user, job)
        if draft is None:
            return 0
        chosen = items.filter(UNTICKED if ticked else TICKED, job=draft)
        if not ticked:
            count = chosen.update(ticked=False, status=S.SKIPPED, reason="left_out")
        else:
            count = _plan_again(draft, chosen)
            for account_id in draft.items.unchecked().order_by().values_list("account_id", flat=True).distinct():
                wake.check(draft.pk, account_id)
        recount(draft)
    return count


def _plan_again(job: Job, items: QuerySet[JobItem]) -> int:
    """Ticks items, gives each what it starts with now, and returns how many; what was read of them before counts as read."""
    count = 0
    for account in list(Account.objects.filter(pk__in=items.order_by().values("account_id"))):
        names: dict[str, str] = dict(account.catalogue.values_list("model_id", "name"))
        aims = plans.chosen(job, account)
        found = list(items.filter(account=account).select_related("conversation"))
        for item in found:
            item.ticked = True
        with titles.prepared(job.params, [item.conversation.title for item in found if item.conversation]):
            made = [(item, plans.evaluate(job, item, account, aims, names)) for item in found]
        settled = title_plans.Distinct(job, account).settled(made)
        job.items.filter(pk__in=items.filter(account=account).values("pk")).update(ticked=True)
        planning.write_plans([planning.plan_row(item, settled[item.pk]) for item in found], unread=False)
        count += len(made)
    return count


def drop_stuck(user: User, job: Job) -> int:
    """Takes everything that cannot change out of a draft and returns how many items that were."""
    with transaction.atomic():
        draft = _draft(user, job)
        if draft is None:
            return 0
        count, _models = draft.items.filter(STUCK).delete()
        if count:
            draft.selection = draft.selection | {"removed": removed(draft) + count}
            draft.save(update_fields=["selection"])
            recount(draft)
    return count


def removed(job: Job) -> int:
    """Returns how many items of the selection a person took out of the draft again."""
    return int(job.selection.get("removed") or 0)


def seen(job: Job) -> int | None:
    """Returns how many items a draft should have by what the person saw in the list, None when that is not known."""
    count = job.selection.get("count")
    return None if count is None else int(count) - removed(job)


def _draft(user: User, job: Job) -> Job | None:
    """Returns the planned draft, locked; None when it has been started or thrown away meanwhile. Raises PermissionDenied."""
    if not Job.objects.editable_by(user).filter(pk=job.pk).exists():
        raise PermissionDenied
    return Job.objects.select_for_update().filter(pk=job.pk, order=Order.DRAFT, planned_at__isnull=False).first()
