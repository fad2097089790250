"""Tokens: cached, renewed early by one task, and refusals that a person understands."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from service.errors import TenantMustWait
from service.settings import Secret, Tenant
from tests.shell.graph_fixture import (
    TENANT,
    Answer,
    ScriptedGraph,
    World,
    cut,
    fails,
    hangs,
    raw,
    says,
    scripted,
    slams,
    world_of,
)
from tests.shell.test_graph_budget import StillClock


@pytest_asyncio.fixture
async def graph() -> AsyncIterator[ScriptedGraph]:
    async with scripted() as graph:
        yield graph


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest_asyncio.fixture
async def world(graph: ScriptedGraph, clock: StillClock) -> AsyncIterator[World]:
    async with world_of(graph.url, clock) as world:
        yield world


def token(text: str, seconds: object = 3600) -> Answer:
    return says({"token_type": "Bearer", "access_token": text, "expires_in": seconds})


def refusal(number: int, status: int = 401) -> Answer:
    text = f"AADSTS{number}: a long text with ids and the-very-secret. Trace ID: 1 Timestamp: 2"
    return says({"error": "invalid_client", "error_description": text, "error_codes": [number]}, status)


async def refused(world: World, tenant: Tenant = TENANT) -> TenantMustWait:
    with pytest.raises(TenantMustWait) as raised:
        await world.tokens.token(tenant)
    assert raised.value.cause == "no_token"
    return raised.value


async def test_a_token_is_asked_for_once_and_used_until_shortly_before_its_end(
    graph: ScriptedGraph, world: World, clock: StillClock
) -> None:
    """Login is throttled too: cache per tenant (graph-contract 10)."""
    graph.script("token", token("first"), token("second"))

    assert await world.tokens.token(TENANT) == "first"
    await clock.sleep(3000)
    assert await world.tokens.token(TENANT) == "first"
    await clock.sleep(400)
    assert await world.tokens.token(TENANT) == "second"

    asked = graph.seen[0]
    assert asked.target == f"/{TENANT.id}/oauth2/v2.0/token"
    assert asked.form == {
        "grant_type": "client_credentials",
        "client_id": TENANT.client_id,
        "client_secret": "the-very-secret",
        "scope": f"{graph.url}/.default",
    }
    assert world.outcomes("token") == {"ok": 2}


async def test_many_tasks_share_one_request(graph: ScriptedGraph, world: World) -> None:
    """One task at a time renews; the others wait for it."""
    got = await asyncio.gather(*(world.tokens.token(TENANT) for _ in range(50)))

    assert set(got) == {"token-1"}
    assert len(graph.seen) == 1


async def test_tenants_do_not_share_tokens(graph: ScriptedGraph, world: World) -> None:
    """Each has its own login address."""
    other = Tenant(id="deadbeef-1111-4222-8333-444455556666", client_id=TENANT.client_id, client_secret=Secret("other"))

    assert await world.tokens.token(TENANT) != await world.tokens.token(other)
    assert graph.seen[1].target.startswith(f"/{other.id}/")


async def test_only_the_token_that_was_refused_is_forgotten(graph: ScriptedGraph, world: World) -> None:
    """Twenty requests learn of it at once, and one new token serves them all."""
    old = await world.tokens.token(TENANT)
    world.tokens.invalidate(TENANT, old)
    new = await world.tokens.token(TENANT)
    world.tokens.invalidate(TENANT, old)

    assert await world.tokens.token(TENANT) == new != old
    assert len(graph.seen) == 2


async def test_a_wrong_secret_is_told_in_words_a_person_can_act_on(graph: ScriptedGraph, world: World) -> None:
    """The number of the login's error and what to do; never its own text, never the secret."""
    graph.script("token", refusal(7000215))

    sentence = str(await refused(world))
    assert "AADSTS7000215" in sentence
    assert "the secret's value, not its id" in sentence
    assert "the-very-secret" not in sentence
    assert "Trace" not in sentence


async def test_an_unknown_refusal_still_names_its_number(graph: ScriptedGraph, world: World) -> None:
    """Entra has hundreds of them."""
    graph.script("token", refusal(999123, 400))

    assert "AADSTS999123" in str(await refused(world))


