"""The directory's service principals and what is granted to them: the part of Graph by which an administrator consents.

Sources: https://learn.microsoft.com/graph/api/serviceprincipal-post-serviceprincipals ,
https://learn.microsoft.com/graph/api/serviceprincipal-post-approleassignments , and the texts of refusals as users
report them in public issues.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from service.clock import iso
from service.emulator import odata
from service.emulator.directory import (
    APP_ROLES,
    GRANT_ROLES,
    GRAPH_APP_ID,
    WRITE_APPLICATIONS,
    Assignment,
    Directory,
    ServicePrincipal,
)
from service.emulator.directory_query import found, selected
from service.emulator.refusals import Refusal
from service.emulator.site import PRINCIPAL, Handler, admit, json_reply, own_root, read_object, world

T = TypeVar("T")
OPTIONS = ("$filter", "$select", "$top", "$count")


def guarded(handler: Handler, *needed: str) -> Handler:
    """A token whose application holds one of the app roles that the call needs."""

    async def serve(request: web.Request) -> web.StreamResponse:
        admit(request, needs_token=True, needs_consent=False)
        principal = request[PRINCIPAL]
        if principal is None or not principal.roles & set(needed):
            raise Refusal(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
        return await handler(request)

    return serve


def directory(request: web.Request) -> Directory:
    """The directory of the tenant that the token speaks for."""
    principal = request[PRINCIPAL]
    if principal is None:
        raise RuntimeError("the directory is never asked without a token")
    return world(request).tenants.directory(principal.tenant_id)


def bad(message: str) -> Refusal:
    """400 as the directory says it."""
    return Refusal(400, "Request_BadRequest", message)


def missing(object_id: str) -> Refusal:
    """404 as the directory says it."""
    message = f"Resource '{object_id}' does not exist or one of its queried reference-property objects are not present."
    return Refusal(404, "Request_ResourceNotFound", message)


def taken(message: str) -> Refusal:
    """409 as the directory says it."""
    return Refusal(409, "Request_MultipleObjectsWithSameKeyValue", message)


def text_of(body: dict[str, Any], name: str, what: str) -> str:
    """A property that must be there and say something."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise bad(f"A value is required for property '{name}' of resource '{what}'.")
    return value


def check_names(body: dict[str, Any], known: frozenset[str]) -> None:
    """400 for a property that the type does not have."""
    for name in body:
        if name not in known and "@" not in name:
            raise bad(f"Property '{name}' does not exist as a declared property or extension property.")


def by_id(things: dict[str, T], object_id: str) -> T:
    """An object by its object id; 404 otherwise."""
    one = things.get(object_id.lower())
    if one is None:
        raise missing(object_id)
    return one


def in_path(request: web.Request, things: dict[str, T], by_app: Callable[[str], T | None]) -> T:
    """The object in the path, by its own id or by its application's (`addressed`); 404 when there is none."""
    client_id = request.match_info.get("app_id")
    if client_id is None:
        return by_id(things, request.match_info["id"])
    one = by_app(client_id)
    if one is None:
        raise missing(client_id)
    return one


def listed(request: web.Request, kind: str, things: list[dict[str, Any]]) -> web.Response:
    """A collection, filtered and cut as asked."""
    odata.check_options(request.query, OPTIONS)
    context = f"{own_root(request)}/{request.match_info['api']}/$metadata#{kind}"
    value = [selected(one, request.query) for one in found(things, request.query)]
    return json_reply({"@odata.context": context, "value": value})


def entity(request: web.Request, kind: str, thing: dict[str, Any], status: int = 200) -> web.Response:
    """One object."""
    odata.check_options(request.query, ("$select",))
    context = f"{own_root(request)}/{request.match_info['api']}/$metadata#{kind}/$entity"
    return json_reply({"@odata.context": context, **selected(thing, request.query)}, status)


async def list_principals(request: web.Request) -> web.StreamResponse:
    """`GET /servicePrincipals`."""
    here = directory(request)
    return listed(request, "servicePrincipals", [show(here, one) for one in here.principals.values()])


async def get_principal(request: web.Request) -> web.StreamResponse:
    """`GET /servicePrincipals/{id}`, or by `(appId='…')`."""
    return entity(request, "servicePrincipals", show(directory(request), _principal(request)))


async def post_principal(request: web.Request) -> web.StreamResponse:
    """201: from now on the application can sign in here."""
    here, body = directory(request), await read_object(request)
    check_names(body, frozenset({"appId", "accountEnabled", "displayName", "tags", "appRoleAssignmentRequired"}))
    client_id = text_of(body, "appId", "ServicePrincipal")
    if here.principal_of(client_id):
        message = "The service principal cannot be created, updated, or restored because the service principal name "
        raise taken(f"{message}{client_id} is already in use.")
    application = here.application_of(client_id)
    if application is None:
        message = f"The appId '{client_id}' of the service principal does not reference a valid application object."
        raise bad(message)
    one = here.join(application, world(request).clock.now())
    return entity(request, "servicePrincipals", show(here, one), 201)


async def delete_principal(request: web.Request) -> web.StreamResponse:
    """204: what was granted to it is gone too."""
    here, one = directory(request), _principal(request)
    if one.client_id == GRAPH_APP_ID:
        raise bad("Microsoft Graph's own service principal cannot be deleted.")
    here.leave(one)
    return web.Response(status=204)


