"""What types cannot say of settings: contradictions between them, and forms of text. Each is one sentence."""

import re
from collections.abc import Iterable, Mapping

from service.errors import UserError
from service.settings.groups import Settings, Tenant
from service.settings.kafka import Connection, EventHub
from service.settings.secret import Secret

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
SHORTEST_KEY = 16  # characters; a clientState key that can be guessed lets anyone in
TLS_SETTINGS = ("ca_file", "certificate_file", "certificate_key_file", "certificate_password")
NAME_AND_PASSWORD = ("sasl_username", "sasl_password")
OAUTH = (
    "oauth_token_url",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "oauth_extensions",
    "oauth_tenant_id",
    "oauth_token_file",
)
ADDRESS = re.compile(r"\s*(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})\s*", re.ASCII)
TOKEN_URL = re.compile(
    r"https://[^\s/?#]+[^\s#]*|http://(localhost|127\.[0-9.]+|\[::1\]|[a-z][a-z0-9-]*)(:[0-9]+)?/[^\s#]*"
)


def check(settings: Settings) -> None:
    """Everything at once, before anything opens. Raises `UserError` with one sentence."""
    parse_delays(settings.retry.delays)
    check_connection(settings.kafka)
    _check_hub(settings.event_hub)
    _check_public_url(settings.receiver.public_url)
    _check_tenants(settings.tenants)
    _check_keys("client_state", settings.client_state.keys)
    _check_keys("privacy", settings.privacy.keys)
    hashed = [name for name, treatment in settings.privacy.treatments().items() if treatment == "hash"]
    if hashed and not settings.privacy.keys:
        raise UserError(
            f"Setting privacy.{hashed[0]} is hash, and there is no key to hash with: "
            "set CALLSTREAM_PRIVACY__KEYS__1 to a long random text."
        )
    if settings.graph.cloud == "custom" and not (settings.graph.root_url and settings.graph.login_url):
        raise UserError("Setting graph.cloud is custom, so graph.root_url and graph.login_url must be set.")
    if settings.lanes.held_bytes < settings.lanes.bytes_in_flight:
        raise UserError("Setting lanes.held_bytes must be at least lanes.bytes_in_flight, which it includes.")
    if settings.graph.request_timeout_seconds >= settings.graph.record_deadline_seconds:
        raise UserError("Setting graph.request_timeout_seconds must be below graph.record_deadline_seconds.")


def check_connection(kafka: Connection) -> None:
    """One Kafka's addresses, and that no setting of its security is there in vain or missing."""
    for number, address in enumerate(kafka.bootstrap_servers.split(","), start=1):
        found = ADDRESS.fullmatch(address)
        if not found or not 1 <= int(found["port"]) <= 65535:
            # Not the address itself: somebody may have put a user and a password into it.
            raise UserError(
                f"Setting {kafka.setting}.bootstrap_servers: address {number} is not host:port, with a port from 1 to "
                "65535 and nothing else."
            )
    protocol = kafka.security_protocol
    if not protocol.endswith("SSL"):
        _refuse(kafka, TLS_SETTINGS, f"security_protocol is {protocol}: set it to {protocol_with_tls(protocol)}")
    elif kafka.certificate_key_file and not kafka.certificate_file:
        raise UserError(
            f"Setting {kafka.setting}.certificate_key_file needs {kafka.setting}.certificate_file beside it."
        )
    if not protocol.startswith("SASL"):
        _refuse(kafka, (*NAME_AND_PASSWORD, *OAUTH), f"security_protocol is {protocol}: set it to SASL_{protocol}")
    elif kafka.sasl_mechanism == "OAUTHBEARER":
        _refuse(kafka, NAME_AND_PASSWORD, "sasl_mechanism is OAUTHBEARER: set it to PLAIN or SCRAM-SHA-512")
        _check_oauth(kafka)
    else:
        _refuse(kafka, OAUTH, f"sasl_mechanism is {kafka.sasl_mechanism}: set it to OAUTHBEARER")
        _demand(kafka, NAME_AND_PASSWORD, f"sasl_mechanism is {kafka.sasl_mechanism}")


def _check_hub(hub: EventHub) -> None:
    """All of it or nothing."""
    if not hub.hub:
        lone = ("namespace", "tenant_domain", "bootstrap_servers", *TLS_SETTINGS, *NAME_AND_PASSWORD, *OAUTH)
        _refuse(hub, lone, "hub is not set: set it")
        return
    _demand(hub, ("namespace", "tenant_domain"), "hub is set")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}", hub.hub):
        raise UserError("Setting event_hub.hub must be letters, digits, dots, dashes and underscores.")
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", hub.namespace):
        raise UserError("Setting event_hub.namespace must be a host name such as calls.servicebus.windows.net.")
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", hub.tenant_domain):
        raise UserError("Setting event_hub.tenant_domain must be a domain such as contoso.com, or a directory's id.")
    check_connection(hub)


