"""What the documents say exists: commands and options, settings, files, tests, series, log lines, ids of the example.

Figures and promises are other tests' concern; this one keeps names from drifting.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from service.errors import UserError
from service.settings import ROLES, load

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 90
GUID = "c0ffee00-1111-4222-8333-444455556666"
# A setting exists when one of these can be its value.
VALUES = (
    "1",
    "60",
    "100000000",
    "true",
    "10s",
    "global",
    "info",
    "json",
    "keep",
    "strict",
    "at-least-once",
    "secret",
    "SSL",
    "PLAIN",
    "client-secret",
    "a-key-of-some-length",
    "http://127.0.0.1:8090",
    "127.0.0.1:9092",
    GUID,
)
# Names of Kafka's configuration, and of files that appear only while something runs or on another machine.
NO_FILES = re.compile(
    r"broker-N|\.retry\.|jgo\.conf|callstream\.toml|^~|^/|^https?:|^/?tmp|kafka-data|prometheus\.yml$|state\.log\."
)
FILE = re.compile(r"^[\w./-]+\.(py|md|json|ya?ml|txt|toml|env|jars)$|^[\w-]+(/[\w-]+)*/$")


def text_of(document: Path) -> str:
    """The whole document."""
    return document.read_text(encoding="utf-8")


def quoted(document: Path) -> list[str]:
    """What stands in backquotes, and every line of the blocks of code; continued lines joined."""
    text = text_of(document)
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    # An indented block.
    lines += [line.strip() for line in prose.splitlines() if line.startswith("    ")]
    return lines + re.findall(r"`([^`\n]+)`", prose)


@cache
def help_of(*command: str) -> str:
    """What `--help` says."""
    result = subprocess.run(
        [sys.executable, "-m", "service", *command, "--help"],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return result.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document: Path) -> None:
    """`callstream X --option` is in `callstream X --help`."""
    commands = re.findall(r"^  ([a-z-]+) ", help_of().partition("Commands:")[2], re.MULTILINE)
    wrong = []
    for code in quoted(document):
        for found in re.finditer(r"(?:^|[\s&|;(])callstream ([a-z][a-z-]*)([^#|;]*)", code):
            command, rest = found[1], found[2]
            if command not in commands:
                wrong.append(f"callstream {command}")
                continue
            words = (command, *rest.split()[:1]) if "Commands:" in help_of(command) else (command,)
            options = re.findall(r"(?:^|\s|\[)(--[a-z-]+)", rest)
            wrong += [f"{' '.join(words)} {option}" for option in options if option not in help_of(*words)]

    assert wrong == []


def test_every_command_and_role_has_its_line() -> None:
    """The table of commands is the program's list, and roles are those of `serve`."""
    text = text_of(README)
    table = text.partition("\n## Commands\n")[2].partition("\n## ")[0]
    firsts = " ".join(line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `"))
    commands = re.findall(r"^  ([a-z-]+) ", help_of().partition("Commands:")[2], re.MULTILINE)
    roles = re.findall(r"`([a-z]+)` (?:takes|runs|looks)", text.partition("\n## Roles and replicas\n")[2])

    assert sorted(re.findall(r"`callstream ([a-z-]+)`", firsts)) == sorted(commands)
    assert roles == list(ROLES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_targets_of_make_exist(document: Path) -> None:
    """`make X` is in the Makefile."""
    phony = re.search(r"^\.PHONY: (.*)$", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert phony is not None
    named = {found[1] for code in quoted(document) for found in re.finditer(r"(?:^|\s)make ([a-z-]+)", code)}

    assert named <= set(phony[1].split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_exist(document: Path, tmp_path: Path) -> None:
    """Every `CALLSTREAM_…` that a document names in full can be set."""
    names = {name for name in re.findall(r"CALLSTREAM_[A-Z0-9_]+(?![<A-Z0-9_])", text_of(document)) if name[-1] != "_"}

    assert [name for name in sorted(names) if not exists(name, tmp_path)] == []


def exists(name: str, folder: Path) -> bool:
    """Whether some value is taken under this name."""
    file = folder / "file"
    file.write_text("")
    secret = folder / "secret"
    secret.write_text("a-secret-of-some-length")
    tenant = name.split("__")[1] if name.startswith("CALLSTREAM_TENANTS__") else "CONTOSO"
    base = {f"CALLSTREAM_TENANTS__{tenant}__ID": GUID, f"CALLSTREAM_TENANTS__{tenant}__CLIENT_ID": GUID}
    base |= {"CALLSTREAM_GRAPH__ROOT_URL": "http://127.0.0.1:1", "CALLSTREAM_GRAPH__LOGIN_URL": "http://127.0.0.1:1"}
    for value in (*VALUES, str(secret) if name.endswith("_FILE") else str(file)):
        try:
            load(base | {name: value}, None if name == "CALLSTREAM_CONFIG" else file)
        except UserError as error:
            # It is there, and does nothing without the others of its group.
            if "has no effect while" not in str(error) and "must be set" not in str(error):
                continue
        return True
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_exist(document: Path) -> None:
    """A path from the top, from the document or from service/; a name alone is a file of the project."""
    names = {path.name for path in tracked()}
    missing = []
    for code in quoted(document):
        for word in re.sub(r"> *\S+", "", code).replace("@", " ").split():
            word = word.strip("(),;:'\"")
            if not FILE.match(word) or NO_FILES.search(word):
                continue
            places = [ROOT / word, document.parent / word, ROOT / "service" / word, ROOT / "service/embedded" / word]
            if not any(place.exists() for place in places) and ("/" in word or word not in names):
                missing.append(word)

    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """To a file of the project, and a title in it."""
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(document)):
        path, _, title = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (title and title not in titles(file)):
            broken.append(target)

    assert broken == []


def titles(document: Path) -> set[str]:
    """The anchors of a document, as they are made from its titles."""
    found = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_every_promise_is_backed_by_a_test_that_exists() -> None:
    """The table of what is lost, repeated or delayed names one in each line."""
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", text_of(path))
    }
    section = text_of(README).partition("## What is lost, repeated or delayed")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]

    assert len(lines) > 15
    assert [line for line in lines if not re.search(r"`test_\w+`", line)] == []
    assert set(re.findall(r"`(test_\w+)`", section)) <= tests


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_series_exist(document: Path) -> None:
    """Those named elsewhere are in docs/metrics.md, which is made from the code."""
    listed = text_of(ROOT / "docs/metrics.md")
    named = re.findall(r"`(callstream_[a-z_]+)", text_of(document))

    assert [name for name in named if f"`{name}" not in listed] == []


def test_every_module_has_its_place_in_the_documents() -> None:
    """A reader of README and the architecture finds each of the service's own modules named there."""
    text = text_of(README) + text_of(ROOT / "docs/architecture.md")
    rooms = [
        *(ROOT / "service").glob("*.py"),
        *(p for r in ("record", "graph", "stream") for p in (ROOT / "service" / r).glob("*.py")),
    ]
    modules = {path.stem for path in rooms} - {"__init__", "__main__"}

    assert {name for name in modules if not re.search(rf"\b{name}\b", text)} == set()


def test_every_package_is_justified() -> None:
    """What pyproject.toml asks for stands in docs/decisions.md."""
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    extras = project["project"]["optional-dependencies"].values()
    asked = [*project["project"]["dependencies"], *(one for extra in extras for one in extra)]
    asked += project["build-system"]["requires"]
    names = {re.split(r"[\[<>=]", one)[0] for one in asked} - {"callstream"}
    decisions = text_of(ROOT / "docs/decisions.md")

    assert {name for name in names if f"`{name}`" not in decisions} == set()


def test_every_warning_is_explained() -> None:
    """What the service logs at warning and above stands in docs/operations.md, word for word, and nothing else does."""
    section = text_of(ROOT / "docs/operations.md").partition("## What the log says")[2].partition("\n## ")[0]
    firsts = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    explained = {line for first in firsts for line in re.findall(r"`([^`]+)`", first)}
    own = [path for path in (ROOT / "service").rglob("*.py") if not {"emulator", "embedded"} & set(path.parts)]
    lines = {line for path in own for line in warnings_of(path)}

    assert len(lines) > 20
    assert explained == lines


def warnings_of(path: Path) -> set[str]:
    """First arguments of `log.warning(…)`, `log.error(…)`, `log.exception(…)`, and of a `write` that is one of them."""
    found = set()
    for node in ast.walk(ast.parse(text_of(path))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr="warning" | "error" | "exception")
                | ast.Name(id="write"),
                args=[ast.Constant(value=str(line)), *_],
            ):
                found.add(line)
    return found


