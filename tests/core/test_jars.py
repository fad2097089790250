"""Kafka's jars are the listed ones, or none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from service.embedded import jars
from service.embedded.jars import Jar
from service.errors import UserError


def test_a_jar_that_was_exchanged_on_its_way_is_refused(tmp_path: Path) -> None:
    """By its SHA-256, in a sentence that says who may know why."""
    jar = Jar("org.apache.kafka:kafka-clients:4.4.0", 7, "0" * 64)
    arrived = tmp_path / jar.file_name
    arrived.write_bytes(b"another")
    component = SimpleNamespace(artifact=lambda *_: SimpleNamespace(resolve=lambda: arrived, cached_path=arrived))
    context = SimpleNamespace(project=lambda *_: SimpleNamespace(at_version=lambda _: component))

    with pytest.raises(UserError, match=r"kafka-clients-4\.4\.0\.jar is not the one .* SHA-256 differs"):
        jars._fetch(context, jar, jars._Tally())
