"""What several commands need: settings from the environment, and one sentence when Kafka does not answer."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.errors import KafkaError

from service.errors import UserError
from service.settings import Kafka, Settings, load

CONNECT_SECONDS = 15.0


def settings_of(config: Path | None) -> Settings:
    """Settings from the file and the environment; `UserError` with one sentence when they are wrong."""
    return load(os.environ, config)


def quiet_kafka() -> None:
    """A command says in one sentence that Kafka is away; its client's own lines would stand around it."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


@asynccontextmanager
async def answering(kafka: Kafka) -> AsyncIterator[None]:
    """What is asked of Kafka in this block must be answered within `CONNECT_SECONDS`, else `UserError`."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            yield
    except (KafkaError, TimeoutError, OSError, ValueError):  # ValueError: an address that is none
        raise UserError(
            f"Kafka does not answer at {kafka.bootstrap_servers}; "
            "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS says where it is.",
            exit_code=1,
        ) from None
