"""The records of a batch job, as Vertex AI is given them and gives their predictions back; pure.

Vertex AI keeps no order, so every record goes with a key that says its object and its line, which
comes back beside the prediction. A key is a field of an object: what is no object is dressed as
one, or goes without.

====================  ==================================================  =======================
records               a line of the input                                 what the model is sent
====================  ==================================================  =======================
objects               ``{"cloudreg": "00000:7", "age": 41, …}``           ``{"age": 41, …}``
arrays of one length  ``{"cloudreg": "00000:7", "v0": 1.5, "v1": 2, …}``  ``[1.5, 2, …]``
all others            ``"as it is"``                                      ``"as it is"``
====================  ==================================================  =======================

The last ones come back with the instance itself, and are told apart by it: equal instances share a
prediction.

Source: the documentation of BatchPredictionJob.InstanceConfig in the SDK's protos
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KEY = "cloudreg"
"""The field with the key; records that have one of that name go without a key."""

MAX_FIELDS = 1000
"""Longer arrays go as they are: every element of a dressed one carries its name."""

BARE = "bare"

_ELAPSED = re.compile(r"el+apsed=[0-9.]+s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the records of a job are dressed.

    Attributes:
        kind: ``object``, ``array`` or ``bare``.
        width: Elements of each array.
    """

    kind: str
    width: int = 0

    @classmethod
    def of(cls, instance: Any) -> Shape:
        """Return the shape that all records would have if they were like this one."""
        if isinstance(instance, dict) and KEY not in instance:
            return cls(kind="object")
        if isinstance(instance, list) and 0 < len(instance) <= MAX_FIELDS:
            return cls(kind="array", width=len(instance))
        return cls(kind=BARE)

    def config(self) -> dict[str, Any]:
        """Return ``InstanceConfig``."""
        if self.kind == BARE:
            return {}
        if self.kind == "object":
            return {"instance_type": "object", "key_field": KEY}
        fields = [f"v{index}" for index in range(self.width)]
        return {"instance_type": "array", "key_field": KEY, "included_fields": fields}

    def dressed(self, instance: Any, key: str) -> bytes:
        """Return the line for an instance of this shape."""
        if self.kind == "object":
            instance = {KEY: key, **instance}
        elif self.kind == "array":
            instance = {KEY: key, **{f"v{index}": one for index, one in enumerate(instance)}}
        return json.dumps(instance, ensure_ascii=False).encode() + b"\n"

    def mark(self, instance: Any, key: str) -> str:
        """Return what a prediction for an instance is found by."""
        return key if self.kind != BARE else _digest(instance)

    def marked(self, said: Any) -> str | None:
        """Return what a line of the output is found by; None where it says nothing of that."""
        name = "key" if self.kind != BARE else "instance"
        if not isinstance(said, dict) or name not in said:
            return None
        return str(said["key"]) if self.kind != BARE else _digest(said["instance"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a data set.

    Attributes:
        key: Its object and its number there, both from 0.
        instance: What the model is asked.
        error: Why there is none; empty where there is one.
    """

    key: str
    instance: Any = None
    error: str = ""


def lines(reader: Iterator[bytes], index: int) -> Iterator[Line]:
    """Yield the lines of an object that are not blank.

    Args:
        reader: Yields them.
        index: Of the object.
    """
    filled = (line for line in reader if line.strip())
    for number, line in enumerate(filled):
        key = f"{index:05}:{number}"
        try:
            yield Line(key=key, instance=json.loads(line, parse_constant=_refuse))
        except (ValueError, RecursionError) as error:
            yield Line(key=key, error=f"the line is no JSON: {error}")


def answer(**said: Any) -> bytes:
    """Return a line of the answers."""
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def problem(line: bytes, shape: Shape) -> tuple[str | None, str]:
    """Return whose error a line of Vertex AI's error files is, and what it says.

    Two forms are known: text and the number of instances that were sent together, which do not
    tell whose error it is, and what the instance was beside a ``google.rpc.Status``.
    """
    text = line.decode(errors="replace").strip()
    try:
        said = json.loads(text)
        status = said["error"]
        message = str(status["message"] if isinstance(status, dict) else status)
    except (ValueError, KeyError, TypeError):
        pass
    else:
        return shape.marked(said) or (said.get(KEY) if shape.kind != BARE else None), message
    try:
        message = str(ast.literal_eval(text)[0])
    except (ValueError, SyntaxError, TypeError, IndexError, MemoryError, RecursionError):
        message = text
    # The time that it took would tell two errors apart that are one.
    return None, _ELAPSED.sub("", message).rstrip(" ,.")


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _digest(instance: Any) -> str:
    """Return what equal instances share, however their numbers are written."""
    text = json.dumps(_plain(instance), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        # As doubles: protobuf has no other numbers.
        return float(value) if abs(value) <= 2**1023 else str(value)
    return value
