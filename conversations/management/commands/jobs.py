"""`manage.py jobs start|undo|show|watch|items|approve|refuse|pause|resume|cancel|retry|report`."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet

from accounts.cli import SubCommand, acting_user, fail, find_account, find_accounts, positive, read_text, to_json, wrong_usage
from accounts.models import Account, User
from accounts.providers.schema import Op
from config.env import env_int

from ... import approvals, canary, jobs, lists, plans, reports, undo, workers
from ...models import COUNTERS, NOT_STARTED, Action, Conversation, Job, Order
from ..ways import FILTERS, add_ways, check_ways, params_of, planned_list

NO_WORKER_AFTER = 30
POLL = 0.2
MOST = 1000


class Command(SubCommand):
    """Starts bulk jobs, follows them and reports their results."""

    help = "Starts bulk jobs, follows them and reports their results."
    subcommands = {
        "start": "Select, preview and run a job.",
        "undo": "Write back what a job replaced: preview and run the job that undoes it.",
        "show": "Print a job's state and counts.",
        "watch": "Follow a job to its end.",
        "items": "List a job's items.",
        "approve": "Approve a job of somebody else that is above its author's limit; it runs when nobody else has to approve it.",
        "refuse": "Refuse such a job with a reason; it becomes a preview of its author again.",
        "pause": "Begin nothing new in a job; what is under way ends.",
        "resume": "Go on with a paused job, or with an account that stopped after its first conversations.",
        "cancel": "End a job; what has not been started never is.",
        "retry": "Send failed and not-applied items of a job once more.",
        "report": "Print a job's results as CSV.",
    }

    # --- starting -------------------------------------------------------------------------------------------------------------------

    def add_start(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, metavar="EMAIL", help="who starts it")
        parser.add_argument("--action", required=True, choices=Action.values)
        parser.add_argument("--account", action="extend", nargs="+", default=[], metavar="ID")
        parser.add_argument("--model", metavar="M", help="only conversations on this model (its catalogue id)")
        parser.add_argument("--search", metavar="TEXT", help="only conversations with these words in their title")
        parser.add_argument("--ids", metavar="FILE|-", help="only these conversation ids, one a line")
        add_ways(parser)
        self._add_run(parser)

    @staticmethod
    def _add_run(parser: ArgumentParser) -> None:
        parser.add_argument("--note", default="", help="why, for whoever looks at the job later")
        parser.add_argument("--priority", type=int, default=0, metavar="N", help="higher goes first in each account; others have 0")
        parser.add_argument("--canary", type=positive, metavar="N", help="try so many conversations of each account first")
        limit = "stop an account if more than this percentage of its first conversations is not applied (default: 20)"
        parser.add_argument("--canary-limit", type=int, metavar="PERCENT", help=limit.replace("%", "%%"))
        parser.add_argument("--dry-run", action="store_true", help="stop at the preview: nothing is changed")
        parser.add_argument("--wait", action="store_true", help="wait for the end; 3 unless everything was applied or there already")

    def do_start(self, given: Namespace) -> int:
        check_ways(given)
        user = acting_user(given.user)
        if given.action == Action.RESTORE:
            undone = self._find(given.undo)
            rows = self._selected(user, given) if any(getattr(given, name) for name in FILTERS) else None
            chosen = None if rows is None else undo.changed(undone).filter(conversation__in=rows).values("pk")
            return self._run(user, self._undoing(user, undone, chosen), given)
        if given.csv is not None:
            return self._run(user, planned_list(user, given), given)
        params = params_of(user, given)
        jobs.check_params(given.action, params)
        return self._run(user, self._planned(user, given, params), given)

    def add_undo(self, parser: ArgumentParser) -> None:
        self._add_order(parser)
        parser.add_argument("--items", metavar="FILE|-", help="only these items of the job, one id a line (as `jobs items` prints them)")
        self._add_run(parser)

    def do_undo(self, given: Namespace) -> int:
        undone = self._find(given.job)
        user = self._actor(undone, given)
        chosen: list[int] | None = None
        if given.items:
            chosen = jobs.ids_of(read_text(given.items).splitlines(), items=True)
            known = set(undo.changed(undone).values_list("pk", flat=True))
            if unknown := [str(pk) for pk in chosen if pk not in known]:
                more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
                fail(f"{given.items} names items that job {undone.pk} did not change: {', '.join(unknown[:5])}{more}")
        return self._run(user, self._undoing(user, undone, chosen), given)

    def _undoing(self, user: User, undone: Job, chosen: list[int] | QuerySet[Any] | None) -> Job:
        """Returns the planned draft of an undo."""
        if not Job.objects.editable_by(user).filter(pk=undone.pk).exists():
            raise PermissionDenied(f"{user.email} may not give orders to this job")
        return undo.undo(user, undone, chosen)

    def _run(self, user: User, job: Job, given: Namespace) -> int:
        """Runs a planned draft as the options say; one in which there is nothing to do leaves nothing behind."""
        if not -MOST <= given.priority <= MOST or (given.canary or 0) > MOST or not 0 <= (given.canary_limit or 0) < 100:
            job.delete()
            wrong_usage(f"--priority and --canary take numbers up to {MOST}, --canary-limit 0 to 99")
        if not job.n_pending and not given.dry_run:
            cause = self._nothing_to_do(job)
            job.delete()
            fail(cause)
        if given.dry_run:
            self.document(given, self._row(job) | {"preview": jobs.groups(job)} | self._rejected(job))
            return 0
        try:
            with transaction.atomic():
                # A worker reads the preview meanwhile: nothing may change between counting and starting.
                Job.objects.select_for_update().get(pk=job.pk)
                trial = {"canary": given.canary, "canary_limit": given.canary_limit}
                jobs.start(user, job, note=given.note, typed_count=jobs.changes(job), priority=given.priority, **trial)
        except Exception:
            job.delete()
            raise
        code, cause = self._wait(job) if given.wait else (0, "")
        job.refresh_from_db()
        self.document(given, self._row(job) | self._rejected(job))
        if cause:
            self.stdout.flush()
            fail(cause)
        return code or (3 if given.wait and job.params.get("rejected_count") else 0)

    @staticmethod
    def _rejected(job: Job) -> dict[str, Any]:
        """What only a job from a list has: its lines that are not carried out, with their numbers."""
        return {"rejected": lists.rejected_lines(job)} if "list" in job.params else {}

    def _planned(self, user: User, given: Namespace, params: dict[str, Any]) -> Job:
        """Returns the draft with every item's target; one that cannot be planned leaves nothing behind."""
        job = jobs.create(user, given.action, self._selected(user, given), selection={"by": "command line"})
        try:
            jobs.plan(job, params)
        except BaseException:
            job.delete()
            raise
        return job

    @staticmethod
    def _nothing_to_do(job: Job) -> str:
        """Returns why: how many items are in each group, and what the providers' own sentences say about the missing operation."""
        op: Op | None = plans.OPS.get(Action(job.action))
        accounts = Account.objects.filter(jobitem__job=job, jobitem__reason="unsupported").distinct()
        sentences = dict.fromkeys(account.provider.capability(op).reason for account in accounts if op is not None)
        for item in job.items.filter(reason="cannot_be_restored").select_related("account")[:1000]:
            sentences |= dict.fromkeys(plans.cannot_restore(item.account.provider, item))
        split = ", ".join(f"{count} {name}" for name, count in jobs.groups(job).items() if count)
        return " ".join([f"there is nothing to do ({split}).", *sentences])

    @staticmethod
    def _selected(user: User, given: Namespace) -> QuerySet[Conversation]:
        rows = Conversation.objects.editable_by(user).present()
        if given.account:
            accounts = find_accounts(given.account)
            allowed = set(Account.objects.editable_by(user).values_list("pk", flat=True))
            refused = [account.label for account in accounts if account.pk not in allowed]
            if refused:
                raise PermissionDenied(f"{user.email} may not change conversations of {', '.join(refused)}")
            rows = rows.filter(account__in=accounts)
        if given.model:
            rows = rows.filter(model=given.model)
        if given.search:
            rows = rows.search(given.search)
        if given.ids:
            ids = jobs.ids_of(read_text(given.ids).splitlines())
            known = set(Conversation.objects.editable_by(user).filter(pk__in=ids).values_list("pk", flat=True))
            unknown = [str(pk) for pk in ids if pk not in known]
            if unknown:
                more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
                fail(f"{given.ids} names conversations that {user.email} may not change or that do not exist: {', '.join(unknown[:5])}{more}")
            rows = rows.filter(pk__in=ids)
        return rows

    @staticmethod
    def _wait(job: Job, on_change: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Returns (0, "") when everything ended applied or unchanged, (3, "") when not, and (1, cause) when no worker works on it.

        `on_change` is called whenever the job's state or numbers are new.

        Life shows in a worker's heartbeat or in the job's numbers; clocks of other machines are not believed.
        """
        patience = env_int("SWITCHBOARD_NO_WORKER_AFTER", NO_WORKER_AFTER, minimum=1, maximum=3600)
        seen: Any = None
        shown: Any = None
        silent_since = time.monotonic()
        while True:
            job.refresh_from_db()
            if shown != (shown := (job.state, job.counts)):
                on_change()
            if job.order in NOT_STARTED:
                return 3, ""  # it waits for an approval, or was refused
            if not job.open:
                return (0 if job.n_applied + job.n_unchanged == job.total else 3), ""
            signs = (workers.last_seen(), job.counts)
            if seen is not None and signs != seen:
                silent_since = time.monotonic()
            seen = signs
            if time.monotonic() - silent_since > patience:
                return 1, f"no worker online; job {job.pk} goes on as soon as there is one"
            if job.n_waiting and not job.n_pending and not job.n_running:
                return 3, ""  # only a person can go on from here: a new credential, or the account resumed
            time.sleep(POLL)

    # --- looking --------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _add_job(parser: ArgumentParser) -> None:
        parser.add_argument("job", metavar="JOB", help="a job's number, 42 or J-42")

    @staticmethod
    def _add_status(parser: ArgumentParser) -> None:
        parser.add_argument("--status", action="append", default=[], choices=COUNTERS, help="only items with this status; may be given again")

    def add_show(self, parser: ArgumentParser) -> None:
        self._add_job(parser)

    def do_show(self, given: Namespace) -> None:
        self.document(given, self._row(self._find(given.job)))

    def add_watch(self, parser: ArgumentParser) -> None:
        self._add_job(parser)

    def do_watch(self, given: Namespace) -> int:
        job = self._find(given.job)
        if job.order == Order.DRAFT:
            fail("the job has not been started")

        def show() -> None:
            self.stdout.write(to_json(self._row(job)) if given.json else self._progress(job))
            self.stdout.flush()

        code, cause = self._wait(job, show)
        if cause:
            fail(cause)
        return code

    @staticmethod
    def _progress(job: Job) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in job.counts.items() if count)
        return f"{job} {job.state.value}: {job.total - job.open} of {job.total} done ({counts})"

    def add_items(self, parser: ArgumentParser) -> None:
        self._add_job(parser)
        self._add_status(parser)

    def do_items(self, given: Namespace) -> None:
        names = ("id", "account", "remote_id", "title", "status", "reason", "expected", "before", "target", "after", "attempts")
        self.rows(given, ({name: found[name] for name in names} for found in reports.rows(self._find(given.job), given.status)))

    def add_report(self, parser: ArgumentParser) -> None:
        self._add_job(parser)
        self._add_status(parser)

    def do_report(self, given: Namespace) -> None:
        found = reports.rows(self._find(given.job), given.status)
        if given.json:
            for entry in found:
                self.stdout.write(to_json(entry))
            return
        for line in reports.csv_lines(found):
            self.stdout.write(line, ending="")

    # --- orders ---------------------------------------------------------------------------------------------------------------------

    def _add_order(self, parser: ArgumentParser) -> None:
        self._add_job(parser)
        parser.add_argument("--user", metavar="EMAIL", help="who gives the order (default: who started the job)")

    def add_approve(self, parser: ArgumentParser) -> None:
        self._add_answer(parser)

    def do_approve(self, given: Namespace) -> None:
        job = self._find(given.job)
        self._answered(given, job, approvals.approve(acting_user(given.user), job))

    def add_refuse(self, parser: ArgumentParser) -> None:
        self._add_answer(parser)
        parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for its author")

    def do_refuse(self, given: Namespace) -> None:
        job = self._find(given.job)
        self._answered(given, job, approvals.refuse(acting_user(given.user), job, given.reason))

    def _add_answer(self, parser: ArgumentParser) -> None:
        self._add_job(parser)
        parser.add_argument("--user", required=True, metavar="EMAIL", help="who answers: an admin or owner of the team, not the job's author")

    def _answered(self, given: Namespace, job: Job, done: bool) -> None:
        if not done:
            fail("the job does not wait for this approval")
        job.refresh_from_db()
        self.document(given, self._row(job))

    def add_pause(self, parser: ArgumentParser) -> None:
        self._add_order(parser)

    def do_pause(self, given: Namespace) -> None:
        job = self._find(given.job)
        if not jobs.pause(self._actor(job, given), job):
            fail("the job is not running")
        job.refresh_from_db()
        self.document(given, self._row(job))

    def add_resume(self, parser: ArgumentParser) -> None:
        self._add_order(parser)
        parser.add_argument("--account", metavar="ID", help="go on with this account, whatever became of its first conversations")

    def do_resume(self, given: Namespace) -> None:
        job = self._find(given.job)
        user = self._actor(job, given)
        if given.account:
            if not canary.go_on(user, job, find_account(given.account).pk):
                fail("nothing of this account waits for its first conversations")
        elif not jobs.resume(user, job):
            fail("the job is not paused")
        job.refresh_from_db()
        self.document(given, self._row(job))

    def add_cancel(self, parser: ArgumentParser) -> None:
        self._add_order(parser)

    def do_cancel(self, given: Namespace) -> None:
        job = self._find(given.job)
        if not jobs.cancel(self._actor(job, given), job):
            fail("the job has ended already")
        job.refresh_from_db()
        self.document(given, self._row(job))

    def add_retry(self, parser: ArgumentParser) -> None:
        self._add_order(parser)

    def do_retry(self, given: Namespace) -> None:
        job = self._find(given.job)
        if not jobs.retry(self._actor(job, given), job):
            fail("no item of this job can be tried again")
        job.refresh_from_db()
        self.document(given, self._row(job))

    @staticmethod
    def _actor(job: Job, given: Namespace) -> User:
        user = acting_user(given.user or job.actor.email)
        if not Job.objects.editable_by(user).filter(pk=job.pk).exists():
            raise PermissionDenied(f"{user.email} may not give orders to this job")
        return user

    @staticmethod
    def _find(given: str) -> Job:
        number = given.upper().removeprefix("J-")
        job = Job.objects.select_related("actor").filter(pk=int(number)).first() if number.isascii() and number.isdecimal() else None
        if job is None:
            fail(f"there is no job {given}")
        return job

    @staticmethod
    def _row(job: Job) -> dict[str, Any]:
        return {"id": job.pk, "action": job.action, "state": job.state.value, "counts": job.counts}
