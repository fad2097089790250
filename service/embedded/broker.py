"""One broker: what it is told (properties, logging, JVM), its process, and the last words of one that died."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.embedded import jars
from service.embedded.listeners import Security
from service.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 60.0  # 2 s on an idle machine; a loaded one with two cores has been seen to need 20
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02

# Without `shutdownHook` log4j closes before Kafka does, and an orderly end cannot be told from a sudden one.
LOG4J2 = """\
status = error
shutdownHook = disable
appender.broker.type = RollingFile
appender.broker.name = broker
appender.broker.fileName = {log}
appender.broker.filePattern = {log}.%i
appender.broker.layout.type = PatternLayout
appender.broker.layout.pattern = %d{{ISO8601}} %p %c{{1}} %m%n
appender.broker.policies.type = Policies
appender.broker.policies.size.type = SizeBasedTriggeringPolicy
appender.broker.policies.size.size = 10MB
appender.broker.strategy.type = DefaultRolloverStrategy
appender.broker.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRef.broker.ref = broker
"""


@dataclass(frozen=True)
class Address:
    """One node of a cluster: its number, from 1, and its ports."""

    node_id: int
    port: int
    controller_port: int
    more: Mapping[str, int] = field(default_factory=dict)
    """Further listeners: name → port."""
    advertised: Mapping[int, int] = field(default_factory=dict)
    """Ports in whose place others are told another: a proxy's."""

    def told(self, port: int) -> int:
        """The port under which others are told to reach this one."""
        return self.advertised.get(port, port)


def properties(node: Address, cluster: Sequence[Address], folder: Path, security: Security) -> str:
    """`server.properties` of one node that is both broker and controller, its data in `folder`.

    What users meet (message.max.bytes and its like) stays at Kafka's defaults; only replication, speed of start and
    memory are settled here.
    """
    copies = min(3, len(cluster))
    in_sync = 2 if copies == 3 else 1
    more = "".join(f",{name}://{HOST}:{port}" for name, port in node.more.items())
    told = "".join(f",{name}://{HOST}:{node.told(port)}" for name, port in node.more.items())
    protocols = "".join(f",{it.name}:{it.protocol}" for it in security.listeners)
    lines: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(f"{it.node_id}@{HOST}:{it.told(it.controller_port)}" for it in cluster),
        "listeners": f"PLAINTEXT://{HOST}:{node.port},CONTROLLER://{HOST}:{node.controller_port}{more}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{node.told(node.port)}{told}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}",
        "log.dirs": folder,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "offsets.topic.num.partitions": 8,  # 50 by default: they are created at the first use, one by one
        "transaction.state.log.num.partitions": 8,
        "group.initial.rebalance.delay.ms": 0,
        # Tests of dead members need not wait for the 6 s that are the least elsewhere.
        "group.min.session.timeout.ms": 1000,
        "broker.session.timeout.ms": 5000,  # 9 s by default: how long a killed broker is kept from coming back
        "broker.heartbeat.interval.ms": 1000,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,  # 128 MB of a small heap by default
        **security.lines(),
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


