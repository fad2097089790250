"""The one healthy deployment of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.scene import Scene, scene_of


@pytest.fixture(scope="package")
def scene(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Every link is as it should be; whoever breaks one mends it."""
    folder: Path = tmp_path_factory.mktemp("doctor")
    with scene_of(kafka, folder) as scene:
        yield scene
