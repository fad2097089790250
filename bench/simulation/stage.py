"""The stage: the emulator, the service as an operator starts, stops and configures it, and the calls that are made."""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.simulation.script import DAY, Script
from service.app import Service, open_service
from service.clock import Clock
from service.emulator.making import CallWish
from service.emulator.options import DeliveryOptions, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator
from service.settings import ROLES, load

PARTITIONS = 3
NEVER = 1e9
ENDED_SECONDS = 2400.0  # a record is made so long after its call began
LATER_EVERY = 10
LARGE_SESSIONS = 75
TOKEN_SECONDS = 4 * 3600.0
OLD_SECRET_SECONDS = 12 * 3600.0
LATE_SECONDS = 6 * 3600.0
READY_REAL_SECONDS = 60.0

# Waits that a person would set on a real clock would be shorter than a packet's way on this one.
FAST = {
    "CALLSTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
    "CALLSTREAM_KAFKA__PARTITIONS": str(PARTITIONS),
    "CALLSTREAM_RECEIVER__HOST": "127.0.0.1",
    "CALLSTREAM_RECEIVER__STORE_TIMEOUT_SECONDS": "8",
    "CALLSTREAM_ADMIN__PORT": "0",
    "CALLSTREAM_GRAPH__CLOUD": "custom",
    "CALLSTREAM_GRAPH__REQUEST_TIMEOUT_SECONDS": "50000",
    "CALLSTREAM_GRAPH__RECORD_DEADLINE_SECONDS": "100000",
    "CALLSTREAM_LANES__PATIENCE_SECONDS": "20000",
    "CALLSTREAM_KEEPER__PERIOD_SECONDS": "1800",
    "CALLSTREAM_KEEPER__RECONCILE_PERIOD_SECONDS": "900",
}


@dataclass(frozen=True)
class Mark:
    """Something that an operator did."""

    day: float
    what: str


def options_for(script: Script) -> EmulatorOptions:
    """Small pages, so that a small tenant's lists and meetings have many."""
    tenants = tuple(
        TenantOptions(id=f"c0ffee00-1111-4222-8333-{number:012x}", name=f"tenant{number}", client_secret=_secret(1))
        for number in range(1, script.tenants + 1)
    )
    return EmulatorOptions(
        port=0,
        tenants=tenants,
        token_seconds=TOKEN_SECONDS,
        sessions_page=3,
        list_page=3,
        limits=script.limits,
        # A fast clock must not judge the machine.
        delivery=DeliveryOptions(drop_notification_share=script.dropped, least_real_seconds=10.0),
    )


