"""Shell: why Kafka cannot be reached, in one sentence that names the setting to change.

aiokafka tells its callers only that no broker could be used. So the brokers are knocked at once more, by the way that
every client takes, and the first trouble is put into words.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    CorrelationIdError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from service.errors import UserError
from service.kafka.connect import client_options
from service.kafka.frames import BrokenFrame
from service.kafka.oauth import TokenMissing
from service.kafka.security import NoProofError
from service.settings import Connection

# Of real time, for all brokers together.
KNOCK_SECONDS = 12.0
ONE_KNOCK_MS = 8000
# A second look at who hangs up.
TLS_SECONDS = 3.0
# Of alerts in TLS those that are about the certificate that a client has shown, or has not.
ABOUT_CLIENTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
# How answers of web servers begin, the second to what is no HTTP either.
OF_WEB_SERVERS = (b"HTTP", b"<!DO", b"<htm", b"<HTM")
# OpenSSL's numbers of what is wrong with a certificate.
NOT_YET, EXPIRED, HOST_NAME, ADDRESS = 9, 10, 62, 64


async def reason_of(kafka: Connection) -> str:
    """Why no client of these settings can work, as one whole sentence. Takes at most `KNOCK_SECONDS`."""
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            trouble, answers = await _first_trouble(kafka)
    except TimeoutError:
        return away(kafka)
    except UserError as error:  # a file that was there when the process started
        return str(error)
    if trouble is None and answers:
        return f"Kafka at {kafka.bootstrap_servers} has broken off, and answers again."
    return trouble or away(kafka)


def away(kafka: Connection) -> str:
    """Nobody answers there."""
    return (
        f"Kafka does not answer at {kafka.bootstrap_servers}; {variable(kafka, 'bootstrap_servers')} says where it is."
    )


def variable(kafka: Connection, field: str) -> str:
    """The environment variable of a setting."""
    return f"CALLSTREAM_{kafka.setting.upper()}__{field.upper()}"


async def _first_trouble(kafka: Connection) -> tuple[str | None, bool]:
    """What is wrong with the first address of which that can be told, and whether anybody answers as it should be."""
    found: list[tuple[str, int]] = []
    for host, port, _ in collect_hosts(kafka.bootstrap_servers, randomize=False):
        trouble, brokers = await _knock(kafka, host, port)
        if trouble:
            return trouble, False
        found += brokers
    for host, port in dict.fromkeys(found):
        trouble, _ = await _knock(kafka, host, port)
        if trouble:
            return trouble, False
    return None, bool(found)


async def _knock(kafka: Connection, host: str, port: int) -> tuple[str | None, list[tuple[str, int]]]:
    """What is wrong at one address, and the addresses that the broker there names."""
    options = client_options(kafka) | {
        "request_timeout_ms": min(ONE_KNOCK_MS, int(kafka.request_timeout_seconds * 1000))
    }
    del options["bootstrap_servers"]
    try:
        connection = await create_conn(host, port, **options)
    except (KafkaError, OSError, TimeoutError) as error:
        sentence = _in_words(kafka, f"{host}:{port}", error)
        if sentence == _hangs_up(kafka, f"{host}:{port}") and await speaks_tls(host, port):
            return _wants_tls(kafka, f"{host}:{port}"), []
        return sentence, []
    try:
        # A broker that takes no part of what came before says so by hanging up now.
        brokers = (await connection.send(MetadataRequest([]))).brokers
    except (KafkaError, TimeoutError) as error:
        return _about_frames(kafka, f"{host}:{port}", error) or _after_all(kafka, f"{host}:{port}"), []
    finally:
        await _hang_up(connection)
    return (None if brokers else _after_all(kafka, f"{host}:{port}")), [(one[1], one[2]) for one in brokers]


async def _hang_up(connection: AIOKafkaConnection) -> None:
    closed = connection.close()
    if closed is not None:
        await closed


def _in_words(kafka: Connection, place: str, error: BaseException) -> str | None:
    """The sentence for a failed connection; None when nobody is there."""
    if sentence := _about_frames(kafka, place, error):
        return sentence
    for cause in _chain(error):
        if isinstance(cause, ConnectionRefusedError | TimeoutError):
            return None
        if sentence := _about_sign_in(kafka, place, cause) or _about_connecting(kafka, place, cause):
            return sentence
    return _closed(kafka, place) if kafka.security_protocol.endswith("SSL") else _hangs_up(kafka, place)


async def speaks_tls(host: str, port: int, seconds: float = TLS_SECONDS) -> bool:
    """Whether TLS is answered with TLS. Nothing is sent but the greeting, so nobody's certificate matters."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _about_frames(kafka: Connection, place: str, error: BaseException) -> str | None:
    """What was answered instead of Kafka's protocol."""
    causes = [cause for cause in _chain(error) if isinstance(cause, BrokenFrame | CorrelationIdError)]
    if not causes:
        return None
    begin = getattr(causes[0], "begin", b"")
    if begin.startswith(b"\x15\x03"):  # an alert in TLS
        return _wants_tls(kafka, place)
    what = "speaks HTTP, not Kafka's protocol" if begin in OF_WEB_SERVERS else "does not speak Kafka's protocol"
    return f"What answers at {place} {what}; {variable(kafka, 'bootstrap_servers')} says where Kafka is."


