"""Core: what stands in the notifications, backfill, retry, dead-letter and lifecycle topics. No I/O."""

import msgspec


class Notification(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One reason to look at one call record. Times are UTC text as `service.clock.iso` writes it."""

    tenant_id: str
    """Lower case GUID."""
    call_id: str
    """Lower case GUID."""
    source: str
    """webhook, eventhub, reconcile, backfill or replay."""
    received_at: str
    change_type: str | None = None
    subscription_id: str | None = None
    version: int | None = None
    """The version to be had at least, where the source knows it."""
    etag: str | None = None
    attempt: int = 0
    """Failed attempts so far; waiting for a tenant or an outage is none."""
    first_seen_at: str | None = None
    """When it was first received, kept over retries; absent means `received_at`."""
    due_at: str | None = None
    """In a retry topic: not before this time."""
    reason: str | None = None
    """Why it is in a retry topic: the reason of the last failure."""

    @property
    def key(self) -> bytes:
        """The Kafka key of everything that concerns this call."""
        return call_key(self.tenant_id, self.call_id)


class LifecycleEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One lifecycle notification (graph-contract section 4): reauthorizationRequired, subscriptionRemoved or missed."""

    tenant_id: str
    subscription_id: str
    lifecycle_event: str
    received_at: str
    subscription_expiration_date_time: str | None = None


def call_key(tenant_id: str, call_id: str) -> bytes:
    """`{tenantId}/{callId}` in lower case: one spelling, because murmur2 sees case."""
    return f"{tenant_id}/{call_id}".lower().encode()
