"""Core: why a notification is set aside, in words, and what to do about it. The closed set of dead-letter reasons.

`policy` and `writes` give a reason; here it is explained, for `callstream dead-letter` and for docs/operations.md. A
test holds the three together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Header of a letter that holds only the beginning of a Kafka record: how many bytes key and value had together.
CUT_FROM = "cut-from"


@dataclass(frozen=True)
class Reason:
    """One reason. Both texts are whole sentences."""

    means: str
    todo: str


REASONS: Mapping[str, Reason] = {
    "unavailable": Reason(
        "Graph answers 404 although the notification is older than retry.not_ready_hours: the record is gone, or "
        "never was.",
        "None in most cases: Graph keeps records for 30 days. If Graph had lost sight of its records for a while, "
        "replay.",
    ),
    "graph_unavailable": Reason(
        "Graph failed for this record until the attempts of retry.give_up_hours were used up.",
        "Replay. If it comes back with the same error, tell Microsoft the request id that the error names.",
    ),
    "not_a_call_record": Reason(
        "Graph answered with something that is no call record.",
        "Look at the error: a proxy may have answered in Graph's place. Then replay.",
    ),
    "unpublishable": Reason(
        "Kafka does not take this version.",
        "The error names topic and size, or what Kafka said: raise max.message.bytes of that topic, or give back the "
        "right to write to it. Then replay.",
    ),
    "internal": Reason(
        "This program failed on the record each time.",
        "Report it, with the traceback from the log of that time. Replay after the update that mends it.",
    ),
    "unknown_tenant": Reason(
        "The notification's tenant is not configured.",
        "If it should be, add the tenant to the settings, restart the workers, and replay.",
    ),
    "malformed": Reason(
        "Another tool wrote something into a topic of ours that is no notification.",
        "Find that tool by the value. It cannot be replayed.",
    ),
}
_UNKNOWN = Reason(
    "A reason that this version of callstream does not know.", "Use the version of callstream that wrote it."
)


def explained(reason: str) -> Reason:
    """What a reason means; also for one that another version of the program has written."""
    return REASONS.get(reason, _UNKNOWN)
