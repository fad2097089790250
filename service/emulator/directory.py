"""A tenant's directory: applications, the service principals that stand for them, and what was granted to these.

An application is a registration; only its service principal can sign in and be granted anything. Granting an app role
of Microsoft Graph to it is what the portal calls admin consent. Sources:
https://learn.microsoft.com/entra/identity-platform/app-objects-and-service-principals ,
https://learn.microsoft.com/graph/permissions-reference (ids of the app roles).
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from service.emulator.applications import Application
from service.emulator.options import Federation, Machine, TenantOptions

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
READ_CALLS = "CallRecords.Read.All"
WRITE_APPLICATIONS = "Application.ReadWrite.All"
GRANT_ROLES = "AppRoleAssignment.ReadWrite.All"
APP_ROLES = {
    READ_CALLS: "45bbb07e-7321-4fd7-a8f6-3ff27e6a81c8",
    "CallRecord-PstnCalls.Read.All": "a2611786-80b3-417e-adaa-707d4261a5f0",
    WRITE_APPLICATIONS: "1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9",
    GRANT_ROLES: "06b708a9-e830-4db3-a914-8e69da51d44f",
}
"""Microsoft Graph's own app roles, as far as anything here asks for them: name → id, the same in every tenant."""


@dataclass(frozen=True)
class ServicePrincipal:
    """Who can sign in and be granted app roles."""

    client_id: str
    name: str
    created_at: float
    """Unix seconds of the emulator's clock."""
    is_managed: bool = False
    """A managed identity: it has no application."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Assignment:
    """One app role of Microsoft Graph, granted to a service principal."""

    principal: ServicePrincipal
    role_id: str
    created_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Directory:
    """One tenant's. Times are Unix seconds of the emulator's clock."""

    def __init__(self, tenant: TenantOptions, machine: Machine | None, now: float) -> None:
        """It begins with Graph itself, the administrator, the tenant's application and the machine's identities."""
        self.tenant = tenant
        self.applications: dict[str, Application] = {}
        self.principals: dict[str, ServicePrincipal] = {}
        self.assignments: dict[str, Assignment] = {}
        self.graph = self._enter(ServicePrincipal(GRAPH_APP_ID, "Microsoft Graph", now))
        self._readers: list[ServicePrincipal] = []
        administrator = replace(
            tenant, client_id=tenant.administrator_id, client_secret=tenant.administrator_secret, certificates=()
        )
        admin = self.join(self.register(Application(replace(administrator, federations=()), "administrator", now)), now)
        for role in (WRITE_APPLICATIONS, GRANT_ROLES):
            self.assign(admin, APP_ROLES[role], now)
        self.application = self.register(Application(tenant, created_at=now))
        """The one that the tenant begins with."""
        self._readers.append(self.join(self.application, now))
        for identity in _identities(machine):
            self._readers.append(self._enter(ServicePrincipal(identity, "managed identity", now, is_managed=True)))
        self.set_consent(tenant.consented, now)

    def register(self, application: Application) -> Application:
        """Adds a registration; nobody can sign in with it yet."""
        self.applications[application.object_id] = application
        return application

    def join(self, application: Application, now: float) -> ServicePrincipal:
        """The application's service principal, new. Check `principal_of` first: there is one at most."""
        return self._enter(ServicePrincipal(application.client_id, application.properties["displayName"], now))

    def remove(self, application: Application) -> None:
        """The registration, its service principal and what was granted to it."""
        del self.applications[application.object_id]
        if principal := self.principal_of(application.client_id):
            self.leave(principal)

    def leave(self, principal: ServicePrincipal) -> None:
        """The service principal and what was granted to it; the registration stays."""
        del self.principals[principal.id]
        self.assignments = {key: one for key, one in self.assignments.items() if one.principal.id != principal.id}
        self._readers = [one for one in self._readers if one.id != principal.id]

    def assign(self, principal: ServicePrincipal, role_id: str, now: float) -> Assignment:
        """Grants an app role of Microsoft Graph. Check `roles_of` first: each is granted once."""
        one = Assignment(principal, role_id, now)
        self.assignments[one.id] = one
        return one

    def application_of(self, client_id: str) -> Application | None:
        """By application (client) id."""
        return next((one for one in self.applications.values() if one.client_id.lower() == client_id.lower()), None)

    def principal_of(self, client_id: str) -> ServicePrincipal | None:
        """By application (client) id."""
        return next((one for one in self.principals.values() if one.client_id.lower() == client_id.lower()), None)

    def assigned_to(self, principal: ServicePrincipal) -> list[Assignment]:
        """What was granted, in the order it was."""
        return [one for one in self.assignments.values() if one.principal.id == principal.id]

    def roles_of(self, client_id: str) -> frozenset[str]:
        """Names of the app roles that are granted now."""
        principal = self.principal_of(client_id)
        held = {one.role_id for one in self.assigned_to(principal)} if principal else set()
        return frozenset(name for name, role_id in APP_ROLES.items() if role_id in held)

    def set_consent(self, is_consented: bool, now: float) -> None:
        """Grants `CallRecords.Read.All` to whom the tenant began with, or takes it from everyone."""
        role_id = APP_ROLES[READ_CALLS]
        self.assignments = {key: one for key, one in self.assignments.items() if one.role_id != role_id}
        for reader in self._readers if is_consented else ():
            self.assign(reader, role_id, now)

    def issuer_key(self, issuer: str) -> str:
        """PEM with which an outside issuer signs, as it would publish it; empty where the emulator does not know it."""
        known: Iterator[Federation] = (one for one in self.tenant.federations if one.issuer == issuer)
        return next((one.public_key for one in known), "")

    def _enter(self, principal: ServicePrincipal) -> ServicePrincipal:
        self.principals[principal.id] = principal
        return principal


def _identities(machine: Machine | None) -> list[str]:
    """Client ids of a machine's managed identities."""
    return [] if machine is None else [one for one in (machine.system_assigned, *machine.user_assigned) if one]
