"""The walk itself: what hides what, deadlines, failures of the doctor's own; and the findings as one document."""

import asyncio
import contextlib
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

from service.clock import Clock
from service.doctor.case import Case
from service.doctor.finding import Finding, Look, broken, closing_line, document, exit_code, ok, warn
from service.doctor.groups import judge_keeper, judge_workers
from service.doctor.probe import judge
from service.doctor.service import judge_service
from service.doctor.topics import judge_missing
from service.doctor.walk import Link, walk
from service.doctor.wire import Group, Rights
from service.settings import Settings, Tenant

NOBODY = Rights()


async def found(*chain: Link, tenants: str = "") -> list[Finding]:
    """What a chain of these links says."""
    named = {name: Tenant(id=f"{number:08}-1111-4222-8333-444455556666") for number, name in enumerate(tenants.split())}
    async with AsyncExitStack() as stack:
        case = Case(None, {}, stack, Clock(), Settings(tenants=named))
        return [finding async for finding in walk(case, chain)]


def says(*looks: Look) -> object:
    """A check that brings these."""

    async def check(*_: object) -> Iterable[Look]:
        return looks

    return check


async def test_what_hangs_on_a_broken_link_is_skipped_with_its_name() -> None:
    """And what hangs on that too; a warning hides nothing."""
    lines = await found(
        Link("first", (), says(warn("It is odd.", "Look."))),  # type: ignore[arg-type]
        Link("second", ("first",), says(broken("It is broken.", "Mend it."))),  # type: ignore[arg-type]
        Link("third", ("second",), says(ok("Fine."))),  # type: ignore[arg-type]
        Link("fourth", ("third",), says(ok("Fine."))),  # type: ignore[arg-type]
        Link("fifth", ("first",), says(ok("Fine."))),  # type: ignore[arg-type]
    )

    assert [line.status for line in lines] == ["warn", "broken", "skipped", "skipped", "ok"]
    assert lines[2].seen == "Not looked at: it needs second."
    assert lines[3].seen == "Not looked at: it needs third."
    assert exit_code(lines) == 1
    assert closing_line(lines) == "1 is broken, 1 warning. Begin with second."


async def test_a_tenant_that_is_broken_hides_nothing_of_another() -> None:
    """Its own links alone are skipped."""

    async def token(_: Case, name: str, __: Tenant) -> Iterable[Look]:
        return [broken("Refused.", "Ask.") if name == "fabrikam" else ok("Given.")]

    lines = await found(
        Link("token", (), ask_tenant=token),
        Link("permission", ("token",), ask_tenant=says(ok("Granted."))),  # type: ignore[arg-type]
        tenants="contoso fabrikam",
    )

    assert [(line.place, line.status) for line in lines] == [
        ("token contoso", "ok"),
        ("token fabrikam", "broken"),
        ("permission contoso", "ok"),
        ("permission fabrikam", "skipped"),
    ]


async def test_a_link_that_does_not_answer_does_not_hold_up_the_others() -> None:
    """Each has its time."""

    async def hangs(_: Case) -> Iterable[Look]:
        await asyncio.Event().wait()
        return []

    lines = await found(Link("first", (), hangs, seconds=0.01), Link("second", (), says(ok("Fine."))))  # type: ignore[arg-type]

    assert [line.status for line in lines] == ["broken", "ok"]
    assert lines[0].seen == "There was no answer within 0.01 s."


async def test_a_failure_of_the_doctor_itself_is_a_line_and_no_traceback() -> None:
    """It says that it is a bug, and goes on."""

    async def fails(_: Case) -> Iterable[Look]:
        raise KeyError("brokers")

    lines = await found(Link("first", (), fails), Link("second", (), says(ok("Fine."))))  # type: ignore[arg-type]

    assert lines[0].status == "broken"
    assert lines[0].seen == "The doctor itself failed here (KeyError: 'brokers')."
    assert lines[1].status == "ok"


