"""The topics: there, with the right partitions, cleanup, retention and sizes, with leaders and enough copies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from service.doctor import wire
from service.doctor.case import Case, error_text, listed
from service.doctor.finding import Look, broken, ok, warn
from service.kafka.topics import TopicReport, ensure

# Kafka's own default; a large call's summary may come close to it.
LEAST_MESSAGE_BYTES = 1_000_000
# More would hide the sentence.
MOST_PREFIXES = 5
CREATE = "Run `callstream topics`, or let `serve` create them (kafka.create_topics)."

ACLS = "`callstream topics --acls User:…` prints what to grant (docs/kafka-security.md)."


@dataclass(frozen=True)
class Layout:
    """One topic as the brokers have it."""

    partitions: int
    leaderless: int
    least_in_sync: int
    replicas: int


async def check(case: Case) -> Iterable[Look]:
    """Compares; creates nothing."""
    specs = case.topics.specs(case.settings.kafka.partitions)
    try:
        described = await case.admin.describe_topics()
        report = await ensure(case.admin, case.topics, case.settings.kafka, create=False)
    except (KafkaError, OSError) as exc:
        seen = f"The topics cannot be described ({error_text(exc)})."
        return [broken(seen, ACLS)]
    layouts = {str(one["topic"]): _layout(one["partitions"]) for one in described}
    missing = [spec.name for spec in specs if spec.name not in layouts]
    if missing:
        rights = await wire.topic_rights(case.admin, missing)
        hidden = [name for name in missing if name in rights and rights[name].is_refused]
        if hidden:
            seen = f"Kafka does not let this client see {hidden[0]}{_others(hidden)}, whether they exist or not."
            return [broken(seen, ACLS)]
        return [judge_missing(case.topics.prefix, missing, len(specs), sorted(layouts))]
    ours = {spec.name: layouts[spec.name] for spec in specs}
    return judge(report, ours, case.brokers, case.settings.kafka.partitions)


def _layout(partitions: Sequence[Mapping[str, object]]) -> Layout:
    replicas = [_count(one["replicas"]) for one in partitions]
    in_sync = [_count(one["isr"]) for one in partitions]
    leaderless = sum(int(str(one["leader"])) < 0 for one in partitions)
    return Layout(len(partitions), leaderless, min(in_sync, default=0), min(replicas, default=0))


def _count(nodes: object) -> int:
    return len(nodes) if isinstance(nodes, Sequence) else 0


def judge_missing(prefix: str, missing: Sequence[str], wanted: int, there: Sequence[str]) -> Look:
    """Some or all topics are not there; another prefix that is there may be the one that was meant."""
    if len(missing) < wanted:
        return broken(
            f"{listed(missing[:4])}{_more(missing, 4)} do not exist."
            if len(missing) > 1
            else f"{missing[0]} does not exist.",
            CREATE,
        )
    others = sorted({name.removesuffix(".ledger") for name in there if name.endswith(".ledger")})
    named = listed(others) if len(others) <= MOST_PREFIXES else f"{len(others)} other prefixes"
    hint = f" There are topics of {named}: is kafka.topic_prefix right?" if others else ""
    return broken(f"None of the {wanted} topics {prefix}.* exists.{hint}", CREATE)


def _others(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} others" if len(names) > 1 else ""


def _more(names: Sequence[str], shown: int) -> str:
    return f" and {len(names) - shown} more" if len(names) > shown else ""


def judge(report: TopicReport, layouts: Mapping[str, Layout], brokers: int, partitions: int) -> list[Look]:
    """All topics are there: partitions and configuration (`report`), leaders, copies, sizes."""
    fatal = [one for one in report.differences if one.fatal]
    if fatal:
        return [_fatal(str(fatal[0]), len(fatal), "partitions" in fatal[0].what)]
    if leaderless := [name for name, layout in layouts.items() if layout.leaderless]:
        seen = f"{leaderless[0]} has {layouts[leaderless[0]].leaderless} partitions without a leader."
        return [broken(seen, "Bring back the broker that has them; until then nothing of them is read or written.")]
    few = [name for name, layout in layouts.items() if layout.least_in_sync < report.min_in_sync.get(name, 1)]
    if few:
        seen = f"{few[0]} takes no writes: {layouts[few[0]].least_in_sync} copies are in sync, and "
        todo = "Bring back the brokers that have the others, or lower min.insync.replicas to the number of copies."
        return [broken(f"{seen}min.insync.replicas is {report.min_in_sync[few[0]]}.", todo)]
    looks = [warn(f"{one}.", "Change the topic, or leave it: the service works.") for one in report.differences]
    for name, limit in report.max_message_bytes.items():
        if limit < LEAST_MESSAGE_BYTES:
            seen = f"{name} takes messages of at most {limit:,} bytes; larger ones become dead letters."
            looks.append(warn(seen, f"Set max.message.bytes of {name} to 1048588, Kafka's default, or more."))
    alone = [name for name, layout in layouts.items() if layout.replicas == 1]
    if alone and brokers >= 3:
        seen = f"{len(alone)} topics have one copy each on {brokers} brokers: one broker away stops them."
        looks.append(
            warn(seen, "Raise their replication factor to 3 (kafka-reassign-partitions), with min.insync.replicas 2.")
        )
    lagging = [name for name, layout in layouts.items() if layout.least_in_sync < layout.replicas]
    if lagging:
        looks.append(warn(f"{listed(lagging[:3])}: not every copy is in sync.", "See which broker is away or slow."))
    return looks or [ok(f"All {len(layouts)} are there, those of calls with {partitions} partitions.")]


def _fatal(first: str, count: int, of_partitions: bool) -> Look:
    more = f", and so do {count - 1} others" if count > 1 else ""
    if of_partitions:
        todo = "Set CALLSTREAM_KAFKA__PARTITIONS to what the topics have; growing means a new prefix."
    else:
        todo = "Set cleanup.policy of the topic as docs/architecture.md has it; the lanes do not start before."
    return broken(f"{first}{more}.", todo)
