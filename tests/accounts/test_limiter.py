"""The shared pace of requests, on the real Redis of the test run. Times are compared with room for a busy machine."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis
from django.conf import settings

from accounts import limiter as module
from accounts.limiter import LimiterBusy, LimiterUnavailable, NullLimiter, RedisLimiter

LATE = 0.25  # seconds: how late a granted slot may be used (50 ms) and what a busy event loop adds until the time is noted
BUSY = 0.8  # seconds: what a busy machine adds to a wait


def go(scenario: Callable[[RedisLimiter], Awaitable[None]], seconds: float = 20.0) -> None:
    """Runs a scenario with a limiter of its own and closes that."""

    async def bounded() -> None:
        limiter = RedisLimiter(settings.REDIS_URL)
        try:
            async with asyncio.timeout(seconds):
                await scenario(limiter)
        finally:
            await limiter.aclose()

    asyncio.run(bounded())


def assert_within_rate(times: list[float], rate: float, burst: int = 1) -> None:
    """No stretch of time, however cut, holds more grants than rate and burst allow."""
    times = sorted(times)
    for (first, start), (last, end) in itertools.combinations(enumerate(times), 2):
        assert last - first + 1 <= (end - start + LATE) * rate + burst + 1e-6, f"{last - first + 1} grants in {end - start:.3f} s"


async def take(limiter: RedisLimiter, key: str, times: list[float], **options: float) -> float:
    waited = await limiter.acquire(key, **options)  # type: ignore[arg-type]
    times.append(asyncio.get_running_loop().time())
    return waited


def script_calls(client: redis.Redis) -> int:
    return client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


# --- Pace -------------------------------------------------------------------------------------------------------------------


def test_concurrent_callers_are_spread_over_time_and_served_in_order() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        times: list[float] = []
        order: list[int] = []

        async def caller(number: int) -> float:
            waited = await take(limiter, "pace", times, rate=50)
            order.append(number)
            return waited

        waits = await asyncio.gather(*(caller(number) for number in range(31)))
        assert_within_rate(times, 50)
        assert 0.3 <= times[-1] - times[0] <= 4.0  # 30 intervals of 20 ms (the first may have been noted late), and not much more
        assert order == sorted(order)
        assert waits[0] < 0.3
        assert waits == sorted(waits)
        assert 0.55 <= waits[-1] <= 4.0

    go(scenario)


def test_the_pace_stays_a_little_below_the_limit(redis_client: redis.Redis) -> None:
    """A provider's window of a second has room for one request that came too soon, whoever sent it."""

    async def scenario(limiter: RedisLimiter) -> None:
        moments = []
        for priority in (False, True, True):
            await limiter.acquire("below", rate=0.5, burst=3, priority=priority)
            moments.append(int(redis_client.get("switchboard:limit:{below}")))
        steps = {after - before for before, after in itertools.pairwise(moments)}
        assert steps == {round(2_000_000 * (1.0 + module.MARGIN))}
        assert 1 / (1.0 + module.MARGIN) >= 0.95  # of what is allowed is used

    go(scenario)


def test_several_processes_share_one_rate() -> None:
    """Three loops with limiters of their own know of each other only through Redis."""
    times: list[float] = []
    starts = threading.Barrier(3)

    def worker() -> None:
        async def scenario(limiter: RedisLimiter) -> None:
            await limiter.cooling("warm up the connection")
            starts.wait(10)
            await asyncio.gather(*(take(limiter, "shared", times, rate=60) for _ in range(20)))

        go(scenario)

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(times) == 60
    assert_within_rate(times, 60)  # the loops' clocks are one: CLOCK_MONOTONIC
    assert max(times) - min(times) <= 6.0


def test_budgets_of_different_keys_do_not_meet() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        waits = await asyncio.gather(*(limiter.acquire(f"own:{number}", rate=0.1) for number in range(20)))
        assert max(waits) < 5.0  # of ten seconds, which the second of one budget would wait

    go(scenario)


def test_a_burst_goes_at_once_and_its_last_slot_is_kept_for_a_person() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        waits = [await limiter.acquire("burst", rate=1, burst=4) for _ in range(3)]
        assert max(waits) < 0.3
        with pytest.raises(LimiterBusy) as busy:
            await limiter.acquire("burst", rate=1, burst=4, max_wait=0.3)
        assert 0.3 < busy.value.retry_after <= 1.0 + module.MARGIN
        assert await limiter.acquire("burst", rate=1, burst=4, priority=True, max_wait=0.0) < 0.3
        with pytest.raises(LimiterBusy):
            await limiter.acquire("burst", rate=1, burst=4, priority=True, max_wait=0.3)

    go(scenario)


