"""Conversations as the mirror knows them, and the jobs that change many of them."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from django.conf import settings
from django.db import models
from django.db.models.functions import Left
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, Team
from config import client

from .querysets import AuditQuerySet, ConversationQuerySet, JobItemQuerySet, JobQuerySet, OnlyAdded
from .states import ItemStatus


class Conversation(models.Model):
    """A remote conversation: what the last listing or reading said, never more than that.

    None means "not told by the provider". `model` is the current model's catalogue id, `model_value` exactly what is stored.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="conversations")
    remote_id = models.CharField(max_length=200)
    generation = models.PositiveIntegerField(default=0)  # grows when a provider gives an old id to a new conversation

    title = models.TextField(blank=True)
    untitled = models.BooleanField(default=False)
    model = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 (null is "not told", "" is "none set")
    model_value = models.JSONField(null=True, blank=True)
    more_models = models.JSONField(default=list, blank=True)
    config = models.JSONField(default=dict, blank=True)
    group = models.CharField(max_length=200, blank=True)
    details = models.JSONField(default=dict, blank=True)
    warning = models.TextField(blank=True)
    disabled = models.BooleanField(default=False)
    message_count = models.PositiveIntegerField(null=True, blank=True)
    first_message = models.TextField(null=True, blank=True)  # noqa: DJ001 (null is "not read yet")
    created_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(null=True, blank=True)

    sort_at = models.DateTimeField()  # the provider's time, or a synthetic one that keeps the provider's own order
    rank = models.PositiveIntegerField(null=True, blank=True)  # place in the last listing, 0 first
    thin = models.BooleanField(default=False)  # the listing told less than a reading would
    first_seen_at = models.DateTimeField()
    seen_at = models.DateTimeField()  # last listing or reading that showed it
    changed_upstream_at = models.DateTimeField(null=True, blank=True)  # last change that was not ours
    missed = models.PositiveSmallIntegerField(default=0)  # complete listings in a row without it
    gone_at = models.DateTimeField(null=True, blank=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "remote_id", "generation"], name="conversation_once")]
        indexes = [
            models.Index(fields=["-sort_at", "-id"], name="conv_sort"),
            models.Index(fields=["account", "-sort_at", "-id"], name="conv_account_sort"),
            models.Index(fields=["model", "-sort_at", "-id"], name="conv_model_sort"),
            models.Index(fields=["account", "model", "-sort_at", "-id"], name="conv_account_model_sort"),
            models.Index(Left("title", 64), "id", name="conv_title_sort"),
        ]

    def __str__(self) -> str:
        return self.title or self.remote_id

    @property
    def values(self) -> dict[str, Any]:
        """Every editable value as stored, by name: what a drift check compares."""
        stored = dict(self.config)
        stored["title"] = self.title
        if self.model_value is not None:
            stored["model"] = self.model_value
        return stored


class Action(models.TextChoices):
    """What a job does to each conversation."""

    SWITCH_MODEL = "switch-model", _("Switch model")
    SET_TITLE = "set-title", _("Set titles")
    CONFIGURE = "configure", _("Edit settings")
    RESTORE = "restore", _("Undo")

    @classmethod
    def composable(cls) -> list[tuple[str, Any]]:
        """Returns (value, label) of the actions that can be chosen for a selection; an undo is made from a job instead."""
        return [(action.value, action.label) for action in cls if action != cls.RESTORE]


class Order(models.TextChoices):
    """What people last told a job to do."""

    DRAFT = "draft", _("Preview")
    ASK = "ask", _("Ask for approval")
    RUN = "run", _("Run")
    PAUSE = "pause", _("Pause")
    CANCEL = "cancel", _("Cancel")


NOT_STARTED = (Order.DRAFT, Order.ASK)  # nothing was sent, and no lane may begin it

COUNTERS = ("pending", "running", "waiting", "applied", "unchanged", "not_applied", "failed", "unknown", "skipped", "conflict", "cancelled")
OPEN_COUNTERS = ("pending", "running", "waiting")


class JobState(models.TextChoices):
    """What a job shows; computed from its order and its counters, never stored."""

    PREVIEW = "preview", _("Preview")
    NEEDS_APPROVAL = "needs approval", _("Needs approval")
    RUNNING = "running", _("Running")
    WAITING = "waiting", _("Waiting")
    PAUSING = "pausing", _("Pausing")
    PAUSED = "paused", _("Paused")
    CANCELLING = "cancelling", _("Cancelling")
    CANCELLED = "cancelled", _("Cancelled")
    DONE = "done", _("Done")
    DONE_WITH_FAILURES = "done with failures", _("Done with failures")


