"""`callstream decode` as its user meets it: a process, its two outputs and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "samples"
SAMPLE = SAMPLES / "docs_callrecord_sessions_segments.json"
TENANT = "dc368399-474c-4d40-900c-6265431fd81f"
NIL = "00000000-0000-0000-0000-000000000000"

# In a process of its own.
PROGRAM = """
import sys
from service.cli.main import run
sys.exit(run(["decode", sys.argv[1], "--tenant", sys.argv[2], *["--summary"][: sys.argv[3] == "summary"]]))
"""


def decode(
    file: str | Path, tenant: str = TENANT, summary: bool = False, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    arguments = [str(file), tenant, "summary" if summary else "events"]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], input=stdin, capture_output=True, timeout=60, check=False
    )


def compact(name: str) -> bytes:
    return json.dumps(json.loads((SAMPLES / name).read_text()), separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_the_published_sample_comes_out_as_it_is_published(source: str) -> None:
    """One event a line, byte for byte, and a warning that there are further pages."""
    result = decode(SAMPLE) if source == "file" else decode("-", stdin=SAMPLE.read_bytes())

    assert result.stdout == compact("docs_callrecord.stream_event.json") + b"\n"
    assert result.stderr.count(b"\n") == 1
    assert b"sessions@odata.nextLink" in result.stderr
    assert result.returncode == 0


def test_the_summary_comes_out_when_asked_for() -> None:
    """The other thing that a record becomes."""
    result = decode(SAMPLE, summary=True)

    assert result.stdout == compact("docs_callrecord.call_summary.json") + b"\n"


def test_what_was_odd_is_named_on_standard_error(tmp_path: Path) -> None:
    """One line each with its path; standard output stays clean."""
    file = tmp_path / "record.json"
    file.write_text('{"id":"a","version":1,"newThing":"\\u0000","sessions":[{"isTest":"no"}]}')
    result = decode(file, NIL)

    assert result.stderr.decode().splitlines() == [
        "newThing: unknown_field: \\u0000",
        "sessions[0].isTest: wrong_type: no",
    ]
    assert (result.stdout, result.returncode) == (b"", 0)


def test_of_many_odd_values_a_thousand_are_shown(tmp_path: Path) -> None:
    """And how many more there are."""
    file = tmp_path / "record.json"
    file.write_text(json.dumps({"id": "a", "version": 1, "modalities": [7] * 2500}))
    result = decode(file)

    lines = result.stderr.decode().splitlines()
    assert (len(lines), lines[-1]) == (1001, "and 1,500 more odd values")
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{}", "no usable `id`"),
        (b"just some notes\n", "not JSON"),
        (b"<html></html>", "HTML"),
        (bytes(range(256)), "not JSON"),
        (SAMPLE.read_bytes()[:-20], "ends early"),
        (b"[]", "list"),
        (b'{"value":[],"@odata.context":"x"}', "page of a collection"),
        ((SAMPLES / "000_create_segments.response.json").read_bytes(), "a segment"),
        (json.dumps(json.loads(SAMPLE.read_text())["sessions"][0]).encode(), "a session"),
        (b'{"error":{"code":"NotFound","message":""}}', "NotFound"),
    ],
)
def test_what_is_no_call_record_gets_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    """What it seems to be, on standard error, and exit code 2."""
    file = tmp_path / "file"
    file.write_bytes(content)
    for result in (decode(file), decode("-", stdin=content)):
        assert words in result.stderr.decode()
        assert result.stderr.count(b"\n") == 1
        assert (result.stdout, result.returncode) == (b"", 2)


def test_files_that_cannot_be_read_get_one_sentence(tmp_path: Path) -> None:
    """A folder, a missing file, a file without permission, a name that is none."""
    locked = tmp_path / "locked"
    locked.write_text("{}")
    locked.chmod(0)
    cases = [(tmp_path, "folder"), (tmp_path / "missing", "no file"), (tmp_path / ("x" * 300), "cannot be read")]
    if os.geteuid() != 0:
        cases.append((locked, "cannot be read"))
    for file, words in cases:
        result = decode(file)

        assert words in result.stderr.decode()
        assert result.stderr.count(b"\n") == 1
        assert (result.stdout, result.returncode) == (b"", 2)


@pytest.mark.parametrize("tenant", ["", "contoso.com", NIL + "0", NIL[:-1] + "g"])
def test_a_tenant_is_a_guid(tenant: str) -> None:
    """Ids are made from it, so a name would make ids that nothing else has."""
    result = decode(SAMPLE, tenant)

    assert b"--tenant must be a GUID" in result.stderr
    assert result.returncode == 2


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`callstream decode FILE | head -1` ends quietly."""
    media = [{"label": "main-audio", "streams": [{"streamId": "x" * 1000}] * 500}]
    file = tmp_path / "record.json"
    file.write_text(json.dumps({"id": "a", "version": 1, "sessions": [{"segments": [{"media": media}]}]}))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(file), TENANT, "events"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
    process.stderr.close()
