"""Writes the list of a Kafka version's jars, as the repository has them today: `make lock-kafka ARGS=4.4.0`."""

import hashlib
import sys
import tempfile
from pathlib import Path

from service.embedded.jars import KAFKA_VERSION, Jar, download


def main(version: str) -> None:
    """Resolves `version` through its POMs and writes `kafka-{version}.jars` beside this file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "jars"
        jars = sorted(download(folder, version, is_locked=False), key=lambda jar: jar.coordinate)
        lines = [_described(folder, jar) for jar in jars]
    head = f"# Kafka {version}'s class path: SHA-256, bytes, group:artifact:version. Written by `make lock-kafka`.\n"
    listing = Path(__file__).with_name(f"kafka-{version}.jars")
    listing.write_text(head + "".join(lines))
    sys.stdout.write(f"{listing.name}: {len(lines)} jars\n")


def _described(folder: Path, jar: Jar) -> str:
    body = (folder / jar.file_name).read_bytes()
    return f"{hashlib.sha256(body).hexdigest()} {len(body)} {jar.coordinate}\n"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else KAFKA_VERSION)
