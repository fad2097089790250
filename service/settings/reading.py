"""`callstream.toml` below environment variables → one frozen `Settings`. The only reader of the environment.

A variable is `CALLSTREAM_` + the path in upper case with `__` between levels: `kafka.bootstrap_servers` is
`CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS`, the id of tenant `contoso` is `CALLSTREAM_TENANTS__CONTOSO__ID`. A variable that
ends in `_FILE` names a file that holds the value (for secrets). Lists are comma-separated.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from service.errors import UserError
from service.settings.checks import check
from service.settings.groups import Credential, Settings
from service.settings.secret import Secret

PREFIX = "CALLSTREAM_"
# Settings of the process itself rather than of `Settings`: read by `load` alone.
CONFIG_FILE_VARIABLE = "CALLSTREAM_CONFIG"
# Settings whose own name ends in `_file`: their value is the path, not what the file holds.
PATH_SETTINGS = frozenset(
    {
        "ca_file",
        "certificate_file",
        "certificate_key_file",
        "client_secret_file",
        "federated_token_file",
        "oauth_token_file",
    }
)
# What the workload identity webhook of Kubernetes sets in a pod, and the tenant's setting that it stands for.
# Source: https://learn.microsoft.com/azure/aks/workload-identity-overview . The login host is `graph.cloud`'s affair.
WORKLOAD_IDENTITY = {
    "AZURE_TENANT_ID": "id",
    "AZURE_CLIENT_ID": "client_id",
    "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
}

# Groups that say how a Kafka is reached, and their names of the same three settings.
CONNECTIONS = ("kafka", "event_hub")
HUB_PORT = 9093  # https://learn.microsoft.com/azure/event-hubs/azure-event-hubs-apache-kafka-overview
OAUTH_NAMES = {"id": "oauth_tenant_id", "client_id": "oauth_client_id", "federated_token_file": "oauth_token_file"}


def load(environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """Settings from a TOML file and the environment above it.

    The file is the argument, else `CALLSTREAM_CONFIG`, else ./callstream.toml if it is there.

    Raises `UserError` with one sentence for an unknown name, a wrong value, an unreadable file or a contradiction.
    """
    try:
        return _load(environ, config_file)
    except RecursionError:
        raise UserError("The settings are nested too deep to be any; docs/settings.md lists them all.") from None


def _load(environ: Mapping[str, str], config_file: Path | None) -> Settings:
    path = config_file or _config_path(environ)
    tree = _read_toml(path) if path else {}
    _refuse_nul(tree, "")
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name != CONFIG_FILE_VARIABLE:
            _place(tree, name, value)
    _prepare_tenants(tree, environ)
    _prepare_kafka(tree, environ)
    _prepare_hub(tree)
    try:
        settings = msgspec.convert(tree, Settings, strict=False, dec_hook=_secret)
    except msgspec.ValidationError as exc:
        raise UserError(f"Setting {_where(str(exc))}.") from None
    check(settings)
    return settings


def _config_path(environ: Mapping[str, str]) -> Path | None:
    if given := environ.get(CONFIG_FILE_VARIABLE):
        return Path(given)
    default = Path("callstream.toml")
    return default if default.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UserError(f"The settings file {path} cannot be read: {exc.strerror}.") from None
    except RecursionError:
        raise UserError(f"The settings file {path} is nested too deep to hold settings.") from None
    except ValueError as exc:  # no TOML, no UTF-8, or a number with more digits than Python reads
        raise UserError(f"The settings file {path} is not TOML: {exc}.") from None


def _refuse_nul(node: Any, place: str) -> None:
    """TOML can write a NUL where no path, header or password may have one."""
    if isinstance(node, dict):
        for name, value in node.items():
            _refuse_nul(value, f"{place}.{name}" if place else name)
    elif isinstance(node, list):
        for value in node:
            _refuse_nul(value, place)
    elif isinstance(node, str) and "\0" in node:
        raise UserError(f"Setting {place} holds a NUL character.")


def _place(tree: dict[str, Any], name: str, value: str) -> None:
    """Puts one environment variable at its place in the tree of settings."""
    path = name.removeprefix(PREFIX).lower().split("__")
    if path[-1].endswith("_file") and path[-1] not in PATH_SETTINGS:
        path[-1] = path[-1].removesuffix("_file")
        value = _read_secret(name, value)
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"{name} goes deeper than the setting it names.")
    node[path[-1]] = [item.strip() for item in value.split(",")] if path == ["retry", "delays"] else value


def _prepare_tenants(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Gives tenants what stands elsewhere: the secret in its file, and with `workload-identity` the pod's variables.

    Raises UserError for an unknown kind, with the known ones, which the conversion would not name.
    """
    tenants = tree.get("tenants")
    for name, tenant in tenants.items() if isinstance(tenants, dict) else ():
        credential = tenant.get("credential", "client-secret") if isinstance(tenant, dict) else "client-secret"
        if credential not in get_args(Credential):
            known = ", ".join(get_args(Credential))
            raise UserError(f"Setting tenants.{name}.credential must be one of {known}.")
        if isinstance(tenant, dict) and (secret_file := tenant.get("client_secret_file")):
            tenant["client_secret"] = _read_secret(f"Setting tenants.{name}.client_secret_file", str(secret_file))
        if credential == "workload-identity":
            for variable, setting in WORKLOAD_IDENTITY.items():
                if variable in environ:
                    tenant.setdefault(setting, environ[variable])


def _prepare_kafka(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """With `workload-identity`: what the pod's variables say and the settings do not."""
    for group in (tree.get(name) for name in CONNECTIONS):
        if isinstance(group, dict) and group.get("oauth_credential") == "workload-identity":
            for variable, setting in WORKLOAD_IDENTITY.items():
                if variable in environ:
                    group.setdefault(OAUTH_NAMES[setting], environ[variable])


def _prepare_hub(tree: dict[str, Any]) -> None:
    """The Kafka endpoint of a namespace, where no other is named."""
    hub = tree.get("event_hub")
    if isinstance(hub, dict) and not hub.get("bootstrap_servers") and (namespace := hub.get("namespace")):
        hub["bootstrap_servers"] = f"{namespace}:{HUB_PORT}"


def _read_secret(name: str, file_name: str) -> str:
    try:
        return Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        # Not its name: whoever put the secret itself here would find it in a log.
        why = f" ({exc.strerror})" if isinstance(exc, OSError) else ""
        raise UserError(f"{name} names a file that cannot be read as text{why}.") from None


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str | Secret):
        return value if isinstance(value, Secret) else Secret(value)
    raise ValueError("must be text, which stands in quotes in TOML")


def _choices(place: str) -> str:
    """The values that a setting may have, of those that stand in no dict; empty where it is free."""
    group: Any = Settings
    for part in place.split("."):
        hints = get_type_hints(group) if isinstance(group, type) else {}
        group = hints.get(part)
    return ", ".join(str(one) for one in get_args(group))


def _where(message: str) -> str:
    """`Expected `int`, got `str` - at `$.kafka.partitions`` → `kafka.partitions: expected int, got str`.

    Never the value: it may be a secret that was put into the wrong setting.
    """
    text, _, path = message.partition(" - at `$.")
    found = re.search(r"unknown field `(\w+)`", text)
    place = path.rstrip("`") or "at the top"
    if text.startswith("Invalid enum value") and (choices := _choices(place)):
        return f"{place}: must be one of {choices}"
    if found:
        parent = path.rstrip("`") + "." if path else ""
        return f"{parent}{found.group(1)} is not known; docs/settings.md lists them all"
    return f"{place}: {text[0].lower()}{text[1:].replace('`', '')}"
