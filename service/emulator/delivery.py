"""Change and lifecycle notifications on their way: whom they reach, batches, Graph's answer rule, retries.

Source: graph-contract 3.2, 3.3, 3.4, 4. Everything waits on the emulator's clock.
"""

import asyncio
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from service.clock import Clock
from service.emulator.background import Background
from service.emulator.channels import Channel, Parcel, Window
from service.emulator.faults import Faults, Occasion
from service.emulator.notices import change_item, lifecycle_item
from service.emulator.options import DeliveryOptions
from service.emulator.posting import Poster
from service.emulator.store import Announcement
from service.emulator.subscription import Subscription
from service.emulator.subscriptions import Subscriptions

DUPLICATE_WITHIN_SECONDS = 5.0
GATHER_REAL_SECONDS = 0.005  # lets notices of the same instant share a POST
PAUSE_SECONDS = 60.0  # between looks at a subscription whose token expired


Settled = Callable[[Announcement, str], None]
"""Told of each announcement that has come to its end: `delivered`, or why it never will be."""


class Delivery:
    """Sends notifications. `counts` says what became of each item."""

    def __init__(
        self,
        options: DeliveryOptions,
        clock: Clock,
        subscriptions: Subscriptions,
        poster: Poster,
        background: Background,
        faults: Faults,
        seed: int,
        settled: Settled,
    ) -> None:
        self._options = options
        self._clock = clock
        self._subscriptions = subscriptions
        self._poster = poster
        self._background = background
        self._faults = faults
        self._settled = settled
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._order = itertools.count()
        self._channels: dict[str, Channel] = {}
        self.counts: Counter[str] = Counter()

    def notify(self, announcement: Announcement, only: Subscription | None = None) -> None:
        """Queues a change notification for every subscription that wants this call, or for one of them."""
        wanting = [
            one
            for one in ([only] if only else self._subscriptions.live())
            if one.wants(announcement.tenant_id, announcement.participant_ids)
        ]
        if not wanting and only is None:
            self._settled(announcement, "unwanted")
        for one in wanting:
            # `updated` includes the first version, so asking for both repeats it; `created` alone hears no more.
            is_first = announcement.version == 1 or only is not None
            for kind in sorted(one.change_types if is_first else one.change_types & {"updated"}):
                self._spread(one, announcement, change_item(one, announcement, kind))

    def remind(self, one: Subscription) -> None:
        """Queues `reauthorizationRequired`."""
        assert one.lifecycle_url is not None  # noqa: S101 - only such subscriptions are due
        self.counts["lifecycle"] += 1
        occasion = Occasion("lifecycle", one.principal.tenant_id)
        self._send_off(one.lifecycle_url, Parcel(lifecycle_item(one), one, self._clock.now()), occasion, 0.0, [])

    def report(self) -> dict[str, Any]:
        """Counts, and the state of each URL."""
        channels = {
            channel.url: {"state": channel.state, "waiting": len(channel.waiting), "answers": channel.window.answers}
            for channel in self._channels.values()
        }
        return {"counts": dict(self.counts), "urls": channels}

    @property
    def waiting(self) -> int:
        """Items that have not been delivered, thrown away or given up."""
        return self.counts["queued"] - sum(self.counts[end] for end in ("delivered", "dropped", "expired", "orphaned"))

    def _spread(self, one: Subscription, announcement: Announcement, item: dict[str, Any]) -> None:
        """Loss, repetition and disorder that were scripted from the start, then those of the faults in force."""
        self.counts["notifications"] += 1
        if self._random.random() < self._options.drop_notification_share:
            self._lost_on_purpose(announcement)
            return
        wait = self._random.random() * self._options.reorder_seconds
        twins = [DUPLICATE_WITHIN_SECONDS] if self._random.random() < self._options.duplicate_share else []
        call_id = str(item["resourceData"]["id"])
        parcel = Parcel(item, one, self._clock.now(), announcement)
        self._send_off(
            one.notification_url, parcel, Occasion("notifications", one.principal.tenant_id, call_id), wait, twins
        )

    def _lost_on_purpose(self, announcement: Announcement | None) -> None:
        self.counts["lost_on_purpose"] += 1
        if announcement is not None:
            self._settled(announcement, "lost_on_purpose")

    def _send_off(self, url: str, parcel: Parcel, occasion: Occasion, wait: float, twins: list[float]) -> None:
        """One item after `wait` seconds and a twin within each of the `twins`, as far as the faults in force let it."""
        for rule in self._faults.strikes(occasion):
            match rule.action:
                case "silence":
                    self._lost_on_purpose(parcel.announcement)
                    return
                case "delay":
                    wait += rule.seconds
                case "reorder":
                    wait += self._faults.within(rule.seconds)
                case "duplicate":
                    twins = [*twins, rule.seconds]
        self._put(url, parcel, wait)
        for within in twins:
            self.counts["duplicated"] += 1
            self._put(url, replace(parcel), wait + self._random.random() * within)

    def _put(self, url: str, parcel: Parcel, delay_seconds: float) -> None:
        channel = self._channels.get(url)
        if channel is None:
            channel = self._channels[url] = Channel(url, Window(self._clock.now()))
            self._background.start(self._serve(channel), f"delivery to {url}")
        channel.turn_window(self._clock.now(), self._options)
        if parcel.attempts == 0:
            delay_seconds += self._options.window_seconds if channel.state == "slow" else 0.0
            self.counts["queued"] += 1
            if channel.state == "drop" or len(channel.waiting) >= self._options.queue_limit:
                self._end([parcel], "dropped")
                return
        heapq.heappush(channel.waiting, (self._clock.now() + delay_seconds, next(self._order), parcel))
        channel.wake.set()

    async def _serve(self, channel: Channel) -> None:
        """The life of one URL: gather what is due, send it, a bounded number of POSTs at once."""
        slots = asyncio.Semaphore(self._options.connections)
        while True:
            await self._until_due(channel)
            await slots.acquire()
            batch = self._take(channel)
            if batch:
                self._background.start(self._send(channel, batch, slots), f"post to {channel.url}")
            else:
                slots.release()

    async def _until_due(self, channel: Channel) -> None:
        while not channel.waiting or channel.waiting[0][0] > self._clock.now():
            channel.wake.clear()
            seconds = self._clock.real_seconds(channel.waiting[0][0] - self._clock.now()) if channel.waiting else None
            try:
                async with asyncio.timeout(seconds):
                    await channel.wake.wait()
            except TimeoutError:
                return
            await asyncio.sleep(GATHER_REAL_SECONDS)

    def _take(self, channel: Channel) -> list[Parcel]:
        """The next batch; first attempts and repeated ones never share a POST, since their limits differ."""
        now, batch = self._clock.now(), list[Parcel]()
        while channel.waiting and channel.waiting[0][0] <= now and len(batch) < self._options.batch_size:
            parcel = channel.waiting[0][2]
            if batch and (parcel.attempts == 0) != (batch[0].attempts == 0):
                break
            heapq.heappop(channel.waiting)
            if not self._subscriptions.exists(parcel.subscription.id):
                self._end([parcel], "orphaned")
            elif now > parcel.born_at + self._options.give_up_seconds:
                self._end([parcel], "expired")
            elif "lifecycleEvent" not in parcel.item and not self._subscriptions.may_deliver(parcel.subscription):
                self.counts["paused"] += 1
                heapq.heappush(channel.waiting, (now + PAUSE_SECONDS, next(self._order), parcel))
            else:
                batch.append(parcel)
        return batch

    async def _send(self, channel: Channel, batch: list[Parcel], slots: asyncio.Semaphore) -> None:
        try:
            is_first = batch[0].attempts == 0
            allowed = self._options.answer_seconds if is_first else self._options.retry_answer_seconds
            self.counts["posts"] += 1
            status, took = await self._poster.post(channel.url, [parcel.item for parcel in batch])
            channel.turn_window(self._clock.now(), self._options)
            channel.record(
                is_slow=took > self._poster.real(self._options.answer_seconds),
                is_silent=took >= self._poster.real(self._options.retry_answer_seconds),
            )
            if status // 100 == 2 and took <= self._poster.real(allowed):
                self._end(batch, "delivered")
            else:
                self._repeat(channel, batch)
        finally:
            slots.release()

    def _repeat(self, channel: Channel, batch: list[Parcel]) -> None:
        for parcel in batch:
            parcel.attempts += 1
            self.counts["retried"] += 1
            wait = self._options.first_backoff_seconds * 2.0 ** min(parcel.attempts - 1, 30)
            wait = min(wait, self._options.longest_backoff_seconds) * self._random.uniform(0.8, 1.2)
            if self._clock.now() + wait > parcel.born_at + self._options.give_up_seconds:
                self._end([parcel], "expired")
            else:
                self._put(channel.url, parcel, wait)

    def _end(self, parcels: list[Parcel], end: str) -> None:
        """Counts them as delivered, dropped, expired or orphaned."""
        self.counts[end] += len(parcels)
        for parcel in parcels:
            if parcel.announcement is not None:
                self._settled(parcel.announcement, end)
