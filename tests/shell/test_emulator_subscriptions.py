"""Subscriptions: the handshake, what is refused and how, lifetimes, reading, renewing, removing."""

from typing import Any

import pytest
from aiohttp import web

from service.clock import Clock, from_iso, iso
from service.emulator.options import DeliveryOptions, TenantOptions
from tests.shell.test_emulator_tools import Client, Subscriber, emulated, subscriber, subscription

PATH = "/v1.0/subscriptions"


async def _create(client: Client, hook: Subscriber, **more: Any) -> dict[str, Any]:
    answer = await client.post(PATH, subscription(hook.url, client.emulator.world.clock, **more))
    assert answer.status == 201, answer.raw
    created: dict[str, Any] = answer.json
    return created


async def test_a_subscription_is_created_after_both_handshakes() -> None:
    """201 with Graph's fields; each URL got a token with spaces, colons, plus and percent, sent as text/plain."""
    async with emulated() as client, subscriber() as hook:
        created = await _create(client, hook)
        shown = (await client.get(f"{PATH}/{created['id']}")).json
        tokens = [request.query["validationToken"] for request in hook.handshakes]

        assert created["clientState"] == "k1.abc"
        assert shown["clientState"] is None
        assert shown["resource"] == "communications/callRecords"
        assert shown["lifecycleNotificationUrl"] == hook.url + "/lifecycle"
        assert [request.path for request in hook.handshakes] == ["/notifications", "/notifications/lifecycle"]
        assert all(mark in token for token in tokens for mark in (" ", ":", "+", "%2B"))
        assert hook.handshakes[0].content_type == "text/plain"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("EventHub:https://calls.servicebus.windows.net/eventhubname/calls?tenantId=contoso.com", "ValidationError"),
        ("EventHub:https://vault.vault.azure.net/secrets/calls?tenantId=contoso.com", "BadRequest"),
        ("EventHub:https://calls.servicebus.windows.net/eventhubname/calls", "BadRequest"),
        ("EventHub:https://calls.example.com/eventhubname/calls?tenantId=contoso.com", "BadRequest"),
    ],
)
async def test_a_hub_that_graph_cannot_write_into_makes_no_subscription(url: str, code: str) -> None:
    """400: the first is of the right form and nobody's; the others are not of the form with roles."""
    async with emulated() as client, subscriber() as hook:
        body = subscription(hook.url, client.emulator.world.clock, notificationUrl=url, lifecycleNotificationUrl=url)
        answer = await client.post(PATH, body)

        assert (answer.status, answer.json["error"]["code"]) == (400, code)
        assert list(client.emulator.world.subscriptions.live()) == []


async def test_a_query_string_survives_the_handshake() -> None:
    """The token is appended with `&`."""
    async with emulated() as client, subscriber() as hook:
        await _create(client, hook, notificationUrl=hook.url + "?key=a%20b")

        assert hook.handshakes[0].query["key"] == "a b"
        assert "validationToken" in hook.handshakes[0].query


@pytest.mark.parametrize(
    "shake",
    [
        lambda token: web.Response(text=token, status=202),
        lambda token: web.Response(text=token.replace(" ", "+")),
        lambda token: web.Response(text=token + "\n"),
        lambda token: web.Response(text=token, content_type="text/html"),
        lambda token: web.json_response(token),
        lambda _: web.Response(status=404),
        lambda _: web.HTTPFound("/elsewhere"),
    ],
)
async def test_a_wrong_handshake_creates_nothing(shake: Any) -> None:
    """400 ValidationError for another status, text or content type, and for a redirect."""
    async with emulated() as client, subscriber() as hook:
        hook.shake = shake
        answer = await client.post(PATH, subscription(hook.url, client.emulator.world.clock))

        assert (answer.status, answer.code) == (400, "ValidationError")
        assert (await client.get(PATH)).json["value"] == []