class Job(models.Model):
    """One bulk operation over a frozen selection: action, target and note, with exact counters."""

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    action = models.CharField(max_length=20, choices=Action.choices)
    params = models.JSONField(default=dict)  # targets by account or provider; or the way titles are made
    note = models.CharField(max_length=300, blank=True)
    order = models.CharField(max_length=10, choices=Order.choices, default=Order.DRAFT)
    selection = models.JSONField(default=dict)  # how it was selected, for people
    key = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 (of the submit that made it; null: none was given)
    undo_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="undos")
    priority = models.SmallIntegerField(default=0)  # higher goes first within each lane
    canary = models.PositiveSmallIntegerField(null=True)  # conversations per account that are tried first
    canary_limit = models.PositiveSmallIntegerField(default=20)  # percent of these that may end other than applied or unchanged
    canary_passed = models.JSONField(default=list)  # ids of accounts whose first ones went well, or that a person let go on
    planned_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    n_pending = models.PositiveIntegerField(default=0)
    n_running = models.PositiveIntegerField(default=0)
    n_waiting = models.PositiveIntegerField(default=0)
    n_applied = models.PositiveIntegerField(default=0)
    n_unchanged = models.PositiveIntegerField(default=0)
    n_not_applied = models.PositiveIntegerField(default=0)
    n_failed = models.PositiveIntegerField(default=0)
    n_unknown = models.PositiveIntegerField(default=0)
    n_skipped = models.PositiveIntegerField(default=0)
    n_conflict = models.PositiveIntegerField(default=0)
    n_cancelled = models.PositiveIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    hidden: tuple[Any, ...] = ()  # ids of accounts that the present reader may not see (access.cut)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["actor", "key"], name="job_once_per_submit")]

    def __str__(self) -> str:
        return f"J-{self.pk}"

    @property
    def shown(self) -> JobItemQuerySet:
        """The items that the present reader may see."""
        items: JobItemQuerySet = JobItem.objects.filter(job=self)
        return items.exclude(account__in=self.hidden) if self.hidden else items

    @property
    def counts(self) -> dict[str, int]:
        """Items by outcome; the numbers always add up to `total`."""
        return {name: getattr(self, f"n_{name}") for name in COUNTERS}

    @property
    def total(self) -> int:
        """Items of this job."""
        return sum(self.counts.values())

    @property
    def open(self) -> int:
        """Items that have not ended."""
        return self.n_pending + self.n_running + self.n_waiting

    @property
    def state(self) -> JobState:
        """What the job shows."""
        if self.order == Order.DRAFT:
            return JobState.PREVIEW
        if self.order == Order.ASK:
            return JobState.NEEDS_APPROVAL
        if self.order == Order.CANCEL:
            return JobState.CANCELLING if self.open else JobState.CANCELLED
        if not self.open:
            return JobState.DONE_WITH_FAILURES if self.problems else JobState.DONE
        if self.order == Order.PAUSE:
            return JobState.PAUSING if self.n_running else JobState.PAUSED
        return JobState.RUNNING if self.n_pending or self.n_running else JobState.WAITING

    @property
    def problems(self) -> int:
        """Ended items that a person should look at."""
        return self.n_not_applied + self.n_failed + self.n_unknown + self.n_conflict

    @property
    def is_live(self) -> bool:
        """True while the numbers may still change by themselves."""
        return self.order not in NOT_STARTED and bool(self.open) and self.state != JobState.PAUSED


class Approval(models.Model):
    """The answer of a second person that a job needs, because it changes more rows at accounts of a team than its author's role may alone."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="approvals")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    rows = models.PositiveIntegerField()  # of the job, at accounts of this team
    row_limit = models.PositiveIntegerField()  # that its author's role had when it was asked for
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    approved = models.BooleanField(default=False)
    note = models.CharField(max_length=300, blank=True)  # why it was refused

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "team"], name="approval_once_per_team")]

    def __str__(self) -> str:
        return f"{self.job} {self.team}"


class JobItem(models.Model):
    """One conversation within a job. `before` is what the read just before our first write saw and is never overwritten."""

    # The database would look up these references of a large draft row by row, longer than all the rest of it takes. Instead, items are only made
    # in the transaction that makes their job, which holds their accounts (planning.hold), and rows of the mirror only go with their account.
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="items", db_constraint=False, db_index=False)  # item_status has it
    ordinal = models.PositiveIntegerField()  # from 1, the {n} of a title template
    account = models.ForeignKey(Account, on_delete=models.CASCADE, db_constraint=False, db_index=False)  # item_lane has it
    conversation = models.ForeignKey(Conversation, on_delete=models.SET_NULL, null=True, db_constraint=False)
    remote_id = models.CharField(max_length=200)
    title = models.TextField(blank=True)  # as it was when selected, to find and to name it
    rank = models.PositiveIntegerField(null=True)

    status = models.CharField(max_length=12, choices=ItemStatus.choices, default=ItemStatus.PENDING)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=400, blank=True)  # the provider's own words, shortened
    http_status = models.PositiveSmallIntegerField(null=True)
    expected = models.JSONField(null=True)
    target = models.JSONField(null=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # in all
    tries = models.PositiveSmallIntegerField(default=0)  # since a person last decided
    ticked = models.BooleanField(null=True)  # a person's choice in the preview; None leaves it to the rules of the action
    lease = models.CharField(max_length=80, blank=True)  # the lane run that works on it
    not_before = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)  # when the preview read it at the provider
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = JobItemQuerySet.as_manager()

    class Meta:
        ordering = ["ordinal"]
        constraints = [models.UniqueConstraint(fields=["job", "ordinal"], name="item_ordinal_once")]
        indexes = [
            models.Index(fields=["account", "status", "job", "ordinal"], name="item_lane"),
            models.Index(fields=["job", "status", "ordinal"], name="item_status"),
            models.Index(fields=["lease"], name="item_lease", condition=~models.Q(lease="")),
        ]

    def __str__(self) -> str:
        return f"J-{self.job_id}/{self.ordinal}"


class Attempt(models.Model):
    """One run of an item: when, by whom, and how it ended. Its requests are in the request log under "item:ID:NUMBER"."""

    item = models.ForeignKey(JobItem, on_delete=models.CASCADE, related_name="runs")
    number = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    status = models.CharField(max_length=12, choices=ItemStatus.choices)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=400, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    lease = models.CharField(max_length=80)  # names host and process

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["item", "number"], name="attempt_item")]

    def __str__(self) -> str:
        return f"{self.item_id}:{self.number}"


class Lane(models.Model):
    """Who works on an account right now: at most one runner, for as long as it renews its lease."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="lane")
    holder = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True)
    blocked_until = models.DateTimeField(null=True)  # the provider asked for silence, or its breaker is open
    blocked_reason = models.CharField(max_length=40, blank=True)
    started_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"lane of {self.account_id}"


