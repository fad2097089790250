"""A deployment in which every link is as it should be, and ways to break one: the emulator over TLS, a real Kafka, the
whole service, all on a loop of their own in a thread, so that they outlive a test and its loop.
"""

import asyncio
import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from service.app import Service, open_service
from service.clock import Clock
from service.doctor.case import Case
from service.doctor.finding import Finding
from service.doctor.walk import walk
from service.emulator import tls
from service.emulator.options import EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.settings import Settings, load
from tests.shell.signin_fixture import authority, client_certificate

T = TypeVar("T")
SECONDS = 60.0
PARTITIONS = 2
CALLS = 3
CONTOSO = TenantOptions(certificates=(client_certificate().public_pem,))


class Aside:
    """A loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Done there, awaited here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    @contextmanager
    def opened(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Entered and left there."""
        value = self.run(manager.__aenter__())
        try:
            yield value
        finally:
            self.run(manager.__aexit__(None, None, None))

    def close(self) -> None:
        """Nothing may be left on it."""
        left = asyncio.all_tasks(self.loop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()
        assert not left, left


@dataclass
class Scene:
    """What is there, and the environment in which the doctor finds it."""

    aside: Aside
    emulator: Emulator
    environ: dict[str, str]
    folder: Path

    @property
    def settings(self) -> Settings:
        """As the doctor reads them."""
        return load(self.environ)

    @property
    def url(self) -> str:
        """The public URL."""
        return self.environ["CALLSTREAM_RECEIVER__PUBLIC_URL"]

    def with_environ(self, **changes: str | None) -> dict[str, str]:
        """The environment with other settings: `kafka__partitions="3"`; None takes one away."""
        named = {f"CALLSTREAM_{name.upper()}": value for name, value in changes.items()}
        return {name: value for name, value in (self.environ | named).items() if value is not None}  # type: ignore[operator]

    async def walk(self, clock: Clock | None = None, **changes: str | None) -> list[Finding]:
        """Every line."""
        async with AsyncExitStack() as stack:
            case = Case(None, self.with_environ(**changes), stack, clock or Clock())
            return [finding async for finding in walk(case)]

    async def line(self, link: str, **changes: str | None) -> Finding:
        """What is said of one link."""
        async with AsyncExitStack() as stack:
            case = Case(None, self.with_environ(**changes), stack, Clock())
            async for finding in walk(case):
                if finding.link == link:
                    return finding
        raise AssertionError(f"there is no link {link}")

    async def first(self, clock: Clock | None = None, **changes: str | None) -> Finding:
        """The first line that is not ok, and no look at what comes after it."""
        async with AsyncExitStack() as stack:
            case = Case(None, self.with_environ(**changes), stack, clock or Clock())
            async for finding in walk(case):
                if finding.status != "ok":
                    return finding
        raise AssertionError("every link is as it should be")

    def there(self, work: Callable[[], T]) -> T:
        """Something done to the emulator, on its own loop."""

        async def do() -> T:
            return work()

        return self.aside.run(do())


@asynccontextmanager
async def _deployment(kafka: str, folder: Path) -> AsyncIterator[tuple[Emulator, dict[str, str]]]:
    ca_file = folder / "ca.pem"
    ca_file.write_text(authority().pem + root_authority().pem, encoding="utf-8")
    options = EmulatorOptions(
        port=0, calls=CALLS, announce_existing=True, ssl_context=authority().server_context(), tenants=(CONTOSO,)
    )
    async with open_emulator(options, Clock()) as emulator:
        port, admin = free_port(), free_port()
        environ = {
            "CALLSTREAM_GRAPH__CLOUD": "custom",
            "CALLSTREAM_GRAPH__ROOT_URL": emulator.url,
            "CALLSTREAM_GRAPH__LOGIN_URL": emulator.url,
            "CALLSTREAM_GRAPH__CA_FILE": str(ca_file),
            "CALLSTREAM_RECEIVER__HOST": "127.0.0.1",
            "CALLSTREAM_RECEIVER__PORT": str(port),
            "CALLSTREAM_RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{port}",
            "CALLSTREAM_ADMIN__PORT": str(admin),
            "CALLSTREAM_CLIENT_STATE__KEYS__1": "a key of at least sixteen",
            "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "CALLSTREAM_KAFKA__TOPIC_PREFIX": f"doctor{time.time_ns()}",
            "CALLSTREAM_KAFKA__PARTITIONS": str(PARTITIONS),
            # The keeper must not mend what a test has broken; and two days are listed sooner than thirty.
            "CALLSTREAM_KEEPER__PERIOD_SECONDS": "3600",
            "CALLSTREAM_KEEPER__RECONCILE_DAYS": "2",
            "CALLSTREAM_TENANTS__CONTOSO__ID": CONTOSO.id,
            "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": CONTOSO.client_id,
            "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": CONTOSO.client_secret,
        }
        async with open_service(load(environ)) as service:
            await _until_published(service)
            yield emulator, environ


async def _until_published(service: Service) -> None:
    """The calls have come by notices and are listed: every link has been used once."""
    async with asyncio.timeout(SECONDS):
        while True:
            status: Any = service.status["completeness"]()
            found = (status or {}).get("contoso") or {"total": {"published": 0}, "lastNotice": None}
            if found["total"]["published"] >= CALLS and found["lastNotice"]:
                return
            await asyncio.sleep(0.05)


@contextmanager
def scene_of(kafka: str, folder: Path) -> Iterator[Scene]:
    """The deployment, once every link is as it should be."""
    aside = Aside()
    try:
        with aside.opened(_deployment(kafka, folder)) as (emulator, environ):
            scene = Scene(aside, emulator, environ, folder)
            asyncio.run(_until_healthy(scene))
            yield scene
    finally:
        aside.close()


async def _until_healthy(scene: Scene) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        findings = await scene.walk()
        if all(finding.status == "ok" for finding in findings):
            return
        wrong = [finding for finding in findings if finding.status != "ok"]
        assert time.monotonic() < deadline, wrong
        await asyncio.sleep(0.2)


def free_port() -> int:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# ---- what may stand at the public URL ------------------------------------------------------------------------------


@asynccontextmanager
async def front(context: ssl.SSLContext | None, target: str = "") -> AsyncIterator[str]:
    """Where TLS ends: a port whose bytes go on to `target` (`host:port`); the URL."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        async with _closing(writer):
            if target:
                host, _, port = target.rpartition(":")
                inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
                async with _closing(inner_writer), asyncio.TaskGroup() as pipes:
                    pipes.create_task(_pipe(reader, inner_writer))
                    pipes.create_task(_pipe(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if context else 'http'}://localhost:{port}"
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def site(answer: Handler, context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[str]:
    """Another site than callstream; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Made:
    """How a server's certificate is made, by an authority that may be an intermediate one."""

    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    begins_days: float = -1.0
    ends_days: float = 60.0
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def context(self, by: tls.Authority | None, chain: str = "") -> ssl.SSLContext:
        """TLS with it. `by`: whose signature, None for its own; `chain`: what is sent along."""
        signed = self.signed(by.certificate.subject if by else None, by.key if by else self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls._load(context, tls._pem(self.key) + signed.public_bytes(Encoding.PEM) + chain.encode())
        return context

    def signed(
        self, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, *, ca: bool = False
    ) -> x509.Certificate:
        """The certificate."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.names[0])])
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=self.begins_days))
            .not_valid_after(now + dt.timedelta(days=self.ends_days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = x509.SubjectAlternativeName([tls._name(one) for one in self.names])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256())


def intermediate() -> tls.Authority:
    """An authority that the trusted one has signed."""
    return new_authority("callstream intermediate", root_authority())


@cache
def root_authority() -> tls.Authority:
    """One that the settings trust too, and that may have intermediate ones."""
    return new_authority("callstream root")


def new_authority(name: str, by: tls.Authority | None = None) -> tls.Authority:
    """One of its own, or one that another has signed."""
    made = Made(names=(name,))
    issuer, key = (by.certificate.subject, by.key) if by else (None, made.key)
    certificate = made.signed(issuer, key, ca=True)
    return tls.Authority(certificate.public_bytes(Encoding.PEM).decode(), made.key, certificate)
