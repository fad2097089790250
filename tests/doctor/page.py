"""The table of broken set-ups in docs/doctor.md: what the doctor printed in each, kept equal to what it prints.

`WRITE_DOCTOR_PAGE=1 pytest -n 0 tests/doctor` writes it anew.
"""

import os
import re
from pathlib import Path

from service.doctor.finding import Finding
from service.doctor.walk import CHAIN

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
BEGIN, END = "<!-- set-ups -->\n", "<!-- end of set-ups -->"
HEAD = "| Set-up | First line that is not ok |\n|---|---|\n"
GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What differs from run to run, and how it is shown.
VARYING = (
    (r"\bdoctor[0-9]+x?\b", "callrecords"),
    (r"(127\.0\.0\.1|localhost):[0-9]+", r"\1:443"),
    (r"([Pp])ort [0-9]+ of", r"\1ort 443 of"),
    # Other tests have topics in the same Kafka.
    (r"There are topics of .+?: is", "There are topics of callrecords: is"),
    (GUID, "33653f39-bcfc-4842-b3aa-28fc17568993"),
    (r"in 0\.[0-9]{2} s", "in 0.01 s"),
    (r"[0-9]{2}:[0-9]{2} UTC", "10:00 UTC"),
    (r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b", "2026-11-20"),
)


def shown(finding: Finding) -> str:
    """A line as it is printed where there is no terminal, without what differs from run to run."""
    text = f"{finding.tenant}: " if finding.tenant else ""
    text = f"{finding.status} · {finding.link} · {text}{finding.seen}"
    text += f" → {finding.todo}" if finding.todo else ""
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return text


def rows() -> dict[str, str]:
    """Set-up → line, as the page has them."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)
    return {name: line for name, line in found if name not in ("Set-up", "---")}


def check(set_up: str, finding: Finding) -> None:
    """The page has this very line; with `WRITE_DOCTOR_PAGE` it is made to."""
    line = shown(finding)
    if os.environ.get("WRITE_DOCTOR_PAGE"):
        _write({**rows(), set_up: line})
    assert rows().get(set_up) == line, f"{set_up}: {line}"


def _write(found: dict[str, str]) -> None:
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    links = [link.name for link in CHAIN]
    in_order = sorted(found.items(), key=lambda row: links.index(row[1].split(" · ")[1]))
    table = HEAD + "".join(f"| {name} | {line} |\n" for name, line in in_order)
    PAGE.write_text(head + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")
