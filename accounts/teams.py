"""Teams, their members and invitations, and what is shared with them: every rule of who may what to whom is here."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from . import deeds, signals
from .models import MANAGING, Account, AccountShare, Invitation, Membership, Role, ShareLevel, Team, User

INVITATION_DAYS = 7
MOST_OPEN = 50  # invitations of one team at a time
MOST_ROWS = 1_000_000  # the highest limit that may be set
ORDER = [Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.OWNER]


class InvitationInvalid(Exception):
    """An invitation that cannot be accepted: unknown, used, revoked, expired, or somebody else's; `code` says which."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


# --- who is in a team ---------------------------------------------------------------------------------------------------------------


def teams_of(user: User) -> QuerySet[Team]:
    """Returns the teams that a user shares with others; not the personal one, which nobody joins."""
    return Team.objects.filter(membership__user=user, personal=False) if user.is_active else Team.objects.none()


def role_of(user: User, team: Team) -> str:
    """Returns a user's role in a team, "" for none."""
    if not user.is_active:
        return ""
    return Membership.objects.filter(team=team, user=user).values_list("role", flat=True).first() or ""


def grantable(role: str) -> list[Role]:
    """Returns the roles that somebody with this role may give and take: an admin up to operator, an owner all."""
    return {Role.OWNER.value: ORDER, Role.ADMIN.value: [Role.VIEWER, Role.OPERATOR]}.get(role, [])


def create(user: User, name: str) -> Team:
    """Returns a new team of which the user is the owner; raises ValidationError without a name."""
    with transaction.atomic():
        team = Team.objects.create(name=_named(name))
        Membership.objects.create(team=team, user=user, role=Role.OWNER)
        _tell(user, "create team", team)
    return team


def rename(user: User, team: Team, name: str) -> None:
    """Gives a team another name; its owners only."""
    with transaction.atomic():
        locked = _locked(team)
        _need(user, locked, Role.OWNER)
        Team.objects.filter(pk=team.pk).update(name=_named(name))
        _tell(user, "rename team", team, before={"name": locked.name}, after={"name": _named(name)})
    team.name = name.strip()


def set_limits(actor: User, team: Team, operator_limit: int | None, admin_limit: int | None) -> None:
    """Sets how many conversations one job of an operator, or of an admin, may change without a second person; None for any number. Owners only."""
    after = {"operator_limit": operator_limit, "admin_limit": admin_limit}
    wrong = [_("A whole number from 1 to %(most)s is needed, or nothing.") % {"most": f"{MOST_ROWS:,}"}]
    with transaction.atomic():
        locked = _locked(team)
        _need(actor, locked, Role.OWNER)
        if refused := {name: wrong for name, limit in after.items() if limit is not None and not 1 <= limit <= MOST_ROWS}:
            raise ValidationError(refused)
        before = {name: getattr(locked, name) for name in after}
        if before != after:
            Team.objects.filter(pk=team.pk).update(**after)
            _tell(actor, "set limits", team, before=before, after=after)
    team.operator_limit, team.admin_limit = operator_limit, admin_limit


def delete(user: User, team: Team) -> None:
    """Deletes a team; its accounts stay their owners'. Its owners only."""
    with transaction.atomic():
        locked = _locked(team)
        _need(user, locked, Role.OWNER)
        accounts = list(AccountShare.objects.filter(team=team).values_list("account_id", flat=True))
        _tell(user, "delete team", None, before={"name": locked.name})
        locked.delete()
        _lost(accounts)


def set_role(actor: User, team: Team, user: User, role: str) -> None:
    """Gives a member another role. Raises PermissionDenied, and ValidationError for the last owner and for whoever is no member."""
    if role not in Role.values:
        raise ValidationError(_("Choose a role."))
    with transaction.atomic():
        mine = _need(actor, _locked(team), *MANAGING)
        member = _member(team, user)
        _may_touch(mine, member.role, role)
        if member.role == role:
            return
        if member.role == Role.OWNER:
            _not_the_last(team)
        Membership.objects.filter(pk=member.pk).update(role=role)
        _tell(actor, "set role", team, note=user.email, before={"role": member.role}, after={"role": role})
        _lost(_shared_with(team))


def remove(actor: User, team: Team, user: User) -> None:
    """Takes a member out of a team, or oneself (then one leaves); what they had shared with it is theirs alone again."""
    with transaction.atomic():
        mine = _need(actor, _locked(team), *ORDER)
        member = _member(team, user)
        if actor.pk != user.pk:
            _may_touch(mine, member.role)
        if member.role == Role.OWNER:
            _not_the_last(team)
        touched = _shared_with(team)
        for share in AccountShare.objects.filter(team=team, account__owner=user).select_related("account"):
            _tell(actor, "unshare", team, share.account)
            share.delete()
        Invitation.objects.filter(team=team, invited_by=user, accepted_at=None, revoked_at=None).update(revoked_at=timezone.now())
        member.delete()
        _tell(actor, "leave team" if actor.pk == user.pk else "remove member", team, note=user.email)
        _lost(touched)


