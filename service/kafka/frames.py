"""What comes over a connection to Kafka, bounded and distrusted: whoever answers there may be no Kafka.

aiokafka takes a frame of any announced size, two gigabytes included, and lets whatever a broken one makes its decoder
raise (TypeError, struct.error, MemoryError) go to a caller who expects Kafka's errors. Its connections are made deep
inside its clients, so their class is mended in place, as in `security`.
"""

import weakref
from contextvars import ContextVar
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, KafkaError

MOST_FRAME_BYTES: Final = 256 * 1024 * 1024
"""Far above what a broker answers: a fetch of 50 MiB, or one batch that is larger by itself."""


class BrokenFrame(ConnectionError):
    """What was answered is none of Kafka's protocol."""

    def __init__(self, begin: bytes) -> None:
        """`begin`: the first bytes that came, where they are known."""
        super().__init__("the answer is none of Kafka's")
        self.begin = begin


async def _read(weak: "weakref.ref[AIOKafkaConnection]") -> None:
    """In place of aiokafka's: frames until the connection ends, which an error here makes it do."""
    if (connection := weak()) is None:
        return
    reader = connection._reader
    del connection  # one that nobody holds any more may be collected
    while True:
        head = await reader.readexactly(4)
        size = int.from_bytes(head, "big", signed=True)
        if not 0 <= size <= MOST_FRAME_BYTES:
            raise BrokenFrame(head)
        frame = await reader.readexactly(size)
        if (connection := weak()) is None:
            return
        try:
            connection._handle_frame(frame)
        except Exception as error:
            raise BrokenFrame(b"") from error
        del connection


_connect: Final = AIOKafkaConnection.connect
_bootstrap: Final = AIOKafkaClient.bootstrap
_made: Final = ContextVar["weakref.WeakSet[AIOKafkaConnection] | None"]("_made", default=None)
"""The connections of a client that is just starting."""


async def _connect_or_refuse(connection: AIOKafkaConnection) -> Any:
    """As aiokafka does, save that a greeting which can be decoded and makes no sense is an error of Kafka's, too."""
    try:
        connected = await _connect(connection)
    except (KafkaError, OSError):
        raise
    except (TypeError, AssertionError, LookupError):
        place = f"{connection.host}:{connection.port}"
        raise KafkaConnectionError(f"What answers at {place} is no Kafka") from BrokenFrame(b"")
    if (made := _made.get()) is not None:
        made.add(connection)
    return connected


async def _bootstrap_or_hang_up(client: AIOKafkaClient) -> None:
    """As aiokafka does, save that one that is broken off, as when a lane is stopped while it opens, leaves no
    connection behind of which nobody knows."""
    made: weakref.WeakSet[AIOKafkaConnection] = weakref.WeakSet()
    token = _made.set(made)
    try:
        await _bootstrap(client)
    except BaseException:
        for connection in list(made):
            connection.close()
        raise
    finally:
        _made.reset(token)


AIOKafkaConnection._read = staticmethod(_read)
AIOKafkaConnection.connect = _connect_or_refuse
AIOKafkaClient.bootstrap = _bootstrap_or_hang_up
