"""Signing in, for each tenant, with the credential of the settings. What the login refuses is said in words."""

import asyncio
import re
import time
from collections.abc import Iterable

from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok, warn
from service.graph.auth import logins
from service.settings import Tenant
from service.signin.credentials import NoToken
from service.signin.files import read_certificate

SOON_DAYS = 30.0
WRONG = "Put the secret's value, not its id, into {setting}.client_secret or its file; a new one if it is lost."
APP = "Compare {setting}.id and {setting}.client_id with the app registration, and graph.cloud with its cloud."
CERTIFICATE = "Upload the public part of {setting}.certificate_file: az ad app credential reset --append --cert."
RENEW = "Renew {setting}.certificate_file and upload its public part to the app registration."
FEDERATION = (
    "Compare issuer, subject and audience of the app's federated credential, letter by letter (docs/sign-in.md)."
)
# The login's number → what to do; docs/sign-in.md has them all.
TODO = {
    7000215: WRONG,
    7000222: "Make a new secret (`az ad app credential reset`), and put its value into {setting}.client_secret.",
    700016: APP,
    90002: APP,
    700027: CERTIFICATE,
    1000502: RENEW,
    7000274: RENEW,
    7000214: RENEW,
    7000277: RENEW,
    700024: "See the link clock, and that somebody renews the token's file.",
    700211: FEDERATION,
    700212: FEDERATION,
    700213: FEDERATION,
    70021: FEDERATION,
    7002138: FEDERATION,
    7000112: "Enable the application in the tenant (Enterprise applications, Properties).",
    53003: "Take the application out of the conditional access policy.",
    90033: "Wait; the login says that it passes.",
}


async def check(case: Case, name: str, tenant: Tenant) -> Iterable[Look]:
    """Asks the login once; the token stays in memory."""
    login = logins(case.http, case.graph, case.clock)(tenant)
    try:
        grant = await login.grant(tenant)
    except NoToken as problem:
        return [refusal(name, problem)]
    case.grants[name] = grant
    looks = [ok(f"The login gives one for {grant.life_seconds / 60:.0f} minutes ({tenant.credential}).")]
    if tenant.credential == "certificate":
        looks += await asyncio.to_thread(_certificate_end, name, tenant)
    return looks


def refusal(name: str, problem: NoToken) -> Look:
    """The login's refusal in words, and what it asks for."""
    said = str(problem).removeprefix("There is no token: ")
    number = re.search(r"AADSTS([0-9]+)", said)
    setting = f"tenants.{name}"
    todo = TODO.get(int(number[1])) if number else None
    if todo is None:
        todo = APP if problem.is_refusal else "Nothing, if it passes; else see the link graph."
    return broken(said[0].upper() + said[1:], todo.format(setting=setting))


def _certificate_end(name: str, tenant: Tenant) -> list[Look]:
    """It was good enough for the login now; until when? Blocks."""
    from service.signin.certificate import certificate_end

    end = certificate_end(read_certificate(tenant), tenant.certificate_password.reveal() or None)
    days = (end - time.time()) / 86400
    if days > SOON_DAYS:
        return []
    todo = RENEW.format(setting=f"tenants.{name}") + " It is read without a restart."
    return [warn(f"The certificate that it signs in with ends in {days:.0f} days.", todo)]
