"""How every Kafka client of this program connects and how it is closed: addresses, security, timeouts, no surprises."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from service.kafka import frames  # noqa: F401 - importing it is what bounds every connection
from service.kafka.security import security_options
from service.settings import Connection

log = structlog.get_logger()

# aiokafka: a member that does not poll for so long leaves its group and never comes back. Lanes have a watchdog of
# their own, the keeper polls while it stands by.
NEVER_MS = 2**31 - 1
CLOSE_SECONDS = 3.0
# What is broken off then closes its connections yet.
BROKEN_OFF_SECONDS = 1.0
# With its broker away a producer's `stop()` waits for nothing that is still wanted.
PRODUCER_SECONDS = 1.0


async def close(closing: Coroutine[Any, Any, None], seconds: float = CLOSE_SECONDS) -> None:
    """Awaits a client's `stop()` for at most `seconds`, and lets nothing out of it.

    aiokafka 0.14 cancels its own tasks there and awaits them, so a CancelledError comes out of `stop()` although nobody
    cancelled the caller (seen when a consumer is stopped while its broker is away): a lane would end as if it had been
    told to. A broker that is gone may also make it wait for ever.
    """
    task = asyncio.create_task(closing)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=BROKEN_OFF_SECONDS)
        log.warning("a Kafka client did not close in time", seconds=seconds)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.debug("a Kafka client closed with an error", error=f"{type(error).__name__}: {error}")


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stops a consumer; its connections too when `stop()` breaks off before it comes to them."""

    async def stop() -> None:
        try:
            await consumer.stop()
        finally:
            await consumer._client.close()

    await close(stop())


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Stops a producer within seconds, whatever it still holds; nobody waits for that any more.

    What is unsent is failed first, because `stop()` would wait for it. Broken off, `stop()` would leave its sender
    running: a sender that nobody watches must not outlive whoever opened it, so it is closed by hand.
    """

    async def stop() -> None:
        try:
            async with asyncio.timeout(PRODUCER_SECONDS):
                await producer.stop()
        finally:
            try:
                if producer._sender is not None:
                    await producer._sender.close()
            finally:
                await producer.client.close()

    producer._message_accumulator.fail_all(ProducerClosed())
    await close(stop())


def client_options(kafka: Connection) -> dict[str, Any]:
    """Keywords that aiokafka's producer, consumer and admin client share: nobody makes one without them.

    Raises UserError for certificate files that cannot be used.
    """
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "request_timeout_ms": int(kafka.request_timeout_seconds * 1000),
        "client_id": "callstream",
        **security_options(kafka),
    }
