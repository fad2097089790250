"""The topics: names, partitions, configuration; which partition a call belongs to; creating and checking them.

What a topic's configuration must be, and why, is design section 3. Names have a configurable prefix.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from aiokafka.partitioner import murmur2

from service.errors import UserError
from service.settings import Kafka, Settings

KINDS = ("audio", "video", "screen-sharing", "other")
DAY_MS = 24 * 3600 * 1000
# How long it is known of a call what was published: longer than Graph keeps it (30 days), and whatever waits here.
LEDGER_DAYS = 45
CONFIG_TRIES, CONFIG_WAIT_SECONDS = 20, 0.1


def partition_of(key: bytes, partitions: int) -> int:
    """The partition Java's clients would choose for `key`: murmur2, so that other tools may write and join."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True)
class TopicSpec:
    """What one topic must be. `config` values are Kafka's own texts."""

    name: str
    partitions: int
    config: Mapping[str, str]


class Topics:
    """The names of all topics of one deployment."""

    def __init__(
        self,
        prefix: str = "callrecords",
        retry_delays: Iterable[str] = ("1m", "10m", "1h"),
        raw_days: float | None = None,
    ) -> None:
        """`raw_days`: how long the archive keeps a version; None where there is none."""
        self.prefix = prefix
        self.notifications = f"{prefix}.notifications"
        self.backfill = f"{prefix}.backfill"
        self.retry = tuple(f"{prefix}.retry.{delay}" for delay in retry_delays)
        self.streams = {kind: f"{prefix}.streams.{kind}" for kind in KINDS}
        self.calls = f"{prefix}.calls"
        self.ledger = f"{prefix}.ledger"
        self.dead_letter = f"{prefix}.dead-letter"
        self.lifecycle = f"{prefix}.lifecycle"
        self.state = f"{prefix}.state"
        self.inbox = f"{prefix}.keeper-inbox"
        self.raw = None if raw_days is None else raw_topic(prefix)
        self._raw_days = raw_days or 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Topics":
        """Those of a deployment; the archive among them where it is enabled."""
        raw = settings.raw
        return cls(settings.kafka.topic_prefix, settings.retry.delays, raw.retention_days if raw.enabled else None)

    @property
    def lane_group(self) -> str:
        """The consumer group that gives lanes to processes and holds their offsets."""
        return f"{self.prefix}.lanes"

    def transactional_id(self, lane: int) -> str:
        """One for each lane, whoever works it: starting its producer fences the earlier owner."""
        return f"{self.prefix}.lane.{lane}"

    @property
    def keeper_transactional_id(self) -> str:
        """Of the active keeper: starting its producer fences whoever was active before."""
        return f"{self.prefix}.keeper"

    @property
    def replay_transactional_id(self) -> str:
        """Of the command that queues dead letters again: one at a time."""
        return f"{self.prefix}.replay"

    @property
    def lane_inputs(self) -> tuple[str, ...]:
        """The topics whose partition *n* lane *n* reads."""
        return (self.notifications, *self.retry, self.backfill)

    @property
    def lane_outputs(self) -> tuple[str, ...]:
        """Topics of which lane *n* alone writes partition *n*."""
        raw = () if self.raw is None else (self.raw,)
        return (*self.streams.values(), self.calls, self.ledger, *self.retry, *raw)

    @property
    def per_call(self) -> tuple[str, ...]:
        """Every topic keyed by call; all must have the same number of partitions."""
        raw = () if self.raw is None else (self.raw,)
        return (*self.lane_inputs, *self.streams.values(), self.calls, self.ledger, *raw)

    def specs(self, partitions: int) -> list[TopicSpec]:
        """What each topic must be, `partitions` for those keyed by call."""
        week, month = _kept(7), _kept(30)
        # A retry topic's age counts from when the lane wrote it, whatever clock the notification carries.
        append_time = {"message.timestamp.type": "LogAppendTime"}
        compacted = {"cleanup.policy": "compact,delete", "retention.ms": str(LEDGER_DAYS * DAY_MS)}
        return [
            TopicSpec(self.notifications, partitions, week),
            TopicSpec(self.backfill, partitions, month),
            *(TopicSpec(name, partitions, week | append_time) for name in self.retry),
            *(TopicSpec(name, partitions, week) for name in self.streams.values()),
            TopicSpec(self.calls, partitions, compacted),
            TopicSpec(self.ledger, partitions, compacted | append_time),
            TopicSpec(self.dead_letter, 1, month),
            TopicSpec(self.lifecycle, 1, week),
            TopicSpec(self.state, 1, {"cleanup.policy": "compact"}),
            TopicSpec(self.inbox, 1, week),
            *([] if self.raw is None else [TopicSpec(self.raw, partitions, _kept(self._raw_days))]),
        ]


def raw_topic(prefix: str) -> str:
    """The archive of a deployment, whether it writes one now or not."""
    return f"{prefix}.raw"


def _kept(days: float) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(int(days * DAY_MS))}


