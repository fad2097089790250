"""Core: one published event or summary as one readable line. Plain values from JSON in, text out."""

from collections.abc import Mapping
from typing import Any

HEADER = (
    f"{'ended (UTC)':19}  {'call':8} {'v':>2}  {'stream':10} {'kind':13} {'verdict':12} "
    f"{'rtt ms':>7} {'loss %':>6} {'jitter':>6}  who → whom"
)
VERDICT_STYLES = {"poor": "bold red", "good": "green", "unclassified": "dim"}
Json = Mapping[str, Any]


def event_line(event: Json) -> str:
    """A stream event: when, which, how it went, between whom."""
    call, stream, quality = event["call"], event["stream"], event["quality"]
    position = event["id"].rsplit("/", 1)[1]
    loss = stream.get("averagePacketLossRate")
    columns = (
        f"{(call.get('endDateTime') or '')[:19]:19}  {call['id'][:8]:8} {call['version']:>2}  "
        f"{position:10} {event['media']['kind']:13} {quality['verdict']:12} "
        f"{_number(stream.get('averageRoundTripTimeMs')):>7} {_number(None if loss is None else loss * 100):>6} "
        f"{_number(stream.get('averageJitterMs')):>6}"
    )
    line = f"{columns}  {_party(event, sender(event))} → {_party(event, receiver(event))}"
    why = ", ".join(quality["reasons"]) if quality["verdict"] == "poor" else ""
    return f"{line}  because of {why}" if why else line


def sender(event: Json) -> str:
    """The side that sent; the caller where the direction is unknown."""
    return str(event["stream"].get("sender") or "caller")


def receiver(event: Json) -> str:
    """The side that received."""
    return "caller" if sender(event) == "callee" else "callee"


def summary_line(summary: Json) -> str:
    """A call summary: when, which, how many streams of what kind, how many poor."""
    call, counts = summary["call"], summary["counts"]
    streams = ", ".join(f"{number} {kind}" for kind, number in counts["streams"].items() if number) or "no streams"
    poor = sum(counts["poor"].values())
    failures = summary.get("failureCount", 0)
    line = (
        f"{(call.get('endDateTime') or '')[:19]:19}  {call['id'][:8]:8} {call['version']:>2}  "
        f"{call.get('type') or '?':12} {_counted(call['participantCount'], 'person', 'people'):>10}, {streams}"
    )
    line += f", {poor} poor" if poor else ""
    return line + (f", {_counted(failures, 'failure', 'failures')}" if failures else "")


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _party(event: Json, side: str) -> str:
    """Who is on a side: the person's name, the phone, else what kind of service."""
    group = event.get(side) or {}
    endpoint = group.get("endpoint") or {}
    identity = endpoint.get("identity") or {}
    who = identity.get("displayName") or identity.get("userPrincipalName") or identity.get("id")
    if not who:
        who = (endpoint.get("userAgent") or {}).get("role") or endpoint.get("kind") or "?"
    network = (group.get("network") or {}).get("connectionType")
    shown = str(who) if str(who).isprintable() else ascii(who)
    return f"{shown} ({network})" if network and network != "unknown" else shown
