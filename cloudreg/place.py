"""Where a setting came from: an argument, a variable, a line of the file, or Terraform."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudreg.outputs import Outputs

PREFIX = "CLOUDREG_"

_KEY = r"(?:[\w-]+|\"[^\"]*\"|'[^']*')"


DEFAULT = "default"
"""The source of what nobody set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything that a configuration was put together from.

    Attributes:
        path: The file, for its name.
        text: What it holds; valid TOML.
        overrides: Arguments, which beat everything else.
        outputs: What Terraform says, below the file.
    """

    path: Path
    text: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    outputs: Outputs | None = None

    def place(self, where: tuple[str | int, ...]) -> str:
        """Return where a key was set, or would be: for messages, with the key.

        Args:
            where: The key, from the top.
        """
        parts = [str(part) for part in where]
        dotted = ".".join(parts)
        if _holds(self.overrides, parts):
            return f"argument {dotted}"
        document = tomllib.loads(self.text)
        variable = _setting(parts) or _beginning(parts, document)
        if variable is not None:
            return f"environment variable {variable}"
        above = self.outputs.document if self.outputs is not None else {}
        if self.outputs is not None and _depth(above, parts) > _depth(document, parts):
            return f"{self.outputs.name}, {dotted}"
        found = _locate(self.text, parts)
        if found is None:
            return f"{self.path.name}, {dotted}"
        return f"{self.path.name}, line {found[0]}, column {found[1]}, {dotted}"

    def source(self, where: tuple[str | int, ...]) -> str:
        """Return what set a key: an argument, a variable, a line of the file, Terraform, nobody.

        Args:
            where: The key of one value, from the top.
        """
        parts = [str(part) for part in where]
        if _holds(self.overrides, parts):
            return "argument"
        variable = _setting(parts)
        if variable is not None:
            return f"environment variable {variable}"
        if _holds(tomllib.loads(self.text), parts):
            line, column = _locate(self.text, parts) or (1, 1)
            return f"{self.path.name}, line {line}, column {column}"
        if self.outputs is not None and _holds(self.outputs.document, parts):
            return self.outputs.name
        return DEFAULT


def position(message: str, text: str) -> tuple[int, int]:
    """Return line and column of the syntax error that tomllib describes in *message*."""
    match = re.search(r"at line (\d+), column (\d+)", message)
    if match:
        return int(match[1]), int(match[2])
    lines = text.splitlines() or [""]
    return len(lines), len(lines[-1]) + 1


_TABLES = ("TARGETS", "STAGES", "KEYS", "MODELS", "ENDPOINTS", "PRICES", "TERRAFORM")
"""Settings that are tables: a variable of that name holds JSON."""


def unreadable_variable() -> str:
    """Return the variable that must hold JSON and does not."""
    for name, value in os.environ.items():
        field = name.upper().removeprefix(PREFIX)
        if field in _TABLES and not _is_json(value):
            return f"environment variable {name}"
    return "an environment variable"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _holds(value: Any, parts: list[str]) -> bool:
    """Whether the last of *parts* is a key inside *value*."""
    return bool(parts) and _depth(value, parts) == len(parts)


def _depth(value: Any, parts: list[str]) -> int:
    """Return how many of *parts* lead into *value*."""
    for count, part in enumerate(parts):
        if isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return count
    return len(parts)


def _setting(parts: list[str]) -> str | None:
    """Return the variable that set a key, by itself or with JSON for a table around it."""
    present = {name.upper(): (name, value) for name, value in os.environ.items()}
    for count in range(len(parts), 0, -1):
        name, value = present.get(PREFIX + "__".join(parts[:count]).upper(), (None, ""))
        if name is None:
            continue
        if count == len(parts) or not _is_json(value):
            return name
        if _holds(json.loads(value), parts[count:]):
            return name
    return None


def _beginning(parts: list[str], document: Mapping[str, Any]) -> str | None:
    """Return the variable that began a table of which the file knows nothing."""
    for count in range(len(parts), 1, -1):
        start = PREFIX + "__".join(parts[:count]).upper() + "__"
        if not _holds(document, parts[:count]):
            for name in sorted(os.environ):
                if name.upper().startswith(start):
                    return name
    return None


def _locate(text: str, parts: list[str]) -> tuple[int, int] | None:
    """Find the line and column that come nearest to the key *parts*.

    tomllib does not say where a value stood. Headers and keys are compared part by part; the
    longest match wins, so that a missing key points at its table, and an item of an array that is
    written in one line at the array.
    """
    table: list[str] = []
    items: dict[tuple[str, ...], int] = {}
    best: tuple[int, int, int] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?", line)
        key = re.match(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=", line)
        if header:
            table = _within(_keys(header[2]), items, item=header[1] == "[[")
            candidate, column = table, line.index("[") + 1
        elif key:
            candidate, column = [*table, *_keys(key[1])], key.start(1) + 1
        else:
            continue
        # A table can begin with the header of one inside it: [target.local] alone makes target.
        shared = min(len(candidate), len(parts))
        if candidate[:shared] == parts[:shared] and (best is None or shared > best[0]):
            best = (shared, number, column)
    return (best[1], best[2]) if best else None


def _within(keys: list[str], items: dict[tuple[str, ...], int], *, item: bool) -> list[str]:
    """Return the path of a header, with the number of each array's item that it is in."""
    found: list[str] = []
    for count, key in enumerate(keys, start=1):
        found.append(key)
        array = tuple(found)
        if item and count == len(keys):
            items[array] = items.get(array, -1) + 1
        if array in items:
            found.append(str(items[array]))
    return found


def _keys(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]