async def test_a_refusal_is_remembered_and_its_wait_grows(
    graph: ScriptedGraph, world: World, clock: StillClock
) -> None:
    """Not every record asks the login again."""
    graph.script("token", refusal(7000222))

    first = await refused(world)
    again = await refused(world)
    assert len(graph.seen) == 1
    assert 24 <= again.wait_seconds <= first.wait_seconds <= 30

    await clock.sleep(first.wait_seconds)
    second = await refused(world)
    assert len(graph.seen) == 2
    assert second.wait_seconds > first.wait_seconds


async def test_after_a_refusal_was_put_right_tokens_come_again(
    graph: ScriptedGraph, world: World, clock: StillClock
) -> None:
    """No restart needed."""
    graph.script("token", refusal(7000112), token("good"))
    await clock.sleep((await refused(world)).wait_seconds)

    assert await world.tokens.token(TENANT) == "good"


async def test_a_throttled_login_is_left_alone_as_long_as_it_asks(graph: ScriptedGraph, world: World) -> None:
    """Its `Retry-After` wins over our shorter wait."""
    graph.script("token", fails(429, Retry_After="120"))

    assert (await refused(world)).wait_seconds == pytest.approx(120)
    assert world.outcomes("token") == {"throttled": 1}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (fails(503), "error"),
        (hangs, "timeout"),
        (cut, "cut"),
        (slams, "error"),
        (raw(b"<html>"), "error"),
        (says({"expires_in": 3600}), "error"),
        (says({"access_token": "two\nlines", "expires_in": 3600}), "error"),
        (raw(b"x" * 300_000), "cut"),
        (raw(b"", 302, Location="https://evil.example.com"), "refused"),
    ],
)
async def test_a_login_in_trouble_makes_the_tenant_wait(
    graph: ScriptedGraph, world: World, clock: StillClock, answer: Answer, outcome: str
) -> None:
    """A short wait at first, since this often passes by itself."""
    clock.speed = 1000
    graph.script("token", answer)

    wait = (await refused(world)).wait_seconds
    assert 0 < wait <= 30
    assert world.outcomes("token") == {outcome: 1}


async def test_a_valid_token_serves_while_renewing_fails(graph: ScriptedGraph, world: World, clock: StillClock) -> None:
    """The margin before expiry is there for this."""
    graph.script("token", token("old"), fails(500))
    assert await world.tokens.token(TENANT) == "old"
    await clock.sleep(3400)
    assert await world.tokens.token(TENANT) == "old"

    await clock.sleep(300)
    await refused(world)


async def test_while_one_task_renews_the_others_use_the_valid_token(
    graph: ScriptedGraph, world: World, clock: StillClock
) -> None:
    """Nobody waits for a login that is slow but not needed yet."""
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.json_response({"access_token": "new", "expires_in": 3600})

    graph.script("token", token("old"), slow)
    assert await world.tokens.token(TENANT) == "old"
    await clock.sleep(3400)
    renewing = asyncio.create_task(world.tokens.token(TENANT))
    await graph.until_seen(2)

    assert await world.tokens.token(TENANT) == "old"
    release.set()
    assert await renewing == "new"


async def test_a_cancelled_renewal_leaves_the_next_one_free(graph: ScriptedGraph, world: World) -> None:
    """The lane that asked has lost its partition; the others live on."""
    graph.script("token", hangs, token("good"))
    asking = asyncio.create_task(world.tokens.token(TENANT))
    await graph.until_seen(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert await world.tokens.token(TENANT) == "good"


async def test_a_lifetime_in_text_or_missing_is_understood(
    graph: ScriptedGraph, world: World, clock: StillClock
) -> None:
    """Older replies have text; a missing one must not make us ask every second."""
    graph.script("token", token("text", "3600"), token("none", 0))
    assert await world.tokens.token(TENANT) == "text"
    await clock.sleep(3000)
    assert await world.tokens.token(TENANT) == "text"
    await clock.sleep(700)
    assert await world.tokens.token(TENANT) == "none"
    await clock.sleep(60)
    assert await world.tokens.token(TENANT) == "none"


async def test_without_a_secret_the_login_is_not_asked(graph: ScriptedGraph, world: World) -> None:
    """The sentence names the setting."""
    bare = Tenant(id=TENANT.id, client_id=TENANT.client_id)

    assert "client_secret" in str(await refused(world, bare))
    assert graph.seen == []