async def list_assignments(request: web.Request) -> web.StreamResponse:
    """`GET /servicePrincipals/{id}/appRoleAssignments`: what is granted to it."""
    here, one = directory(request), _principal(request)
    return listed(request, "appRoleAssignments", [show_assignment(here, it) for it in here.assigned_to(one)])


async def list_assigned_to(request: web.Request) -> web.StreamResponse:
    """`GET /servicePrincipals/{id}/appRoleAssignedTo`: to whom its own roles are granted."""
    here, resource = directory(request), _principal(request)
    every = here.assignments.values() if resource.id == here.graph.id else ()
    return listed(request, "appRoleAssignments", [show_assignment(here, it) for it in every])


async def post_assignment(request: web.Request) -> web.StreamResponse:
    """201: consent. Tokens issued from now on have the role."""
    here, target, body = directory(request), _principal(request), await read_object(request)
    check_names(body, frozenset({"principalId", "resourceId", "appRoleId"}))
    wanted = {name: text_of(body, name, "AppRoleAssignment") for name in ("principalId", "resourceId", "appRoleId")}
    of_client = request.path.endswith("appRoleAssignments")
    if wanted["principalId" if of_client else "resourceId"].lower() != target.id:
        raise bad("The object that is addressed and the one that the body names differ.")
    principal = by_id(here.principals, wanted["principalId"])
    resource = by_id(here.principals, wanted["resourceId"])
    role_id = wanted["appRoleId"].lower()
    if resource.id != here.graph.id or role_id not in APP_ROLES.values():
        raise bad("Permission being assigned was not found on application")
    if any(one.role_id == role_id for one in here.assigned_to(principal)):
        raise bad("Permission being assigned already exists on the object")
    one = here.assign(principal, role_id, world(request).clock.now())
    world(request).store.on_announcement()  # subscribers are told at once
    return entity(request, "appRoleAssignments", show_assignment(here, one), 201)


async def delete_assignment(request: web.Request) -> web.StreamResponse:
    """204: the permission is taken away, at once."""
    here, principal, object_id = directory(request), _principal(request), request.match_info["assignment"]
    if object_id not in [one.id for one in here.assigned_to(principal)]:
        raise missing(object_id)
    del here.assignments[object_id]
    world(request).store.on_announcement()
    return web.Response(status=204)


def show(here: Directory, one: ServicePrincipal) -> dict[str, Any]:
    """A service principal as Graph shows it; Graph's own has its app roles."""
    roles = APP_ROLES.items() if one.id == here.graph.id else ()
    application = here.application_of(one.client_id)
    return {
        "id": one.id,
        "deletedDateTime": None,
        "accountEnabled": True,
        "appDisplayName": None if one.is_managed else one.name,
        "appId": one.client_id,
        "appOwnerOrganizationId": here.tenant.id if application else None,
        "appRoleAssignmentRequired": False,
        "createdDateTime": iso(one.created_at),
        "displayName": one.name,
        "servicePrincipalNames": [one.client_id],
        "servicePrincipalType": "ManagedIdentity" if one.is_managed else "Application",
        "signInAudience": application.properties["signInAudience"] if application else None,
        "tags": [],
        "appRoles": [
            {
                "allowedMemberTypes": ["Application"],
                "description": name,
                "displayName": name,
                "id": role_id,
                "isEnabled": True,
                "origin": "Application",
                "value": name,
            }
            for name, role_id in roles
        ],
    }


def show_assignment(here: Directory, one: Assignment) -> dict[str, Any]:
    """A granted app role as Graph shows it."""
    return {
        "id": one.id,
        "deletedDateTime": None,
        "appRoleId": one.role_id,
        "createdDateTime": iso(one.created_at),
        "principalDisplayName": one.principal.name,
        "principalId": one.principal.id,
        "principalType": "ServicePrincipal",
        "resourceDisplayName": here.graph.name,
        "resourceId": here.graph.id,
    }


def _principal(request: web.Request) -> ServicePrincipal:
    """The service principal in the path; 404 when there is none."""
    here = directory(request)
    return in_path(request, here.principals, here.principal_of)


def addressed(kind: str) -> tuple[str, str]:
    """Both forms of one object's path: `/kind/{id}` and `/kind(appId='…')`."""
    return f"/{{api:v1\\.0|beta}}/{kind}/{{id}}", f"/{{api:v1\\.0|beta}}/{kind}(appId='{{app_id}}')"


def routes() -> list[web.RouteDef]:
    """Under v1.0 and beta."""
    reading, writing = (WRITE_APPLICATIONS, GRANT_ROLES), (WRITE_APPLICATIONS,)
    granting = (GRANT_ROLES,)
    collection = "/{api:v1\\.0|beta}/servicePrincipals"
    defined = [
        web.get(collection, guarded(list_principals, *reading), allow_head=False),
        web.post(collection, guarded(post_principal, *writing)),
    ]
    for one in addressed("servicePrincipals"):
        defined += [
            web.get(one, guarded(get_principal, *reading), allow_head=False),
            web.delete(one, guarded(delete_principal, *writing)),
            web.get(f"{one}/appRoleAssignments", guarded(list_assignments, *reading), allow_head=False),
            web.post(f"{one}/appRoleAssignments", guarded(post_assignment, *granting)),
            web.delete(f"{one}/appRoleAssignments/{{assignment}}", guarded(delete_assignment, *granting)),
            web.get(f"{one}/appRoleAssignedTo", guarded(list_assigned_to, *reading), allow_head=False),
            web.post(f"{one}/appRoleAssignedTo", guarded(post_assignment, *granting)),
        ]
    return defined
