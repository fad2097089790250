"""The tables of `docs/privacy.md`, made from the code so that they cannot drift.

`python -m service.cli.privacy_table` writes them between the marks of the page; a test keeps them equal.
"""

from collections.abc import Iterator

from msgspec import Struct

from service.cli.reference import DOCS
from service.record import events
from service.record.personal import CLASSES, IMPERSONAL, PERSONAL
from service.record.privacy import PRESETS

PAGE = DOCS / "privacy.md"
BEGIN, END = "<!-- made from the code: {} -->\n", "\n<!-- end of {} -->"

# Where a reader finds a group in the messages.
PLACES: dict[type[Struct], str] = {
    events.CallGroup: "call",
    events.IdentityGroup: "identity",
    events.AdministrativeUnitGroup: "identity.administrativeUnitInfos",
    events.EndpointGroup: "endpoint",
    events.UserAgentGroup: "endpoint.userAgent",
    events.FeedbackGroup: "endpoint.feedback",
    events.NetworkGroup: "network",
    events.TraceRouteHopGroup: "network.traceRouteHops",
    events.DeviceGroup: "device",
    events.SessionGroup: "session",
    events.SegmentGroup: "segment",
    events.MediaGroup: "media",
    events.StreamGroup: "stream",
    events.FailureGroup: "failureInfo",
    events.QualityGroup: "quality",
    events.StreamEvent: "the event",
    events.CallSummary: "the summary",
    events.Failure: "failures",
}


def page(text: str) -> str:
    """The page with its tables as they must be."""
    for name, table in (("classes", classes()), ("impersonal", impersonal())):
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin, 1)
        text = before + begin + table + end + rest.split(end, 1)[1]
    return text


def classes() -> str:
    """Every class: what it is, its fields, what each preset does."""
    lines = [
        "| Class (setting `privacy.…`) | What | Fields | `open` | `reduced` | `strict` |",
        "|---|---|---|---|---|---|",
    ]
    for name, meaning in CLASSES.items():
        treated = " | ".join(PRESETS[preset][name] for preset in ("open", "reduced", "strict"))
        lines.append(f"| `{name}` | {meaning} | {'; '.join(_fields(name))} | {treated} |")
    return "\n".join(lines)


def impersonal() -> str:
    """Every text field that no policy touches."""
    lines = ["| Group | Text that stays |", "|---|---|"]
    for group, place in PLACES.items():
        names = sorted(IMPERSONAL.get(group, ()))
        if names:
            lines.append(f"| {place} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines)


def _fields(personal: str) -> Iterator[str]:
    if personal == "phone_numbers":
        yield "`identity`: `id` of a phone, and any `id`, `participantId` or `displayName` that reads like a number"
    if personal == "unknown_properties":
        yield "none in events"
    for group, place in PLACES.items():
        names = [name for name, rule in PERSONAL.get(group, {}).items() if rule.personal == personal]
        if names:
            yield f"`{place}`: {', '.join(f'`{name}`' for name in names)}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
