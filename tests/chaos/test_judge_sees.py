"""The judge of the chaos runs finds builds out that are broken on purpose, and has nothing against the sound one."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.directed import DIRECTED, stage

FOUND = {
    "offsets-outside": {"lost", "acknowledged and vanished"},
    "no-transaction": {"duplicated"},
    "shared-epoch": {"duplicated"},
    "no-ledger": {"duplicated"},
    "no-fencing": {"duplicated"},
    "early-answer": {"lost", "acknowledged and vanished"},
}


@pytest.mark.parametrize("build", DIRECTED)
async def test_a_build_broken_on_purpose_is_caught(kafka: str, prefix: str, tmp_path: Path, build: str) -> None:
    """The schedule that is made for it finds it out; the sound build goes through the same without a fault."""

    async def judged(name: str) -> tuple[dict[str, int], int]:
        processes = 2 if build == "no-fencing" else 1
        broker = "" if build == "shared-epoch" else kafka
        async with stage(broker, f"{prefix}-{name}", tmp_path / name, name, processes) as struck:
            await DIRECTED[build](struck)
            return await struck.faults(), struck.seen_half

    (broken, half_seen), (sound, half_of_sound) = await asyncio.gather(judged(build), judged("sound"))

    assert (sound, half_of_sound) == ({}, 0)
    assert broken.keys() >= FOUND[build]
    assert bool(half_seen) == (build == "no-transaction"), "a consumer saw a part of a version"
