"""What types cannot say of settings: contradictions between them, and forms of text. Each is one sentence."""

import re
from collections.abc import Mapping

from service.errors import UserError
from service.settings.groups import Settings, Tenant
from service.settings.secret import Secret

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
SHORTEST_KEY = 16  # characters; a clientState key that can be guessed lets anyone in


def check(settings: Settings) -> None:
    """Everything at once, before anything opens. Raises `UserError` with one sentence."""
    parse_delays(settings.retry.delays)
    _check_addresses(settings)
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
    if settings.graph.request_timeout_seconds >= settings.graph.record_deadline_seconds:
        raise UserError("Setting graph.request_timeout_seconds must be below graph.record_deadline_seconds.")


def _check_addresses(settings: Settings) -> None:
    for address in settings.kafka.bootstrap_servers.split(","):
        if not re.fullmatch(r"\s*(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\s*", address):
            raise UserError(f"Setting kafka.bootstrap_servers: {address.strip()!r} is not host:port.")
    url = settings.receiver.public_url
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
    for text in delays:
        match = re.fullmatch(r"([0-9]{1,4})(s|m|h)", text)
        if match is None or int(match.group(1)) == 0:
            raise UserError(f"Setting retry.delays: {text!r} is not a delay such as 30s, 10m or 1h.")
        seconds.append(int(match.group(1)) * {"s": 1.0, "m": 60.0, "h": 3600.0}[match.group(2)])
    if not seconds or seconds != sorted(set(seconds)):
        raise UserError("Setting retry.delays must hold at least one delay, each longer than the one before.")
    return tuple(seconds)
