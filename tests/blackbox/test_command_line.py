"""Wrong use and wrong input of every command, and Ctrl-C: one sentence, the right exit code, never a traceback.

Processes only; what `decode` makes of its input is test_decode's.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[1] / "samples" / "docs_callrecord_sessions_segments.json"
NOBODY = "127.0.0.1:1"
"""An address where no Kafka is."""
# Far above what is needed: machines are shared and noisy.
SECONDS = 90
GOOD = {
    "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": NOBODY,
    "CALLSTREAM_RECEIVER__HOST": "127.0.0.1",
    "CALLSTREAM_RECEIVER__PORT": "0",
    "CALLSTREAM_ADMIN__PORT": "0",
    "CALLSTREAM_CLIENT_STATE__KEYS__1": "a-key-for-this-test",
    "CALLSTREAM_TENANTS__CONTOSO__ID": "c0ffee00-1111-4222-8333-444455556666",
    "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": "11111111-2222-4333-8444-555555555555",
    "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": "a-secret",
    "CALLSTREAM_LOG__LEVEL": "error",
}
COMMANDS = ("demo", "serve", "kafka", "decode", "topics", "tail", "emulate")


def environment(**changed: str) -> dict[str, str]:
    """The settings with which `serve` would start, changed; an empty value leaves one out."""
    settings = {name: value for name, value in (GOOD | changed).items() if value}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTREAM_")}
    return inherited | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | settings


def callstream(*arguments: str, cwd: Path | None = None, **changed: str) -> subprocess.CompletedProcess[str]:
    """One finished command."""
    result = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environment(**changed),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result


def is_one_sentence(text: str) -> bool:
    """One line, from us, with an end."""
    return text.count("\n") == 1 and text.startswith("callstream") and text.rstrip().endswith((".", ")"))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        *([command, "--nonsense"] for command in COMMANDS),
        ["decode"],
        ["decode", "a", "b"],
        ["demo", "--calls", "0"],
        ["demo", "--calls", "many"],
        ["tail", "--limit", "-1"],
        ["kafka", "--brokers", "two"],
        ["emulate", "--port", "65536"],
        ["emulate", "--speed", "0"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_said_and_exits_with_2(arguments: list[str]) -> None:
    """How it is used, and what was wrong, on standard error."""
    result = callstream(*arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: callstream")
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_nothing_asked_is_answered_with_the_commands() -> None:
    """What there is, and exit code 2, because nothing was done."""
    result = callstream()

    assert result.returncode == 2
    assert all(f"  {command} " in result.stdout + result.stderr for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """`--help`, on standard output."""
    result = callstream(command, "--help")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: callstream {command}")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"some notes\n", "not JSON"), (b"", "empty"), (b"{}", "no usable `id`"), (None, "no file"), ("folder", "folder")],
    ids=["text", "empty", "object", "missing", "folder"],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes | str | None, words: str) -> None:
    """Exit code 2 and nothing on standard output."""
    file = tmp_path if content == "folder" else tmp_path / "file"
    if isinstance(content, bytes):
        file.write_bytes(content)
    result = callstream("decode", str(file))

    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_sentence(result.stderr)
    assert words in result.stderr


def test_a_reader_of_decode_may_leave_early() -> None:
    """`callstream decode FILE | head -1`, in a shell that looks at both codes."""
    command = f"{sys.executable} -m service decode {SAMPLE} | head -1; echo ${{PIPESTATUS[@]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=True)
    event, codes = result.stdout.splitlines()

    assert json.loads(event)["schemaVersion"] == 1
    assert codes == "0 0"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({name: "" for name in GOOD if "TENANTS" in name}, "No tenant is configured"),
        ({"CALLSTREAM_CLIENT_STATE__KEYS__1": ""}, "No clientState key is configured"),
        ({"CALLSTREAM_CLIENT_STATE__KEYS__1": "short"}, "at least 16 characters"),
        ({"CALLSTREAM_TENANTS__CONTOSO__ID": "contoso"}, "must be the tenant's GUID"),
        ({"CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": ""}, "Tenant contoso has no client secret"),
        ({"CALLSTREAM_NONSENSE": "1"}, "nonsense is not known"),
        ({"CALLSTREAM_KAFKA__PARTITIONS": "many"}, "kafka.partitions: expected int"),
        ({"CALLSTREAM_KAFKA__PARTITIONS__X": "1"}, "kafka.partitions"),
        ({"CALLSTREAM_RETRY__DELAYS": "soon"}, "is not a delay"),
        ({"CALLSTREAM_GRAPH__CLOUD": "china"}, "no call records"),
        ({"CALLSTREAM_GRAPH__CLOUD": "custom"}, "graph.root_url and graph.login_url must be set"),
        ({"CALLSTREAM_CONFIG": "/nowhere/callstream.toml"}, "cannot be read"),
        ({"CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET_FILE": "/nowhere/secret"}, "cannot be read as text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_end_serve_before_anything_opens(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    """One sentence that names the setting, exit code 2; no secret in it."""
    result = callstream("serve", cwd=tmp_path, **changed)

    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_sentence(result.stderr)
    assert words in result.stderr
    assert "a-secret" not in result.stderr


def test_a_settings_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """By every command that reads settings."""
    file = tmp_path / "callstream.toml"
    file.write_text("[kafka\n")
    for command in ("serve", "topics", "tail"):
        result = callstream(command, "--config", str(file))

        assert (result.returncode, result.stdout) == (2, "")
        assert is_one_sentence(result.stderr)
        assert "is not TOML" in result.stderr


@pytest.mark.parametrize("role", ["nonsense", "receive,nonsense"])
def test_an_unknown_role_is_named(role: str) -> None:
    """Beside those that there are."""
    result = callstream("serve", "--role", role)

    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_sentence(result.stderr)
    assert "'nonsense'" in result.stderr
    assert "receive, work, keep" in result.stderr


@pytest.mark.parametrize("role", ["", " , ", ","])
def test_a_service_without_a_role_does_not_start(role: str) -> None:
    """It would look healthy and do nothing."""
    result = callstream("serve", "--role", role)

    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_sentence(result.stderr)
    assert "No role is given; roles are receive, work, keep." in result.stderr


@pytest.mark.parametrize("site", ["RECEIVER", "ADMIN"])
def test_a_taken_port_ends_serve(taken: int, site: str) -> None:
    """Exit code 1 and the setting to change, after whatever has been logged of a Kafka that is away."""
    result = callstream("serve", **{f"CALLSTREAM_{site}__PORT": str(taken)})
    sentence = result.stderr.splitlines(keepends=True)[-1]

    assert (result.returncode, result.stdout) == (1, "")
    assert is_one_sentence(sentence)
    assert f"{site.lower()}.port" in sentence
    assert str(taken) in sentence


def test_a_taken_port_ends_kafka_and_emulate(kafka_packages: None, taken: int) -> None:
    """Exit code 1 and what to do."""
    for command in ("kafka", "emulate"):
        result = callstream(command, "--port", str(taken))

        assert result.returncode == 1
        assert is_one_sentence(result.stderr)
        assert f"Port {taken}" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["kafka", "--brokers", "2"], ["kafka", "--port", "99999"], ["emulate", "--tenant-id", "x"], ["tail", "nonsense"]],
    ids=" ".join,
)
def test_values_that_cannot_be_are_refused(kafka_packages: None, arguments: list[str]) -> None:
    """Before anything starts."""
    result = callstream(*arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_sentence(result.stderr)


@pytest.mark.parametrize("arguments", [["topics"], ["topics", "--check"], ["tail"], ["tail", "calls", "--json"]])
@pytest.mark.parametrize("servers", [NOBODY, "127.0.0.1:nonsense"])
def test_without_kafka_the_sentence_says_where_it_was_looked_for(arguments: list[str], servers: str) -> None:
    """Exit code 1, or 2 where the address itself is wrong."""
    result = callstream(*arguments, CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS=servers)

    assert result.returncode in ((1,) if servers == NOBODY else (1, 2))
    assert result.stdout == ""
    assert is_one_sentence(result.stderr)
    assert "kafka.bootstrap_servers" in result.stderr.lower().replace("__", ".")


def test_topics_are_created_compared_and_named(kafka: str, prefix: str) -> None:
    """`--check` creates nothing and exits with 1 while something differs; `tail` says how to get what is missing."""
    where = {"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka, "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix}
    few = where | {"CALLSTREAM_KAFKA__PARTITIONS": "2"}
    missing = callstream("topics", "--check", **few)
    tail = callstream("tail", **few)
    made = callstream("topics", **few)
    good = callstream("topics", "--check", **few)
    other = callstream("topics", **where, CALLSTREAM_KAFKA__PARTITIONS="3")

    assert [each.returncode for each in (missing, tail, made, good, other)] == [1, 1, 0, 0, 1]
    assert all(line.endswith("does not exist") for line in missing.stdout.splitlines())
    assert is_one_sentence(tail.stderr)
    assert "`callstream topics` creates it" in tail.stderr
    assert f"{prefix}.calls" in made.stdout
    assert "created, 2 partitions" in made.stdout
    assert all(" ok, " in line for line in good.stdout.splitlines())
    assert "has 2 partitions where 3 are needed" in other.stdout


def test_topics_that_do_not_fit_end_serve(kafka: str, prefix: str) -> None:
    """Another partition count would send calls to other lanes: exit code 1, and the sentence comes last."""
    where = {"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka, "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix}
    callstream("topics", **where, CALLSTREAM_KAFKA__PARTITIONS="2")
    result = callstream("serve", **where, CALLSTREAM_KAFKA__PARTITIONS="3")

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("callstream: The topics do not fit: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "begun", "last"),
    [
        (["serve"], "receiver is open", "callstream has ended"),
        (["emulate", "--port", "0", "--calls", "1"], "Ctrl-C ends it.", "The emulator has ended."),
        (["kafka", "--port", "{port}"], "Ctrl-C ends it.", "Kafka has ended."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_signal_ends_what_runs_with_one_line(
    kafka_packages: None, arguments: list[str], begun: str, last: str, number: signal.Signals
) -> None:
    """Exit code 0, whether Kafka is there or not."""
    code, lines = until_signal([part.format(port=free_port()) for part in arguments], begun, number)

    assert code == 0
    assert last in lines[-1]


def test_ctrl_c_ends_a_demo_with_one_line(kafka_packages: None) -> None:
    """Nothing of it goes on; the code says that there was no verdict."""
    code, lines = until_signal(["demo", "--calls", "5"], "Apache Kafka is up", signal.SIGINT)

    assert code == 130
    assert "Interrupted; everything has been ended." in lines[-1]


def test_ctrl_c_ends_what_waits_for_kafka(tmp_path: Path) -> None:
    """`tail` of a broker that never answers: quietly."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        process = start(["tail"], CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS=servers)
        silent.settimeout(SECONDS)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=SECONDS)
        connection.close()

    assert "Traceback" not in text
    assert process.returncode in (0, 130)


def test_the_demo_s_json_is_one_object(kafka_packages: None) -> None:
    """All that is on standard output; what a person reads goes to standard error."""
    result = callstream("demo", "--calls", "10", "--json")
    verdict = json.loads(result.stdout)

    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert list(verdict) == [
        *("calls", "versions", "events", "lost", "duplicated", "wrong"),
        *("first_event_seconds", "seconds"),
    ]
    assert (verdict["calls"], verdict["lost"], verdict["duplicated"], verdict["wrong"]) == (10, 0, 0, 0)
    assert "0 lost, 0 duplicated, 0 wrong" in result.stderr


def start(arguments: list[str], **changed: str) -> subprocess.Popen[str]:
    """A command with both its outputs in one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        env=environment(**({"CALLSTREAM_LOG__LEVEL": "info"} | changed)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until_signal(arguments: list[str], begun: str, number: signal.Signals) -> tuple[int, list[str]]:
    """Starts a command, waits for a line that holds `begun`, sends the signal: exit code and all lines."""
    process = start(arguments)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if begun in line:
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=SECONDS)
    lines += rest.splitlines()
    assert "Traceback" not in "\n".join(lines)
    return process.returncode, lines


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
