"""The directory's applications and their credentials: what an administrator does to register the service.

Sources: https://learn.microsoft.com/graph/api/application-post-applications , application-addpassword,
application-update (key credentials) and application-post-federatedidentitycredentials beside it.
"""

import base64
import binascii
import secrets
import textwrap
import uuid
from typing import Any

from aiohttp import web

from service.clock import from_iso, iso
from service.emulator.applications import Application, Note
from service.emulator.directory import GRANT_ROLES, WRITE_APPLICATIONS
from service.emulator.directory_api import (
    addressed,
    bad,
    check_names,
    directory,
    entity,
    guarded,
    in_path,
    listed,
    missing,
    taken,
    text_of,
)
from service.emulator.odata import GUID
from service.emulator.options import Federation, TenantOptions
from service.emulator.site import json_reply, own_root, read_object, world

AUDIENCES = ("AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount")
PLAIN: dict[str, Any] = {
    "identifierUris": [],
    "description": None,
    "notes": None,
    "tags": [],
    "appRoles": [],
    "isFallbackPublicClient": None,
    "serviceManagementReference": None,
    "optionalClaims": None,
    "api": {},
    "web": {},
    "spa": {},
    "publicClient": {},
    "requiredResourceAccess": [],
}
"""Properties that are kept and shown as they came, with what Graph shows before."""
SETTABLE = frozenset({"displayName", "signInAudience", "keyCredentials", *PLAIN})
TWO_YEARS_SECONDS = 2 * 365 * 86400.0  # the default life of a secret, application-addpassword
MOST_FEDERATIONS = 20  # https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations


async def list_applications(request: web.Request) -> web.StreamResponse:
    """`GET /applications`."""
    return listed(request, "applications", [show(one) for one in directory(request).applications.values()])


async def get_application(request: web.Request) -> web.StreamResponse:
    """`GET /applications/{id}`, or by `(appId='…')`."""
    return entity(request, "applications", show(_application(request)))


async def post_application(request: web.Request) -> web.StreamResponse:
    """201: registered; nothing is granted, and nobody can sign in with it yet."""
    here, body = directory(request), await read_object(request)
    name = text_of(body, "displayName", "Application")
    options = TenantOptions(here.tenant.id, here.tenant.name, client_id=str(uuid.uuid4()), client_secret="")
    application = Application(options, name, world(request).clock.now())
    _change(application, body, world(request).clock.now())
    here.register(application)
    return entity(request, "applications", show(application), 201)


async def patch_application(request: web.Request) -> web.StreamResponse:
    """204."""
    _change(_application(request), await read_object(request), world(request).clock.now())
    return web.Response(status=204)


async def delete_application(request: web.Request) -> web.StreamResponse:
    """204: it can sign in no more."""
    directory(request).remove(_application(request))
    return web.Response(status=204)


async def add_password(request: web.Request) -> web.StreamResponse:
    """200 with the new secret, which is shown this once."""
    application, body, now = _application(request), await read_object(request), world(request).clock.now()
    wish = body.get("passwordCredential", {})
    if set(body) - {"passwordCredential"} or not isinstance(wish, dict):
        raise bad("Only a passwordCredential is expected.")
    check_names(wish, frozenset({"displayName", "startDateTime", "endDateTime"}))
    start = _moment(wish, "startDateTime", now)
    end = _moment(wish, "endDateTime", start + TWO_YEARS_SECONDS)
    if end <= start:
        raise bad("The endDateTime of a credential must be later than its startDateTime.")
    secret = secrets.token_urlsafe(30)
    application.secrets[secret] = end
    application.note(secret, Note(name=wish.get("displayName"), start=start))
    context = f"{own_root(request)}/{request.match_info['api']}/$metadata#microsoft.graph.passwordCredential"
    return json_reply({"@odata.context": context, **_password(application, secret), "secretText": secret})


async def remove_password(request: web.Request) -> web.StreamResponse:
    """204: the secret opens nothing any more."""
    application, body = _application(request), await read_object(request)
    key_id = text_of(body, "keyId", "Application")
    secret = next((one for one in application.secrets if application.note(one).key_id == key_id), None)
    if secret is None:
        raise bad(f"No password credential found with keyId '{key_id}'.")
    del application.secrets[secret]
    return web.Response(status=204)


