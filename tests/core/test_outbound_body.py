"""Bodies are unpacked piece by piece, and never beyond the limit."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.outbound.body import BodyCut, BodyTooLarge, Unpacker

LIMIT = 10_000


def unpack(body: bytes, size: int, is_gzip: bool = True, limit: int = LIMIT) -> bytes:
    """As the network might bring it: in pieces of `size` bytes."""
    unpacker = Unpacker(limit, is_gzip)
    for start in range(0, len(body), size):
        list(unpacker.feed(body[start : start + size]))
    return unpacker.finish()


@given(st.lists(st.binary(max_size=500), max_size=4), st.integers(1, 700))
def test_however_it_is_cut_into_pieces_the_body_is_the_same(members: list[bytes], size: int) -> None:
    """Plain, and gzip of one or several members; and what it comes to hold is told while it comes."""
    whole = b"".join(members)
    unpacker = Unpacker(LIMIT, is_gzip=False)
    assert sum(unpacker.feed(whole)) == len(whole)

    assert unpack(whole, size, is_gzip=False) == whole
    assert unpack(b"".join(map(gzip.compress, members)), size) == whole


@given(st.binary(min_size=1, max_size=500), st.data())
def test_a_gzip_body_that_ends_early_is_cut(body: bytes, data: st.DataObject) -> None:
    """Half a record must not pass for a whole one."""
    packed = gzip.compress(body)
    end = data.draw(st.integers(1, len(packed) - 1))

    with pytest.raises(BodyCut):
        unpack(packed[:end], 64)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 100))
def test_whatever_claims_to_be_gzip_is_a_body_or_cut(body: bytes, size: int) -> None:
    """No other error, whatever the bytes."""
    try:
        unpack(body, size)
    except (BodyCut, BodyTooLarge):
        return
    assert body.startswith(b"\x1f\x8b")


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_a_bomb_is_noticed_before_it_has_gone_off(size: int) -> None:
    """Ten megabytes of zeros are ten kilobytes of gzip; no more than the limit is ever held."""
    unpacker = Unpacker(LIMIT, is_gzip=True)
    bomb = gzip.compress(bytes(10_000_000))

    def feed_all() -> None:
        for start in range(0, len(bomb), size):
            list(unpacker.feed(bomb[start : start + size]))

    with pytest.raises(BodyTooLarge):
        feed_all()
    assert sum(map(len, unpacker._pieces)) <= LIMIT


@pytest.mark.parametrize("is_gzip", [False, True])
def test_the_limit_itself_is_allowed(is_gzip: bool) -> None:
    """One byte more is not."""
    exact, more = bytes(LIMIT), bytes(LIMIT + 1)
    pack = gzip.compress if is_gzip else bytes

    assert unpack(pack(exact), 1000, is_gzip) == exact
    with pytest.raises(BodyTooLarge):
        unpack(pack(more), 1000, is_gzip)


def test_an_empty_body_is_empty() -> None:
    """Also one that was announced as gzip; the decoder says what it thinks of it."""
    assert unpack(b"", 1) == unpack(b"", 1, is_gzip=False) == b""
