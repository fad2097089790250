"""The emulated directory: an administrator registers an application, gives it credentials, and consents."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.emulator.directory import APP_ROLES, GRAPH_APP_ID, READ_CALLS
from service.emulator.options import ADMINISTRATOR_ID, ADMINISTRATOR_SECRET, DEMO_TENANT_ID
from service.emulator.tls import make_client_certificate
from service.errors import TenantMustWait
from service.settings import Secret, Tenant
from tests.shell.signin_fixture import ISSUER, outside_token, signing_in
from tests.shell.test_emulator_tools import Answer, Client, emulated

APPLICATIONS, PRINCIPALS, RECORDS = "/v1.0/applications", "/v1.0/servicePrincipals", "/v1.0/communications/callRecords"
ROLE = APP_ROLES[READ_CALLS]
NOBODY = "99999999-0000-4000-8000-000000000000"


@dataclass
class Admin:
    """An administrator at work."""

    client: Client

    async def register(self, name: str = "callstream") -> dict[str, Any]:
        """A new application."""
        made = await self.client.post(APPLICATIONS, {"displayName": name})
        assert made.status == 201
        return dict(made.json)

    async def join(self, app_id: str) -> str:
        """Its service principal's object id."""
        made = await self.client.post(PRINCIPALS, {"appId": app_id})
        assert made.status == 201
        return str(made.json["id"])

    async def secret(self, object_id: str, **wish: str) -> dict[str, Any]:
        """A new secret of the application."""
        made = await self.client.post(f"{APPLICATIONS}/{object_id}/addPassword", {"passwordCredential": wish})
        assert made.status == 200
        return dict(made.json)

    async def graph(self) -> dict[str, Any]:
        """Microsoft Graph's own service principal."""
        found = await self.client.get(f"{PRINCIPALS}?$filter=appId%20eq%20'{GRAPH_APP_ID}'")
        [one] = found.json["value"]
        return dict(one)

    async def consent(self, principal_id: str) -> Answer:
        """Grants the role that reads call records."""
        body = {"principalId": principal_id, "resourceId": (await self.graph())["id"], "appRoleId": ROLE}
        return await self.client.post(f"{PRINCIPALS}/{principal_id}/appRoleAssignments", body)

    async def read_as(self, app_id: str, secret: str) -> tuple[str, int]:
        """A new token of the application, and what Graph answers to it."""
        token = (await self.client.ask_token(client_id=app_id, client_secret=secret)).json["access_token"]
        return token, await self.read_with(token)

    async def read_with(self, token: str) -> int:
        """What Graph answers to this token."""
        return (await self.client.get(RECORDS, {"Authorization": f"Bearer {token}"})).status


@asynccontextmanager
async def administered(**options: Any) -> AsyncIterator[Admin]:
    """An emulator whose client is the administrator."""
    async with emulated(log_in=False, **options) as client:
        answer = await client.ask_token(client_id=ADMINISTRATOR_ID, client_secret=ADMINISTRATOR_SECRET)
        client.token = answer.json["access_token"]
        yield Admin(client)


async def test_an_application_reads_calls_once_it_is_registered_joined_and_consented_to() -> None:
    """Each step is needed, what is granted stands in tokens issued later, and what is revoked counts at once."""
    async with administered() as admin:
        app = await admin.register()
        app_id, secret = app["appId"], (await admin.secret(app["id"]))["secretText"]
        unjoined = await admin.client.ask_token(client_id=app_id, client_secret=secret)
        principal_id = await admin.join(app_id)
        early, before = await admin.read_as(app_id, secret)
        granted = await admin.consent(principal_id)
        stale = await admin.read_with(early)
        late, after = await admin.read_as(app_id, secret)
        await admin.client.call("DELETE", f"{PRINCIPALS}/{principal_id}/appRoleAssignments/{granted.json['id']}")

        assert (unjoined.status, unjoined.json["error_codes"]) == (401, [7000229])
        assert (before, granted.status, stale, after) == (403, 201, 403, 200)
        assert granted.json["appRoleId"] == ROLE
        assert await admin.read_with(late) == 403


