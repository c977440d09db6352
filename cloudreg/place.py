"""Where a setting came from: an argument, a variable, or a line and column of the file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREFIX = "CLOUDREG_"

_KEY = r"(?:[\w-]+|\"[^\"]*\"|'[^']*')"


def place(path: Path, text: str, where: tuple[str | int, ...], overrides: Mapping[str, Any]) -> str:
    """Return file, line and column of a key, or the argument or variable that set it.

    Args:
        path: The file, for its name.
        text: What it holds; valid TOML.
        where: The key, from the top.
        overrides: Arguments, which beat everything else.
    """
    parts = [str(part) for part in where]
    dotted = ".".join(parts)
    if _holds(overrides, parts):
        return f"argument {dotted}"
    variable = _setting(parts) or _beginning(parts, tomllib.loads(text))
    if variable is not None:
        return f"environment variable {variable}"
    found = _locate(text, parts)
    if found is None:
        return f"{path.name}, {dotted}"
    return f"{path.name}, line {found[0]}, column {found[1]}, {dotted}"


def position(message: str, text: str) -> tuple[int, int]:
    """Return line and column of the syntax error that tomllib describes in *message*."""
    match = re.search(r"at line (\d+), column (\d+)", message)
    if match:
        return int(match[1]), int(match[2])
    lines = text.splitlines() or [""]
    return len(lines), len(lines[-1]) + 1


def unreadable_variable() -> str:
    """Return the variable that must hold JSON and does not."""
    for name, value in os.environ.items():
        field = name.upper().removeprefix(PREFIX)
        if field in ("TARGETS", "STAGES", "MODELS", "ENDPOINTS") and not _is_json(value):
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
    for part in parts:
        if isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return False
    return bool(parts)


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
