"""How a Kafka is reached, and what the topics there are called: frozen structs like those in `groups`."""

from typing import Annotated, ClassVar, Literal

import msgspec

from service.settings.base import Group, Positive
from service.settings.secret import Secret

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
TokenCredential = Literal["client-secret", "workload-identity", "managed-identity"]


class Connection(Group, frozen=True):
    """Where brokers are, and how one shows them who one is (docs/kafka-security.md)."""

    setting: ClassVar[str]
    """The group's name, for sentences that say what to change."""
    bootstrap_servers: str
    """Comma-separated host:port list."""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    """Kafka's own name of what the listener at these addresses speaks: TLS or not, accounts or not."""
    ca_file: str = ""
    """For TLS: path of the PEM certificates that are trusted in place of the system's."""
    certificate_file: str = ""
    """For TLS with a client certificate: path of its PEM file; a renewed file is used from the next connection on."""
    certificate_key_file: str = ""
    """Path of the private key (PEM), where it does not stand in `certificate_file`."""
    certificate_password: Secret = Secret("")
    """Password of the private key."""
    sasl_mechanism: Mechanism = "PLAIN"
    """For SASL: how one shows who one is; `OAUTHBEARER` takes `oauth_…`, the others name and password."""
    sasl_username: str = ""
    """For PLAIN and SCRAM."""
    sasl_password: Secret = Secret("")
    """For PLAIN and SCRAM."""
    oauth_credential: TokenCredential = "client-secret"
    """For OAUTHBEARER: where tokens come from. `client-secret` asks `oauth_token_url`; the others ask Microsoft Entra
    and need the extra `azure`."""
    oauth_token_url: str = ""
    """For `client-secret`: the token endpoint of any OAuth 2 login (client credentials grant)."""
    oauth_client_id: str = ""
    """Client id; with `managed-identity` that of a user-assigned identity, empty for the system-assigned one."""
    oauth_client_secret: Secret = Secret("")
    """For `client-secret`."""
    oauth_scope: str = ""
    """The scope that is asked for; for Event Hubs `https://<namespace>.servicebus.windows.net/.default`."""
    oauth_extensions: str = ""
    """SASL extensions sent with the token: comma-separated `name=value`, as some hosted Kafkas want them."""
    oauth_tenant_id: str = ""
    """For `workload-identity`: the directory's id; with the two beside it taken from the pod where not set."""
    oauth_token_file: str = ""
    """For `workload-identity`: path of the pod's own token."""
    request_timeout_seconds: Positive = 20.0
    """How long one request to a broker may take."""


class EventHub(Connection, frozen=True):
    """An event hub that Graph writes notifications into, read through its Kafka endpoint in place of the public site
    (docs/event-hubs.md). Without `hub` there is none."""

    setting: ClassVar[str] = "event_hub"
    hub: str = ""
    """The hub's name."""
    namespace: str = ""
    """Host name of its namespace, for instance calls.servicebus.windows.net."""
    tenant_domain: str = ""
    """Domain or id of the directory that the namespace's subscription belongs to, for instance contoso.com."""
    consumer_group: str = "$Default"
    """Shared by all replicas; nothing else may read with it."""
    bootstrap_servers: str = ""
    """Comma-separated host:port list; empty takes port 9093 of the namespace."""
    security_protocol: SecurityProtocol = "SASL_SSL"
    session_timeout_seconds: Positive = 30.0
    """How long a dead reader holds its partitions; Event Hubs takes 6 to 300."""

    @property
    def url(self) -> str:
        """What a subscription names as its notificationUrl (graph-contract 5, the form with roles)."""
        return f"EventHub:https://{self.namespace}/eventhubname/{self.hub}?tenantId={self.tenant_domain}"


class Kafka(Connection, frozen=True):
    """Where Kafka is, how to sign in there (docs/kafka-security.md), and what the topics are called."""

    setting: ClassVar[str] = "kafka"
    bootstrap_servers: str = "127.0.0.1:9092"
    topic_prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "callrecords"
    """Begins every topic name, the group ids and the transactional ids."""
    partitions: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 12
    """Partitions of every per-call topic, and so the number of lanes. Growing it means a new prefix."""
    replication_factor: Annotated[int, msgspec.Meta(ge=-1, le=32_767)] = -1
    """For topics that `serve` or `topics` creates; -1 takes the broker's default."""
    create_topics: bool = True
    """Whether `serve` creates missing topics."""
    delivery: Literal["exactly-once", "at-least-once"] = "exactly-once"
    """`at-least-once` is for brokers without transactions: events may repeat, with the same id (docs/operations.md).
    The same for all processes of a deployment; changed only while all of them are stopped."""
    session_timeout_seconds: Positive = 10.0
    """How long a dead worker holds its lanes."""
