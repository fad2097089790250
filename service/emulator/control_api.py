"""`/emulator/…`: what Graph does not have. Make calls, script faults, see what exists and what was counted.

It is for whoever runs the emulator: no token is asked for, which is why the emulator listens on loopback by default.
"""

import re
from typing import Any

import orjson
from aiohttp import web

from service.clock import iso
from service.emulator.fault_wishes import WrongFault
from service.emulator.making import MAKER, CallWish
from service.emulator.refusals import bad_request, not_found
from service.emulator.site import json_reply, read_object, world
from service.emulator.store import Call
from service.emulator.tokens import Principal

CALL_FIELDS = {
    "kind": str,
    "size": str,
    "sessions": int,
    "failed": bool,
    "startedSecondsAgo": float,
    "notReadySeconds": float,
    "notifyAfterSeconds": float,
    "versions": int,
    "versionAfterSeconds": float,
}
"""Fields of POST calls beside `tenant` and `count`; snake case is understood as well."""
MOST_CALLS = 10_000


async def post_calls(request: web.Request) -> web.StreamResponse:
    """Makes one call, or `count` of them: 201 with ids and sessions."""
    here, body = world(request), await read_object(request)
    wanted = {_camel(name): value for name, value in body.items()}
    tenant = here.tenants.find(str(wanted.pop("tenant", here.tenants.all[0].id)))
    if tenant is None:
        raise bad_request("Unknown tenant; GET /emulator/status lists them.")
    count = wanted.pop("count", 1)
    if not isinstance(count, int) or not 1 <= count <= MOST_CALLS:
        raise bad_request(f"count must be a number from 1 to {MOST_CALLS}.")
    wish = CallWish(tenant.id, **_call_fields(wanted))
    try:
        calls = [request.app[MAKER].make(wish) for _ in range(count)]
    except (ValueError, KeyError) as exc:
        raise bad_request(f"No such call can be made: {exc}.") from None
    return json_reply({"value": [show_call(call, with_sessions=True) for call in calls]}, 201)


async def get_calls(request: web.Request) -> web.StreamResponse:
    """Every call with its versions, without documents."""
    return json_reply({"value": [show_call(call) for call in world(request).store.calls()]})


async def get_call(request: web.Request) -> web.StreamResponse:
    """All versions of one call, whole documents. `?tenant=` where two tenants have the same call id."""
    here = world(request)
    call = here.store.find(request.query.get("tenant"), request.match_info["id"])
    if call is None:
        raise not_found("No such call.")
    documents = [version.unpack() for version in call.versions]
    return json_reply({**show_call(call), "documents": documents})


async def get_truth(request: web.Request) -> web.StreamResponse:
    """Every version of every call as one JSON object a line, for a judge in another process."""
    answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await answer.prepare(request)
    for call in world(request).store.calls():
        for version in call.versions:
            line = {"tenantId": call.tenant_id, "callId": call.id, "version": version.number}
            await answer.write(orjson.dumps({**line, "document": version.unpack()}) + b"\n")
    return answer


async def post_version(request: web.Request) -> web.StreamResponse:
    """A later version of a call, as the generator makes it, now or after `afterSeconds`."""
    here, body = world(request), await read_object(request)
    call = here.store.find(request.query.get("tenant"), request.match_info["id"])
    after = body.get("afterSeconds", 0)
    if call is None:
        raise not_found("No such call.")
    if not isinstance(after, int | float) or after < 0:
        raise bad_request("afterSeconds must be a number of seconds.")
    here.store.schedule(call, here.clock.now() + after, request.app[MAKER].later_version)
    here.store.find(call.tenant_id, call.id)  # one that is due happens now
    return json_reply(show_call(call), 201)


async def post_announcement(request: web.Request) -> web.StreamResponse:
    """Subscribers are told of the call's current version again, now."""
    here = world(request)
    call = here.store.find(request.query.get("tenant"), request.match_info["id"])
    if call is None:
        raise not_found("No such call.")
    here.store.announce(call)
    return json_reply(show_call(call), 201)


async def get_status(request: web.Request) -> web.StreamResponse:
    """What is served, and how much is going on."""
    here = world(request)
    tenants = [
        {
            "id": tenant.id,
            "name": tenant.name,
            "clientId": tenant.client_id,
            "consented": here.tenants.is_consented(Principal(tenant.id, tenant.client_id)),
        }
        for tenant in here.tenants.all
    ]
    calls = list(here.store.calls())
    return json_reply(
        {
            "now": iso(here.clock.now()),
            "speed": here.clock.speed,
            "tenants": tenants,
            "calls": len(calls),
            "versions": sum(len(call.versions) for call in calls),
            "announcementsWaiting": here.store.waiting,
            "subscriptions": [one.show() for one in here.subscriptions.live()],
            "notificationsWaiting": here.delivery.waiting,
            "delivery": here.delivery.report(),
            "tokensIssued": here.tokens.issued_count,
            "faults": len(here.faults.rules),
        }
    )


