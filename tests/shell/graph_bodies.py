"""Bodies of a scripted Graph, and the fixtures that tests of one record share."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.shell.graph_fixture import CALL, Answer, ScriptedGraph, World, says, scripted, world_of

BASE = f"/v1.0/communications/callRecords/{CALL}"
WHOLE = f"{BASE}?$expand=participants_v2,sessions($expand=segments)"
EVIL = f"https://evil.example.com/v1.0/communications/callRecords/{CALL}/sessions?$skiptoken=a"


@pytest_asyncio.fixture
async def graph() -> AsyncIterator[ScriptedGraph]:
    async with scripted() as graph:
        yield graph


@pytest_asyncio.fixture
async def world(graph: ScriptedGraph) -> AsyncIterator[World]:
    async with world_of(graph.url) as world:
        yield world


def record(version: int = 1, sessions: int | None = 1, link: str | None = None, **more: Any) -> dict[str, Any]:
    """A record; `link` leads to more sessions."""
    body: dict[str, Any] = {"id": CALL, "version": version, "type": "groupCall", "participants_v2": [{"id": "p0"}]}
    if sessions is not None:
        body["sessions"] = [{"id": f"first{number}"} for number in range(sessions)]
    if link is not None:
        body["sessions@odata.nextLink"] = link
    return {**body, **more}


def page(*names: str, link: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"value": [{"id": name} for name in names]}
    return body if link is None else {**body, "@odata.nextLink": link}


def version(number: int) -> Answer:
    return says({"id": CALL, "version": number})


def sessions_of(fetched: Any) -> list[str]:
    return [session.id for session in fetched.record.sessions]
