"""Shell: what a person sees of the demo: steps, the first events, progress, the verdict, where to look next."""

import shutil
import sys
import time
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

from service.emulator.judge import Verdict
from service.settings import Kafka, Retry
from service.show import HEADER, VERDICT_STYLES, event_line

FIRST_EVENTS = 12
POOR_EVENTS = 5


class Story:
    """Tells on `console` (stderr when the verdict is wanted as JSON, so that stdout holds that alone)."""

    def __init__(self, *, as_json: bool) -> None:
        self._console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        self._as_json = as_json
        self._began = time.monotonic()
        self._shown = 0
        self._shown_poor = 0
        self.first_event_seconds: float | None = None
        self.is_right: bool | None = None
        """The verdict, once it has been told."""

    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self._began

    def step(self, text: str) -> None:
        """One thing that is done now."""
        self._console.print(f"[{self.seconds():5.1f} s] {text}", markup=False)

    def event(self, event: dict[str, Any]) -> None:
        """Shows the first events, and of those that follow the first few poor ones."""
        if self.first_event_seconds is None:
            self.first_event_seconds = self.seconds()
            self.step("The first events:")
            self._console.print(HEADER, style="bold")
        verdict = event["quality"]["verdict"]
        if self._shown < FIRST_EVENTS:
            self._shown += 1
        elif verdict == "poor" and self._shown_poor < POOR_EVENTS:
            self._shown_poor += 1
        else:
            return
        self._console.print(Text(event_line(event), style=VERDICT_STYLES.get(verdict, "")))

    def progress(self, verdict: Verdict) -> None:
        """How far it is."""
        self.step(f"{verdict.events} events, {verdict.lost} still missing")

    def verdict(self, verdict: Verdict) -> None:
        """The judgement: every event was read from Kafka and compared with the generator's own record."""
        self.is_right = verdict.is_right
        found = {
            "calls": verdict.calls,
            "versions": verdict.versions,
            "events": verdict.events,
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "wrong": verdict.wrong,
            "first_event_seconds": round(self.first_event_seconds or 0.0, 1),
            "seconds": round(self.seconds(), 1),
        }
        if self._as_json:
            Console(highlight=False, soft_wrap=True).print(orjson.dumps(found).decode(), markup=False)
        for problem in verdict.problems:
            self._console.print(f"  {problem}", style="red", markup=False)
        style = "bold green" if verdict.is_right else "bold red"
        self._console.print(
            f"{verdict.calls} calls in {verdict.versions} versions → {verdict.events} events: "
            f"{verdict.lost} lost, {verdict.duplicated} duplicated, {verdict.wrong} wrong "
            f"(first event after {found['first_event_seconds']} s, all after {found['seconds']} s)",
            style=style,
        )

    def where_next(self, kafka: Kafka, retry: Retry, admin_url: str, emulator_url: str, *, is_up: bool) -> None:
        """Where a person can look, while it is up."""
        command = _command()
        if not is_up:
            self._console.print(
                f"To look around while it runs: {command} demo --keep (topics, metrics, tail). README.md has the rest.",
                markup=False,
            )
            return
        self._console.print(
            f"It stays up, with a new call every second. Look around in another terminal:\n"
            f"  export CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS={kafka.bootstrap_servers} \\\n"
            f"    CALLSTREAM_KAFKA__PARTITIONS={kafka.partitions} CALLSTREAM_RETRY__DELAYS={','.join(retry.delays)}\n"
            f"  {command} tail                 every event as it is published\n"
            f"  {command} tail calls           one line a call\n"
            f"  {command} topics --check       the topics\n"
            f"  curl {admin_url}/metrics   every series\n"
            f"  curl -H 'Content-Type: application/json' -d '{{\"kind\": \"pstn\"}}' {emulator_url}/emulator/calls\n"
            f"Ctrl-C ends it.",
            markup=False,
        )


def _command() -> str:
    """How this program is called here: by its name where that is on the path, else as it was called."""
    if shutil.which("callstream"):
        return "callstream"
    called = sys.argv[0]
    return called if called.endswith("callstream") else f"{sys.executable} -m service"
