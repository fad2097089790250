"""What `callstream emulate --tls` lays out: the authority to trust, and a credential of every kind to sign in with."""

import shlex
import shutil
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from service.emulator.options import Federation, Machine, TenantOptions
from service.errors import UserError

ISSUER = "https://issuer.emulator.example"
SUBJECT = "system:serviceaccount:callstream:callstream"
SYSTEM_IDENTITY = "55555555-0000-4000-8000-000000000001"
USER_IDENTITY = "55555555-0000-4000-8000-000000000002"
# The laid-out token serves as long as the laid-out certificates do.
TOKEN_SECONDS = 30 * 86400


@dataclass(frozen=True)
class TlsFolder:
    """Files for one run."""

    folder: Path
    context: ssl.SSLContext
    certificate_pem: str
    federation: Federation
    machine: Machine

    @property
    def ca_file(self) -> Path:
        """The authority's certificate: `graph.ca_file`, `curl --cacert`."""
        return self.folder / "ca.pem"

    def registered(self, tenant: TenantOptions) -> TenantOptions:
        """The tenant, its application knowing what is laid out."""
        return replace(tenant, certificates=(self.certificate_pem,), federations=(self.federation,))

    def ways(self, url: str) -> list[str]:
        """How to sign in otherwise than with the secret: lines for a person, after CALLSTREAM_TENANTS__<NAME>__."""
        certificate, token = (shlex.quote(str(self.folder / name)) for name in ("application.pem", "federated-token"))
        return [
            "Other ways to sign in, instead of __CLIENT_SECRET (docs/sign-in.md):",
            f"  __CREDENTIAL=certificate       __CERTIFICATE_FILE={certificate}",
            f"  __CREDENTIAL=federated-token   __FEDERATED_TOKEN_FILE={token}",
            f"  __CREDENTIAL=managed-identity  without __CLIENT_ID, and AZURE_POD_IDENTITY_AUTHORITY_HOST={url}",
        ]


@contextmanager
def tls_folder(folder: Path | None, names: Sequence[str]) -> Iterator[TlsFolder]:
    """Lays out the files; without a folder in one of its own that is removed in the end.

    `names` are what clients call this machine besides localhost. UserError when the folder cannot be written to, or
    `cryptography` is missing.
    """
    place = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="callstream-emulator-"))
    try:
        try:
            laid_out = _lay_out(place, names)
        except OSError as exc:
            raise UserError(f"The folder {place} cannot be written to: {exc.strerror}.", exit_code=1) from None
        yield laid_out
    finally:
        if not folder:
            shutil.rmtree(place, ignore_errors=True)


def _lay_out(folder: Path, names: Sequence[str]) -> TlsFolder:
    try:
        from cryptography.hazmat.primitives.asymmetric import rsa

        from service.emulator import assertions, tls
    except ModuleNotFoundError:
        raise UserError("--tls needs cryptography: pip install 'callstream[azure]'.") from None
    authority, certificate = tls.make_authority(), tls.make_client_certificate()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": Federation.audience, "nbf": now, "exp": now + TOKEN_SECONDS}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_text(authority.pem, encoding="utf-8")
    tls.write_private(folder / "application.pem", certificate.whole_pem)
    tls.write_private(folder / "federated-token", assertions.sign(key, claims))
    context = authority.server_context(tls.names_of(names))
    federation = Federation(ISSUER, SUBJECT, tls.public_pem(key))
    return TlsFolder(folder, context, certificate.public_pem, federation, Machine(SYSTEM_IDENTITY, (USER_IDENTITY,)))
