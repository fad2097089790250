"""Shell: the certificate that an application signs in with, as it stands in its files now.

Source: https://learn.microsoft.com/entra/identity-platform/certificate-credentials ; azure-identity takes RSA alone.
"""

import time
from typing import Any, Final

import structlog
from azure.identity.aio import CertificateCredential
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from service.settings import Tenant
from service.signin.credentials import NoToken
from service.signin.files import read_certificate, stamp

# So long before its end a certificate is spoken of. Seconds.
SOON_SECONDS: Final = 30 * 86400.0

log = structlog.get_logger()


def certificate_credential(tenant: Tenant, **options: Any) -> CertificateCredential:
    """azure-identity's credential of it. Blocks (files, RSA). Raises NoToken. Warns of an end that is near."""
    content = read_certificate(tenant)
    password = tenant.certificate_password.reveal() or None
    try:
        credential = CertificateCredential(
            tenant.id, tenant.client_id, certificate_data=content, password=password, **options
        )
        end = certificate_end(content, password)
    except Exception:  # cryptography has a dozen errors for what is wrong with a file
        raise NoToken(
            f"There is no token: certificate_file {tenant.certificate_file} must hold, as PEM or PFX, a certificate "
            "and its RSA private key (or certificate_key_file the key), and certificate_password the key's password.",
            is_refusal=True,
            outcome=None,
        ) from None
    left = end - time.time()  # the login judges it by the real time, whatever our clock does
    if left < SOON_SECONDS:
        file, days = tenant.certificate_file, round(left / 86400, 1)
        log.warning("the certificate ends soon", tenant_id=tenant.id, certificate_file=file, days_left=days)
    return credential


class CertificateEnd:
    """When a tenant's certificate ends, as its file has it now: a gauge that is read when it is scraped."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._stamp: object = None
        self._end = 0.0

    def __call__(self) -> float:
        """Unix seconds; 0 while the file holds no certificate that can be read. Reads it again when it has changed."""
        if (now := stamp(self._tenant)) != self._stamp:
            self._stamp, self._end = now, self._read()
        return self._end

    def _read(self) -> float:
        try:
            content = read_certificate(self._tenant)
            return certificate_end(content, self._tenant.certificate_password.reveal() or None)
        except Exception:  # as above; the login's refusal says what is wrong with it
            return 0.0


def certificate_end(content: bytes, password: str | None) -> float:
    """When the first certificate of a PEM or PFX file ends, Unix seconds. Raises ValueError and the like."""
    if b"-----BEGIN" in content:
        found: x509.Certificate | None = x509.load_pem_x509_certificate(content)
    else:
        _, found, _ = pkcs12.load_key_and_certificates(content, password.encode() if password else None)
    if found is None:
        raise ValueError("no certificate")
    return found.not_valid_after_utc.timestamp()
