"""Client assertions: signed tokens with which an application proves who it is, and what Entra finds wrong with them.

Sources: graph-contract 10; https://learn.microsoft.com/entra/identity-platform/certificate-credentials and
https://learn.microsoft.com/entra/workload-id/workload-identity-federation . Needs `cryptography`.
"""

import base64
import functools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from service.emulator.entra import LoginRefusal, invalid_client
from service.emulator.options import Federation

# How far the clocks of the two sides may differ. Seconds; Entra's usual five minutes.
SKEW_SECONDS = 300.0
SHA256 = hashes.SHA256()
PADDINGS: dict[str, padding.AsymmetricPadding] = {
    "RS256": padding.PKCS1v15(),
    "PS256": padding.PSS(mgf=padding.MGF1(SHA256), salt_length=SHA256.digest_size),
}


@dataclass(frozen=True)
class Assertion:
    """A token taken apart, nothing verified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Who says so."""
        return str(self.claims.get("iss", ""))

    @property
    def thumbprint(self) -> str:
        """Of the certificate that it says it is signed with; empty when it names none."""
        return str(self.header.get("x5t#S256") or self.header.get("x5t") or "").rstrip("=")

    @property
    def expires_at(self) -> float:
        """Unix seconds; 0 where it does not say."""
        end = self.claims.get("exp")
        return float(end) if isinstance(end, int | float) else 0.0


def read(text: str) -> Assertion:
    """LoginRefusal when it is no signed token."""
    try:
        head, body, signature = text.split(".")
        header, claims = orjson.loads(_decode(head)), orjson.loads(_decode(body))
        found = Assertion(header, claims, f"{head}.{body}".encode(), _decode(signature))
    except ValueError:
        raise _malformed("it does not have three parts of base64url with JSON") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _malformed("header and claims must be objects")
    if header.get("alg") not in PADDINGS:
        raise _malformed(f"alg must be one of {', '.join(PADDINGS)}")
    return found


def check_own(found: Assertion, client_id: str, certificates: Sequence[str], login: str, now: float) -> str:
    """The `jti` of an assertion that the application signed with one of its certificates; LoginRefusal otherwise."""
    if {found.issuer.lower(), str(found.claims.get("sub")).lower()} != {client_id.lower()}:
        raise invalid_client(700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
    shown = _hex(found.thumbprint)
    certificate = next((one for one in map(_certificate, certificates) if found.thumbprint in _thumbprints(one)), None)
    if certificate is None:
        reason = f"[Reason - The key was not found., Thumbprint of key used by client: '{shown}']"
        raise invalid_client(700027, f"Client assertion contains an invalid signature. {reason}")
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if not start <= now <= end:
        raise invalid_client(1000502, "The provided certificate is not within its specified validity period.")
    if not _is_signed(found, certificate.public_key()):
        reason = "[Reason - The provided signature value did not match the expected signature value., "
        reason += f"Thumbprint of key used by client: '{shown}']"
        raise invalid_client(700027, f"Client assertion contains an invalid signature. {reason}")
    if found.claims.get("aud") not in (f"{login}/oauth2/v2.0/token", f"{login}/v2.0"):
        raise invalid_client(700023, "Client assertion audience claim does not match Realm issuer.")
    _check_times(found, now)
    return str(found.claims.get("jti") or "")


def check_federated(found: Assertion, federations: Sequence[Federation], now: float) -> None:
    """LoginRefusal unless a federated credential of the application accepts the outside token."""
    subject, audiences = found.claims.get("sub"), _list(found.claims.get("aud"))
    same_issuer = [one for one in federations if one.issuer == found.issuer]
    if not same_issuer:
        raise _no_federation(700211, "issuer", found.issuer)
    same_subject = [one for one in same_issuer if one.subject == subject]
    if not same_subject:
        raise _no_federation(700213, "subject", str(subject))
    federation = next((one for one in same_subject if one.audience in audiences), None)
    if federation is None:
        raise _no_federation(700212, "audience", str(audiences))
    public = _public(federation.public_key) if federation.public_key else identity_key().public_key()
    if not _is_signed(found, public):
        raise invalid_client(50013, "Assertion failed signature validation. [Reason - The key was not found.]")
    _check_times(found, now)


def is_certificate(pem: str) -> bool:
    """Whether the text is a certificate in PEM."""
    try:
        _certificate(pem)
    except ValueError:
        return False
    return True


def sign(key: rsa.RSAPrivateKey, claims: dict[str, Any]) -> str:
    """An RS256 token, as an outside issuer makes it."""
    head = _encode(orjson.dumps({"alg": "RS256", "typ": "JWT"}))
    signed = f"{head}.{_encode(orjson.dumps(claims))}"
    return f"{signed}.{_encode(key.sign(signed.encode(), PADDINGS['RS256'], SHA256))}"


def identity_token(root: str, tenant_id: str, client_id: str, audience: str, now: float, seconds: float) -> str:
    """What a managed identity is given for token exchange: issuer `{root}/{tenant id}/v2.0`, subject its client id."""
    claims = {"iss": f"{root}/{tenant_id}/v2.0", "sub": client_id, "aud": audience, "jti": str(uuid.uuid4())}
    return sign(identity_key(), {**claims, "iat": int(now), "nbf": int(now), "exp": int(now + seconds)})


@functools.cache
def identity_key() -> rsa.RSAPrivateKey:
    """The emulator's own issuer key, made once for the process."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _check_times(found: Assertion, now: float) -> None:
    begin = found.claims.get("nbf", 0)
    if isinstance(begin, int | float) and begin - SKEW_SECONDS <= now < found.expires_at + SKEW_SECONDS:
        return
    times = f"Current time: {now:.0f}, assertion valid from {begin}, expiry time of assertion {found.expires_at:.0f}."
    raise invalid_client(700024, f"Client assertion is not within its valid time range. {times}")


def _is_signed(found: Assertion, public: object) -> bool:
    if not isinstance(public, rsa.RSAPublicKey):
        return False
    try:
        public.verify(found.signature, found.signed, PADDINGS[found.header["alg"]], SHA256)
    except InvalidSignature:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


@functools.lru_cache(maxsize=64)
def _public(pem: str) -> object:
    return serialization.load_pem_public_key(pem.encode())


def _thumbprints(certificate: x509.Certificate) -> set[str]:
    """As `x5t#S256` and `x5t` have them."""
    return {_encode(certificate.fingerprint(kind)) for kind in (SHA256, hashes.SHA1())}  # noqa: S303 - an identifier


def _no_federation(number: int, what: str, value: str) -> LoginRefusal:
    message = f"No matching federated identity record found for presented assertion {what} '{value}'. "
    return invalid_client(number, message + "Check your federated identity credential Subject, Audience and Issuer.")


def _malformed(why: str) -> LoginRefusal:
    return invalid_client(50027, f"Invalid JWT token: {why}.")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _hex(thumbprint: str) -> str:
    try:
        return _decode(thumbprint).hex().upper()
    except ValueError:
        return ""


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Base64url with or without its padding; ValueError when it is none."""
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
