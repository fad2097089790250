"""Dead letters: the closed set of reasons, what has become of a letter, what a replay queues."""

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson
import pytest

from service import errors, metrics
from service.cli.dead_letter import _document, _row, _summary, told
from service.clock import from_iso, iso
from service.errors import CallstreamError, Retriable, SetAside
from service.graph import client, exchange  # noqa: F401 - their errors are part of the tree
from service.kafka.rights import LETTERS, rights_of
from service.kafka.topics import Topics
from service.lanes import policy
from service.lanes.ledger import Entry, ledger_key
from service.lanes.messages import dead_headers, dead_records
from service.lanes.policy import Dead, Rules
from service.lanes.reasons import CUT_FROM, REASONS, explained
from service.letters.letter import (
    RECEIPT,
    Left,
    Letter,
    Selection,
    Shelf,
    State,
    plan,
    queued,
    receipt_headers,
)
from service.notification import Notification
from service.settings import Retry

ROOT = Path(__file__).parents[2]
TENANT = "c0ffee00-1111-4222-8333-444455556666"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
OTHER = "b2f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
NOW = from_iso("2026-11-22T12:00:00Z")


@dataclass
class Record:
    """A Kafka record of the topic."""

    offset: int
    value: bytes | None
    headers: list[tuple[str, bytes]]
    key: bytes | None = None
    timestamp: int = int(NOW * 1000)


def note(call_id: str = CALL, **fields: object) -> Notification:
    """A live notification."""
    given = {"source": "webhook", "received_at": "2026-11-20T10:00:00Z", **fields}
    return Notification(tenant_id=TENANT, call_id=call_id, **given)  # type: ignore[arg-type]


def letter(offset: int, dead: Dead) -> Record:
    """The Kafka record that a lane writes."""
    written = next(iter(dead_records(dead, Topics(), 0)))
    return Record(offset, written.value, list(written.headers), written.key)


def receipt(offset: int, of: int) -> Record:
    """What a replay writes beside the notification."""
    return Record(offset, msgspec.json.encode(note()), receipt_headers(of), timestamp=int(NOW * 1000) + 60_000)


def shelf_of(*records: Record) -> Shelf:
    """A topic that has been read."""
    shelf = Shelf()
    for record in records:
        shelf.add(record)
    return shelf


def states(shelf: Shelf, ledger: dict[bytes, Entry] | None = None) -> list[State]:
    """Of every letter, in order."""
    return [one.state for one in shelf.judged(Selection(), ledger or {})]


# ---- reasons -------------------------------------------------------------------------------------------------------


def branches(root: type[CallstreamError]) -> set[type[CallstreamError]]:
    """A class of errors and all below it."""
    return {root}.union(*(branches(one) for one in root.__subclasses__()))


def made(kind: type[CallstreamError]) -> CallstreamError:
    """An error of a kind, whatever its arguments are."""
    error = kind.__new__(kind)
    error.args = ("why",)
    error.__dict__ |= {"cause": "outage", "wait_seconds": 60.0}
    return error


def raised_by_looks() -> list[type[CallstreamError]]:
    """Every error below the two branches that a look may end with."""
    kinds = (branches(Retriable) | branches(SetAside)) - {Retriable, SetAside}
    return sorted(
        (kind for kind in kinds if kind.__module__.startswith(("service.errors", "service.graph"))),
        key=lambda kind: kind.__name__,
    )


@pytest.mark.parametrize("kind", raised_by_looks())
def test_whatever_a_look_fails_with_ends_in_a_reason_that_is_explained(kind: type[CallstreamError]) -> None:
    """Of the whole tree of errors; the last attempt of an old notification."""
    rules = Rules.of(Retry())
    last = note(attempt=rules.most_attempts, received_at="2020-01-01T00:00:00Z")
    outcome = policy.after_failure(last, made(kind), None, rules, NOW)

    if isinstance(outcome, Dead):
        assert outcome.reason in REASONS
    else:
        assert issubclass(kind, errors.TenantMustWait)


def test_every_reason_written_in_the_lanes_is_explained_and_counted() -> None:
    """The literal reasons of the code, the metric's closed set and the explanations are the same names."""
    literal = set()
    for path in (ROOT / "service/lanes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id="dead") | ast.Attribute(attr="dead"), args=[_, ast.Constant(value=str(why)), *_]
                ):
                    literal.add(why)
                case ast.Call(func=ast.Name(id="dead_headers"), args=[ast.Constant(value=str(why)), *_]):
                    literal.add(why)

    assert {"unavailable", "unpublishable", "malformed", "unknown_tenant"} <= literal
    assert literal <= set(REASONS)
    assert set(REASONS) == set(metrics.DEAD)