def test_high_rates_take_many_slots_in_one_round_trip(redis_client: redis.Redis) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        times: list[float] = []
        before = script_calls(redis_client)
        await asyncio.gather(*(take(limiter, "fast", times, rate=500) for _ in range(300)))
        assert script_calls(redis_client) - before <= 300 / 16 + 8
        assert_within_rate(times, 500)

    go(scenario)


def test_low_rates_hold_at_most_a_quarter_of_a_second(redis_client: redis.Redis) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        waiting = [asyncio.create_task(limiter.acquire("slow", rate=10)) for _ in range(10)]
        await waiting[0]
        # One slot is used, two are held by the nine who wait; whoever asks now is third.
        seconds, micros = redis_client.time()
        ahead = int(redis_client.get("switchboard:limit:{slow}")) / 1_000_000 - (seconds + micros / 1_000_000)
        assert 0.05 < ahead <= 0.25 + 0.1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    go(scenario)


def test_slots_that_nobody_used_are_lost_not_saved_up() -> None:
    async def scenario(_limiter: RedisLimiter) -> None:
        queue = module._Queue()
        queue.slots.extend([100.00, 100.01, 100.02, 100.50])
        assert queue.next_slot(100.005, 0.01) == 100.00
        assert queue.next_slot(100.30, 0.01) == 100.50  # two are too old
        assert queue.next_slot(100.30, 0.01) is None

    go(scenario)


def test_what_stands_in_redis_is_exact_and_expires(redis_client: redis.Redis) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        for _ in range(3):
            await limiter.acquire("state", rate=40)
        await limiter.cool_down("state", 0.5)
        names = {name.decode() for name in redis_client.keys("switchboard:limit:*")}
        assert names == {"switchboard:limit:{state}", "switchboard:limit:{state}:cooling"}
        state = redis_client.get("switchboard:limit:{state}")
        assert state.isdigit()  # not 1.7e+15
        assert len(state) == 16
        assert 0 < redis_client.pttl("switchboard:limit:{state}") <= 1000
        assert 0 < redis_client.pttl("switchboard:limit:{state}:cooling") <= 500

    go(scenario)


def test_scripts_come_back_after_redis_forgot_them(redis_client: redis.Redis) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        await limiter.acquire("forgotten", rate=100)
        redis_client.script_flush()
        await limiter.acquire("forgotten", rate=100)
        redis_client.script_flush()
        await limiter.cool_down("forgotten", 0.2)
        assert await limiter.cooling("forgotten") > 0

    go(scenario)


# --- A person waiting -------------------------------------------------------------------------------------------------------


def test_a_person_goes_ahead_of_all_who_wait_in_the_background() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        web = RedisLimiter(settings.REDIS_URL)  # another process
        times: list[float] = []
        background = [asyncio.create_task(take(limiter, "person", times, rate=20)) for _ in range(40)]
        await background[2]
        ahead = await asyncio.gather(*(take(web, "person", times, rate=20, priority=True) for _ in range(2)))
        here = await take(limiter, "person", times, rate=20, priority=True)
        # At most what is held (250 ms) and their own intervals; the background has 1.8 s to go.
        assert max(ahead) <= 0.25 + 2 * 0.05 + BUSY
        assert here <= 0.25 + 0.05 + BUSY
        assert sum(task.done() for task in background) < 35
        await asyncio.gather(*background)
        assert_within_rate(times, 20)
        await web.aclose()

    go(scenario)


# --- Not waiting too long ---------------------------------------------------------------------------------------------------


def test_a_caller_who_would_wait_too_long_is_told_how_long_and_takes_nothing(redis_client: redis.Redis) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        loop = asyncio.get_running_loop()
        await limiter.acquire("busy", rate=0.2, max_wait=0.0)
        state = redis_client.get("switchboard:limit:{busy}")
        start = loop.time()
        for priority in (False, True):
            for max_wait in (0.0, 0.5, 1.0):
                with pytest.raises(LimiterBusy) as busy:
                    await limiter.acquire("busy", rate=0.2, priority=priority, max_wait=max_wait)
                assert 1.0 < busy.value.retry_after <= 5.0 * (1.0 + module.MARGIN)
                assert f"{busy.value.retry_after:.1f} s" in str(busy.value)
        assert loop.time() - start < 2.0, "told at once: waiting as long as each of them had would be three seconds"
        assert redis_client.get("switchboard:limit:{busy}") == state
        # Whoever has the time gets the very next slot, and not before it.
        assert await limiter.acquire("busy", rate=0.2, max_wait=8.0) <= 8.0
        assert loop.time() - start > 5.0 - 2 * LATE

    go(scenario)


