"""The reference pages `docs/settings.md` and `docs/metrics.md`, made from the code so that they cannot drift.

`python -m service.cli.reference` writes them; a test keeps them equal. What a setting means stands under its field in
`service/settings/groups.py`, what a series counts in `service/metrics.py`; what to do about a series stands here.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types
from prometheus_client.metrics_core import Metric

from service import metrics, settings
from service.metrics import Metrics
from service.settings.base import Group

DOCS = Path(__file__).parents[2] / "docs"

UNITS = {
    "_seconds": "seconds",
    "_milliseconds": "milliseconds",
    "_minutes": "minutes",
    "_hours": "hours",
    "_bytes": "bytes",
    "_per_20s": "requests per 20 s",
}

# Fields whose meaning is their name; one with text under it in `service/settings/groups.py` does not need a line here.
MEANINGS = {
    "receiver.host": "Address the public site listens on.",
    "receiver.port": "Port the public site listens on; 0 takes any free one.",
    "receiver.max_body_bytes": "Largest body of one POST; more is answered 413.",
    "admin.host": "Address the private site listens on.",
    "admin.port": "Port the private site listens on; 0 takes any free one.",
    "graph.root_url": "Base URL of Graph, for `cloud = custom`.",
    "graph.login_url": "Base URL of the login, for `cloud = custom`.",
    "log.level": "Least level that is written.",
}

SETTINGS_HEAD = """# Settings

Every setting can stand in a TOML file (`--config`, else `CALLSTREAM_CONFIG`, else `./callstream.toml`) and in an
environment variable, which wins. A variable that ends in `_FILE` names a file that holds the value: use it for secrets.
Settings whose own name ends in `_file` hold a path.
Lists are comma-separated. All values are checked before anything opens; a mistake ends the start with one sentence.
The effective settings are logged once at start, secrets masked.

```toml
[tenants.contoso]              # the name becomes a metric label
id = "c0ffee00-1111-4222-8333-444455556666"
client_id = "11111111-2222-4333-8444-555555555555"
# CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET_FILE=/run/secrets/contoso

[receiver]
public_url = "https://calls.example.com"

[kafka]
bootstrap_servers = "kafka-1:9092,kafka-2:9092"
```

This page is made from the code: `python -m service.cli.reference`.
"""

SETTINGS_COLUMNS = """| Setting | Variable | Default | Values | Unit | Meaning |
|---|---|---|---|---|---|"""

METRICS_HEAD = """# Metrics

`/metrics` on the private site (8081), in Prometheus' text format, or OpenMetrics when asked. Every name begins with
`callstream_`; times are seconds, sizes bytes. Label values come from closed sets; a tenant appears by its configured
name. Series whose labels are known read 0 from the start. Sum over processes, save where a line says otherwise.

Two sums hold at every scrape: notifications received = stored + refused, and what Graph was told with 503 is in
`refused{reason="not_stored"}`, because Graph sends it again.

