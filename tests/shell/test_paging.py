"""Collections in pages, cut and linked in any way that Graph may cut and link them."""

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shell.graph_fixture import CALL, says, scripted, world_of

BASE = f"/v1.0/communications/callRecords/{CALL}"
NAMES = ("@odata.nextLink", "@odata.nextlink", "@odata.NextLink")
FORMS = (
    BASE,
    BASE.replace("callRecords/", "CallRecords/"),
    f"/v1.0/communications/callRecords('{CALL}')",
    f"/v1.0/$metadata#communications/callRecords('{CALL}')",
)
tokens = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-._~%20!*"), max_size=30)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    token=tokens,
    name=st.sampled_from(NAMES),
    form=st.sampled_from(FORMS),
)
def test_however_a_collection_is_cut_into_pages_it_is_whole_and_in_order(
    count: int, cuts: list[int], token: str, name: str, form: str
) -> None:
    """Empty pages too; however the link is spelt; each page is asked for once, by the link as Graph wrote it."""
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    pages = [[{"id": f"s{number}"} for number in range(start, end)] for start, end in pairwise(bounds)]
    escaped = token.replace("%", "%25")

    async def run() -> tuple[list[str | None], list[str]]:
        async with scripted() as graph, world_of(graph.url) as world:
            links = [f"{graph.url}{form}/sessions?$skiptoken={escaped}{number}" for number in range(1, len(pages))]
            bodies = [_page(items, link, name) for items, link in zip(pages[1:], [*links, None][1:], strict=True)]
            first: dict[str, Any] = {"id": CALL, "version": 1, "participants_v2": [], "sessions": pages[0]}
            if links:
                first["sessions" + name] = links[0]
            graph.script("record", says(first))
            graph.script("sessions", *map(says, bodies))
            graph.script("version", says({"id": CALL, "version": 1}))
            fetched = await world.fetch()
            return [session.id for session in fetched.record.sessions or []], graph.asked("sessions")

    found, asked = asyncio.run(run())
    assert found == [f"s{number}" for number in range(count)]
    assert [target.partition("?")[2] for target in asked] == [f"$skiptoken={escaped}{n}" for n in range(1, len(pages))]


def _page(items: list[dict[str, str]], link: str | None, name: str) -> dict[str, Any]:
    return {"value": items} if link is None else {"value": items, name: link}
