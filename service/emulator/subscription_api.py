"""`/subscriptions`: create with its handshakes, read, renew, reauthorize, delete (graph-contract 1.1)."""

from typing import Any

from aiohttp import web

from service.emulator import odata
from service.emulator.directory import READ_CALLS
from service.emulator.misbehaviour import answer
from service.emulator.site import PRINCIPAL, Handler, admit, json_reply, own_root, read_object, world
from service.emulator.store import Announcement
from service.emulator.subscription import Subscription
from service.emulator.tokens import Principal


def guarded(handler: Handler) -> Handler:
    """A token first, then scripted faults."""

    async def serve(request: web.Request) -> web.StreamResponse:
        with world(request).journal.noted("subscriptions") as visit:
            admit(request, needs_token=True, needs_consent=False)
            visit.tenant_id = _principal(request).tenant_id
            return await answer(request, visit, handler)

    return serve


async def create(request: web.Request) -> web.StreamResponse:
    """201 after both URLs answered their handshake; nothing exists before."""
    here, principal = world(request), _principal(request)
    wish = here.subscriptions.check_new(principal, await read_object(request))
    await here.poster.shake_hands(wish.notification_url)
    if wish.lifecycle_url:
        await here.poster.shake_hands(wish.lifecycle_url)
    here.subscriptions.check_unique(principal, wish)  # another request may have been faster meanwhile
    one = here.subscriptions.add(principal, wish)
    if here.options.announce_existing:
        _announce_existing(request, one)
    return json_reply(_entity(request, one, with_client_state=True), 201)


async def list_all(request: web.Request) -> web.StreamResponse:
    """What this application created in this tenant, in pages."""
    odata.check_options(request.query, ("$skiptoken",))
    here, principal = world(request), _principal(request)
    scope = f"subscriptions/{principal}"
    token = request.query.get("$skiptoken")
    offset = int(here.skip_tokens.read(scope, token)) if token else 0
    owned, size = here.subscriptions.owned_by(principal), here.options.subscriptions_page
    root = f"{own_root(request)}/{request.match_info['api']}"
    answer: dict[str, Any] = {"@odata.context": f"{root}/$metadata#subscriptions"}
    answer["value"] = [one.show() for one in owned[offset : offset + size]]
    if offset + size < len(owned):
        following = here.skip_tokens.make(scope, str(offset + size))
        answer["@odata.nextLink"] = f"{root}/subscriptions?$skiptoken={following}"
    return json_reply(answer)


async def read(request: web.Request) -> web.StreamResponse:
    """200 or 404."""
    one = world(request).subscriptions.get(_principal(request), request.match_info["id"])
    return json_reply(_entity(request, one))


async def update(request: web.Request) -> web.StreamResponse:
    """Renews; a new notificationUrl is validated first."""
    here, principal, body = world(request), _principal(request), await read_object(request)
    one = here.subscriptions.check_change(principal, request.match_info["id"], body)
    if "notificationUrl" in body and body["notificationUrl"] != one.notification_url:
        await here.poster.shake_hands(body["notificationUrl"])
        one = here.subscriptions.check_change(principal, request.match_info["id"], body)
    here.subscriptions.change(one, body)
    return json_reply(_entity(request, one))


async def remove(request: web.Request) -> web.StreamResponse:
    """204."""
    world(request).subscriptions.remove(_principal(request), request.match_info["id"])
    return web.Response(status=204)


async def reauthorize(request: web.Request) -> web.StreamResponse:
    """204; delivery goes on, the expiration stays."""
    world(request).subscriptions.reauthorize(_principal(request), request.match_info["id"])
    return web.Response(status=204)


def _announce_existing(request: web.Request, one: Subscription) -> None:
    """Records that exist are first seen on this subscription now (graph-contract 1.3)."""
    here, now = world(request), world(request).clock.now()
    for call in here.store.calls():
        if call.is_readable(now):
            note = Announcement(call.tenant_id, call.id, call.current.number, call.participant_ids)
            here.delivery.notify(note, only=one)


def _principal(request: web.Request) -> Principal:
    """Whose subscriptions; with `open` and no token the first tenant's application."""
    principal = request[PRINCIPAL]
    first = world(request).tenants.all[0]
    return principal or Principal(first.id.lower(), first.client_id.lower(), frozenset({READ_CALLS}))


def _entity(request: web.Request, one: Subscription, with_client_state: bool = False) -> dict[str, Any]:
    root = f"{own_root(request)}/{request.match_info['api']}"
    return {"@odata.context": f"{root}/$metadata#subscriptions/$entity", **one.show(with_client_state)}


def routes() -> list[web.RouteDef]:
    """Under v1.0 and beta."""
    base = "/{api:v1\\.0|beta}/subscriptions"
    return [
        web.post(base, guarded(create)),
        web.get(base, guarded(list_all), allow_head=False),
        web.get(base + "/{id}", guarded(read), allow_head=False),
        web.patch(base + "/{id}", guarded(update)),
        web.delete(base + "/{id}", guarded(remove)),
        web.post(base + "/{id}/reauthorize", guarded(reauthorize)),
    ]
