"""Budgets and waits of tenants, on a clock that stands still until it is moved."""

import asyncio
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.clock import Clock
from service.errors import TenantMustWait
from service.graph.budget import (
    FIRST_WAIT,
    PROBE_SECONDS,
    TRANSIT_SECONDS,
    WINDOW_SECONDS,
    RecordBudget,
    SlidingWindow,
    TenantGates,
)
from service.metrics import Metrics
from service.settings import Graph

START = 1_790_000_000.0


class StillClock(Clock):
    """Moves only when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.time = START

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + max(0.0, seconds)
        await asyncio.sleep(0)
        self.time = max(self.time, until)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(tenants=["contoso", "fabrikam"])


@pytest.fixture
def gates(clock: StillClock, metrics: Metrics) -> TenantGates:
    return TenantGates(Graph(tenant_requests_per_20s=100), ["contoso", "fabrikam"], clock, metrics)


def gauge(metrics: Metrics, tenant: str) -> float | None:
    return metrics.registry.get_sample_value("callstream_tenant_waiting", {"tenant": tenant})


def cause_of(call: Callable[[], object]) -> str:
    with pytest.raises(TenantMustWait) as raised:
        call()
    return raised.value.cause


# ---- budgets ----


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_no_window_of_20_seconds_ever_sees_more_starts_than_the_limit(limit: int, pauses: list[float]) -> None:
    """Whatever instant the window begins at, and with requests that arrive a little later than they started."""
    starts: list[float] = []

    async def run() -> None:
        clock = StillClock()
        window = SlidingWindow(limit, clock)
        for pause in pauses:
            await clock.sleep(pause)
            await window.acquire()
            starts.append(clock.now())

    asyncio.run(run())

    for first, beyond in itertools.pairwise(starts[::limit]):
        assert beyond - first >= WINDOW_SECONDS + TRANSIT_SECONDS - 1e-3


async def test_a_budget_is_spent_at_once_and_comes_back_after_the_window(clock: StillClock) -> None:
    """No pacing: a burst within the limit does not wait."""
    window = SlidingWindow(3, clock)

    for _ in range(3):
        assert window.wait_seconds() == 0
        await window.acquire()
    assert clock.now() == START
    assert window.wait_seconds() == pytest.approx(WINDOW_SECONDS + TRANSIT_SECONDS)

    await window.acquire()
    assert clock.now() - START == pytest.approx(WINDOW_SECONDS + TRANSIT_SECONDS)


async def test_those_who_wait_for_a_budget_are_served_in_their_order(clock: StillClock) -> None:
    """Also when one of them gives up."""
    window, served = SlidingWindow(1, clock), []

    async def ask(name: int) -> None:
        await window.acquire()
        served.append(name)

    tasks = [asyncio.create_task(ask(name)) for name in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert served == [0, 1, 3, 4]


async def test_a_cancelled_wait_spends_nothing(clock: StillClock) -> None:
    """The next one is as early as it would have been."""
    window = SlidingWindow(1, clock)
    await window.acquire()
    waiting = asyncio.create_task(window.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    await window.acquire()
    assert clock.now() - START == pytest.approx(WINDOW_SECONDS + TRANSIT_SECONDS)


async def test_transit_is_counted_in_the_machines_seconds() -> None:
    """A network does not run faster with a faster clock."""
    window = SlidingWindow(1, Clock(speed=1000))
    await window.acquire()

    assert window.wait_seconds() == pytest.approx(WINDOW_SECONDS + 1000 * TRANSIT_SECONDS, abs=30)


async def test_a_tenants_budget_is_its_own(gates: TenantGates) -> None:
    """One tenant's burst costs another nothing."""
    for _ in range(100):
        await gates.acquire("contoso")

    assert gates.budget_seconds("contoso") > WINDOW_SECONDS
    assert gates.budget_seconds("fabrikam") == 0


async def test_a_process_spends_the_share_that_its_lanes_are(gates: TenantGates) -> None:
    """Three of twelve lanes: a quarter of the budget, and no process asks another."""
    gates.set_share(3, 12)
    for _ in range(25):
        assert gates.budget_seconds("contoso") == 0
        await gates.acquire("contoso")

    assert gates.budget_seconds("contoso") > 0

    gates.set_share(6, 12)
    assert gates.budget_seconds("contoso") == 0


async def test_a_process_without_lanes_keeps_a_little_for_the_keeper(gates: TenantGates) -> None:
    """Subscriptions must be renewed wherever the lanes are."""
    gates.set_share(0, 12)

    assert gates.budget_seconds("contoso") == 0


async def test_idle_records_are_forgotten(clock: StillClock) -> None:
    """A million calls a day must not stay in memory."""
    budget = RecordBudget(2, clock)
    for number in range(100):
        await budget.window(f"call {number}").acquire()
    assert len(budget) == 100

    await clock.sleep(2 * WINDOW_SECONDS)
    await budget.window("another").acquire()
    assert len(budget) == 1


async def test_a_record_in_use_keeps_its_budget_when_others_are_forgotten(clock: StillClock) -> None:
    """Forgetting it would allow twice the limit."""
    budget = RecordBudget(2, clock)
    for _ in range(3):
        await clock.sleep(9)
        await budget.window("busy").acquire()

    assert budget.window("busy").wait_seconds() > 0


# ---- waits ----


