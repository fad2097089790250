"""Which Graph is asked: a closed table, and custom addresses that cannot leak a secret."""

import pytest

from service.errors import UserError
from service.settings import Graph
from service.signin.clouds import CLOUDS, endpoints


def custom(root: str, login: str = "https://login.example.com") -> Graph:
    return Graph(cloud="custom", root_url=root, login_url=login)


@pytest.mark.parametrize(
    ("cloud", "root", "login", "audience"),
    [
        ("global", "https://graph.microsoft.com", "https://login.microsoftonline.com", ""),
        ("usgov-l4", "https://graph.microsoft.us", "https://login.microsoftonline.us", "USGov"),
        ("usgov-l5", "https://dod-graph.microsoft.us", "https://login.microsoftonline.us", "USGov"),
    ],
)
def test_each_cloud_has_its_own_root_login_scope_and_audience(cloud: str, root: str, login: str, audience: str) -> None:
    """Tokens are not valid across clouds (graph-contract 10)."""
    found = endpoints(Graph(cloud=cloud))

    assert (found.root_url, found.login_url, found.scope) == (root, login, f"{root}/.default")
    assert found.assertion_audience == f"api://AzureADTokenExchange{audience}"
    assert not found.is_custom


def test_the_table_of_clouds_is_closed() -> None:
    """The clouds that have call records, and no other (graph-contract 10)."""
    assert set(CLOUDS) == {"global", "usgov-l4", "usgov-l5"}
    assert endpoints(custom("https://graph.example.com")).is_custom


@pytest.mark.parametrize("name", ["root_url", "login_url"])
def test_an_address_beside_a_named_cloud_is_refused(name: str) -> None:
    """It would not be used, and somebody believes that it is."""
    with pytest.raises(UserError, match=rf"graph\.{name} is for graph\.cloud = custom alone"):
        endpoints(Graph(cloud="usgov-l4", **{name: "https://graph.example.com"}))


@pytest.mark.parametrize("cloud", ["china", "21vianet", "China"])
def test_the_cloud_without_call_records_is_refused_with_the_reason(cloud: str) -> None:
    """It exists, so a person may well write it down."""
    with pytest.raises(UserError, match="no call records"):
        endpoints(Graph(cloud=cloud))


def test_an_unknown_cloud_is_refused_with_the_known_ones() -> None:
    """One sentence that says what to change."""
    with pytest.raises(UserError, match=", ".join(CLOUDS)):
        endpoints(Graph(cloud="gobal"))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://graph.example.com/", "https://graph.example.com"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("http://127.8.9.10:1", "http://127.8.9.10:1"),
        ("http://localhost:8090/", "http://localhost:8090"),
        ("http://[::1]:8090", "http://[::1]:8090"),
        ("http://emulator:8090", "http://emulator:8090"),
        ("HTTPS://Graph.Example.COM:8443", "https://graph.example.com:8443"),
    ],
)
def test_a_custom_root_is_scheme_host_and_port(given: str, meant: str) -> None:
    """http is for this machine and for a service of the same composition."""
    assert endpoints(custom(given)).root_url == meant


@pytest.mark.parametrize(
    "root",
    [
        "",
        "graph.example.com",
        "ftp://graph.example.com",
        "https://",
        "https://graph.example.com/v1.0",
        "https://graph.example.com?x=1",
        "https://user@graph.example.com",
        "https://graph.example.com:port",
        "http://graph.example.com",
        "http://10.0.0.1:8090",
        "http://[fe80::1]:8090",
        "http://2130706433",
        "http://0x7f000001",
        "https://graph.example.com\\@evil.example.com",
    ],
)
def test_any_other_custom_root_is_refused(root: str) -> None:
    """A secret sent in the clear, or to a surprising place, is a secret lost."""
    with pytest.raises(UserError, match=r"graph\.root_url"):
        endpoints(custom(root))


def test_the_login_is_held_to_the_same_rule() -> None:
    """The client secret goes there."""
    with pytest.raises(UserError, match=r"graph\.login_url"):
        endpoints(custom("https://graph.example.com", "http://login.example.com"))