def test_the_queue_in_front_counts_as_waiting() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        await limiter.acquire("queue", rate=5)
        waiting = [asyncio.create_task(limiter.acquire("queue", rate=5)) for _ in range(5)]
        await asyncio.sleep(0)
        start = asyncio.get_running_loop().time()
        with pytest.raises(LimiterBusy) as busy:
            await limiter.acquire("queue", rate=5, max_wait=0.9)
        assert asyncio.get_running_loop().time() - start < 0.5  # told at once
        assert 0.9 < busy.value.retry_after <= 1.5
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    go(scenario)


def test_a_caller_who_gave_up_leaves_its_place_to_the_next() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        await limiter.acquire("cancel", rate=10)
        first, second, third = (asyncio.create_task(limiter.acquire("cancel", rate=10)) for _ in range(3))
        await asyncio.sleep(0.02)
        first.cancel()
        second.cancel()
        assert await third < 0.6
        assert [task.cancelled() for task in (first, second)] == [True, True]
        assert await limiter.acquire("cancel", rate=10) < 0.6

    go(scenario)


# --- Cool-down ----------------------------------------------------------------------------------------------------------------


def test_a_cool_down_stops_every_process_and_the_slots_it_holds() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        loop = asyncio.get_running_loop()
        other = RedisLimiter(settings.REDIS_URL)
        times: list[float] = []
        background = [asyncio.create_task(take(limiter, "cool", times, rate=100)) for _ in range(120)]
        await background[5]
        asked = loop.time()
        await other.cool_down("cool", 1.0)
        start = loop.time()
        assert 0.2 < await limiter.cooling("cool") <= 1.0
        person = asyncio.create_task(take(other, "cool", times, rate=100, priority=True))
        await asyncio.gather(*background, person)
        during = [time for time in times if start + module.FRESH + LATE < time < asked + 0.999]
        assert during == []
        assert len([time for time in times if time >= asked + 0.999]) >= 30  # there was something to stop
        assert_within_rate(times, 100)
        assert await limiter.cooling("cool") == 0.0
        await other.aclose()

    go(scenario)


def test_a_cool_down_of_this_process_holds_at_once() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        background = [asyncio.create_task(take(limiter, "here", times, rate=200)) for _ in range(30)]
        await background[3]
        asked = loop.time()
        cooled = asyncio.create_task(limiter.cool_down("here", 0.3))
        await asyncio.sleep(0)
        start = loop.time()
        await asyncio.gather(*background, cooled)
        assert [time for time in times if start + 0.01 < time < asked + 0.299] == []

    go(scenario)


def test_a_cool_down_is_extended_and_never_shortened() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        await limiter.cool_down("extend", 2.0)
        await limiter.cool_down("extend", 0.1)
        assert 1.8 < await limiter.cooling("extend") <= 2.0
        await limiter.cool_down("extend", 5.0)
        assert 4.8 < await limiter.cooling("extend") <= 5.0
        await limiter.cool_down("extend", 0.0)
        await limiter.cool_down("extend", -1.0)
        await limiter.cool_down("extend", float("nan"))
        assert 4.8 < await limiter.cooling("extend") <= 5.0
        await limiter.cool_down("nonsense", float("inf"))
        assert await limiter.cooling("nonsense") <= module.LONGEST_COOL_DOWN
        assert await limiter.cooling("another") == 0.0

    go(scenario)


@pytest.mark.parametrize("priority", [False, True])
def test_a_cool_down_longer_than_the_caller_waits_is_told(priority: bool) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        other = RedisLimiter(settings.REDIS_URL)
        await other.cool_down("told", 3.0)
        for who in (limiter, other):
            with pytest.raises(LimiterBusy) as busy:
                await who.acquire("told", rate=100, priority=priority, max_wait=1.0)
            assert 2.5 < busy.value.retry_after <= 3.0
        await other.aclose()

    go(scenario)


