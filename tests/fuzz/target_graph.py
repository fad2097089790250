"""Target: what else Graph and the login answer: links to more pages, waits, error bodies, tokens (as the built-in login
reads them; azure-identity is not in it), lists, gzip.

The first byte chooses the reader, the rest is what it reads.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

from yarl import URL

from service.errors import CallstreamError, GraphUnavailable, NotACallRecord
from service.graph import subscription, subscriptions
from service.graph.listing import decode_list_page
from service.graph.protocol import RefusedLink, error_code, next_list_page, next_page, next_subscription_page, printable
from service.notification import is_guid
from service.outbound.answers import LONGEST_RETRY_AFTER, interpret
from service.outbound.body import BodyCut, BodyTooLarge, Unpacker
from service.signin.credentials import NoToken, check_status, checked
from service.signin.secret import _read_reply
from tests.fuzz.tally import Tally

ROOT = "https://graph.microsoft.com"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
LIMIT_BYTES = 4096
NOW = 1_763_800_000.0
RECORD_PATH = re.compile(rf"/v1\.0/communications/callrecords(/{CALL}|\('{CALL}'\))/.+", re.IGNORECASE)


def run(data: bytes, tally: Tally) -> None:
    """Raises AssertionError, or anything else, when something is wrong."""
    if data:
        READERS[data[0] % len(READERS)](data[1:], tally)


def _links(data: bytes, tally: Tally) -> None:
    """A link that is followed leads, to the client that will follow it, to Graph and nowhere else."""
    link = data.decode("utf-8", "replace")
    tally.add("links")
    for follow in (
        lambda: next_page(link, ROOT, CALL),
        lambda: next_list_page(link, ROOT),
        lambda: next_subscription_page(link, ROOT),
    ):
        try:
            url = URL(follow(), encoded=True)
        except RefusedLink as refusal:
            assert str(refusal).isprintable()
            continue
        assert (url.scheme, (url.host or "").lower(), url.port) == ("https", "graph.microsoft.com", 443)
        assert (url.user, url.password, url.fragment) == (None, None, "")
        assert ".." not in url.raw_path.split("/")
        assert "\\" not in str(url)
    with suppress(RefusedLink):
        assert RECORD_PATH.fullmatch(URL(next_page(link, ROOT, CALL), encoded=True).path)


def _waits(data: bytes, _: Tally) -> None:
    """No header makes a tenant wait for longer than is believed, or for less than nothing."""
    value, _, date = data.decode("latin-1").partition("\n")
    headers = {"Retry-After": value, "Date": date}
    for status in (200, 302, 400, 401, 403, 404, 408, 429, 500, 503, 599):
        wait = interpret(status, headers, NOW).retry_after_seconds
        assert wait is None or 0.0 <= wait <= LONGEST_RETRY_AFTER


def _errors(data: bytes, _: Tally) -> None:
    """Nothing of an error's body but a short code comes into a sentence."""
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{0,64}", error_code(data))
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{0,64}", printable(data.decode("utf-8", "replace")))
    for kind in ("create", "get", "list", "renew", "delete", "reauthorize"):
        for status in (200, 400, 401, 403, 404, 409, 429, 500):
            problem = subscription.interpret(kind, status, {}, data, NOW)  # type: ignore[arg-type]
            assert problem is None or isinstance(problem, CallstreamError)
            assert str(problem).isprintable()


def _login(data: bytes, _: Tally) -> None:
    """A token that may stand in a header, or a sentence that holds nothing of the answer but a number."""
    reply = _read_reply(data)
    try:
        grant = checked(reply.access_token, reply.expires_in)
        assert re.fullmatch(r"[\x21-\x7e]+", grant.token)
    except NoToken as refusal:
        assert str(refusal) == "There is no token: the answer of the login holds none."
    for status in (200, 302, 400, 401, 429, 500):
        try:
            check_status(status, {}, data, NOW)
        except NoToken as refusal:
            assert re.fullmatch(r"There is no token: the login [ -~]{1,300}\.", str(refusal))


def _lists(data: bytes, _: Tally) -> None:
    """Lists of call records, and of subscriptions."""
    try:
        page = decode_list_page(data)
    except NotACallRecord as refusal:
        assert refusal.kind in ("odata_error", "not_json")
    else:
        assert all(is_guid(item.call_id) for item in page.items)
        assert all(item.version is None or 0 < item.version < 2**62 for item in page.items)
        assert all(item.start is None or item.start == item.start for item in page.items)
    for read in (subscriptions._one, lambda body: subscriptions._readable(subscriptions._page(body).value)):
        try:
            read(data)
        except GraphUnavailable as refusal:
            assert str(refusal).isprintable()


def _gzip(data: bytes, _: Tally) -> None:
    """Never more out than is allowed, however it is cut into pieces; what can be read is what gzip says."""
    step = 1 + data[0] % 64 if data else 1
    body = data[1:]
    try:
        found = _unpacked([body[at : at + step] for at in range(0, len(body), step)])
    except (BodyCut, BodyTooLarge):
        found = None
    if found is not None:
        assert len(found) <= LIMIT_BYTES
        assert found == (gzip.decompress(body) if body else b"")
    else:
        assert _expected(body) is None


def _unpacked(pieces: Sequence[bytes]) -> bytes:
    unpacker, held = Unpacker(LIMIT_BYTES, is_gzip=True), 0
    for piece in pieces:
        held += sum(unpacker.feed(piece))
    assert held <= LIMIT_BYTES
    return unpacker.finish()


def _expected(body: bytes) -> bytes | None:
    """What the standard library makes of it; None where it is no gzip, cut, followed by anything, or too large."""
    try:
        plain = gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return None
    return plain if len(plain) <= LIMIT_BYTES and body and body[-1] else None


READERS: Sequence[Callable[[bytes, Tally], None]] = (_links, _waits, _errors, _login, _lists, _gzip)
