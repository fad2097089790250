"""The fault table: what goes wrong in Graph, and what is published, retried, set aside and counted then.

Each row of docs/faults.md names its test, here or elsewhere. Seconds are of a clock that runs 3,000 times as fast, so a
busy machine makes hours of a moment: which wait follows which failure is exact, how many there are is not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import orjson
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from service.emulator.store import Call
from tests.broker.fault_stage import GIVE_UP_HOURS, HOUR, NOT_READY_HOURS, Stage, open_stage, open_whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIERS = ("1m", "10m", "1h")
TENANTS = 65  # the last one warms up


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(kafka: str) -> AsyncIterator[Stage]:
    """One service for the whole table."""
    async with open_stage(kafka, "faulttable", TENANTS) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(kafka: str) -> AsyncIterator[Stage]:
    """All roles, for what begins at the notification."""
    async with open_whole(kafka, "faultwhole") as opened:
        yield opened


def attempts(reason: str, count: int, first: int = 0) -> list[tuple[str, str, int]]:
    """The waits after so many failed attempts; the first of them at least in tier `first`."""
    tiers = [max(first, min(number, len(TIERS) - 1)) for number in range(count)]
    return [(TIERS[tier], reason, number) for number, tier in enumerate(tiers, start=1)]


# ---- 404 -----------------------------------------------------------------------------------------------------------


async def test_a_record_late_by_150_minutes_is_published_when_it_is_there(stage: Stage) -> None:
    """404 of a young notification: 1m, 10m, then each hour; asked no earlier; each is an attempt."""
    call = stage.call(tenant := stage.tenant())
    stage.fault(kind="record", action="not-ready", seconds=150 * 60, callId=call.id)
    with stage.counting() as moved:
        await stage.announce(call)
        await stage.until_published(call)

    waits = len(stage.story(call))
    assert waits
    assert stage.story(call) == attempts("not_found", waits)
    stage.check_waited(call)
    assert stage.verdict(call).is_right
    assert moved == {
        "retried{not_found}": waits,
        "graph{record,not_found}": waits,
        "graph{record,ok}": 1,
        f"published{{{tenant.name}}}": 1,
    }


async def test_a_record_that_never_comes_is_set_aside_when_it_is_too_old(stage: Stage) -> None:
    """404 for good: asked for as long as it may be late, then a dead letter; a later version is published all the same.

    A record past its 30 days is the same answer, and its old notification is set aside at once.
    """
    never, gone = stage.call(stage.tenant()), stage.call(old := stage.tenant(), started_seconds_ago=32 * 24 * HOUR)
    number = stage.fault(kind="record", status=404, callId=never.id)
    began = stage.clock.now()
    with stage.counting() as moved:
        await stage.announce(never)
        await stage.put(gone, began - 7 * HOUR)
        await stage.until_dead(never, gone)
    last = stage.asked(never, "record")[-1]
    stage.lift(number)
    stage.emulator.store.add_version(never, stage.emulator.maker.later_version(never.current.unpack(), began))
    await stage.announce(never)
    await stage.until_published(never)

    waits = len(stage.story(never))
    assert stage.story(never) == attempts("not_found", waits)
    assert last.at - began >= NOT_READY_HOURS * HOUR
    stage.check_waited(never)
    assert stage.letters(never) == [("unavailable", waits + 1)]
    assert (stage.letters(gone), stage.story(gone)) == ([("unavailable", 1)], [])
    assert moved == {"retried{not_found}": waits, "graph{record,not_found}": waits + 2, "dead{unavailable}": 2}
    assert stage.versions(never) == [2]
    assert not stage.held(old)


# ---- a tenant that has to wait -------------------------------------------------------------------------------------

TENANT_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("throttled", {"status": 429, "retryAfter": 120, "kind": "record"}, "graph{record,throttled}"),
    ("throttled", {"status": 429, "kind": "record"}, "graph{record,throttled}"),
    ("forbidden", {"status": 403, "kind": "record"}, "graph{record,forbidden}"),
    ("no_token", {"status": 401, "kind": "record"}, "graph{record,unauthorized}"),
    ("no_token", {"status": 503, "kind": "token"}, "graph{token,error}"),
    ("no_token", {"action": "html", "kind": "token"}, "graph{token,error}"),
    ("outage", {"status": 503}, "graph{record,error}"),
]


@pytest.mark.parametrize(("cause", "fault", "counted"), TENANT_FAULTS, ids=lambda value: str(value)[:50])
async def test_a_tenant_that_has_to_wait_costs_no_attempt_and_delays_nobody(
    stage: Stage, cause: str, fault: dict[str, Any], counted: str
) -> None:
    """Its notifications wait in retry topics, uncounted and mostly unfetched; another tenant's are published meanwhile.

    The gauge says that it waits, and the process is ready all the same. When the fault is lifted everything is
    published, and nothing is set aside.
    """
    sick, well = stage.tenant(), stage.tenant()
    if fault.get("kind") == "token":
        stage.forget_token(sick)
    number = stage.fault(tenantId=sick.id, **fault)
    waiting, passing = [[stage.call(one) for _ in range(12)] for one in (sick, well)]
    with stage.counting() as moved, capture_logs() as logs:
        await stage.announce(*waiting)
        await stage.until(lambda: all(stage.waits(call) for call in waiting), "every call of the sick tenant waits")
        await stage.announce(*passing)
        await stage.until_published(*passing)
        await stage.until(lambda: stage.held(sick), "the gauge says that it waits")
        unready = stage.service.ready["lanes"]()
        early = [stage.versions(call) for call in waiting]
        stage.lift(number)
        await stage.until_published(*waiting)

    assert early == [[]] * len(waiting)
    assert not unready
    said = [line for line in logs if line["event"] == "tenant waits" and line["tenant"] == sick.name]
    assert cause in {line["cause"] for line in said}
    if cause == "forbidden":
        assert "CallRecords.Read.All" in said[0]["detail"]
    stories = [step for call in waiting for step in stage.story(call)]
    uncounted = [step for step in stories if step[1] == "tenant_waits"]
    # What fails before it is known for an outage is an attempt; never more than the first of a call.
    assert all(attempt <= (cause == "outage") for _, _, attempt in stories), stories
    assert len(uncounted) >= len(waiting) - (3 if cause == "outage" else 0)
    assert moved["retried{tenant_waits}"] == len(uncounted)
    assert moved[counted] >= 1
    assert moved[f"published{{{sick.name}}}"] == moved[f"published{{{well.name}}}"] == 12
    assert not any(name.startswith("dead") for name in moved)
    assert [step for call in passing for step in stage.story(call)] == []
    assert stage.verdict(*waiting, *passing).is_right
    assert not stage.held(sick)


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_nobody_asks_a_throttled_tenant_before_the_time_that_graph_named(stage: Stage, form: str) -> None:
    """20 minutes, by the emulator's own journal; a date counts from Graph's own `Date`, whatever its clock."""
    tenant = stage.tenant()
    calls = [stage.call(tenant) for _ in range(6)]
    skew = stage.fault(kind="clock", action="skew", seconds=900)
    stage.fault(status=429, retryAfter=1200, retryAfterForm=form, count=1, tenantId=tenant.id)
    with stage.counting() as moved:
        await stage.announce(calls[0])
        await stage.until(lambda: bool(stage.waits(calls[0])), "the first one waits")
        await stage.announce(*calls[1:])
        await stage.until_published(*calls)
    stage.lift(skew)
    asked = stage.emulator.world.journal.of(tenant.id, "record")
    refused = [visit.at for visit in asked if visit.status == 429]

    assert len(refused) == 1
    after = [visit.at - refused[0] for visit in asked if visit.at > refused[0]]
    # A date has whole seconds.
    assert min(after) >= 1200 - (form == "date")
    assert len(after) == len(calls)
    assert moved["graph{record,throttled}"] == 1
    assert moved["retried{tenant_waits}"] == sum(len(stage.waits(call)) for call in calls)
    assert {step for call in calls for step in stage.story(call)} <= {
        ("10m", "tenant_waits", 0),
        ("1m", "tenant_waits", 0),
    }
    assert stage.verdict(*calls).is_right


async def test_an_hour_without_graph_costs_no_attempt_and_nothing_is_lost(stage: Stage) -> None:
    """Every read of a tenant fails for an hour: it waits, is probed now and then, and goes on by itself."""
    tenant = stage.tenant()
    calls = [stage.call(tenant) for _ in range(30)]
    began = stage.clock.now()
    stage.fault(action="close", tenantId=tenant.id, forSeconds=HOUR)
    with stage.counting() as moved:
        await stage.announce(*calls)
        await stage.until_published(*calls)
    asked = [visit.at for visit in stage.emulator.world.journal.of(tenant.id, "record")]

    assert max(at for at in asked) - began > HOUR
    in_vain = [at for at in asked if at - began < HOUR]
    # Unbounded it would be asked for some 500 times: 30 calls, three looks each, three tries, each connected twice.
    assert len(in_vain) < 180
    assert moved["graph{record,error}"] >= 1
    assert moved["retried{tenant_waits}"] >= len(calls)
    assert moved[f"published{{{tenant.name}}}"] == len(calls)
    assert not any(name.startswith("dead") for name in moved)
    assert max(attempt for call in calls for _, _, attempt in stage.story(call)) <= 1
    assert stage.verdict(*calls).is_right


# ---- tokens --------------------------------------------------------------------------------------------------------


async def test_a_401_between_pages_costs_a_new_token_and_the_same_request(stage: Stage) -> None:
    """Once: the pages that are there are not asked for again."""
    call = stage.call(tenant := stage.tenant(), kind="group", sessions=130)
    stage.fault(kind="sessions", status=401, page=2, count=1, callId=call.id)
    with stage.counting() as moved:
        await stage.announce(call)
        await stage.until_published(call)
    asked = [(visit.kind, visit.page, visit.status) for visit in stage.asked(call)]

    assert asked[:4] == [("record", 1, 200), ("sessions", 2, 401), ("sessions", 2, 200), ("sessions", 3, 200)]
    assert stage.story(call) == []
    assert moved["graph{sessions,unauthorized}"] == moved[f"published{{{tenant.name}}}"] == 1
    assert stage.verdict(call).is_right


async def test_short_tokens_are_renewed_before_they_die(stage: Stage) -> None:
    """A life of an hour and no longer: what comes in its last fifth is read with another token, granted before its end.

    A busy machine may sleep through the last fifth; then the next life is looked at.
    """
    tenant = stage.tenant()
    stage.forget_token(tenant)
    stage.fault(action="short-token", seconds=HOUR, tenantId=tenant.id)
    calls = []
    for _ in range(10):
        calls.append(call := stage.call(tenant))
        await stage.announce(call)
        await stage.until_published(call)
        granted = [visit.at for visit in stage.emulator.world.journal.of(tenant.id, "token") if visit.status == 200]
        if any(later - earlier < HOUR for earlier, later in pairwise(granted)):
            break
        await stage.clock.sleep(granted[-1] + 0.85 * HOUR - stage.clock.now())

    assert [later - earlier >= 0.8 * HOUR for earlier, later in pairwise(granted)] == [True] * (len(granted) - 1)
    assert min(later - earlier for earlier, later in pairwise(granted)) < HOUR
    assert [attempt for call in calls for _, _, attempt in stage.story(call) if attempt] == []
    assert stage.verdict(*calls).is_right


# ---- answers that cannot be used -----------------------------------------------------------------------------------

BROKEN = {
    "500": ({"status": 500}, "error"),
    "502": ({"status": 502}, "error"),
    "503": ({"status": 503}, "error"),
    "504": ({"status": 504}, "error"),
    "close": ({"action": "close", "count": 2}, "error"),
    "cut": ({"action": "cut"}, "cut"),
    "cut-gzip": ({"action": "cut-gzip"}, "cut"),
    "cut-json": ({"action": "cut-json"}, "cut"),
    "html": ({"action": "html"}, "error"),
    "html-502": ({"action": "html", "status": 502}, "error"),
    "drip": ({"action": "drip", "seconds": 1e6}, "timeout"),
}


async def test_a_broken_answer_is_asked_for_again_in_place(stage: Stage) -> None:
    """5xx, silence in the body, connections and bodies that end early, pages for people: a second try, no retry."""
    calls = {name: stage.call(stage.tenant()) for name in BROKEN}
    for name, (fault, _) in BROKEN.items():
        stage.fault(callId=calls[name].id, kind="record", **{"count": 1, **fault})
    with stage.counting() as moved:
        await stage.announce(*calls.values())
        await stage.until_published(*calls.values())

    assert [stage.story(call) for call in calls.values()] == [[]] * len(calls)
    assert {name: value for name, value in moved.items() if name.startswith("graph")} == {
        "graph{record,ok}": len(calls),
        "graph{record,error}": 7,
        "graph{record,cut}": 3,
        "graph{record,timeout}": 1,
    }
    assert stage.verdict(*calls.values()).is_right


async def test_what_stays_broken_is_an_attempt_each_time_and_set_aside_in_the_end(stage: Stage) -> None:
    """Three tries in place, then a retry topic; after `give_up_hours` a dead letter with the last failure's reason."""
    kinds = [name for name in BROKEN if name != "drip"]
    calls = [stage.call(stage.tenant()) for _ in kinds]
    numbers = [
        stage.fault(callId=call.id, kind="record", **{**BROKEN[name][0], "count": None})
        for name, call in zip(kinds, calls, strict=True)
    ]
    with stage.counting() as moved:
        await stage.announce(*calls)
        await stage.until_dead(*calls)
    stage.lift(*numbers)

    # 1m + 10m + 1h are less than the two hours, one hour more is not.
    assert GIVE_UP_HOURS == 2
    for call in calls:
        assert stage.story(call) == attempts("graph_unavailable", 3)
        assert stage.letters(call) == [("graph_unavailable", 4)]
        assert stage.versions(call) == []
        stage.check_waited(call)
    assert moved["retried{graph_unavailable}"] == 3 * len(calls)
    assert moved["dead{graph_unavailable}"] == len(calls)


