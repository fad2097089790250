"""The pipeline one would write in an afternoon: parse, flatten into dicts, dump, send. An event has the facts of ours.

"Dict flatten" means here what generic pipelines do: a small recursive function makes of all that is known of a media
stream one flat dict with dotted keys (`call.type`, `caller.network.ipAddress`, `stream.averageJitter`). Lists stay as
they are, and so do nulls.

No transactions, no offsets, no ledger, no summary, and aiokafka as it comes. Durations stay text, nobody looks for what
is odd and there is no verdict: it does less than the service, and is none the worse a yardstick for that.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from bench.material import Page
from bench.pipeline import Work

Event = dict[str, Any]

RECORD_FIELDS = ("type", "modalities", "startDateTime", "endDateTime", "lastModifiedDateTime", "joinWebUrl")
SESSION_FIELDS = ("id", "modalities", "startDateTime", "endDateTime", "isTest", "failureInfo")
SEGMENT_FIELDS = ("id", "startDateTime", "endDateTime", "failureInfo")


class Naive:
    """A pipeline for `child.py`. `loads` and `dumps` are the JSON library's; `dumps` gives bytes."""

    def __init__(
        self,
        servers: str,
        topic: str,
        tenant_id: str,
        loads: Callable[[bytes], Any],
        dumps: Callable[[Event], bytes],
    ) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=servers)
        self._topic = topic
        self._tenant_id = tenant_id
        self._loads = loads
        self._dumps = dumps
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Naive":
        await self._stack.enter_async_context(self._producer)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def run(self, pages: list[Page]) -> Work:
        """All events of these records, acknowledged."""
        sent, size = [], 0
        for page in pages:
            key = page.call_id.encode()
            for event in flatten(self._tenant_id, self._loads(page.body)):
                value = self._dumps(event)
                size += len(value)
                sent.append(await self._producer.send(self._topic, value, key=key))
        await asyncio.gather(*sent)
        return Work(len(sent), size)


def stdlib_dumps(event: Event) -> bytes:
    """What `json.dumps` gives, as the bytes that Kafka takes."""
    return json.dumps(event).encode()


orjson_loads: Callable[[bytes], Any] = orjson.loads
orjson_dumps: Callable[[Event], bytes] = orjson.dumps


def flat(nested: dict[str, Any], prefix: str = "") -> Event:
    """A nested dict as one with dotted keys; lists and nulls stay as they are."""
    result: Event = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            result.update(flat(value, f"{prefix}{name}."))
        else:
            result[f"{prefix}{name}"] = value
    return result


def flatten(tenant_id: str, record: dict[str, Any]) -> Iterator[Event]:
    """One event for each media stream, with all that is known around it, flat."""
    for nested in _nested(tenant_id, record):
        yield flat(nested)


def _nested(tenant_id: str, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    call = {name: record.get(name) for name in RECORD_FIELDS}
    call |= {"organizer": record.get("organizer_v2"), "participantCount": len(record.get("participants_v2", ()))}
    for s, session in enumerate(record.get("sessions", ())):
        for g, segment in enumerate(session.get("segments", ())):
            for m, media in enumerate(segment.get("media", ())):
                for n, stream in enumerate(media.get("streams", ())):
                    yield {
                        "tenantId": tenant_id,
                        "callId": record["id"],
                        "version": record["version"],
                        "call": call,
                        "session": _picked(session, SESSION_FIELDS, s),
                        "segment": _picked(segment, SEGMENT_FIELDS, g),
                        "media": {"label": media.get("label"), "index": m},
                        "stream": stream | {"index": n},
                        "caller": _side("caller", session, segment, media),
                        "callee": _side("callee", session, segment, media),
                    }


def _picked(source: dict[str, Any], names: tuple[str, ...], index: int) -> dict[str, Any]:
    return {"index": index} | {name: source[name] for name in names if source.get(name) is not None}


def _side(end: str, session: dict[str, Any], segment: dict[str, Any], media: dict[str, Any]) -> dict[str, Any]:
    return {
        "endpoint": segment.get(end) or session.get(end),
        "network": media.get(f"{end}Network"),
        "device": media.get(f"{end}Device"),
    }
