"""What change and lifecycle notifications look like (graph-contract 3 and 4)."""

from typing import Any

from service.clock import iso
from service.emulator.store import Announcement
from service.emulator.subscription import Subscription


def change_item(one: Subscription, announcement: Announcement, kind: str) -> dict[str, Any]:
    """Tells of a version of a call; `kind` is its change type (graph-contract 3.2)."""
    resource = f"communications/callRecords/{announcement.call_id}"
    return {
        "subscriptionId": one.id,
        "clientState": one.client_state,
        "changeType": kind,
        "resource": resource,
        "subscriptionExpirationDateTime": _offset_form(one.expires_at),
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.callRecord",
            "@odata.id": resource,
            "id": announcement.call_id,
        },
        "tenantId": one.principal.tenant_id,
    }


def lifecycle_item(one: Subscription) -> dict[str, Any]:
    """Reminds of a subscription that runs out (graph-contract 4)."""
    return {
        "subscriptionId": one.id,
        "subscriptionExpirationDateTime": _offset_form(one.expires_at),
        "tenantId": one.principal.tenant_id,
        "clientState": one.client_state,
        "lifecycleEvent": "reauthorizationRequired",
    }


def _offset_form(unix_seconds: float) -> str:
    """`2026-11-24T07:15:00.000+00:00`: notifications were seen with an offset, not with Z."""
    return iso(unix_seconds).replace("Z", "+00:00")