This page is made from the code: `python -m service.cli.reference`.
"""

LABEL_VALUES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("graph_seconds", "call"): metrics.GRAPH_CALLS,
    ("graph_seconds", "outcome"): metrics.GRAPH_OUTCOMES,
    ("odd_values", "kind"): metrics.ODD,
}

TODO = {
    "notifications_received": "Alert on silence: none for hours on a working day means that no subscription delivers.",
    "notifications_stored": "Nothing; falls behind `received` only by what is refused.",
    "notifications_refused": "`not_stored`: look at Kafka. `client_state`, `tenant`, `resource`: somebody else's or an "
    "old subscription posts here, or a stranger does; the log says which. `malformed`, `call_id`: Graph changed.",
    "hub_events": "`not_json`, `not_a_collection`, `too_many`: somebody else writes into the hub. Others: nothing.",
    "hub_lag_events": "The sum over processes. Growing: Kafka or the readers are slower than Graph; look at `stored`.",
    "receiver_rejected": "`not_stored`: look at Kafka. `busy`, `connections`: a flood; limit it in front "
    "(docs/security.md). Others: strangers, probes, or a proxy in between; rare is normal.",
    "receiver_handshakes": "Nothing; two for each subscription that is created.",
    "receiver_connections": "At the bound: a flood; `receiver_rejected` with `connections` counts who gave way.",
    "receiver_head_bytes": "At the bound: large headers are answered 503, `receiver_rejected` with `busy` counts them.",
    "receiver_held_bytes": "At the bound: large POSTs are answered 503, `receiver_rejected` with `busy` counts them.",
    "receiver_storing": "Growing: Kafka is slow. At most `receiver.store_timeout_seconds` each, then 503.",
    "in_flight_lane_bytes": "At the bound: batches of large records; `batches_cut` with `batch_bytes` counts them.",
    "waiting_fetches": "Above 0 for long: raise `lanes.concurrent_fetches`, or add workers.",
    "beside_fetches": "At the bound for long: many slow records; further ones wait for the record's deadline.",
    "held_retries": "At the bound nothing is lost: the others wait in Kafka.",
    "batches_cut": "What holds the lanes back: `budget` is Graph's, the others are settings of `lanes`.",
    "receiver_seconds": "Above 3 s Graph counts an answer as slow, above 10 s it drops notifications: look at Kafka.",
    "graph_seconds": "`throttled` or `timeout` in bulk: lower `graph.tenant_requests_per_20s`, or wait out an outage.",
    "certificate_end_timestamp_seconds": "Only for tenants that sign in with a certificate. Alert when it is less than "
    "30 days ahead: put a new one in its file (docs/sign-in.md).",
    "tenant_waiting": "1 for long: look at the log for the tenant (consent, secret, throttling).",
    "odd_values": "New kinds mean that Graph changed; the values are published as well as they can be.",
    "records_fetched": "Nothing; compare with published.",
    "records_published": "Alert when it stands still while notifications are stored.",
    "events_published": "Nothing; the volume that consumers see.",
    "notifications_skipped": "Nothing; duplicates are normal.",
    "notifications_retried": "`not_found` is normal; `graph_unavailable`, `outage`, `tenant_waits` point at Graph.",
    "outage": "Take the maximum over processes. 1: the log line `most records fail for one reason` names the error; "
    "nothing is lost, and it ends by itself once one record goes well.",
    "dead_letters": "`callstream dead-letter list` says what each reason means and what to do.",
    "notifications_rerouted": "Another tool writes notifications with another partitioner; it works, at a cost.",
    "notice_to_event_seconds": "The delay that users see; find which of retries, Graph or Kafka makes it.",
    "graph_delay_seconds": "Graph's own delay, not ours (that is `notice_to_event_seconds`). Above 9000 for "
    "`record`: Graph is later than it promises.",
    "transaction_events": "Small ones in bulk cost much: raise `lanes.gather_milliseconds`.",
    "transaction_seconds": "Above 1 s: look at Kafka.",
    "lanes_owned": "The sum over all processes must be `kafka.partitions`.",
    "lane_reopened": "`fenced` at a rebalance is normal; steady growth points at Kafka.",
    "ledger_entries": "Memory is planned from it.",
    "lag_seconds": "Take the maximum over processes. Growing: add workers, or look at what tenants wait for.",
    "in_flight_bytes": "At `lanes.bytes_in_flight` fetches wait: Kafka is slower than Graph.",
    "held_bytes": "At the bound for long: large records come faster than they are published; add workers.",
    "held_back": "Rare is normal. Steady growth: large records wait for each other; raise `lanes.held_bytes`, or add "
    "workers.",
    "in_flight_fetches": "At `lanes.concurrent_fetches` all the time: raise it, or add workers.",
    "audits": "`newer`: a version whose notice and list entry were late; `older`: Graph shows less than before.",
    "reconcile_listed": "Nothing; the work that reconciliation makes.",
    "reconcile_fits": "Take the maximum over processes. 0: raise `graph.list_requests_per_20s` (docs/completeness.md).",
    "reconcile_backlog_seconds": "Take the maximum over processes. Above a day: an outage is being caught up with.",
    "reconcile_at_risk_calls": "Above 0, calls will be lost: raise `graph.list_requests_per_20s` at once.",
    "last_notice_timestamp_seconds": "Take the maximum over processes. Old on a working day: look at the log.",
    "day_calls": "Take the maximum over processes. `missing` of a day older than 1 above 0 for hours: look at retries, "
    "dead letters and what the tenant waits for. `healed` in bulk: notices get lost (docs/completeness.md).",
    "keeper_active": "The sum over all processes must be 1.",
    "subscription_expiry_timestamp_seconds": "Take the maximum over processes. Alert when it is less than a day ahead, "
    "or 0: the log line `the subscription cannot be kept` says what to do.",
    "subscription_calls": "`failed`: the log line `the subscription cannot be kept` says what to do.",
    "lifecycle_events": "`reauthorizationRequired` is answered by a renewal; one that repeats is not answered.",
}


@dataclass(frozen=True)
class Entry:
    """One line of the settings' table."""

    name: str
    kind: types.Type
    default: Any
    """`msgspec.NODEFAULT` where it must be given."""
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return settings.PREFIX + self.name.upper().replace(".", "__")

    @property
    def unit(self) -> str:
        """From the name's end; empty for what has none."""
        return next((unit for end, unit in UNITS.items() if self.name.endswith(end)), "")