# --- Redis, keys, loops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        ("aurod:u-17", True),
        ("chatnio:host.example/conversation/load", True),
        ("A-Za_z0.9:/", True),
        ("with space", False),
        ("名字", False),
        ("a{b}", False),
        ("key\r\nFLUSHALL", False),
        ("https://host/?token=synthetic", False),
        ("x" * 161, False),
        ("", False),
        ("\ud800", False),
    ],
)
def test_unusual_keys_go_by_their_hash(key: str, plain: bool, redis_client: redis.Redis) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        await limiter.acquire(key, rate=0.5)
        with pytest.raises(LimiterBusy):
            await limiter.acquire(key, rate=0.5, max_wait=0.1)
        await limiter.cool_down(key, 1.0)
        assert await limiter.cooling(key) > 0
        names = [name.decode() for name in redis_client.keys("switchboard:limit:*")]
        assert len(names) == 2
        for name in names:
            inside = name.partition("{")[2].partition("}")[0]
            assert (inside == key) if plain else (inside.startswith("#") and len(inside) == 65)

    go(scenario)


def test_both_spellings_of_a_unix_socket_reach_the_same_redis() -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        await limiter.cool_down("spelling", 5.0)
        for url in (
            f"redis+socket://{settings.REDIS_SOCKET}?virtual_host=0",
            f"unix://{settings.REDIS_SOCKET}?db=0",
            f"unix://{settings.REDIS_SOCKET}",
        ):
            other = RedisLimiter(url)
            assert await other.cooling("spelling") > 4.0
            await other.aclose()

    go(scenario)


def test_each_loop_has_connections_of_its_own_and_closes_them(redis_client: redis.Redis) -> None:
    before = len(redis_client.client_list())
    limiter = RedisLimiter(settings.REDIS_URL)

    async def use() -> int:
        await asyncio.gather(*(limiter.acquire("loops", rate=1000) for _ in range(10)))
        connected = len(redis_client.client_list())
        await limiter.aclose()
        await limiter.acquire("loops", rate=1000)  # usable again
        await limiter.aclose()
        await limiter.aclose()
        return connected

    for _ in range(3):
        assert asyncio.run(use()) > before
    with asyncio.Runner() as runner:
        for _ in range(3):
            runner.run(limiter.acquire("loops", rate=1000))
        runner.run(limiter.aclose())
    # Redis notices a closed connection in its own time; an answered command shows that it has looked.
    for _ in range(50):
        if len(redis_client.client_list()) <= before:
            break
    assert len(redis_client.client_list()) <= before


def test_without_redis_every_caller_is_told_soon(tmp_path: Path) -> None:
    async def scenario() -> None:
        limiter = RedisLimiter(f"unix://{tmp_path}/nobody.sock")
        loop = asyncio.get_running_loop()
        start = loop.time()
        calls = [limiter.acquire("down", rate=10, priority=number % 2 == 0) for number in range(20)]
        results = await asyncio.gather(*calls, limiter.cool_down("down", 1.0), limiter.cooling("down"), return_exceptions=True)
        assert all(isinstance(result, LimiterUnavailable) for result in results)
        assert not any(hasattr(result, "retry_after") for result in results)
        assert loop.time() - start < 5.0
        await limiter.aclose()

    asyncio.run(scenario())


def test_a_redis_that_hangs_is_not_waited_for_by_one_caller_after_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def accept_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    async def scenario() -> None:
        path = str(tmp_path / "mute.sock")
        server = await asyncio.start_unix_server(accept_and_say_nothing, path)
        limiter = RedisLimiter(f"unix://{path}?socket_timeout=0.2&socket_connect_timeout=0.2")
        loop = asyncio.get_running_loop()
        start = loop.time()
        results = await asyncio.gather(*(limiter.acquire("mute", rate=10) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(result, LimiterUnavailable) for result in results)
        assert loop.time() - start < 3.0  # one caller's patience, not that of 20
        await limiter.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": -1}, {"rate": float("nan")}, {"rate": float("inf")}, {"rate": 1, "burst": 0}])
def test_a_limit_without_sense_is_refused(options: dict[str, float]) -> None:
    async def scenario(limiter: RedisLimiter) -> None:
        with pytest.raises(ValueError):
            await limiter.acquire("senseless", **options)  # type: ignore[arg-type]

    go(scenario)


def test_the_null_limiter_has_the_same_doors_and_no_lock() -> None:
    async def scenario() -> None:
        limiter: module.Limiter = NullLimiter()
        assert [await limiter.acquire("any", rate=0.001, burst=1, priority=False, max_wait=0.0) for _ in range(100)] == [0.0] * 100
        await limiter.cool_down("any", 60)
        assert await limiter.cooling("any") == 0.0
        await limiter.aclose()

    asyncio.run(scenario())
