"""One or three brokers on this machine: their ports, their folder, and `embedded_kafka`, which holds them open."""

import asyncio
import base64
import contextlib
import errno
import fcntl
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Never

from service.embedded import jars
from service.embedded.broker import HOST, Address, Broker, Jvm, default_jvm, environment, last_words, properties
from service.embedded.guardian import Guardian
from service.embedded.jars import KAFKA_VERSION, Progress
from service.embedded.listeners import Security
from service.errors import UserError

FREE_PORTS = range(20_000, 30_000)
"""Below the ports that systems give to outgoing connections (from 32,768 on Linux, 49,152 on macOS): a client that
tries to reach a stopped broker on one of those may be given that very port, and the broker cannot come back."""
LEAST_FREE_BYTES = 256 * 1024 * 1024  # Kafka needs some 30 MB empty; full disks end it in ways that are hard to read
FORMAT_SECONDS = 60.0
WATCH_SECONDS = 0.5
TRAINING_SECONDS = 120.0
MARKER = "callstream-kafka.json"

Advertise = Callable[[int], Awaitable[int]]
"""A listener's port → the port under which clients and the other brokers are told to reach it."""


class Cluster:
    """The running brokers. `brokers` may be stopped, killed, paused and started one by one."""

    def __init__(self, brokers: Sequence[Broker], version: str, data_folder: Path) -> None:
        self.brokers = tuple(brokers)
        self.version = version
        self.data_folder = data_folder

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of every broker as clients are told to reach it, separated by commas, running or not."""
        return ",".join(f"{HOST}:{broker.address.told(broker.port)}" for broker in self.brokers)

    def servers(self, listener: str) -> str:
        """The same for a further listener, by its name."""
        return ",".join(f"{HOST}:{broker.address.more[listener]}" for broker in self.brokers)

    async def start(self, flags: Sequence[str] = ()) -> None:
        """Starts every broker that is not running, side by side; UserError of the first that cannot."""
        try:
            async with asyncio.TaskGroup() as group:
                for broker in self.brokers:
                    group.create_task(broker.start(flags=flags))
        except BaseExceptionGroup as failures:
            # Of several reasons one is the cause and the others follow from it; a person needs one sentence.
            raise failures.exceptions[0] from None

    async def watch(self) -> Never:
        """Waits for as long as all brokers live; UserError with the last words of the first that ended by itself."""
        while True:
            for broker in self.brokers:
                if not broker.is_running:
                    raise UserError(f"Kafka broker {broker.node_id} ended by itself{broker.said()}.", exit_code=1)
            await asyncio.sleep(WATCH_SECONDS)

    async def stop(self) -> None:
        """Ends every broker in good order, side by side."""
        await asyncio.gather(*(broker.stop() for broker in self.brokers))

    async def kill(self) -> None:
        """Ends every broker at once."""
        await asyncio.gather(*(broker.kill() for broker in self.brokers))


@asynccontextmanager
async def embedded_kafka(
    brokers: int = 1,
    ports: Sequence[int] | None = None,
    data_folder: Path | None = None,
    version: str = KAFKA_VERSION,
    on_progress: Progress | None = None,
    security: Security | None = None,
    advertise: Advertise | None = None,
) -> AsyncIterator[Cluster]:
    """Apache Kafka with 1 or 3 brokers, answering when the block is entered, ended when it is left.

    `ports` are the brokers' ports for clients (default: free ones). `data_folder` is made or used again; without one
    the data lives in a temporary folder and goes at the end. The first use downloads Kafka (45 MB). `on_progress` is
    told, in short lines, what is being waited for. `security` adds listeners, each with a free port of its own; with a
    `data_folder` its users are those of the first start. `advertise` is asked for the port of each listener, clients'
    and controllers', before the start: for proxies. However this process ends, the brokers end with it.

    Raises UserError (exit code 1) when Kafka cannot start: package, network, port, folder, disk, or Java's own reason.
    """
    tell = on_progress or (lambda _: None)
    security = security or Security()
    jvm = await _jvm(version, brokers, tell, security.flags())
    addresses = _addresses(brokers, ports, [listener.name for listener in security.listeners])
    if advertise is not None:
        addresses = await _advertised(addresses, advertise)
    with _folder(data_folder, brokers) as folder:
        guardian = Guardian(remove=folder if data_folder is None else None)
        try:
            cluster = _assemble(addresses, folder, jvm, version, guardian)
            with _folder_trouble(folder):
                await _format(cluster, jvm, security)
                tell(f"Starting Apache Kafka {version}")
                try:
                    await cluster.start()
                except BaseException:
                    await cluster.kill()
                    raise
            try:
                yield cluster
            finally:
                # Nothing of a temporary folder is worth the second that an orderly end takes.
                await (cluster.kill() if data_folder is None else cluster.stop())
        finally:
            await guardian.close()


async def prepare_fast_start(version: str = KAFKA_VERSION, on_progress: Progress | None = None) -> None:
    """Makes later starts three times as fast (0.8 s instead of 2.3 s), once: it takes 10 s and 67 MB of the cache.

    One start is recorded in Java's own archive of loaded classes. Worth it before a run that starts many brokers. Does
    nothing when it has been done; a failure is no error, starts are then as slow as before.
    """
    await jars.kafka_jars(version, on_progress)
    archive = _archive(version)
    if archive.exists():
        return
    (on_progress or (lambda _: None))("Preparing Kafka's fast start (once)")
    partial = archive.with_name(f"{archive.name}.{os.getpid()}.partial")
    jars.sweep(archive.parent)
    try:
        async with embedded_kafka(version=version) as cluster:
            (broker,) = cluster.brokers
            await broker.stop()
            await broker.start(flags=[f"-XX:AOTCacheOutput={partial}"])
            await broker.stop(deadline_seconds=TRAINING_SECONDS)  # the archive is written while Java ends
        if partial.exists():
            partial.rename(archive)
    except OSError:
        return
    finally:
        for leftover in archive.parent.glob(f"{partial.name}*"):
            leftover.unlink(missing_ok=True)


def _archive(version: str) -> Path:
    """Beside the jars it was made from: Java refuses it for others, so it has to go when they go."""
    return jars.cache_folder() / f"kafka-{version}" / f"java-{jars.java_version()}.aot"


async def _jvm(version: str, brokers: int, tell: Progress, flags: Sequence[str]) -> Jvm:
    jars.java()  # a missing package is said before anything is downloaded
    class_path = await jars.kafka_jars(version, tell)
    archive = _archive(version)
    return default_jvm(class_path, brokers, archive if archive.exists() else None, flags)


def _addresses(brokers: int, ports: Sequence[int] | None, listeners: Sequence[str]) -> list[Address]:
    """Numbers and ports of every node; UserError when a wanted port is taken."""
    if brokers not in (1, 3):
        raise UserError(f"{brokers} brokers cannot be embedded: choose 1 or 3.")
    if ports is not None and len(set(ports)) != brokers:
        raise UserError(f"{brokers} brokers need {brokers} different ports.")
    for port in ports or ():
        _check_port(port)
    free = iter(_free_ports((2 + len(listeners)) * brokers, without=ports or ()))
    chosen = list(ports) if ports is not None else [next(free) for _ in range(brokers)]
    return [Address(at + 1, chosen[at], next(free), {name: next(free) for name in listeners}) for at in range(brokers)]


async def _advertised(addresses: Sequence[Address], advertise: Advertise) -> list[Address]:
    """Asks for every listener, in the order of the nodes: clients' first, then controllers', then the further ones."""
    ports = [it.port for it in addresses] + [it.controller_port for it in addresses]
    ports += [port for it in addresses for port in it.more.values()]
    told = {port: await advertise(port) for port in ports}
    return [replace(it, advertised=told) for it in addresses]


def _check_port(port: int) -> None:
    """UserError when nothing can listen on this port of 127.0.0.1."""
    if not 0 < port < 65536:
        raise UserError(f"{port} is not a port for Kafka: choose one from 1 to 65535.")
    try:
        _bind(port).close()
    except OSError as exc:
        why = "taken" if exc.errno == errno.EADDRINUSE else f"not to be had ({exc.strerror})"
        raise UserError(
            f"Port {port} is {why}: stop what listens there or choose another port for Kafka.", exit_code=1
        ) from exc


def _free_ports(count: int, without: Sequence[int]) -> list[int]:
    """Ports that nothing listens on now, in random order so that two runs at once seldom choose the same."""
    found: list[int] = []
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        if len(found) == count:
            return found
        with contextlib.suppress(OSError):
            _bind(port).close()
            if port not in without:
                found.append(port)
    raise UserError(f"No free ports between {FREE_PORTS.start} and {FREE_PORTS.stop} for Kafka.", exit_code=1)


def _bind(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka: remains of closed connections pass
        listener.bind((HOST, port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _folder(wanted: Path | None, brokers: int) -> Iterator[Path]:
    """The cluster's folder, ours alone while the block lasts. A temporary one is removed by the guardian.

    UserError when it cannot be written, is full, in use, or is not the folder of such a cluster.
    """
    if wanted is None:
        with _folder_trouble(Path(tempfile.gettempdir())):
            _check_space(Path(tempfile.gettempdir()))
            folder = Path(tempfile.mkdtemp(prefix="callstream-kafka-"))
        yield folder
        return
    folder = wanted.expanduser().absolute()
    with _folder_trouble(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder, brokers)
        lock = (folder / MARKER).open("rb")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise UserError(f"The data folder {folder} is in use by another embedded Kafka.", exit_code=1) from exc
        yield folder


def _claim(folder: Path, brokers: int) -> None:
    """Marks an empty folder as ours, or checks the mark; UserError when it holds something else."""
    marker = folder / MARKER
    if not marker.exists():
        if any(folder.iterdir()):
            raise UserError(
                f"The data folder {folder} holds something that is not an embedded Kafka: name an empty or new one.",
                exit_code=1,
            )
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        _check_space(folder)
        marker.write_text(json.dumps({"brokers": brokers, "clusterId": cluster_id}) + "\n")
    held = _marked(folder)["brokers"]
    if held != brokers:
        raise UserError(
            f"The data folder {folder} holds a cluster of {held}, not {brokers}: start {held} or name another folder.",
            exit_code=1,
        )
    _check_space(folder)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _marked(folder: Path) -> dict[str, object]:
    """What the marker says; UserError when it cannot be read."""
    try:
        marked = json.loads((folder / MARKER).read_text())
        return {"brokers": int(marked["brokers"]), "clusterId": str(marked["clusterId"])}
    except (ValueError, KeyError, TypeError) as exc:
        raise UserError(
            f"{folder / MARKER} is damaged, so the data of {folder} cannot be used: name another folder.", exit_code=1
        ) from exc


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, f"only {free // 1_000_000} MB are free there and Kafka should have 256 MB")


@contextmanager
def _folder_trouble(folder: Path) -> Iterator[None]:
    """What the file system refuses becomes a sentence that names the folder."""
    try:
        yield
    except OSError as exc:
        raise UserError(
            f"Kafka cannot keep its data in {folder}: {exc.strerror or type(exc).__name__}.", exit_code=1
        ) from exc


def _assemble(addresses: Sequence[Address], folder: Path, jvm: Jvm, version: str, guardian: Guardian) -> Cluster:
    """The brokers, not yet started, with the guardian told of every start and end."""
    brokers: list[Broker] = []

    def changed() -> None:
        guardian.watch(pid for broker in brokers if (pid := broker.pid) is not None)

    brokers += [Broker(address, folder / f"broker-{address.node_id}", jvm, changed) for address in addresses]
    return Cluster(brokers, version, folder)


async def _format(cluster: Cluster, jvm: Jvm, security: Security) -> None:
    """Writes every broker's properties, and the identity into data folders that have none yet."""
    marker = cluster.data_folder / MARKER
    cluster_id = str(_marked(cluster.data_folder)["clusterId"]) if marker.exists() else "callstream-embedded-00"
    addresses = [broker.address for broker in cluster.brokers]
    for broker in cluster.brokers:
        broker.properties_path.write_text(properties(broker.address, addresses, broker.folder, security))
    unformatted = [it for it in cluster.brokers if not (it.folder / "meta.properties").exists()]
    await asyncio.gather(*(asyncio.to_thread(_format_one, it, cluster_id, jvm, security) for it in unformatted))


def _format_one(broker: Broker, cluster_id: str, jvm: Jvm, security: Security) -> None:
    """Runs Kafka's own format tool for one broker; UserError with its words when it fails."""
    # One argument: an id may begin with `-` (one in 64 does), and the tool would take it for an option.
    tool = (
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster_id}",
        "-c",
        str(broker.properties_path),
        *security.format_arguments(),
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own Java with our own arguments
            jvm.command(*tool),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FORMAT_SECONDS,
            check=False,
            cwd=broker.folder.parent,
            env=environment(),
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as exc:
        raise UserError(f"Kafka did not format {broker.folder} within {FORMAT_SECONDS:.0f} s.", exit_code=1) from exc
    if done.returncode != 0:
        words = last_words(done.stdout, done.stdout + done.stderr)
        raise UserError(f'Kafka cannot format {broker.folder} (it said: "{words}").', exit_code=1)
