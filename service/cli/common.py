"""What several commands need: settings from the environment, and one sentence when Kafka does not answer."""

import asyncio
import datetime as dt
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.errors import KafkaError

from service.errors import UserError
from service.kafka.knock import reason_of
from service.kafka.scan import open_admin
from service.settings import GUID, Kafka, Settings, load

CONNECT_SECONDS = 15.0


def settings_of(config: Path | None) -> Settings:
    """Settings from the file and the environment; `UserError` with one sentence when they are wrong."""
    return load(os.environ, config)


def quiet_kafka() -> None:
    """A command says in one sentence that Kafka is away; its client's own lines would stand around it."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").addFilter(_is_not_kafka_s)


def _is_not_kafka_s(record: logging.LogRecord) -> bool:
    """A batch that Kafka refused leaves a future in aiokafka that nobody awaits; the sentence says it already."""
    return not (record.exc_info and isinstance(record.exc_info[1], KafkaError))


@asynccontextmanager
async def answering(kafka: Kafka) -> AsyncIterator[None]:
    """What is asked of Kafka in this block must be answered within `CONNECT_SECONDS`; `UserError` with the reason."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            yield
    except (KafkaError, TimeoutError, OSError, ValueError):  # ValueError: an address that is none
        raise UserError(await reason_of(kafka), exit_code=1) from None


async def reach(kafka: Kafka) -> None:
    """One sentence where Kafka is away, before anything is begun."""
    async with answering(kafka), open_admin(kafka):
        pass


def moment(text: str | None, option: str) -> float | None:
    """A date or a date-time, UTC where it names no offset, as Unix seconds."""
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option} takes a date such as 2026-11-01, or a date-time such as 2026-11-01T12:00Z."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def tenant_id_of(settings: Settings, tenant: str | None) -> str | None:
    """An id as it is, a configured name by its id."""
    if tenant is None:
        return None
    if tenant in settings.tenants:
        return settings.tenants[tenant].id.lower()
    if GUID.fullmatch(tenant):
        return tenant.lower()
    known = ", ".join(sorted(settings.tenants)) or "none"
    raise UserError(f"There is no tenant {tenant!r}: give its id, or one of the configured names ({known}).")
