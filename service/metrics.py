"""Every Prometheus series of the program: name, help, labels, buckets. Other rooms receive the object and count.

Label values come from the closed sets below (style: no ids, no URLs, no messages); a tenant appears by its configured
name. Children that are known are made at start, so that a quiet series reads 0. `docs/metrics.md` lists the same
series; a test keeps the two equal.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

# The library adds a `_created` timestamp to every counter and histogram child, which doubles the series and which
# Prometheus does not need; it knows only a switch for the whole process.
disable_created_metrics()  # type: ignore[no-untyped-call]

KINDS = ("audio", "video", "screen-sharing", "other")
REFUSED = ("malformed", "tenant", "client_state", "resource", "call_id", "not_stored")
REJECTED = (
    "not_json",
    "not_a_collection",
    "too_large",
    "too_many",
    "too_slow",
    "cut",
    "busy",
    "content_type",
    "path",
    "method",
    "not_http",
    "unfinished",
    "unread",
    "connections",
    "not_stored",
    "internal",
)
RETRIED = (
    "not_found",
    "graph_unavailable",
    "tenant_waits",
    "changed",
    "unchanged",
    "long_fetch",
    "joined_fetch",
    "budget",
    "internal",
    "outage",
    "not_a_call_record",
    "unpublishable",
)
DEAD = (
    "unavailable",
    "graph_unavailable",
    "not_a_call_record",
    "unpublishable",
    "malformed",
    "unknown_tenant",
    "internal",
)
OUTAGES = ("unavailable", "graph_unavailable", "not_a_call_record", "unpublishable", "internal")
SKIPPED = ("published", "dead", "overtaken", "merged")
ODD = ("wrong_type", "out_of_range", "bad_format", "negative_duration", "unknown_field", "unknown_member")
HUB_EVENTS = ("notifications", "probe", "not_json", "not_a_collection", "too_many")
GRAPH_OUTCOMES = ("ok", "not_found", "throttled", "unauthorized", "forbidden", "error", "timeout", "cut", "refused")
GRAPH_CALLS = ("record", "sessions", "participants", "version", "token", "subscriptions", "list")
DAY_STATES = ("listed", "published", "set_aside", "missing", "healed", "late")
BOUNDS = ("batch_bytes", "bytes_in_flight", "concurrent_fetches", "held_bytes", "budget")
AUDITS = ("same", "newer", "older", "unread")
REOPENED = ("fenced", "kafka")

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0)
DELAYS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0)
# Graph promises a first version within 150 minutes (9000 s).
GRAPH_DELAYS = (1.0, 10.0, 60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 5400.0, 9000.0, 14400.0, 43200.0, 86400.0)
GRAPH_PARTS = ("record", "notice")
SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


class Metrics:
    """All series on one registry; each process (and each test) has its own."""

    def __init__(self, registry: CollectorRegistry | None = None, tenants: Iterable[str] = ()) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=True)
        self._receiver()
        self._graph()
        self._lanes()
        self._load()
        self._keeper()
        self._make_children(tuple(tenants))

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"callstream_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"callstream_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(f"callstream_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _receiver(self) -> None:
        self.received = self._counter(
            "notifications_received_total", "Notification items received; equals stored + refused."
        )
        self.stored = self._counter("notifications_stored_total", "Notification items that Kafka acknowledged.")
        self.refused = self._counter(
            "notifications_refused_total",
            "Notification items not stored, by reason; not_stored was answered 503 and Graph repeats it.",
            ("reason",),
        )
        self.hub_events = self._counter(
            "hub_events_total", "Events read from the event hub, by what they held; one holds many items.", ("outcome",)
        )
        self.hub_lag = self._gauge("hub_lag_events", "Events in the event hub behind the last one that was read.")
        self.rejected = self._counter(
            "receiver_rejected_total",
            "Requests answered 4xx, 500 or 503, and connections closed unserved, by reason.",
            ("reason",),
        )
        self.handshakes = self._counter("receiver_handshakes_total", "Validation handshakes answered.")
        self.receiver_connections = self._gauge(
            "receiver_connections", "Open connections of the public site; `receiver.max_connections` is the most."
        )
        self.receiver_heads = self._gauge(
            "receiver_head_bytes",
            "Request lines and headers not answered yet; `receiver.max_head_bytes` is the most for large ones.",
        )
        self.receiver_held = self._gauge(
            "receiver_held_bytes",
            "Bodies of POSTs that are not answered yet; `receiver.max_held_bytes` is the most for large ones.",
        )
        self.receiver_storing = self._gauge("receiver_storing", "POSTs that wait for Kafka's acknowledgement.")
        self.receive_seconds = self._histogram(
            "receiver_seconds", "Seconds from a notification POST's headers to its answer.", SECONDS
        )

    def _graph(self) -> None:
        self.graph_seconds = self._histogram(
            "graph_seconds", "Seconds of one request to Graph, by call and outcome.", SECONDS, ("call", "outcome")
        )
        self.tenant_waiting = self._gauge(
            "tenant_waiting", "1 while a tenant has to wait (429, 403, no token, outage), else 0.", ("tenant",)
        )
        self.certificate_end = self._gauge(
            "certificate_end_timestamp_seconds",
            "Unix time the tenant's sign-in certificate ends, as its file has it; 0 for a file that cannot be read.",
            ("tenant",),
        )
        self.odd_values = self._counter(
            "odd_values_total",
            "Values that Graph's contract does not foresee, by field path and kind.",
            ("field", "kind"),
        )

    def _lanes(self) -> None:
        self.fetched = self._counter("records_fetched_total", "Call records fetched whole, all pages.", ("tenant",))
        self.published = self._counter(
            "records_published_total", "Versions of call records published, each with all its events.", ("tenant",)
        )
        self.events = self._counter("events_published_total", "Stream events published, by topic kind.", ("kind",))
        self.skipped = self._counter(
            "notifications_skipped_total", "Notifications that needed nothing, by reason.", ("reason",)
        )
        self.retried = self._counter(
            "notifications_retried_total", "Notifications sent to a retry topic, by reason.", ("reason",)
        )
        self.outage = self._gauge(
            "outage",
            "1 while most records of a tenant fail for this reason, so that they wait and none is set aside; else 0.",
            ("tenant", "reason"),
        )
        self.dead = self._counter("dead_letters_total", "Notifications set aside, by reason.", ("reason",))
        self.rerouted = self._counter(
            "notifications_rerouted_total", "Notifications found in another call's partition and sent to their own."
        )
        self.notice_to_event = self._histogram(
            "notice_to_event_seconds",
            "Seconds from a notification's receipt to its events' commit (source webhook or eventhub).",
            DELAYS,
        )
        self.graph_delay = self._histogram(
            "graph_delay_seconds",
            "Seconds that Graph took, for records published by a notice: `record` from the call's end to its first "
            "version, `notice` from a version to the notice of it.",
            GRAPH_DELAYS,
            ("part",),
        )
        self.transaction_events = self._histogram("transaction_events", "Stream events in one transaction.", SIZES)
        self.transaction_seconds = self._histogram(
            "transaction_seconds", "Seconds from a batch in hand to its commit, with the wait for the epoch.", SECONDS
        )

    def _load(self) -> None:
        self.lanes_owned = self._gauge("lanes_owned", "Lanes this process works.")
        self.lane_reopened = self._counter(
            "lane_reopened_total", "Lanes opened again after a failure, by what failed.", ("reason",)
        )
        self.ledger_entries = self._gauge("ledger_entries", "Calls in the ledgers of this process's lanes.")
        self.oldest_due_seconds = self._gauge(
            "lag_seconds", "Age of the oldest notification that is due and not yet handled, over this process's lanes."
        )
        self.bytes_in_flight = self._gauge(
            "in_flight_bytes", "Encoded events held for publication; `lanes.bytes_in_flight` is the most."
        )
        self.held_bytes = self._gauge(
            "held_bytes",
            "Graph's pages and encoded events of this process; `lanes.held_bytes` is the most, and one record.",
        )
        self.held_back = self._counter(
            "held_back_total", "Times that reading or encoding a record waited until the process held less."
        )
        self.lane_bytes = self._gauge(
            "in_flight_lane_bytes",
            "Encoded events of the batch of that lane which holds most; `lanes.batch_bytes` is the most.",
        )
        self.fetches_in_flight = self._gauge(
            "in_flight_fetches", "Call records being fetched; `lanes.concurrent_fetches` is the most."
        )
        self.fetches_waiting = self._gauge("waiting_fetches", "Call records that wait for a place to be fetched.")
        self.fetches_beside = self._gauge(
            "beside_fetches",
            "Slow call records of the lane that has most beside its batches; `lanes.beside_fetches` is the most.",
        )
        self.retries_held = self._gauge(
            "held_retries",
            "Notifications held until they are due, of the retry partition with most, up to `lanes.retry_buffer`.",
        )
        self.batches_cut = self._counter(
            "batches_cut_total", "Batches that ended before all that was taken had been started, by bound.", ("bound",)
        )

    def _keeper(self) -> None:
        self.audits = self._counter(
            "audits_total",
            "Listed records known as published and fetched all the same, by what was found.",
            ("outcome",),
        )
        self.keeper_active = self._gauge("keeper_active", "1 where this process is the active keeper, else 0.")
        self.subscription_expiry = self._gauge(
            "subscription_expiry_timestamp_seconds",
            "Unix time the tenant's subscription expires; 0 for none.",
            ("tenant",),
        )
        self.subscription_renewals = self._counter(
            "subscription_calls_total", "Subscription calls by kind and outcome.", ("kind", "outcome")
        )
        self.listed = self._counter(
            "reconcile_listed_total", "Call records listed and queued, each once in every look.", ("tenant",)
        )
        self.reconcile_fits = self._gauge(
            "reconcile_fits", "1 while two looks at every record fit the budget for lists, else 0.", ("tenant",)
        )
        self.reconcile_backlog = self._gauge(
            "reconcile_backlog_seconds", "Seconds until every hour that is due has been listed.", ("tenant",)
        )
        self.at_risk = self._gauge(
            "reconcile_at_risk_calls",
            "Calls in hours that pass Graph's 30 days before they can be listed, as far as can be told.",
            ("tenant",),
        )
        self.last_notice = self._gauge(
            "last_notice_timestamp_seconds", "Unix time the newest notice of the tenant was received.", ("tenant",)
        )
        self.day_calls = self._gauge(
            "day_calls",
            "Calls of one UTC day by the day's age: what Graph lists and what became of it.",
            ("tenant", "day", "state"),
        )
        self.lifecycle = self._counter(
            "lifecycle_events_total", "Lifecycle notifications stored, by event.", ("event",)
        )

    def _make_children(self, tenants: tuple[str, ...]) -> None:
        """A quiet series reads 0 instead of being absent."""
        for counter, values in (
            (self.refused, REFUSED),
            (self.hub_events, HUB_EVENTS),
            (self.rejected, REJECTED),
            (self.events, KINDS),
            (self.skipped, SKIPPED),
            (self.retried, RETRIED),
            (self.dead, DEAD),
            (self.lane_reopened, REOPENED),
            (self.lifecycle, LIFECYCLE),
            (self.audits, AUDITS),
            (self.batches_cut, BOUNDS),
        ):
            for value in values:
                counter.labels(value)
        for tenant in tenants:
            for series in (self.fetched, self.published, self.tenant_waiting, self.subscription_expiry, self.listed):
                series.labels(tenant)
            for reason in OUTAGES:
                self.outage.labels(tenant, reason)
        for part in GRAPH_PARTS:
            self.graph_delay.labels(part)
        for kind in SUBSCRIPTION_CALLS:
            for outcome in ("ok", "failed"):
                self.subscription_renewals.labels(kind, outcome)


LIFECYCLE = ("reauthorizationRequired", "subscriptionRemoved", "missed", "other")
SUBSCRIPTION_CALLS = ("create", "adopt", "renew", "delete", "list", "get", "reauthorize")
