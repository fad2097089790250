"""Who may ask: tokens, their refusals, consent, and the manners of every answer."""

import pytest

from service.clock import Clock
from service.emulator.options import DEMO_TENANT_ID, TenantOptions
from tests.shell.test_emulator_tools import add_record, emulated, make_record, record_path

RECORDS = "/v1.0/communications/callRecords"


async def test_a_granted_token_opens_the_records() -> None:
    """The client-credentials reply has Entra's fields and its token is accepted."""
    async with emulated() as client:
        reply = (await client.ask_token()).json
        answer = await client.get(RECORDS)

        assert reply["token_type"] == "Bearer"
        assert reply["expires_in"] == 3599
        assert answer.status == 200


@pytest.mark.parametrize(
    ("tenant", "form", "status", "error", "number"),
    [
        ("99999999-0000-4000-8000-000000000000", {}, 400, "invalid_request", 90002),
        (DEMO_TENANT_ID, {"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        (DEMO_TENANT_ID, {"client_secret": None}, 401, "invalid_client", 7000218),
        (DEMO_TENANT_ID, {"client_id": "22222222-2222-4333-8444-555555555555"}, 400, "unauthorized_client", 700016),
        (DEMO_TENANT_ID, {"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        (DEMO_TENANT_ID, {"grant_type": None}, 400, "invalid_request", 900144),
        (DEMO_TENANT_ID, {"scope": "https://graph.microsoft.com/CallRecords.Read.All"}, 400, "invalid_scope", 1002012),
        (DEMO_TENANT_ID, {"scope": "https://example.com/.default"}, 400, "invalid_resource", 500011),
        (DEMO_TENANT_ID, {"scope": None}, 400, "invalid_request", 900144),
    ],
)
async def test_a_token_is_refused_in_entras_words(
    tenant: str, form: dict[str, str | None], status: int, error: str, number: int
) -> None:
    """Each wrong field has Entra's status, error and AADSTS number."""
    async with emulated(log_in=False) as client:
        answer = await client.ask_token(tenant, **form)

        assert (answer.status, answer.json["error"]) == (status, error)
        assert answer.json["error_codes"] == [number]
        assert answer.json["error_description"].startswith(f"AADSTS{number}: ")


async def test_tenant_names_and_the_emulators_own_scope_are_understood() -> None:
    """`contoso.onmicrosoft.com` and `{emulator}/.default` are as good as the GUID and Graph's own scope."""
    async with emulated(log_in=False) as client:
        answer = await client.ask_token("contoso.onmicrosoft.com", scope=f"{client.emulator.url}/.default")
        discovery = await client.get("/contoso/v2.0/.well-known/openid-configuration")

        assert answer.status == 200
        assert discovery.json["token_endpoint"] == f"{client.emulator.url}/{DEMO_TENANT_ID}/oauth2/v2.0/token"


@pytest.mark.parametrize("header", [None, "Bearer invented", "Basic abc"])
async def test_an_absent_or_unknown_token_is_401(header: str | None) -> None:
    """With Graph's error body and a challenge."""
    async with emulated(log_in=False) as client:
        answer = await client.get(RECORDS, {"Authorization": header} if header else None)

        assert (answer.status, answer.code) == (401, "InvalidAuthenticationToken")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_token_expires() -> None:
    """After its lifetime on the clock, and at once when the control site says so."""
    clock = Clock(speed=1000)
    async with emulated(clock, token_seconds=300) as client:
        await clock.sleep(301)
        aged = await client.get(RECORDS)
        await client.log_in()
        expired = (await client.call("DELETE", "/emulator/tokens")).json["expired"]
        told = await client.get(RECORDS)

        assert (aged.status, told.status) == (401, 401)
        assert "expired" in told.message
        assert expired >= 1


async def test_without_consent_reads_are_403_until_it_is_given() -> None:
    """Granted on the control site, it stands in tokens issued from then on. Revoking is at once."""
    tenant = TenantOptions(consented=False)
    async with emulated(tenants=(tenant,)) as client:
        before = await client.get(RECORDS)
        await client.patch("/emulator/tenants/contoso", {"consented": True})
        stale = await client.get(RECORDS)
        await client.log_in()
        after = await client.get(RECORDS)
        await client.patch("/emulator/tenants/contoso", {"consented": False})
        revoked = await client.get(RECORDS)

        assert (before.status, before.code) == (403, "Forbidden")
        assert [stale.status, after.status, revoked.status] == [403, 200, 403]


async def test_a_tenant_sees_only_its_own_records() -> None:
    """The same call id in two tenants is two records."""
    other = TenantOptions(id="dddddddd-1111-4222-8333-444455556666", name="fabrikam")
    async with emulated(tenants=(TenantOptions(), other)) as client:
        clock = client.emulator.world.clock
        foreign = client.emulator.store.add_call(other.id, make_record(clock))
        mine = await client.get(record_path(foreign))
        await client.log_in("fabrikam")
        theirs = await client.get(record_path(foreign))

        assert (mine.status, mine.code) == (404, "NotFound")
        assert theirs.json["id"] == foreign.id


async def test_an_open_emulator_asks_for_no_token() -> None:
    """`open` lets reads in without one, but a wrong token stays wrong."""
    async with emulated(log_in=False, open=True) as client:
        call = add_record(client)

        assert (await client.get(record_path(call))).status == 200
        assert (await client.get(record_path(call), {"Authorization": "Bearer invented"})).status == 401


async def test_every_answer_carries_request_ids() -> None:
    """The client's own id comes back in header and error body, for unknown paths and methods too."""
    async with emulated() as client:
        mine = {"client-request-id": "my-id"}
        right = await client.get(RECORDS, mine)
        missing = await client.get("/v1.0/users", mine)
        wrong = await client.call("DELETE", RECORDS)

        assert right.headers["client-request-id"] == "my-id"
        assert right.headers["request-id"] != missing.headers["request-id"]
        inner = missing.json["error"]["innerError"]
        assert (missing.status, inner["client-request-id"]) == (404, "my-id")
        assert inner["request-id"] == missing.headers["request-id"]
        assert (wrong.status, wrong.code) == (405, "MethodNotAllowed")
