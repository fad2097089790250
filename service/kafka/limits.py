"""Shell: how large a message each topic takes, asked again when Kafka or we refuse one: a person may change it."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.clock import Clock
from service.kafka.topics import message_limits

LOOK_AGAIN_SECONDS = 15.0
ANSWER_SECONDS = 5.0


class Limits(Mapping[str, int]):
    """Topic → its max.message.bytes."""

    def __init__(self, known: Mapping[str, int], admin: AIOKafkaAdminClient, clock: Clock) -> None:
        self._known = dict(known)
        self._admin = admin
        self._clock = clock
        self._asked = clock.now()

    async def look_again(self) -> None:
        """Asks the brokers, at most every `LOOK_AGAIN_SECONDS`; what they do not say stays as it was."""
        if self._clock.now() - self._asked < LOOK_AGAIN_SECONDS:
            return
        self._asked = self._clock.now()
        with suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(ANSWER_SECONDS):
                self._known |= await message_limits(self._admin, list(self._known))

    def __getitem__(self, topic: str) -> int:
        return self._known[topic]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
