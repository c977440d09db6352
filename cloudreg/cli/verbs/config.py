"""``cloudreg config``: every value that is configured, and what set it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg.cli.desk import Answer
from cloudreg.cli.words import shown, table
from cloudreg.errors import CloudregError, NotFound
from cloudreg.place import DEFAULT

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.workspace import Workspace

Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of the configuration.

    Attributes:
        key: From the top, with dots.
        value: As JSON.
        source: What set it.
    """

    key: str
    value: Any
    source: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("action", choices=("explain",), help="print every value with its source")
    parser.add_argument("key", nargs="?", metavar="KEY", help="only these, such as targets.aws")
    parser.add_argument("--set", action="store_true", help="leave out what nobody set")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Print the values."""
    workspace = desk.workspace
    found = list(_values(workspace))
    if options.key is not None:
        wanted = options.key
        found = [v for v in found if v.key == wanted or v.key.startswith(f"{wanted}.")]
        if not found:
            raise NotFound(f"nothing is configured at {wanted}", hint="cloudreg config explain")
    if options.set:
        found = [value for value in found if value.source != DEFAULT]
    facts = workspace.settings.facts if options.key is None else {}
    rows = ((value.key, shown(value.value), value.source) for value in found)
    lines = list(table(("key", "value", "source"), rows))
    if facts:
        beside = [(".".join(map(str, key)), shown(value)) for key, value in _leaves(facts, ())]
        lines += ["", "beside it, Terraform says:"]
        lines += table(("key", "value"), beside, indent="  ")
    return Answer(facts={"values": found, "facts": dict(facts)}, text=lines)


def _values(workspace: Workspace) -> Iterator[Value]:
    settings = workspace.settings
    document = settings.model_dump(mode="json", by_alias=True)
    for name in settings.targets:
        document["targets"][name] = _target(workspace, name, document["targets"][name])
    for where, value in _leaves(document, ()):
        source = settings.source(*where)
        yield Value(key=".".join(map(str, where)), value=value, source=source)


def _target(workspace: Workspace, name: str, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a target's section with its provider's defaults, where the provider is there."""
    try:
        _plugin, options = workspace.targets.options(name)
    except CloudregError:
        return raw
    return {**raw, **options.model_dump(mode="json", by_alias=True)}


def _leaves(value: Any, where: Where) -> Iterator[tuple[Where, Any]]:
    """Yield what has no parts: a list of plain values is one, an empty table is none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*where, key))
    elif _has_tables(value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*where, index))
    else:
        yield where, value


def _has_tables(value: Any) -> bool:
    return isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value)
