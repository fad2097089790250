"""Further listeners of an embedded cluster: TLS, accounts and ACLs, to try how clients meet them.

The plain listener of every broker stays: the cluster's own traffic goes there, and whoever uses it may do everything.
Source of the properties: https://kafka.apache.org/documentation/#security .
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
JAAS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "OAUTHBEARER": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule",
}
JWT_VALIDATOR = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"


@dataclass(frozen=True)
class Listener:
    """One more listener of every broker, on a free port of its own."""

    name: str
    """Upper case letters and digits; not PLAINTEXT or CONTROLLER, which are there already."""
    protocol: Protocol
    certificate: Path | None = None
    """For TLS: a PEM file with the private key (PKCS 8, unencrypted) and the certificate."""
    clients: Path | None = None
    """PEM certificates of the authorities one of which must have signed the client's; None asks clients for none."""
    mechanisms: tuple[str, ...] = ()
    """For SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER."""

    def lines(self, security: "Security") -> dict[str, object]:
        """Its lines of `server.properties`."""
        prefix = f"listener.name.{self.name.lower()}."
        lines: dict[str, object] = {}
        if self.certificate is not None:
            lines |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": self.certificate}
        if self.clients is not None:
            lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.clients}
            lines["ssl.client.auth"] = "required"
        if self.mechanisms:
            lines["sasl.enabled.mechanisms"] = ",".join(self.mechanisms)
        for mechanism in self.mechanisms:
            lines |= {f"{mechanism.lower()}.{name}": value for name, value in security.sasl(mechanism).items()}
        return {prefix + name: value for name, value in lines.items()}


@dataclass(frozen=True)
class TokenKeys:
    """Whose tokens OAUTHBEARER takes."""

    jwks_url: str
    """Where the keys that sign tokens are published."""
    issuer: str
    audience: str


@dataclass(frozen=True)
class Security:
    """What a cluster has beside its plain listener."""

    listeners: Sequence[Listener] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    """Name → password, for PLAIN and both kinds of SCRAM."""
    tokens: TokenKeys | None = None
    """Needed for OAUTHBEARER."""
    authorizer: bool = False
    """Whether ACLs decide what a client may do; on the plain listener everything is allowed all the same."""

    def lines(self) -> dict[str, object]:
        """Lines of `server.properties` that do not depend on the broker, save ports."""
        lines: dict[str, object] = {}
        for listener in self.listeners:
            lines |= listener.lines(self)
        if self.tokens is not None:
            lines["sasl.oauthbearer.jwks.endpoint.url"] = self.tokens.jwks_url
            lines["sasl.oauthbearer.expected.issuer"] = self.tokens.issuer
            lines["sasl.oauthbearer.expected.audience"] = self.tokens.audience
        if self.authorizer:
            lines["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            lines["super.users"] = "User:ANONYMOUS"
        return lines

    def sasl(self, mechanism: str) -> dict[str, str]:
        """What a listener must be told of one mechanism."""
        users = "".join(f' user_{name}="{password}"' for name, password in self.users.items())
        module = f"{JAAS[mechanism]} required{users if mechanism == 'PLAIN' else ''};"
        lines = {"sasl.jaas.config": module}
        if mechanism == "OAUTHBEARER":
            lines["sasl.server.callback.handler.class"] = JWT_VALIDATOR
        return lines

    def format_arguments(self) -> list[str]:
        """For Kafka's format tool: SCRAM's users have to be in the metadata before the first start."""
        kinds = sorted({one for it in self.listeners for one in it.mechanisms if one.startswith("SCRAM-")})
        return [
            argument
            for kind in kinds
            for name, password in self.users.items()
            for argument in ("--add-scram", f"{kind}=[name={name},password={password}]")
        ]

    def flags(self) -> list[str]:
        """For the JVM: Kafka asks only the addresses that it was told on the command line for keys."""
        url = self.tokens.jwks_url if self.tokens else ""
        return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={url}"] if url else []