async def test_a_503_that_names_a_wait_is_not_asked_again_before_it(stage: Stage) -> None:
    """Longer than waits in place: the retry topic that lasts so long, though it is only the first attempt."""
    call = stage.call(stage.tenant())
    stage.fault(status=503, retryAfter=900, count=1, callId=call.id, kind="record")
    await stage.announce(call)
    await stage.until_published(call)
    first, second = [visit.at for visit in stage.asked(call, "record")]

    assert stage.story(call) == [("1h", "graph_unavailable", 1)]
    assert second - first >= 900
    assert stage.verdict(call).is_right


async def test_a_silent_record_delays_neither_its_own_tenant_nor_another(stage: Stage) -> None:
    """While Graph holds one answer back, others of the same tenant, and of another, are published; then it is."""
    sick, well = stage.tenant(), stage.tenant()
    slow, mine, theirs = stage.call(sick), [stage.call(sick) for _ in range(6)], [stage.call(well) for _ in range(6)]
    number, beside = stage.fault(action="hang", seconds=1e9, callId=slow.id), stage.long_fetches()
    timeouts = stage.graph_calls("record", "timeout")
    await stage.announce(slow)
    await stage.until(lambda: bool(stage.asked(slow)), "it is being asked for")
    await stage.announce(*mine, *theirs)
    await stage.until_published(*mine, *theirs)
    is_still_silent = stage.versions(slow) == []
    await stage.until(lambda: stage.graph_calls("record", "timeout") > timeouts, "it is given up")
    stage.lift(number)
    await stage.until_published(slow)

    assert is_still_silent
    assert stage.long_fetches() > beside
    assert [step for call in (*mine, *theirs) for step in stage.story(call)] == []
    assert stage.verdict(slow, *mine, *theirs).is_right


