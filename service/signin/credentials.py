"""Core: what signing in gives, how it fails, and the words for each refusal.

A sentence names the number of the login's error and what a person can do; never the login's own text, a secret, a
token or an assertion. Source of the numbers:
https://learn.microsoft.com/entra/identity-platform/reference-error-codes .
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from service.outbound.answers import interpret
from service.settings import Tenant

# One request to the login or to a managed identity's endpoint, whole. Seconds.
REQUEST_SECONDS: Final = 10.0
# What is taken of an answer, uncompressed; Entra's have some 2 KB.
MOST_BODY_BYTES: Final = 256 * 1024

Outcome = Literal["throttled", "unauthorized", "error", "timeout", "cut", "refused"]

HINTS: Final = {
    50013: "the signature of the token does not fit its issuer's keys",
    50027: "the assertion is no token that the login takes",
    53003: "a conditional access policy blocks the application",
    70021: "the application trusts no such federated credential: compare issuer, subject and audience",
    90002: "the tenant id is not known to this cloud",
    90033: "the login is temporarily unavailable",
    500011: "Graph's service principal is missing in this tenant",
    700016: "client_id is not known in this tenant: check the id, and that an administrator consented",
    700021: "the certificate or token was made for another client_id",
    700023: "the assertion was made for another login: check graph.cloud and the tenant's id",
    700024: "the assertion is not valid now: check this machine's clock, and that the token file is renewed",
    700027: "the certificate is not one of the application's: upload its public part to the app registration",
    700211: "the application has no federated credential of this issuer: compare them letter by letter",
    700212: "the application has no federated credential for the token's audience",
    700213: "the application has no federated credential for this subject: compare namespace and service account",
    1000502: "the certificate has expired: renew it, and upload its public part to the app registration",
    7000112: "the application is disabled",
    7000214: "the certificate is revoked",
    7000215: "the client_secret is wrong: it must be the secret's value, not its id",
    7000218: "the login saw neither a secret nor an assertion",
    7000222: "the client_secret has expired: make a new one",
    7000229: "client_id has no service principal in this tenant: say az ad sp create --id with it",
    7000274: "the certificate is not within its validity period: check this machine's clock, or renew it",
    7000277: "the certificate is revoked",
    7002138: "the federated credential's subject differs from the token's in upper and lower case",
}


@dataclass(frozen=True)
class Grant:
    """A token as the login gave it."""

    token: str
    life_seconds: float
    """From the moment it was asked for; 0 or less when the login did not say."""


class NoToken(Exception):
    """Signing in failed. The text is a whole sentence for a person."""

    def __init__(
        self,
        sentence: str,
        *,
        is_refusal: bool,
        outcome: Outcome | None = "error",
        retry_after_seconds: float | None = None,
    ) -> None:
        """`is_refusal`: asking again will not help by itself. `outcome` counts the request; None when none was made."""
        super().__init__(sentence)
        self.is_refusal = is_refusal
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


class Login(Protocol):
    """One way to sign in; knows no cache and no waiting."""

    async def grant(self, tenant: Tenant) -> Grant:
        """A new token, asked for now. Raises NoToken. Cancelling it leaves nothing behind."""
        ...

    def stamp(self, tenant: Tenant) -> object:
        """Equal to the last one while the credential's files are unchanged: a refusal holds only so long."""
        ...


class _Refusal(msgspec.Struct):
    error: str = ""
    error_description: str = ""
    error_codes: list[int] = []


_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def check_status(
    status: int, headers: Mapping[str, str], body: bytes, now: float, who: str = "the login", hint: str = ""
) -> None:
    """Raises NoToken for any answer but 200. `hint` ends the sentence of a refusal without a number."""
    meaning = interpret(status, headers, now)
    wait = meaning.retry_after_seconds
    if meaning.kind == "ok":
        return
    if meaning.kind == "throttled":
        sentence = f"There is no token: {who} is throttled."
        raise NoToken(sentence, is_refusal=False, outcome="throttled", retry_after_seconds=wait)
    if meaning.kind == "failed":
        sentence = f"There is no token: {who} answered {status}."
        raise NoToken(sentence, is_refusal=False, retry_after_seconds=wait)
    sentence = refusal_sentence(status, body, who)
    if hint and "AADSTS" not in sentence:
        sentence = f"{sentence.rstrip('.')}: {hint}."
    raise NoToken(sentence, is_refusal=True, outcome="refused" if meaning.kind == "refused" else "unauthorized")


def unreachable(who: str, cause: BaseException, where: str = "") -> NoToken:
    """No connection, or none that may be trusted; `where` ends the sentence. Only the kind of `cause` is shown."""
    kind = type(cause).__name__
    if kind in ("SSLCertVerificationError", "ClientConnectorCertificateError"):
        where = ": nobody whom this machine trusts vouches for its certificate; graph.ca_file may name who does"
    return NoToken(f"There is no token: {who} cannot be reached ({kind}){where}.", is_refusal=False)


def refusal_sentence(status: int, body: bytes, who: str = "the login") -> str:
    """What a person can act on, from the status and body of a refusal."""
    number = refusal_number(body)
    if number is None:
        return f"There is no token: {who} answered {status}."
    hint = HINTS.get(number)
    return f"There is no token: {who} answered AADSTS{number}" + (f", {hint}." if hint else ".")


def refusal_number(body: bytes) -> int | None:
    """The number behind `AADSTS`; None where there is none."""
    try:
        refusal = _REFUSAL.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    found = re.search(r"AADSTS([0-9]{1,9})", refusal.error_description)
    return refusal.error_codes[0] if refusal.error_codes else int(found[1]) if found else None


def checked(token: object, life_seconds: float, who: str = "the login") -> Grant:
    """A grant whose token may stand in a header: one line of visible ASCII. Raises NoToken."""
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise no_token_in(who)
    return Grant(token, life_seconds)


def no_token_in(who: str, kind: str = "") -> NoToken:
    """A good answer without what was asked for. `kind`: the error that somebody else's code met while reading it."""
    return NoToken(f"There is no token: the answer of {who} holds none{kind and f' ({kind})'}.", is_refusal=False)
