"""The archive: whole records after the privacy policy, in parts that Kafka takes; shaped again they give the same."""

import json
from typing import Any

import pytest
from hypothesis import given

from service.kafka.topics import Topics
from service.lanes.messages import publish_records
from service.lanes.policy import Publish, ShapedRecord
from service.notification import Notification
from service.record.archive import Pages, packed, parts_of, unpacked
from service.record.decode import decode_record
from service.record.encode import EventEncoder, encode_summary
from service.record.flatten import flatten
from service.record.hiding import HiddenDocument
from service.record.personal import CLASSES
from service.record.privacy import OPEN, Policy, policy_of
from tests.core.test_privacy import HASH, HASHED, RECORD, SENTINELS, STRICT, TENANT, published, texts
from tests.core.test_record_flatten import slow
from tests.strategies import call_records, odd_json

DEFAULT = policy_of("reduced")


def pages_of(document: dict[str, Any]) -> Pages:
    return Pages(record=json.dumps(document).encode())


def archived(pages: Pages, policy: Policy = OPEN) -> dict[str, Any]:
    """The document in the archive."""
    return json.loads(unpacked(packed(pages, HiddenDocument(policy, TENANT))))  # type: ignore[no-any-return]


def shaped_again(document: dict[str, Any], policy: Policy) -> list[bytes]:
    """Events and summary of what the archive holds, as a replay makes them."""
    record, _ = decode_record(unpacked(packed(pages_of(document), HiddenDocument(policy, TENANT))))
    flattened = flatten(TENANT, record)
    encoder = EventEncoder()
    return [*(encoder.encode(event) for event in flattened.events()), encode_summary(flattened.summary)]


def test_an_open_archive_is_what_graph_sent_without_its_links() -> None:
    """Unknown properties travel; annotations other than types do not."""
    document = {
        **RECORD,
        "@odata.context": "https://graph/$metadata#x",
        "sessions@odata.nextLink": "https://graph/next",
        "newProperty": {"deep": ["text", 1]},
    }

    assert archived(pages_of(document)) == {**RECORD, "newProperty": {"deep": ["text", 1]}}


def test_pages_become_one_document() -> None:
    """What the first answer held, then each page; a collection that was walked from its start replaces it."""
    pages = pages_of({"id": "r", "version": 1, "sessions": [{"id": "a"}], "participants_v2": [{"id": "old"}]})
    pages.add("sessions", b'{"value":[{"id":"b"},{"id":"c"}]}')
    pages.add("sessions", b'{"value":[{"id":"d"}]}')
    pages.restart("participants")
    pages.add("participants", b'{"value":[{"id":"new"}]}')

    document = archived(pages)
    assert [session["id"] for session in document["sessions"]] == ["a", "b", "c", "d"]
    assert document["participants_v2"] == [{"id": "new"}]


def test_strict_leaves_nothing_personal_in_the_archive() -> None:
    """Neither in known properties nor in those that Graph added, nor where no text belongs."""
    document = json.loads(json.dumps(RECORD))
    session = document["sessions"][0]
    session["sentinelProperty"] = {"name": "sentinel-new"}
    session["isTest"] = "sentinel-boolean"
    session["caller"]["associatedIdentity"]["sentinelMember"] = "sentinel-open-type"
    session["caller"]["identity"]["sentinelText"] = "sentinel-in-a-set"
    session["caller"]["cpuCoresCount"] = ["sentinel-list"]
    session["caller"]["name"] = {"sentinel": "an object"}
    session["segments"][0]["media"][0]["callerNetwork"]["port"] = {"sentinel": 1}

    assert SENTINELS.findall(json.dumps(archived(pages_of(document), STRICT))) == []


def test_hashes_in_the_archive_are_those_of_the_events() -> None:
    """So that an archive joins with what was published from it."""
    in_events = {text for message in published(RECORD, HASHED) for _, text in texts(json.loads(message))}
    in_archive = {text for _, text in texts(archived(pages_of(RECORD), HASHED))}

    assert {text for text in in_events if HASH.fullmatch(text)} <= in_archive
    assert not SENTINELS.search(json.dumps(sorted(in_archive)))


