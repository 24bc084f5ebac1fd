"""Users, their teams, and the accounts whose credentials they keep here."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext

from .explain import said_price
from .providers import get_provider
from .providers.base import Provider

NEW_FOR = timedelta(days=14)  # how long a model that joined a catalogue is called new


class UserManager(BaseUserManager["User"]):
    """Creates users together with the personal team that each of them has."""

    @transaction.atomic
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Returns a new user with a personal team; raises ValueError without an e-mail address."""
        if not email:
            raise ValueError("an e-mail address is needed")
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        team = Team.objects.create(name=user.email, personal=True)
        Membership.objects.create(team=team, user=user, role=Role.OWNER)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Returns a new user who may also use Django's admin site."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        """Returns the user with this e-mail address, whatever its case."""
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address."""

    class Theme(models.TextChoices):
        SYSTEM = "", _("Like the system")
        LIGHT = "light", _("Light")
        DARK = "dark", _("Dark")

    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=150, blank=True)
    language = models.CharField(_("language"), max_length=10, blank=True)
    theme = models.CharField(_("theme"), max_length=5, blank=True, choices=Theme.choices)
    is_staff = models.BooleanField(_("may use the admin site"), default=False)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(_("joined"), default=timezone.now)

    objects = UserManager()

    EMAIL_FIELD = "email"
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")

    def __str__(self) -> str:
        return self.name or self.email


class Role(models.TextChoices):
    """What a member of a team may do; each role may what the one before may."""

    VIEWER = "viewer", _("Viewer")
    OPERATOR = "operator", _("Operator")
    ADMIN = "admin", _("Admin")
    OWNER = "owner", _("Owner")


OPERATING = (Role.OPERATOR, Role.ADMIN, Role.OWNER)  # who may change conversations at accounts shared for use
MANAGING = (Role.ADMIN, Role.OWNER)  # who may invite, set roles and pause the team's jobs


class Team(models.Model):
    """People who work together; everybody has a personal one."""

    name = models.CharField(_("name"), max_length=150)
    personal = models.BooleanField(_("personal"), default=False)
    # Rows that a job of somebody with this role may change at the team's accounts without the approval of a second person; null: any number.
    operator_limit = models.PositiveIntegerField(_("limit of operators"), null=True, blank=True)
    admin_limit = models.PositiveIntegerField(_("limit of admins"), null=True, blank=True)
    members = models.ManyToManyField(User, through="Membership", related_name="teams")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def limit_of(self, role: str) -> int | None:
        """Returns how many rows one job of somebody with this role may change without a second person; None for any number."""
        return {Role.OPERATOR.value: self.operator_limit, Role.ADMIN.value: self.admin_limit}.get(role)


class Membership(models.Model):
    """One person's role in one team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_role_per_team")]

    def __str__(self) -> str:
        return f"{self.user} · {self.team} · {self.role}"


class Invitation(models.Model):
    """A link that lets whoever holds it join a team, once. What is stored opens nothing: only a digest of the link's secret."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.OPERATOR)
    email = models.EmailField(_("e-mail address"), blank=True)  # when given, only this person may accept
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256 of the secret in the link, in hex
    invited_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    accepted_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.team} · {self.role}"


class Health(models.TextChoices):
    """What the last calls say about an account."""

    UNKNOWN = "unknown", _("Not checked yet")
    OK = "ok", _("OK")
    NEEDS_REAUTH = "needs_reauth", _("Needs re-authentication")
    RATE_LIMITED = "rate_limited", _("Rate-limited")
    UNREACHABLE = "unreachable", _("Unreachable")


class SyncState(models.TextChoices):
    """Where the reading of an account's conversations is."""

    NEVER = "never", _("Never read")
    QUEUED = "queued", _("Waiting for a worker")
    RUNNING = "running", _("Reading")
    DONE = "done", _("Up to date")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


def _is_active(user: Any) -> bool:
    return bool(getattr(user, "is_authenticated", False) and user.is_active)


def _teams_of(user: Any, *roles: str) -> models.QuerySet[Any]:
    """Returns the teams (as values of a subquery) in which a user has one of these roles, any role when none is given."""
    found = Membership.objects.filter(user=user)
    return (found.filter(role__in=roles) if roles else found).values("team")


