"""Control site: what an administrator does to an app registration while the emulator runs."""

from typing import Any

from aiohttp import web

from service.emulator.applications import Application
from service.emulator.refusals import Refusal, bad_request
from service.emulator.site import json_reply, read_object, world


async def put_secrets(request: web.Request) -> web.StreamResponse:
    """From now on these secrets and no others: `{"secrets": [{"secret": "…", "expiresAfterSeconds": 3600}]}`."""
    application, now = _application(request), world(request).clock.now()
    found: dict[str, float | None] = {}
    for one in _items(await read_object(request), "secrets"):
        text = one.get("secret") if isinstance(one, dict) else None
        after = one.get("expiresAfterSeconds") if isinstance(one, dict) else None
        if not isinstance(text, str) or not text or not isinstance(after, int | float | None):
            raise bad_request("A secret is an object with 'secret' (text) and, if it ends, 'expiresAfterSeconds'.")
        found[text] = None if after is None else now + after
    application.secrets = found
    return _shown(application)


async def put_certificates(request: web.Request) -> web.StreamResponse:
    """From now on these certificates (PEM, public part) and no others: `{"certificates": ["-----BEGIN …"]}`."""
    application = _application(request)
    from service.emulator.assertions import is_certificate

    found = _items(await read_object(request), "certificates")
    if not all(isinstance(one, str) and is_certificate(one) for one in found):
        raise bad_request("Each of 'certificates' must be a certificate in PEM.")
    application.certificates = found
    return _shown(application)


def _application(request: web.Request) -> Application:
    tenants = world(request).tenants
    tenant = tenants.find(request.match_info["id"])
    if tenant is None:
        raise Refusal(404, "NotFound", f"Tenant '{request.match_info['id']}' not found.")
    return tenants.application(tenant.id)


def _items(body: dict[str, Any], name: str) -> list[Any]:
    found = body.get(name)
    if not isinstance(found, list):
        raise bad_request(f"'{name}' must be a list.")
    return found


def _shown(application: Application) -> web.Response:
    """Numbers alone: what was put was said already."""
    counts = {"secrets": len(application.secrets), "certificates": len(application.certificates)}
    return json_reply({"clientId": application.client_id, **counts, "federations": len(application.federations)})


def routes() -> list[web.RouteDef]:
    """Below /emulator/tenants."""
    return [
        web.put("/emulator/tenants/{id}/secrets", put_secrets),
        web.put("/emulator/tenants/{id}/certificates", put_certificates),
    ]
