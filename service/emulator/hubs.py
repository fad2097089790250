"""Event Hubs as Graph writes to them: a Kafka topic of the same name stands in for each (graph-contract 5).

Source of the URL's form: https://learn.microsoft.com/graph/change-notifications-delivery-event-hubs .
"""

import asyncio
import contextlib
import re
import uuid
from collections.abc import Iterable
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.emulator.options import HubOptions
from service.emulator.refusals import Refusal, bad_request

SCHEME = "EventHub:"
PROBE_TEXT = "Validation: Testing client application reachability for subscription"
REQUEST_TIMEOUT_MS = 5000
_URL = re.compile(
    r"EventHub:https://(?P<namespace>[a-z0-9-]+\.servicebus\.(?:windows\.net|usgovcloudapi\.net))"
    r"/eventhubname/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,255})\?tenantId=[A-Za-z0-9.-]+",
    re.IGNORECASE,
)


def check_url(text: str, field: str) -> str:
    """The URL as it is; 400 when it is not of the form with roles."""
    if _URL.fullmatch(text) is None:
        form = "EventHub:https://<namespace>.servicebus.windows.net/eventhubname/<hub>?tenantId=<domain>"
        raise bad_request(f"The '{field}' must be of the form {form}.")
    return text


class Hubs:
    """Every hub that Graph may write to here. Connects when the first event goes out."""

    def __init__(self, options: Iterable[HubOptions]) -> None:
        self._options = {(one.namespace.lower(), one.name.lower()): one for one in options}
        self._producers: dict[HubOptions, AIOKafkaProducer] = {}
        self._connecting = asyncio.Lock()

    async def probe(self, url: str) -> None:
        """What Graph writes before a subscription exists; 400 when it cannot."""
        not_available = "NA"
        fields = ("subscriptionId", "subscriptionExpirationDateTime", "clientState", "resource", "resourceData")
        item: dict[str, Any] = dict.fromkeys(fields, not_available)
        item["changeType"] = f"{PROBE_TEXT} Request-Id: {uuid.uuid4()}"
        if not await self.write(url, [item]):
            raise Refusal(
                400, "ValidationError", "Subscription validation request failed. The event hub cannot be reached."
            )

    async def write(self, url: str, items: list[dict[str, Any]]) -> bool:
        """One event with one collection; whether it is there."""
        parts = _URL.fullmatch(url)
        hub = self._options.get((parts["namespace"].lower(), parts["name"].lower())) if parts else None
        if hub is None:
            return False
        try:
            producer = await self._producer(hub)
            await producer.send_and_wait(hub.name, orjson.dumps({"value": items}))
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    async def _producer(self, hub: HubOptions) -> AIOKafkaProducer:
        async with self._connecting:
            if hub not in self._producers:
                producer = AIOKafkaProducer(
                    bootstrap_servers=hub.bootstrap_servers, acks="all", request_timeout_ms=REQUEST_TIMEOUT_MS
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producers[hub] = producer
        return self._producers[hub]

    async def close(self) -> None:
        """Ends every connection."""
        for producer in self._producers.values():
            with contextlib.suppress(KafkaError, asyncio.CancelledError):
                await producer.stop()