def test_the_document_has_a_verdict_a_beginning_and_every_line() -> None:
    """As docs/doctor.md describes it."""
    lines = [Finding("a", "ok", "Fine."), Finding("b", "broken", "Not.", "Mend it.", "contoso")]
    made = document(lines, "2026-11-23T10:00:00.000Z", "0.1.0")

    second = {"link": "b", "tenant": "contoso", "status": "broken", "seen": "Not.", "todo": "Mend it."}
    assert made == {
        "format": 1,
        "callstream": "0.1.0",
        "at": "2026-11-23T10:00:00.000Z",
        "verdict": "broken",
        "first": second,
        "counts": {"ok": 1, "warn": 0, "broken": 1, "skipped": 0},
        "findings": [{"link": "a", "tenant": None, "status": "ok", "seen": "Fine.", "todo": None}, second],
    }
    assert document(lines[:1], "", "")["verdict"] == "ok"
    assert document([Finding("a", "warn", "Odd.", "Look.")], "", "")["verdict"] == "warn"
    assert closing_line(lines[:1]) == "Every link is as it should be."
    assert closing_line([Finding("a", "warn", "Odd.", "Look.")]) == "Nothing is broken; 1 warning."


def test_lanes_that_nobody_has_are_named() -> None:
    """Workers with fewer partitions in their settings leave the rest alone."""
    owned = {("t", number): "/10.0.0.7" for number in (0, 1, 3)}

    assert judge_workers(Group("Stable", 2, owned, NOBODY), "t", 4).seen == "2 workers, and nobody has lane 2 of 4."
    assert judge_workers(Group("PreparingRebalance", 2, {}, NOBODY), "t", 4).status == "warn"
    assert judge_workers(Group("Stable", 2, owned | {("t", 2): "/10.0.0.8"}, NOBODY), "t", 4).status == "ok"
    assert (
        judge_keeper(Group("Stable", 2, {("l", 0): "/10.0.0.8"}, NOBODY)).seen
        == "2 stand by; the active one: 10.0.0.8."
    )


def test_who_answers_is_told_by_its_first_bytes() -> None:
    """Kafka's answer has our number in it."""
    assert judge(b"\x00\x00\x01\x52\x00\x00\x12\x67") == "kafka"
    assert judge(b"HTTP/1.1") == "http"
    assert judge(b"\x15\x03\x03\x00\x02\x02\x46") == "tls"
    assert judge(b"") == "closed"
    assert judge(b"220 smtp") == "other"


def test_what_the_service_counts_is_put_into_words() -> None:
    """Tenants that wait, and outages by their reason."""
    series = {
        'callstream_tenant_waiting{tenant="contoso"}': 1.0,
        'callstream_tenant_waiting{tenant="fabrikam"}': 0.0,
        'callstream_outage{reason="unpublishable",tenant="contoso"}': 1.0,
    }
    looks = judge_service("http://127.0.0.1:8081", {"checks": {"store": "ok"}}, {"live": True}, series)

    assert [look.status for look in looks] == ["warn", "warn"]
    assert "makes tenant contoso wait" in looks[0].seen
    assert "Most records of tenant contoso fail for one reason, unpublishable" in looks[1].seen


async def test_a_cancellation_that_a_link_keeps_to_itself_ends_the_walk_all_the_same() -> None:
    """Ctrl-C is heard once: a library that swallows it must not make the doctor go on."""
    asked = asyncio.Event()

    async def deaf(*_: object) -> Iterable[Look]:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return [ok("Fine.")]

    walking = asyncio.create_task(found(Link("deaf", (), deaf)))  # type: ignore[arg-type]
    await asked.wait()
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], "None of the 15 topics calls.* exists."),
        (["b.ledger", "a.ledger", "a.calls"], "There are topics of a and b: is kafka.topic_prefix right?"),
        ([f"t{number}.ledger" for number in range(80)], "There are topics of 80 other prefixes: is"),
    ],
)
def test_other_prefixes_are_named_while_they_are_few(there: list[str], expected: str) -> None:
    """One of them may be the one that was meant."""
    assert expected in judge_missing("calls", ["calls.ledger"] * 15, 15, there).seen
