"""The chain in its order, what depends on what, a deadline for each look; nothing that fails here is a traceback.

The order is that of causes. Kafka stands before the subscription, because the keeper needs it to keep one, and before
what is said of notices, because what was seen last is remembered there. The clock stands before the token, because a
wrong one is why tokens are refused.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from service.doctor import (
    backlog,
    completeness,
    groups,
    handshake,
    hosts,
    hub,
    kafka,
    letters,
    notices,
    permission,
    public_url,
    service,
    setting,
    subscription,
    token,
    topics,
    transactions,
)
from service.doctor.case import Case, error_text
from service.doctor.finding import Finding, Look, broken, skipped
from service.settings import Tenant

Ask = Callable[[Case], Awaitable[Iterable[Look]]]
AskTenant = Callable[[Case, str, Tenant], Awaitable[Iterable[Look]]]
SECONDS = 20.0


@dataclass(frozen=True)
class Link:
    """One link. Exactly one of `ask` and `ask_tenant` is given; a tenant's link is asked for each of them."""

    name: str
    needs: tuple[str, ...] = ()
    """Links without which this one cannot be seen."""
    ask: Ask | None = None
    ask_tenant: AskTenant | None = None
    seconds: float = SECONDS


CHAIN: tuple[Link, ...] = (
    Link("settings", (), setting.check),
    Link("event hub", ("settings",), hub.check),
    Link("public url", ("settings",), public_url.check_address),
    Link("certificate", ("public url",), public_url.check_certificate),
    Link("handshake", ("certificate",), handshake.check, seconds=35.0),
    Link("graph", ("settings",), hosts.check_hosts),
    Link("clock", ("graph",), hosts.check_clock),
    Link("token", ("graph",), ask_tenant=token.check),
    Link("permission", ("token",), ask_tenant=permission.check),
    Link("kafka", ("settings",), kafka.check),
    Link("topics", ("kafka",), topics.check),
    Link("transactions", ("topics",), transactions.check),
    Link("keeper", ("topics",), groups.check_keeper),
    Link("workers", ("topics",), groups.check_workers),
    Link("service", ("settings",), service.check_service),
    Link("subscription", ("permission",), ask_tenant=subscription.check),
    Link("refusals", ("service",), service.check_refusals),
    Link("lag", ("topics",), backlog.check_lag, seconds=30.0),
    Link("notices", ("topics",), ask_tenant=notices.check),
    Link("retries", ("topics",), backlog.check_retries, seconds=30.0),
    Link("dead letters", ("topics",), letters.check, seconds=30.0),
    Link("completeness", ("topics",), ask_tenant=completeness.check),
)


async def walk(case: Case, chain: Sequence[Link] = CHAIN) -> AsyncIterator[Finding]:
    """The findings, one after the other. What a broken link hides is `skipped` with its name."""
    hidden: set[tuple[str, str]] = set()
    for link in chain:
        for tenant in list(case.settings.tenants) or [""] if link.ask_tenant else [""]:
            by = next((one for one in link.needs if (one, "") in hidden or (one, tenant) in hidden), None)
            if by is not None:
                hidden.add((link.name, tenant))
                yield skipped(f"Not looked at: it needs {by}.").at(link.name, tenant)
                continue
            looks = await _look(case, link, tenant)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # Ctrl-C, which a library in the link has kept to itself
            for look in looks:
                if look.status == "broken":
                    hidden.add((link.name, tenant))
                yield look.at(link.name, tenant)


async def _look(case: Case, link: Link, tenant: str) -> list[Look]:
    """What the link's check says within its time."""
    try:
        async with asyncio.timeout(link.seconds):
            return list(await _asked(case, link, tenant))
    except TimeoutError:
        return [broken(f"There was no answer within {link.seconds:g} s.", "See whether a firewall swallows packets.")]
    except TopicAuthorizationFailedError as exc:
        return [skipped(f"Not looked at: Kafka does not let this client read {_names(exc)}.")]
    except KafkaError as exc:
        return [
            broken(
                f"Kafka broke off ({error_text(exc)}).", "Run the doctor again; see the brokers' logs if it stays so."
            )
        ]
    except Exception as exc:
        seen = f"The doctor itself failed here ({type(exc).__name__}: {error_text(exc)})."
        return [broken(seen, "This is a bug of callstream; report it with this line.")]


def _names(exc: TopicAuthorizationFailedError) -> str:
    """The topics, where the error names them."""
    named = exc.args[0] if exc.args else ()
    return ", ".join(sorted(named)) if isinstance(named, set | frozenset | list) else "the topic"


def _asked(case: Case, link: Link, tenant: str) -> Awaitable[Iterable[Look]]:
    if link.ask is not None:
        return link.ask(case)
    if link.ask_tenant is None:
        raise ValueError(f"nobody asks {link.name}")
    return functools.partial(link.ask_tenant, case, tenant)(case.settings.tenants[tenant])
