"""The event hub that Graph writes into, where there is one: it answers, lets us in, and exists (docs/event-hubs.md)."""

from collections.abc import Iterable

import msgspec
from aiokafka.errors import KafkaError

from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok
from service.doctor.kafka import REQUEST_SECONDS, in_words
from service.hub import HUB_SETTING
from service.kafka.knock import reason_of
from service.kafka.scan import open_admin, partition_counts


async def check(case: Case) -> Iterable[Look]:
    """Reads no event: whoever reads with the consumer group would take its partitions."""
    hub = case.settings.event_hub
    if not hub.hub:
        return []
    hasty = msgspec.structs.replace(hub, request_timeout_seconds=min(hub.request_timeout_seconds, REQUEST_SECONDS))
    try:
        async with open_admin(hasty) as admin:
            counts = await partition_counts(admin)
    except (KafkaError, OSError, TimeoutError):
        return [in_words(await reason_of(hub))]
    if hub.hub not in counts:
        seen = f"There is no event hub {hub.hub} at {hub.bootstrap_servers}, or this account may not see it."
        return [broken(seen, f"Create it, correct {HUB_SETTING}, or give the account the role to receive.")]
    return [ok(f"The event hub {hub.hub} answers, with {counts[hub.hub]} partitions.")]
