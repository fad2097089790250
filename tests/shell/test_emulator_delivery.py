"""Notifications on their way: shape, batches, retries, slow and drop states, lifecycle events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from service.clock import Clock
from service.emulator.options import DEMO_TENANT_ID, DeliveryOptions, TenantOptions
from tests.shell.test_emulator_tools import (
    Client,
    Subscriber,
    add_record,
    emulated,
    make_record,
    record_path,
    subscriber,
    subscription,
    until,
)

FAST = DeliveryOptions(least_real_seconds=0.2)


@asynccontextmanager
async def subscribed(
    clock: Clock | None = None, body: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Client, Subscriber, str]]:
    """An emulator and a subscriber it accepted; the subscription's id."""
    # The subscriber is opened first and so closed last: a POST under way never meets a closed port.
    async with subscriber() as hook, emulated(clock, token_seconds=1e9, **options) as client:
        wish = subscription(hook.url, client.emulator.world.clock, **(body or {}))
        answer = await client.post("/v1.0/subscriptions", wish)
        assert answer.status == 201, answer.raw
        yield client, hook, answer.json["id"]


async def test_a_new_record_is_announced_in_graphs_shape() -> None:
    """One item with subscription, client state, resource and tenant; no version."""
    async with subscribed() as (client, hook, subscription_id):
        call = add_record(client)
        await until(lambda: bool(hook.items))
        item = hook.items[0]

        resource = f"communications/callRecords/{call.id}"
        assert item.pop("subscriptionExpirationDateTime").endswith("+00:00")
        assert item == {
            "subscriptionId": subscription_id,
            "clientState": "k1.abc",
            "changeType": "updated",
            "resource": resource,
            "resourceData": {"@odata.type": "#Microsoft.Graph.callRecord", "@odata.id": resource, "id": call.id},
            "tenantId": DEMO_TENANT_ID,
        }


async def test_each_version_is_announced_and_created_repeats_the_first() -> None:
    """`created,updated` brings the first version twice."""
    async with subscribed(body={"changeType": "created,updated"}) as (client, hook, _):
        call = add_record(client)
        newer = make_record(client.emulator.world.clock, id=call.id, version=2)
        client.emulator.store.add_version(call, newer)
        await until(lambda: len(hook.items) == 3)

        assert sorted(item["changeType"] for item in hook.items) == ["created", "updated", "updated"]


async def test_a_filtered_subscription_hears_only_of_its_people() -> None:
    """`participants/any(p:p/id eq '…')`."""
    wanted = "00000000-0000-4000-8000-000000000002"
    body = {"resource": f"communications/callRecords?$filter=participants/any(p:p/id eq '{wanted}')"}
    async with subscribed(body=body) as (client, hook, _):
        add_record(client, people=1)
        call = add_record(client, people=3)
        await until(lambda: bool(hook.items))

        assert hook.seen() == [call.id]


async def test_a_new_subscription_can_be_told_of_what_exists() -> None:
    """With `announce_existing`; without it only the list finds older records."""
    async with subscriber() as hook, emulated(announce_existing=True, calls=3) as client:
        await client.post("/v1.0/subscriptions", subscription(hook.url, client.emulator.world.clock))
        await until(lambda: len(hook.items) == 3)

        assert set(hook.seen()) == {call.id for call in client.emulator.store.calls()}


async def test_many_notices_share_posts_and_tenants_share_a_url() -> None:
    """Batches stay within their size and may mix tenants."""
    other = TenantOptions(id="dddddddd-1111-4222-8333-444455556666", name="fabrikam")
    async with subscribed(tenants=(TenantOptions(), other)) as (client, hook, _):
        await client.log_in("fabrikam")
        await client.post("/v1.0/subscriptions", subscription(hook.url, client.emulator.world.clock))
        for number in range(50):
            tenant = (DEMO_TENANT_ID, other.id)[number % 2]
            client.emulator.store.add_call(tenant, make_record(client.emulator.world.clock))
        await until(lambda: len(hook.items) == 50)

        assert max(len(batch) for batch in hook.batches) == 20
        assert any(len({item["tenantId"] for item in batch}) == 2 for batch in hook.batches)


