"""New calls: those that exist from the start, those that come at a rate, those somebody asks for."""

import random
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from service.clock import Clock
from service.emulator.generator import CallSpec, generate_call, mixed_specs, next_version
from service.emulator.options import EmulatorOptions
from service.emulator.store import Call, Document, Store

ENDED_BEFORE_SECONDS = 1800.0  # a record appears some half an hour after its call (graph-contract 1.4)
FIRST_CALLS_SPAN_SECONDS = 3600.0


@dataclass(frozen=True)
class CallWish:
    """One call somebody asks for. Seconds count from now on the emulator's clock."""

    tenant_id: str
    kind: str = "group"
    size: str = "S"
    sessions: int | None = None
    failed: bool = False
    started_seconds_ago: float = ENDED_BEFORE_SECONDS + 600
    not_ready_seconds: float = 0.0
    """So long the record answers 404 although it is announced at once."""
    notify_after_seconds: float = 0.0
    versions: int = 1
    version_after_seconds: float = 60.0
    """Between one version and the next."""


class Maker:
    """Makes calls with the generator and puts them into the store."""

    def __init__(self, options: EmulatorOptions, store: Store, clock: Clock, own: Clock) -> None:
        """`clock` dates the calls; `own` is the emulator's, which no fault puts wrong: the rate follows it."""
        self._options = options
        self._store = store
        self._clock = clock
        self._own = own
        self._random = random.Random(options.seed)  # noqa: S311 - repeatable, not secret
        self._next_index = options.calls

    def go_on(self, made: int) -> None:
        """So many calls exist from an earlier process: new ones get other numbers, and so other ids."""
        self._next_index = max(self._next_index, made)

    def first_calls(self) -> list[Call]:
        """The calls of `options.calls`, over the hour before now."""
        start = self._clock.now() - ENDED_BEFORE_SECONDS - 2 * FIRST_CALLS_SPAN_SECONDS
        tenants = [tenant.id.lower() for tenant in self._options.tenants]
        specs = mixed_specs(self._options.calls, tenants, self._options.seed, start, FIRST_CALLS_SPAN_SECONDS)
        return [self._store.add_call(spec.tenant_id, generate_call(spec)) for spec in specs]

    def make(self, wish: CallWish) -> Call:
        """One call as wished; ValueError when the generator knows no such kind or size."""
        now = self._clock.now()
        spec = CallSpec(
            tenant_id=wish.tenant_id.lower(),
            seed=self._options.seed,
            index=self._take_index(),
            kind=wish.kind,
            size=wish.size,
            sessions=wish.sessions,
            start=now - wish.started_seconds_ago,
            failed=wish.failed,
        )
        call = self._store.add_call(
            spec.tenant_id,
            generate_call(spec),
            visible_at=now + wish.not_ready_seconds,
            notify_at=now + wish.notify_after_seconds,
        )
        for number in range(1, wish.versions):
            self._store.schedule(call, now + number * wish.version_after_seconds, self.later_version)
        return call

    async def keep_making(self) -> None:
        """New calls of all kinds at `options.rate` a second, for ever."""
        tenants = [tenant.id.lower() for tenant in self._options.tenants]
        begin, made = self._own.now(), 0
        while True:
            made += 1
            await self._own.sleep(begin + made / self._options.rate - self._own.now())
            # A mixed hundred has every kind in its share; one of it is as good as a draw.
            start = self._clock.now() - ENDED_BEFORE_SECONDS - 600
            index = self._take_index()
            drawn = self._random.choice(mixed_specs(100, [tenants[index % len(tenants)]], self._options.seed))
            spec = CallSpec(**{**_fields(drawn), "index": index, "start": start})
            call = self._store.add_call(spec.tenant_id, generate_call(spec))
            if self._random.random() < self._options.later_version_share:
                at = self._clock.now() + self._options.later_version_seconds
                self._store.schedule(call, at, self.later_version)

    def later_version(self, document: Document, now: float) -> Document:
        """What the generator makes of a record later."""
        return next_version(document, self._options.seed, now)

    def _take_index(self) -> int:
        self._next_index += 1
        return self._next_index - 1


def _fields(spec: CallSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


MAKER = web.AppKey("maker", Maker)
