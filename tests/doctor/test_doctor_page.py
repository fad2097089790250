"""docs/doctor.md says what there is."""

import ast
import re
from pathlib import Path

from service.doctor.walk import CHAIN
from tests.doctor.page import PAGE, rows


def test_every_link_is_explained_in_its_order() -> None:
    """With its tenants; and what hangs on it."""
    section = PAGE.read_text(encoding="utf-8").partition("## The links, in order")[2].partition("\n## ")[0]
    named = re.findall(r"^\| ([a-z ]+)(, each tenant)? \|", section, re.MULTILINE)

    assert named == [(link.name, ", each tenant" if link.ask_tenant else "") for link in CHAIN]


def test_every_set_up_of_the_page_is_made_by_a_test() -> None:
    """None is left of a test that is gone; at least fifteen are broken, over most links."""
    texts = {
        node.value
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    found = rows()

    assert set(found) <= texts
    assert sum(line.startswith("broken") for line in found.values()) >= 15
    assert len({line.split(" · ")[1] for line in found.values()}) >= 17


def test_what_hangs_on_a_link_comes_after_it() -> None:
    """Else what follows from a cause would be told before it."""
    names = [link.name for link in CHAIN]

    assert len(set(names)) == len(names)
    assert all(names.index(need) < names.index(link.name) for link in CHAIN for need in link.needs)
