"""``cloudreg providers``: what each provider can do, and why not more."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg.cli.desk import Answer
from cloudreg.cli.words import size, table

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """One capability of a provider.

    Attributes:
        capability: Its name.
        value: What the provider declares; plain JSON.
        reason: Why it is less than people expect.
    """

    capability: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A provider that is installed.

    Attributes:
        name: As ``provider = "…"`` in a target's section.
        summary: One line.
        extra: The extra that brings its SDK.
        capabilities: What it can do.
        error: Why it cannot be loaded.
    """

    name: str
    summary: str = ""
    extra: str | None = None
    capabilities: tuple[Ability, ...] = ()
    error: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--markdown", action="store_true", help="as a table for a README")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show every provider that is installed."""
    found = described()
    return Answer(
        facts={"providers": found},
        text=markdown(found) if options.markdown else _text(found),
    )


def described() -> list[Described]:
    """Return all installed providers; one that cannot be loaded hides no other."""
    from cloudreg.errors import ConfigError
    from cloudreg.plugins import provider_names, provider_plugin

    found = []
    for name in provider_names():
        try:
            plugin = provider_plugin(name)
        except ConfigError as error:
            found.append(Described(name=name, error=error.message))
            continue
        found.append(
            Described(
                name=name,
                summary=plugin.summary,
                extra=plugin.extra,
                capabilities=tuple(
                    Ability(
                        capability=capability,
                        value=sorted(value) if isinstance(value, frozenset) else value,
                        reason=reason,
                    )
                    for capability, value, reason in plugin.capabilities().rows()
                ),
            )
        )
    return found


def markdown(found: list[Described]) -> Iterator[str]:
    """Yield one table with a column for each provider."""
    usable = [provider for provider in found if not provider.error]
    names = list(dict.fromkeys(a.capability for p in usable for a in p.capabilities))
    yield f"| capability | {' | '.join(f'`{provider.name}`' for provider in usable)} |"
    yield f"|---|{'---|' * len(usable)}"
    for name in names:
        cells = []
        for provider in usable:
            ability = next((a for a in provider.capabilities if a.capability == name), None)
            cells.append("-" if ability is None else _cell(ability))
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(ability: Ability) -> str:
    text = _value(ability)
    return f"{text} ({ability.reason})" if ability.reason else text


def _text(found: list[Described]) -> Iterator[str]:
    for index, provider in enumerate(found):
        if index:
            yield ""
        yield f"{provider.name}: {provider.summary or provider.error}"
        if provider.error:
            continue
        rows = [(a.capability, _value(a), a.reason) for a in provider.capabilities]
        yield from table(("CAPABILITY", "VALUE", "REASON"), rows, indent="  ")


def _value(ability: Ability) -> str:
    value = ability.value
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown" if ability.capability == "egress" else "no limit"
    return size(value) if ability.capability.endswith("_bytes") else str(value)
