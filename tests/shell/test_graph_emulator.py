"""Call records read from the emulator: pages, links, versions, limits, as they are on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.clock import Clock
from service.emulator.options import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_TENANT_ID, Limits, TenantOptions
from service.errors import GraphUnavailable, RecordNotFound, TenantMustWait
from service.graph.client import Fetched, RecordChanged
from service.settings import Secret, Tenant
from tests.shell.graph_fixture import World, world_of
from tests.shell.test_emulator_tools import Client, add_record, emulated, make_record, until

DEMO = Tenant(id=DEMO_TENANT_ID, client_id=DEMO_CLIENT_ID, client_secret=Secret(DEMO_CLIENT_SECRET))
SHORT_WINDOW_SECONDS = 20.0


@asynccontextmanager
async def reading(
    settings: dict[str, Any] | None = None, speed: float = 10, **options: Any
) -> AsyncIterator[tuple[Client, World]]:
    """An emulator, and a client of call records that shares its clock. A busy machine is no timeout."""
    clock = Clock(speed)
    async with (
        emulated(clock, **options) as emulator,
        world_of(
            emulator.emulator.url, clock, **{"request_timeout_seconds": 10.0 * speed, **(settings or {})}
        ) as world,
    ):
        yield emulator, world


def sizes(fetched: Fetched) -> tuple[int, int]:
    """Sessions and participants."""
    return len(fetched.record.sessions or []), len(fetched.record.participants_v2 or [])


@pytest.mark.parametrize("form", ["plain", "metadata"])
@pytest.mark.parametrize(
    ("sessions", "people", "requests"),
    [(0, 0, 1), (1, 2, 1), (60, 130, 1), (61, 130, 3), (60, 131, 3), (121, 261, 6)],
)
async def test_every_page_is_read_to_its_end(form: str, sessions: int, people: int, requests: int) -> None:
    """60 sessions and 130 participants a page, in either form of the link; one request more checks the version."""
    async with reading(nextlink_form=form) as (emulator, world):
        call = add_record(emulator, sessions=sessions, people=people)
        fetched = await world.fetch(call.id, DEMO)

        assert sizes(fetched) == (sessions, people)
        assert [one.id for one in fetched.record.sessions or []] == [f"session-{n}" for n in range(sessions)]
        assert sum(
            sum(world.outcomes(call).values()) for call in ("record", "sessions", "participants", "version")
        ) == (requests)
        assert fetched.record.sessions_next_link is None
        assert world.progress.version == 1
        assert world.progress.pages == fetched.pages


async def test_a_large_meeting_keeps_to_the_budget_of_its_record() -> None:
    """1,200 sessions and 1,000 participants are 29 requests: Graph allows 40 in 20 s, and never says 429."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=1200, people=1000)
        fetched = await world.fetch(call.id, DEMO)

        assert sizes(fetched) == (1200, 1000)
        assert world.outcomes("sessions") == {"ok": 19}


async def test_a_record_beyond_its_budget_waits_in_place_and_is_never_throttled() -> None:
    """3,000 sessions need more requests than one window has room for."""
    async with reading({"record_requests_per_20s": 4}, limits=Limits(record=5)) as (emulator, world):
        call = add_record(emulator, sessions=361)
        began = world.clock.now()
        fetched = await world.fetch(call.id, DEMO)

        assert sizes(fetched)[0] == 361
        assert world.outcomes("sessions") == {"ok": 6}
        assert world.clock.now() - began > SHORT_WINDOW_SECONDS


async def test_a_version_that_appears_between_two_pages_starts_the_record_again() -> None:
    """One version only: sessions of two are never mixed."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=130)
        await emulator.post("/emulator/faults", {"kind": "sessions", "action": "drip", "seconds": 10, "count": 1})
        fetching = asyncio.create_task(world.fetch(call.id, DEMO))
        await until(lambda: emulator.emulator.world.faults.rules[0].acted == 1)
        again = make_record(world.clock, sessions=70)
        emulator.emulator.store.add_version(call, {**again, "id": call.id, "version": 2})
        fetched = await fetching

        assert fetched.record.version == 2
        assert sizes(fetched)[0] == 70
        assert world.progress.version == 2


async def test_a_record_that_keeps_changing_is_left_for_later() -> None:
    """Restarts are bounded; the lane comes back with its own wait."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=61)
        await emulator.post("/emulator/faults", {"kind": "sessions", "action": "new-version"})
        with pytest.raises(RecordChanged):
            await world.fetch(call.id, DEMO)

        assert world.outcomes("record") == {"ok": 4}


async def test_a_record_that_is_not_there_is_not_found() -> None:
    """Not ready or gone: the same answer (contract 6.5)."""
    async with reading() as (_, world):
        with pytest.raises(RecordNotFound, match="404"):
            await world.fetch("00000000-0000-4000-8000-000000000000", DEMO)


