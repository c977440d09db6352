"""The messages of `google.cloud.aiplatform`, and how one version of the API reads the other's.

Everything is kept and handled as messages of v1. A request to v1beta1 is read strictly as such
and then taken over by its bytes: the numbers of the fields are the same in both, which a test
checks, and what v1 has no field for stays in the message as an unknown field. `as_version` gives
it back, for answers and for handlers that look at it.

The messages are protobuf's own; those of proto-plus are slow and convert numbers and text
silently.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, TypeVar

from google.protobuf.message import Message

__all__ = ["V1", "V1BETA1", "VERSIONS", "as_version", "find", "message", "new", "package"]

V1, V1BETA1 = "v1", "v1beta1"
VERSIONS = (V1, V1BETA1)

M = TypeVar("M", bound=Message)


def package(version: str) -> Any:
    """Return the SDK's package of one version of the API; the first time takes a second."""
    return importlib.import_module(f"google.cloud.aiplatform_{version}")


@functools.cache
def find(name: str, version: str = V1) -> type[Message] | None:
    """Return the protobuf class called *name*, such as ``Model`` or ``Model.ExportFormat``."""
    found: Any = package(version).types
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return type(found.pb(found()))


def message(name: str, version: str = V1) -> Any:
    """Return the protobuf class called *name*.

    Raises:
        LookupError: This version has none.
    """
    found = find(name, version)
    if found is None:
        raise LookupError(f"{version} has no {name}")
    return found


def new(name: str, **fields: Any) -> Any:
    """Return a message of v1."""
    return message(name)(**fields)


def as_version(given: Message, version: str) -> Any:
    """Return *given*, a message of any version of the API, as one of *version*.

    A message that is none of Vertex AI's, such as an operation, is returned as it is.

    Raises:
        LookupError: This version has no such message.
    """
    full = given.DESCRIPTOR.full_name
    prefix, _, name = full.partition(".aiplatform.")
    own, _, name = name.partition(".")
    if prefix != "google.cloud" or own not in VERSIONS or own == version:
        return given
    made = message(name, version)()
    made.ParseFromString(given.SerializeToString())
    return made
