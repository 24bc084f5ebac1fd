"""What must be true in the end: each status explains what its provider holds, and nothing else was touched or repeated."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from accounts.models import Account, RequestLog
from conversations import plans
from conversations.attempts import LOST
from conversations.models import Attempt, AuditEntry, Job, JobItem, Lane
from conversations.states import ItemStatus as S
from conversations.states import counter_of
from tests.simulators.kit import Simulator

from .weather import Somebody, id_of, repeated_blindly

Truth = dict[str, dict[str, Any]]
TIMES = "updated"  # every write moves it


@dataclass
class Evidence:
    """What the checks look at; `problems` is what they found."""

    simulators: dict[Any, Simulator]  # by account
    start: dict[Any, Truth]  # what the providers held before the jobs
    somebody: Somebody
    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # how much was looked at

    def demand(self, condition: bool, told: str) -> None:
        """Notes a problem unless the condition holds."""
        if not condition:
            self.problems.append(told)

    def now(self) -> dict[Any, Truth]:
        """Returns what the providers hold."""
        return {account: simulator.truth() for account, simulator in self.simulators.items()}


def of_job(found: Evidence, job: Job, *, ended_well: bool) -> None:
    """Checks the counters of a job, and every item against its provider; `ended_well` admits no failures any more."""
    job.refresh_from_db()
    counted: Counter[str] = Counter()
    truth = found.now()
    for item in job.items.select_related("account"):
        counted[counter_of(S(item.status), item.reason)] += 1
        found.done["items"] += 1
        _of_item(found, item, truth[item.account_id].get(item.remote_id), ended_well)
    found.demand({name: count for name, count in job.counts.items() if count} == dict(counted), f"{job}: counters {job.counts}, rows {dict(counted)}")
    found.demand(job.finished_at is not None and not job.open, f"{job} has not ended")
    _of_audit(found, job)


def _of_item(found: Evidence, item: JobItem, held: dict[str, Any] | None, ended_well: bool) -> None:
    provider, somebody, key = item.account.provider, found.somebody, (item.account_id, item.remote_id)
    told = f"{item} {item.account.label} {item.remote_id} is {item.status} ({item.reason})"
    first = found.start[item.account_id][item.remote_id]
    change = somebody.changes.get(key)

    def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return all(provider.same_value(name, value, other.get(name)) for name, value in one.items())

    def demand(condition: bool, words: str) -> None:
        found.demand(condition, f"{told}, {words}: expected {item.expected}, target {item.target}, before {item.before}, held {held}")

    if item.before is not None:
        demand(all(item.before[name] == first[name] for name in item.before), f"but before the job there was {first}")
    if change is not None and change.values is None:
        demand(item.reason == "gone" or (item.status == S.FAILED and not ended_well), "but somebody removed it")
        return
    if held is None:
        demand(False, "but it is not there and nobody removed it")
        return
    target = item.target or {}
    then = {name: first[name] for name in target}
    theirs = then | {name: value for name, value in ((change.values or {}) if change else {}).items() if name in target}
    lost = somebody.overlapped(*key)  # ours and theirs at the same moment: either may have won
    as_it_was = same(theirs, held) or (lost and same(then, held))
    match item.status:
        case S.APPLIED | S.UNCHANGED:
            demand(same(target, held), "but the target is not there")
        case S.NOT_APPLIED:
            demand(as_it_was and not ended_well, "but it is not as it was")
        case S.CONFLICT:
            demand(theirs != then and same(theirs, held), "but nobody changed it to that")
            demand(same(item.after or {}, held), "but that is not what it says is there")
        case S.FAILED:
            unknown = item.reason == "outcome_unknown"
            demand(not ended_well and (as_it_was or (unknown and same(target, held))), "and nothing explains what is there")
        case _:
            demand(False, "which nothing explains")


def _of_audit(found: Evidence, job: Job) -> None:
    entries = AuditEntry.objects.filter(job=job, result="applied")
    audited = Counter(entries.values_list("account_id", "remote_id"))
    applied = Counter(job.items.filter(status=S.APPLIED).values_list("account_id", "remote_id"))
    found.demand(audited == applied, f"{job}: audit entries and applied items differ: {(audited - applied) or (applied - audited)}")
    found.done["audit entries"] += sum(audited.values())


def of_records(found: Evidence) -> None:
    """Checks the runs of all items, and the request log against what the providers saw."""
    runs: dict[int, list[int]] = defaultdict(list)
    lost: set[int] = set()
    for item_id, number, reason in Attempt.objects.order_by("number").values_list("item_id", "number", "reason"):
        runs[item_id].append(number)
        found.demand(reason != "internal", f"run {number} of item {item_id} ended by a mistake of ours")
        if reason in LOST:
            lost.add(item_id)
    clear: dict[Any, set[str]] = {account: set(truth) for account, truth in found.start.items()}  # of which no run was lost with its log
    for item in JobItem.objects.all():
        found.demand(runs[item.pk] == list(range(1, item.attempts + 1)), f"{item} has {item.attempts} runs, recorded are {runs[item.pk]}")
        if item.pk in lost:
            clear[item.account_id].discard(item.remote_id)
    found.done["runs"] += sum(map(len, runs.values()))
    found.done["lost runs"] += len(lost)
    remote = dict(JobItem.objects.values_list("pk", "remote_id"))
    logged: Counter[tuple[Any, str]] = Counter()
    for account, subject in RequestLog.objects.filter(write=True).values_list("account_id", "subject"):
        found.demand(subject.startswith("item:"), f"a write was logged for {subject!r}")
        logged[account, remote[int(subject.split(":")[1])]] += 1
    for account, simulator in found.simulators.items():
        saw = Counter(id_of(call) for call in simulator.writes())
        for remote_id in found.start[account]:
            seen, ours = saw[remote_id], logged[account, remote_id]
            told = f"{simulator.key} {remote_id}: {seen} writes arrived, {ours} are in the request log"
            found.demand(ours <= seen and (ours == seen or remote_id not in clear[account]), told)
        found.done["writes"] += sum(saw.values())


def of_writes(found: Evidence) -> None:
    """Checks that nothing was sent again before somebody had looked."""
    for simulator in found.simulators.values():
        for call in repeated_blindly(simulator):
            found.problems.append(f"{simulator.key}: {call.method} {call.path} {call.body} was repeated blindly")


def of_the_rest(found: Evidence, touched: dict[tuple[Any, str], set[str]], *, undone: bool = False) -> None:
    """Checks that no value changed that no job aimed at; once everything is undone, those that jobs aimed at as well.

    `touched` names, by conversation, the values that a job changed and that, in the end, could not be or may not have been put back.
    """
    for account, truth in found.now().items():
        for remote_id, first in found.start[account].items():
            held, key = truth.get(remote_id), (account, remote_id)
            if held is None:
                found.demand(found.somebody.removed(*key), f"{remote_id} is gone, and nobody removed it")
                continue
            changes = [change.values or {} for change in (found.somebody.changes.get(key), found.somebody.late.get(key)) if change]
            for name in first.keys() | held.keys():
                if name == TIMES or name in touched.get(key, ()):
                    continue
                allowed = [first.get(name)]
                for values in changes:
                    if name in values:
                        allowed = [*(allowed if found.somebody.overlapped(*key) else ()), values[name]]
                if not any(repr(held.get(name)) == repr(value) for value in allowed) and not _is_mark_of_removal(found, key, name):
                    found.problems.append(f"{remote_id} {name}: {held.get(name)!r} instead of {allowed!r}{' after undo' if undone else ''}")
            found.done["values"] += len(first)


def _is_mark_of_removal(found: Evidence, key: tuple[Any, str], name: str) -> bool:
    return name == "disabled" and found.somebody.removed(*key)


def aimed_at(jobs: list[Job]) -> dict[tuple[Any, str], set[str]]:
    """Returns the values that jobs aimed at, by conversation."""
    names: dict[tuple[Any, str], set[str]] = defaultdict(set)
    for job in jobs:
        for account, remote_id, target in job.items.values_list("account_id", "remote_id", "target"):
            names[account, remote_id].update(target or ())
    return names


def of_preview(found: Evidence, draft: Job, job: Job) -> set[tuple[Any, str]]:
    """Checks that the preview of an undo names exactly what cannot be stored again; returns these conversations."""
    named = set(draft.items.filter(reason="cannot_be_restored").values_list("account_id", "remote_id"))
    due = set()
    for item in job.items.filter(status=S.APPLIED).select_related("account"):
        first = found.start[item.account_id][item.remote_id]
        if any(item.account.provider.cannot_store(name, first[name]) for name in item.before or {}):
            due.add((item.account_id, item.remote_id))
    gone = {key for key in due if found.somebody.removed(*key)}
    found.demand(due - gone <= named <= due, f"{draft}: cannot be restored are {due}, named are {named}")
    for item in draft.items.filter(reason="cannot_be_restored").select_related("account"):
        found.demand(bool(plans.cannot_restore(item.account.provider, item)), f"{draft}: no sentence says why {item} cannot be restored")
    found.demand(draft.total == job.n_applied, f"{draft} is about {draft.total} conversations, {job} changed {job.n_applied}")
    return named


def of_undo(found: Evidence, draft: Job, named: set[tuple[Any, str]]) -> None:
    """Checks each item of an undo that has ended: what was before is there again byte for byte, or the reason says why not."""
    draft.refresh_from_db()
    truth = found.now()
    counted: Counter[str] = Counter()
    for item in draft.items.select_related("account"):
        key = (item.account_id, item.remote_id)
        counted[counter_of(S(item.status), item.reason)] += 1
        held, first = truth[item.account_id].get(item.remote_id), found.start[item.account_id][item.remote_id]
        late = found.somebody.late.get(key)
        theirs = {name: value for name, value in ((late.values or {}) if late else {}).items() if name in (item.target or {})}
        told = f"{draft} {item.account.label} {item.remote_id} is {item.status} ({item.reason}): target {item.target}, held {held}"
        if key in named:
            found.demand(item.status == S.SKIPPED, told)
        elif late is not None and late.values is None:
            found.demand(item.reason == "gone", told)
        elif theirs:
            found.demand(item.status == S.CONFLICT and held is not None and theirs.items() <= held.items(), told)
        else:
            back = held is not None and all(repr(held[name]) == repr(first[name]) for name in item.target or {})
            found.demand(item.status == S.APPLIED and back, told)
            found.done["undone"] += 1
    found.demand({name: count for name, count in draft.counts.items() if count} == dict(counted), f"{draft}: {draft.counts} is not {dict(counted)}")


def of_rest_of_database(found: Evidence) -> None:
    """Checks that nobody holds anything any more."""
    found.demand(not Lane.objects.exclude(holder="").exists(), "a lane is held by nobody who lives")
    found.demand(not JobItem.objects.exclude(lease="").exists(), "an item has a lease")
    found.demand(not JobItem.objects.filter(status=S.RUNNING).exists(), "an item is running")
    found.demand(Account.objects.count() == len(found.simulators), "an account is missing")