def test_the_operations_page_explains_each_reason_in_the_same_words() -> None:
    """One table, in the order of the code."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = [f"| `{name}` | {why.means} | {why.todo} |" for name, why in REASONS.items()]

    assert "\n".join(rows) in page
    assert all(why.means.endswith(".") and why.todo.endswith(".") for why in REASONS.values())


def test_a_reason_of_another_version_is_no_mistake() -> None:
    """The topic keeps letters for 30 days, over releases."""
    assert "does not know" in explained("something_new").means


# ---- what has become of a letter -----------------------------------------------------------------------------------


def test_a_letter_is_read_as_it_was_written() -> None:
    """Every fact of it, and when."""
    dead = policy.dead(note(attempt=3), "unpublishable", "too large", Entry(4), 5)
    [read] = shelf_of(letter(7, dead)).letters

    assert read == Letter(
        7, NOW, "unpublishable", "too large", 3, 5, 4, note(attempt=3), msgspec.json.encode(note(attempt=3))
    )
    assert read.key == ledger_key(TENANT, CALL)


def test_what_is_no_notification_is_a_letter_without_a_call() -> None:
    """Garbage, and ids that are no GUIDs."""
    crooked = msgspec.json.encode(msgspec.structs.replace(note(), call_id="../me"))
    shelf = shelf_of(
        *[Record(n, value, dead_headers("malformed", "x", 0)) for n, value in enumerate([b"\x00", None, crooked])]
    )

    assert [one.notification for one in shelf.letters] == [None, None, None]
    assert states(shelf) == [State.OPEN] * 3
    assert plan(shelf.judged(Selection(), {}), [TENANT], once_more=True).left == Counter({Left.NO_CALL: 3})


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 20, "9" * 5000, "-1", "\u00b2", "\u0663", "1e3"])
def test_a_number_that_is_none_of_ours_breaks_no_list(digits: str) -> None:
    """Whoever wrote it: -1 stands for it, and the letter can be listed, as JSON too, told and queued."""
    headers = [(name, digits.encode()) for name in ("attempts", "version", "published")]
    record = Record(1, msgspec.json.encode(note()), [("reason", b"internal"), *headers], timestamp=2**62)
    shelf = shelf_of(record, Record(2, b"", [("reason", RECEIPT.encode()), ("replay-of", digits.encode())]))
    [judged] = shelf.judged(Selection(), {})
    one = judged.letter

    assert (one.attempts, one.version, one.published) == (-1, -1, -1)
    assert orjson.loads(orjson.dumps(_document(judged, {})))["attempts"] == -1
    assert told(judged, {})[0].startswith("Dead letter 1, set aside 9999-12-31")
    assert msgspec.json.encode(queued(one, NOW))


def test_a_letter_whose_notification_has_a_number_that_is_none_is_of_no_call() -> None:
    """A lane would set it aside again."""
    value = msgspec.json.encode(note()).replace(b"{", b'{"version":%s,' % (b"9" * 30), 1)

    assert shelf_of(Record(1, value, dead_headers("malformed", "x", 0))).letters[0].notification is None


def test_a_cut_letter_says_what_it_was_cut_from_and_is_of_no_call() -> None:
    """Though what is left of it reads like a notification."""
    value = msgspec.json.encode(note())
    headers = [*dead_headers("malformed", "x", 0), (CUT_FROM, b"1048573")]
    shelf = shelf_of(Record(1, value, headers))
    [judged] = shelf.judged(Selection(), {})

    assert judged.letter.notification is None
    lines = told(judged, {})
    assert f"  Value     {value.decode()}" in lines
    assert "  Cut       The letter holds only the beginning of 1,048,573 bytes." in lines


def test_what_another_tool_wrote_reaches_no_terminal_as_it_is() -> None:
    """Escapes in any header or value, in the list and in the one letter."""
    evil = "from-the-future\x1b[2J\r\n\u202e"
    for value in (b"\x1b]0;x\x07", msgspec.json.encode(note(source=evil, first_seen_at=evil))):
        shelf = shelf_of(Record(3, value, [("reason", evil.encode()), ("error", evil.encode())]))
        [judged] = shelf.judged(Selection(), {})
        shown = [*told(judged, {}), *_row(judged, {}), *_summary([judged])]

        assert all(line.isprintable() for line in shown), shown


def test_what_became_of_a_letter_is_told_by_the_ledger_the_receipts_and_newer_letters() -> None:
    """Open, queued again, set aside again, published."""
    first = letter(0, policy.dead(note(), "unavailable", "404", None))
    again = letter(2, policy.dead(note(source="replay"), "unavailable", "404", Entry(0, dead=True)))
    key = ledger_key(TENANT, CALL)

    assert states(shelf_of(first)) == [State.OPEN]
    assert states(shelf_of(first), {key: Entry(0, dead=True)}) == [State.OPEN]
    assert states(shelf_of(first, receipt(1, of=0))) == [State.REPLAYED]
    assert states(shelf_of(first, receipt(1, of=0), again)) == [State.AGAIN, State.OPEN]
    assert states(shelf_of(first, receipt(1, of=0)), {key: Entry(3)}) == [State.PUBLISHED]
    assert states(shelf_of(first, receipt(1, of=0), again), {key: Entry(3)}) == [State.PUBLISHED] * 2


def test_what_was_published_before_a_letter_is_no_answer_to_it() -> None:
    """The letter knows which version there was; only a newer one is news. No clocks are compared."""
    shelf = shelf_of(letter(0, policy.dead(note(), "not_a_call_record", "a list", Entry(4))))
    key = ledger_key(TENANT, CALL)

    assert states(shelf, {key: Entry(4)}) == [State.OPEN]
    assert states(shelf, {key: Entry(5)}) == [State.PUBLISHED]


def test_letters_are_selected_by_every_fact() -> None:
    """Reason, tenant, call, time, number; together they narrow."""
    [read] = shelf_of(letter(3, policy.dead(note(), "internal", "bug", None))).letters
    right = {
        "reason": "internal",
        "tenant_id": TENANT,
        "call_id": CALL,
        "since": NOW,
        "until": NOW + 1,
        "numbers": frozenset([3]),
    }
    wrong = {
        "reason": "x",
        "tenant_id": OTHER,
        "call_id": OTHER,
        "since": NOW + 1,
        "until": NOW,
        "numbers": frozenset([4]),
    }

    assert Selection(**right).takes(read)
    for name, value in wrong.items():
        assert not Selection(**(right | {name: value})).takes(read), name
    assert Selection().is_all
    assert not Selection(reason="internal").is_all


# ---- replay --------------------------------------------------------------------------------------------------------


def test_a_replay_queues_the_newest_open_letter_of_each_call() -> None:
    """And says of the others why not."""
    shelf = shelf_of(
        letter(0, policy.dead(note(), "unavailable", "404", None)),
        letter(1, policy.dead(note(), "unavailable", "404", None)),
        letter(2, policy.dead(note(OTHER), "unavailable", "404", None)),
        receipt(3, of=2),
    )
    judged = shelf.judged(Selection(), {})

    first = plan(judged, [TENANT], once_more=False)
    assert [one.number for one in first.queue] == [1]
    assert first.left == Counter({Left.AGAIN: 1, Left.REPLAYED: 1})
    assert [one.number for one in plan(judged, [TENANT], once_more=True).queue] == [1, 2]
    assert plan(judged, [OTHER], once_more=True).left == Counter({Left.AGAIN: 1, Left.NO_TENANT: 2})
    done = shelf.judged(Selection(), {ledger_key(TENANT, CALL): Entry(1), ledger_key(TENANT, OTHER): Entry(1)})
    assert plan(done, [TENANT], once_more=True).queue == []


def test_what_is_queued_asks_for_the_version_and_has_the_age_of_the_first_notice() -> None:
    """Nothing of the past counts but how long ago the call was first heard of: a 404 is still a 404."""
    old = note(
        attempt=26, due_at="x", reason="graph_unavailable", look=3, listed_hour=5, first_seen_at="2026-11-01T00:00:00Z"
    )
    [read] = shelf_of(letter(0, policy.dead(old, "unpublishable", "too large", None, 6))).letters
    asked = queued(read, NOW)

    assert asked == note(source="replay", received_at=iso(NOW), first_seen_at="2026-11-01T00:00:00Z", version=6)


def test_a_replay_is_owed_a_second_look_like_the_live_notice_it_may_have_been_merged_with() -> None:
    """Graph may show an old version for a moment; then there is nothing more to do."""
    rules, shaped = Rules.of(Retry()), policy.ShapedRecord(4, [], b"{}", "", 0, iso(NOW))
    first = policy.after_fetch(note(source="replay"), shaped, Entry(4), rules, NOW)

    assert isinstance(first, policy.Later)
    assert policy.after_fetch(first.notification, shaped, Entry(4), rules, NOW) == policy.Skip(
        policy.SkipReason.PUBLISHED
    )


def test_whoever_replays_needs_the_right_to_just_that() -> None:
    """Where Kafka has ACLs: two topics read, two written, one transactional id."""
    rights = {(right.kind, right.name): right.operations for right in rights_of(LETTERS, Topics())}

    assert rights["transactional-id", "callrecords.replay"] == ("Write",)
    assert rights["topic", "callrecords.notifications"] == ("Write",)
    assert rights["topic", "callrecords.ledger"] == ("Read",)
    assert ("topic", "callrecords.calls") not in rights


def test_a_replay_merged_with_a_fresh_notice_does_not_make_it_old() -> None:
    """A 404 for a call that somebody has just heard of means not ready, whatever a replay remembers."""
    replay = note(source="replay", received_at=iso(NOW), first_seen_at="2026-11-01T00:00:00Z")
    fresh = note(received_at=iso(NOW))
    merged = policy.merge([replay, fresh])

    assert merged.source == "replay"
    assert policy.first_seen(merged) == NOW
    assert policy.merge([replay]) == replay
