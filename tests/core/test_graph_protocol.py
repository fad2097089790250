"""What is said to Graph and what its answers mean."""

import datetime as dt
from email.utils import format_datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from service.graph import protocol
from service.graph.protocol import RefusedLink, next_page
from service.outbound.answers import LONGEST_RETRY_AFTER, interpret, retry_after_seconds

ROOT = "https://graph.microsoft.com"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
BELOW = f"{ROOT}/v1.0/communications/callRecords"
NOW = 1_790_000_000.0


# ---- what is asked ----


def test_one_request_asks_for_the_record_with_sessions_segments_and_participants() -> None:
    """The combined form (graph-contract 6.1), and the documented ones to fall back to."""
    assert protocol.record_url(ROOT, CALL) == f"{BELOW}/{CALL}?$expand=participants_v2,sessions($expand=segments)"
    assert protocol.record_url(ROOT, CALL, protocol.EXPAND_SESSIONS).endswith("?$expand=sessions($expand=segments)")
    assert protocol.sessions_url(ROOT, CALL) == f"{BELOW}/{CALL}/sessions?$expand=segments"
    assert protocol.participants_url(ROOT, CALL) == f"{BELOW}/{CALL}/participants_v2"
    assert protocol.version_url(ROOT, CALL) == f"{BELOW}/{CALL}?$select=id,version"


def test_reads_prefer_small_bodies_and_true_enum_members() -> None:
    """Graph-contract 6.2; metadata stays, because the discriminators are part of it."""
    headers = protocol.read_headers("token", "request")

    assert headers["Prefer"] == "include-unknown-enum-members, omit-values=nulls"
    assert headers["Accept"] == "application/json"
    assert headers["Authorization"] == "Bearer token"
    assert headers["client-request-id"] == "request"


# ---- what is answered ----


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_the_token_is_in_no_body_that_is_read(before: bytes, after: bytes) -> None:
    """Wherever it stands; what is too short to be one may stand in a record by chance."""
    token = "eyJ0eXAi.eyJNQVJL.TUFSSw"
    body = before + token.encode() + after

    assert protocol.without_token(body, token) == before + b"***" + after
    assert protocol.without_token(body, "eyJ0") == body


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "ok"),
        (204, "failed"),
        (206, "failed"),
        (301, "refused"),
        (307, "refused"),
        (400, "rejected"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (408, "failed"),
        (410, "rejected"),
        (429, "throttled"),
        (500, "failed"),
        (503, "failed"),
        (504, "failed"),
        (509, "failed"),
    ],
)
def test_a_status_says_what_to_do(status: int, kind: str) -> None:
    """Graph-contract 6.10 and 9.2: the status decides, never the message."""
    assert interpret(status, {}, NOW).kind == kind


@given(st.integers(100, 999), st.dictionaries(st.sampled_from(["Retry-After", "Date", "Location"]), st.text()))
def test_no_status_and_no_header_is_without_meaning(status: int, headers: dict[str, str]) -> None:
    """Headers are text from outside."""
    meaning = interpret(status, CIMultiDict(headers), NOW)

    wait = meaning.retry_after_seconds
    assert wait is None or 0 <= wait <= LONGEST_RETRY_AFTER


@given(st.integers(0, 10**12))
def test_retry_after_in_seconds_is_kept_up_to_an_hour(seconds: int) -> None:
    """The form that Graph documents."""
    assert retry_after_seconds(f" {seconds} ", None, NOW) == min(seconds, LONGEST_RETRY_AFTER)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_retry_after_as_a_date_is_counted_from_the_answers_own_date(wait: int, skew: int) -> None:
    """Two clocks that differ do no harm."""
    server_now = dt.datetime.fromtimestamp(NOW + skew, dt.UTC)
    until = format_datetime(server_now + dt.timedelta(seconds=wait), usegmt=True)

    found = retry_after_seconds(until, format_datetime(server_now, usegmt=True), NOW)
    assert found == min(max(0.0, wait), LONGEST_RETRY_AFTER)


def test_retry_after_as_a_date_without_a_date_is_counted_from_now() -> None:
    """Any answer should have a `Date`; this one has none. All three forms of RFC 9110 are GMT."""
    for text in ("Mon, 21 Sep 2026 14:14:20 GMT", "Monday, 21-Sep-26 14:14:20 GMT", "Mon Sep 21 14:14:20 2026"):
        assert retry_after_seconds(text, None, 1_790_000_050.0) == 10.0


