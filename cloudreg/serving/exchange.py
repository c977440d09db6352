"""One request and its answer, while they are under way."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from cloudreg.serving.http import Cancel, Head, Refusal, Then

if TYPE_CHECKING:
    from cloudreg.serving.app import Route


class Exchange:
    """One request and its answer.

    Attributes:
        head: What came before the body.
        began: When its first byte came.
        route: Where it goes; None where there is no such path.
        then: What is done with its body.
        refusal: Why nothing is done.
        parts: Of the body, as they came.
        size: Bytes of the body so far, those that were dropped too.
        held: Bytes of it that are kept, and that the intake counts.
        admitted: Whether the head was whole.
        whole: Whether all of it has come.
        expects: Whether the client waits to be told to send the body.
        modern: Whether it is HTTP/1.1: the client knows chunks, and that a connection stays.
        last: Whether the connection ends with it.
        started: Whether somebody works on it.
        answered: Whether all of the answer was written.
        cancel: Gives it up.
    """

    __slots__ = (
        "admitted", "answered", "began", "cancel", "expects", "head", "held", "last", "modern",
        "parts", "refusal", "route", "size", "started", "then", "whole",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.head = Head()
        self.began = perf_counter()
        self.route: Route | None = None
        self.then: Then | None = None
        self.refusal: Refusal | None = None
        self.parts: list[bytes] = []
        self.size = self.held = 0
        self.admitted = self.whole = self.expects = self.modern = self.last = False
        self.started = self.answered = False
        self.cancel: Cancel | None = None

    def body(self) -> bytes:
        """Return the body, which is kept here no longer."""
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)
