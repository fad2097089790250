"""Dead letters on a real broker: listed, explained, queued again, once each, also after a kill."""

import asyncio
import gc
import json
import os
import re
import sys
import threading
from collections import Counter

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from service.cli.dead_letter import list_command, replay_command, selected, show_command
from service.clock import Clock, iso
from service.errors import NotACallRecord, RecordNotFound, UserError
from service.graph.client import Progress
from service.kafka.delivery import open_publisher
from service.kafka.scan import open_admin, open_reader
from service.kafka.topics import Topics
from service.lanes import policy
from service.lanes.messages import dead_records
from service.lanes.outage import FEWEST_RECORDS
from service.lanes.policy import ShapedRecord
from service.lanes.restore import committed_offsets
from service.letters.desk import Desk
from service.letters.letter import RECEIPT, Selection, State
from service.notification import Notification
from service.settings import Lanes, Settings
from tests.broker.lane_bench import (
    PARTITIONS,
    TENANT,
    Bench,
    bench,
    call_id,
    eventually,
    make_topics,
    notice,
    read_all,
    settings_for,
    shaped,
    text,
)

ALL = Selection()
OLD = "2020-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are not cut."""
    monkeypatch.setenv("COLUMNS", "300")


async def letters(lanes: Bench) -> list[str]:
    """Reasons of what is in the topic, receipts among them."""
    return [text(record, "reason") for record in await lanes.read(lanes.topics.dead_letter)]


async def number_of(lanes: Bench, reason: str) -> int:
    """The number of the first letter with this reason: its offset, which counts the ends of transactions too."""
    records = await lanes.read(lanes.topics.dead_letter)
    return next(record.offset for record in records if text(record, "reason") == reason)


async def _count(lanes: Bench, count: int) -> bool:
    return len(await letters(lanes)) >= count


async def _published(lanes: Bench, count: int) -> bool:
    return len(await lanes.read(lanes.topics.calls)) >= count


async def again(settings: Settings, selection: Selection = ALL, *, once_more: bool = False) -> int:
    """`dead-letter replay --all`."""
    return await replay_command(settings, selection, everything=True, once_more=once_more, dry_run=False, yes=True)


async def states(settings: Settings) -> list[State]:
    """Of all letters, in order."""
    desk = Desk(settings.kafka, Topics.of(settings), Clock())
    return [one.state for one in await desk.judged(ALL, lambda done, total: None)]


