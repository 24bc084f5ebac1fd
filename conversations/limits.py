"""Up to how many conversations one job may change at accounts that others share with a team, and which teams have to approve more.

The limit goes with the role of whoever makes the job (Team.limit_of). An account that this person owns is never limited, and where the account is
shared with several teams of theirs, the most generous counts. It is a limit of one job and no quota: other jobs are not added up. `ask` keeps what
was found as rows that approvals.py has answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.models import OPERATING, Account, AccountShare, Membership, ShareLevel, Team, User

from .models import Approval, AuditEntry, Job


@dataclass(frozen=True, slots=True)
class Excess:
    """A team at whose accounts a job would change more conversations than its author's role may without a second person."""

    team: Team
    rows: int
    limit: int


def exceeded(user: User, rows: Mapping[Any, int]) -> list[Excess]:
    """Returns which teams have to approve that this person changes so many conversations (by account id) in one job; mostly none."""
    counted: dict[int, int] = {}
    known: dict[int, tuple[Team, int]] = {}
    for account_id, grants in _grants(user, [key for key, count in rows.items() if count]).items():
        limits = [(limit, -team.pk, team) for team, limit in grants if limit is not None]
        if len(limits) < len(grants):
            continue  # through one of the teams without any limit
        limit, _order, team = max(limits)
        known[team.pk] = (team, limit)
        counted[team.pk] = counted.get(team.pk, 0) + rows[account_id]
    found = [Excess(team, counted[team.pk], limit) for team, limit in known.values() if counted[team.pk] > limit]
    return sorted(found, key=lambda one: (one.team.name, one.team.pk))


def _grants(user: User, accounts: list[Any]) -> dict[Any, list[tuple[Team, int | None]]]:
    """Returns for the accounts of others the teams through which this person may change conversations there, each with its limit."""
    found: dict[Any, list[tuple[Team, int | None]]] = {}
    others = list(Account.objects.filter(pk__in=accounts).exclude(owner=user).order_by().values_list("pk", flat=True))
    if not others or not user.is_active:
        return found
    roles = dict(Membership.objects.filter(user=user, role__in=OPERATING).values_list("team_id", "role"))
    for share in AccountShare.objects.filter(account__in=others, level=ShareLevel.USE, team__in=roles).select_related("team"):
        found.setdefault(share.account_id, []).append((share.team, share.team.limit_of(roles[share.team_id])))
    return found


def ask(job: Job, excesses: Iterable[Excess]) -> None:
    """Asks these teams for their approval of a job, within the transaction that has its row; what was answered before is over."""
    job.approvals.all().delete()
    for one in excesses:
        ask_one(job, one)


def ask_one(job: Job, one: Excess, **entry: Any) -> None:
    """Asks one team, anew where it was asked before for something else."""
    Approval.objects.filter(job=job, team=one.team).delete()
    Approval.objects.create(job=job, team=one.team, rows=one.rows, row_limit=one.limit)
    note(job.actor, job, one.team, "approval requested", {"rows": one.rows, "limit": one.limit}, job.note, **entry)


def note(user: User, job: Job, team: Team, what: str, numbers: dict[str, int] | None = None, text: str = "", **entry: Any) -> None:
    """Adds the audit entry of a request or an answer; the leaders of the team read it too."""
    AuditEntry.objects.create(actor=user, actor_name=str(user)[:200], job=job, team=team, what=what, note=text[:300], after=numbers, **entry)