async def test_what_the_server_asked_for_is_the_wait(gates: TenantGates, clock: StillClock, metrics: Metrics) -> None:
    """For the whole tenant, told by the gauge, and over by itself."""
    gates.must_wait("contoso", "throttled", 17.0)

    assert gates.waiting_seconds("contoso") == pytest.approx(17)
    assert gates.waiting_seconds("fabrikam") == 0
    assert cause_of(lambda: gates.check("contoso")) == "throttled"
    assert (gauge(metrics, "contoso"), gauge(metrics, "fabrikam")) == (1, 0)

    await clock.sleep(17)
    gates.check("contoso")
    assert gauge(metrics, "contoso") == 0


async def test_a_wait_is_shown_until_it_is_over(gates: TenantGates, clock: StillClock) -> None:
    """For the status: why, and for how long yet."""
    gates.must_wait("contoso", "throttled", 30.0, "Graph answered 429.")
    await clock.sleep(10)
    assert gates.shown("contoso") == {"cause": "throttled", "seconds": 20.0, "detail": "Graph answered 429."}
    await clock.sleep(20)
    assert (gates.shown("contoso"), gates.shown("fabrikam")) == (None, None)


async def test_a_shorter_wait_does_not_end_a_longer_one(gates: TenantGates) -> None:
    """Answers overtake each other."""
    gates.must_wait("contoso", "throttled", 100.0)
    gates.must_wait("contoso", "throttled", 1.0)

    assert gates.waiting_seconds("contoso") == pytest.approx(100)


# As docs/faults.md has them: doubled, up to ten minutes.
LONGEST = {
    "throttled": (5, 10, 20, 40, 80, 160, 320, 600, 600),
    "forbidden": (30, 60, 120, 240, 480, 600, 600),
    "no_token": (30, 60, 120, 240, 480, 600, 600),
    "outage": (30, 60, 120, 240, 480, 600, 600),
}


@pytest.mark.parametrize("cause", LONGEST)
async def test_waits_grow_until_a_request_succeeds(gates: TenantGates, clock: StillClock, cause: str) -> None:
    """Up to a fifth shorter each, so that replicas do not come back at once; from the beginning after a success."""
    waits = []
    for longest in LONGEST[cause]:
        waits.append(gates.must_wait("contoso", cause))
        assert 0.8 * longest <= waits[-1] <= longest
        await clock.sleep(waits[-1])

    assert len({wait / longest for wait, longest in zip(waits, LONGEST[cause], strict=True)}) > 1

    gates.succeeded("contoso")
    assert gates.must_wait("contoso", cause) <= LONGEST[cause][0]


def test_no_cause_of_a_growing_wait_is_left_out() -> None:
    """Each has its numbers above."""
    assert LONGEST.keys() == FIRST_WAIT.keys()


async def test_many_answers_at_once_are_one_wait(gates: TenantGates) -> None:
    """Twenty fetches under way all learn of the missing consent."""
    for _ in range(20):
        gates.must_wait("contoso", "forbidden")

    assert gates.waiting_seconds("contoso") <= FIRST_WAIT["forbidden"]


async def test_after_a_growing_wait_one_probe_goes_ahead(gates: TenantGates, clock: StillClock) -> None:
    """The others wait for what it brings."""
    await clock.sleep(gates.must_wait("contoso", "forbidden"))
    assert gates.start("contoso")
    assert cause_of(lambda: gates.start("contoso")) == "forbidden"

    gates.succeeded("contoso")
    assert not gates.start("contoso")
    assert gates.waiting_seconds("contoso") == 0


async def test_a_probe_that_never_ends_does_not_hold_the_tenant(gates: TenantGates, clock: StillClock) -> None:
    """Broken off, or simply gone."""
    await clock.sleep(gates.must_wait("contoso", "forbidden"))
    assert gates.start("contoso")
    gates.probe_ended("contoso")
    assert gates.start("contoso")

    await clock.sleep(PROBE_SECONDS)
    assert gates.start("contoso")


# ---- outages ----


async def test_when_most_requests_fail_it_is_an_outage(gates: TenantGates) -> None:
    """Ten seen, most failed, of several records: the tenant waits, and its records lose no attempt."""
    for number in range(9):
        gates.failed("contoso", f"call {number}")
    assert gates.waiting_seconds("contoso") == 0

    gates.failed("contoso", "call 9")
    assert cause_of(lambda: gates.check("contoso")) == "outage"
    assert gates.waiting_seconds("fabrikam") == 0


async def test_one_bad_record_is_no_outage(gates: TenantGates) -> None:
    """Else a record that Graph can never give would stop a small tenant for ever."""
    for _ in range(40):
        gates.failed("contoso", "the one")

    assert gates.waiting_seconds("contoso") == 0


async def test_a_minority_of_failures_is_no_outage(gates: TenantGates) -> None:
    """Those records try again; the others go on."""
    for number in range(50):
        gates.succeeded("contoso")
        gates.failed("contoso", f"call {number}")
        gates.succeeded("contoso")

    assert gates.waiting_seconds("contoso") == 0


async def test_a_failed_probe_lengthens_the_outage_and_a_good_one_ends_it(
    gates: TenantGates, clock: StillClock
) -> None:
    """One request decides, not ten more."""
    for number in range(10):
        gates.failed("contoso", f"call {number}")
    first = gates.waiting_seconds("contoso")
    await clock.sleep(first)

    assert gates.start("contoso")
    gates.failed("contoso", "call 11")
    gates.probe_ended("contoso")
    assert gates.waiting_seconds("contoso") > first
    await clock.sleep(gates.waiting_seconds("contoso"))

    assert gates.start("contoso")
    gates.succeeded("contoso")
    gates.probe_ended("contoso")
    gates.failed("contoso", "call 12")
    assert gates.waiting_seconds("contoso") == 0