def settings_page() -> str:
    """`docs/settings.md`."""
    lines = [SETTINGS_HEAD]
    group = None
    for entry in sorted_entries():
        section = entry.name.rpartition(".")[0]
        if section != group:
            group = section
            title = f"`{group}`" if group else "Of the process"
            lines += [
                f"## {title}\n",
                *_introduction(group),
                "| Setting | Variable | Default | Values | Unit | Meaning |",
            ]
            lines += ["|---|---|---|---|---|---|"]
        cells = (
            f"`{entry.name}`",
            f"`{entry.variable}`",
            _default(entry),
            _values(entry.kind),
            entry.unit,
            entry.meaning,
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return _joined(lines)


def sorted_entries() -> list[Entry]:
    """Every setting, those of the process itself last, otherwise in the order of the code."""
    return sorted(_entries(settings.Settings, ""), key=lambda entry: "." not in entry.name)


def metrics_page() -> str:
    """`docs/metrics.md`."""
    lines = [METRICS_HEAD, "| Series | Type | Labels | Counts | What to do |", "|---|---|---|---|---|"]
    for family in families():
        short = family.name.removeprefix("callstream_")
        name = family.name + ("_total" if family.type == "counter" else "")
        cells = (f"`{name}`", family.type, _labels(family, short), family.documentation, TODO.get(short, ""))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return _joined(lines)


def families() -> list[Metric]:
    """Every series of the program, in the order of the code."""
    return list(Metrics(tenants=("<tenant>",)).registry.collect())


def _entries(group: type[msgspec.Struct], prefix: str) -> Iterator[Entry]:
    """The settings of a group and of the groups below it; a dict's keys are shown as `<name>` or `<n>`."""
    texts = _texts(group)
    kinds = types.type_info(group)
    assert isinstance(kinds, types.StructType)  # noqa: S101 - for the type checker
    for field in kinds.fields:
        name, kind = prefix + field.name, field.type
        if isinstance(kind, types.DictType):
            if isinstance(kind.value_type, types.StructType):
                yield from _entries(kind.value_type.cls, f"{name}.<name>.")
            else:
                yield Entry(f"{name}.<n>", kind.value_type, msgspec.NODEFAULT, texts.get(field.name, ""))
        elif isinstance(kind, types.StructType):
            yield from _entries(kind.cls, name + ".")
        else:
            yield Entry(name, kind, field.default, texts.get(field.name) or MEANINGS.get(name, ""))


def _texts(group: type) -> dict[str, str]:
    """Field → the text that stands under it in the code, in the group itself or in one that it extends."""
    extended = group.__base__
    found = _texts(extended) if extended not in (None, Group) else {}
    [tree] = ast.parse(inspect.getsource(group)).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - for the type checker
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


def _introduction(section: str) -> list[str]:
    """The docstring of the group that a section shows."""
    group: Any = settings.Settings
    for part in section.split(".") if section else []:
        if part.startswith("<"):
            continue
        fields = {field.name: field.type for field in msgspec.structs.fields(group)}
        kind = types.type_info(fields[part])
        kind = kind.value_type if isinstance(kind, types.DictType) else kind
        group = kind.cls if isinstance(kind, types.StructType) else group
    text = inspect.getdoc(group) if group is not settings.Settings else ""
    return [text + "\n"] if text else []


def _default(entry: Entry) -> str:
    if entry.default is msgspec.NODEFAULT:
        return "required" if "<n>" not in entry.name else ""
    shown = entry.default
    if isinstance(shown, tuple):
        return f"`{','.join(shown)}`"
    if isinstance(shown, bool):
        return f"`{str(shown).lower()}`"
    return f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`" if isinstance(shown, int) or shown else ""


def _values(kind: types.Type) -> str:
    match kind:
        case types.BoolType():
            return "true, false"
        case types.IntType() | types.FloatType():
            return f"{'whole number' if isinstance(kind, types.IntType) else 'number'}{_range(kind)}"
        case types.LiteralType():
            return ", ".join(f"`{value}`" for value in kind.values)
        case types.VarTupleType():
            return "list"
        case types.CustomType():
            return "secret text"
    return "text"


def _range(kind: types.IntType | types.FloatType) -> str:
    bounds = [("from", kind.ge), ("above", kind.gt), ("to", kind.le), ("below", kind.lt)]
    return "".join(f" {word} {bound:g}" for word, bound in bounds if bound is not None)


def _labels(family: Metric, short: str) -> str:
    """Label names, each with its values where the set is closed."""
    seen: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le" and value not in seen.setdefault(label, []):
                seen[label].append(value)
    if not seen:
        seen = {label: [] for label in label_names(family.name)}
    shown = []
    for label, values in seen.items():
        closed = LABEL_VALUES.get((short, label), tuple(values))
        is_open = not closed or closed == ("<tenant>",)
        shown.append(f"`{label}`" if is_open else f"`{label}`: {', '.join(closed)}")
    return "; ".join(shown)


def label_names(name: str) -> tuple[str, ...]:
    """The labels of a series that has no children yet."""
    for series in vars(Metrics()).values():
        if getattr(series, "_name", None) == name:
            return tuple(series._labelnames)
    return ()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _joined(lines: list[str]) -> str:
    """One text with an empty line before every title."""
    text = "\n".join(lines).replace("\n## ", "\n\n## ")
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


def write(folder: Path = DOCS) -> None:
    """Writes both pages."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.md").write_text(settings_page(), encoding="utf-8")
    (folder / "metrics.md").write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
