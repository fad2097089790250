"""Standard output that cannot be written: one sentence, exit code 1, and nobody else is blamed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.blackbox.test_command_line import SAMPLE, SECONDS, environment, free_port

FULL = Path("/dev/full")
SENTENCE = "callstream: Standard output cannot be written: No space left on device.\n"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")


def on_a_full_disk(*arguments: str, flags: tuple[str, ...] = (), **changed: str) -> subprocess.CompletedProcess[str]:
    """One finished command whose output goes where nothing fits."""
    settings = environment(**changed)
    del settings["PYTHONUNBUFFERED"]
    with FULL.open("w") as full:
        return subprocess.run(
            [sys.executable, *flags, "-m", "service", *arguments],
            env=settings,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.mark.parametrize("flags", [(), ("-u",)], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["decode", str(SAMPLE)],
        ["decode", str(SAMPLE), "--summary"],
        ["topics", "--acls", "User:callstream"],
        ["emulate", "--port", "0", "--calls", "1"],
        ["doctor", "--json"],
    ],
    ids=lambda arguments: " ".join(arguments[::2]),
)
def test_a_full_disk_is_one_sentence(arguments: list[str], flags: tuple[str, ...]) -> None:
    """Whether it shows at the first line, or when the last of it is flushed at the end."""
    result = on_a_full_disk(*arguments, flags=flags)

    assert result.returncode == 1
    assert result.stderr.endswith(SENTENCE)
    assert "Traceback" not in result.stderr


def test_a_full_disk_under_the_output_is_not_the_data_folder_s(kafka_packages: None) -> None:
    """`kafka` has a folder of its own that may be full; this one is not."""
    assert on_a_full_disk("kafka", "--port", str(free_port())).stderr == SENTENCE


def test_what_reads_kafka_says_so_too(kafka: str, prefix: str) -> None:
    """It expects `OSError` of Kafka, and must not take this one for it."""
    where = {"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka, "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix}
    made = subprocess.run(
        [sys.executable, "-m", "service", "topics"],
        env=environment(**where),
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    for arguments in (
        ["topics"],
        ["dead-letter", "list"],
        ["dead-letter", "list", "--json"],
        ["completeness"],
        ["tail"],
    ):
        result = on_a_full_disk(*arguments, **where)

        assert (result.returncode, result.stderr) == (1, SENTENCE), arguments
    assert made.returncode == 0
