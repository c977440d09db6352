"""What takes time: steps with waits between them, taken when somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

from cloudreg_emulator.aws.world import current
from cloudreg_emulator.faults import When

__all__ = ["Course", "Failed", "Steps", "Wait", "begun"]


PATIENCE_S = 2.0
"""Real seconds after which nobody is waited for to describe: a script may delete and create."""


class Failed(Exception):
    """What was waited for cannot come; the message is the service's, and may be empty."""


def _met() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A pause between two steps.

    It is over when ``until`` holds, its seconds, scaled as the world says, are over, and as many
    describes have seen it as the world asks for, so that a caller who polls sees every state. Who
    does not poll waits `PATIENCE_S` instead. No setting lets an endpoint be in service before its
    containers are.

    Attributes:
        seconds: Emulated seconds that it takes at least.
        until: Asked again and again; raises `Failed` where it will never hold.
    """

    seconds: float = 0.0
    until: Callable[[], bool] = _met


Steps = Generator[Wait, None, None]
"""A generator: what it does between two waits is done at once; `Failed` is thrown into it."""


def begun(operation: str, steps: Steps) -> Course:
    """Return the course of what *operation* begins; it can be stuck before its first step."""
    fault = current().faults.strike("sagemaker", operation, When.PROGRESS)
    return Course(steps if fault is None else _stuck(fault.seconds, steps))


def _stuck(seconds: float, steps: Steps) -> Steps:
    yield Wait(seconds=seconds)
    yield from steps


class Course:
    """Steps on their way.

    Attributes:
        done: Whether the last one is taken.
    """

    def __init__(self, steps: Steps) -> None:
        """Take the first step, up to its wait."""
        self.done = False
        self._steps = steps
        self._wait = Wait()
        self._take(partial(next, steps))

    def see(self) -> None:
        """Count that a describe showed the present state."""
        self._seen += 1

    def advance(self, *, described: bool = False) -> None:
        """Go on for as long as waits are over.

        Args:
            described: Whether it is a describe that looks, and not some other request.
        """
        while not self.done:
            try:
                if not self._over(described=described):
                    return
            except Failed as error:
                self._take(partial(self._steps.throw, error))
            else:
                self._take(partial(next, self._steps))

    def _over(self, *, described: bool) -> bool:
        world = current()
        # Asked first and always: an alarm that rings in the last second counts.
        met = self._wait.until()
        waited_s = time.monotonic() - self._began
        seen = self._seen >= world.describes and (described or not world.describes)
        return (
            met
            and (seen or waited_s >= PATIENCE_S)
            and waited_s >= self._wait.seconds * world.scale
        )

    def _take(self, step: Callable[[], Wait]) -> None:
        try:
            self._wait = step()
        except StopIteration:
            self.done = True
        self._seen = 0
        self._began = time.monotonic()
