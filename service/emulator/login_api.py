"""The login host's one call that matters, `POST /{tenant}/oauth2/v2.0/token`, and the discovery document beside it."""

from aiohttp import web

from service.emulator.entra import LoginRefusal
from service.emulator.misbehaviour import answer
from service.emulator.options import TenantOptions
from service.emulator.site import json_reply, own_root, world

NO_STORE = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"}


async def post_token(request: web.Request) -> web.StreamResponse:
    """A token, or Entra's refusal."""
    here = world(request)
    tenant = here.tenants.find(request.match_info["tenant"])
    with here.journal.noted("token") as visit:
        visit.tenant_id = tenant.id.lower() if tenant else ""
        return await answer(request, visit, _grant)


async def _grant(request: web.Request) -> web.StreamResponse:
    here = world(request)
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    try:
        reply = here.tokens.issue(request.match_info["tenant"], form, own_root(request))
    except LoginRefusal as refusal:
        return json_reply(refusal.body(here.clock.now()), refusal.status, NO_STORE)
    return json_reply(reply, 200, NO_STORE)


async def get_discovery(request: web.Request) -> web.StreamResponse:
    """Where an OpenID client finds the token endpoint."""
    here, name = world(request), request.match_info["tenant"]
    tenant = here.tenants.find(name)
    if tenant is None:
        refusal = LoginRefusal(400, "invalid_tenant", 90002, f"Tenant '{name}' not found.")
        return json_reply(refusal.body(here.clock.now()), 400)
    return json_reply(_discovery(own_root(request), tenant))


def _discovery(root: str, tenant: TenantOptions) -> dict[str, object]:
    base = f"{root}/{tenant.id}"
    return {
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "issuer": f"{base}/v2.0",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "tenant_region_scope": None,
    }


def routes() -> list[web.RouteDef]:
    """Under any tenant id or name."""
    return [
        web.post("/{tenant}/oauth2/v2.0/token", post_token),
        web.get("/{tenant}/v2.0/.well-known/openid-configuration", get_discovery),
    ]
