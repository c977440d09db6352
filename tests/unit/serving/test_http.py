from __future__ import annotations

import pytest

from cloudreg.serving.http import Intake, Refusal, accepted, media_type, start_of


def test_all_bodies_together_are_bounded() -> None:
    """Many large bodies at once are refused before they take the memory, and later accepted."""
    intake = Intake(max_request_bytes=10)
    for _ in range(8):
        intake.take(10, of=10)
    with pytest.raises(Refusal) as caught:
        intake.take(1, of=1)
    assert caught.value.status == 503
    intake.give(1)
    intake.take(1, of=1)


@pytest.mark.parametrize("length", [b"11", b"9" * 5000])
def test_announced_bodies_that_are_too_large(length: bytes) -> None:
    """A body beyond the limit is refused by its announcement, however long the number is."""
    with pytest.raises(Refusal) as caught:
        Intake(max_request_bytes=10).announced(length)
    assert caught.value.status == 413


def test_bodies_that_grow_too_large() -> None:
    """A body that was not announced is refused with the byte that is too much, uncounted."""
    intake = Intake(max_request_bytes=10)
    intake.take(6, of=6)
    with pytest.raises(Refusal) as caught:
        intake.take(6, of=12)
    assert caught.value.status == 413
    intake.give(6)
    for _ in range(8):
        intake.take(10, of=10)


def test_types_and_their_parameters() -> None:
    """A type is read without regard to case, with its parameters in quotes or not."""
    kind, parameters = media_type(b'Application/JSON; Charset="utf-8" ;a=b=c;')
    assert kind == "application/json"
    assert parameters["charset"] == "utf-8"
    assert parameters["a"] == "b=c"
    assert accepted(b"text/csv;q=0, text/event-stream ,*/*;q=0.1") == ["text/event-stream", "*/*"]


def test_the_start_of_an_answer() -> None:
    """Status, headers and the word that the connection ends stand in lines of their own."""
    assert start_of(431, ((b"a", b"b"),), last=True) == (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\na: b\r\nconnection: close\r\n\r\n"
    )
    assert start_of(200, (), last=False) == b"HTTP/1.1 200 OK\r\n\r\n"