def _named(name: str) -> str:
    name = " ".join(name.replace("\0", "").split())
    if not name or len(name) > 150:
        raise ValidationError({"name": [_("A name of at most 150 characters is needed.")]})
    return name


def _locked(team: Team) -> Team:
    """Returns the team with its row locked, so that two changes of its members wait for each other; a personal one is nobody's to change."""
    locked = Team.objects.select_for_update().filter(pk=team.pk).first()
    if locked is None or locked.personal:
        raise PermissionDenied
    Team.objects.filter(pk=team.pk).update(personal=False)  # where there are no row locks (SQLite), the first write is the lock
    return locked


def _need(user: User, team: Team, *roles: str) -> str:
    role = role_of(user, team)
    if role not in roles:
        raise PermissionDenied
    return role


def _member(team: Team, user: User) -> Membership:
    found = Membership.objects.filter(team=team, user=user).first()
    if found is None:
        raise ValidationError(_("This person is not in the team any more."))
    return found


def _may_touch(mine: str, *roles: str) -> None:
    """Raises PermissionDenied unless somebody with the role `mine` may give and take these."""
    if not set(roles) <= {role.value for role in grantable(mine)}:
        raise PermissionDenied


def _not_the_last(team: Team) -> None:
    if Membership.objects.filter(team=team, role=Role.OWNER).count() < 2:
        raise ValidationError(_("A team needs an owner: make somebody else an owner first."))


# --- invitations --------------------------------------------------------------------------------------------------------------------


def digest_of(secret: str) -> str:
    """Returns what is stored of the secret in an invitation's link."""
    return hashlib.sha256(secret.encode()).hexdigest()


def invite(actor: User, team: Team, role: str, email: str = "") -> tuple[Invitation, str]:
    """Returns an invitation and the secret of its link, which is known only now."""
    with transaction.atomic():
        mine = _need(actor, _locked(team), *MANAGING)
        _may_touch(mine, role)
        if pending(team).count() >= MOST_OPEN:
            raise ValidationError(_("Too many invitations are open; revoke some first."))
        secret = secrets.token_urlsafe(32)
        invitation = Invitation.objects.create(
            team=team,
            role=role,
            email=email.strip().lower(),
            digest=digest_of(secret),
            invited_by=actor,
            expires_at=timezone.now() + timedelta(days=INVITATION_DAYS),
        )
        _tell(actor, "invite", team, note=invitation.email, after={"role": role})
    return invitation, secret


def pending(team: Team) -> QuerySet[Invitation]:
    """Returns the invitations of a team that can still be accepted."""
    return Invitation.objects.filter(team=team, accepted_at=None, revoked_at=None, expires_at__gt=timezone.now()).select_related("invited_by")


def revoke(actor: User, team: Team, pk: int) -> bool:
    """Makes an invitation's link useless. Returns False when it is already."""
    with transaction.atomic():
        mine = _need(actor, _locked(team), *MANAGING)
        invitation = pending(team).filter(pk=pk).first()
        if invitation is None:
            return False
        _may_touch(mine, invitation.role)
        Invitation.objects.filter(pk=pk).update(revoked_at=timezone.now())
        _tell(actor, "revoke invitation", team, note=invitation.email, before={"role": invitation.role})
    return True


def find_invitation(secret: str, user: Any = None) -> Invitation:
    """Returns the invitation that a link's secret opens, for this user when one is given; raises InvitationInvalid."""
    return find_by_digest(digest_of(secret), user)


def find_by_digest(digest: str, user: Any = None) -> Invitation:
    """Returns the invitation with this digest, under the same conditions."""
    invitation = Invitation.objects.select_related("team", "invited_by").filter(digest=digest).first()
    if invitation is None:
        raise InvitationInvalid("unknown")
    if invitation.accepted_at:
        raise InvitationInvalid("used")
    if invitation.revoked_at:
        raise InvitationInvalid("revoked")
    if invitation.expires_at <= timezone.now():
        raise InvitationInvalid("expired")
    if getattr(user, "is_authenticated", False) and invitation.email and invitation.email != user.email.lower():
        raise InvitationInvalid("another_email")
    inviter = Membership.objects.filter(team=invitation.team, user=invitation.invited_by, user__is_active=True).first()
    if inviter is None or invitation.role not in {role.value for role in grantable(inviter.role)}:
        raise InvitationInvalid("revoked")  # who invited may not do so any more
    return invitation


