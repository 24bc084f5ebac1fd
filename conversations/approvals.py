"""The answers of second persons: a job above its author's limit waits (Order.ASK) until each team that limits.py named has approved, or one refuses.

Admins and owners of such a team answer, never about a job of their own, and each request once. What is needed is found anew with every answer:
roles, sharing and limits may have changed since. While a job waits nothing of it changes, and no lane may begin it.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import MANAGING, Membership, User

from . import jobs, limits
from .models import Approval, Job, Order

REASON_LENGTH = 300  # of the column


# --- who may ------------------------------------------------------------------------------------------------------------------------


def leads(user: User, job: Job) -> dict[int, str]:
    """Returns the role of this person in each team that was asked and that they lead; nobody leads where a job of their own is concerned."""
    if not user.is_active or user.pk == job.actor_id:
        return {}
    found = Membership.objects.filter(user=user, role__in=MANAGING, team__in=job.approvals.order_by().values("team"))
    return dict(found.values_list("team_id", "role"))


def enough(approval: Approval, role: str) -> bool:
    """True when somebody with this role may change as many conversations without a second person, and so may approve them."""
    limit = approval.team.limit_of(role)
    return limit is None or approval.rows <= limit


def approvers(approval: Approval) -> list[User]:
    """Returns who may approve in the name of this team."""
    members = Membership.objects.filter(team=approval.team, role__in=MANAGING, user__is_active=True).exclude(user=approval.job.actor_id)
    return [member.user for member in members.select_related("user").order_by("user__email") if enough(approval, member.role)]


def still_open(job: Job) -> QuerySet[Approval]:
    """Returns what nobody has answered yet."""
    return job.approvals.filter(decided_at__isnull=True).select_related("team").order_by("team__name", "pk")


def outdated(job: Job) -> bool:
    """True when what a waiting job needs is not what was asked for: limits, roles or sharing have changed."""
    needed = {one.team.pk: one.rows for one in limits.exceeded(job.actor, jobs.changes_by_account(job))}
    return needed != dict(job.approvals.values_list("team_id", "rows"))


# --- answers ------------------------------------------------------------------------------------------------------------------------


def approve(user: User, job: Job) -> bool:
    """Approves a job for the teams that this person leads, and runs it when nobody else has to; False when that was decided already.

    Raises PermissionDenied for its author, for whoever leads none of the teams, and where the own limit of an admin is too low; ValidationError
    when it cannot be run any more.
    """
    with transaction.atomic():
        asked = _asked(user, job)
        if asked is None:
            return False
        rows = jobs.changes_by_account(asked)
        if not rows or not asked.actor.is_active:
            raise ValidationError(_("There is nothing left to run in this job."))
        _bring_up_to_date(asked, rows)
        roles = leads(user, asked)
        mine = list(still_open(asked).filter(team__in=roles))
        allowed = [approval for approval in mine if enough(approval, roles[approval.team_id])]
        if mine and not allowed:
            raise PermissionDenied(_("Your own limit is below this number; an owner of the team can approve it."))
        for approval in allowed:
            Approval.objects.filter(pk=approval.pk).update(decided_by=user, decided_at=timezone.now(), approved=True)
            limits.note(user, asked, approval.team, "approved", {"rows": approval.rows, "limit": approval.row_limit})
        if still_open(asked).exists():
            return bool(allowed)
        jobs.begin(asked, sum(rows.values()), ip="")  # in the name of its author, who is elsewhere
    job.refresh_from_db()
    return True


def refuse(user: User, job: Job, reason: str) -> bool:
    """Refuses a job with a reason and makes it a preview of its author again; False when it was decided already.

    Raises PermissionDenied as `approve` does, an admin with a lower limit may refuse though; ValidationError without a reason.
    """
    reason = " ".join(reason.replace("\0", "").split())
    with transaction.atomic():
        asked = _asked(user, job)
        if asked is None:
            return False
        if not reason or len(reason) > REASON_LENGTH:
            raise ValidationError({"reason": [_("Say why, in at most %(length)d characters.") % {"length": REASON_LENGTH}]})
        mine = list(still_open(asked).filter(team__in=leads(user, asked)))
        if not mine:
            return False
        for approval in mine:
            Approval.objects.filter(pk=approval.pk).update(decided_by=user, decided_at=timezone.now(), note=reason)
            limits.note(user, asked, approval.team, "approval refused", text=reason)
        _draft_again(asked)
    job.refresh_from_db()
    return True


def withdraw(user: User, job: Job) -> bool:
    """Makes a waiting job of one's own a preview again; False when it does not wait any more. Raises PermissionDenied."""
    if not Job.objects.editable_by(user).filter(pk=job.pk).exists():
        raise PermissionDenied
    with transaction.atomic():
        asked = Job.objects.select_for_update().filter(pk=job.pk, order=Order.ASK).first()
        if asked is None:
            return False
        for approval in asked.approvals.select_related("team"):
            limits.note(user, asked, approval.team, "approval withdrawn")
        _draft_again(asked)
    job.refresh_from_db()
    return True


def refusals(job: Job) -> QuerySet[Approval]:
    """Returns who refused a draft, and why."""
    refused = job.approvals.filter(decided_at__isnull=False, approved=False)
    return refused.select_related("team", "decided_by").order_by("pk") if job.order == Order.DRAFT else refused.none()


def _asked(user: User, job: Job) -> Job | None:
    """Returns the waiting job with its row locked, None when it does not wait any more; raises PermissionDenied for who may not answer at all."""
    locked = Job.objects.select_for_update().filter(pk=job.pk).first()
    if locked is None or not leads(user, locked):
        raise PermissionDenied
    return locked if locked.order == Order.ASK else None


def _bring_up_to_date(job: Job, rows: dict[Any, int]) -> None:
    """Asks the teams that are needed now: one that is not any more is forgotten, one that has approved fewer conversations is asked anew."""
    needed = {one.team.pk: one for one in limits.exceeded(job.actor, rows)}
    job.approvals.exclude(team__in=needed).delete()
    known = {approval.team_id: approval for approval in job.approvals.all()}
    for team_id, one in needed.items():
        approval = known.get(team_id)
        if approval is None or approval.rows < one.rows or (not approval.approved and approval.rows != one.rows):
            limits.ask_one(job, one, ip="")


def _draft_again(job: Job) -> None:
    """Makes a waiting job a draft, which is kept for another day from now on."""
    Job.objects.filter(pk=job.pk).update(order=Order.DRAFT, planned_at=timezone.now())
    jobs.wake_checks(job)