# ---- what the body holds -------------------------------------------------------------------------------------------


async def test_another_type_of_content_changes_nothing(stage: Stage) -> None:
    """What counts is what the body holds."""
    call = stage.call(stage.tenant())
    stage.fault(action="content-type", contentType="text/plain", callId=call.id)
    await stage.announce(call)
    await stage.until_published(call)

    assert stage.story(call) == []
    assert stage.verdict(call).is_right


def odd(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a property nobody knows, a value of the wrong type and an unknown member."""
    document["@custom.annotation"] = "never counted"
    document["surprise"] = {"of": "Graph's"}
    document["type"] = "hologramCall"
    document["sessions"][0]["segments"][0]["media"][0]["streams"][0]["averageJitter"] = {"soon": True}
    return document


async def test_odd_values_are_published_as_well_as_they_can_be_and_counted(stage: Stage) -> None:
    """A field of the wrong type is left out, an unknown member stays text; an unknown field is counted alone."""
    call = stage.call(stage.tenant())
    document = {**odd(call.current.unpack()), "version": 2}
    stage.emulator.store.add_version(call, document)
    before = odd_values(stage)
    await stage.announce(call)
    await stage.until_published(call)
    moved = {place: count - before.get(place, 0) for place, count in odd_values(stage).items()}
    [summary] = [orjson.loads(record.value) for record in stage.records(stage.topics.calls, call)]

    assert summary["call"]["type"] == "hologramCall"
    assert {place for place, count in moved.items() if count} == {
        ("$", "unknown_field"),
        ("type", "unknown_member"),
        ("sessions.segments.media.streams.averageJitter", "wrong_type"),
    }
    assert stage.letters(call) == []


def odd_values(stage: Stage) -> dict[tuple[str, str], float]:
    """(field, kind) → how often."""
    [family] = [one for one in stage.service.metrics.registry.collect() if one.name == "callstream_odd_values"]
    return {(one.labels["field"], one.labels["kind"]): one.value for one in family.samples}


@pytest.mark.parametrize("body", [[1, 2], {"id": "no version"}, 7], ids=str)
async def test_a_body_that_is_no_call_record_is_set_aside_after_one_more_look(stage: Stage, body: object) -> None:
    """A minute later, by when more is known of the others; another record of the tenant is published meanwhile."""
    bad, good = stage.call(tenant := stage.tenant()), stage.call(tenant)
    number = stage.fault(action="body", body=body, callId=bad.id)
    with stage.counting() as moved:
        await stage.announce(bad, good)
        await stage.until_dead(bad)
        await stage.until_published(good)
    stage.lift(number)

    assert stage.letters(bad) == [("not_a_call_record", 0)]
    assert stage.story(bad) == [("1m", "not_a_call_record", 0)]
    stage.check_waited(bad)
    assert moved["dead{not_a_call_record}"] == moved["retried{not_a_call_record}"] == 1
    assert stage.verdict(good).is_right


# ---- pages ---------------------------------------------------------------------------------------------------------


async def test_a_new_version_between_two_pages_starts_the_record_again(stage: Stage) -> None:
    """Sessions of two versions are never mixed: the newer one alone is published, and whole."""
    call = stage.call(tenant := stage.tenant(), kind="group", sessions=130)
    stage.fault(action="new-version", kind="sessions", page=3, count=1, callId=call.id)
    with stage.counting() as moved:
        await stage.announce(call)
        await stage.until(lambda: stage.versions(call) == [2], "the second version is published")

    assert moved[f"published{{{tenant.name}}}"] == 1
    assert moved["graph{version,ok}"] >= 1
    assert stage.verdict(call).is_right
    assert stage.verdict(call).half == 0


async def test_a_record_that_keeps_changing_is_left_for_later(stage: Stage) -> None:
    """Restarts are bounded; then it is an attempt of its own, and published when it rests."""
    call = stage.call(stage.tenant(), kind="group", sessions=61)
    number = stage.fault(action="new-version", kind="sessions", callId=call.id)
    with stage.counting() as moved:
        await stage.announce(call)
        await stage.until(lambda: bool(stage.waits(call)), "it is left for later")
        stage.lift(number)
        await stage.until_published(call)

    assert stage.story(call)[0] == ("1m", "changed", 1)
    assert moved["retried{changed}"] >= 1
    assert stage.verdict(call).is_right


PAGES = {
    "404": {"kind": "sessions", "page": 2, "status": 404},
    "410": {"kind": "sessions", "page": 2, "status": 410},
    "no expansion": {"kind": "record", "action": "missing"},
    "no value": {"kind": "sessions", "action": "missing", "page": 2},
    "empty": {"kind": "sessions", "action": "empty-page", "page": 2},
    "foreign": {"kind": "record", "action": "foreign-link"},
    "circle": {"kind": "sessions", "action": "looping-link", "page": 2},
}


async def test_missing_pages_and_bad_links_cost_no_session(stage: Stage) -> None:
    """Each once: the collection is walked from its start, and every session of 70 is published."""
    calls = {name: stage.call(stage.tenant(), kind="group", sessions=70) for name in PAGES}
    for name, fault in PAGES.items():
        stage.fault(callId=calls[name].id, count=1, **fault)
    with stage.counting() as moved:
        await stage.announce(*calls.values())
        await stage.until_published(*calls.values())

    assert {name: stage.story(call) for name, call in calls.items()} == {name: [] for name in calls}
    assert stage.verdict(*calls.values()).is_right
    # The foreign host and the circle are refused before they are asked; the page without `value` is a broken answer.
    assert moved["graph{sessions,refused}"] == 2
    assert moved["graph{sessions,not_found}"] == 1
    assert moved["graph{sessions,error}"] == 2


async def test_a_link_to_another_host_is_never_followed(stage: Stage) -> None:
    """The token would go with it. As long as every link leads there the record is an attempt each time."""
    async with stranger() as (host, met):
        call = stage.call(stage.tenant(), kind="group", sessions=61)
        number = stage.fault(action="foreign-link", host=host, callId=call.id)
        with stage.counting() as moved:
            await stage.announce(call)
            await stage.until(lambda: bool(stage.waits(call)), "it is tried again")
            stage.lift(number)
            await stage.until_published(call)

    assert met == []
    assert stage.story(call)[0] == ("1m", "graph_unavailable", 1)
    assert moved["retried{graph_unavailable}"] == len(stage.story(call))
    assert moved["graph{sessions,refused}"] + moved.get("graph{participants,refused}", 0) >= 1
    assert stage.verdict(call).is_right


@asynccontextmanager
async def stranger() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A host that nobody should meet, and the first bytes of whoever does."""
    met: list[bytes] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(b"")
        met[-1] = await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}", met