def _about_sign_in(kafka: Connection, place: str, cause: BaseException) -> str | None:
    match cause:
        case TokenMissing():
            return str(cause)
        case NoProofError():
            return (
                f"Kafka at {place} does not prove that it knows the user {kafka.sasl_username}: compare "
                f"{kafka.setting}.bootstrap_servers, somebody else may answer there."
            )
        case SaslAuthenticationFailed():
            return _refused(kafka, place)
        case UnsupportedSaslMechanismError():
            return (
                f"Kafka at {place} does not take {kafka.sasl_mechanism}: set {kafka.setting}.sasl_mechanism to one "
                "that this listener has enabled."
            )
        case IllegalSaslStateError():
            return _wants(kafka, place, "wants no sign-in", kafka.security_protocol.removeprefix("SASL_"))
    return None


def _about_connecting(kafka: Connection, place: str, cause: BaseException) -> str | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return _certificate(kafka, place, cause)
        case ssl.SSLError() if "ALERT" in (cause.reason or ""):
            return _alert(kafka, place, cause)
        case socket.gaierror():
            servers = variable(kafka, "bootstrap_servers")
            return f"The host name in {place} cannot be resolved; {servers} says where Kafka is."
        case ssl.SSLError() | ConnectionError() if kafka.security_protocol.endswith("SSL"):
            return _wants(kafka, place, "speaks no TLS", kafka.security_protocol.replace("SSL", "PLAINTEXT"))
    return None


def _after_all(kafka: Connection, place: str) -> str:
    """The connection was there and the broker ended it at the first question."""
    if kafka.security_protocol.startswith("SASL"):
        return _refused(kafka, place)
    protocol = f"SASL_{kafka.security_protocol}"
    return _wants(kafka, place, "seems to want a sign-in", protocol)


def _refused(kafka: Connection, place: str) -> str:
    group = kafka.setting
    if kafka.sasl_mechanism == "OAUTHBEARER":
        return (
            f"Kafka at {place} refused the token: compare {group}.oauth_scope and the issuer of the tokens with what "
            "the brokers expect."
        )
    return (
        f"Kafka at {place} refused the user {kafka.sasl_username}: "
        f"set {group}.sasl_username and {group}.sasl_password to an account that it knows."
    )


def _certificate(kafka: Connection, place: str, error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the certificate that a broker has shown."""
    whose = f"The certificate that Kafka at {place} shows"
    if error.verify_code == EXPIRED:
        return f"{whose} has expired: the broker's must be renewed, or this machine's clock set."
    if error.verify_code == NOT_YET:
        return f"{whose} is not valid yet: set this machine's clock."
    if error.verify_code in (HOST_NAME, ADDRESS):
        return f"{whose} is for another host: put a name into {kafka.setting}.bootstrap_servers that it holds."
    return (
        f"{whose} is not signed by anyone trusted here: "
        f"set {kafka.setting}.ca_file to the certificates of the authority that signed it."
    )


def _alert(kafka: Connection, place: str, error: ssl.SSLError) -> str:
    """The broker ended TLS with a reason."""
    name = (error.reason or "").lower().replace("_", " ")
    if any(word in (error.reason or "") for word in ABOUT_CLIENTS):
        field = f"{kafka.setting}.certificate_file"
        what = "does not take the certificate in" if kafka.certificate_file else "wants a client certificate: set"
        return f"Kafka at {place} {what} {field} ({name}); it must be one that the brokers' authorities signed."
    return f"Kafka at {place} ended TLS ({name}): it must offer TLS 1.2 or later."


def _wants(kafka: Connection, place: str, what: str, protocol: str) -> str:
    return (
        f"Kafka at {place} {what}: set {kafka.setting}.security_protocol to {protocol}, or name another of its "
        f"listeners in {kafka.setting}.bootstrap_servers."
    )


def _wants_tls(kafka: Connection, place: str) -> str:
    return _wants(kafka, place, "seems to want TLS", kafka.security_protocol.replace("PLAINTEXT", "SSL"))


def _hangs_up(kafka: Connection, place: str) -> str:
    return (
        f"What listens at {place} hangs up without an answer: compare {kafka.setting}.bootstrap_servers, and "
        f"{kafka.setting}.security_protocol, which is {kafka.security_protocol}, with what is there."
    )


def _closed(kafka: Connection, place: str) -> str:
    return (
        f"Kafka at {place} ends the connection: compare {kafka.setting}.security_protocol and "
        f"{kafka.setting}.certificate_file with what this listener wants."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        yield one
        one = one.__cause__ or one.__context__