class AccountQuerySet(models.QuerySet["Account"]):
    """The only door to accounts: what a user may not see is not in the set."""

    def visible_to(self, user: Any) -> Self:
        """Narrows to accounts whose conversations this user may see: the user's own, and those shared with a team of theirs."""
        return self._own_or(user, AccountShare.objects.filter(team__in=_teams_of(user))) if _is_active(user) else self.none()

    def editable_by(self, user: Any) -> Self:
        """Narrows to accounts through which this user may change conversations: their own, and those they may use as operator or more."""
        if not _is_active(user):
            return self.none()
        return self._own_or(user, AccountShare.objects.filter(team__in=_teams_of(user, *OPERATING), level=ShareLevel.USE))

    def owned_by(self, user: Any) -> Self:
        """Narrows to accounts whose credential this user may replace, and which the user may share and delete."""
        return self.filter(owner=user) if _is_active(user) else self.none()

    def managed_by(self, user: Any) -> Self:
        """Narrows to accounts that are shared with a team in which this user is an admin or an owner."""
        shares = AccountShare.objects.filter(team__in=_teams_of(user, *MANAGING)) if _is_active(user) else AccountShare.objects.none()
        return self.filter(pk__in=shares.values("account"))

    def _own_or(self, user: Any, shares: models.QuerySet[AccountShare]) -> Self:
        return self.filter(models.Q(owner=user) | models.Q(pk__in=shares.values("account")))  # no join: it would show an account twice

    def due_for_sync(self, before: Any) -> Self:
        """Narrows to accounts that were last read before this time and are not being read or known to be refused."""
        idle = models.Q(sync_state__in=[SyncState.NEVER, SyncState.DONE, SyncState.FAILED])
        old = models.Q(sync_started_at__isnull=True) | models.Q(sync_started_at__lt=before)
        return self.filter(idle & old, paused_at__isnull=True).exclude(health=Health.NEEDS_REAUTH)


class Account(models.Model):
    """One credential set of one user at one provider."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)  # known before sealing: it is part of the seal
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="accounts", verbose_name=_("owner"))
    provider_key = models.CharField(_("provider"), max_length=40)
    label = models.CharField(_("label"), max_length=80)
    base_url = models.CharField(_("base URL"), max_length=300)
    sealed_credentials = models.TextField(editable=False)
    sealed_kept = models.TextField(editable=False, blank=True)  # short-lived secrets such as a fetched token
    hints = models.JSONField(default=dict, editable=False)  # field -> what may be shown of it
    memory = models.JSONField(default=dict, editable=False)  # verdicts about this account, written by its provider
    upstream_identity = models.CharField(max_length=120, blank=True, db_index=True, editable=False)
    upstream_name = models.CharField(max_length=200, blank=True, editable=False)
    credential_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    credential_since = models.DateTimeField(null=True, blank=True, editable=False)  # when the present one was stored; null: before we noted it
    lifetimes = models.JSONField(default=list, editable=False)  # seconds that the last few lasted until the provider refused them
    created_at = models.DateTimeField(auto_now_add=True)

    health = models.CharField(max_length=20, choices=Health.choices, default=Health.UNKNOWN, editable=False)
    cause = models.CharField(max_length=60, blank=True, editable=False)  # kind of the last error
    cause_detail = models.CharField(max_length=400, blank=True, editable=False)
    last_success_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)  # when it was last asked who it is
    check_after = models.DateTimeField(null=True, blank=True, editable=False)  # not on a schedule before this; None: when its turn comes

    colour = models.CharField(_("colour"), max_length=10, blank=True)
    note = models.TextField(_("note"), max_length=2000, blank=True)

    concurrency = models.PositiveSmallIntegerField(_("requests at once"), null=True, blank=True)
    rate = models.FloatField(_("requests per second"), null=True, blank=True)

    sync_state = models.CharField(max_length=20, choices=SyncState.choices, default=SyncState.NEVER, editable=False)
    sync_holder = models.CharField(max_length=40, blank=True, editable=False)
    sync_lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    sync_cursor = models.TextField(blank=True, editable=False)
    sync_started_at = models.DateTimeField(null=True, blank=True, editable=False)
    sync_progress = models.JSONField(default=dict, blank=True, editable=False)  # listed, new, changed, gone, requests, total, note
    sync_cancel = models.BooleanField(default=False, editable=False)
    synced_at = models.DateTimeField(null=True, blank=True, editable=False)  # end of the last complete reading
    models_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = AccountQuerySet.as_manager()

    class Meta:
        ordering = ["label", "id"]
        constraints = [models.UniqueConstraint(fields=["owner", "label"], name="label_once_per_owner")]

    def __str__(self) -> str:
        return self.label

    @property
    def provider(self) -> type[Provider]:
        """The provider class of this account."""
        return get_provider(self.provider_key)

    @property
    def needs_attention(self) -> bool:
        """True when the account cannot work without a person."""
        return self.health == Health.NEEDS_REAUTH

    @property
    def is_syncing(self) -> bool:
        """True while a reading is waiting or running."""
        return self.sync_state in (SyncState.QUEUED, SyncState.RUNNING)


class ShareLevel(models.TextChoices):
    """What a team may do with a shared account."""

    READ = "read", _("Read")
    USE = "use", _("Use")


class AccountShare(models.Model):
    """An account that a team may read or use; its credential stays its owner's."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="shares")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="shares")
    level = models.CharField(_("access"), max_length=4, choices=ShareLevel.choices, default=ShareLevel.READ)
    shared_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "team"], name="shared_once_per_team")]

    def __str__(self) -> str:
        return f"{self.account} · {self.team} · {self.level}"


