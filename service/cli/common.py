"""What several commands need: the settings from this process's environment; a quiet Kafka client."""

import logging
import os
from pathlib import Path

from service.settings import Settings, load


def settings_of(config: Path | None) -> Settings:
    """Settings from the file and the environment; `UserError` with one sentence when they are wrong."""
    return load(os.environ, config)


def quiet_kafka() -> None:
    """A command says in one sentence that Kafka is away; its client's own lines would stand around it."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