@dataclass(frozen=True)
class Difference:
    """One way in which a topic is not as it must be. `fatal` ones stop the lanes."""

    topic: str
    what: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.topic} {self.what}"


@dataclass(frozen=True)
class TopicReport:
    """What `ensure` found and did."""

    created: tuple[str, ...]
    differences: tuple[Difference, ...]
    max_message_bytes: Mapping[str, int]
    """Topic → the largest record batch it takes."""
    min_in_sync: Mapping[str, int]
    """Topic → copies that must be in sync for a write with `acks=all`."""

    def refuse_fatal(self) -> None:
        """Raises `UserError` when the topics cannot be worked with."""
        fatal = [str(difference) for difference in self.differences if difference.fatal]
        if fatal:
            raise UserError("The topics do not fit: " + "; ".join(fatal) + ".", exit_code=1)


async def ensure(admin: AIOKafkaAdminClient, topics: Topics, kafka: Kafka, *, create: bool) -> TopicReport:
    """Creates missing topics (if `create`) and compares the others with what they must be.

    Raises `KafkaError` when the brokers do not answer, `UserError` when they refuse to create a topic.
    """
    specs = topics.specs(kafka.partitions)
    found = await _partition_counts(admin, specs)
    missing = [spec for spec in specs if spec.name not in found]
    created: tuple[str, ...] = ()
    if missing and create:
        await _create(admin, missing, kafka)
        created = tuple(spec.name for spec in missing)
        found |= {spec.name: spec.partitions for spec in missing}
    configs = await _configs(admin, [spec.name for spec in specs if spec.name in found])
    differences = [difference for spec in specs for difference in _compare(spec, found, configs)]
    in_sync = {name: int(config.get("min.insync.replicas", "1")) for name, config in configs.items()}
    return TopicReport(created, tuple(differences), _limits(configs), in_sync)


async def message_limits(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Topic → the largest record batch it takes, of those there are. Raises `KafkaError`."""
    return _limits(await _configs(admin, names))


def _limits(configs: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    return {name: int(config["max.message.bytes"]) for name, config in configs.items()}


async def _partition_counts(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> dict[str, int]:
    wanted = {spec.name for spec in specs}
    described = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["topic"] in wanted}


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec], kafka: Kafka) -> None:
    factor = kafka.replication_factor if kafka.replication_factor > 0 else await _default_replication(admin)
    new = [NewTopic(spec.name, spec.partitions, factor, topic_configs=dict(spec.config)) for spec in specs]
    response = await admin.create_topics(new)
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        # Another replica may have been faster.
        if code and error is not TopicAlreadyExistsError:
            if getattr(error, "retriable", False):
                raise error(name)
            reason = next((text for text in message if text), error.__name__)
            raise UserError(f"Kafka refused to create the topic {name}: {reason}", exit_code=1)


async def _default_replication(admin: AIOKafkaAdminClient) -> int:
    """The brokers' default.replication.factor: aiokafka's CreateTopics is too old to leave it to them (KIP-464)."""
    cluster = await admin.describe_cluster()
    broker = str(cluster["brokers"][0]["node_id"])
    [response] = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, broker)])
    for *_, entries in response.resources:
        for name, value, *_ in entries:
            if name == "default.replication.factor":
                return int(value)
    return 1


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Topic → its configuration. A topic that was created a moment ago may be unknown to the broker that is asked."""
    found: dict[str, dict[str, str]] = {}
    for _ in range(CONFIG_TRIES):
        missing = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names if name not in found]
        if not missing:
            break
        for response in await admin.describe_configs(missing):
            for code, message, _, name, entries in response.resources:
                if not code:
                    found[name] = {entry[0]: entry[1] for entry in entries}
                elif for_code(code) is not UnknownTopicOrPartitionError:
                    raise KafkaError(
                        f"The configuration of {name} cannot be read: {message or for_code(code).__name__}"
                    )
        if len(found) < len(names):
            await asyncio.sleep(CONFIG_WAIT_SECONDS)
    return found


def _compare(
    spec: TopicSpec, partitions: Mapping[str, int], configs: Mapping[str, Mapping[str, str]]
) -> Iterable[Difference]:
    if spec.name not in partitions:
        yield Difference(spec.name, "does not exist", fatal=True)
        return
    if partitions[spec.name] != spec.partitions:
        what = f"has {partitions[spec.name]} partitions where {spec.partitions} are needed"
        yield Difference(spec.name, what, fatal=True)
    for setting, wanted in spec.config.items():
        actual = configs.get(spec.name, {}).get(setting)
        if actual is not None and set(actual.split(",")) != set(wanted.split(",")):
            # A queue that compacts forgets notifications; a ledger that does not grows for ever or forgets versions.
            fatal = setting == "cleanup.policy" and ("compact" in actual) != ("compact" in wanted)
            yield Difference(spec.name, f"has {setting}={actual} where {wanted} is usual", fatal)
