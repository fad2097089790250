"""Shell: one call record, from Graph to encoded messages: fetch, flatten, encode; the record is let go at the end.

A large record is encoded in slices, so that heartbeats and Graph's notifications are answered in between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from service.clock import Clock, iso
from service.graph.client import Fetched, GraphClient, Progress
from service.lanes.policy import ShapedRecord
from service.metrics import Metrics
from service.notification import Notification
from service.record.archive import packed
from service.record.encode import EventEncoder, encode_summary
from service.record.flatten import flatten
from service.record.hiding import hidden_document
from service.record.privacy import OPEN, Policy, policy_of
from service.settings import Privacy, Tenant

# Some 5 ms of work: short against heartbeats and the 3 s that Graph allows for an answer.
SLICE = 500
Took = Callable[[int], Awaitable[None]]
TOPIC_KIND = {"audio": "audio", "video": "video", "screenSharing": "screen-sharing", "other": "other"}


class Shaping:
    """Fetches and shapes. Raises what `GraphClient.fetched` raises."""

    def __init__(
        self,
        graph: GraphClient,
        tenants: Mapping[str, Tenant],
        clock: Clock,
        metrics: Metrics,
        policy: Policy = OPEN,
    ) -> None:
        self._graph = graph
        self._policy = policy
        self._tenants = {tenant.id.lower(): (name, tenant) for name, tenant in tenants.items()}
        self._clock = clock
        self._metrics = metrics

    async def __call__(self, notification: Notification, progress: Progress) -> ShapedRecord:
        """The record of the notification's call, as it is in Graph now."""
        name, tenant = self._tenants[notification.tenant_id.lower()]
        async with self._graph.fetched(name, tenant, notification.call_id, progress) as fetched:
            self._metrics.fetched.labels(name).inc()
            now = iso(self._clock.now())
            return await shape(notification.tenant_id, fetched, now, self._policy, progress.take)


def policy_in_force(privacy: Privacy) -> Policy:
    """The settings of `privacy`, which have been checked, as a policy."""
    keys = {int(number): key.reveal().encode() for number, key in privacy.keys.items()}
    return policy_of(privacy.preset, privacy.treatments(), keys)


async def shape(
    tenant_id: str, fetched: Fetched, fetched_at: str, policy: Policy = OPEN, took: Took | None = None
) -> ShapedRecord:
    """Every message of one version of a call, encoded; and its archive, where the pages were kept for it.

    `took` is told of the bytes as they are encoded, and may let it wait.
    """
    flattened = flatten(tenant_id, fetched.record, policy)
    encoder = EventEncoder()
    events: list[tuple[str, bytes, str]] = []
    size = told = 0
    for event in flattened.events():
        value = encoder.encode(event)
        size += len(value)
        events.append((TOPIC_KIND[event.media.kind], value, event.id))
        if len(events) % SLICE == 0:
            await asyncio.sleep(0)
            if took is not None:
                await took(size - told)
                told = size
    summary = encode_summary(flattened.summary)
    raw = None
    if fetched.kept is not None:
        # Beside the loop: ten megabytes of pages take longer than heartbeats can wait.
        raw = await asyncio.to_thread(packed, fetched.kept, hidden_document(policy, tenant_id.lower()))
    call = flattened.summary.call
    return ShapedRecord(
        version=call.version,
        events=events,
        summary=summary,
        last_modified=call.last_modified_date_time or "",
        ended=call.end_date_time or "",
        size_bytes=size + len(summary) + len(raw or b""),
        fetched_at=fetched_at,
        raw=raw,
    )