async def test_letters_are_listed_explained_and_replayed(
    kafka: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first letter to its publication: list, show, a dry run, the replay, and what came of it."""
    settings = settings_for(kafka, prefix)
    async with bench(settings) as lanes:
        lanes.graph.say("gone", RecordNotFound("Graph answered 404"))
        lanes.graph.say("odd", NotACallRecord("list", "the body is a list"))
        await lanes.producer.send_and_wait(lanes.topics.notifications, b"\x00\x1b[31mgarbage", partition=0)
        await lanes.put(notice("gone", received_at=OLD), notice("odd"))
        await eventually(lambda: _count(lanes, 3), "three letters")
        number = await number_of(lanes, "unavailable")
        await list_command(settings, ALL, state=None, limit=None, as_json=False)
        listed = capsys.readouterr().out
        await show_command(settings, number)
        shown = capsys.readouterr().out
        await show_command(settings, await number_of(lanes, "malformed"))
        garbage = capsys.readouterr().out
        by_reason = selected(
            settings, reason="unavailable", tenant="contoso", call=call_id("gone"), since="2026-01-01", until=None
        )
        await replay_command(settings, by_reason, everything=False, once_more=False, dry_run=True, yes=True)
        dry = capsys.readouterr().out
        before = await letters(lanes)
        lanes.graph.say("gone", shaped("gone", 1))
        assert await again(settings, by_reason) == 0
        replayed = capsys.readouterr().out
        await eventually(lambda: _published(lanes, 1), "the call is published")
        assert await again(settings, by_reason) == 0
        twice = capsys.readouterr().out
        await list_command(settings, by_reason, state=None, limit=None, as_json=True)
        document = json.loads(capsys.readouterr().out)
        versions = await lanes.versions()

    assert "2 open" not in listed
    for words in ("unavailable: 1 open", "not_a_call_record: 1 open", "malformed: 1 open", call_id("gone"), "contoso"):
        assert words in listed
    for words in (
        f"Dead letter {number}",
        "Graph answers 404 although",
        "Open: nothing",
        f"replay {number}` does that",
    ):
        assert words in shown
    assert "\x1b" not in garbage
    assert "no notification" in garbage
    assert "1 dead letter would be queued again: 1 unavailable." in dry
    assert RECEIPT not in before
    assert "1 dead letter queued again: 1 unavailable." in replayed
    assert "published since" in twice
    assert "Nothing is left" in twice
    assert versions == [(call_id("gone"), 1)]
    [one] = document["letters"]
    assert (one["number"], one["state"], one["tenant"], one["reason"]) == (
        number,
        "published",
        "contoso",
        "unavailable",
    )
    assert document["counts"] == {"unavailable": {"published": 1}}


async def test_a_replay_that_fails_again_is_a_newer_letter(kafka: str, prefix: str) -> None:
    """The older one then names it; what is queued and not yet decided is not queued twice."""
    settings = settings_for(kafka, prefix)
    async with bench(settings) as lanes:
        lanes.graph.say("gone", RecordNotFound("Graph answered 404"))
        await lanes.put(notice("gone", received_at=OLD))
        await eventually(lambda: _count(lanes, 1), "the letter")
        await again(settings)
        await eventually(lambda: _count(lanes, 3), "receipt and newer letter")
        found = await states(settings)

    assert found == [State.AGAIN, State.OPEN]


async def test_replays_among_live_and_listed_notifications_publish_each_version_once(kafka: str, prefix: str) -> None:
    """Three replays at once with live work and reconcile on the same calls, some of them slow."""
    names = [f"c{number}" for number in range(FEWEST_RECORDS - 1)]  # more would be an outage
    settings = settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.2, audit_every=1))
    async with bench(settings) as lanes:
        for name in names:
            lanes.graph.say(name, NotACallRecord("list", "the body is a list"))
        await lanes.put(*[notice(name, version=2) for name in names])
        await eventually(lambda: _count(lanes, len(names)), "all are set aside")

        def slow(name: str) -> object:
            async def answer(progress: Progress) -> ShapedRecord:
                await asyncio.sleep(0.5)
                return shaped(name, 2)

            return answer

        for number, name in enumerate(names):
            lanes.graph.say(name, slow(name) if number % 3 == 0 else shaped(name, 2))
        for name in names:
            await lanes.put(
                notice(name, source="reconcile", version=2, look=1, listed_hour=1), topic=lanes.topics.backfill
            )
        await asyncio.gather(again(settings), lanes.put(*[notice(name) for name in names]))
        await again(settings, once_more=True)
        for name in names:
            await lanes.put(
                notice(name, source="reconcile", version=2, look=1, listed_hour=1), topic=lanes.topics.backfill
            )
        await eventually(lambda: _published(lanes, len(names)), "all are published")
        await eventually(lambda: _idle(lanes), "nothing waits")
        versions = await lanes.versions()
        events = await lanes.read(lanes.topics.streams["audio"])

    assert Counter(versions) == Counter({(call_id(name), 2): 1 for name in names})
    assert set(Counter(text(event, "ce_id") for event in events).values()) == {1}
    assert await states(settings) == [State.PUBLISHED] * len(names)


async def _idle(lanes: Bench) -> bool:
    """Whether all that was sent to a retry topic has come back, and nothing is under way."""
    servers, topics = lanes.settings.kafka, lanes.topics
    async with open_admin(servers) as admin, open_reader(servers) as consumer:
        for lane in range(PARTITIONS):
            committed = await committed_offsets(admin, topics, lane, topics.lane_group)
            for place, end in (
                await consumer.end_offsets([TopicPartition(n, lane) for n in topics.lane_inputs])
            ).items():
                # The marker of a transaction stands at the end of what lanes write to themselves.
                if end and committed.get(place, 0) + 1 < end:
                    return False
    return max(lane.lag_seconds() for lane in lanes.worker._lanes) == 0


async def test_a_replay_goes_past_a_look_beside_the_batches_that_does_not(kafka: str, prefix: str) -> None:
    """A listed id is being fetched slowly and will stop at the dead version; a replay that comes meanwhile does not."""
    release = asyncio.Event()

    async def slow(progress: Progress) -> ShapedRecord:
        progress.version, progress.pages = 5, 1
        await release.wait()
        return shaped("a", 5)

    settings = settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.2))
    async with bench(settings) as lanes:
        lanes.graph.say("a", shaped("a", 5, size=2_000_000))
        await lanes.put(notice("a"))
        await eventually(lambda: _count(lanes, 1), "version 5 is set aside")
        lanes.graph.say("a", slow, shaped("a", 5))
        await lanes.put(notice("a", source="backfill"), topic=lanes.topics.backfill)
        await eventually(lambda: _retried(lanes, "long_fetch", 1), "the listed one goes beside")
        await again(settings)
        await eventually(lambda: _retried(lanes, "joined_fetch", 1), "the replay joins it")
        release.set()
        await eventually(lambda: _published(lanes, 1), "the replay is published")

        assert await lanes.versions() == [(call_id("a"), 5)]


async def _retried(lanes: Bench, reason: str, count: int) -> bool:
    return lanes.metrics.retried.labels(reason)._value.get() >= count


async def test_a_replay_that_was_killed_goes_on_where_it_was(kafka: str, prefix: str) -> None:
    """SIGKILL between its first transaction and its last; then again, and once more: each letter is queued once."""
    settings = settings_for(kafka, prefix)
    topics = Topics.of(settings)
    count = 2_000
    await _write_letters(settings, topics, count)
    environment = _environment(settings)
    command = (sys.executable, "-m", "service", "dead-letter", "replay", "--all")
    # Small transactions, so that there is time to kill it between two of them.
    slowly = "from service.letters import desk; desk.CHUNK = 20; from service.__main__ import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", slowly, *command[3:]),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    first = (await process.stderr.readline()).decode()
    process.kill()
    await process.communicate()
    outs = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await process.communicate()
        outs.append((process.returncode, out.decode()))
    queued = await read_all(kafka, topics.notifications, PARTITIONS)
    receipts = [one for one in await read_all(kafka, topics.dead_letter, 1) if text(one, "reason") == RECEIPT]
    left = int(outs[0][1].split(" queued again")[0].split("\n")[-1].split()[0].replace(",", ""))

    assert first == f"Queueing again: 20 of {count:,} letters\n"
    assert 0 < left < count
    assert [code for code, _ in outs] == [0, 0]
    assert f"{count:,} dead letters left alone: queued again before.\nNothing is left" in outs[1][1]
    assert len(queued) == len({record.key for record in queued}) == count
    assert Counter(text(one, "replay-of") for one in receipts) == Counter({str(number): 1 for number in range(count)})
    assert {msgspec.json.decode(one.value, type=Notification).source for one in queued} == {"replay"}


@pytest.mark.parametrize("columns", [20, 80, 100])
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
async def test_number_and_call_of_a_letter_are_listed_whole(
    kafka: str, prefix: str, columns: int, terminal: bool
) -> None:
    """In a pipe whatever the width, one line a letter; on a terminal however narrow: `show NUMBER` needs the number."""
    settings = settings_for(kafka, prefix)
    await _write_letters(settings, Topics.of(settings), 3)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "dead-letter", "list"),
        env=_environment(settings) | {"COLUMNS": str(columns)} | ({"FORCE_COLOR": "1"} if terminal else {}),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.decode()).splitlines()
    begun = [line.split() for line in lines if line.split()[0] in ("0", "1", "2")]

    assert process.returncode == 0
    assert lines[0].split()[0] == "number"
    assert [words[0] for words in begun] == ["0", "1", "2"]
    assert all(any(call_id(f"c{number}") in line for line in lines) for number in range(3))
    assert terminal or all(words[3:] == [call_id(f"c{words[0]}"), "internal", "0", "open"] for words in begun)


def _environment(settings: Settings) -> dict[str, str]:
    """These settings for a process."""
    return {
        **{name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")},
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "CALLSTREAM_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "CALLSTREAM_TENANTS__CONTOSO__ID": TENANT,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": "app",
    }


async def _write_letters(settings: Settings, topics: Topics, count: int) -> None:
    """As lanes do, only more of them."""
    await make_topics(settings.kafka, topics)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, acks="all") as producer:
        for number in range(count):
            dead = policy.dead(notice(f"c{number}", received_at=iso(Clock().now())), "internal", "a bug", None)
            record = next(iter(dead_records(dead, topics, 0)))
            await producer.send(record.topic, record.value, key=record.key, partition=0, headers=record.headers)


async def test_a_second_replay_at_the_same_time_is_told_apart(kafka: str, prefix: str) -> None:
    """The later one goes on, the earlier one ends with a sentence; nothing is queued half."""
    settings = settings_for(kafka, prefix)
    topics = Topics.of(settings)
    await _write_letters(settings, topics, 600)
    desk = Desk(settings.kafka, topics, Clock())
    chosen = [one.letter for one in await desk.judged(ALL, lambda done, total: None)]

    async def fence() -> None:
        async with open_publisher(settings.kafka, topics, topics.replay_transactional_id, "x"):
            pass

    def tell(done: int, total: int) -> None:
        """Told between two transactions, and waited for: the other opens just then."""
        other = threading.Thread(target=lambda: asyncio.run(fence()))
        other.start()
        other.join()

    with pytest.raises(UserError, match="Another replay"):
        await desk.queue(chosen, tell)
    # aiokafka leaves a future that nobody awaits; it reports itself when it is collected, so not in another test.
    gc.collect()

    assert len(await read_all(kafka, topics.notifications, PARTITIONS)) == 500


MISTAKES: list[tuple[dict[str, object], str]] = [
    ({"reason": "bad_luck"}, "There is no reason 'bad_luck'"),
    ({"call": "x"}, "--call 'x' is no call id"),
    ({"tenant": "nobody"}, "There is no tenant 'nobody'"),
    ({"since": "soon"}, "--from takes a date"),
    ({"since": "2026-11-02", "until": "2026-11-01"}, "--from must be before --to"),
]


@pytest.mark.parametrize(("wrong", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence(wrong: dict[str, str], sentence: str) -> None:
    """Before Kafka is asked."""
    given: dict[str, str | None] = {"reason": None, "tenant": None, "call": None, "since": None, "until": None}
    with pytest.raises(UserError, match=sentence) as raised:
        selected(settings_for("127.0.0.1:1", "x"), **(given | wrong))  # type: ignore[arg-type]
    assert raised.value.exit_code == 2


async def test_what_is_not_there_is_said_in_one_sentence(kafka: str, prefix: str) -> None:
    """No topic, no such letter, nothing that fits, nothing said, a state that is none."""
    settings = settings_for(kafka, prefix)
    with pytest.raises(UserError, match=f"topic {prefix}.dead-letter does not exist"):
        await show_command(settings, 0)
    await _write_letters(settings, Topics.of(settings), 1)
    with pytest.raises(UserError, match="There is no dead letter 7"):
        await show_command(settings, 7)
    with pytest.raises(UserError, match="No dead letter fits") as raised:
        await again(settings, Selection(reason="malformed"))
    assert raised.value.exit_code == 1
    with pytest.raises(UserError, match="Say which"):
        await replay_command(settings, ALL, everything=False, once_more=False, dry_run=False, yes=True)
    with pytest.raises(UserError, match="There is no state"):
        await list_command(settings, ALL, state="lost", limit=None, as_json=False)
