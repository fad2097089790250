"""What is printed for ACLs. That it is enough is shown against a real authorizer (`tests/broker/test_hub.py`)."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.kafka.rights import CREATE, merged, rights_of
from service.kafka.topics import Topics
from service.settings import ROLES


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No callstream.toml of the machine takes part."""
    monkeypatch.chdir(tmp_path)


def test_the_lines_name_the_resources_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As kafka-acls.sh takes them; the archive where it is on, creating where it is allowed."""
    monkeypatch.setenv("CALLSTREAM_KAFKA__TOPIC_PREFIX", "calls")
    monkeypatch.setenv("CALLSTREAM_RAW__ENABLED", "true")

    said = CliRunner().invoke(app, ["topics", "--acls", "User:cs", "--role", "work"]).output.splitlines()

    assert said[0] == (
        "--add --allow-principal User:cs --operation Describe --operation DescribeConfigs --operation Create "
        "--topic calls. --resource-pattern-type prefixed"
    )
    begin = "--add --allow-principal User:cs"
    assert f"{begin} --operation Read --operation Write --topic calls.notifications" in said
    assert f"{begin} --operation Write --topic calls.raw" in said
    assert f"{begin} --operation Write --transactional-id calls.lane. --resource-pattern-type prefixed" in said
    assert f"{begin} --operation DescribeConfigs --cluster" in said
    assert not any("keeper " in line or "calls.state" in line for line in said)


@pytest.mark.parametrize("arguments", [["--acls", "callstream"], ["--acls", "User:cs", "--role", "reader"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    """Exit code 2, one sentence."""
    result = CliRunner().invoke(app, ["topics", *arguments])

    assert result.exit_code == 2 or "UserError" in repr(result.exception)


def test_every_topic_is_read_or_written_by_somebody() -> None:
    """A topic that is added to the deployment and to no role would be refused on the first day."""
    topics = Topics(raw_days=1.0)
    rights = merged(right for role in (*ROLES, CREATE) for right in rights_of(role, topics))
    named = {right.name for right in rights if right.kind == "topic" and not right.is_prefix}

    assert {spec.name for spec in topics.specs(1)} == named
