"""Core: Kafka records of the archive → archived versions: the counterpart of what `messages.py` writes. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.lanes.ledger import ledger_key


class ArchiveRecord(Protocol):
    """What is needed of a Kafka record."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Version:
    """One archived version, its parts put together."""

    tenant_id: str
    call_id: str
    version: int
    notified: str
    fetched: str
    value: bytes

    @property
    def ledger_key(self) -> bytes:
        """Its call's key in the ledger."""
        return ledger_key(self.tenant_id, self.call_id)


class Parts:
    """Puts the parts of archived versions together; they lie one after the other in their partition."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._of: tuple[bytes | None, bytes | None] = (None, None)
        self.broken = 0
        """Versions of which parts are missing: retention has taken the first ones."""

    def add(self, record: ArchiveRecord) -> Version | None:
        """The version that this part completes, else None."""
        headers = dict(record.headers)
        try:
            number, count, version = (int(headers[name]) for name in ("part", "parts", "version"))
            tenant_id, call_id = (record.key or b"").decode().split("/")
            notified, fetched = headers["notified"].decode(), headers["fetched"].decode()
            ledger_key(tenant_id, call_id)
        except (KeyError, ValueError):
            self.broken += 1
            return None
        of = (record.key, headers["version"])
        if number == 1:
            self._held, self._of = [], of
        if of != self._of or number != len(self._held) + 1:
            self.broken += number == count
            return None
        self._held.append(record.value or b"")
        if number < count:
            return None
        value, self._held, self._of = b"".join(self._held), [], (None, None)
        return Version(tenant_id, call_id, version, notified, fetched, value)
