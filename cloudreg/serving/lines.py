"""A data set on the wire: an instance a line, and for each line an answer.

A batch job of a cloud ends at the first request that is refused. So what is wrong with one
instance is said in its own line, and the request is a good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson

from cloudreg.serving import instances
from cloudreg.serving.checks import ModelFault, SignatureCheck, Tensors
from cloudreg.serving.http import Refusal

ROWS = 64
"""Instances that are computed together."""

Infer = Callable[[Tensors], Awaitable[Tensors]]


class _Bad:
    """A line that gets no prediction."""

    def __init__(self, error: Exception) -> None:
        self.error = error


async def answer(body: bytes, checks: SignatureCheck, infer: Infer) -> bytes:
    """Return a line for each line of *body*, in their order; blank lines are none.

    Raises:
        Refusal: The server has no room: nothing is wrong with the instances.
    """
    lines = [line for line in body.split(b"\n") if line.strip()]
    said: list[bytes] = []
    for begin in range(0, len(lines), ROWS):
        rows = [_parsed(line) for line in lines[begin : begin + ROWS]]
        said += await _group(rows, checks, infer)
    return b"".join(said)


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError as error:
        return _Bad(Refusal(400, f"the line is no JSON: {error}"))


async def _group(rows: list[Any], checks: SignatureCheck, infer: Infer) -> list[bytes]:
    """Return the lines of some rows: all at once, or one by one where one of them is bad."""
    good = [row for row in rows if not isinstance(row, _Bad)]
    if len(good) == len(rows):
        try:
            return list(_told(await infer(instances.columns(good, checks))))
        except (Refusal, ModelFault) as error:
            if _is_busy(error):
                raise
            if len(rows) == 1:
                return [_line(error)]
    return [line for row in rows for line in await _single(row, checks, infer)]


async def _single(row: Any, checks: SignatureCheck, infer: Infer) -> list[bytes]:
    if isinstance(row, _Bad):
        return [_line(row.error)]
    return await _group([row], checks, infer)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, Refusal) and error.status >= 500


def _told(outputs: Tensors) -> Iterator[bytes]:
    for prediction in orjson.loads(instances.encode(outputs))["predictions"]:
        yield orjson.dumps({"prediction": prediction}) + b"\n"


def _line(error: Exception) -> bytes:
    said = {"error": error.message if isinstance(error, Refusal) else str(error)}
    if isinstance(error, Refusal) and error.field is not None:
        # Of the line, whatever stood beside it.
        said["field"] = error.field.replace("instances[0]", "instance", 1)
        said["error"] = said["error"].replace("instances[0]", "instance", 1)
    return orjson.dumps(said) + b"\n"


def future(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Future[Tensors], Callable[..., None]]:
    """Return a future, and what makes an outcome of the queue its result."""
    made: asyncio.Future[Tensors] = loop.create_future()

    def done(outcome: Tensors | Exception) -> None:
        if made.done():
            return
        if isinstance(outcome, Exception):
            made.set_exception(outcome)
        else:
            made.set_result(outcome)

    return made, done
