"""An application's registration: its secrets, certificates and federated credentials, which may change at any time, and
whether a token request proves that it comes from the application.
"""

import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.emulator.entra import LoginRefusal, invalid_client
from service.emulator.options import Federation, TenantOptions

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True)
class Note:
    """What the directory remembers of one credential beside the credential itself."""

    key_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    name: str | None = None
    start: float = 0.0
    """Unix seconds of the emulator's clock."""


class Application:
    """One application in one tenant."""

    def __init__(
        self, tenant: TenantOptions, display_name: str = "emulated application", created_at: float = 0.0
    ) -> None:
        """`tenant` gives the ids and the credentials that it begins with."""
        self.client_id = tenant.client_id
        self.object_id = str(uuid.uuid4())
        self.created_at = created_at
        self.properties: dict[str, Any] = {"displayName": display_name, "signInAudience": "AzureADMyOrg"}
        """What an administrator set, under Graph's names (https://learn.microsoft.com/graph/api/resources/application)."""
        self.secrets: dict[str, float | None] = {}
        """Secret → when it expires, Unix seconds of the emulator's clock, or None."""
        if tenant.client_secret:
            self.secrets[tenant.client_secret] = tenant.secret_expires_at
        self.certificates: list[str] = list(tenant.certificates)
        """PEM."""
        self.federations: list[Federation] = list(tenant.federations)
        self._notes: dict[str, Note] = {}
        self._used: dict[str, float] = {}

    def note(self, credential: str, note: Note | None = None) -> Note:
        """What is remembered of a secret, a certificate (PEM) or `issuer subject`; a given note replaces it."""
        if note is not None:
            self._notes[credential] = note
        return self._notes.setdefault(credential, Note())

    def check(self, form: Mapping[str, str], login: str, now: float) -> None:
        """LoginRefusal unless the request is the application's. `login`: scheme, host and tenant that were asked."""
        if form.get("client_assertion"):
            self._check_assertion(form, login, now)
        elif form.get("client_secret"):
            self._check_secret(form["client_secret"], now)
        else:
            message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise invalid_client(7000218, message)

    def _check_secret(self, secret: str, now: float) -> None:
        known = next((one for one in self.secrets if hmac.compare_digest(one.encode(), secret.encode())), None)
        if known is None:
            raise invalid_client(7000215, f"Invalid client secret provided for app '{self.client_id}'.")
        expires = self.secrets[known]
        if expires is not None and now >= expires:
            message = f"The provided client secret keys for app '{self.client_id}' are expired."
            raise invalid_client(7000222, message)

    def _check_assertion(self, form: Mapping[str, str], login: str, now: float) -> None:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            message = (
                f"The request body must contain the following parameter: 'client_assertion_type' = {ASSERTION_TYPE}."
            )
            raise LoginRefusal(400, "invalid_request", 900144, message)
        # Imported late: an emulator that no assertion comes to needs no cryptography.
        from service.emulator import assertions

        found = assertions.read(form["client_assertion"])
        if found.issuer.lower() == self.client_id.lower() or found.thumbprint:
            jti = assertions.check_own(found, self.client_id, self.certificates, login, now)
            self._use_once(jti, found.expires_at, now)
        else:
            assertions.check_federated(found, self.federations, now)

    def _use_once(self, jti: str, expires_at: float, now: float) -> None:
        """An assertion signed with a certificate serves one request: stricter than Entra is known to be."""
        self._used = {one: end for one, end in self._used.items() if end > now}
        if not jti or jti in self._used:
            raise invalid_client(50027, "Invalid JWT token. The claim 'jti' is missing or was used before.")
        self._used[jti] = expires_at
