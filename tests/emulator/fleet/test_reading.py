"""An answer is read the same however its bytes come, and what is no answer is found."""

from __future__ import annotations

import pytest

from cloudreg_emulator.fleet import Broken
from cloudreg_emulator.fleet.reading import MOST_HEAD, Reader

WHOLE = {
    "of a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", 200, b"hello"),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "of no bytes": (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, b""),
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\nX-Trailer: a\r\n\r\n",
        200,
        b"hello",
    ),
    "after another": (
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
        b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno",
        500,
        b"no",
    ),
    "with bare line ends": (b"HTTP/1.1 200\nContent-Length: 2\n\nok", 200, b"ok"),
}


@pytest.mark.parametrize("form", WHOLE)
def test_pieces(form: str) -> None:
    """Wherever an answer is cut in two, it is the same, and its connection is kept."""
    data, status, body = WHOLE[form]
    for at in range(1, len(data)):
        reader = Reader()
        for piece in (data[:at], data[at:]):
            assert not reader.is_whole
            reader.feed(piece)
        answer = reader.answer(0.0)
        assert (reader.is_whole, reader.keeps) == (True, True)
        assert (answer.status, answer.body) == (status, body)


def test_headers() -> None:
    """Names are in small letters, values without the space around them, folded lines in one."""
    reader = Reader()
    reader.feed(b"HTTP/1.1 200 OK\r\nX-One:  a b \r\nX-Two: c\r\n  d\r\nContent-Length: 0\r\n\r\n")

    assert reader.answer(0.0).headers == {"x-one": "a b", "x-two": "c d", "content-length": "0"}


def test_end_of_the_connection_is_the_end() -> None:
    """An answer without a length is whole when its connection ends, which is not kept."""
    reader = Reader()
    reader.feed(b"HTTP/1.0 200 OK\r\n\r\nhel")
    reader.feed(b"lo")
    assert not reader.is_whole
    reader.feed(b"")

    assert (reader.is_whole, reader.keeps, reader.answer(0.0).body) == (True, False, b"hello")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
    ],
)
def test_not_kept(data: bytes) -> None:
    """A connection that ends, or says what nobody asked for, takes no other request."""
    reader = Reader()
    reader.feed(data)

    assert (reader.is_whole, reader.keeps, reader.answer(0.0).body) == (True, False, b"ok")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello", "size of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70000, "without a size"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MOST_HEAD, "no end of the headers"),
    ],
)
def test_no_answer(data: bytes, said: str) -> None:
    """What is no HTTP ends in Broken, before it fills the memory."""
    with pytest.raises(Broken, match=said):
        Reader().feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_cut_off(data: bytes) -> None:
    """An answer whose connection ends before it does is Broken."""
    reader = Reader()
    if data:
        reader.feed(data)

    with pytest.raises(Broken):
        reader.feed(b"")
