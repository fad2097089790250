"""TLS and SASL of every Kafka client of this program: the keywords that aiokafka takes for them.

Certificates are read anew by the next connection after their files have changed, so that what a tool renews needs no
restart. Nothing here is shown: passwords and tokens go to aiokafka alone.
"""

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from aiokafka.conn import AIOKafkaConnection, ScramAuthenticator
from aiokafka.errors import SaslAuthenticationFailed

from service.errors import UserError
from service.kafka.oauth import tokens_of
from service.settings import Connection
from service.signin.check import INSTALL, has_azure

log = structlog.get_logger()


def security_options(kafka: Connection) -> dict[str, Any]:
    """Keywords for aiokafka's clients. Raises UserError for files that cannot be used."""
    protocol = kafka.security_protocol
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = tls_context(kafka)
    if protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        if kafka.sasl_mechanism == "OAUTHBEARER":
            options["sasl_oauth_token_provider"] = tokens_of(kafka)
        else:
            options["sasl_plain_username"] = kafka.sasl_username
            options["sasl_plain_password"] = kafka.sasl_password.reveal()
    return options


def check_security(kafka: Connection) -> None:
    """Raises UserError when no connection could ever be made: files that cannot be used, a package that is missing."""
    if kafka.security_protocol.endswith("SSL"):
        tls_context(kafka)
    if kafka.oauth_credential != "client-secret" and not has_azure():
        raise UserError(
            f"Setting {kafka.setting}.oauth_credential is {kafka.oauth_credential}, which needs azure-identity: "
            f"{INSTALL}."
        )


class NoProofError(SaslAuthenticationFailed):  # type: ignore[misc]
    """A broker that speaks SCRAM and does not show that it knows the account's password (RFC 5802 section 5)."""


class Scram(ScramAuthenticator):  # type: ignore[misc]
    """aiokafka 0.14 lets out whatever reading such an answer raises: a ValueError would end the process."""

    def _step(self, payload: bytes | None) -> Any:
        try:
            return super()._step(payload)
        except (ValueError, KeyError):
            raise NoProofError("the broker's answer proves nothing") from None


AIOKafkaConnection.authenticator_scram = lambda connection: Scram(
    loop=connection._loop,
    sasl_plain_password=connection._sasl_plain_password,
    sasl_plain_username=connection._sasl_plain_username,
    sasl_mechanism=connection._sasl_mechanism,
)


@lru_cache(maxsize=16)
def tls_context(kafka: Connection) -> ssl.SSLContext:
    """One for all clients of these settings. Raises UserError when a file cannot be read or used."""
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and its host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.kafka = kafka
    if not kafka.ca_file:
        context.load_default_certs()
    context.load()
    return context


class _Context(ssl.SSLContext):
    """Loads its files again before a handshake when they have changed."""

    kafka: Connection
    _stamp: object = None

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """What asyncio calls for each new connection."""
        try:
            self.load()
        except UserError as error:
            # A file that is just being written; what was loaded before may still do.
            log.warning("a renewed certificate cannot be used", error=str(error))
        return super().wrap_bio(*arguments, **options)

    def load(self) -> None:
        """Reads the files, unless they are as they were."""
        names = (self.kafka.ca_file, self.kafka.certificate_file, self.kafka.certificate_key_file)
        stamp = [_stamp(name) for name in names if name]
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if self.kafka.ca_file:
            _load_authorities(self, self.kafka)
        if self.kafka.certificate_file:
            _load_certificate(self, self.kafka)


def _stamp(name: str) -> object:
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _load_authorities(context: ssl.SSLContext, kafka: Connection) -> None:
    try:
        context.load_verify_locations(cafile=kafka.ca_file)
    except ssl.SSLError:
        raise UserError(
            f"Setting {kafka.setting}.ca_file names {kafka.ca_file}, which holds no PEM certificate."
        ) from None
    except OSError as error:
        raise _unreadable(kafka, "ca_file", error) from None


def _load_certificate(context: ssl.SSLContext, kafka: Connection) -> None:
    for field in ("certificate_file", "certificate_key_file"):
        if name := getattr(kafka, field):
            try:
                Path(name).read_bytes()
            except OSError as error:
                raise _unreadable(kafka, field, error) from None
    # Without a password OpenSSL would ask the terminal for one.
    password = kafka.certificate_password.reveal() or " "
    try:
        context.load_cert_chain(kafka.certificate_file, kafka.certificate_key_file or None, password)
    except ssl.SSLError as error:
        raise UserError(_useless(kafka, error)) from None


def _useless(kafka: Connection, error: ssl.SSLError) -> str:
    """Why a certificate cannot be shown to a broker."""
    group = kafka.setting
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"The key in {group}.certificate_key_file does not belong to the certificate in {group}.certificate_file."
        )
    key = kafka.certificate_key_file or kafka.certificate_file
    if b"ENCRYPTED" in Path(key).read_bytes():
        return f"The private key in {key} cannot be opened: set {group}.certificate_password to its password."
    return (
        f"Setting {group}.certificate_file names {kafka.certificate_file}, from which no certificate with its private "
        f"key can be read: it must be PEM, the key in it or in {group}.certificate_key_file."
    )


def _unreadable(kafka: Connection, field: str, error: OSError) -> UserError:
    name = getattr(kafka, field)
    return UserError(f"Setting {kafka.setting}.{field} names {name}, which cannot be read: {error.strerror}.")