async def test_what_is_registered_can_be_found_again() -> None:
    """By each form in which people look for it, and no secret is ever shown twice."""
    async with administered() as admin:
        app = await admin.register("call stream")
        made = await admin.secret(app["id"], displayName="one")
        principal_id = await admin.join(app["appId"])
        for query in (f"appId eq '{app['appId']}'", "startswith(displayName,'call')", "displayName eq 'call stream'"):
            found = await admin.client.get(f"{APPLICATIONS}?$filter={query.replace(' ', '%20')}")
            assert [one["id"] for one in found.json["value"]] == [app["id"]], query
        names = f"servicePrincipalNames/any(c:c%20eq%20'{app['appId']}')"
        by_name = await admin.client.get(f"{PRINCIPALS}?$filter={names}&$select=id")
        by_app = await admin.client.get(f"{APPLICATIONS}(appId='{app['appId']}')")

        assert by_name.json["value"] == [{"id": principal_id}]
        [password] = by_app.json["passwordCredentials"]
        assert (password["keyId"], password["secretText"]) == (made["keyId"], None)
        assert made["secretText"].startswith(password["hint"])
        assert ROLE in {role["id"] for role in (await admin.graph())["appRoles"]}


async def test_a_secret_ends_when_it_says_or_when_it_is_removed() -> None:
    """Entra's own numbers for either."""
    async with administered() as admin:
        app = await admin.register()
        await admin.join(app["appId"])
        ended = await admin.secret(
            app["id"], startDateTime="2020-01-01T00:00:00Z", endDateTime="2021-01-01T00:00:00+00:00"
        )
        removed = await admin.secret(app["id"])
        await admin.client.post(f"{APPLICATIONS}/{app['id']}/removePassword", {"keyId": removed["keyId"]})
        answers = [
            await admin.client.ask_token(client_id=app["appId"], client_secret=one["secretText"])
            for one in (ended, removed)
        ]

        assert [answer.json["error_codes"] for answer in answers] == [[7000222], [7000215]]


async def test_only_an_administrator_is_obeyed() -> None:
    """The service's own application may read calls, and nothing in the directory."""
    async with emulated() as client:
        for method, path in (("GET", APPLICATIONS), ("POST", APPLICATIONS), ("GET", PRINCIPALS)):
            refused = await client.call(method, path, json={"displayName": "mine"} if method == "POST" else None)
            assert (refused.status, refused.code) == (403, "Authorization_RequestDenied")
        client.token = ""
        assert (await client.get(APPLICATIONS)).status == 401


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (APPLICATIONS, {}, 400, "'displayName'"),
        (APPLICATIONS, {"displayName": "a", "colour": "red"}, 400, "'colour'"),
        (APPLICATIONS, {"displayName": "a", "signInAudience": "Everybody"}, 400, "'signInAudience'"),
        (APPLICATIONS, {"displayName": "a", "requiredResourceAccess": [{"resourceAppId": "graph"}]}, 400, "required"),
        (APPLICATIONS, {"displayName": "a", "passwordCredentials": [{}]}, 400, "addPassword"),
        (PRINCIPALS, {"appId": NOBODY}, 400, "does not reference a valid application object"),
        (PRINCIPALS, {"appId": "{app}"}, 409, "is already in use"),
        (f"{APPLICATIONS}/{NOBODY}/addPassword", {}, 404, "does not exist"),
        (f"{APPLICATIONS}/{{object}}/addPassword", {"passwordCredential": {"endDateTime": "soon"}}, 400, "endDateTime"),
        (f"{APPLICATIONS}/{{object}}/removePassword", {"keyId": NOBODY}, 400, "keyId"),
        (
            f"{APPLICATIONS}/{{object}}/federatedIdentityCredentials",
            {"name": "a", "issuer": "b", "subject": "c", "audiences": []},
            400,
            "one audience",
        ),
        (
            f"{PRINCIPALS}/{{principal}}/appRoleAssignments",
            {"principalId": "{principal}", "resourceId": "{graph}", "appRoleId": NOBODY},
            400,
            "was not found on application",
        ),
        (
            f"{PRINCIPALS}/{{principal}}/appRoleAssignments",
            {"principalId": "{principal}", "resourceId": NOBODY, "appRoleId": ROLE},
            404,
            "does not exist",
        ),
        (
            f"{PRINCIPALS}/{{principal}}/appRoleAssignments",
            {"principalId": "{graph}", "resourceId": "{graph}", "appRoleId": ROLE},
            400,
            "differ",
        ),
    ],
)
async def test_what_the_directory_refuses(path: str, body: dict[str, Any], status: int, words: str) -> None:
    """In Graph's words, with Graph's status."""
    async with administered() as admin:
        app = await admin.register()
        principal_id = await admin.join(app["appId"])
        known = {
            "object": app["id"],
            "app": app["appId"],
            "principal": principal_id,
            "graph": (await admin.graph())["id"],
        }
        filled = {name: value.format(**known) if isinstance(value, str) else value for name, value in body.items()}
        refused = await admin.client.post(path.format(**known), filled)

        assert (refused.status, words in refused.message) == (status, True), refused.message