class Incident(models.Model):
    """A time in which a provider's host answered only errors: its breaker is open, and now and then a single probe goes out."""

    host = models.CharField(max_length=255)
    provider_key = models.CharField(max_length=40)
    opened_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    cause = models.CharField(max_length=400, blank=True)
    failures = models.PositiveIntegerField(default=0)
    probes = models.PositiveIntegerField(default=0)
    next_probe_at = models.DateTimeField(null=True)
    events = models.JSONField(default=list)  # [[ISO time, code, detail], ...]

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["host"], condition=models.Q(ended_at__isnull=True), name="one_open_incident_per_host")]

    def __str__(self) -> str:
        return f"{self.host} {self.opened_at:%Y-%m-%d %H:%M}"


class Worker(models.Model):
    """A sign of life of one worker process."""

    name = models.CharField(max_length=120, primary_key=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Result(models.TextChoices):
    """How a change of one conversation ended, in the words of an item's status."""

    APPLIED = ItemStatus.APPLIED.value, ItemStatus.APPLIED.label
    UNCHANGED = ItemStatus.UNCHANGED.value, ItemStatus.UNCHANGED.label
    NOT_APPLIED = ItemStatus.NOT_APPLIED.value, ItemStatus.NOT_APPLIED.label
    FAILED = ItemStatus.FAILED.value, ItemStatus.FAILED.label
    CONFLICT = ItemStatus.CONFLICT.value, ItemStatus.CONFLICT.label


class AuditEntry(models.Model):
    """What was done: who, when, to which conversation, before -> after. Rows are only ever added."""

    at = models.DateTimeField(auto_now_add=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    actor_name = models.CharField(max_length=200)
    account = models.ForeignKey(Account, on_delete=models.SET_NULL, null=True, related_name="+")
    account_label = models.CharField(max_length=80)
    conversation = models.ForeignKey(Conversation, on_delete=models.SET_NULL, null=True, related_name="audit")
    remote_id = models.CharField(max_length=200, blank=True)
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, related_name="audit")
    team = models.ForeignKey(Team, on_delete=models.SET_NULL, null=True, related_name="+")  # of what concerns a team: members, sharing
    what = models.CharField(max_length=40)
    result = models.CharField(max_length=12, choices=Result.choices)
    reason = models.CharField(max_length=40, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    note = models.CharField(max_length=300, blank=True)
    ip = models.CharField(max_length=45, blank=True, default=client.address)  # "" where a worker or the command line did it

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["conversation", "-id"], name="audit_conversation"),
            models.Index(fields=["account", "at"], name="audit_account"),
            models.Index(fields=["actor", "-id"], name="audit_actor"),
            models.Index(fields=["team", "-id"], name="audit_team"),
        ]

    RESULTS: ClassVar[frozenset[str]] = frozenset(Result.values)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor_name} {self.what} {self.remote_id}"

    def save(self, **given: Any) -> None:
        """Adds the entry; what has been added stays as it is."""
        if not self._state.adding:
            raise OnlyAdded
        super().save(**given | {"force_insert": True})

    def delete(self, using: Any = None, keep_parents: bool = False) -> NoReturn:
        """Refuses: entries stay."""
        raise OnlyAdded
