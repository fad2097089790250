"""Change and lifecycle notifications on their way: batches, Graph's answer rule, retries, slow and drop states.

Source: graph-contract 2 (handshake), 3.2, 3.3, 3.4, 4. Everything waits on the emulator's clock.
"""

import asyncio
import heapq
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import orjson
from yarl import URL

from service.clock import Clock, iso
from service.emulator.background import Background
from service.emulator.faults import Faults, Occasion
from service.emulator.hubs import SCHEME, Hubs
from service.emulator.options import DeliveryOptions
from service.emulator.refusals import Refusal
from service.emulator.store import Announcement
from service.emulator.subscription import Subscription
from service.emulator.subscriptions import Subscriptions

LARGEST_ANSWER_BYTES = 4096
DUPLICATE_WITHIN_SECONDS = 5.0
GATHER_REAL_SECONDS = 0.005  # lets notices of the same instant share a POST
HANDSHAKE_TEXT = "Validation: Testing client application reachability for subscription"
PAUSE_SECONDS = 60.0  # between looks at a subscription whose token expired


Settled = Callable[[Announcement, str], None]
"""Told of each announcement that has come to its end: `delivered`, or why it never will be."""


@dataclass
class Parcel:
    """One item on its way."""

    item: dict[str, Any]
    subscription: Subscription
    born_at: float
    """Unix seconds; after the give-up time it is thrown away."""
    announcement: Announcement | None = None
    """What it tells of; None for a lifecycle notification."""
    attempts: int = 0


@dataclass
class Window:
    """How a URL answered in one window."""

    began_at: float
    answers: int = 0
    slow: int = 0
    silent: int = 0


