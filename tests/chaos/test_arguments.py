"""What a chaos run is asked for is checked before it begins: half an hour later is too late."""

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60.0


def chaos(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One that is refused."""
    command = [sys.executable, "-m", "tests.chaos", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize("duration", ["inf", "nan", "1e9", "-inf"])
def test_a_run_has_an_end(duration: str) -> None:
    """A schedule without one would be made for ever, deaf to Ctrl-C."""
    result = chaos("--duration", duration)

    assert result.returncode == 2
    assert "Traceback" not in result.stdout + result.stderr
    assert "--duration" in result.stdout + result.stderr


def test_logs_and_report_must_have_a_place(tmp_path: Path) -> None:
    """One sentence each; nothing is left where the report would have been."""
    file = tmp_path / "file"
    file.touch()
    used = tmp_path / "used"
    used.mkdir()
    (used / "judge.log").touch()
    for arguments, words in (
        (("--logs", "/proc/nope"), "The folder /proc/nope cannot be used for logs: "),
        (("--logs", file), f"The folder {file} cannot be used for logs: "),
        (("--logs", used), "holds another run"),
        (("--report", "/proc/nope/report.md"), "The report /proc/nope/report.md cannot be written: "),
        (("--report", tmp_path), "cannot be written: "),
        (("--report", file / "report.json"), "cannot be written: "),
        (("--report", tmp_path / "good.md", "--logs", used), "holds another run"),
    ):
        result = chaos(*arguments)

        assert result.returncode == 2, (arguments, result)
        assert words in result.stdout
        assert result.stdout.count("\n") == 1
        assert result.stderr == ""
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "used"]
