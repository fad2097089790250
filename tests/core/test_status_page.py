"""The status as a page: everything that is told stands there, escaped, and what is wrong stands first."""

from html.parser import HTMLParser
from typing import Any

import pytest

from service.status_page import status_page, wrongs
from service.upkeep import Standing

NOW = "2026-11-23T03:40:00.000Z"
MOMENT = 16  # of a moment so many characters are shown
EVIL = "\"'><i onload=1>x</span></td></table><script>alert('x')</script><img src=x onerror=alert(1)>&lt;&"
HARMLESS = "Words of others, and more of them."


def day(**more: Any) -> dict[str, Any]:
    """One day as `tenant_status` has it."""
    usual = {"day": "2026-11-22", "age": 1, "hours_listed": 24, "listed": 1200, "published": 1200, "set_aside": 0}
    return {**usual, "missing": 0, "healed": 3, "late": 1, "settled": True, **more}


def told(**more: Any) -> dict[str, Any]:
    """What a process with every role tells of two tenants, both well."""
    total = {"listed": 1200, "published": 1200, "set_aside": 0, "missing": 0, "healed": 3, "late": 1}
    tenant = {"days": [day()], "total": total, "lastNotice": NOW, "plan": {"hoursDue": 0, "secondsLeft": 0}}
    tenant |= {"jobs": [], "say": []}
    kept = Standing("5d0c6f6e-95d4-4d0a-8a55-0f3a7c1b2e90", 1_795_500_000.0)
    return {
        "service": {"version": "1", "roles": ["keep", "work"], "now": NOW, "live": "ok", "checks": {"lanes": "ok"}},
        "tenants": {"contoso": {"id": "c0ffee00"}, "fabrikam": {"id": "fab00000"}},
        "subscriptions": {"contoso": kept.shown(), "fabrikam": kept.shown()},
        "waiting": {"contoso": None, "fabrikam": None},
        "completeness": {"contoso": tenant, "fabrikam": tenant},
        "lanes": [{"lane": 0, "ledgerEntries": 1200, "lagSeconds": 0.0, "stalledSeconds": 0.0}],
        **more,
    }


class Read(HTMLParser):
    """Texts, elements with their attributes, and whether they nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, attrs))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_healthy_service_says_so_and_shows_its_figures() -> None:
    """Tenants, subscriptions with their end, the table of days, lanes."""
    read = Read(status_page(told()))

    assert wrongs(told()) == []
    for text in ("contoso", "c0ffee00", "2026-11-22", "1,200", "100 %", "set aside", "calls in the ledger"):
        assert text in read.texts, text
    assert "Nothing is wrong that this process knows of." in read.texts
    assert any(text.startswith("until 2026-11-2") for text in read.texts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": {"live": "Lane 3 has not moved.", "checks": {}}}, "Lane 3"),
        ({"service": {"live": "ok", "checks": {"store": "Kafka does not take them."}}}, "Kafka does not"),
        (
            {"subscriptions": {"contoso": Standing().failed("403.", "Grant it.").shown()}},
            "cannot be kept: 403. Grant it.",
        ),
        ({"subscriptions": {"contoso": Standing().shown()}}, "no subscription yet"),
        ({"waiting": {"contoso": {"cause": "forbidden", "seconds": 300.0, "detail": "Consent."}}}, "waits for 5 min"),
        ({"outages": {"contoso": [{"reason": "internal", "since": NOW, "nextTryAt": NOW}]}}, "fail (internal)"),
        (
            {"lanes": [{"lane": 7, "ledgerEntries": 0, "lagSeconds": 7200.0, "stalledSeconds": 0.0}]},
            "Lane 7 lags 2.0 h",
        ),
    ],
)
def test_what_is_wrong_stands_first(change: dict[str, Any], words: str) -> None:
    """One sentence each; the same that JSON has under `say`."""
    status = told(**change)
    [sentence] = wrongs(status)
    texts = Read(status_page(status)).texts

    assert words in sentence
    assert texts.index(sentence) < texts.index("Tenants")


def test_an_old_day_that_misses_something_and_what_the_plan_says_are_wrong() -> None:
    """A young day that is still being worked off is not."""
    status = told()
    tenant = status["completeness"]["contoso"]
    status["completeness"] = {
        "contoso": {**tenant, "days": [day(missing=4), day(age=3, missing=1_500)], "say": ["Too slow."]}
    }

    assert wrongs(status) == [
        "contoso: Too slow.",
        "contoso: 1,500 calls of days on which every retry has had its time are missing.",
    ]


def with_text(text: str) -> dict[str, Any]:
    """A status that has `text` wherever one fits, and numbers only where they are reckoned with."""
    total = told()["completeness"]["contoso"]["total"]
    job = {"from": text, "to": text, "done": False}
    completeness = {
        "days": [day(day=text, age=text, hours_listed=text, settled=False)],
        "total": total,
        "lastNotice": text,
        "plan": {"hoursDue": text, "secondsLeft": 1},
        "jobs": [job, {**job, "done": True}],
        "say": [text],
    }
    return {
        "service": {"version": text, "roles": [text], "now": text, "live": text, "checks": {text: text}},
        "tenants": {text: {"id": text}},
        "subscriptions": {text: {"id": text, "expires": text, "error": text, "todo": text}},
        "waiting": {text: {"cause": text, "seconds": 1.0, "detail": text}},
        "outages": {text: [{"reason": text, "since": text, "nextTryAt": text}]},
        "completeness": {text: completeness},
        "lanes": [{"lane": text, "ledgerEntries": 0, "lagSeconds": 7200.0, "stalledSeconds": 0.0}],
    }


def test_no_text_becomes_markup() -> None:
    """Wherever a text stands it is shown as it is; elements and attributes are those of a page with harmless words."""
    evil, harmless = Read(status_page(with_text(EVIL))), Read(status_page(with_text(HARMLESS)))
    shown = [text.replace(EVIL, HARMLESS).replace(EVIL[:MOMENT], HARMLESS[:MOMENT]) for text in evil.texts]

    assert evil.elements == harmless.elements
    assert shown == harmless.texts


def test_a_process_without_the_keeper_says_who_knows_the_rest() -> None:
    """Receivers and workers show what they have."""
    texts = " ".join(Read(status_page({"service": told()["service"], "tenants": told()["tenants"]})).texts)

    assert texts.count("the active keeper") == 2
    assert "not known here" in texts
    assert "Lanes of this process" not in texts


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    """No address in it leads away from the private site."""
    page = status_page(told())

    assert "://" not in page
    assert not {tag for tag, _ in Read(page).elements} & {"script", "link", "img", "iframe", "form"}