def protocol_with_tls(protocol: str) -> str:
    """`PLAINTEXT` → `SSL`, `SASL_PLAINTEXT` → `SASL_SSL`."""
    return protocol.replace("PLAINTEXT", "SSL")


def _check_oauth(kafka: Connection) -> None:
    kind = kafka.oauth_credential
    needed = {
        "client-secret": ("oauth_token_url", "oauth_client_id", "oauth_client_secret"),
        "workload-identity": ("oauth_client_id", "oauth_tenant_id", "oauth_token_file", "oauth_scope"),
        "managed-identity": ("oauth_scope",),
    }
    _demand(kafka, needed[kind], f"oauth_credential is {kind}")
    if kafka.oauth_token_url and not TOKEN_URL.fullmatch(kafka.oauth_token_url):
        raise UserError(
            f"Setting {kafka.setting}.oauth_token_url must begin with https, because secrets go there; "
            "http is for this machine and for a host name without a dot."
        )
    for pair in kafka.oauth_extensions.split(",") if kafka.oauth_extensions else ():
        name, _, value = pair.strip().partition("=")
        if not re.fullmatch(r"[A-Za-z]+", name) or name == "auth" or not re.fullmatch(r"[\x21-\x7e ]+", value):
            raise UserError(f"Setting {kafka.setting}.oauth_extensions must be pairs such as logicalCluster=lkc-1.")


def _refuse(kafka: Connection, fields: Iterable[str], why: str) -> None:
    """Whoever set one of these believes that it holds."""
    for field in fields:
        if getattr(kafka, field):
            group = kafka.setting
            raise UserError(f"Setting {group}.{field} has no effect while {group}.{why}, or remove it.")


def _demand(kafka: Connection, fields: Iterable[str], why: str) -> None:
    missing = [f"{kafka.setting}.{field}" for field in fields if not getattr(kafka, field)]
    if missing:
        raise UserError(f"Setting {kafka.setting}.{why}, so {' and '.join(missing)} must be set.")


def _check_public_url(url: str) -> None:
    if url and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise UserError("Setting receiver.public_url must be a URL such as https://calls.example.com, without a query.")


def _check_keys(group: str, keys: Mapping[str, Secret]) -> None:
    for number, key in keys.items():
        place = f"Setting {group}.keys.{number}"
        if not re.fullmatch(r"[1-9][0-9]{0,3}", number):
            raise UserError(f"{place}: a key's name must be a number from 1 to 9999.")
        if len(key.reveal()) < SHORTEST_KEY:
            raise UserError(f"{place} must have at least {SHORTEST_KEY} characters.")


def _check_tenants(tenants: Mapping[str, Tenant]) -> None:
    for name, tenant in tenants.items():
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
            raise UserError(f"Tenant name {name!r} must be 1 to 40 of a-z, 0-9, - and _: it becomes a metric label.")
        if not GUID.fullmatch(tenant.id):
            raise UserError(f"Setting tenants.{name}.id must be the tenant's GUID.")
        if not tenant.client_id and tenant.credential != "managed-identity":
            raise UserError(f"Setting tenants.{name}.client_id must be the app registration's application (client) id.")
    ids = [tenant.id.lower() for tenant in tenants.values()]
    if len(set(ids)) < len(ids):
        raise UserError("Two tenants have the same id.")


def parse_delays(delays: tuple[str, ...]) -> tuple[float, ...]:
    """`("1m", "10m", "1h")` → seconds (60.0, 600.0, 3600.0); `UserError` when one is no delay or they do not grow."""
    seconds = []
    for number, text in enumerate(delays, start=1):
        match = re.fullmatch(r"([0-9]{1,4})(s|m|h)", text)
        if match is None or int(match.group(1)) == 0:
            raise UserError(f"Setting retry.delays: delay {number} is not a delay such as 30s, 10m or 1h.")
        seconds.append(int(match.group(1)) * {"s": 1.0, "m": 60.0, "h": 3600.0}[match.group(2)])
    if not seconds or seconds != sorted(set(seconds)):
        raise UserError("Setting retry.delays must hold at least one delay, each longer than the one before.")
    return tuple(seconds)
