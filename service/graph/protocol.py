"""Core: what is said to Graph and what it says: addresses, headers, error codes, next links.

Text in, values or `RefusedLink` out; nothing here does I/O or reads a clock.
What a status means is in `outbound/answers`. Sources: graph-contract 6.1 to 6.3 and 6.10;
https://learn.microsoft.com/graph/api/callrecords-callrecord-get, https://learn.microsoft.com/graph/paging .
"""

import re
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

API: Final = "/v1.0/communications/callRecords"
# Used by community code, not by the documentation (contract 6.1): one request where the documented forms need two.
EXPAND_ALL: Final = "participants_v2,sessions($expand=segments)"
EXPAND_SESSIONS: Final = "sessions($expand=segments)"
# A number without documentation: the longest link worth following. Characters.
LONGEST_LINK: Final = 16_384
SHORTEST_TOKEN: Final = 16  # characters; a shorter text may stand in a record by chance


# ---- what is asked -------------------------------------------------------------------------------------------------


def record_url(root_url: str, call_id: str, expand: str = EXPAND_ALL) -> str:
    """One call record, its organizer, and the first page of what is expanded."""
    return f"{_call(root_url, call_id)}?$expand={expand}"


def version_url(root_url: str, call_id: str) -> str:
    """The smallest read that says which version is current."""
    return f"{_call(root_url, call_id)}?$select=id,version"


def sessions_url(root_url: str, call_id: str) -> str:
    """Sessions with their segments, from the start; 60 a page."""
    return f"{_call(root_url, call_id)}/sessions?$expand=segments"


def participants_url(root_url: str, call_id: str) -> str:
    """Participants, from the start; 130 a page."""
    return f"{_call(root_url, call_id)}/participants_v2"


def list_url(root_url: str, start: str, end: str, select: str = "") -> str:
    """Call records that start in [start, end), 60 a page; both as UTC text. Nothing else can be filtered by (6.4)."""
    condition = quote(f"startDateTime ge {start} and startDateTime lt {end}", safe="")
    return f"{root_url}{API}?$filter={condition}" + (f"&$select={select}" if select else "")


def _call(root_url: str, call_id: str) -> str:
    return f"{root_url}{API}/{quote(call_id, safe='')}"


def read_headers(token: str, request_id: str) -> dict[str, str]:
    """Headers of every read. `request_id` is a new GUID; Graph echoes it, and its support finds the request by it.

    Without the first preference, members added to an enumeration later come as `unknownFutureValue`; the second makes
    bodies smaller (contract 6.2). The discriminators `@odata.type` are needed, so metadata stays as it is.
    """
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Prefer": "include-unknown-enum-members, omit-values=nulls",
        "client-request-id": request_id,
    }


# ---- what is answered ----------------------------------------------------------------------------------------------


class _Error(msgspec.Struct):
    code: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


_ERROR: Final = msgspec.json.Decoder(_ErrorBody)


def error_code(body: bytes) -> str:
    """Graph's error code (contract 9.3), or empty: bodies may be missing, HTML, or cut. Never the message."""
    try:
        return printable(_ERROR.decode(body).error.code)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def printable(text: str | None) -> str:
    """Text from outside, fit for a log line: up to 64 harmless characters, or empty."""
    return text if text is not None and re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", text) else ""


def without_token(body: bytes, token: str) -> bytes:
    """The body with the token masked that it was asked for with.

    What stands between Graph and us may repeat our request in a record, and records are published and archived.
    """
    return body.replace(token.encode(), b"***") if len(token) >= SHORTEST_TOKEN else body


# ---- next links ----------------------------------------------------------------------------------------------------


class RefusedLink(ValueError):
    """A next link that must not be followed; the message says why, never the link."""


def next_page(link: str, root_url: str, call_id: str) -> str:
    """The address of a record's next page, exactly as Graph wrote it but for `$metadata#`; else RefusedLink.

    The path must stay below this call record.
    """
    key = re.escape(call_id)
    # OData names are compared without case, and Graph does so too.
    return _checked(link, root_url, rf"{re.escape(API)}(?:/{key}|\('{key}'\))/[A-Za-z0-9_.()'/-]+", "the call record")


def next_list_page(link: str, root_url: str) -> str:
    """The address of the next page of the list of call records, as Graph wrote it; RefusedLink for any other place."""
    return _checked(link, root_url, rf"{re.escape(API)}(?:\(\))?", "the list of call records")


def next_subscription_page(link: str, root_url: str) -> str:
    """The address of the next page of the list of subscriptions, as Graph wrote it; RefusedLink for any other place."""
    return _checked(link, root_url, r"/v1\.0/subscriptions(?:\(\))?", "the list of subscriptions")


def _checked(link: str, root_url: str, path_pattern: str, place: str) -> str:
    """The token travels with the request: scheme, host and port must be the configured root's, the path must match.

    Samples of expanded links have `/v1.0/$metadata#communications/…` (contract 6.3): taken literally, all that matters
    would be a fragment, which is never sent.
    """
    if len(link) > LONGEST_LINK:
        raise RefusedLink("the link is too long")
    repaired = re.sub(r"(?:\$|%24)metadata#", "", link, count=1, flags=re.IGNORECASE).replace(" ", "%20")
    if not re.fullmatch(r"[\x21-\x7e]+", repaired) or "\\" in repaired:
        raise RefusedLink("the link has characters that no link has")
    if "#" in repaired:
        raise RefusedLink("the link has a fragment")
    try:
        parts, root = urlsplit(repaired), urlsplit(root_url)
        is_ours = _origin(parts) == _origin(root)
    except ValueError:
        raise RefusedLink("the link is no address") from None
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+", parts.netloc):
        raise RefusedLink("the link has more than host and port before its path")
    if not is_ours:
        raise RefusedLink("the link leads to another host than the configured Graph")
    _check_path(parts.path, path_pattern, place)
    return repaired


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port if parts.port is not None else default


def _check_path(path: str, pattern: str, place: str) -> None:
    """In either form of a key: `/{id}/…` or `('{id}')/…`, whatever is escaped."""
    plain = unquote(path)
    segments = plain.split("/")
    if "%" in plain or "\\" in plain or "//" in plain or {".", ".."} & set(segments):
        raise RefusedLink("the link's path plays tricks")
    if not re.fullmatch(pattern, plain, re.IGNORECASE):
        raise RefusedLink(f"the link leads out of {place}")