@pytest.mark.parametrize("policy", [OPEN, DEFAULT, HASHED])
def test_what_is_shaped_again_is_what_was_published(policy: Policy) -> None:
    """Byte for byte, with every personal field filled."""
    assert shaped_again(RECORD, policy) == published(RECORD, policy)


def test_a_phone_stays_a_phone_when_its_number_is_hidden() -> None:
    """Its number alone may have told that it is one."""
    end = {"associatedIdentity": {"@odata.type": "#microsoft.graph.callRecords.userIdentity", "id": "+4912345"}}
    media = [{"label": "main-audio", "streams": [{}]}]
    document = {"id": "r", "version": 1, "sessions": [{"caller": end, "segments": [{"media": media}]}]}
    policy = policy_of("open", {"phone_numbers": "drop"})

    assert shaped_again(document, policy) == published(document, policy)
    assert json.loads(published(document, policy)[0])["caller"]["endpoint"]["identity"] == {"kind": "phone"}


@slow
@given(call_records())
def test_any_record_is_shaped_again_as_it_was_published(document: dict[str, Any]) -> None:
    """With an open policy and with everything hashed."""
    assert shaped_again(document, OPEN) == published(document)
    assert shaped_again(document, HASHED) == published(document, HASHED)


@slow
@given(call_records(), odd_json, odd_json)
def test_nothing_that_json_can_say_stops_the_archive(document: dict[str, Any], one: Any, other: Any) -> None:
    """Whatever stands where; and the open archive shapes to the same even so."""
    odd = {**document, "organizer_v2": one, "sessions": [*(document.get("sessions") or []), other], "new": one}
    for policy in (OPEN, HASHED, STRICT):
        packed(pages_of(odd), HiddenDocument(policy, TENANT))

    assert shaped_again(odd, OPEN) == published(odd)


def test_the_archive_is_the_same_bytes_each_time() -> None:
    """No clock in it."""
    hidden = HiddenDocument(HASHED, TENANT)

    assert packed(pages_of(RECORD), hidden) == packed(pages_of(RECORD), hidden)


def test_half_a_surrogate_and_large_numbers_survive() -> None:
    """What the fast encoder refuses, the standard library writes."""
    body = b'{"id":"r","version":1,"odd":"\\ud800","large":123456789012345678901234567890}'
    pages = Pages(record=body)

    assert archived(pages) == {"id": "r", "version": 1, "odd": "\ud800", "large": 123456789012345678901234567890}


def test_parts_are_numbered_and_say_of_which_version_they_are() -> None:
    """In the call's own partition, under its key, before the ledger entry."""
    note = Notification(tenant_id=TENANT, call_id=RECORD["id"], source="webhook", received_at="2026-11-22T10:00:00Z")
    shaped = ShapedRecord(3, [], b"{}", "", 2, "2026-11-22T10:00:01Z", raw=bytes(range(10)))
    topics = Topics("p", raw_days=7)
    records = list(publish_records(Publish(note, shaped), topics, 2, raw_part_bytes=4))

    raw = [record for record in records if record.topic == "p.raw"]
    assert b"".join(record.value or b"" for record in raw) == bytes(range(10))
    assert {(record.partition, record.key) for record in raw} == {(2, note.key)}
    assert [(dict(one.headers)["part"], dict(one.headers)["parts"]) for one in raw] == [
        (b"1", b"3"),
        (b"2", b"3"),
        (b"3", b"3"),
    ]
    assert {dict(one.headers)["version"] for one in raw} == {b"3"}
    assert records[-1].topic == "p.ledger"
    assert [record.topic for record in publish_records(Publish(note, shaped), Topics("p"), 2)] == [
        "p.calls",
        "p.ledger",
    ]


def test_the_archive_s_topic_is_there_only_when_it_is_enabled() -> None:
    """With its own retention, and the partition count of all per-call topics."""
    assert "p.raw" not in {spec.name for spec in Topics("p").specs(12)}
    [spec] = [spec for spec in Topics("p", raw_days=7).specs(12) if spec.name == "p.raw"]

    assert spec.partitions == 12
    assert spec.config == {"cleanup.policy": "delete", "retention.ms": str(7 * 24 * 3600 * 1000)}


def test_parts_of_nothing_is_one_part() -> None:
    """A version always leaves something to find."""
    assert list(parts_of(b"", 4)) == [b""]
    assert set(CLASSES) == set(OPEN.actions)
