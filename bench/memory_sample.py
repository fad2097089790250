"""One reading of a run of `bench.memory`."""

from typing import NamedTuple


class Sample(NamedTuple):
    """One row of the CSV file."""

    seconds: float
    rss_mb: float
    ledger_entries: int
    in_flight_mb: float
    published: int
    retried: int
    dead: int
    lag_seconds: float
    fault: str
