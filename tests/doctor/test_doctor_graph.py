"""Broken between us and Graph: hosts, clock, token, permission, subscription. The emulator is made to be so, and the
first line that is not ok names it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from service.clock import Clock
from service.emulator.directory import APP_ROLES
from service.emulator.subscription import Subscription
from tests.doctor.page import check
from tests.doctor.scene import CONTOSO, Scene, free_port, site
from tests.doctor.test_doctor_outside import is_broken
from tests.shell.signin_fixture import client_certificate

NOBODY = "dddddddd-1111-4222-8333-444455556666"


async def test_a_login_that_cannot_be_reached_is_named(scene: Scene) -> None:
    """A firewall, or a wrong address."""
    found = await scene.first(graph__login_url=f"http://127.0.0.1:{free_port()}")

    is_broken(found, "graph", "The login (127.0.0.1:")
    check("A login that cannot be reached", found)


async def test_an_authority_that_this_machine_does_not_trust_is_named(scene: Scene) -> None:
    """A proxy that opens TLS looks like this."""
    found = await scene.first(graph__ca_file=None)

    is_broken(found, "graph", "shows a certificate that this machine does not trust")
    assert "CALLSTREAM_GRAPH__CA_FILE" in found.todo
    check("A proxy that opens TLS with an authority of its own", found)


async def test_a_proxy_that_wants_a_login_is_named(scene: Scene) -> None:
    """407 on the way out."""

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=407)

    async with site(refuse) as url:
        found = await scene.first(graph__login_url=url)

    is_broken(found, "graph", "answers 407")
    check("A proxy on the way to the login that asks for one itself", found)


async def test_a_clock_that_is_off_is_named(scene: Scene) -> None:
    """An hour: Graph's Date header tells."""
    hour_ahead = Clock(start=Clock().now() + 3600)
    found = await scene.first(clock=hour_ahead)

    is_broken(found, "clock", "60 min ahead of Graph's")
    check("A clock that is an hour ahead", found)


async def test_a_clock_that_is_odd_is_a_warning(scene: Scene) -> None:
    """A minute does no harm yet."""
    found = await scene.first(clock=Clock(start=Clock().now() - 60))

    assert (found.link, found.status) == ("clock", "warn")
    assert "behind Graph's" in found.seen


WRONG_LOGINS = (
    ("A wrong client secret", {"tenants__contoso__client_secret": "another"}, "AADSTS7000215"),
    ("A tenant id that the login does not know", {"tenants__contoso__id": NOBODY}, "AADSTS90002"),
    ("A client id that the tenant does not know", {"tenants__contoso__client_id": NOBODY}, "AADSTS700016"),
)


@pytest.mark.parametrize(("set_up", "changes", "number"), WRONG_LOGINS, ids=[one[0] for one in WRONG_LOGINS])
async def test_what_the_login_refuses_is_said_in_words(
    scene: Scene, set_up: str, changes: dict[str, str | None], number: str
) -> None:
    """By the login's number, and with the setting to change."""
    found = await scene.first(**changes)

    is_broken(found, "token", number)
    assert found.tenant == "contoso"
    assert "tenants.contoso." in found.todo
    check(set_up, found)


async def test_an_expired_secret_is_named(scene: Scene) -> None:
    """It was right until then."""
    application = scene.emulator.world.tenants.application(CONTOSO.id)
    before = dict(application.secrets)
    application.secrets = dict.fromkeys(before, scene.emulator.world.clock.now() - 60)
    try:
        found = await scene.first()
    finally:
        application.secrets = before

    is_broken(found, "token", "AADSTS7000222")
    check("An expired client secret", found)


@contextmanager
def certificates(scene: Scene, *pems: str) -> Iterator[dict[str, str | None]]:
    """The application knows these and no others; the settings that sign in with one."""
    application = scene.emulator.world.tenants.application(CONTOSO.id)
    before, application.certificates = application.certificates, list(pems)
    path = scene.folder / "application.pem"
    path.write_text(client_certificate().whole_pem, encoding="utf-8")
    try:
        yield {
            "tenants__contoso__credential": "certificate",
            "tenants__contoso__client_secret": None,
            "tenants__contoso__certificate_file": str(path),
        }
    finally:
        application.certificates = before


async def test_a_certificate_that_is_not_uploaded_is_named(scene: Scene) -> None:
    """Renewed here, and nobody told the app registration."""
    with certificates(scene) as changes:
        found = await scene.first(**changes)

    is_broken(found, "token", "AADSTS700027")
    check("A certificate that the application does not know", found)


async def test_a_certificate_that_ends_soon_is_a_warning(scene: Scene) -> None:
    """Good for 30 days, of which the first moments are over."""
    with certificates(scene, client_certificate().public_pem) as changes:
        found = await scene.first(**changes)

    assert (found.link, found.status) == ("token", "warn")
    assert "ends in 30 days" in found.seen
    check("A certificate to sign in with that ends soon", found)