# ---- notifications -------------------------------------------------------------------------------------------------


async def test_a_second_notification_of_a_published_version_is_one_more_look(stage: Stage) -> None:
    """Graph may show a stale read: ten minutes later once more, then nothing."""
    call = stage.call(tenant := stage.tenant())
    await stage.announce(call)
    await stage.until_published(call)
    before = skips(stage)
    with stage.counting() as moved:
        await stage.announce(call)
        await stage.until(lambda: skips(stage) > before, "it was looked at in vain")

    assert stage.story(call) == [("10m", "unchanged", 0)]
    stage.check_waited(call)
    assert moved == {"retried{unchanged}": 1, "skipped{published}": 1, "graph{record,ok}": 2}
    assert stage.versions(call) == [1]
    assert stage.verdict(call).is_right
    assert not stage.held(tenant)


def skips(stage: Stage) -> float:
    """Notifications that needed nothing because the version was published."""
    return stage.counter("notifications_skipped_total", reason="published")


async def test_duplicated_disordered_and_delayed_notifications_publish_each_version_once(whole: Stage) -> None:
    """Every notification twice, minutes apart, some late by half an hour; calls of two versions among them."""
    tenant = whole.emulator.world.options.tenants[0]
    for fault in (
        {"action": "duplicate", "seconds": 600},
        {"action": "reorder", "seconds": 1200},
        {"action": "delay", "seconds": 1800, "probability": 0.3},
    ):
        whole.fault(kind="notifications", forSeconds=2 * HOUR, **fault)
    with whole.counting() as moved:
        wish = {"versions": 2, "version_after_seconds": 600.0, "notify_after_seconds": 0.0}
        calls = [whole.call(tenant, **wish) for _ in range(8)]
        await whole.until(lambda: all(len(call.versions) == 2 for call in now(whole, calls)), "two versions")
        await whole.until_published(*calls)
        await whole.until(lambda: skips(whole) > 0, "one that comes again needs nothing")

    verdict = whole.verdict(*calls)
    assert verdict.is_right, verdict
    assert (verdict.duplicated, verdict.older_after_newer, verdict.dead) == (0, 0, 0)
    assert whole.emulator.world.delivery.counts["duplicated"] >= 16
    assert any(name.startswith("skipped") for name in moved)