def test_the_example_is_the_published_sample() -> None:
    """The event in the README is shortened and nothing else."""
    [block] = re.findall(r"^```json\n(.*?)^```", text_of(README), re.MULTILINE | re.DOTALL)
    sample = json.loads(text_of(ROOT / "tests/samples/docs_callrecord.stream_event.json"))

    assert is_part_of(json.loads(block), sample)


def is_part_of(part: Any, whole: Any) -> bool:
    """Equal, but for properties left out."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and is_part_of(value, whole[name]) for name, value in part.items())
    return bool(part == whole)


def test_the_lines_to_paste_are_those_that_emulate_prints() -> None:
    """Its default ids and the settings of the third terminal, apart from the port."""
    printed = printed_by_emulate()
    graph = re.search(r"Emulated Microsoft Graph: (\S+)", printed)
    assert graph is not None
    printed = printed.replace(graph[1], "http://127.0.0.1:8090")
    text = text_of(README)
    found = re.search(r"^CALL=(\S+)\nSESSION=(\S+)$", text, re.MULTILINE)
    assert found is not None

    assert f"call {found[1]}  session {found[2]}" in printed
    settings = re.findall(r"^ *(CALLSTREAM_\S+=\S+)$", printed, re.MULTILINE)
    assert settings
    assert re.findall(r"^export (CALLSTREAM_\S+)$", text, re.MULTILINE) == settings


def printed_by_emulate() -> str:
    """All that `callstream emulate` says before it waits."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "emulate", "--port", "0"],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C ends it." in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    return "".join(lines)


@cache
def tracked() -> list[Path]:
    """The project's files."""
    hidden = {".venv", ".git", "build", "dist", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not hidden & set(path.parts)]
