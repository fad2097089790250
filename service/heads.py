"""Shell: how many bytes of heads (request line and headers) the connections of a site hold, and where that ends.

aiohttp bounds each line and their number, and its parser keeps to itself what it has of a request that is not whole
yet: a megabyte for each connection, and as much again for every request sent ahead. So what goes into the parser is
counted here, until it has become a body or the request has been answered.
"""

from collections.abc import Iterable
from typing import Any

from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

# Graph's handshake token has no documented length, and it stands in the request line.
LONGEST_LINE_BYTES = 16 * 1024
# Proxies add certificates, cookies and tokens; their own bound for one field is 8 KiB.
LONGEST_FIELD_BYTES = 8 * 1024
MOST_FIELDS = 64
LONGEST_HEAD_BYTES = 32 * 1024
SMALL_HEAD_BYTES = 8 * 1024  # Graph's have two or three
MOST_BYTES = 16 * 1024 * 1024
READ_BYTES = 16 * 1024  # taken from a socket at a time: the parser keeps a read whose requests have to wait
MOST_AHEAD = 2  # requests parsed while another is being answered; with one, every request would pause its connection

Parsed = tuple[Iterable[tuple[RawRequestMessage, StreamReader]], bool, bytes]


class HeadTooLarge(HttpProcessingError):
    """A head beyond `LONGEST_HEAD_BYTES`, a body's trailers and framing beyond it, or what follows the unreadable."""


class NotPlain(HttpProcessingError):
    """A head that asks for a tunnel, or has its body in another transfer coding than `chunked`."""


class TooManyHeads(HttpProcessingError):
    """All connections together hold too much, and this one more than `SMALL_HEAD_BYTES`."""


class Heads:
    """Of all connections of one site."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Beyond `most_bytes` a connection that holds no more than `SMALL_HEAD_BYTES` still goes on, as Graph's do."""
        self.most_bytes = most_bytes
        self.held_bytes = 0