@given(st.text())
def test_any_retry_after_is_a_wait_or_nothing(text: str) -> None:
    """Never an error, never a negative wait."""
    found = retry_after_seconds(text, text, NOW)

    assert found is None or 0 <= found <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"TooManyRequests","message":"m","innerError":{}}}', "TooManyRequests"),
        (b'{"error":{"code":"NotFound","message":""}}', "NotFound"),
        (b'{"error":{"code":"a\\nb"}}', ""),
        (b'{"error":"invalid_client"}', ""),
        (b"<html>", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_error_code_is_read_where_there_is_one(body: bytes, code: str) -> None:
    """Graph-contract 9.3; a gateway answers in HTML, and text for log lines is one harmless word."""
    assert protocol.error_code(body) == code


@given(st.binary())
def test_any_error_body_has_a_code_or_none(body: bytes) -> None:
    """Bytes from outside."""
    assert isinstance(protocol.error_code(body), str)


# ---- next links ----


@pytest.mark.parametrize(
    "link",
    [
        f"{BELOW}/{CALL}/sessions?$expand=segments&$skiptoken=abc",
        f"{BELOW}('{CALL}')/sessions?$expand=segments&$skiptoken=abc",
        f"{BELOW}(%27{CALL}%27)/participants_v2?$skiptoken=abc",
        f"{BELOW}/{CALL.upper()}/sessions?%24skiptoken=a%2Fb%23%3D",
        f"{ROOT}/V1.0/Communications/CallRecords/{CALL}/Sessions?$skiptoken=a",
        f"HTTPS://GRAPH.microsoft.com:443/v1.0/communications/callRecords/{CALL}/sessions?$skiptoken=a",
    ],
)
def test_a_link_below_the_record_is_followed_as_it_is(link: str) -> None:
    """Opaque: not a character changes."""
    assert next_page(link, ROOT, CALL) == link


@pytest.mark.parametrize("trap", ["$metadata#", "%24metadata#", "$Metadata#"])
def test_the_metadata_trap_is_repaired(trap: str) -> None:
    """Graph-contract 6.3: the documentation's samples would lead to `/v1.0/$metadata`, and the rest is a fragment."""
    link = f"{ROOT}/v1.0/{trap}communications/callRecords('{CALL}')/sessions?$expand=segments&$skiptoken=abc"

    followed = next_page(link, ROOT, CALL)
    assert followed == f"{BELOW}('{CALL}')/sessions?$expand=segments&$skiptoken=abc"


def test_a_space_in_a_link_is_escaped() -> None:
    """The one repair besides: a space would end the request line."""
    assert next_page(f"{BELOW}/{CALL}/sessions?$skiptoken=a b", ROOT, CALL).endswith("a%20b")


REFUSED = [
    "",
    "sessions?$skiptoken=a",
    f"/v1.0/communications/callRecords/{CALL}/sessions",
    f"//evil.example.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://evil.example.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://graph.microsoft.com.evil.example.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://graph.microsoft.com@evil.example.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://user:password@graph.microsoft.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://graph.microsoft.com./v1.0/communications/callRecords/{CALL}/sessions",
    f"http://graph.microsoft.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://graph.microsoft.com:8443/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://graph.microsoft.com:https/v1.0/communications/callRecords/{CALL}/sessions",
    f"https:\\\\graph.microsoft.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"https://graph.microsoft.com\\.evil.example.com/v1.0/communications/callRecords/{CALL}/sessions",
    f"{BELOW}/{CALL}/sessions?$skiptoken=a#fragment",
    f"{ROOT}/v1.0/$metadata#$metadata#communications/callRecords/{CALL}/sessions",
    f"{BELOW}/{CALL}",
    f"{BELOW}/{CALL}/",
    f"{BELOW}/{CALL}?$skiptoken=a",
    f"{BELOW}",
    f"{BELOW}/{CALL}x/sessions",
    f"{BELOW}/00000000-0000-0000-0000-000000000000/sessions",
    f"{BELOW}/{CALL}/../../../users",
    f"{BELOW}/{CALL}/%2e%2e/%2e%2e/users",
    f"{BELOW}/{CALL}/%252e%252e/users",
    f"{BELOW}/{CALL}/..%2f..%2fusers",
    f"{BELOW}/{CALL}/sessions%5c..%5c",
    f"{BELOW}/{CALL}//sessions",
    f"{ROOT}/beta/communications/callRecords/{CALL}/sessions",
    f"{ROOT}/v1.0/users/{CALL}/sessions",
    f"{BELOW}/{CALL}/sessions?$skiptoken=a\r\nX-Header: 1",
    f"{BELOW}/{CALL}/sessions?$skiptoken=\u00e9",
    f"{BELOW}/{CALL}/sessions?$skiptoken=" + "a" * 20_000,
    "https://[",
]


@pytest.mark.parametrize("link", REFUSED)
def test_a_link_to_any_other_place_is_refused(link: str) -> None:
    """The token travels with the request; the reason is told, the link is not."""
    with pytest.raises(RefusedLink) as refused:
        next_page(link, ROOT, CALL)

    assert "skiptoken" not in str(refused.value)


PIECES = st.sampled_from(
    (
        *(ROOT, BELOW, CALL, "https://", "evil.example.com", "/", "//", "\\", "@", ":", "443", "..", ".", "%2e", "%"),
        *("#", "?", "$metadata#", "sessions", "('", "')", ";", "[", "]", "v1.0", "$skiptoken=", "\u2044", "\uff0f"),
        *(" ", "\t", "\n"),
    )
)


@given(
    st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map(lambda p: f"{BELOW}/{CALL}/" + "".join(p)))
)
def test_whatever_a_link_says_the_token_stays_with_graph(link: str) -> None:
    """Judged by the library that makes the request, not by the one that checked the link."""
    try:
        followed = URL(next_page(link, ROOT, CALL), encoded=True)
    except RefusedLink:
        return

    assert followed.origin() == URL(ROOT)
    assert followed.user is None
    assert followed.fragment == ""
    assert followed.path.lower().startswith(f"/v1.0/communications/callrecords/{CALL}/")
    assert ".." not in followed.path.split("/")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=200))
def test_every_skiptoken_comes_through_unchanged(token: str) -> None:
    """Whatever Graph puts into it, once escaped."""
    link = f"{BELOW}('{CALL}')/sessions?$expand=segments&$skiptoken={quote(token, safe='')}"

    assert str(URL(next_page(link, ROOT, CALL), encoded=True)) == link
