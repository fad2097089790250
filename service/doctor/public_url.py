"""Shell: the address under which Graph reaches the receiver: its name, its port, its certificate.

Seen from this machine, which need not be what Graph sees: a name may resolve differently inside, a firewall may let
this machine through. What Graph demands of the URL: https, a publicly trusted chain with its intermediates, TLS 1.2
(https://learn.microsoft.com/graph/change-notifications-delivery-webhooks).
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable

from service.doctor import peer
from service.doctor.case import Case, error_text, is_loopback
from service.doctor.finding import Look, broken, ok, warn
from service.doctor.peer import Peer

CONNECT_SECONDS = 5.0
SOON_DAYS = 14.0
# A short-lived certificate is renewed in the last third of its life, and only then is its end news.
LATE_SHARE = 1 / 3
BY_HUB = "Not needed: Graph writes into an event hub."
URL_TODO = "Set CALLSTREAM_RECEIVER__PUBLIC_URL to the https address under which Graph reaches /notifications."
# Reasons of OpenSSL's verification (X509_V_ERR_…, https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/).
NOT_YET, EXPIRED, SELF_SIGNED, SELF_SIGNED_IN_CHAIN, NO_ISSUER, NO_ISSUER_LEAF = 9, 10, 18, 19, 20, 21
WRONG_NAMES = (62, 64)


async def check_address(case: Case) -> Iterable[Look]:
    """Set, https, a name that resolves to a public address, a port that is open."""
    if case.settings.event_hub.hub:
        return [ok(BY_HUB)]
    url = case.public_url
    host = url.hostname or ""
    if not host:
        return [broken("receiver.public_url is not set, so no subscription is kept.", URL_TODO)]
    if url.scheme != "https" and not case.is_local:
        return [broken(f"receiver.public_url is {url.geturl()}; Graph posts to https addresses alone.", URL_TODO)]
    if is_loopback(host) and not case.graph.is_custom:
        return [broken(f"{host} is this machine's own address; Graph cannot reach it.", URL_TODO)]
    try:
        addresses = await _resolve(host, _port(case))
    except (OSError, UnicodeError):  # UnicodeError: a name that can be none
        todo = f"Make a public DNS record for {host}, or correct receiver.public_url."
        return [broken(f"The name {host} does not resolve.", todo)]
    if (trouble := await _connect(addresses, _port(case))) is not None:
        return [_closed(host, _port(case), trouble)]
    looks = [ok(f"Port {_port(case)} of {named(host, addresses)} is open.")]
    if (hidden := [one for one in addresses if not _is_public(one)]) and not is_loopback(host):
        todo = "Nothing, if the public DNS gives another address than the one seen here; else publish a public one."
        looks = [warn(f"{host} is {hidden[0]} here, an address that the internet does not reach.", todo)]
    return looks


def named(host: str, addresses: list[str]) -> str:
    """`calls.example.com (203.0.113.7)`, or the address alone."""
    return host if addresses == [host] else f"{host} ({', '.join(addresses[:3])})"


def _closed(host: str, port: int, trouble: str) -> Look:
    todo = (
        f"Start `callstream serve` with the role receive, and lead port {port} of {host} to it (ingress, load "
        "balancer, firewall). If only this machine is kept out, run the doctor elsewhere."
    )
    return broken(f"Nothing answers at port {port} of {host}: {trouble}.", todo)


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def _connect(addresses: list[str], port: int) -> str | None:
    """None when one of the addresses takes a connection, else what the last one said."""
    trouble = "no address"
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            trouble = f"no answer within {CONNECT_SECONDS:g} s"
        except ConnectionRefusedError:
            trouble = "the connection is refused"
        except OSError as exc:
            trouble = exc.strerror or error_text(exc)
        else:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return None
    return trouble


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def _port(case: Case) -> int:
    return case.public_url.port or (443 if case.public_url.scheme == "https" else 80)


async def check_certificate(case: Case) -> Iterable[Look]:
    """The chain is complete, trusted, for this name, and not about to end."""
    if case.settings.event_hub.hub:
        return [ok(BY_HUB)]
    host = case.public_url.hostname or ""
    if case.public_url.scheme != "https":
        return [ok("There is none: http on this machine, which an emulated Graph alone takes.")]
    try:
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            certificate = await peer.trusted_certificate(host, _port(case), trust(case))
    except ssl.SSLCertVerificationError as exc:
        return [judge_refusal(host, exc.verify_code, exc.verify_message, await peer.seen(host, _port(case)))]
    except ssl.SSLError as exc:
        return [judge_tls_error(host, _port(case), exc.reason or "")]
    except OSError as exc:
        return [judge_tls_error(host, _port(case), error_text(exc))]
    return [judge_end(host, certificate, time.time())]


def trust(case: Case) -> ssl.SSLContext:
    """What Graph would trust: this machine's authorities; those of `graph.ca_file` too where Graph is an emulator."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 became stricter than those who will judge the certificate.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if case.graph.is_custom and case.settings.graph.ca_file:
        context.load_verify_locations(cafile=case.settings.graph.ca_file)
    return context


