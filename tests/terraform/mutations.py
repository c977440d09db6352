"""Mistakes that somebody could make in the modules, one at a time.

``mutants`` reads a module as `terraform fmt` lays it out: an attribute is ``name = value`` on a
line of its own, below an opened block and not inside an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RENAMED = "a misspelt attribute"
MISSING = "a required attribute is missing"
TYPED = "a value of another type"
DOUBLED = "a block that may stand once stands twice"
UNKNOWN = "a misspelt block"
WORD = "a value that is none of the enum's"

_OPENED = re.compile(r'^( *)(?:dynamic )?"?([a-z_0-9]+)"?(?: "([a-z_0-9]+)" "\w+")? \{$')
_ATTRIBUTE = re.compile(r"^ *([a-z_0-9]+)( += )(.+)$")
_META = {"for_each", "count", "depends_on", "provider", "iterator"}
_NOT_SCHEMA = {"lifecycle", "precondition", "postcondition", "validation", "locals"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A module with one mistake.

    Attributes:
        kind: Which.
        file: Of the module.
        line: Counted from 1.
        text: The file with the mistake.
    """

    kind: str
    file: str
    line: int
    text: str


def mutants(module: Path, schemas: Mapping[str, Any]) -> Iterator[Mutant]:
    """Yield a module's mutants.

    Args:
        module: Its folder.
        schemas: Of the resources, by type: ``attributes`` and ``blocks`` as in ``google/schemas``.
    """
    for path in sorted(module.glob("*.tf")):
        lines = path.read_text().split("\n")
        for number, kind, replacement in _mistakes(lines, schemas):
            text = "\n".join([*lines[:number], *replacement[0], *lines[replacement[1] :]])
            yield Mutant(kind=kind, file=path.name, line=number + 1, text=text)


def _mistakes(
    lines: list[str], schemas: Mapping[str, Any]
) -> Iterator[tuple[int, str, tuple[list[str], int]]]:
    """Yield where a mistake begins, which it is, and new lines with the first that stays."""
    opened: list[tuple[str, Any]] = []
    for number, line in enumerate(lines):
        start = _OPENED.match(line)
        if line[:1].isalpha():
            opened.clear()  # a new block at the top: what came before it does not matter
        if start:
            opened.append((start[2], _schema(start, opened, schemas)))
            schema = opened[-1][1]
            if schema is not None and len(opened) > 1 and start[2] != "content":
                yield number, UNKNOWN, ([line.replace(start[2], f"{start[2]}_x", 1)], number + 1)
                if schema.get("once") and "dynamic" not in line:
                    end = next(n for n in range(number, len(lines)) if lines[n] == f"{start[1]}}}")
                    block = lines[number : end + 1]
                    yield number, DOUBLED, ([*block, *block], end + 1)
        elif re.match(r"^ *[\]})]+,?$", line) or (
            line.endswith(("}", "]", ")")) and "=" not in line
        ):
            if opened:
                opened.pop()
        elif line.endswith(("{", "[", "(")):
            opened.append(("", None))
        elif opened and opened[-1][1] is not None and all(o[0] not in _NOT_SCHEMA for o in opened):
            yield from _of_attribute(number, line, opened[-1][1])


def _of_attribute(
    number: int, line: str, schema: Any
) -> Iterator[tuple[int, str, tuple[list[str], int]]]:
    found = _ATTRIBUTE.match(line)
    if found is None or found[1] in _META or found[1] not in schema["attributes"]:
        return
    name, gap, value = found.groups()
    indent = line[: len(line) - len(line.lstrip())]
    one = schema["attributes"][name]
    yield number, RENAMED, ([f"{indent}{name}_x{gap}{value}"], number + 1)
    yield number, TYPED, ([f"{indent}{name}{gap}{{ wrong = [1] }}"], number + 1)
    if one.get("required"):
        yield number, MISSING, ([], number + 1)
    word = re.match(r'^"([A-Z][A-Za-z0-9_]+|aws:kms)"', value)
    if word and (one.get("values") or one.get("enum")):
        yield number, WORD, ([f'{indent}{name}{gap}"{word[1]}X"'], number + 1)


def _schema(start: re.Match[str], opened: list[tuple[str, Any]], schemas: Mapping[str, Any]) -> Any:
    """Return the schema of what a line opens; None where it is no block of a resource."""
    if not opened:
        return schemas.get(start[3]) if start[2] == "resource" else None
    outer = opened[-1][1]
    if outer is None:
        return None
    if start[2] == "content":
        return outer
    block = outer["blocks"].get(start[2])
    return None if block is None else {**block["block"], "once": block.get("max_items") == 1}
