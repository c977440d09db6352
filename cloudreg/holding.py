"""Whether the model that a provider changes is still this process's to change.

A verb of a provider is several calls, and a process can be halted between any two of them, while
others take over. So the core says how to ask, for as long as a verb or a poll lasts, and whoever
sends the calls asks before each that changes something. Where nobody said how, nobody is asked: a
provider that is used by itself holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ASK: ContextVar[Callable[[], None] | None] = ContextVar("cloudreg-holding", default=None)


@contextmanager
def holding(ask: Callable[[], None]) -> Iterator[None]:
    """Let `still_held` call *ask* in this thread while the block lasts.

    Args:
        ask: Raises `cloudreg.errors.Fenced` where the model was lost.
    """
    token = _ASK.set(ask)
    try:
        yield
    finally:
        _ASK.reset(token)


def still_held() -> None:
    """Return unless others took over; for providers, before each call that changes something.

    Raises:
        Fenced: They did: change nothing more.
    """
    ask = _ASK.get()
    if ask is not None:
        ask()