@dataclass(frozen=True)
class Jvm:
    """How every Java process of a cluster is started."""

    java: Path
    jars: Sequence[Path]
    heap_megabytes: int
    archive: Path | None
    """Kafka's classes as an earlier start left them (JEP 514), which makes a start three times as fast; or None."""
    flags: Sequence[str] = ()
    """Further ones for every process."""

    def command(self, main_class: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
        """The command line of one Java program from Kafka's jars."""
        line = [
            str(self.java),
            f"-Xmx{self.heap_megabytes}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            *self.flags,
            *flags,
        ]
        if self.archive is not None:
            # A stale archive is passed over by the JVM with a warning that would read like a reason.
            line += [f"-XX:AOTCache={self.archive}", "-Xlog:disable", "-Xlog:all=error:stderr"]
        return [*line, "-cp", os.pathsep.join(str(jar) for jar in self.jars), main_class, *arguments]


def environment() -> dict[str, str]:
    """A Java process's environment: none of JAVA_HOME, CLASSPATH, JAVA_TOOL_OPTIONS, KAFKA_… of the machine counts."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TZ", "HOME")}


class Broker:
    """One broker of an embedded cluster. It may be stopped, killed, paused and started again with its data and ports.

    Not for two tasks at once; usable from any event loop, one after the other.
    """

    def __init__(self, address: Address, folder: Path, jvm: Jvm, changed: Callable[[], None]) -> None:
        """`folder` holds the node's formatted data; `changed` is called whenever the process starts or has ended."""
        self.address = address
        self.folder = folder
        self._jvm = jvm
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    @property
    def node_id(self) -> int:
        """Kafka's number of this broker, from 1."""
        return self.address.node_id

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.address.port

    @property
    def bootstrap_server(self) -> str:
        """`host:port` of this broker alone."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The Java process, or None when it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self.pid is not None

    @property
    def properties_path(self) -> Path:
        """What the broker is told; written before the first start."""
        return self.folder.with_name(f"{self.folder.name}.properties")

    @property
    def log_path(self) -> Path:
        """What Kafka logs, level INFO; 10 MB and two older files are kept."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def output_path(self) -> Path:
        """What Java itself prints, when it cannot start for instance."""
        return self.folder.with_name(f"{self.folder.name}.out")

    async def start(self, deadline_seconds: float = START_SECONDS, flags: Sequence[str] = ()) -> None:
        """Starts the process; returns once the broker answers for itself in its own metadata. Nothing if it runs.

        `flags` go to the JVM.
        UserError when it dies before or does not answer in time, with what it said last. In a cluster of three it
        can only answer while two live: start them at the same time.
        """
        if self.is_running:
            return
        self._launch(flags)
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._answers()
        except TimeoutError as exc:
            await self.kill()
            raise UserError(
                f"Kafka broker {self.node_id} did not answer within {deadline_seconds:.0f} s"
                f"{self.said()}: the machine may be too busy or too small, its log is {self.log_path}.",
                exit_code=1,
            ) from exc
        except BaseException:
            await self.kill()
            raise

    def _launch(self, flags: Sequence[str]) -> None:
        """Starts the process and returns at once."""
        self._is_paused = False
        for path in (self.log_path, self.output_path):
            if path.exists():  # last words have to be of this start
                path.replace(path.with_name(f"{path.name}.previous"))
        log4j2 = self.folder.with_name(f"{self.folder.name}.log4j2.properties")
        log4j2.write_text(LOG4J2.format(log=self.log_path))
        scratch = self.folder.with_name(f"{self.folder.name}.tmp")  # compression codecs unpack native libraries there
        scratch.mkdir(exist_ok=True)
        command = self._jvm.command(
            "kafka.Kafka",
            str(self.properties_path),
            flags=[
                f"-Dlog4j2.configurationFile={log4j2}",
                f"-Djava.io.tmpdir={scratch}",
                f"-XX:ErrorFile={self.output_path}",
                *flags,
            ],
        )
        with self.output_path.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own Java with our own arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder.parent,
                env=environment(),
                start_new_session=True,  # Ctrl-C goes to the parent, which ends its brokers in order
            )
        self._changed()

    async def stop(self, deadline_seconds: float = STOP_SECONDS) -> None:
        """Ends it in good order (SIGTERM); by force when it takes longer than `deadline_seconds`."""
        if self._process is None:
            return
        self.resume()
        self._signal(signal.SIGTERM)
        if not await self._ended(deadline_seconds):
            await self.kill()
        self._changed()

    async def kill(self) -> None:
        """Ends it at once (SIGKILL), as a crash would; returns when the process is gone."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()  # the kernel's work alone: milliseconds
        self._changed()

    def pause(self) -> None:
        """Freezes it (SIGSTOP), and returns when it stands: connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)
        self._is_paused = True
        if self.pid is not None and hasattr(os, "waitid"):  # Python 3.11 has none on macOS
            # The kernel stops a process thread by thread: on a busy machine its others answer for a while yet.
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Ends a pause (SIGCONT); nothing when it was not paused."""
        if self._is_paused:
            self._signal(signal.SIGCONT)
            self._is_paused = False

    async def _ended(self, seconds: float) -> bool:
        """Waits until the process has ended; False when it has not after `seconds`."""
        if self._process is None:
            return True
        try:
            await asyncio.to_thread(self._process.wait, seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    async def _answers(self) -> None:
        """Waits for the broker's own word that it serves clients; UserError when the process ends instead."""
        while not await self._lists_itself():
            if not self.is_running:
                self._changed()
                raise UserError(f"Kafka broker {self.node_id} ended while starting{self.said()}.", exit_code=1)
            await asyncio.sleep(POLL_SECONDS)

    async def _lists_itself(self) -> bool:
        """Whether metadata asked of this broker names it, and a controller with it."""
        try:  # an open port first: the client logs an error for each that is closed
            _, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_server, request_timeout_ms=5000)
        try:
            await client.start()
            cluster = await client.describe_cluster()
        except (KafkaError, OSError):
            return False
        finally:
            await client.close()
        return cluster["controller_id"] > 0 and any(it["node_id"] == self.node_id for it in cluster["brokers"])

    def said(self) -> str:
        """The broker's last words in brackets, to go into a sentence; empty when it said nothing."""
        words = last_words(_read(self.log_path), _read(self.output_path))
        return f' (it said: "{words}")' if words else ""


LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\S+ (?P<level>[A-Z]+) \S+ (?P<message>.*)$")
EXCEPTION = re.compile(
    r"^(?:Caused by: |Exception in thread \S+ )?(?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error)\b: ?(?P<what>.+)$"
)
LONGEST_WORDS = 300  # characters of a sentence that a person still reads


def last_words(log: str, output: str) -> str:
    """The line that tells best why a broker died: the innermost exception, else the last error, else Java's own.

    Empty when nothing was said.
    """
    causes = [match["what"] for line in log.splitlines() if (match := EXCEPTION.match(line))]
    errors = [
        match["message"]
        for line in log.splitlines()
        if (match := LOG_LINE.match(line)) and match["level"] in ("ERROR", "FATAL")
    ]
    printed = [line for line in output.splitlines() if line.strip() and not line.startswith(("\tat ", "WARNING:", "#"))]
    for lines in (causes, errors, printed):
        if lines:
            return lines[-1].strip().rstrip(".")[:LONGEST_WORDS].replace('"', "'")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def default_jvm(class_path: Sequence[Path], brokers: int, archive: Path | None, flags: Sequence[str] = ()) -> Jvm:
    """The JVM of a cluster of `brokers`: modest heaps, so that three fit beside the rest of a laptop."""
    return Jvm(jars.java(), class_path, heap_megabytes=512 if brokers == 1 else 384, archive=archive, flags=flags)
