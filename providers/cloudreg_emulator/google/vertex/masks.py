"""Field masks: what an update writes, and what a read shows.

Source: https://google.aip.dev/161, and google/protobuf/field_mask.proto
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from cloudreg_emulator.google.vertex.refusals import invalid

__all__ = ["masked", "paths_of", "snake", "write"]

_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def snake(path: str) -> str:
    """Return a path as protos spell it: clients write both ``displayName`` and the other."""
    return _HUMP.sub(lambda found: "_" + found.group(1).lower(), path)


def paths_of(mask: field_mask_pb2.FieldMask, kind: Message, *, field: str) -> list[str]:
    """Return the paths of a mask, each of which *kind* has.

    Args:
        mask: As it was sent.
        kind: A message of the kind that is masked.
        field: Where the mask stands in the request, for the message.

    Raises:
        Refused: INVALID_ARGUMENT, for a path that leads nowhere.
    """
    paths = [snake(path) for path in mask.paths]
    for path in paths:
        if not _leads(kind, path):
            raise invalid(field, f"Invalid field mask path: {path}")  # unquoted
    return paths


def write(source: Message, target: Any, paths: Iterable[str]) -> None:
    """Put what *source* has at *paths* into *target*; what is empty there is cleared here."""
    for path in paths:
        *above, last = path.split(".")
        given, kept = source, target
        for part in above:
            given, kept = getattr(given, part), getattr(kept, part)
        kept.ClearField(last)
        field = kept.DESCRIPTOR.fields_by_name[last]
        if field.message_type is not None and not field.is_repeated:
            if given.HasField(last):
                getattr(kept, last).CopyFrom(getattr(given, last))
        elif field.is_repeated and not (
            field.message_type and field.message_type.GetOptions().map_entry
        ):
            getattr(kept, last).extend(getattr(given, last))
        elif field.is_repeated:
            _write_map(getattr(given, last), getattr(kept, last))
        else:
            setattr(kept, last, getattr(given, last))


def masked(message: Any, mask: field_mask_pb2.FieldMask) -> Any:
    """Return what a read mask lets through; an empty mask, or ``*``, everything.

    Raises:
        Refused: INVALID_ARGUMENT, for a path that leads nowhere.
    """
    if not mask.paths or list(mask.paths) == ["*"]:
        return message
    shown = type(message)()
    wanted = field_mask_pb2.FieldMask(paths=paths_of(mask, message, field="read_mask"))
    wanted.MergeMessage(message, shown)
    return shown


def _write_map(given: Any, kept: Any) -> None:
    for key, value in given.items():
        if isinstance(value, Message):
            kept[key].CopyFrom(value)
        else:
            kept[key] = value


def _leads(kind: Message, path: str) -> bool:
    descriptor = kind.DESCRIPTOR
    *above, last = path.split(".")
    for part in above:
        field = descriptor.fields_by_name.get(part)
        if field is None or field.is_repeated or field.message_type is None:
            return False
        descriptor = field.message_type
    return last in descriptor.fields_by_name
