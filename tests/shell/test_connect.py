"""Closing Kafka clients: whatever they do, the one who closes them goes on."""

import asyncio

from service.kafka.connect import close


async def test_a_client_that_cancels_itself_does_not_cancel_the_one_who_closes_it() -> None:
    """aiokafka awaits tasks it has cancelled while stopping; its CancelledError stays inside."""

    async def stop() -> None:
        raise asyncio.CancelledError

    await close(stop())
    task = asyncio.current_task()

    assert task is not None
    assert task.cancelling() == 0


async def test_a_client_that_fails_to_close_is_given_up() -> None:
    """A broken connection has nothing more to say."""

    async def stop() -> None:
        raise OSError("gone")

    assert await close(stop()) is None
