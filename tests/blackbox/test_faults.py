"""The promises while processes and the broker die: real processes, real signals, a judge of its own."""

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from service.notification import client_state
from tests.blackbox.fleet import SESSION_SECONDS, Scene, scene

KILLS = 10
CALLS = 2000


@pytest.mark.may_pass_limits
async def test_ten_kills_of_two_servers_lose_and_repeat_nothing(kafka_packages: None, tmp_path: Path) -> None:
    """Two processes share the lanes; one or the other is killed at random moments while 2,000 calls flow."""
    chance = random.Random()
    async with scene(tmp_path, ["receive,work,keep", "work,keep"]) as world:
        world.announce(CALLS, seconds=45.0, seed=4)
        for _ in range(KILLS):
            # Two session timeouts apart on average, or the group would never give the lanes to anybody.
            await asyncio.sleep(SESSION_SECONDS * (1.0 + 2 * chance.random()))
            victim = chance.choice(world.servers)
            await victim.kill()
            await victim.start()
        verdict = await world.verdict()

        assert verdict.is_right, f"{verdict}\n{world.tails()}"
        assert verdict.calls == CALLS
        assert verdict.dead == 0


async def test_twenty_seconds_without_a_broker_lose_nothing(kafka_packages: None, tmp_path: Path) -> None:
    """The receiver answers 503, so Graph repeats; everything goes on by itself when the broker is back."""
    async with scene(tmp_path, ["receive,work,keep"]) as world:
        world.announce(400, seconds=30.0, seed=5)
        await world.until(lambda: world.watch.events > 200, "events flow")
        [broker] = world.cluster.brokers
        await broker.stop()
        answers = await _answers_for(world, 20.0)
        await broker.start()
        verdict = await world.verdict()

        assert set(answers) == {503}, answers
        assert verdict.is_right, f"{verdict}\n{world.tails()}"
        assert world.servers[0].process is not None
        assert world.servers[0].process.returncode is None, "it went on by itself"
        assert await world.servers[0].ready()
        refused = await world.servers[0].metric('callstream_notifications_refused_total{reason="not_stored"}')
        assert refused >= len(answers)


async def test_sigterm_drains_and_a_successor_goes_on(kafka_packages: None, tmp_path: Path) -> None:
    """An orderly restart in the middle of the work: exit 0, nothing lost, nothing twice."""
    async with scene(tmp_path, ["receive,work,keep"]) as world:
        world.announce(300, seconds=10.0, seed=6)
        await world.until(lambda: world.watch.events > 200, "events flow")
        code = await world.servers[0].terminate()
        await world.servers[0].start()
        verdict = await world.verdict()

        assert code == 0, world.tails()
        assert verdict.is_right, f"{verdict}\n{world.tails()}"


async def _answers_for(world: Scene, seconds: float) -> list[int]:
    """What the receiver answers to a good notification, again and again, while the broker is away."""
    loop = asyncio.get_running_loop()
    end, answers = loop.time() + seconds, []
    tenant = world.emulator.world.options.tenants[0].id
    call = next(iter(world.emulator.store.calls())).id
    item = {
        "subscriptionId": "5d0c6f6e-95d4-4d0a-8a55-0f3a7c1b2e90",
        "clientState": client_state(1, b"a-key-for-this-test", tenant),
        "changeType": "updated",
        "resource": f"communications/callRecords/{call}",
        "resourceData": {"id": call},
        "tenantId": tenant,
    }
    async with aiohttp.ClientSession() as http:
        while loop.time() < end:
            url = f"http://127.0.0.1:{world.servers[0].port}/notifications"
            async with http.post(url, json={"value": [item]}) as answer:
                answers.append(answer.status)
            await asyncio.sleep(0.5)
    return answers
