"""`callstream tail`: follows the published topics with `read_committed`, as a table or as JSON lines."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import typer
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.text import Text

from service.cli.common import answering, quiet_kafka, settings_of
from service.errors import UserError
from service.kafka.connect import client_options, close_consumer
from service.kafka.topics import KINDS, Topics
from service.settings import Kafka
from service.show import HEADER, VERDICT_STYLES, event_line, summary_line

ALL = "all"
CALLS = "calls"


async def tail_command(kind: str, *, as_json: bool, from_beginning: bool, limit: int, config: Path | None) -> int:
    """Prints until `limit` events are shown, or until interrupted. `UserError` for an unknown kind or no Kafka."""
    if kind not in (ALL, CALLS, *KINDS):
        raise UserError(f"There is no kind {kind!r}: choose {', '.join((*KINDS, CALLS))} or {ALL}.")
    settings = settings_of(config)
    quiet_kafka()
    topics = Topics.of(settings)
    names = list(topics.streams.values()) if kind == ALL else [topics.streams.get(kind, topics.calls)]
    console = Console(highlight=False, soft_wrap=True)
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs has a task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with reader(settings.kafka, names, from_beginning=from_beginning) as consumer:
            if not as_json and kind != CALLS:
                console.print(HEADER, style="bold")
            await _follow(consumer, console, as_json, limit)
    except asyncio.CancelledError:
        pass
    return 0


async def _follow(consumer: AIOKafkaConsumer, console: Console, as_json: bool, limit: int) -> None:
    shown = 0
    while True:
        polled = await consumer.getmany(timeout_ms=500)
        for record in (record for records in polled.values() for record in records):
            _print(record, console, as_json)
            shown += 1
            if shown == limit:
                return


def _print(record: ConsumerRecord, console: Console, as_json: bool) -> None:
    if as_json:
        # Bytes pass as they are. Without a value it is a tombstone: nothing to show.
        typer.echo(record.value or b"", nl=record.value is not None)
        return
    try:
        message = orjson.loads(record.value)
        if "counts" in message:
            console.print(Text(summary_line(message)))
        else:
            console.print(Text(event_line(message), style=VERDICT_STYLES.get(message["quality"]["verdict"], "")))
    except (json.JSONDecodeError, KeyError, TypeError):
        console.print(f"{record.topic}-{record.partition} offset {record.offset}: not an event of callstream")


@asynccontextmanager
async def reader(kafka: Kafka, names: list[str], *, from_beginning: bool) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions that shows nothing of open or aborted transactions. Without a group.

    Where it begins is settled when the block is entered: what is published afterwards is read. Raises `UserError`.
    """
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest" if from_beginning else "latest",
    )
    try:
        async with answering(kafka):
            partitions = await _partitions(kafka, names)
            await consumer.start()
            consumer.assign(partitions)
            for partition in partitions:
                await consumer.position(partition)
        yield consumer
    finally:
        await close_consumer(consumer)


async def _partitions(kafka: Kafka, names: list[str]) -> list[TopicPartition]:
    """Every partition of the topics; asked of the admin client, since a consumer knows only topics it follows."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    if missing := [name for name in names if name not in counts]:
        raise UserError(f"The topic {missing[0]} does not exist yet; `callstream topics` creates it.", exit_code=1)
    return [TopicPartition(name, number) for name in names for number in range(counts[name])]