@dataclass
class Channel:
    """Everything that goes to one URL, which is also where a slow or drop state belongs (not documented by Graph)."""

    url: str
    window: Window
    state: str = "normal"
    waiting: list[tuple[float, int, Parcel]] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Delivery:
    """Sends notifications. `counts` says what became of each item."""

    def __init__(
        self,
        options: DeliveryOptions,
        clock: Clock,
        subscriptions: Subscriptions,
        session: aiohttp.ClientSession,
        hubs: Hubs,
        background: Background,
        faults: Faults,
        seed: int,
        settled: Settled,
    ) -> None:
        self._options = options
        self._clock = clock
        self._subscriptions = subscriptions
        self._session = session
        self._hubs = hubs
        self._background = background
        self._faults = faults
        self._settled = settled
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._order = itertools.count()
        self._channels: dict[str, Channel] = {}
        self.counts: Counter[str] = Counter()

    async def shake_hands(self, url: str) -> None:
        """Validates a notification URL; 400 when it does not echo the decoded token as text/plain in time."""
        if url.startswith(SCHEME):
            await self._hubs.probe(url)
            return
        token = f"{HANDSHAKE_TEXT} Request-Id: {uuid.uuid4()} 1+1%2B=/"
        joint = "&" if "?" in url else "?"
        # quote_plus, because Graph writes a space as `+` and a plus as `%2B`; `encoded` keeps yarl from changing it.
        target = URL(f"{url}{joint}validationToken={quote_plus(token)}", encoded=True)
        limit = self._real(self._options.handshake_seconds)
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        try:
            async with (
                asyncio.timeout(limit),
                self._session.post(target, headers=headers, allow_redirects=False) as got,
            ):
                body = await got.content.read(LARGEST_ANSWER_BYTES)
                problem = _handshake_problem(got.status, got.content_type, body, token)
        except TimeoutError:
            problem = "Subscription validation request timed out."
        except aiohttp.ClientError as exc:
            problem = f"Subscription validation request failed: {type(exc).__name__}."
        if problem:
            raise Refusal(400, "ValidationError", problem)

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
                self._spread(one, announcement, _change_item(one, announcement, kind))

    def remind(self, one: Subscription) -> None:
        """Queues `reauthorizationRequired`."""
        assert one.lifecycle_url is not None  # noqa: S101 - only such subscriptions are due
        self.counts["lifecycle"] += 1
        occasion = Occasion("lifecycle", one.principal.tenant_id)
        self._send_off(one.lifecycle_url, Parcel(_lifecycle_item(one), one, self._clock.now()), occasion, 0.0, [])

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
        self._turn_window(channel)
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
            status, took = await self._post(channel.url, [parcel.item for parcel in batch])
            self._record(channel, took)
            if status // 100 == 2 and took <= self._real(allowed):
                self._end(batch, "delivered")
            else:
                self._repeat(channel, batch)
        finally:
            slots.release()

    async def _post(self, url: str, items: list[dict[str, Any]]) -> tuple[int, float]:
        """Status (0: no answer) and the machine's seconds it took; listens as long as a repeated attempt may take."""
        self.counts["posts"] += 1
        began = time.monotonic()
        if url.startswith(SCHEME):
            return (202 if await self._hubs.write(url, items) else 0), 0.0  # Graph judges no hub by its speed
        body = orjson.dumps({"value": items})
        headers = {"Content-Type": "application/json; charset=utf-8"}
        target = URL(url, encoded=True)
        try:
            async with (
                asyncio.timeout(self._real(self._options.retry_answer_seconds)),
                self._session.post(target, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return answer.status, time.monotonic() - began
        except (TimeoutError, aiohttp.ClientError):
            return 0, time.monotonic() - began

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

    def _record(self, channel: Channel, took: float) -> None:
        """One answer, or silence, for the slow and drop rules."""
        self._turn_window(channel)
        channel.window.answers += 1
        channel.window.slow += took > self._real(self._options.answer_seconds)
        channel.window.silent += took >= self._real(self._options.retry_answer_seconds)

    def _turn_window(self, channel: Channel) -> None:
        """At the end of a window its shares decide the state of the next; after a drop window Graph tries again."""
        now, window = self._clock.now(), channel.window
        if now < window.began_at + self._options.window_seconds:
            return
        is_last_window = now < window.began_at + 2 * self._options.window_seconds
        if channel.state == "drop" or not window.answers or not is_last_window:
            channel.state = "normal"
        elif window.silent > self._options.drop_share * window.answers:
            channel.state = "drop"
        elif window.slow > self._options.slow_share * window.answers:
            channel.state = "slow"
        else:
            channel.state = "normal"
        passed = (now - window.began_at) // self._options.window_seconds
        channel.window = Window(window.began_at + passed * self._options.window_seconds)

    def _real(self, seconds: float) -> float:
        return max(self._clock.real_seconds(seconds), self._options.least_real_seconds)


def _handshake_problem(status: int, content_type: str, body: bytes, token: str) -> str:
    """What is wrong with a handshake's answer, as Graph words it; empty when nothing is."""
    if status != 200:
        return f"Subscription validation request failed. HTTP status code is '{status}', must be 200."
    if content_type != "text/plain":
        return f"Subscription validation request failed. Content type is '{content_type}', must be 'text/plain'."
    if body != token.encode():
        return "Subscription validation request failed. The response body is not the decoded validation token."
    return ""


def _change_item(one: Subscription, announcement: Announcement, kind: str) -> dict[str, Any]:
    resource = f"communications/callRecords/{announcement.call_id}"
    return {
        "subscriptionId": one.id,
        "clientState": one.client_state,
        "changeType": kind,
        "resource": resource,
        "subscriptionExpirationDateTime": _offset_form(one.expires_at),
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.callRecord",
            "@odata.id": resource,
            "id": announcement.call_id,
        },
        "tenantId": one.principal.tenant_id,
    }


def _lifecycle_item(one: Subscription) -> dict[str, Any]:
    return {
        "subscriptionId": one.id,
        "subscriptionExpirationDateTime": _offset_form(one.expires_at),
        "tenantId": one.principal.tenant_id,
        "clientState": one.client_state,
        "lifecycleEvent": "reauthorizationRequired",
    }


def _offset_form(unix_seconds: float) -> str:
    """`2026-11-24T07:15:00.000+00:00`: notifications were seen with an offset, not with Z."""
    return iso(unix_seconds).replace("Z", "+00:00")