@pytest.fixture
def _unconsented(scene: Scene) -> Iterator[None]:
    tenants = scene.emulator.world.tenants
    tenants.set_consent(CONTOSO.id, False)
    yield
    tenants.set_consent(CONTOSO.id, True)


@pytest.mark.usefixtures("_unconsented")
async def test_missing_consent_is_named(scene: Scene) -> None:
    """The token itself has no such role."""
    found = await scene.first()

    is_broken(found, "permission", "The token has no role; consent to CallRecords.Read.All is missing")
    check("No consent", found)


async def test_another_permission_than_the_right_one_is_named(scene: Scene) -> None:
    """PSTN calls sound alike."""
    tenants = scene.emulator.world.tenants
    directory = tenants.directory(CONTOSO.id)
    principal = directory.principal_of(CONTOSO.client_id)
    assert principal is not None
    tenants.set_consent(CONTOSO.id, False)
    granted = directory.assign(principal, APP_ROLES["CallRecord-PstnCalls.Read.All"], scene.emulator.world.clock.now())
    try:
        found = await scene.first()
    finally:
        directory.assignments.pop(granted.id)
        tenants.set_consent(CONTOSO.id, True)

    is_broken(found, "permission", "The token has the role CallRecord-PstnCalls.Read.All; consent to CallRecords.Read")
    check("Another permission than the right one", found)


async def test_missing_consent_is_named_where_the_token_cannot_be_read(scene: Scene) -> None:
    """Graph's tokens are Graph's to read: then its answer tells."""
    from service.doctor.permission import judge, read_claims

    assert read_claims("an-opaque-token") is None
    assert judge(403, "Forbidden").status == "broken"
    assert judge(401, "InvalidAuthenticationToken").status == "broken"
    assert judge(429, "TooManyRequests").status == judge(503, "").status == "warn"
    assert judge(200, "").status == "ok"


@contextmanager
def subscription(scene: Scene, **changes: object) -> Iterator[Subscription]:
    """The one that is there, changed behind the keeper's back for a moment."""
    held = scene.emulator.world.subscriptions._all
    [one] = held.values()
    held[one.id] = replace(one, **changes)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        held.clear()
        held[one.id] = one


SUBSCRIPTIONS = (
    (
        "A subscription that posts elsewhere",
        {"notification_url": "https://old.example.com/notifications?k=1"},
        "posts to https://old.example.com/notifications",
    ),
    ("A subscription without a lifecycle URL", {"lifecycle_url": None}, "has no lifecycleNotificationUrl"),
    ("A subscription for new records alone", {"change_type": "created"}, "is not for the change type updated"),
)


@pytest.mark.parametrize(("set_up", "changes", "named"), SUBSCRIPTIONS, ids=[one[0] for one in SUBSCRIPTIONS])
async def test_a_wrong_subscription_is_named(scene: Scene, set_up: str, changes: dict[str, object], named: str) -> None:
    """Whoever made it so, and whatever the keeper will do about it."""
    with subscription(scene, **changes):
        found = await scene.first()

    is_broken(found, "subscription", named)
    check(set_up, found)


async def test_a_subscription_of_a_removed_key_is_named(scene: Scene) -> None:
    """All its notices are refused."""
    found = await scene.first(client_state__keys__1=None, client_state__keys__2="another key of sixteen")

    is_broken(found, "subscription", "made with clientState key 1, which is not configured")
    check("A clientState key that was removed too early", found)


async def test_a_subscription_of_an_older_key_is_a_warning(scene: Scene) -> None:
    """It works as long as both keys are there."""
    found = await scene.first(client_state__keys__2="another key of sixteen")

    assert (found.link, found.status) == ("subscription", "warn")
    check("A clientState key that is not yet the subscription's", found)


async def test_a_subscription_that_nobody_renews_is_named(scene: Scene) -> None:
    """An hour left of three days."""
    with subscription(scene, expires_at=scene.emulator.world.clock.now() + 3600):
        found = await scene.first()

    is_broken(found, "subscription", "ends in 60 minutes and nobody renews it")
    check("A subscription that nobody renews", found)


def test_the_keeper_s_own_words_stand_beside_a_broken_subscription() -> None:
    """It has heard from Graph why it cannot mend it; nothing is added to what is not broken."""
    from service.doctor.finding import broken, ok
    from service.doctor.subscription import _as_the_keeper_says

    standing = {"error": "400 ValidationError: no answer within 10 s", "todo": "Open the firewall."}
    said = _as_the_keeper_says(broken("There is none.", "See the keeper."), standing)

    assert said.seen == "There is none. The keeper says: 400 ValidationError: no answer within 10 s"
    assert said.todo == "Open the firewall."
    assert _as_the_keeper_says(ok("Fine."), {"error": None, "todo": None}) == ok("Fine.")


async def test_no_subscription_is_named(scene: Scene) -> None:
    """Deleted by somebody."""
    held = scene.emulator.world.subscriptions._all
    [one] = held.values()
    held.clear()
    try:
        found = await scene.first()
    finally:
        held.clear()
        held[one.id] = one

    is_broken(found, "subscription", "There is no subscription to call records")
    check("No subscription", found)
