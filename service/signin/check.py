"""What is wrong with a tenant's credential, said at start in one sentence, before anything opens."""

from importlib.util import find_spec
from typing import Final

from service.errors import UserError
from service.settings import Settings, Tenant
from service.signin.clouds import Endpoints
from service.signin.credentials import NoToken
from service.signin.files import read_token

# Kind of credential → settings that it needs, settings that it may have besides.
KINDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "client-secret": (("client_secret",), ("client_secret_file",)),
    "certificate": (("certificate_file",), ("certificate_key_file", "certificate_password")),
    "federated-token": (("federated_token_file",), ()),
    "workload-identity": (("federated_token_file",), ()),
    "managed-identity": ((), ()),
    "managed-identity-federation": ((), ("identity_client_id",)),
}
# Which kind a setting belongs to: what somebody meant who set it beside another kind.
OWNERS: Final = {name: kind for kind, (needed, allowed) in reversed(KINDS.items()) for name in (*needed, *allowed)}
INSTALL: Final = "pip install 'callstream[azure]'"


def check_credentials(settings: Settings, endpoints: Endpoints) -> None:
    """Raises UserError for the first tenant that could not sign in whatever the login says. Reads credential files."""
    for name, tenant in settings.tenants.items():
        _check_fields(name, tenant)
        if tenant.credential != "client-secret" and not has_azure():
            raise UserError(f"Tenant {name} signs in with {tenant.credential}, which needs azure-identity: {INSTALL}.")
        if tenant.credential not in ("client-secret", "managed-identity") and not is_tls(endpoints):
            raise UserError(
                f"Tenant {name} signs in with {tenant.credential}, which goes over https alone, and graph.login_url is "
                f"{endpoints.login_url}: for the emulator that is `callstream emulate --tls`."
            )
        _check_files(name, tenant)


def has_azure() -> bool:
    """Whether azure-identity is installed; it is not imported for that."""
    try:
        return find_spec("azure.identity") is not None
    except ModuleNotFoundError:  # not even `azure`
        return False


def is_tls(endpoints: Endpoints) -> bool:
    """Whether the login is asked over https; azure-identity takes nothing else."""
    return endpoints.login_url.startswith("https://")


def _check_fields(name: str, tenant: Tenant) -> None:
    needed, allowed = KINDS[tenant.credential]
    for field, kind in OWNERS.items():
        if getattr(tenant, field) and field not in (*needed, *allowed):
            raise UserError(
                f"Tenant {name} has {field}, but its credential is {tenant.credential}: "
                f"set credential to {kind}, or remove {field}."
            )
    missing = next((field for field in needed if not getattr(tenant, field)), None)
    if missing and tenant.credential == "workload-identity":
        raise UserError(
            f"Tenant {name} signs in with workload-identity, but this pod has no AZURE_FEDERATED_TOKEN_FILE: label it "
            "azure.workload.identity/use=true and name the annotated service account (docs/sign-in.md)."
        )
    if missing:
        # The sentence of the commonest mistake, a secret that was not given, stays in the words of its variable.
        shown = missing.replace("_", " ") if missing == "client_secret" else missing
        variable = f"CALLSTREAM_TENANTS__{name.upper()}__{missing.upper()}"
        raise UserError(f"Tenant {name} has no {shown}: set {variable}, or another credential (docs/sign-in.md).")


def _check_files(name: str, tenant: Tenant) -> None:
    try:
        if tenant.credential == "certificate":
            from service.signin.certificate import certificate_credential

            certificate_credential(tenant, authority="https://login.microsoftonline.com")
        elif tenant.federated_token_file:
            read_token(tenant)
    except NoToken as problem:
        sentence = str(problem).removeprefix("There is no token: ")
        raise UserError(f"Tenant {name}: {sentence}") from None