def judge_refusal(host: str, code: int, message: str, shown: Peer) -> Look:
    """Why a certificate is refused. `code` and `message` are OpenSSL's, `shown` what the server sent."""
    if code == EXPIRED:
        return broken(f"The certificate of {host} has expired{shown.ended}.", "Renew it where TLS ends.")
    if code == NOT_YET:
        todo = "See whether this machine's clock is right; else wait, or have a new one made."
        return broken(f"The certificate of {host} is not valid yet.", todo)
    if code in WRONG_NAMES:
        names = f" but for {', '.join(shown.names[:4])}" if shown.names else ""
        todo = f"Serve one that names {host}, or set receiver.public_url to the name that it has."
        return broken(f"The certificate is not for {host}{names}.", todo)
    if code == SELF_SIGNED:
        todo = "Serve one of a public authority, such as Let's Encrypt: Graph trusts no other."
        return broken(f"The certificate of {host} is signed by itself.", todo)
    if code in (NO_ISSUER, NO_ISSUER_LEAF) and shown.count == 1:
        seen = f"{host} sends its certificate alone, and its issuer{shown.issued_by} is not known here."
        todo = "Serve the whole chain (fullchain.pem): the intermediate is missing, or the authority is a private one."
        return broken(seen, todo)
    if code in (NO_ISSUER, NO_ISSUER_LEAF, SELF_SIGNED_IN_CHAIN):
        todo = "Serve a certificate of a public authority: Graph does not trust a private one."
        return broken(f"The certificate of {host} comes from an authority that is not known here{shown.by_whom}.", todo)
    return broken(f"The certificate of {host} is refused: {message}.", "Serve one that Graph can trust.")


def judge_tls_error(host: str, port: int, reason: str) -> Look:
    """No handshake of TLS at all. `reason` is OpenSSL's, or the connection's error."""
    upper = reason.upper()
    if "WRONG_VERSION" in upper or "RECORD_LAYER" in upper or "HTTP_REQUEST" in upper:
        seen = f"Port {port} of {host} does not speak TLS."
        return broken(seen, "Let TLS end there: callstream itself speaks plain http, behind an ingress or proxy.")
    if "PROTOCOL_VERSION" in upper or "UNSUPPORTED_PROTOCOL" in upper:
        return broken(f"{host} speaks only TLS older than 1.2.", "Allow TLS 1.2 and 1.3 where TLS ends.")
    seen = f"{host} breaks the TLS handshake off ({reason or 'without a word'})."
    return broken(seen, f"See where TLS ends whether it knows the name {host} (SNI) and has a certificate for it.")


def judge_end(host: str, certificate: peer.Trusted, now: float) -> Look:
    """A trusted certificate: when it ends. `now` is Unix seconds."""
    days = (certificate.not_after - now) / 86400
    life = (certificate.not_after - certificate.not_before) / 86400
    seen = f"The certificate of {host} is trusted here and ends in {days:.0f} days ({_day(certificate.not_after)})."
    if days < SOON_DAYS and days < life * LATE_SHARE:
        return warn(seen, "Renew it, and see why nothing renewed it by itself.")
    return ok(seen)


def _day(unix_seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_seconds))