def accept(user: User, secret: str) -> Team:
    """Lets a user join the team of an invitation, which is used up by that; raises InvitationInvalid. A member's role only ever rises by it."""
    with transaction.atomic():
        team = _locked(find_invitation(secret, user).team)
        invitation = find_invitation(secret, user)  # again, now that nobody else can use it up
        Invitation.objects.filter(pk=invitation.pk).update(accepted_at=timezone.now(), accepted_by=user)
        member, new = Membership.objects.get_or_create(team=team, user=user, defaults={"role": invitation.role})
        if not new and ORDER.index(Role(member.role)) < ORDER.index(Role(invitation.role)):
            Membership.objects.filter(pk=member.pk).update(role=invitation.role)
        _tell(user, "join team", team, after={"role": invitation.role})
    return team


# --- sharing ------------------------------------------------------------------------------------------------------------------------


def share(actor: User, account: Account, team: Team, level: str) -> AccountShare:
    """Shares an account with a team of its owner, or changes how; raises PermissionDenied for anybody else."""
    with transaction.atomic():
        _own(actor, account)
        _need(actor, _locked(team), *ORDER)
        if level not in ShareLevel.values:
            raise ValidationError(_("Choose what the team may do."))
        found, new = AccountShare.objects.get_or_create(account=account, team=team, defaults={"level": level, "shared_by": actor})
        if not new and found.level == level:
            return found
        before = None if new else {"level": found.level}
        AccountShare.objects.filter(pk=found.pk).update(level=level)
        found.level = level
        _tell(actor, "share", team, account, before=before, after={"level": level})
        _lost([account.pk])
    return found


def unshare(actor: User, account: Account, team: Team) -> bool:
    """Takes an account back from a team; what its members' jobs still had to do there ends. Returns False when it is not shared."""
    with transaction.atomic():
        _own(actor, account)
        if not AccountShare.objects.filter(account=account, team=team).delete()[0]:
            return False
        _tell(actor, "unshare", team, account)
        _lost([account.pk])
    return True


def heirs(account: Account) -> QuerySet[User]:
    """Returns to whom an account can be handed over: active members of its owner's teams."""
    mine = Membership.objects.filter(user=account.owner_id, team__personal=False).values("team")
    found = User.objects.filter(is_active=True, membership__team__in=mine)
    return found.exclude(pk=account.owner_id).distinct().order_by("email")


def hand_over(actor: User, account: Account, to: User) -> None:
    """Makes another person of a common team the owner of an account. The credential stays sealed as it is, and is shown to neither.

    Raises PermissionDenied for anybody but its owner, ValidationError for whoever it cannot go to.
    """
    with transaction.atomic():
        _own(actor, account)
        if not heirs(account).filter(pk=to.pk).exists():
            raise ValidationError(_("An account can only go to somebody in one of your teams."))
        label = _free_label(to, account.label)
        try:
            with transaction.atomic():
                Account.objects.filter(pk=account.pk).update(owner=to, label=label)
        except IntegrityError as error:
            raise ValidationError(_("This label was taken just now; try again.")) from error
        AccountShare.objects.filter(account=account).exclude(team__in=Membership.objects.filter(user=to).values("team")).delete()
        before = None if label == account.label else {"label": account.label}
        account.owner, account.label = to, label
        _tell(actor, "hand over", None, account, note=to.email, before=before, after={"label": label} if before else None)
        _lost([account.pk])


def _free_label(owner: User, label: str) -> str:
    taken = set(Account.objects.filter(owner=owner).values_list("label", flat=True))
    number, found = 2, label
    while found in taken:
        end = f" ({number})"
        found, number = label[: 80 - len(end)] + end, number + 1
    return found


def _own(actor: User, account: Account) -> None:
    """Locks an account's row; raises PermissionDenied unless it is the actor's."""
    if not Account.objects.owned_by(actor).select_for_update(no_key=True).filter(pk=account.pk).exists():
        raise PermissionDenied


def _shared_with(team: Team) -> list[Any]:
    return list(AccountShare.objects.filter(team=team).values_list("account_id", flat=True))


# --- telling ------------------------------------------------------------------------------------------------------------------------


def _tell(
    actor: User,
    what: str,
    team: Team | None,
    account: Account | None = None,
    note: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    deeds.tell(actor, what, team=team, account=account, note=note, before=before, after=after)


def _lost(accounts: list[Any]) -> None:
    """Says, once it is stored, that somebody may not do any more with these accounts what they could."""
    if accounts:
        transaction.on_commit(partial(signals.access_changed.send, sender=Account, accounts=accounts))


def shared_and_own(user: User, team: Team) -> QuerySet[Account]:
    """Returns the accounts of a user that are shared with a team: what a removal would take from it."""
    return Account.objects.filter(Q(owner=user) & Q(shares__team=team)).order_by("label")