class AccountLabel(models.Model):
    """A word by which accounts are grouped and filtered."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="labels")
    name = models.CharField(max_length=40)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["account", "name"], name="label_once_per_account")]
        indexes = [models.Index(fields=["name"], name="account_label_name")]

    def __str__(self) -> str:
        return self.name


class HealthDay(models.Model):
    """How an account was on one day (UTC): how many checks it had, how many failed, and the worst that was seen."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="health_days")
    day = models.DateField()
    checks = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    worst = models.CharField(max_length=20, choices=Health.choices, default=Health.UNKNOWN)
    cause = models.CharField(max_length=60, blank=True)  # kind of the worst error

    class Meta:
        ordering = ["day"]
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="one_row_per_day")]

    def __str__(self) -> str:
        return f"{self.account} · {self.day} · {self.worst}"


class CatalogueModel(models.Model):
    """One model that an account's provider offers, as last read."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="catalogue")
    model_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    group = models.CharField(max_length=100, blank=True)
    price = models.CharField(max_length=100, blank=True)
    note = models.TextField(blank=True)
    is_default = models.BooleanField(default=False)
    order = models.PositiveIntegerField(default=0)
    new_since = models.DateTimeField(null=True, blank=True)  # when it joined a catalogue that we knew already; null: from the beginning
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["order", "name"]
        constraints = [models.UniqueConstraint(fields=["account", "model_id"], name="model_once_per_account")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_new(self) -> bool:
        """True for some days after the model joined a catalogue that was known."""
        return self.new_since is not None and self.new_since > timezone.now() - NEW_FOR

    @property
    def shown_price(self) -> str:
        """The price in the language of the reader."""
        return said_price(self.price)

    @property
    def choice_text(self) -> str:
        """How the model stands in a list to choose from: its name, its price, and whether it is new."""
        return " · ".join(filter(None, [self.name, self.shown_price, pgettext("model", "new") if self.is_new else ""]))


class RequestLog(models.Model):
    """One request to a provider and its answer, as they may be kept: shortened, without secrets, for 14 days."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="requests")
    at = models.DateTimeField()
    subject = models.CharField(max_length=60, blank=True)  # what it was for: "item:ID:ATTEMPT", "conversation:ID", "sync", "check:JOB", "" otherwise
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=300)
    write = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField(null=True)  # of HTTP; None: no answer came
    ms = models.PositiveIntegerField()
    size = models.PositiveIntegerField(null=True)  # of the answer, in bytes
    sent = models.TextField(blank=True)
    answer = models.TextField(blank=True)
    error = models.CharField(max_length=40, blank=True)  # kind of the typed error that it became

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["account", "-id"], name="request_account"),
            models.Index(fields=["subject", "id"], name="request_subject", condition=~models.Q(subject="")),
            models.Index(fields=["at"], name="request_at"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"