@pytest.mark.passes_limits
async def test_graphs_throttling_makes_the_tenant_wait_and_then_it_goes_on() -> None:
    """Nothing is asked meanwhile: requests that are refused count as well."""
    async with reading(limits=Limits(app_and_tenant=3)) as (emulator, world):
        calls = [add_record(emulator) for _ in range(4)]
        for call in calls[:3]:
            await world.fetch(call.id, DEMO)
        with pytest.raises(TenantMustWait) as refused:
            await world.fetch(calls[3].id, DEMO)
        with pytest.raises(TenantMustWait):
            await world.fetch(calls[3].id, DEMO)
        assert world.outcomes("record") == {"ok": 3, "throttled": 1}
        await world.clock.sleep(refused.value.wait_seconds)

        assert (await world.fetch(calls[3].id, DEMO)).record.id == calls[3].id


async def test_throttling_between_pages_is_waited_for_in_place() -> None:
    """The pages that are there are not asked for again."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=150)
        await emulator.post("/emulator/faults", {"kind": "sessions", "status": 429, "retryAfter": 3, "count": 1})
        fetched = await world.fetch(call.id, DEMO)

        assert sizes(fetched)[0] == 150
        assert world.outcomes("record") == {"ok": 1}
        assert world.outcomes("sessions") == {"throttled": 1, "ok": 2}


async def test_missing_consent_makes_the_tenant_wait_and_says_what_is_missing() -> None:
    """403: an administrator has to act."""
    async with reading(tenants=(TenantOptions(consented=False),)) as (emulator, world):
        call = add_record(emulator)
        with pytest.raises(TenantMustWait, match=r"CallRecords\.Read\.All") as refused:
            await world.fetch(call.id, DEMO)

        assert refused.value.cause == "forbidden"


async def test_consent_that_is_given_counts_with_the_next_request() -> None:
    """What is granted stands in the token: after a 403 the next request asks for a new one, not an hour later."""
    async with reading(tenants=(TenantOptions(consented=False),), speed=40) as (emulator, world):
        call = add_record(emulator)
        with pytest.raises(TenantMustWait) as refused:
            await world.fetch(call.id, DEMO)
        emulator.emulator.world.tenants.set_consent(DEMO.id, is_consented=True)
        await world.clock.sleep(refused.value.wait_seconds)

        assert (await world.fetch(call.id, DEMO)).record.id == call.id
        assert world.outcomes("token") == {"ok": 2}


@pytest.mark.parametrize("action", ["cut", "cut-gzip", "html"])
async def test_a_broken_answer_is_asked_for_again(action: str) -> None:
    """Once is no outage, and no reason to set the call aside."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=30)
        await emulator.post("/emulator/faults", {"action": action, "count": 1})

        assert sizes(await world.fetch(call.id, DEMO))[0] == 30


async def test_what_stays_broken_is_unavailable_after_the_tries() -> None:
    """Then the lane's retry topic takes over."""
    async with reading({"tries": 2}) as (emulator, world):
        call = add_record(emulator)
        await emulator.post("/emulator/faults", {"status": 502})
        with pytest.raises(GraphUnavailable, match="502"):
            await world.fetch(call.id, DEMO)

        assert world.outcomes("record") == {"error": 2}


async def test_a_token_that_expires_between_pages_is_replaced() -> None:
    """401: once a new one, and the same request."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=61)
        await emulator.post("/emulator/faults", {"kind": "sessions", "status": 401, "count": 1})
        fetched = await world.fetch(call.id, DEMO)

        assert sizes(fetched)[0] == 61
        assert world.outcomes("token") == {"ok": 2}


async def test_an_outage_of_graph_makes_the_tenant_wait_and_ends_by_a_probe() -> None:
    """What fails because Graph is away is not held against a record."""
    async with reading() as (emulator, world):
        calls = [add_record(emulator) for _ in range(12)]
        rule = (await emulator.post("/emulator/faults", {"status": 503})).json
        errors = await asyncio.gather(*(world.fetch(call.id, DEMO) for call in calls), return_exceptions=True)
        assert all(isinstance(error, TenantMustWait) and error.cause == "outage" for error in errors)
        assert world.sample("tenant_waiting", tenant="contoso") == 1.0

        await emulator.call("DELETE", f"/emulator/faults/{rule['id']}")
        await world.clock.sleep(world.gates.waiting_seconds("contoso"))
        for call in calls:
            assert (await world.fetch(call.id, DEMO)).record.id == call.id


async def test_a_cancelled_fetch_leaves_nothing_behind() -> None:
    """Whatever it waited for; the next one finds all as it should be."""
    async with reading() as (emulator, world):
        call = add_record(emulator, sessions=61)
        await emulator.post("/emulator/faults", {"kind": "sessions", "action": "hang", "seconds": 60, "count": 1})
        fetching = asyncio.create_task(world.fetch(call.id, DEMO))
        await until(lambda: emulator.emulator.world.faults.rules[0].acted == 1)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

        assert sizes(await world.fetch(call.id, DEMO))[0] == 61