async def get_limits(request: web.Request) -> web.StreamResponse:
    """Highest use of each of Graph's limits, and the 429s."""
    return json_reply(world(request).counters.report())


async def get_subscriptions(request: web.Request) -> web.StreamResponse:
    """Every subscription there ever was, from when to when."""
    return json_reply({"value": [life.show() for life in world(request).subscriptions.lives]})


async def post_fault(request: web.Request) -> web.StreamResponse:
    """Adds a rule: 201."""
    here = world(request)
    try:
        rule = here.faults.add(await read_object(request))
    except WrongFault as wrong:
        raise bad_request(f"A fault's {wrong}") from None
    here.store.on_announcement()  # the clock may have changed
    return json_reply(rule.show(here.clock.now()), 201)


async def get_faults(request: web.Request) -> web.StreamResponse:
    """All rules with how often each acted."""
    return json_reply({"value": world(request).faults.show()})


async def delete_faults(request: web.Request) -> web.StreamResponse:
    """Takes away all rules."""
    world(request).faults.remove()
    return web.Response(status=204)


async def delete_fault(request: web.Request) -> web.StreamResponse:
    """Takes away one rule."""
    text = request.match_info["id"]
    if not re.fullmatch("[0-9]{1,18}", text) or not world(request).faults.remove(int(text)):
        raise not_found("No such fault.")
    return web.Response(status=204)


async def get_requests(request: web.Request) -> web.StreamResponse:
    """The last requests; `?tenant=` (id) and `?kind=` choose among them."""
    here, wanted = world(request), request.query
    kinds = [wanted["kind"]] if "kind" in wanted else []
    visits = here.journal.of(wanted.get("tenant", "").lower(), *kinds)
    return json_reply({"value": [visit.show() for visit in visits]})


async def delete_tokens(request: web.Request) -> web.StreamResponse:
    """Expires every token that was issued."""
    return json_reply({"expired": world(request).tokens.expire_all()})


async def patch_tenant(request: web.Request) -> web.StreamResponse:
    """`{"consented": false}`: an administrator revokes or grants the permission."""
    here, body = world(request), await read_object(request)
    tenant = here.tenants.find(request.match_info["id"])
    if tenant is None:
        raise not_found("No such tenant.")
    if not isinstance(body.get("consented"), bool):
        raise bad_request("consented must be true or false.")
    here.tenants.set_consent(tenant.id, body["consented"])
    here.store.on_announcement()  # subscribers are told at once
    return json_reply({"id": tenant.id, "name": tenant.name, "consented": body["consented"]})


def show_call(call: Call, with_sessions: bool = False) -> dict[str, Any]:
    """A call's ids and versions; with the ids of its sessions, which can be written to."""
    shown: dict[str, Any] = {
        "id": call.id,
        "tenantId": call.tenant_id,
        "visibleAt": iso(call.visible_at),
        "versions": [{"version": one.number, "createdAt": iso(one.created_at)} for one in call.versions],
    }
    if with_sessions:
        sessions = call.current.unpack().get("sessions") or []
        shown["sessions"] = [session["id"] for session in sessions]
    return shown


def _call_fields(wanted: dict[str, Any]) -> dict[str, Any]:
    """Checked fields of a `CallWish` by its own names; 400 for an unknown or wrong one."""
    fields = {}
    for name, value in wanted.items():
        kind = CALL_FIELDS.get(name)
        if kind is None:
            raise bad_request(f"Unknown field '{name}'; known are tenant, count, {', '.join(CALL_FIELDS)}.")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(value, kind) or (kind is float and is_number)) or (kind is int and not is_number):
            raise bad_request(f"'{name}' must be a {kind.__name__}.")
        fields[_snake(name)] = value
    return fields


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def routes() -> list[web.RouteDef]:
    """Everything below /emulator."""
    return [
        web.get("/emulator/status", get_status),
        web.get("/emulator/limits", get_limits),
        web.get("/emulator/subscriptions", get_subscriptions),
        web.get("/emulator/calls", get_calls),
        web.post("/emulator/calls", post_calls),
        web.get("/emulator/calls/{id}", get_call),
        web.post("/emulator/calls/{id}/versions", post_version),
        web.post("/emulator/calls/{id}/announcements", post_announcement),
        web.get("/emulator/truth", get_truth),
        web.get("/emulator/faults", get_faults),
        web.post("/emulator/faults", post_fault),
        web.delete("/emulator/faults", delete_faults),
        web.delete("/emulator/faults/{id}", delete_fault),
        web.get("/emulator/requests", get_requests),
        web.delete("/emulator/tokens", delete_tokens),
        web.patch("/emulator/tenants/{id}", patch_tenant),
    ]