async def test_consent_is_given_once() -> None:
    """The second time Graph says so, which scripts rely on."""
    async with administered() as admin:
        principal_id = await admin.join((await admin.register())["appId"])
        first, second = await admin.consent(principal_id), await admin.consent(principal_id)

        assert (first.status, second.status) == (201, 400)
        assert second.message == "Permission being assigned already exists on the object"


async def test_filters_that_are_not_understood_are_refused() -> None:
    """Rather than answered with everything."""
    async with administered() as admin:
        for query in ("$filter=tags/any()", "$orderby=displayName", "$top=0", "$select=secrets"):
            assert (await admin.client.get(f"{APPLICATIONS}?{query}")).status == 400, query


async def test_certificates_and_federated_credentials_of_a_new_application_sign_in(tmp_path: Path) -> None:
    """Uploaded as az uploads them: base64 in lines; another is added without its key being known any more."""
    async with signing_in(tmp_path) as login:
        admin = Tenant(id=DEMO_TENANT_ID, client_id=ADMINISTRATOR_ID, client_secret=Secret(ADMINISTRATOR_SECRET))
        client = Client(login.emulator, login.http, await login.tokens.token(admin))
        app = await Admin(client).register()
        await Admin(client).join(app["appId"])
        mine = login.with_certificate(make_client_certificate().whole_pem, client_id=app["appId"])
        with pytest.raises(TenantMustWait, match="700027"):
            await login.tokens.token(mine)
        for _ in range(2):
            certificate = make_client_certificate()
            shown = (await client.get(f"{APPLICATIONS}/{app['id']}")).json["keyCredentials"]
            lines = "".join(certificate.public_pem.splitlines(keepends=True)[1:-1])
            new = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": lines}
            changed = await client.patch(f"{APPLICATIONS}/{app['id']}", {"keyCredentials": [*shown, new]})
            assert changed.status == 204
        mine = login.with_certificate(certificate.whole_pem, client_id=app["appId"])
        assert await login.tokens.token(mine)

        trusted = {"name": "a", "issuer": ISSUER, "subject": "pod", "audiences": ["api://AzureADTokenExchange"]}
        await client.post(f"{APPLICATIONS}/{app['id']}/federatedIdentityCredentials", trusted)
        login.tokens.invalidate(mine, await login.tokens.token(mine))
        token = login.write("pod-token", outside_token(login.clock.now(), sub="pod"))
        pod = login.tenant("federated-token", client_id=app["appId"], federated_token_file=token)
        assert await login.tokens.token(pod)
        assert len((await client.get(f"{APPLICATIONS}/{app['id']}")).json["keyCredentials"]) == 2


async def test_a_deleted_application_signs_in_no_more() -> None:
    """Its service principal goes with it."""
    async with administered() as admin:
        app = await admin.register()
        secret = (await admin.secret(app["id"]))["secretText"]
        principal_id = await admin.join(app["appId"])
        deleted = await admin.client.call("DELETE", f"{APPLICATIONS}/{app['id']}")
        told = await admin.client.ask_token(client_id=app["appId"], client_secret=secret)

        assert (deleted.status, told.json["error_codes"]) == (204, [700016])
        assert (await admin.client.get(f"{PRINCIPALS}/{principal_id}")).status == 404