@pytest.mark.parametrize("status", [500, 503, 302, 404])
async def test_what_is_not_2xx_is_repeated_with_growing_waits(status: int) -> None:
    """Until it is accepted; every item of the POST comes again."""
    clock = Clock(speed=500)
    async with subscribed(clock, delivery=FAST) as (client, hook, _):
        answers = iter([web.Response(status=status), web.Response(status=status)])
        hook.answer = lambda: next(answers, web.Response(status=200))
        call = add_record(client)
        await until(lambda: client.emulator.world.delivery.counts["delivered"] == 1)

        assert hook.seen() == [call.id] * 3
        assert client.emulator.world.delivery.counts["retried"] == 2
        assert client.emulator.world.delivery.waiting == 0


async def test_a_late_answer_is_no_answer() -> None:
    """2xx after three seconds: repeated, and counted as slow; the repeated attempt may take longer."""
    clock = Clock(speed=10)
    slow = DeliveryOptions(least_real_seconds=0.0, first_backoff_seconds=1.0)

    async def late() -> web.Response:
        await clock.sleep(5)
        return web.Response(status=202)

    async with subscribed(clock, delivery=slow) as (client, hook, _):
        hook.answer = late
        call = add_record(client)
        await until(lambda: client.emulator.world.delivery.counts["delivered"] == 1)

        assert hook.seen() == [call.id, call.id]


async def test_after_four_hours_a_notice_is_lost() -> None:
    """A subscriber that never accepts loses it."""
    clock = Clock(speed=20_000)
    async with subscribed(clock, delivery=FAST) as (client, hook, _):
        hook.answer = lambda: web.Response(status=503)
        add_record(client)
        await until(lambda: client.emulator.world.delivery.counts["expired"] == 1)

        assert client.emulator.world.delivery.waiting == 0
        assert client.emulator.world.delivery.counts["delivered"] == 0


@pytest.mark.parametrize(("wait", "state"), [(30.0, "slow"), (300.0, "drop")])
async def test_slow_answers_bring_the_slow_state_and_silence_the_drop_state(wait: float, state: str) -> None:
    """More than 10 % over 3 s delays new notices by ten minutes; more than 15 % over 10 s loses them."""
    clock = Clock(speed=100)
    options = DeliveryOptions(
        least_real_seconds=0.0, answer_seconds=20.0, retry_answer_seconds=60.0, window_seconds=100.0
    )

    async def sluggish() -> web.Response:
        await clock.sleep(wait)
        return web.Response(status=202)

    async with subscribed(clock, delivery=options) as (client, hook, _):
        hook.answer = sluggish
        add_record(client)
        delivery = client.emulator.world.delivery
        await until(lambda: bool(delivery.report()["urls"].get(hook.url, {}).get("answers")))
        hook.answer = lambda: web.Response(status=202)
        channel = delivery._channels[hook.url]
        await clock.sleep(channel.window.began_at + 101 - clock.now())
        add_record(client)
        await until(lambda: channel.state != "normal")

        assert channel.state == state
        if state == "drop":
            await until(lambda: delivery.counts["dropped"] > 0)
        else:
            await until(lambda: delivery.waiting == 0)
            assert delivery.counts["dropped"] == 0


async def test_duplicates_loss_and_disorder_are_scripted() -> None:
    """Shares of notices come twice, never, or out of order; the same seed does the same."""
    options = DeliveryOptions(duplicate_share=0.3, drop_notification_share=0.2, reorder_seconds=30.0)
    async with subscribed(Clock(speed=100), delivery=options) as (client, hook, _):
        calls = [add_record(client).id for _ in range(60)]
        delivery = client.emulator.world.delivery
        await until(lambda: delivery.counts["notifications"] == 60 and delivery.waiting == 0)

        seen = hook.seen()
        lost, twice = delivery.counts["lost_on_purpose"], delivery.counts["duplicated"]
        assert lost > 0
        assert twice > 0
        assert len(seen) == 60 - lost + twice
        assert len(set(seen)) == 60 - lost
        assert list(dict.fromkeys(seen)) != [call for call in calls if call in seen]


