"""The public port's description: it says what the code does, and hundreds of requests made from it find nothing."""

import ast
import asyncio
import inspect
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import receiver
from service.notification import LIFECYCLE_EVENTS, LONGEST_CLIENT_STATE
from service.settings import Receiver
from tests.shell.receiving import item, lifecycle_item, open_receiver

FILE = Path(__file__).parents[2] / "docs" / "openapi.yaml"
EXAMPLES = 40
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


@pytest.fixture
def description() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def test_the_description_is_the_code_s(description: dict[str, Any]) -> None:
    """Paths, statuses and bounds."""
    item = description["components"]["schemas"]["changeNotification"]["properties"]
    collection = description["components"]["schemas"]["changeNotificationCollection"]["properties"]

    assert tuple(description["paths"]) == receiver.PATHS
    assert item["clientState"]["maxLength"] == LONGEST_CLIENT_STATE
    assert tuple(item["lifecycleEvent"]["enum"]) == LIFECYCLE_EVENTS
    assert collection["value"]["maxItems"] == Receiver().max_items
    for operation in description["paths"].values():
        assert set(operation) == {"post"}
        # 404 and 417 are no answers of an operation: another path, and an `Expect` that nobody knows.
        assert _statuses() | {200, 202, 405} == {int(status) for status in operation["post"]["responses"]} | {404}


def _statuses() -> set[int]:
    """The first argument of every `Rejected(…)` in the receiver."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(receiver))) if isinstance(node, ast.Call)]
    made = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Rejected"]
    return {number.value for number in made if isinstance(number, ast.Constant) and isinstance(number.value, int)}


def test_what_graph_sends_fits_the_description(description: dict[str, Any], tmp_path: Path) -> None:
    """The items that every other test posts."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = {**description["components"]["schemas"]["changeNotificationCollection"], **description}
    jsonschema.validate({"value": [item(), lifecycle_item()]}, schema)


async def test_requests_made_from_the_description_find_nothing(tmp_path: Path) -> None:
    """Good ones and broken ones: no 5xx, no status, header or body that is not described, and nothing stored."""
    async with open_receiver() as running:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).parent / "schemathesis"), "run", str(FILE), "--url", running.site.url),
            *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--mode", "all", "--no-color"),
            *("--max-examples", str(EXAMPLES), "--generation-database", "none"),
            cwd=tmp_path,
            stdout=PIPE,
            stderr=STDOUT,
        )
        said, _ = await process.communicate()
        asked = running.count("receiver_handshakes") + running.metrics.registry.get_sample_value(
            "callstream_receiver_seconds_count"
        )

        assert process.returncode == 0, said.decode()[-4000:]
        assert asked > 2 * EXAMPLES
        assert not running.shelf.notifications
        assert not running.shelf.events
        assert json.loads((await running.post(b"{"))[1])["error"]
