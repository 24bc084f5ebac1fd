"""Where queries live: scoped by user first, then named in the words of the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn, Self

from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from accounts.models import MANAGING, Account, Membership, Role

from .states import ItemStatus


class ConversationQuerySet(models.QuerySet[Any]):
    """Conversations that a user may see or change, and the ways to narrow them."""

    def visible_to(self, user: Any) -> Self:
        """Narrows to conversations of accounts that this user may see."""
        return self.filter(account__in=Account.objects.visible_to(user))

    def editable_by(self, user: Any) -> Self:
        """Narrows to conversations that this user may change."""
        return self.filter(account__in=Account.objects.editable_by(user))

    def present(self) -> Self:
        """Narrows to conversations that the provider still has, as far as we know."""
        return self.filter(gone_at__isnull=True)

    def search(self, text: str) -> Self:
        """Narrows to titles that contain every word of `text`; two-character Chinese words included."""
        found = self
        for word in text.split():
            found = found.filter(title__icontains=word)
        return found

    def after(self, sort_at: datetime, pk: int) -> Self:
        """Narrows to what follows this row in the order newest first (two conditions, so that the index serves the first one)."""
        return self.filter(sort_at__lte=sort_at).filter(Q(sort_at__lt=sort_at) | Q(pk__lt=pk))

    def before(self, sort_at: datetime, pk: int) -> Self:
        """Narrows to what precedes this row in the order newest first."""
        return self.filter(sort_at__gte=sort_at).filter(Q(sort_at__gt=sort_at) | Q(pk__gt=pk))

    def capped_count(self, cap: int = 10_000) -> tuple[int, bool]:
        """Returns (count, exact); counting stops at `cap`, where exact is False."""
        count = self.order_by()[: cap + 1].count()
        return min(count, cap), count <= cap


class JobQuerySet(models.QuerySet[Any]):
    """Jobs as a user may see them."""

    def visible_to(self, user: Any) -> Self:
        """Narrows to jobs that this user made, and to started ones of which at least one account is in the user's sight.

        One is enough, so that an owner sees everything that happens to an account; what such a job did elsewhere is cut off (access.cut).
        """
        if not getattr(user, "is_authenticated", False):
            return self.none()
        own = Q(actor=user)
        mates = Membership.objects.filter(team__in=Membership.objects.filter(user=user, team__personal=False).values("team")).values("user")
        if not mates.exists():
            return self.filter(own)
        started = ~Q(order="draft") & Q(actor__in=mates)  # first: without a team in common nobody can have worked there
        return self.filter(own | (started & Q(self._at(Account.objects.visible_to(user)))))

    def editable_by(self, user: Any) -> Self:
        """Narrows to jobs that this user may pause, resume, cancel, retry and undo: their own."""
        return self.filter(actor=user) if getattr(user, "is_authenticated", False) and user.is_active else self.none()

    def pausable_by(self, user: Any) -> Self:
        """Narrows to jobs that this user may pause: their own, and those at an account of a team in which they are admin or owner."""
        own = self.editable_by(user).order_by().values("pk")
        return self.filter(Q(pk__in=own) | (~Q(order="draft") & Q(self._at(Account.objects.managed_by(user)))))

    def asked_of(self, user: Any) -> Self:
        """Narrows to jobs of others about which a team was asked in which this user is admin or owner, whatever was answered."""
        led = Membership.objects.filter(user=user, role__in=MANAGING).values("team")
        return self.filter(pk__in=self._approvals().filter(team__in=led).values("job")).exclude(actor=user)

    def waiting_for(self, user: Any) -> Self:
        """Narrows to jobs that wait for the approval of this user; an admin whose own limit is too low for it may not give it."""
        mine = Membership.objects.filter(user=user)
        limited = Q(team__in=mine.filter(role=Role.ADMIN).values("team"))
        enough = Q(team__admin_limit__isnull=True) | Q(team__admin_limit__gte=F("rows"))
        found = self._approvals().filter(Q(team__in=mine.filter(role=Role.OWNER).values("team")) | limited & enough, decided_at__isnull=True)
        return self.filter(order="ask", pk__in=found.values("job")).exclude(actor=user)

    def _approvals(self) -> models.QuerySet[Any]:
        return self.model._meta.get_field("approvals").related_model._default_manager.all()

    def _at(self, accounts: models.QuerySet[Account]) -> Exists:
        """True for jobs with an item at one of these accounts; all statuses are named, so that the lanes' index finds it without a scan."""
        items = self.model._meta.get_field("items").related_model._default_manager
        return Exists(items.filter(account__in=accounts.order_by().values("pk"), status__in=ItemStatus.values, job=OuterRef("pk")))

    def live(self) -> Self:
        """Narrows to jobs that are under way."""
        return self.filter(order__in=["run", "pause", "cancel"], finished_at__isnull=True)


class JobItemQuerySet(models.QuerySet[Any]):
    """Items as lanes and pages look for them."""

    def ready(self, now: datetime) -> Self:
        """Narrows to items that a lane may begin now: those of running jobs, and of cancelled ones what may have been sent and needs a look."""
        due = Q(not_before__isnull=True) | Q(not_before__lte=now)
        wanted = Q(job__order="run") | Q(job__order="cancel", before__isnull=False)
        return self.filter(due, wanted, status="pending")

    def unchecked(self) -> Self:
        """Narrows to items of a preview that have not been read at the provider."""
        return self.filter(status="pending", checked_at__isnull=True)


class OnlyAdded(TypeError):
    """Somebody tried to change or delete an audit entry."""

    def __init__(self) -> None:
        super().__init__("Audit entries are only ever added.")


class AuditQuerySet(models.QuerySet[Any]):
    """The audit log as a user may read it; nobody changes it (the database refuses too, see audit_guard)."""

    def visible_to(self, user: Any) -> Self:
        """Narrows to what this user did, what concerns accounts that this user may see, and teams where this user is admin or owner."""
        if not getattr(user, "is_authenticated", False):
            return self.none()
        led = Membership.objects.filter(user=user, role__in=[Role.ADMIN, Role.OWNER])
        return self.filter(Q(actor=user) | Q(account__in=Account.objects.visible_to(user)) | Q(team__in=led.values("team")))

    def update(self, **_values: Any) -> NoReturn:
        """Refuses."""
        raise OnlyAdded

    def delete(self) -> NoReturn:
        """Refuses."""
        raise OnlyAdded
