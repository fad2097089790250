"""What happens in a run: values only. Moments are days of the simulated clock, counted from its first midnight."""

from dataclasses import dataclass, field

from service.emulator.options import Limits

DAY = 86400.0
Span = tuple[float, float]

# Graph's limits in the proportions of tenants this small (of its 1,500, 10,000, 15,000 for an application and tenant,
# a tenant, an application), half of its 40 for a record, and the list at what older documents say.
LIMITS = Limits(app=400, tenant=267, app_and_tenant=40, record=20, list=10)


@dataclass(frozen=True)
class Script:
    """One run."""

    days: float = 30.0
    tenants: int = 3
    calls_per_day: int = 96
    """Of each tenant. One in ten gets a second version after three hours; the first of a day is a large meeting."""
    speed: float = 8000.0
    dropped: float = 0.05
    """Share of the notices that never arrive."""
    silent: tuple[Span, ...] = ((6.0, 7.0), (18.0, 19.0))
    """Graph tells nobody of the calls made then, and says nothing of it."""
    down: tuple[Span, ...] = ((22.0, 25.2),)
    """The service does not run; longer than a subscription lives, it lapses."""
    secrets: tuple[float, ...] = (3.0, 10.0, 16.0, 27.0)
    """Each tenant's client secret is replaced: the new one is added, put into its file, the old one ended later."""
    late_secret: float | None = 13.0
    """The first tenant's secret ends, and its successor is in the file 6 h later only."""
    keys: tuple[float, ...] = (9.0,)
    """A new clientState key is added and the service restarted; and again, later, without the old key."""
    key_kept_days: float = 1.0
    subscription_minutes: int = 4230
    settle_days: float = 3.0
    """At the most so long after the last call."""
    limits: Limits = field(default_factory=lambda: LIMITS)
    tenant_requests: int = 24
    record_requests: int = 18
    list_requests: int = 8
    """Our budgets: below the limits in about the proportion of the settings' defaults to Graph's."""

    def is_silent(self, day: float) -> bool:
        """Whether nobody is told of a call made then."""
        return any(first <= day < last for first, last in self.silent)
