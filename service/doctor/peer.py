"""Shell: the certificate that a server shows, trusted or not."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

SECONDS = 5.0


@dataclass(frozen=True)
class Trusted:
    """A certificate that passed. Unix seconds."""

    not_before: float
    not_after: float


@dataclass(frozen=True)
class Peer:
    """What a server sent, whoever vouches for it. Empty where it could not be read."""

    count: int = 0
    """Certificates in the chain that it sent."""
    names: tuple[str, ...] = ()
    issuer: str = ""
    not_after: float = 0.0

    @property
    def ended(self) -> str:
        """` on 2026-11-20`, or nothing."""
        return time.strftime(" on %Y-%m-%d", time.gmtime(self.not_after)) if self.not_after else ""

    @property
    def issued_by(self) -> str:
        """`, Example CA,`, or nothing."""
        return f", {self.issuer}," if self.issuer else ""

    @property
    def by_whom(self) -> str:
        """` (Example CA)`, or nothing."""
        return f" ({self.issuer})" if self.issuer else ""


async def trusted_certificate(host: str, port: int, context: ssl.SSLContext) -> Trusted:
    """Raises `ssl.SSLError` (of it `SSLCertVerificationError`) and OSError."""
    async with _connected(host, port, context) as tls:
        shown = tls.getpeercert() or {}
    return Trusted(ssl.cert_time_to_seconds(str(shown["notBefore"])), ssl.cert_time_to_seconds(str(shown["notAfter"])))


async def seen(host: str, port: int) -> Peer:
    """What is sent to one who trusts everybody; an empty one when nothing can be had."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(SECONDS), _connected(host, port, context) as tls:
            return _peer(tls.getpeercert(binary_form=True) or b"", _chain_length(tls))
    except (OSError, TimeoutError):
        return Peer()


@asynccontextmanager
async def _connected(host: str, port: int, context: ssl.SSLContext) -> AsyncIterator[ssl.SSLObject]:
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        yield writer.get_extra_info("ssl_object")
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                await writer.wait_closed()


def _chain_length(tls: ssl.SSLObject) -> int:
    """How many certificates came. Public from Python 3.13 on; before, the object inside knows."""
    ask: Any = getattr(tls, "get_unverified_chain", None) or getattr(
        getattr(tls, "_sslobj", None), "get_unverified_chain", None
    )
    return len(ask() or ()) if ask is not None else 0


def _peer(der: bytes, count: int) -> Peer:
    """Read with `cryptography` where it is installed (the extra `azure`); else the count is all there is."""
    try:
        from cryptography import x509
        from cryptography.x509.oid import NameOID
    except ModuleNotFoundError:
        return Peer(count)
    try:
        found = x509.load_der_x509_certificate(der)
    except ValueError:
        return Peer(count)
    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(one.value) for one in alternatives if isinstance(one, x509.DNSName | x509.IPAddress)]
    issuers = found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Peer(count, tuple(names), str(issuers[0].value) if issuers else "", found.not_valid_after_utc.timestamp())
