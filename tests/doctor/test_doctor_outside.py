"""Broken on the way from Graph to the receiver: settings, name, port, certificate, handshake. Each set-up is made for
real, and the first line that is not ok names it.
"""

from urllib.parse import unquote

import pytest
from aiohttp import web

from service.doctor.finding import Finding
from tests.doctor.page import check
from tests.doctor.scene import Made, Scene, front, intermediate, new_authority, root_authority, site

WRONG_SETTINGS = (
    ("A setting that does not exist", {"kafka__partition": "3"}, "kafka.partition is not known"),
    ("No clientState key", {"client_state__keys__1": None}, "CALLSTREAM_CLIENT_STATE__KEYS__1"),
    ("A cloud without call records", {"graph__cloud": "china"}, "has no call records"),
    ("A tenant without its secret", {"tenants__contoso__client_secret": None}, "Tenant contoso has no client secret"),
)
WRONG_URLS = (
    ("No public URL", {"receiver__public_url": None}, "receiver.public_url is not set"),
    ("A public URL with http", {"receiver__public_url": "http://calls.example.com"}, "https addresses alone"),
    (
        "A public URL whose name does not resolve",
        {"receiver__public_url": "https://calls.example.invalid"},
        "calls.example.invalid does not resolve",
    ),
)


@pytest.mark.parametrize(("set_up", "changes", "named"), WRONG_SETTINGS, ids=[one[0] for one in WRONG_SETTINGS])
async def test_a_wrong_setting_is_the_first_line(
    scene: Scene, set_up: str, changes: dict[str, str | None], named: str
) -> None:
    """In the words with which `serve` would end."""
    found = await scene.first(**changes)

    is_broken(found, "settings", named)
    check(set_up, found)


@pytest.mark.parametrize(("set_up", "changes", "named"), WRONG_URLS, ids=[one[0] for one in WRONG_URLS])
async def test_a_wrong_public_url_is_named(
    scene: Scene, set_up: str, changes: dict[str, str | None], named: str
) -> None:
    """Before anything is asked over the network."""
    found = await scene.first(**changes)

    is_broken(found, "public url", named)
    check(set_up, found)


async def test_nobody_listens_at_the_public_url(scene: Scene) -> None:
    """No receiver, or nothing leads to it."""
    async with front(None) as url:
        pass
    found = await scene.first(receiver__public_url=url)

    is_broken(found, "public url", "the connection is refused")
    check("Nothing listens at the public URL", found)


async def test_this_machine_s_own_address_is_none_for_graph(scene: Scene) -> None:
    """What an emulator reaches, Graph does not."""
    changes = {"graph__cloud": "global", "graph__root_url": None, "graph__login_url": None, "graph__ca_file": None}
    found = await scene.first(**changes)

    is_broken(found, "public url", "127.0.0.1 is this machine's own address")
    check("A public URL on this machine, and the real Graph", found)


CERTIFICATES = (
    ("An expired certificate", Made(begins_days=-90, ends_days=-3), "has expired on"),
    ("A certificate that is not valid yet", Made(begins_days=2), "is not valid yet"),
    (
        "A certificate for another name",
        Made(names=("calls.example.com",)),
        "not for localhost but for calls.example.com",
    ),
)


@pytest.mark.parametrize(("set_up", "made", "named"), CERTIFICATES, ids=[one[0] for one in CERTIFICATES])
async def test_a_wrong_certificate_is_named(scene: Scene, set_up: str, made: Made, named: str) -> None:
    """Of a trusted authority, and wrong all the same."""
    async with front(made.context(root_authority())) as url:
        found = await scene.first(receiver__public_url=url)

    is_broken(found, "certificate", named)
    check(set_up, found)


async def test_a_self_signed_certificate_is_named(scene: Scene) -> None:
    """Graph trusts public authorities alone."""
    async with front(Made().context(None)) as url:
        found = await scene.first(receiver__public_url=url)

    is_broken(found, "certificate", "signed by itself")
    check("A self-signed certificate", found)


async def test_a_missing_intermediate_is_named(scene: Scene) -> None:
    """The commonest of all: browsers fetch it by themselves, Graph does not."""
    between = intermediate()
    async with front(Made().context(between)) as url:
        found = await scene.first(receiver__public_url=url)
    async with front(Made().context(between, chain=between.pem)) as url:
        whole = await scene.line("certificate", receiver__public_url=url)

    is_broken(found, "certificate", "sends its certificate alone")
    assert "callstream intermediate" in found.seen
    assert whole.status == "ok"
    check("A chain without its intermediate certificate", found)