async def test_a_removed_subscription_gets_nothing_more() -> None:
    """What was still waiting for it is thrown away."""
    clock = Clock(speed=100)
    options = DeliveryOptions(reorder_seconds=60.0)
    async with subscribed(clock, delivery=options) as (client, _, subscription_id):
        for _ in range(20):
            add_record(client)
        await until(lambda: client.emulator.world.delivery.counts["queued"] == 20)
        await client.call("DELETE", f"/v1.0/subscriptions/{subscription_id}")
        await until(lambda: client.emulator.world.delivery.waiting == 0)

        assert client.emulator.world.delivery.counts["orphaned"] > 0


async def test_reauthorization_is_asked_for_before_the_end() -> None:
    """On the lifecycle URL, without resource or changeType, again and again until it is renewed."""
    clock = Clock(speed=2000)
    often = {"delivery": FAST, "reauthorize_repeat_seconds": 60.0}
    async with subscribed(clock, {"minutes": 120}, **often) as (client, hook, subscription_id):
        await until(lambda: len(hook.items) >= 2)
        item = hook.items[0]

        assert item["lifecycleEvent"] == "reauthorizationRequired"
        assert (item["subscriptionId"], item["clientState"]) == (subscription_id, "k1.abc")
        assert not {"resource", "changeType", "resourceData"} & set(item)
        assert client.emulator.world.delivery.counts["lifecycle"] >= 2


async def test_an_unauthorized_subscription_pauses_until_it_is_reauthorized() -> None:
    """Notices wait (up to 4 h) while the token behind it counts no more, and go out afterwards."""
    clock = Clock(speed=300)
    async with subscribed(clock, delivery=FAST, authorization_seconds=600.0) as (client, hook, subscription_id):
        await until(lambda: any("lifecycleEvent" in item for item in hook.items))
        await clock.sleep(700)
        call = add_record(client)
        delivery = client.emulator.world.delivery
        await until(lambda: delivery.counts["paused"] >= 1)
        assert hook.seen() == []
        answer = await client.post(f"/v1.0/subscriptions/{subscription_id}/reauthorize")
        await until(lambda: bool(hook.seen()))

        assert answer.status == 204
        assert hook.seen() == [call.id]


async def test_revoked_consent_is_told_at_once() -> None:
    """A lifecycle event although the end is far."""
    async with subscribed() as (client, hook, _):
        await client.patch("/emulator/tenants/contoso", {"consented": False})
        await until(lambda: bool(hook.items))

        assert hook.items[0]["lifecycleEvent"] == "reauthorizationRequired"


async def test_a_scheduled_version_appears_and_is_announced_in_its_time() -> None:
    """And a record may be announced before it can be read."""
    clock = Clock(speed=200)
    async with subscribed(clock) as (client, hook, _):
        wish = {"kind": "group", "notReadySeconds": 200, "versions": 2, "versionAfterSeconds": 400}
        made = await client.post("/emulator/calls", wish)
        call = client.emulator.store.find(None, made.json["value"][0]["id"])
        assert call is not None
        await until(lambda: len(hook.seen()) == 1)
        early = await client.get(record_path(call))
        await until(lambda: len(hook.seen()) == 2)
        late = await client.get(record_path(call))

        assert early.status == 404
        assert late.json["version"] == 2
        assert [version.number for version in call.versions] == [1, 2]


async def test_closing_does_not_wait_for_a_silent_subscriber() -> None:
    """Leaving the block ends POSTs under way; nothing leaks (the guards of conftest look)."""
    clock = Clock()

    async with subscribed(clock) as (client, hook, _):
        hook.answer = lambda: clock.sleep(3600)
        add_record(client)
        await until(lambda: bool(hook.items))