async def test_a_silent_handshake_times_out() -> None:
    """After ten seconds of the clock; a closed port is refused at once."""
    clock = Clock(speed=100)
    silent = DeliveryOptions(least_real_seconds=0.01)
    async with emulated(clock, token_seconds=1e6, delivery=silent) as client, subscriber() as hook:
        hook.shake = lambda _: clock.sleep(1e6)
        answer = await client.post(PATH, subscription(hook.url, clock))
        closed = await client.post(PATH, subscription("http://127.0.0.1:9/hook", clock))

        assert (answer.status, answer.code) == (400, "ValidationError")
        assert "timed out" in answer.message
        assert closed.status == 400


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"notificationUrl": "http://example.com/hook"}, "notificationUrl"),
        ({"notificationUrl": "ftp://127.0.0.1/hook"}, "notificationUrl"),
        ({"notificationUrl": None}, "notificationUrl"),
        ({"lifecycleNotificationUrl": "http://example.com/hook"}, "lifecycleNotificationUrl"),
        ({"lifecycleNotificationUrl": None}, "lifecycleNotificationUrl"),
        ({"minutes": 4231}, "4230"),
        ({"minutes": -1}, "future"),
        ({"expirationDateTime": "tomorrow"}, "expirationDateTime"),
        ({"expirationDateTime": None}, "expirationDateTime"),
        ({"clientState": "x" * 129}, "clientState"),
        ({"changeType": "deleted"}, "changeType"),
        ({"changeType": "updated,renamed"}, "changeType"),
        ({"changeType": None}, "changeType"),
        ({"resource": "users"}, "resource"),
        ({"resource": "communications/callRecords/1"}, "resource"),
        ({"resource": "communications/callRecords?$filter=version eq 1"}, "resource"),
        ({"includeResourceData": True}, "includeResourceData"),
        ({"latestSupportedTlsVersion": "v9"}, "latestSupportedTlsVersion"),
        ({"vapidPublicKey": "x"}, "vapidPublicKey"),
    ],
)
async def test_a_wrong_body_is_refused_before_any_handshake(change: dict[str, Any], word: str) -> None:
    """400 with the field's name; nothing was posted to anybody."""
    async with emulated() as client, subscriber() as hook:
        answer = await client.post(PATH, subscription(hook.url, client.emulator.world.clock, **change))

        assert (answer.status, answer.code) == (400, "BadRequest")
        assert word in answer.message
        assert not hook.handshakes


async def test_a_short_lifetime_is_raised_to_45_minutes() -> None:
    """Silently; and such a one needs no lifecycle URL."""
    clock = Clock()
    async with emulated(clock) as client, subscriber() as hook:
        created = await _create(client, hook, minutes=5, lifecycleNotificationUrl=None)

        assert from_iso(created["expirationDateTime"]) > clock.now() + 44 * 60


async def test_the_same_subscription_again_is_409_with_its_id() -> None:
    """Same application, resource and change types, in any order, with or without a leading slash."""
    async with emulated() as client, subscriber() as hook:
        created = await _create(client, hook, changeType="created,updated")
        clock = client.emulator.world.clock
        twin: dict[str, Any] = {"changeType": "updated,created", "resource": "/communications/callRecords"}
        again = await client.post(PATH, subscription(hook.url, clock, **twin))
        other = await client.post(PATH, subscription(hook.url, clock))

        assert (again.status, again.code) == (409, "Conflict")
        assert created["id"] in again.message
        assert other.status == 201


async def test_the_quota_of_a_tenant_is_403() -> None:
    """100 in Graph; the list of them is paged."""
    async with emulated(subscription_quota=3, subscriptions_page=2) as client, subscriber() as hook:
        filters = [f"communications/callRecords?$filter=participants/any(p:p/id eq '{n}')" for n in range(4)]
        clock = client.emulator.world.clock
        answers = [await client.post(PATH, subscription(hook.url, clock, resource=one)) for one in filters]
        page = (await client.get(PATH)).json
        rest = (await client.get(page["@odata.nextLink"])).json

        assert [answer.status for answer in answers] == [201, 201, 201, 403]
        assert "limit of 3" in answers[-1].message
        assert (len(page["value"]), len(rest["value"])) == (2, 1)
        assert "@odata.nextLink" not in rest


