"""A managed identity's endpoint, as a machine on Azure finds it: the instance metadata service and App Service's form.

Sources: graph-contract 10; https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
and https://learn.microsoft.com/azure/app-service/overview-managed-identity .
"""

import hmac

from aiohttp import web

from service.emulator.options import Machine
from service.emulator.site import json_reply, own_root, world
from service.emulator.tokens import GRAPH_ROOTS

IMDS_VERSION = "2018-02-01"
APP_SERVICE_VERSION = "2019-08-01"
EXCHANGE = "api://AzureADTokenExchange"


async def get_instance_metadata(request: web.Request) -> web.StreamResponse:
    """`/metadata/identity/oauth2/token`: what virtual machines, scale sets and AKS nodes have."""
    if request.headers.get("Metadata", "").lower() != "true":
        return _refusal("bad_request_102", "Required metadata header not specified")
    if "X-Forwarded-For" in request.headers:
        return _refusal("bad_request", "X-Forwarded-For is not allowed")
    return _answer(request, IMDS_VERSION, is_app_service=False)


async def get_app_service(request: web.Request) -> web.StreamResponse:
    """`IDENTITY_ENDPOINT`: what App Service, Functions and Container Apps have."""
    machine = world(request).options.machine
    header = request.headers.get("X-IDENTITY-HEADER", "")
    if machine is None or not hmac.compare_digest(header.encode(), machine.identity_header.encode()):
        return json_reply({"statusCode": 401, "message": "X-IDENTITY-HEADER is missing or wrong."}, 401)
    return _answer(request, APP_SERVICE_VERSION, is_app_service=True)


def _answer(request: web.Request, version: str, *, is_app_service: bool) -> web.StreamResponse:
    here = world(request)
    if request.query.get("api-version") != version:
        return _refusal("invalid_request", f"api-version must be {version}")
    identity = _identity(here.options.machine, request.query.get("client_id", ""))
    if identity is None:
        return _refusal("invalid_request", "Identity not found")
    resource, root = request.query.get("resource", ""), own_root(request)
    home = here.tenants.all[0]
    if resource.startswith(EXCHANGE):
        from service.emulator.assertions import identity_token

        seconds = here.options.token_seconds
        token = identity_token(root, home.id, identity, resource, here.clock.now(), seconds)
        life = int(seconds)
    elif resource.rstrip("/") in (*GRAPH_ROOTS, root):
        reply = here.tokens.grant(home.id, identity, root)
        token, life = str(reply["access_token"]), int(reply["expires_in"])
    else:
        return _refusal("invalid_resource", f"AADSTS500011: The resource principal named {resource} was not found.")
    # The metadata service gives numbers as text, App Service the end alone.
    end = str(int(here.clock.now()) + life)
    shown = {"access_token": token, "token_type": "Bearer", "resource": resource, "expires_on": end}
    if not is_app_service:
        shown["expires_in"] = str(life)
    return json_reply({**shown, "client_id": identity})


def _identity(machine: Machine | None, client_id: str) -> str | None:
    """The client id of the identity meant; None when the machine does not have it."""
    if machine is None:
        return None
    if not client_id:
        return machine.system_assigned or None
    known = (*machine.user_assigned, *([machine.system_assigned] if machine.system_assigned else []))
    return next((one for one in known if one.lower() == client_id.lower()), None)


def _refusal(error: str, description: str) -> web.Response:
    return json_reply({"error": error, "error_description": description}, 400)


def routes() -> list[web.RouteDef]:
    """Both forms; they answer 400 while the emulator is no machine with identities."""
    return [
        web.get("/metadata/identity/oauth2/token", get_instance_metadata),
        web.get("/msi/token", get_app_service),
    ]
