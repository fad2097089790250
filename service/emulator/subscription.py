"""One subscription: what it wants to hear, and how Graph shows it."""

import uuid
from dataclasses import dataclass
from typing import Any

from service.clock import iso
from service.emulator.subscription_wishes import change_types
from service.emulator.tokens import Principal


@dataclass
class Subscription:
    """One subscription of an application in a tenant."""

    id: str
    principal: Principal
    resource: str
    """As it was sent: the reply echoes it."""
    people: frozenset[str] | None
    """Only calls with one of these participants; None: every call."""
    change_type: str
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    created_at: float
    expires_at: float
    """Unix seconds, as all times here."""
    authorized_until: float
    tls_version: str
    lifecycle_due: float = 0.0

    @property
    def change_types(self) -> frozenset[str]:
        """`created`, `updated` or both."""
        return change_types(self.change_type)

    def wants(self, tenant_id: str, participant_ids: frozenset[str]) -> bool:
        """Whether a call of this tenant with these people is meant."""
        return self.principal.tenant_id == tenant_id and (self.people is None or bool(self.people & participant_ids))

    def show(self, with_client_state: bool = False) -> dict[str, Any]:
        """As Graph shows it."""
        return {
            "id": self.id,
            "resource": self.resource,
            "applicationId": self.principal.client_id,
            "changeType": self.change_type,
            "clientState": self.client_state if with_client_state else None,
            "notificationUrl": self.notification_url,
            "notificationQueryOptions": None,
            "lifecycleNotificationUrl": self.lifecycle_url,
            "expirationDateTime": iso(self.expires_at),
            "creatorId": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.principal.tenant_id}/{self.principal.client_id}")),
            "includeResourceData": None,
            "latestSupportedTlsVersion": self.tls_version,
            "encryptionCertificate": None,
            "encryptionCertificateId": None,
            "notificationUrlAppId": None,
        }