class HeadParser:
    """aiohttp's parser of one connection, with what it holds counted in `heads`; has the methods aiohttp calls."""

    def __init__(self, protocol: Any, loop: Any, payload_exception: type[Exception], heads: Heads) -> None:
        self._parser = HttpRequestParser(
            protocol,
            loop,
            READ_BYTES,
            max_line_size=LONGEST_LINE_BYTES,
            max_field_size=LONGEST_FIELD_BYTES,
            max_headers=MOST_FIELDS,
            payload_exception=payload_exception,
            auto_decompress=False,
            max_msg_queue_size=MOST_AHEAD,
        )
        self._payload_exception = payload_exception
        self._heads = heads
        self._begun_bytes = 0
        self._waiting_bytes = 0
        self._counted_bytes = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._is_chunked = False
        self._refusal: type[HttpProcessingError] = HeadTooLarge
        self._is_over = self._is_dropped = self._is_last = False

    @property
    def has_begun(self) -> bool:
        """Whether there is the beginning of a request that is not whole yet."""
        return self._begun_bytes > 0

    def feed_data(self, data: bytes) -> Parsed:
        """The requests whose heads are whole now. Raises `HttpProcessingError`, then and for whatever follows, so that
        aiohttp does not read on before it has answered.
        """
        if self._is_over:
            raise self._refusal
        try:
            return self._feed(data)
        except HttpProcessingError as exc:
            # Not the error itself: its frames refer to the connection.
            self._refusal = TooManyHeads if isinstance(exc, TooManyHeads) else HeadTooLarge
            if not self._body.is_eof():
                self._body.set_exception(self._payload_exception("the framing of the body"))
            self._end()
            raise

    def _feed(self, data: bytes) -> Parsed:
        body, already = self._body, self._body.total_bytes
        was_at_end, was_chunked = body.is_eof(), self._is_chunked
        if self._is_last and was_at_end:
            return (), False, b""
        found, _, _ = self._parser.feed_data(data)
        messages = [self._taken(message, payload) for message, payload in found]
        self._begun_bytes += len(data)
        for message, payload in messages:
            size = head_bytes(message)
            if size > LONGEST_HEAD_BYTES:
                raise HeadTooLarge
            if not is_plain(message):
                raise NotPlain
            self._waiting_bytes += size
            self._begun_bytes -= size + payload.total_bytes
            was_chunked = was_chunked or message.chunked
            self._body, self._is_chunked = payload, message.chunked
        if not was_at_end:
            self._begun_bytes -= body.total_bytes - already
        if messages or not was_at_end:
            self._leave_out_bodies(
                is_all=bool(messages) and self._body is EMPTY_PAYLOAD and data.endswith(b"\r\n\r\n"),
                most=len(data),
                has_grown=bool(messages) or body.total_bytes > already,
                is_chunked=was_chunked,
            )
        if self._is_last and self._body.is_eof():
            self._begun_bytes = 0
        self._check()
        return messages, False, b""

    def _taken(self, message: RawRequestMessage, body: StreamReader) -> tuple[RawRequestMessage, StreamReader]:
        """The request; one that offers another protocol as if it had asked for the connection's end instead.

        Nobody has to agree to another protocol (RFC 9110, 7.8), and some clients offer one with every request. What the
        same read brings behind it the parser drops: so the answer is the connection's last.
        """
        if not message.upgrade:
            return message, body
        self._is_last = True
        return message._replace(upgrade=False, should_close=True), body

    def _leave_out_bodies(self, *, is_all: bool, most: int, has_grown: bool, is_chunked: bool) -> None:
        """What is left of the last read belongs to a body that is not whole yet, or begins the next request.

        `is_all`: nothing is left, whatever the heads seem to have had; `most`: all that the last read can have left.

        What stands around chunks cannot be told from a beginning. A body that does not grow has trailers, which the
        parser keeps, or framing without end.
        """
        if not self._body.is_eof():
            self._begun_bytes = 0 if has_grown else self._begun_bytes
        else:
            self._begun_bytes = 0 if is_chunked or is_all else min(max(self._begun_bytes, 0), most)

    def _check(self) -> None:
        self._count()
        if self._begun_bytes > LONGEST_HEAD_BYTES:
            raise HeadTooLarge
        if self._counted_bytes > SMALL_HEAD_BYTES and self._heads.held_bytes > self._heads.most_bytes:
            raise TooManyHeads

    def answered(self, waiting: Iterable[tuple[Any, StreamReader]]) -> None:
        """A request needs its head no more; `waiting` are those that were parsed and not yet looked at."""
        if self._is_dropped:
            return
        self._waiting_bytes = 0
        for message, _ in waiting:
            if isinstance(message, RawRequestMessage):
                self._waiting_bytes += head_bytes(message)
        self._count()

    def drop(self) -> None:
        """The connection is gone, and so is what it held."""
        self._end()
        self._is_dropped = True
        self._waiting_bytes = 0
        self._count()

    def _end(self) -> None:
        """Lets go of the parser with all that it keeps; it refers to the connection, so both would stay."""
        if not self._is_over:
            self._is_over = True
            del self._parser
        self._begun_bytes = 0
        self._count()

    def _count(self) -> None:
        held = self._begun_bytes + self._waiting_bytes
        self._heads.held_bytes += held - self._counted_bytes
        self._counted_bytes = held

    def message_consumed(self) -> None:
        """As aiohttp's."""
        if not self._is_over:
            self._parser.message_consumed()

    def pause_reading(self) -> None:
        """As aiohttp's."""
        if not self._is_over:
            self._parser.pause_reading()

    def set_upgraded(self, value: bool) -> None:
        """As aiohttp's."""
        if not self._is_over:
            self._parser.set_upgraded(value)


def is_plain(message: RawRequestMessage) -> bool:
    """Whether it is about one request and its body: no tunnel, and no codings before `chunked`, at which aiohttp does
    not look.
    """
    is_tunnel = message.method == "CONNECT"
    return not is_tunnel and message.headers.get("Transfer-Encoding", "chunked").lower() == "chunked"


def head_bytes(message: RawRequestMessage) -> int:
    """The size of a head, as it is usually written: one space after each colon."""
    size = len(message.method) + len(message.path) + len("  HTTP/1.1\r\n\r\n")
    for name, value in message.raw_headers:  # a sum over a generator takes twice as long
        size += len(name) + len(value) + len(": \r\n")
    return size