async def test_silence_is_found_by_listing_and_nothing_is_lost(whole: Stage) -> None:
    """No notification comes for an hour: what Graph lists is queued, and published once."""
    tenant = whole.emulator.world.options.tenants[0]
    whole.fault(kind="notifications", action="silence", forSeconds=HOUR)
    calls = [whole.call(tenant, notify_after_seconds=0.0) for _ in range(8)]
    await whole.until_published(*calls)

    assert whole.emulator.world.delivery.counts["lost_on_purpose"] >= len(calls)
    assert [whole.versions(call) for call in calls] == [[1]] * len(calls)
    assert whole.verdict(*calls).is_right


def now(stage: Stage, calls: list[Call]) -> list[Call]:
    """The calls, after what was scheduled for them until now."""
    stage.emulator.store.find(None, calls[0].id)
    return calls


# ---- clocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-240, 900])
async def test_a_clock_that_differs_from_graph_s_stops_nothing(whole: Stage, seconds: float) -> None:
    """A lost subscription comes back; calls dated by Graph's clock are published, and found when nobody is told."""
    subscriptions, tenant = whole.emulator.world.subscriptions, whole.emulator.world.options.tenants[0]
    number = whole.fault(kind="clock", action="skew", seconds=seconds)
    [lost] = subscriptions.live()
    subscriptions.remove(lost.principal, lost.id)
    await whole.until(lambda: [one.id for one in subscriptions.live()] not in ([], [lost.id]), "subscribed anew")
    told = whole.call(tenant, started_seconds_ago=0.0, notify_after_seconds=0.0)
    untold = whole.call(tenant, started_seconds_ago=0.0)
    await whole.until_published(told, untold)
    whole.lift(number)

    assert whole.verdict(told, untold).is_right
