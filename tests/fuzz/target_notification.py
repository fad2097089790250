"""Target: the body of a POST to the public site, up to the record that would be written to Kafka.

An independent reader (the standard library's JSON) says whether an item was entitled to come in. A second gatekeeper
holds a key that is in no corpus and that no mutation can guess: it must let nothing in at all.
"""

import json
import secrets
from typing import Any

import msgspec

from service.lanes.assembler import is_call
from service.lanes.ledger import ledger_key
from service.metrics import REFUSED
from service.notification import (
    LONGEST_NAME,
    Gatekeeper,
    LifecycleEvent,
    NotACollection,
    Notification,
    Refused,
    client_state,
    decode_collection,
    event_label,
    is_guid,
    judge,
)
from service.receiver import validation_token
from tests.fuzz.tally import Tally

TENANTS = ("c0ffee00-1111-4222-8333-444455556666", "c0ffee00-9999-4222-8333-444455556666")
KEYS = {1: b"an old key, sixteen", 2: b"a newer key, sixteen"}
STATES = {tenant: {client_state(number, key, tenant) for number, key in KEYS.items()} for tenant in TENANTS}
NOW = "2026-11-22T10:00:00.000Z"

_names = dict(zip(TENANTS, ("contoso", "fabrikam"), strict=True))
_gatekeeper = Gatekeeper(_names, KEYS)
_stranger = Gatekeeper(_names, {1: secrets.token_bytes(32)})


def run(data: bytes, tally: Tally) -> None:
    """Raises AssertionError, or anything else, when something is wrong."""
    _handshake(data)
    try:
        items = decode_collection(data)
    except NotACollection as refusal:
        assert refusal.kind in ("not_json", "not_a_collection")
        return
    for raw in items:
        _item(raw, tally)


def _handshake(data: bytes) -> None:
    target = data[:200].decode("utf-8", "surrogateescape")
    token = validation_token("/notifications?" + target)
    assert token is None or (isinstance(token, bytes) and len(token) <= len(data))


def _item(raw: msgspec.Raw, tally: Tally) -> None:
    judged = judge(raw, _gatekeeper, NOW)
    tally.add("items")
    if isinstance(judged, Refused):
        assert judged.reason in REFUSED
        assert judged.tenant_id is None or is_guid(judged.tenant_id)
    else:
        tally.add("admitted")
        _entitled(raw)
        _fit_for_kafka(judged)
    tally.add("forged")
    is_admitted = not isinstance(judge(raw, _stranger, NOW), Refused)
    tally.add("forged_admitted", is_admitted)
    assert not is_admitted, "a notice was admitted whose clientState was made without the key"


def _entitled(raw: msgspec.Raw) -> None:
    """The tenant is ours, the `clientState` is the tenant's own: told by another parser than the one under test."""
    fields: dict[str, Any] = json.loads(bytes(raw).decode("utf-8", "replace"), strict=False)
    assert fields["clientState"] in STATES[fields["tenantId"].lower()]


def _fit_for_kafka(judged: Notification | LifecycleEvent) -> None:
    """What is stored holds ids that are GUIDs and short printable names: nothing that could lead anywhere else."""
    assert judged.tenant_id in TENANTS
    again = msgspec.json.decode(msgspec.json.encode(judged), type=type(judged))
    assert again == judged
    names = []
    if isinstance(judged, Notification):
        assert is_call(judged)
        assert judged.call_id == judged.call_id.lower()
        assert len(ledger_key(judged.tenant_id, judged.call_id)) == 32
        assert judged.key == f"{judged.tenant_id}/{judged.call_id}".encode()
        assert judged.subscription_id is None or is_guid(judged.subscription_id)
        names = [judged.change_type]
    else:
        assert is_guid(judged.subscription_id)
        assert event_label(judged.lifecycle_event)
        names = [judged.lifecycle_event, judged.subscription_expiration_date_time]
    assert all(name is None or (0 < len(name) <= LONGEST_NAME and name.isprintable()) for name in names)
