"""What a person at the job page waits for: from the click on Run to the provider, from the provider to the page, from the click on Pause to silence.

The pages come from the product's own web server. The client polls as the browser does: every second, until the page stops asking.
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left
from statistics import median

import httpx
from django.conf import settings
from django.test import Client

from accounts.models import User
from conversations import jobs
from conversations.models import Job, JobState

from . import processes, product
from .processes import Broken, Call, Simulators, wait_until
from .table import median_and_all, percentile
from .world import World

ACCOUNTS = 8
POLL_SECONDS = 1.0
NUMBER = re.compile(r"[\d,]+")


class Page:
    """A signed-in browser on the page of one job, without the browser."""

    def __init__(self, address: str, user: User, job: Job) -> None:
        signed_in = Client()
        signed_in.force_login(user)
        cookie = signed_in.cookies[settings.SESSION_COOKIE_NAME].value
        self.http = httpx.Client(base_url=address, cookies={settings.SESSION_COOKIE_NAME: cookie}, trust_env=False, timeout=30)
        self.address = f"/jobs/{job.pk}/"
        self.total = job.total
        self.seen: list[tuple[float, int]] = []  # when an answer had arrived, and how many items it showed as done
        self.polls = self._look(self.http.get(self.address))
        self.polling = threading.Thread(target=self._poll, daemon=True)
        self.stopped = threading.Event()

    def _look(self, answer: httpx.Response) -> bool:
        """Notes what a page shows; returns whether it asks to be polled."""
        answer.raise_for_status()
        sentence = re.search(r'id="job-sentence">([^<]*)<', answer.text)
        if sentence:
            shown = NUMBER.search(sentence[1])
            ended = sentence[1].startswith(("Done", "Cancelled"))
            self.seen.append((time.monotonic(), self.total if ended else int(shown[0].replace(",", "")) if shown else 0))
        return 'id="job-live" hx-get' in answer.text

    def run(self) -> float:
        """Clicks on Run and goes on to the job's page; returns the moment of the click."""
        clicked = time.monotonic()
        answer = self.http.post(f"{self.address}start/", data={"typed_count": self.total, "note": ""}, headers=self._token())
        if answer.status_code != 302:
            raise Broken(f"the click on Run was answered with {answer.status_code}")
        self._look(self.http.get(self.address))
        self.polling.start()
        return clicked

    def pause(self) -> float:
        """Clicks on Pause; returns the moment of the click."""
        clicked = time.monotonic()
        self.http.post(f"{self.address}pause/", headers=self._token() | self._htmx()).raise_for_status()
        return clicked

    def _poll(self) -> None:
        polls, due = True, time.monotonic() + POLL_SECONDS
        while polls and not self.stopped.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic()) + POLL_SECONDS  # from question to question: htmx does not wait for the answer to begin the next second
            polls = self._look(self.http.get(self.address, headers=self._htmx()))

    def close(self) -> None:
        """Leaves the page."""
        self.stopped.set()
        if self.polling.is_alive():
            self.polling.join(30)
        self.http.close()

    def _token(self) -> dict[str, str]:
        return {"X-CSRFToken": self.http.cookies[settings.CSRF_COOKIE_NAME]}

    def _htmx(self) -> dict[str, str]:
        return {"HX-Request": "true", "HX-Target": "job-live", "HX-Current-URL": str(self.http.base_url) + self.address}


def at_the_job_page(world: World, items: int, seconds: float) -> None:
    """Runs, watches and pauses a job of `items` conversations, once for each round."""
    first: list[float] = []
    last: list[float] = []
    visible: list[float] = []
    with (
        processes.web_server() as (address, _pid),
        processes.simulators("modelrouter", copies=ACCOUNTS, size=items // ACCOUNTS, latency=world.latency) as simulators,
    ):
        accounts = product.connect(world.user, simulators)
        for number in range(world.rounds):
            if number:
                product.read_again(accounts)
            job = product.draft(world.user, accounts)
            simulators.forget()
            page = Page(address, world.user, job)
            try:
                clicked = page.run()
                time.sleep(seconds)
                paused = page.pause()
                wait_until(lambda job=job: _is_quiet(job), 60, f"{job} to pause")  # type: ignore[misc]
                page.polling.join(30)  # the page sees that the job has paused, and stops asking
            finally:
                page.close()
            if job.finished_at is not None:
                raise Broken("the job was done before the click on Pause")
            calls = simulators.all_calls()
            first.append(min(call.at for call in calls if call.at >= clicked) - clicked)
            last.append(max(0.0, max(call.at for call in calls) - paused))
            visible += _delays(calls, page)
            jobs.cancel(world.user, job)
    size = f"{items // ACCOUNTS * ACCOUNTS:,} items"
    told = world.report.bar
    told(f"Run click to first provider call, {size}", f"{median_and_all(first)} s", "≤ 0.5 s", median(first) <= 0.5)
    p95 = percentile(visible, 0.95)
    told(
        "item done at the provider to visible on the job page, p95",
        f"{p95:.2f} s (p50 {percentile(visible, 0.5):.2f}, {len(visible):,} items)",
        "≤ 1.5 s",
        p95 <= 1.5,
    )
    told("Pause click to last provider call", f"{median_and_all(last)} s", "≤ 0.5 s", median(last) <= 0.5)


def _is_quiet(job: Job) -> bool:
    job.refresh_from_db()
    return job.state != JobState.RUNNING and job.state != JobState.PAUSING


def _delays(calls: list[Call], page: Page) -> list[float]:
    """Returns for each item how long after the provider's answer to its write a page showed one more as done.

    Items are told apart by their order alone: the page shows how many are done, so the n-th done is visible when it shows n.
    """
    done = sorted(call.ended for call in calls if call.changed)
    shown = [count for _at, count in page.seen]
    if not done or shown != sorted(shown):
        raise Broken(f"the page went back: {shown}")
    if shown[-1] < len(done):
        raise Broken(f"{len(done)} items were written and the last page showed {shown[-1]}")
    return [page.seen[bisect_left(shown, number)][0] - at for number, at in enumerate(done, 1)]


def kept_within_a_limit(world: World, seconds: float, rate: float = 10.0) -> None:
    """Providers that refuse more than `rate` requests in any second: how much of it is used, and how often they had to refuse."""
    copies = 4
    with processes.simulators("modelrouter", copies=copies, size=max(5, round(seconds * rate / 2)), latency=world.latency) as simulators:
        accounts = product.connect(world.user, simulators)
        for account in accounts:
            type(account).objects.filter(pk=account.pk).update(rate=rate)
        simulators.limit(rate)
        time.sleep(1.1)  # what was read just now is out of the provider's window
        job = product.draft(world.user, accounts)
        simulators.forget()
        jobs.start(world.user, job, typed_count=job.n_pending)
        product.wait_for_end(job)
        used, refused = _use(simulators, rate)
    if job.n_applied != job.total:
        raise Broken(f"not every item was applied: { ({name: count for name, count in job.counts.items() if count}) }")
    world.report.bar(
        f"used of {rate:.0f} requests a second that the provider allows, {copies} accounts; refusals",
        f"{median_and_all(used)}; {refused} refused of {2 * job.total:,}",
        "≥ 0.95; 0",
        median(used) >= 0.95 and not refused,
    )


def _use(simulators: Simulators, rate: float) -> tuple[list[float], int]:
    used, refused = [], 0
    for calls in simulators.calls():
        good = [call for call in calls if call.status == 200]
        refused += len(calls) - len(good)
        used.append((len(good) - 1) / (good[-1].at - good[0].at) / rate)
    return used, refused