async def test_without_consent_creating_is_an_extension_error() -> None:
    """403 whose message wraps Forbidden; renewing and reauthorizing are 403 as well."""
    async with emulated() as client, subscriber() as hook:
        created = await _create(client, hook)
        one = f"{PATH}/{created['id']}"
        client.emulator.world.tenants.set_consent(created_tenant(client), False)
        again = await client.post(PATH, subscription(hook.url, client.emulator.world.clock, changeType="created"))
        renewed = await client.patch(one, {"expirationDateTime": created["expirationDateTime"]})
        authorized = await client.post(f"{one}/reauthorize")

        assert (again.status, again.code) == (403, "ExtensionError")
        assert "Status Code: Forbidden" in again.message
        assert (renewed.status, authorized.status) == (403, 403)


async def test_a_subscription_is_renewed_moved_reauthorized_and_deleted() -> None:
    """PATCH moves the end or the URL (with a handshake), reauthorize answers 204, DELETE ends it, then 404."""
    clock = Clock()
    async with emulated(clock) as client, subscriber() as hook:
        one = f"/beta/subscriptions/{(await _create(client, hook))['id']}"
        later = iso(clock.now() + 4000 * 60)
        renewed = await client.patch(one, {"expirationDateTime": later})
        moved = await client.patch(one, {"notificationUrl": hook.url + "/elsewhere"})
        authorized = await client.post(f"{one}/reauthorize")
        deleted = await client.call("DELETE", one)

        assert (renewed.status, renewed.json["expirationDateTime"]) == (200, later)
        assert (moved.status, hook.handshakes[-1].path) == (200, "/notifications/elsewhere")
        assert (authorized.status, authorized.raw, deleted.status) == (204, b"", 204)
        for method in ("GET", "DELETE"):
            assert (await client.call(method, one)).status == 404
        assert (await client.patch(one, {"expirationDateTime": later})).status == 404
        assert (await client.post(f"{one}/reauthorize")).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"changeType": "created"},
        {"lifecycleNotificationUrl": "https://example.com"},
        {"expirationDateTime": "2999-01-01T00:00:00Z"},
        {"notificationUrl": "http://example.com"},
    ],
)
async def test_a_patch_may_only_renew_or_move(body: dict[str, str]) -> None:
    """Everything else is 400; a lifecycle URL cannot be added later."""
    async with emulated() as client, subscriber() as hook:
        created = await _create(client, hook)

        assert (await client.patch(f"{PATH}/{created['id']}", body)).status == 400


async def test_a_subscription_without_lifecycle_url_stays_short() -> None:
    """Renewing it for more than an hour needs the URL it does not have."""
    clock = Clock()
    async with emulated(clock) as client, subscriber() as hook:
        created = await _create(client, hook, minutes=50, lifecycleNotificationUrl=None)
        answer = await client.patch(f"{PATH}/{created['id']}", {"expirationDateTime": iso(clock.now() + 7200)})

        assert answer.status == 400
        assert "lifecycleNotificationUrl" in answer.message


async def test_an_expired_subscription_is_gone() -> None:
    """404, not listed, and its place is free again."""
    clock = Clock(speed=5000)
    async with emulated(clock, token_seconds=1e9) as client, subscriber() as hook:
        created = await _create(client, hook, minutes=45)
        await clock.sleep(46 * 60)

        assert (await client.get(f"{PATH}/{created['id']}")).status == 404
        assert (await client.get(PATH)).json["value"] == []
        await _create(client, hook)


async def test_another_tenant_does_not_see_it() -> None:
    """With a token of tenant B: 404 and an empty list."""
    other = TenantOptions(id="dddddddd-1111-4222-8333-444455556666", name="fabrikam")
    async with emulated(tenants=(TenantOptions(), other)) as client, subscriber() as hook:
        created = await _create(client, hook)
        await client.log_in("fabrikam")

        assert (await client.get(f"{PATH}/{created['id']}")).status == 404
        assert (await client.get(PATH)).json["value"] == []
        await _create(client, hook)


async def test_subscriptions_need_a_token_and_json() -> None:
    """401 without a token, 400 for a body that is no JSON object."""
    async with emulated() as client:
        bad = await client.call("POST", PATH, data=b"[1]", headers={"Content-Type": "application/json"})
        form = await client.call("POST", PATH, data={"a": "b"})
        client.token = ""

        assert (bad.status, form.status) == (400, 400)
        assert (await client.get(PATH)).status == 401


def created_tenant(client: Client) -> str:
    """The demo tenant."""
    return client.emulator.world.options.tenants[0].id