async def list_federations(request: web.Request) -> web.StreamResponse:
    """`GET …/federatedIdentityCredentials`."""
    application = _application(request)
    shown = [_federation(application, one) for one in application.federations]
    return listed(request, "federatedIdentityCredentials", shown)


async def post_federation(request: web.Request) -> web.StreamResponse:
    """201: from now on tokens of this issuer and subject sign the application in."""
    application, body = _application(request), await read_object(request)
    check_names(body, frozenset({"name", "issuer", "subject", "audiences", "description"}))
    name, issuer, subject = (text_of(body, one, "FederatedIdentityCredential") for one in ("name", "issuer", "subject"))
    audiences = body.get("audiences")
    if not isinstance(audiences, list) or len(audiences) != 1 or not isinstance(audiences[0], str):
        raise bad("A federated identity credential must have exactly one audience.")
    if any(application.note(f"{one.issuer} {one.subject}").name == name for one in application.federations):
        raise taken(f"FederatedIdentityCredential with name {name} already exists.")
    if any((one.issuer, one.subject) == (issuer, subject) for one in application.federations):
        raise taken("Issuer and subject combination already exists for this application.")
    if len(application.federations) >= MOST_FEDERATIONS:
        raise bad(f"An application may have at most {MOST_FEDERATIONS} federated identity credentials.")
    one = Federation(issuer, subject, directory(request).issuer_key(issuer), audiences[0])
    application.federations.append(one)
    application.note(f"{issuer} {subject}", Note(name=name))
    return entity(request, "federatedIdentityCredentials", _federation(application, one), 201)


async def delete_federation(request: web.Request) -> web.StreamResponse:
    """204. By id or name."""
    application, wanted = _application(request), request.match_info["federation"]
    for one in application.federations:
        note = application.note(f"{one.issuer} {one.subject}")
        if wanted in (note.key_id, note.name):
            application.federations.remove(one)
            return web.Response(status=204)
    raise missing(wanted)


def show(application: Application) -> dict[str, Any]:
    """An application as Graph shows it: no secret, no key."""
    return {
        "id": application.object_id,
        "deletedDateTime": None,
        "appId": application.client_id,
        "createdDateTime": iso(application.created_at),
        "publisherDomain": None,
        **PLAIN,
        **application.properties,
        "passwordCredentials": [_password(application, secret) for secret in application.secrets],
        "keyCredentials": [_key(application, pem) for pem in application.certificates],
    }


def _application(request: web.Request) -> Application:
    """The application in the path; 404 when there is none."""
    here = directory(request)
    return in_path(request, here.applications, here.application_of)


def _change(application: Application, body: dict[str, Any], now: float) -> None:
    """What POST and PATCH set; 400 before anything is changed."""
    if "passwordCredentials" in body:
        raise bad("Passwords are added with addPassword and removed with removePassword.")
    check_names(body, SETTABLE)
    if "displayName" in body:
        text_of(body, "displayName", "Application")
    if body.get("signInAudience", AUDIENCES[0]) not in AUDIENCES:
        raise bad(f"Invalid value specified for property 'signInAudience' of resource 'Application': {AUDIENCES}.")
    if "requiredResourceAccess" in body:
        _check_required(body["requiredResourceAccess"])
    keys = _keys(application, body["keyCredentials"], now) if "keyCredentials" in body else None
    application.properties.update({name: value for name, value in body.items() if name != "keyCredentials"})
    if keys is not None:
        application.certificates = list(keys)
        for pem, note in keys.items():
            application.note(pem, note)


def _check_required(items: Any) -> None:
    """`requiredResourceAccess`: what the portal shows as configured permissions. It grants nothing."""
    shapes = [
        isinstance(one, dict)
        and GUID.fullmatch(str(one.get("resourceAppId")))
        and isinstance(one.get("resourceAccess"), list)
        and all(
            isinstance(it, dict) and GUID.fullmatch(str(it.get("id"))) and it.get("type") in ("Role", "Scope")
            for it in one["resourceAccess"]
        )
        for one in (items if isinstance(items, list) else [None])
    ]
    if not all(shapes):
        raise bad("Invalid value specified for property 'requiredResourceAccess' of resource 'Application'.")


