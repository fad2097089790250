"""Core: one record on its way to Kafka. What is put into it is decided by whoever publishes."""

import msgspec

Headers = list[tuple[str, bytes]]

# What Kafka's record format adds to key, value and headers, with room to spare: batch header 61, record some 30.
RECORD_OVERHEAD_BYTES = 256


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """One record to be written. Made for every event, so it is a struct: it costs a tenth of a dataclass."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size_bytes(self) -> int:
        """Uncompressed, as it counts against the topic's max.message.bytes."""
        headers = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + RECORD_OVERHEAD_BYTES
