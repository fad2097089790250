"""Whether the event hub that Graph writes into can be read."""

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok
from service.stream.connect import client_options, close_consumer
from service.stream.knock import reason_of

TODO = "docs/event-hubs.md has the steps; docs/kafka-security.md each way not to be let in."


async def check(case: Case) -> Iterable[Look]:
    """It answers, lets us in, and has a hub of that name."""
    hub = case.settings.event_hub
    if not hub.hub:
        return []
    consumer = AIOKafkaConsumer(**client_options(hub), group_id=None)
    try:
        await consumer.start()
        if hub.hub not in await consumer.topics():
            return [
                broken(f"There is no event hub {hub.hub} at {hub.bootstrap_servers}.", f"Correct event_hub.hub; {TODO}")
            ]
        count = len(consumer.partitions_for_topic(hub.hub) or ())
    except KafkaError:
        return [broken(await reason_of(hub), TODO)]
    finally:
        await close_consumer(consumer)
    return [ok(f"The event hub {hub.hub} answers with {count} partitions; Graph writes into it, nobody posts.")]