def _keys(application: Application, items: Any, now: float) -> dict[str, Note]:
    """The certificates (PEM) of `keyCredentials`; one without a key must be there already, under its keyId."""
    known = {application.note(pem).key_id: pem for pem in application.certificates}
    found: dict[str, Note] = {}
    for one in items if isinstance(items, list) else [None]:
        if not isinstance(one, dict) or one.get("type") != "AsymmetricX509Cert" or one.get("usage") != "Verify":
            raise bad("Each key credential must be of type AsymmetricX509Cert and usage Verify.")
        key_id = str(one.get("keyId") or uuid.uuid4())
        pem = _pem(one["key"]) if one.get("key") else known.get(key_id)
        if pem is None or not GUID.fullmatch(key_id):
            raise bad("The value of property 'keyCredentials' has no key, and none is known by this keyId.")
        found[pem] = Note(key_id, one.get("displayName"), _moment(one, "startDateTime", now))
    return found


def _pem(key: Any) -> str:
    """The certificate in PEM of what stands in `key`: base64 of its DER."""
    # Imported late: an emulator that no certificate comes to needs no cryptography.
    from service.emulator.assertions import is_certificate

    try:
        der = base64.b64decode("".join(str(key).split()), validate=True)
    except binascii.Error:
        der = b""
    lines = textwrap.fill(base64.b64encode(der).decode(), 64)
    pem = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
    if not is_certificate(pem):
        raise bad("Key credential value is invalid: it must be a certificate in base64.")
    return pem


def _moment(wish: dict[str, Any], name: str, default: float) -> float:
    if wish.get(name) is None:
        return default
    try:
        return from_iso(str(wish[name]))
    except (ValueError, OverflowError):
        raise bad(f"Cannot convert the value of '{name}' to a DateTimeOffset.") from None


def _password(application: Application, secret: str) -> dict[str, Any]:
    note, end = application.note(secret), application.secrets[secret]
    return {
        "customKeyIdentifier": None,
        "displayName": note.name,
        "endDateTime": None if end is None else iso(end),
        "hint": secret[:3],
        "keyId": note.key_id,
        "secretText": None,
        "startDateTime": iso(note.start),
    }


def _key(application: Application, pem: str) -> dict[str, Any]:
    note = application.note(pem)
    kind = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": None}
    return {"keyId": note.key_id, "displayName": note.name, "startDateTime": iso(note.start), **kind}


def _federation(application: Application, one: Federation) -> dict[str, Any]:
    note = application.note(f"{one.issuer} {one.subject}")
    shown = {"issuer": one.issuer, "subject": one.subject, "audiences": [one.audience], "description": None}
    return {"id": note.key_id, "name": note.name, **shown}


def routes() -> list[web.RouteDef]:
    """Under v1.0 and beta."""
    reading, writing = (WRITE_APPLICATIONS, GRANT_ROLES), (WRITE_APPLICATIONS,)
    collection = "/{api:v1\\.0|beta}/applications"
    defined = [
        web.get(collection, guarded(list_applications, *reading), allow_head=False),
        web.post(collection, guarded(post_application, *writing)),
    ]
    for one in addressed("applications"):
        defined += [
            web.get(one, guarded(get_application, *reading), allow_head=False),
            web.patch(one, guarded(patch_application, *writing)),
            web.delete(one, guarded(delete_application, *writing)),
            web.post(f"{one}/addPassword", guarded(add_password, *writing)),
            web.post(f"{one}/removePassword", guarded(remove_password, *writing)),
            web.get(f"{one}/federatedIdentityCredentials", guarded(list_federations, *reading), allow_head=False),
            web.post(f"{one}/federatedIdentityCredentials", guarded(post_federation, *writing)),
            web.delete(f"{one}/federatedIdentityCredentials/{{federation}}", guarded(delete_federation, *writing)),
        ]
    return defined
