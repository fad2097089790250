"""How every Kafka client of this program connects and how it is closed: addresses, timeouts, no surprises."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from service.settings import Kafka

log = structlog.get_logger()

CLOSE_SECONDS = 5.0


async def close(closing: Coroutine[Any, Any, None]) -> None:
    """Awaits a client's `stop()` for at most `CLOSE_SECONDS`, and lets nothing out of it.

    aiokafka 0.14 cancels its own tasks there and awaits them, so a CancelledError comes out of `stop()` although nobody
    cancelled the caller (seen when a consumer is stopped while its broker is away): a lane would end as if it had been
    told to. A broker that is gone may also make it wait for ever.
    """
    task = asyncio.create_task(closing)
    done, _ = await asyncio.wait({task}, timeout=CLOSE_SECONDS)
    if not done:
        task.cancel()
        log.warning("a Kafka client did not close in time", seconds=CLOSE_SECONDS)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.debug("a Kafka client closed with an error", error=f"{type(error).__name__}: {error}")


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stops a consumer; its connections too when `stop()` breaks off before it comes to them."""
    await close(consumer.stop())
    await close(consumer._client.close())


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Stops a producer within seconds, whatever it still holds; nobody waits for that any more.

    What is unsent is failed first, because `stop()` would wait for it. Broken off, `stop()` would leave its sender
    running: a sender that nobody watches must not outlive whoever opened it, so it is closed by hand.
    """
    producer._message_accumulator.fail_all(ProducerClosed())
    await close(producer.stop())
    if producer._sender is not None:
        await close(producer._sender.close())
    await close(producer.client.close())


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Keywords that aiokafka's producer, consumer and admin client share."""
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "request_timeout_ms": int(kafka.request_timeout_seconds * 1000),
        "client_id": "callstream",
    }
