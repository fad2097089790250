"""The tenant's subscription: there, ours, pointing here, of a key that is still accepted, and being renewed.

Graph shows no failed deliveries: whether notices arrive is the affair of the link `notices`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from service import upkeep
from service.doctor.case import Case, GivenTokens, error_text
from service.doctor.finding import Look, broken, ok, warn
from service.errors import CallstreamError
from service.graph.subscription import Subscription, describe_error
from service.graph.subscriptions import Subscriptions
from service.metrics import Metrics
from service.settings import Tenant

KEEPER = "See that `callstream serve` runs with the role keep; its log says why it does not mend this."
# Renewed at half of its life, so less than a third left means that nobody renews. Below this it is about to end.
LATE_SHARE = 1 / 3
LAST_HOURS = 2.0


async def check(case: Case, name: str, tenant: Tenant) -> Iterable[Look]:
    """Lists the application's subscriptions; changes none."""
    tokens = GivenTokens(case.grants[name])
    calls = Subscriptions(case.http, tokens, case.graph.root_url, Metrics(), case.clock)
    try:
        found = await calls.list(tenant)
    except CallstreamError as exc:
        said = describe_error(exc)
        return [broken(f"Graph does not list subscriptions: {error_text(exc)}.", said["todo"])]
    keys = frozenset(case.settings.client_state.keys)
    looks = judge(found, case.wish(tenant), keys, case.clock.now())
    standing = case.standings.get(name) or {}
    return [_as_the_keeper_says(look, standing) if look.status == "broken" else look for look in looks]


def _as_the_keeper_says(look: Look, standing: Mapping[str, str | None]) -> Look:
    """The keeper knows why it cannot mend what is broken: Graph has told it."""
    if not standing.get("error"):
        return look
    return broken(f"{look.seen} The keeper says: {standing['error']}", standing.get("todo") or look.todo)


def judge(found: Sequence[Subscription], wanted: upkeep.Wish, keys: frozenset[str], now: float) -> list[Look]:
    """What the application's subscriptions say. `keys`: numbers of the clientState keys that are accepted."""
    records = [one for one in found if upkeep.is_for_call_records(one)]
    ours = [one for one in records if _address(one) == wanted.notification_url.partition("?")[0]]
    if not ours:
        return [_elsewhere(records[0], wanted)] if records else [_none(found)]
    plan = upkeep.plan(ours, wanted)
    if plan.keep is None:
        return [_wrong(ours[0], wanted, keys)]
    looks = [_kept(plan.keep, wanted, now)]
    if len(ours) > 1:
        looks.append(warn(f"{len(ours) - 1} more of ours point here: notices come more than once.", KEEPER))
    return looks


def _none(found: Sequence[Subscription]) -> Look:
    others = f"; the application has {len(found)} to other resources" if found else ""
    seen = f"There is no subscription to call records{others}: Graph tells of no call."
    return broken(seen, f"{KEEPER} A keeper that has just started needs a minute.")


def _elsewhere(one: Subscription, wanted: upkeep.Wish) -> Look:
    here = wanted.notification_url.partition("?")[0]
    seen = f"The application's subscription {one.id} posts to {_address(one)}, not to {here}."
    todo = (
        "Graph allows one for each application, so it stands in the way: delete it (DELETE /v1.0/subscriptions/"
        f"{one.id}), correct receiver.public_url, or use an app registration of its own for each deployment."
    )
    return broken(seen, todo)


def _wrong(one: Subscription, wanted: upkeep.Wish, keys: frozenset[str]) -> Look:
    """Ours by its address, and not as it must be: the keeper would replace it."""
    if "updated" not in {part.strip().lower() for part in one.change_type.split(",")}:
        return broken(f"Subscription {one.id} is not for the change type updated.", KEEPER)
    if one.lifecycle_notification_url is None:
        return broken(f"Subscription {one.id} has no lifecycleNotificationUrl: it ends without a warning.", KEEPER)
    number, newest = _key_number(one.notification_url), _key_number(wanted.notification_url)
    if newest and number not in keys:
        seen = (
            f"Subscription {one.id} was made with {f'clientState key {number}' if number else 'no key of ours'}, "
            "which is not configured: every notice of it is refused."
        )
        todo = f"Put CALLSTREAM_CLIENT_STATE__KEYS__{number or 1} back until the keeper has replaced it. {KEEPER}"
        return broken(seen, todo)
    if number != newest:
        seen = f"Subscription {one.id} carries clientState key {number}, and the newest is {newest}."
        return warn(seen, f"Keep key {number} until the keeper has replaced it. {KEEPER}")
    return broken(f"Subscription {one.id} has another lifecycle URL or clientState than ours.", KEEPER)


def _kept(one: Subscription, wanted: upkeep.Wish, now: float) -> Look:
    hours = (upkeep.expires_at(one, now) - now) / 3600
    seen = f"Subscription {one.id} posts here and ends in {hours:.0f} h."
    if hours < LAST_HOURS:
        return broken(f"Subscription {one.id} ends in {hours * 60:.0f} minutes and nobody renews it.", KEEPER)
    if hours * 3600 < wanted.lifetime_seconds * LATE_SHARE:
        return warn(f"{seen} It should have been renewed at half of its life.", KEEPER)
    return ok(seen)


def _address(one: Subscription) -> str:
    return one.notification_url.partition("?")[0]


def _key_number(url: str) -> str:
    """Of the `k` in the query; empty when there is none."""
    found = re.search(r"[?&]k=([0-9]+)", url)
    return found[1] if found else ""