class Deployment:
    """The service, configured by variables and files as anywhere else."""

    def __init__(
        self, script: Script, emulator: Emulator, clock: Clock, servers: str, prefix: str, folder: Path
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._stack = AsyncExitStack()
        self._counts: Counter[str] = Counter()
        self.service: Service | None = None
        port = _free_port()
        self.environment = FAST | {
            "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": servers,
            "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix,
            "CALLSTREAM_RECEIVER__PORT": str(port),
            "CALLSTREAM_RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{port}",
            "CALLSTREAM_GRAPH__ROOT_URL": emulator.url,
            "CALLSTREAM_GRAPH__LOGIN_URL": emulator.url,
            "CALLSTREAM_GRAPH__TENANT_REQUESTS_PER_20S": str(script.tenant_requests),
            "CALLSTREAM_GRAPH__RECORD_REQUESTS_PER_20S": str(script.record_requests),
            "CALLSTREAM_GRAPH__LIST_REQUESTS_PER_20S": str(script.list_requests),
            "CALLSTREAM_KEEPER__SUBSCRIPTION_MINUTES": str(script.subscription_minutes),
            "CALLSTREAM_CLIENT_STATE__KEYS__1": "the first key of the simulation",
        }
        for tenant in emulator.world.options.tenants:
            self.write_secret(tenant, tenant.client_secret)
            name = f"CALLSTREAM_TENANTS__{tenant.name.upper()}__"
            self.environment |= {f"{name}ID": tenant.id, f"{name}CLIENT_ID": tenant.client_id}
            self.environment[f"{name}CLIENT_SECRET_FILE"] = str(self._secret_file(tenant))

    def write_secret(self, tenant: TenantOptions, secret: str) -> None:
        """Replaces the file in one step, as mounted secrets are."""
        fresh = self._secret_file(tenant).with_suffix(".new")
        fresh.write_text(secret)
        fresh.replace(self._secret_file(tenant))

    async def start(self) -> None:
        """With the environment as it is now."""
        self.service = await self._stack.enter_async_context(open_service(load(self.environment), ROLES, self._clock))

    async def stop(self) -> None:
        """As by SIGTERM: it drains."""
        self._counts, self.service = self.counts(), None
        await self._stack.aclose()

    def figures(self) -> dict[str, Any]:
        """What the status page says of completeness, by tenant; empty while no keeper works."""
        tell = self.service.status["completeness"] if self.service else dict
        return dict(tell() or {})  # type: ignore[call-overload]

    def counts(self) -> Counter[str]:
        """Every counter of all processes so far: `name{label=value}` → count."""
        found = Counter(self._counts)
        for metric in self.service.metrics.registry.collect() if self.service else ():
            for sample in metric.samples:
                if sample.value and sample.name.endswith(("_total", "_count")):
                    labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                    found[f"{sample.name.removeprefix('callstream_')}{{{labels}}}"] += int(sample.value)
        return found

    def check(self) -> None:
        """Raises what ended a part of the service."""
        for task in self.service.tasks if self.service else ():
            if task.done():
                task.result()

    def _secret_file(self, tenant: TenantOptions) -> Path:
        return self._folder / tenant.name


@dataclass
class Stage:
    """One run's world, and the operator who works on it."""

    script: Script
    clock: Clock
    emulator: Emulator
    deployment: Deployment
    begin: float = 0.0
    """Midnight, Unix seconds of the clock: day 0 of the script begins."""
    marks: list[Mark] = field(default_factory=list)

    @property
    def day(self) -> float:
        """Now."""
        return (self.clock.now() - self.begin) / DAY

    async def until_kept(self) -> None:
        """A keeper works, and every tenant has its subscription."""
        async with asyncio.timeout(READY_REAL_SECONDS):
            while (  # noqa: ASYNC110 - it happens in the service
                len(self.deployment.figures()) < self.script.tenants
                or len(list(self.emulator.world.subscriptions.live())) < self.script.tenants
            ):
                await asyncio.sleep(0.02)

    async def make_calls(self) -> None:
        """They begin at even distances. Those of a silent span are announced to nobody, ever."""
        script = self.script
        for number in range(int(script.days * script.calls_per_day)):
            await self._until(number / script.calls_per_day + ENDED_SECONDS / DAY)
            for tenant in self.emulator.world.options.tenants:
                self.emulator.maker.make(self._wish(number, tenant.id))

    def _wish(self, number: int, tenant_id: str) -> CallWish:
        is_silent = self.script.is_silent(number / self.script.calls_per_day)
        is_large = number % self.script.calls_per_day == 0
        return CallWish(
            tenant_id,
            kind="group" if is_large else "peerToPeer",
            sessions=LARGE_SESSIONS if is_large else None,
            started_seconds_ago=ENDED_SECONDS,
            versions=2 if number % LATER_EVERY == 0 and not is_silent else 1,
            version_after_seconds=3 * 3600.0,
            notify_after_seconds=NEVER if is_silent else 0.0,
        )

    # ---- the operator ---------------------------------------------------------------------------------------------

    async def operate(self) -> None:
        """Everything that the script has a person do, in its order."""
        for day, act in sorted(self._agenda(), key=lambda entry: entry[0]):
            await self._until(day)
            await act()

    def _agenda(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        script, agenda = self.script, list[tuple[float, Callable[[], Awaitable[None]]]]()
        for number, day in enumerate(script.secrets, 2):
            agenda.append((day, lambda n=number: self._add_secret(n)))  # type: ignore[misc]
            agenda.append((day + OLD_SECRET_SECONDS / DAY, lambda n=number: self._end_old_secret(n)))  # type: ignore[misc]
        if script.late_secret is not None:
            agenda.append((script.late_secret, self._forget_secret))
            agenda.append((script.late_secret + LATE_SECONDS / DAY, self._remember_secret))
        for number, day in enumerate(script.keys, 2):
            agenda.append((day, lambda n=number: self._add_key(n)))  # type: ignore[misc]
            agenda.append((day + script.key_kept_days, lambda n=number: self._remove_key(n - 1)))  # type: ignore[misc]
        for first, last in script.down:
            agenda += [(first, self._go_down), (last, self._come_back)]
        return agenda

    async def _add_secret(self, number: int) -> None:
        for tenant in self.emulator.world.options.tenants:
            self.emulator.world.tenants.application(tenant.id).secrets[_secret(number)] = None
            self.deployment.write_secret(tenant, _secret(number))
        self._mark("secret")

    async def _end_old_secret(self, number: int) -> None:
        for tenant in self.emulator.world.options.tenants:
            self.emulator.world.tenants.application(tenant.id).secrets.pop(_secret(number - 1), None)

    async def _forget_secret(self) -> None:
        tenant = self.emulator.world.options.tenants[0]
        self.emulator.world.tenants.application(tenant.id).secrets = {"a-late-secret": None}
        self.emulator.world.tokens.expire_all()
        self._mark("late secret")

    async def _remember_secret(self) -> None:
        self.deployment.write_secret(self.emulator.world.options.tenants[0], "a-late-secret")

    async def _add_key(self, number: int) -> None:
        self.deployment.environment[f"CALLSTREAM_CLIENT_STATE__KEYS__{number}"] = f"key {number} of the simulation"
        self._mark("key")
        await self._restart()

    async def _remove_key(self, number: int) -> None:
        del self.deployment.environment[f"CALLSTREAM_CLIENT_STATE__KEYS__{number}"]
        await self._restart()

    async def _restart(self) -> None:
        await self.deployment.stop()
        await self.deployment.start()

    async def _go_down(self) -> None:
        self._mark("down")
        await self.deployment.stop()

    async def _come_back(self) -> None:
        self._mark("back")
        await self.deployment.start()

    def _mark(self, what: str) -> None:
        self.marks.append(Mark(round(self.day, 3), what))

    async def _until(self, day: float) -> None:
        await self.clock.sleep(self.begin + day * DAY - self.clock.now())


def _secret(number: int) -> str:
    return f"secret-{number}-of-the-simulation"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
