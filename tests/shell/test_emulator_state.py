"""The emulator's state file: what Graph would not forget outlives the emulator's process."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from service.cli.emulate import emulate_command
from service.clock import Clock, iso
from service.emulator.generator import CallSpec, generate_call
from service.emulator.options import DeliveryOptions, EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.statefile import MARK, read_frames
from service.errors import UserError

DELIVERY = DeliveryOptions(first_backoff_seconds=0.05, longest_backoff_seconds=0.2)


def options(path: Path, **more: Any) -> EmulatorOptions:
    """An emulator with this state file."""
    return EmulatorOptions(port=0, state_file=path, delivery=DELIVERY, **more)


class Listener:
    """A notification URL that keeps what it is told; `status` is its answer."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.status = 202

    async def post(self, request: web.Request) -> web.Response:
        """Handshakes and notifications."""
        if token := request.query.get("validationToken"):
            return web.Response(text=token)
        if self.status == 202:
            self.told += [item["resourceData"]["id"] for item in (await request.json())["value"]]
        return web.Response(status=self.status)


@pytest.fixture
async def listener() -> Any:
    """A listener and its URL."""
    heard = Listener()
    app = web.Application()
    app.router.add_post("/", heard.post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield heard, f"http://127.0.0.1:{port}/"
    await runner.cleanup()


async def subscribe(emulator: Emulator, url: str) -> dict[str, Any]:
    """A subscription made over HTTP, as the keeper makes it."""
    tenant = emulator.world.options.tenants[0]
    form = {
        "grant_type": "client_credentials",
        "client_id": tenant.client_id,
        "client_secret": tenant.client_secret,
        "scope": "https://graph.microsoft.com/.default",
    }
    now = emulator.world.clock.now()
    wish = {
        "changeType": "updated",
        "resource": "communications/callRecords",
        "notificationUrl": url,
        "expirationDateTime": iso(now + 3000),
        "clientState": "secret",
    }
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{emulator.url}/{tenant.id}/oauth2/v2.0/token", data=form) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with http.post(f"{emulator.url}/v1.0/subscriptions", json=wish, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            return await answer.json()


def add_call(emulator: Emulator, index: int, **when: float) -> str:
    """One small call; its id."""
    tenant = emulator.world.options.tenants[0].id
    document = generate_call(CallSpec(tenant, 1, index, start=emulator.world.clock.now() - 7200))
    return emulator.store.add_call(tenant, document, **when).id


async def until(claim: Any) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(30):
        while not claim():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_everything_that_graph_would_not_forget_is_there_again(tmp_path: Path, listener: Any) -> None:
    """Documents byte for byte, the subscription, a version that was still to come, calls that do not repeat ids."""
    _, url = listener
    path = tmp_path / "state"
    async with open_emulator(options(path, calls=5), Clock()) as emulator:
        made = await subscribe(emulator, url)
        late = add_call(emulator, 100, visible_at=emulator.world.clock.now() + 3600)
        call = emulator.store.find(None, late)
        assert call is not None
        emulator.store.schedule(call, emulator.world.clock.now() + 3, emulator.maker.later_version)
        before = {(c.id, v.number, v.packed, v.created_at) for c in emulator.store.calls() for v in c.versions}
        seen_late = call.visible_at

    async with open_emulator(options(path, calls=5), Clock()) as emulator:
        again = {(c.id, v.number, v.packed, v.created_at) for c in emulator.store.calls() for v in c.versions}
        [subscription] = emulator.world.subscriptions.live()
        found = emulator.store.find(None, late)

        assert again == before
        assert subscription.id == made["id"]
        assert subscription.client_state == "secret"
        assert found is not None
        assert found.visible_at == seen_late
        await until(lambda: emulator.store.find(None, late).current.number == 2)  # type: ignore[union-attr]

    async with open_emulator(options(path), Clock()) as emulator:
        assert {len(c.versions) for c in emulator.store.calls() if c.id == late} == {2}
        assert emulator.store.waiting <= 1, "the version that came is not still to come"


async def test_what_was_not_delivered_is_told_after_the_restart_and_what_was_is_not(
    tmp_path: Path, listener: Any
) -> None:
    """A subscriber that refused hears of the call later; one that said 202 does not hear of it again."""
    heard, url = listener
    path = tmp_path / "state"
    async with open_emulator(options(path), Clock()) as emulator:
        await subscribe(emulator, url)
        first = add_call(emulator, 1)
        await until(lambda: emulator.world.delivery.counts["delivered"] == 1)
        heard.status = 503
        second = add_call(emulator, 2)
        await until(lambda: emulator.world.delivery.counts["retried"] > 0)
    heard.status = 202
    async with open_emulator(options(path), Clock()) as emulator:
        await until(lambda: second in heard.told)
        third = add_call(emulator, 3)
        await until(lambda: third in heard.told)

        assert heard.told.count(first) == 1


async def test_a_frame_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    """What stands before it is whole, and what comes after it is read by the next."""
    path = tmp_path / "state"
    async with open_emulator(options(path), Clock()) as emulator:
        kept, cut = add_call(emulator, 1), add_call(emulator, 2)
    whole = path.read_bytes()
    with path.open("rb") as file:
        ends = [end for end, head, _ in read_frames(file, len(MARK)) if head["kind"] == "version"]
    for length in (ends[0] + 3, ends[1] - 1):
        path.write_bytes(whole[:length])
        async with open_emulator(options(path), Clock()) as emulator:
            assert emulator.store.find(None, kept) is not None
            assert emulator.store.find(None, cut) is None
            added = add_call(emulator, 3)
        async with open_emulator(options(path), Clock()) as emulator:
            assert emulator.store.find(None, added) is not None


async def test_a_file_that_cannot_be_a_state_is_one_sentence(tmp_path: Path) -> None:
    """Something else's, somebody else's, a folder; and a clock that does not go on."""
    other = tmp_path / "notes.txt"
    other.write_text("something else altogether, and rather long")
    with pytest.raises(UserError, match="holds something else"):
        await emulate_command(port=0, state=other)
    assert other.read_text().startswith("something else")
    with pytest.raises(UserError, match="cannot be opened"):
        await emulate_command(port=0, state=tmp_path)
    async with open_emulator(options(tmp_path / "state"), Clock()):
        with pytest.raises(UserError, match="in use by another emulator"):
            await emulate_command(port=0, state=tmp_path / "state")
    with pytest.raises(UserError, match="--speed 1"):
        await emulate_command(port=0, state=tmp_path / "new", speed=10.0)
