"""The campaign itself: three jobs over five accounts while everything goes wrong, then better weather, a retry, and the way back."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts import services
from accounts.models import Account, User
from conversations import jobs, undo, wake
from conversations.models import Conversation, Incident, Job, JobItem, Lane
from conversations.states import ItemStatus as S
from tests.conversations import support
from tests.simulators import kit, registry
from tests.simulators.kit import Fault, Simulator

from . import checks, weather
from .machines import Redis, Worker

PROVIDERS = ("aurod", "aurod", "modelrouter", "nuwax", "chatnio")
LIARS = (0, 3)  # accounts whose providers say that they stored what they did not
LATENCY = 0.004
LOOK = 0.1


class Broken(Exception):
    """The campaign could not go on; the text says what was waited for."""


def in_parallel(function: Callable[[], Any], times: int = 3) -> list[Any]:
    """Calls a function in threads that begin at the same moment and returns what they returned."""
    together = threading.Barrier(times)
    found: list[Any] = []

    def call() -> None:
        together.wait()
        try:
            found.append(function())
        except Exception as error:
            found.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=call) for _number in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Campaign:
    """One run: `items` items of three jobs, chosen and spoiled by one seed."""

    def __init__(self, items: int, seed: int, seconds: float, workers: list[Worker], redis: Redis, tell: Callable[[str], None]) -> None:
        self.items, self.seed, self.workers, self.redis, self.tell = items, seed, workers, redis, tell
        self.chance = random.Random(seed)
        self.give_up = time.monotonic() + seconds
        self.happened: Counter[str] = Counter()
        self.accounts: list[Account] = []
        self.simulators: dict[Any, Simulator] = {}
        self.lying: set[Any] = set()
        self.dead: dict[Any, float] = {}  # accounts with a dead credential, and since when

    # --- before -------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serves the providers and connects an account to each."""
        self.user: User = support.make_user()
        with ExitStack() as running:
            for number, key in enumerate(PROVIDERS):
                simulator = registry.simulator(key)(seed=self.seed + number)
                simulator.populate(self.items * 6 // 10 // len(PROVIDERS))
                simulator.unlimited()
                simulator.random = random.Random(self.seed + number)
                self._plant(simulator)
                url = running.enter_context(kit.serve(simulator))
                account = support.synced(support.make_account(self.user, simulator, url, label=f"{key} {number}"))
                self.accounts.append(account)
                self.simulators[account.pk] = simulator
            self.somebody = weather.Somebody(self.simulators, self.chance, most=max(8, self.items // 25))
            start = {pk: simulator.truth() for pk, simulator in self.simulators.items()}
            self.found = checks.Evidence(self.simulators, start, self.somebody)
            yield

    def _plant(self, simulator: Simulator) -> None:
        """Puts in values that the provider cannot be told to store again."""
        first, second, third = sorted(simulator.truth())[:3]
        if simulator.key == "nuwax":
            for remote_id in (first, second):
                simulator.change_by_somebody(remote_id, title=f'"quoted" {remote_id}')
        elif simulator.key == "modelrouter":
            simulator.change_by_somebody(first, title="")
            simulator.change_by_somebody(second, model="")
            simulator.change_by_somebody(third, title=None)

    def plan(self) -> list[Job]:
        """Makes the three jobs, each submitted several times at once."""
        everything = Conversation.objects.filter(account__in=self.accounts)
        switchable = [account for account in self.accounts if account.provider_key in ("aurod", "modelrouter")]
        configurable = [account for account in self.accounts if account.provider_key == "aurod"]
        titles, switches = everything.count(), self.items // 4
        models = {str(account.pk): account.catalogue.order_by("pk")[1].model_id for account in switchable}
        asked = [
            ("set-title", everything, {"template": "Campaign {n} {title:10}", "include_hand_made": True}),
            ("switch-model", self._some(switchable, switches), {"targets": models}),
            ("configure", self._some(configurable, self.items - titles - switches), {"config": {"aurod": {"temperature": 0.5, "contextCount": 20}}}),
        ]
        found = []
        for action, rows, params in asked:
            made = in_parallel(lambda action=action, rows=rows: jobs.create(self.user, action, rows, key=f"submit {action}"))  # type: ignore[misc]
            self.found.demand(len({getattr(job, "pk", repr(job)) for job in made}) == 1, f"{action}: a parallel submit made {made}")
            found.append(jobs.plan(made[0], params))
        self.found.demand(Job.objects.count() == len(found), "a double submit made a job more")
        self.found.demand(sum(job.total for job in found) == self.items, f"{[job.total for job in found]} is not {self.items}")
        return found

    def _some(self, accounts: list[Account], count: int) -> Any:
        ids = sorted(Conversation.objects.filter(account__in=accounts).values_list("pk", flat=True))
        return Conversation.objects.filter(pk__in=self.chance.sample(ids, count))

    def start(self, planned: list[Job]) -> None:
        """Starts each job several times at once, by as many clicks."""
        for job in planned:
            count = jobs.changes(job)
            answers = in_parallel(lambda job=job, count=count: jobs.start(self.user, Job.objects.get(pk=job.pk), typed_count=count))  # type: ignore[misc]
            self.found.demand(sorted(map(repr, answers)) == ["False", "False", "True"], f"{job}: three clicks on run answered {answers}")

    def worsen(self) -> None:
        """Lets the weather turn bad."""
        for number, account in enumerate(self.accounts):
            simulator = self.simulators[account.pk]
            simulator.log.clear()
            simulator.latency = LATENCY
            # aurod, Chat Nio and Nuwax are silent for seconds after a refusal for the rate.
            throttles = weather.ALWAYS if account.provider_key == "modelrouter" else max(self.items // 500, number == 0)
            weather.worsen(simulator, throttles=throttles, liar=number in LIARS)
            if account.provider_key == "chatnio":
                weather.lie_on(simulator)  # its answers tell nothing anyway
        for _change in range(6):
            self.somebody.act()

    # --- the storm ----------------------------------------------------------------------------------------------------------------

    def blows(self, planned: list[Job]) -> list[tuple[float, Callable[[], None]]]:
        """Returns what strikes once this share of the items has ended."""
        many = self.items // 1000
        kinds = [self._kill_worker] * (2 + 2 * many) + [self._kill_redis] * (1 + many) + [self._kill_credential] * (1 + many)
        kinds += [lambda: self._pause(self.chance.choice(planned))] * (2 + many) + ([self._outage] if many else [])
        self.chance.shuffle(kinds)
        return [(0.05 + 0.75 * (number + self.chance.random()) / len(kinds), kind) for number, kind in enumerate(kinds)]

    def storm(self, planned: list[Job]) -> None:
        """Lets things go wrong until the jobs have ended."""
        blows = self.blows(planned)
        while True:
            rows = list(Job.objects.filter(pk__in=[job.pk for job in planned]))
            share = 1 - sum(job.open for job in rows) / self.items
            while blows and blows[0][0] <= share:
                blows.pop(0)[1]()
            if all(job.finished_at for job in rows):
                break
            if self.chance.random() < 0.5:
                self.somebody.act()
            self._watch_liars()
            self._revive()
            self.hurry()
        self.found.demand(not blows, f"the jobs ended before {len(blows)} of the blows")
        self.happened["changes by somebody"] = len(self.somebody.changes)
        self.happened["of these at the same moment as ours"] = len(list(self.somebody.all_overlapped()))

    def hurry(self) -> None:
        """Wakes the workers, as the clock does every five seconds, and cuts waits short."""
        if time.monotonic() > self.give_up:
            raise Broken(f"the time is over: {[(str(job), job.state, job.counts) for job in Job.objects.all()]}; {list(Lane.objects.values())}")
        self._watch_workers()
        wake.send("conversations.reap", expires=2)
        JobItem.objects.filter(status=S.PENDING).exclude(not_before=None).update(not_before=None)
        if not Incident.objects.filter(ended_at__isnull=True).exists():  # otherwise the breaker decides who may go
            Lane.objects.exclude(blocked_until=None).update(blocked_until=None)
        time.sleep(LOOK)

    def _watch_workers(self) -> None:
        """Starts workers again that ended by themselves, as `manage.py serve` does, and notes it: nothing here is a reason to."""
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is not None:
                self.found.problems.append(f"worker {worker.number} ended by itself with code {worker.process.returncode}")
                worker.start()

    def _kill_worker(self) -> None:
        worker = self.chance.choice(self.workers)
        worker.kill()
        worker.start()
        self.happened["workers killed"] += 1

    def _kill_redis(self) -> None:
        self.redis.restart(self.chance.uniform(0.1, 1.5))
        self.happened["Redis killed"] += 1

    def _kill_credential(self) -> None:
        open_items = JobItem.objects.filter(status=S.PENDING).exclude(account__in=list(self.dead))
        busy = sorted(set(open_items.order_by().values_list("account_id", flat=True)), key=str)
        if not busy:
            return
        account = self.chance.choice(busy)
        with self.simulators[account].lock:
            self.simulators[account].faults.insert(0, Fault("expired", times=weather.ALWAYS))
        self.dead[account] = time.monotonic()

    def _revive(self) -> None:
        """Gives accounts a new credential once their items wait for one, or have ended meanwhile."""
        for account, since in list(self.dead.items()):
            waits = JobItem.objects.filter(account=account, status=S.WAITING).exists()
            if not waits and time.monotonic() - since < 10:
                continue
            simulator = self.simulators[account]
            with simulator.lock:
                simulator.faults[:] = [fault for fault in simulator.faults if fault.kind != "expired"]
            services.replace_credentials(Account.objects.get(pk=account), simulator.credential())
            del self.dead[account]
            self.happened["credentials died and came back" if waits else "credentials died unnoticed"] += 1

    def _pause(self, job: Job) -> None:
        if jobs.pause(self.user, job):
            time.sleep(self.chance.uniform(0.05, 0.5))
            answers = in_parallel(lambda: jobs.resume(self.user, Job.objects.get(pk=job.pk)), 2)
            self.found.demand(sorted(map(repr, answers)) == ["False", "True"], f"{job}: two clicks on resume answered {answers}")
            self.happened["pauses"] += 1

    def _outage(self) -> None:
        """Lets one provider answer only errors until its breaker opens, and then a while longer."""
        account = self.chance.choice(self.accounts)
        simulator = self.simulators[account.pk]
        with simulator.lock:
            simulator.faults.insert(0, Fault("error", times=weather.ALWAYS))
        until = min(time.monotonic() + 20, self.give_up)
        while time.monotonic() < until and not Incident.objects.filter(ended_at__isnull=True).exists():
            self.hurry()
        self.happened["breakers opened"] += Incident.objects.filter(ended_at__isnull=True).exists()
        with simulator.lock:
            simulator.faults.pop(next(number for number, fault in enumerate(simulator.faults) if fault.kind == "error"))

    def _watch_liars(self) -> None:
        for number in LIARS:
            account = self.accounts[number].pk
            if account not in self.lying and Account.objects.get(pk=account).memory.get("answers_lie"):
                weather.lie_on(self.simulators[account])
                self.lying.add(account)

    # --- afterwards ---------------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns once the condition holds."""
        while not condition():
            self.hurry()

    def until_ended(self, planned: list[Job]) -> None:
        """Returns once all of the jobs have ended."""
        keys = [job.pk for job in planned]
        self.until(lambda: not Job.objects.filter(pk__in=keys, finished_at__isnull=True).exists())

    def check(self, planned: list[Job], *, ended_well: bool) -> None:
        """Checks jobs, records and providers as they are now."""
        for job in planned:
            checks.of_job(self.found, job, ended_well=ended_well)
            self.tell(f"{job} {job.action}: { ({name: count for name, count in job.counts.items() if count}) }")
        checks.of_writes(self.found)
        checks.of_the_rest(self.found, checks.aimed_at(planned))

    def mend(self, planned: list[Job]) -> None:
        """Lets all be well again and tries once more what failed."""
        for simulator in self.simulators.values():
            for call in simulator.log:
                if call.fault:
                    self.happened[f"{call.fault} ({'writes' if call.write else 'reads'})"] += 1
            simulator.clear_faults()
        Incident.objects.filter(ended_at__isnull=True).update(next_probe_at=timezone.now())
        self.happened["tried once more"] = sum(jobs.retry(self.user, job) for job in planned)
        self.until_ended(planned)

    def change_late(self, planned: list[Job]) -> None:
        """Lets somebody change some of what the title job applied."""
        [titles] = [job for job in planned if job.action == "set-title"]
        rows = titles.items.filter(status=S.APPLIED).order_by("ordinal").values_list("account_id", "remote_id")
        self.somebody.act_late(self.chance.sample(list(rows), max(6, self.items // 100)))

    def undo(self, planned: list[Job]) -> list[Job]:
        """Undoes the jobs side by side, each after its preview has been read, and checks what came back."""
        drafts = [undo.undo(self.user, job) for job in planned]
        for draft in drafts:
            wake_checks(draft)
        self.until(lambda: not JobItem.objects.unchecked().filter(job__in=drafts).exists())
        named = {}
        for draft, job in zip(drafts, planned, strict=True):
            named[draft.pk] = checks.of_preview(self.found, draft, job)
            self.tell(f"{draft} undoes {job}, preview: { ({name: count for name, count in jobs.groups(draft).items() if count}) }")
        self.happened["values that cannot be restored"] = sum(map(len, named.values()))
        self.start(drafts)
        self.until_ended(drafts)
        for draft in drafts:
            checks.of_undo(self.found, draft, named[draft.pk])
            self.tell(f"{draft}: { ({name: count for name, count in draft.counts.items() if count}) }")
        left: dict[tuple[Any, str], set[str]] = {}
        for draft in drafts:
            for item in draft.items.filter(reason="cannot_be_restored"):
                left.setdefault((item.account_id, item.remote_id), set()).update(item.target or ())
        checks.of_the_rest(self.found, left, undone=True)
        checks.of_writes(self.found)
        return drafts


def wake_checks(draft: Job) -> None:
    """Wakes the workers for a preview once more: the first message may have met a worker that was on its way out."""
    for account_id in draft.items.unchecked().order_by().values_list("account_id", flat=True).distinct():
        wake.check(draft.pk, account_id)
