"""What pages say about approvals: why a job needs one, who may give it, and what was answered. Decides nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from accounts.models import Team, User

from . import approvals, limits
from .models import Approval, Job


@dataclass(slots=True)
class Request:
    """What one team was asked, and how far it has answered."""

    approval: Approval
    why: str
    people: str  # who may approve


def why(team: Team, rows: int, limit: int, own: bool) -> str:
    """Returns why a team has to approve a job; `own`: its author reads it."""
    mine = ngettext(
        "In “%(team)s” your role may change up to %(limit)s conversation in one job; this one changes %(rows)s there.",
        "In “%(team)s” your role may change up to %(limit)s conversations in one job; this one changes %(rows)s there.",
        limit,
    )
    others = ngettext(
        "In “%(team)s” the role of its author may change up to %(limit)s conversation in one job; this one changes %(rows)s there.",
        "In “%(team)s” the role of its author may change up to %(limit)s conversations in one job; this one changes %(rows)s there.",
        limit,
    )
    return (mine if own else others) % {"team": team.name, "limit": f"{limit:,}", "rows": f"{rows:,}"}


def needed(user: User, rows: Mapping[Any, int]) -> list[str]:
    """Returns why a draft of this person could not run at once, a sentence for each team; mostly nothing."""
    return [why(one.team, one.rows, one.limit, own=True) for one in limits.exceeded(user, rows)]


def context(job: Job, user: User) -> dict[str, Any]:
    """Returns what the page of a waiting job says, and what this person may do there."""
    found = list(job.approvals.select_related("team", "decided_by", "job").order_by("team__name", "pk"))
    roles = approvals.leads(user, job)
    mine = [approval for approval in found if approval.decided_at is None and approval.team_id in roles]
    own, comma = job.actor_id == user.pk, pgettext("between counts", ", ")
    return {
        "requests": [
            Request(one, why(one.team, one.rows, one.row_limit, own), comma.join(str(person) for person in approvals.approvers(one))) for one in found
        ],
        "requested_at": min((one.requested_at for one in found), default=None),
        "is_author": own,
        "may_refuse": bool(mine),
        "may_approve": any(approvals.enough(approval, roles[approval.team_id]) for approval in mine),
        "outdated": own and approvals.outdated(job),
        "reason_length": approvals.REASON_LENGTH,
    }


def answered(job: Job) -> int:
    """Returns how many teams have answered, so that an open page notices the next one."""
    return job.approvals.filter(decided_at__isnull=False).count()


def approved_by(job: Job) -> str:
    """Returns who approved a job that has been started, "" where nobody had to."""
    given = job.approvals.filter(approved=True).select_related("decided_by").order_by("decided_at")
    names = list(dict.fromkeys(str(one.decided_by) for one in given if one.decided_by))
    return _("approved by %(people)s") % {"people": pgettext("between counts", ", ").join(names)} if names else ""
