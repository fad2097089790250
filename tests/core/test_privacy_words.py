"""What is said about records (errors, logs, dead letters) holds nothing of what they say about people."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.privacy_table import PAGE, PLACES, page
from service.errors import NotACallRecord
from service.graph.protocol import RefusedLink, next_page
from service.notification import Notification
from service.record.decode import decode_participants_page, decode_record, decode_sessions_page
from service.record.personal import IMPERSONAL, PERSONAL

SERVICE = Path(__file__).parents[2] / "service"
# Rooms that stand in for Graph or show a person's own file; they are no part of `serve`.
NOT_SERVING = {"emulator", "embedded", "demo", "cli"}
# Names under which a log line might carry a piece of a record, beside the names of personal fields themselves.
PIECES = {"found", "odd", "record", "body", "document", "page", "link", "url", "identity", "participant", "value"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """(place, call) of each `log.<level>(…)` in what `serve` runs."""
    for path in sorted(SERVICE.rglob("*.py")):
        if path.relative_to(SERVICE).parts[0] in NOT_SERVING:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
            ):
                yield f"{path.name}:{node.lineno}", node


def snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).replace("_i_p_", "_ip_")


def test_no_log_line_of_the_service_carries_a_piece_of_a_record() -> None:
    """Lines name tenants by their setting, calls by their id, and errors by sentences that are written here."""
    personal = {snake(name) for names in PERSONAL.values() for name in names} - {"id", "name", "tenant_id", "text"}
    seen = 0
    for place, call in log_calls():
        seen += 1
        names = {keyword.arg for keyword in call.keywords if keyword.arg}
        assert not names & (personal | PIECES), place
        words = [ast.unparse(part) for part in (*call.args, *(keyword.value for keyword in call.keywords))]
        assert not any(".found" in word for word in words), place

    assert seen > 20


BODIES = [
    '"sentinel"',
    '["sentinel"]',
    '{"error":"sentinel sentinel"}',
    '{"error":{"code":"sentinel sentinel","message":"sentinel"}}',
    '{"id":"a","sentinel":1}',
    '{"id":"a","version":"sentinel"}',
    '{"id":{"sentinel":1},"version":1}',
    '{"value":"sentinel","id":1}',
    '{"id":"sentinel","version":1',
    "<html>sentinel",
    "sentinel",
    '{"a":sentinel}',
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("read", [decode_record, decode_sessions_page, decode_participants_page])
def test_the_sentence_of_a_dead_letter_holds_nothing_of_the_body(body: str, read: object) -> None:
    """It travels in a header and in the log."""
    error = None
    try:
        read(body.encode())  # type: ignore[operator]
    except NotACallRecord as refused:
        error = refused

    assert error is None or "sentinel" not in f"{error} {error.code} {error.kind}"


def test_the_sentence_of_a_refused_link_holds_nothing_of_it() -> None:
    """It is logged."""
    for link in ("https://sentinel/x", "https://graph/v1.0/sentinel", "sen tinel", "https://graph/#sentinel"):
        with pytest.raises(RefusedLink) as refused:
            next_page(link, "https://graph/v1.0", "e523d2ed-2966-4b6b-925b-754a88034cc5")
        assert "sentinel" not in str(refused.value)


def test_a_dead_letter_s_value_is_a_notification_and_nothing_of_the_record() -> None:
    """Ids of tenant, call and subscription, times, counts, and a reason."""
    fields = set(Notification.__struct_fields__)

    assert not fields & {"record", "body", "page", "raw", "summary"}
    assert "display_name" not in fields


@pytest.mark.parametrize("where", ["id", "sessions", "version"])
def test_labels_of_odd_values_are_names_of_the_schema(where: str) -> None:
    """Metrics are labelled by them; what was found is shown by `callstream decode` alone."""
    document = {"id": "r", "version": 1, "sentinel": "x", where: "sentinel" if where == "sessions" else 1}
    _, odd = decode_record(json.dumps(document).encode(), thorough=True)

    assert odd
    assert not any("sentinel" in one.field for one in odd)


def test_the_page_s_tables_are_the_code_s() -> None:
    """Written by `python -m service.cli.privacy_table`."""
    text = PAGE.read_text(encoding="utf-8")

    assert text == page(text)
    assert set(PLACES) >= {cls for cls in (*PERSONAL, *IMPERSONAL) if cls.__module__ == "service.record.events"}