async def test_an_unknown_authority_is_named(scene: Scene) -> None:
    """With its whole chain: nobody here knows the root."""
    stranger = new_authority("Example Corp CA")
    async with front(Made().context(stranger, chain=stranger.pem)) as url:
        found = await scene.first(receiver__public_url=url)

    is_broken(found, "certificate", "an authority that is not known here")
    check("A certificate of an unknown authority", found)


async def test_a_port_without_tls_is_named(scene: Scene) -> None:
    """callstream itself speaks plain http: somebody else must end TLS."""
    found = await scene.first(receiver__public_url=scene.url.replace("http://", "https://"))

    is_broken(found, "certificate", "does not speak TLS")
    check("An https URL that leads to plain http", found)


async def test_a_certificate_that_ends_soon_is_a_warning(scene: Scene) -> None:
    """Renewal has failed when a third of its life is over and nobody did it."""
    receiver = scene.url.removeprefix("http://")
    async with front(Made(begins_days=-80, ends_days=5).context(root_authority()), receiver) as url:
        found = await scene.first(receiver__public_url=url)

    assert (found.link, found.status) == ("certificate", "warn")
    assert "ends in 5 days" in found.seen
    check("A certificate that ends in 5 days", found)


async def test_a_healthy_front_is_ok_up_to_the_handshake(scene: Scene) -> None:
    """TLS ends before callstream, as behind an ingress."""
    receiver = scene.url.removeprefix("http://")
    async with front(Made().context(root_authority()), receiver) as url:
        found = await scene.walk(receiver__public_url=url)

    assert [line(found, link).status for link in ("public url", "certificate", "handshake")] == ["ok"] * 3
    assert line(found, "subscription").status == "broken"  # Graph still posts to the old address


async def bad_gateway(_: web.Request) -> web.StreamResponse:
    return web.Response(status=502, text="<html><h1>502 Bad Gateway</h1>", content_type="text/html")


async def to_login(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("https://login.example.com/oauth2/start")


async def asks_for_login(_: web.Request) -> web.StreamResponse:
    return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})


async def web_page(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html><title>Welcome to nginx!</title>", content_type="text/html")


async def not_forwarded(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="not found")


async def decodes_twice(request: web.Request) -> web.StreamResponse:
    return web.Response(text=unquote(request.query["validationToken"].replace("+", " ")))


async def as_json(request: web.Request) -> web.StreamResponse:
    return web.Response(text=request.query["validationToken"], content_type="application/json")


FRONTS = (
    ("A proxy that does not reach callstream", bad_gateway, "502: a proxy stands there"),
    ("A redirect to a login page", to_login, "a redirect to https://login.example.com"),
    ("A login in front of callstream", asks_for_login, "401"),
    ("Another site at the public URL", web_page, "a web page"),
    ("A path that is not forwarded", not_forwarded, "404"),
    ("A proxy that decodes the query twice", decodes_twice, "gives the validation token back changed"),
    ("A proxy that changes the content type", as_json, "application/json where Graph wants text/plain"),
)


@pytest.mark.parametrize(("set_up", "answer", "named"), FRONTS, ids=[one[0] for one in FRONTS])
async def test_what_answers_in_callstream_s_place_is_named(
    scene: Scene, set_up: str, answer: object, named: str
) -> None:
    """The handshake is made as Graph makes it; only callstream's own answer will do."""
    async with site(answer) as url:  # type: ignore[arg-type]
        found = await scene.first(receiver__public_url=url)

    is_broken(found, "handshake", named)
    check(set_up, found)


async def test_an_answer_right_and_not_callstream_s_is_a_warning(scene: Scene) -> None:
    """A bin that echoes tokens would lose every notification."""

    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(text=request.query.get("validationToken", "hello"))

    async with site(echo) as url:
        found = await scene.first(receiver__public_url=url)

    assert (found.link, found.status) == ("handshake", "warn")
    check("Another site that echoes validation tokens", found)


def is_broken(found: Finding, link: str, named: str) -> None:
    """The right link, and its cause in words; and something to do about it."""
    assert (found.link, found.status) == (link, "broken"), found
    assert named in found.seen
    assert found.todo


def line(findings: list[Finding], link: str) -> Finding:
    """The first of a link."""
    return next(one for one in findings if one.link == link)
