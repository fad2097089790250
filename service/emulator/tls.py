"""The emulator's own certificate authority: TLS for its address, and credentials to sign in with.

Made anew at each start; no private key of it ever reaches a disk, save for the moment in which OpenSSL reads one, and
the client certificate that a person asks for. Needs `cryptography`, which comes with azure-identity.
"""

import datetime as dt
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# By the machine's clock, as TLS clients judge it: a machine whose clock is a little behind may connect too.
EARLIER = dt.timedelta(days=1)
LIFE = dt.timedelta(days=30)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
WHO = "callstream emulator"


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows yet."""

    pem: str
    """Its certificate: what a client must trust."""
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def server_context(self, names: Iterable[str] = ()) -> ssl.SSLContext:
        """TLS for this machine's local names and the given ones (host names or addresses)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load(context, self.issue([*LOCAL_NAMES, *names]).encode())
        return context

    def issue(
        self, names: Iterable[str], life: dt.timedelta = LIFE, use: x509.ObjectIdentifier = SERVER, who: str = WHO
    ) -> str:
        """A signed certificate for these host names or addresses with its key, PEM; a negative `life` has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        wanted = [_name(one) for one in dict.fromkeys(names)]
        signed = (
            _builder(who, key.public_key(), self.certificate.subject, life)
            .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_issuer_key(self.certificate), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return (_pem(key) + signed.public_bytes(Encoding.PEM)).decode()


@dataclass(frozen=True)
class ClientCertificate:
    """A self-signed certificate with which an application signs in."""

    public_pem: str
    """What is uploaded to the app registration."""
    whole_pem: str
    """With the private key: what `certificate_file` holds."""


def make_authority() -> Authority:
    """A new authority, good for a month."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder("callstream emulator CA", key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(Encoding.PEM).decode(), key, certificate)


def make_client_certificate(life: dt.timedelta = LIFE, key: rsa.RSAPrivateKey | None = None) -> ClientCertificate:
    """A new one, or one for a given key; a negative `life` gives one that has expired."""
    key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = _builder("callstream", key.public_key(), life=life).sign(key, hashes.SHA256())
    public = certificate.public_bytes(Encoding.PEM)
    return ClientCertificate(public.decode(), (_pem(key) + public).decode())


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """The public half, as `Federation.public_key` takes it."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, kind).decode()


def write_private(path: Path, text: str) -> Path:
    """Writes a file that nobody else may read; the path."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _builder(
    name: str,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: x509.Name | None = None,
    life: dt.timedelta = LIFE,
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = dt.datetime.now(dt.UTC) + life
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(dt.datetime.now(dt.UTC), end) - EARLIER)
        .not_valid_after(end)
    )


def _usage() -> x509.KeyUsage:
    """Of an authority: it signs certificates and lists of revoked ones."""
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    no = dict.fromkeys((*others, "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **no)


def _issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL takes keys from files alone; this one lives in a folder of our own, for that moment."""
    with tempfile.TemporaryDirectory(prefix="callstream-") as folder:
        context.load_cert_chain(write_private(Path(folder) / "server.pem", pem.decode()))


def names_of(hosts: Sequence[str]) -> list[str]:
    """The hosts without those that stand for every address."""
    return [host for host in hosts if host not in ("0.0.0.0", "::")]  # noqa: S104 - only compared
