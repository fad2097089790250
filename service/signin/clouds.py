"""Core: the Graph clouds that have call records, as a closed table, and the addresses that settings choose from it.

Source: graph-contract 10; https://learn.microsoft.com/graph/deployments .
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from service.errors import UserError
from service.settings import Graph


@dataclass(frozen=True)
class Endpoints:
    """Where to ask. Neither address ends in a slash; paths begin with one."""

    root_url: str
    """Scheme and host of Graph; `/v1.0/…` follows."""
    login_url: str
    """Scheme and host of the login; `/{tenant id}/oauth2/v2.0/token` follows."""
    scope: str
    """What a token is asked for."""
    assertion_audience: str = "api://AzureADTokenExchange"
    """Whom an outside token must be made out to before the login exchanges it (graph-contract 10, federation)."""
    is_custom: bool = False
    """Whether these are addresses of the settings rather than of the table: no Microsoft host vouches for them."""


@dataclass(frozen=True)
class Cloud:
    """One cloud that has call records."""

    login_url: str
    root_url: str
    assertion_audience: str


# GCC is part of the global cloud. Tokens are not valid across clouds, so nothing here may be mixed.
CLOUDS: Final = {
    "global": Cloud("https://login.microsoftonline.com", "https://graph.microsoft.com", "api://AzureADTokenExchange"),
    "usgov-l4": Cloud(
        "https://login.microsoftonline.us", "https://graph.microsoft.us", "api://AzureADTokenExchangeUSGov"
    ),
    "usgov-l5": Cloud(
        "https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "api://AzureADTokenExchangeUSGov"
    ),
}
WITHOUT_CALL_RECORDS: Final = ("china", "21vianet")
# A name without a dot: a service of the same compose file or namespace. It begins with a letter, since `2130706433` and
# `0x7f000001` are addresses in disguise.
_ONE_LABEL: Final = re.compile(r"[a-z](?:[a-z0-9_-]*[a-z0-9])?", re.IGNORECASE)


def endpoints(graph: Graph) -> Endpoints:
    """The addresses of the configured cloud. Raises UserError for a cloud that is unknown or has no call records."""
    if graph.cloud == "custom":
        root, login = _custom("root_url", graph.root_url), _custom("login_url", graph.login_url)
        return Endpoints(root, login, f"{root}/.default", is_custom=True)
    if cloud := CLOUDS.get(graph.cloud):
        _refuse_addresses(graph)
        return Endpoints(cloud.root_url, cloud.login_url, f"{cloud.root_url}/.default", cloud.assertion_audience)
    if graph.cloud.lower() in WITHOUT_CALL_RECORDS:
        raise UserError(
            f"Setting graph.cloud is {graph.cloud!r}: the cloud in China, operated by 21Vianet, has no call records."
        )
    raise UserError(f"Setting graph.cloud must be one of {', '.join(CLOUDS)} or custom.")


def _refuse_addresses(graph: Graph) -> None:
    """An address that would not be used: whoever set it believes to be speaking to another host."""
    for name in ("root_url", "login_url"):
        if getattr(graph, name):
            raise UserError(
                f"Setting graph.{name} is for graph.cloud = custom alone, and graph.cloud is {graph.cloud}: remove one."
            )


def _custom(name: str, text: str) -> str:
    """An address as scheme and host, in lower case; UserError when it is anything else."""
    setting = f"Setting graph.{name}"
    try:
        parts = urlsplit(text.strip().rstrip("/"))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in ("http", "https"):
        raise UserError(f"{setting} must be an address such as https://graph.example.com or http://127.0.0.1:8090.")
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc or "\\" in text:
        raise UserError(f"{setting} must be scheme, host and port alone, without a path such as /v1.0.")
    if parts.scheme == "http" and not _may_be_plain(host):
        raise UserError(
            f"{setting} must begin with https, because secrets and tokens go there; "
            "http is for this machine and for a host name without a dot."
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


def _may_be_plain(host: str) -> bool:
    """Whether http may be used: nobody else hears what stays on this machine or in a network of containers.

    A host name without a dot is resolved inside such a network; on the internet there is none.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return _ONE_LABEL.fullmatch(host) is not None
