"""What one batch of a lane holds: items, the looks that serve them, and what was decided without one."""

import asyncio
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from service.errors import CallstreamError
from service.lanes import policy
from service.lanes.intake import Item
from service.lanes.looks import Look
from service.lanes.outage import OUTAGE
from service.lanes.policy import Later, Outcome, ShapedRecord, Skip, SkipReason
from service.notification import Notification

# What a batch may hold: items that merge into its looks, or need none, take no room of their own. A notice that
# somebody repeats ten thousand times is then a few looks, not a hundred, and other calls do not wait for them.
MOST_ITEMS = 2000
# Of these one notification stands for all of the same call: nothing has been tried, and they wait for the same thing.
WAITING_ALIKE = (policy.JOINED_FETCH, "tenant_waits", "budget", OUTAGE)


@dataclass
class Group:
    """All notifications of one call in this batch, and the look that serves them."""

    notifications: list[Notification]
    look: Look
    is_audit: bool = False
    """Whether the ledger has all that was asked for, and the look only makes sure of it."""


@dataclass
class Batch:
    """What one transaction will hold."""

    handled: list[Item] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    strays: list[Item] = field(default_factory=list)
    malformed: list[Item] = field(default_factory=list)
    groups: dict[bytes, Group] = field(default_factory=dict)
    arrived_bytes: int = 0
    """Encoded events that have arrived so far."""
    waiting: dict[tuple[bytes, int, str | None], list[Notification]] = field(default_factory=dict)
    """What goes to a retry tier untried, by call, tier and reason."""

    def put(self, key: bytes, outcome: Outcome) -> None:
        """What was decided without a look."""
        if isinstance(outcome, Later) and (reason := outcome.notification.reason) in WAITING_ALIKE:
            self.waiting.setdefault((key, outcome.tier, reason), []).append(outcome.notification)
        else:
            self.outcomes.append(outcome)

    def merge_waiting(self) -> None:
        """One of each call that waits; the copies are done with."""
        for (_, tier, _), same_call in self.waiting.items():
            self.outcomes.append(Later(tier, policy.merge(same_call)))
            self.outcomes.extend([Skip(SkipReason.MERGED)] * (len(same_call) - 1))
        self.waiting.clear()

    def add(self, key: bytes, group: Group) -> None:
        """A call with its look under way."""
        self.groups[key] = group
        group.look.task.add_done_callback(self._arrived)

    def _arrived(self, task: "asyncio.Task[ShapedRecord | CallstreamError]") -> None:
        if not task.cancelled() and task.exception() is None and isinstance(result := task.result(), ShapedRecord):
            self.arrived_bytes += result.size_bytes

    def looks(self) -> list[Look]:
        """Every look of the batch."""
        return [group.look for group in self.groups.values()]

    def offsets(self) -> dict[TopicPartition, int]:
        """The positions to commit: after the last handled item of each partition."""
        found: dict[TopicPartition, int] = {}
        for item in self.handled:
            found[item.partition] = max(found.get(item.partition, 0), item.offset + 1)
        return found


@dataclass(frozen=True)
class Held:
    """What one lane has in memory; each has its bound."""

    batch_bytes: int = 0
    """Encoded events of the batch under way."""
    beside: int = 0
    """Records being fetched beside the batches."""
    retries: int = 0
    """Notifications of the fullest retry partition that are not due."""
