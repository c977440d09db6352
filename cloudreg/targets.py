"""The configured targets, each opened when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
from cloudreg.errors import ConfigError, NotFound, ProviderNotInstalled
from cloudreg.machines import Machine, Price
from cloudreg.plugins import open_provider, provider_plugin
from cloudreg.provider import Provider, ProviderContext, ProviderPlugin
from cloudreg.types import Resources

if TYPE_CHECKING:
    # Settings bring pydantic, which costs more start-up time than all the rest.
    from pydantic import BaseModel

    from cloudreg.settings import Settings


class Targets:
    """Providers by the name of their target."""

    def __init__(self, settings: Settings, root: Path) -> None:
        """Remember what is configured; nothing is opened yet."""
        self._settings = settings
        self._root = root
        self._open: dict[str, Provider] = {}
        self._checked: dict[str, tuple[ProviderPlugin, BaseModel]] = {}

    def __getitem__(self, name: str) -> Provider:
        """Return an open target.

        Raises:
            NotFound: No such target is configured.
            ConfigError: Its section does not suit its provider.
            ProviderNotInstalled: Its provider, or the SDK that it needs, is missing.
        """
        if name not in self._open:
            if name not in self._settings.targets:
                raise NotFound(
                    f"no target {name!r} is configured", hint=f"there are {', '.join(self)}"
                )
            self._open[name] = self._opened(name)
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._settings.targets)

    def __enter__(self) -> Targets:
        """Close them again at the end of a with block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what was opened."""
        self.close()

    def close(self) -> None:
        """Let go of all clients; endpoints stay."""
        while self._open:
            self._open.popitem()[1].close()

    def options(self, name: str) -> tuple[ProviderPlugin, BaseModel]:
        """Return the plug-in of a target and its checked section; nothing is opened.

        Raises:
            ConfigError: Its section does not suit its provider.
            ProviderNotInstalled: Its provider is missing.
        """
        # Looked for once: a plan asks for the machines of each of its endpoints.
        if name not in self._checked:
            self._checked[name] = self._read(name)
        return self._checked[name]

    def _read(self, name: str) -> tuple[ProviderPlugin, BaseModel]:
        from pydantic import ValidationError  # only where a section is really needed

        section = self._settings.targets[name]
        try:
            plugin = provider_plugin(section.provider)
        except ProviderNotInstalled as error:
            place = self._settings.place("targets", name, "provider")
            raise ProviderNotInstalled(
                f"{place}: {error.message}", target=name, hint=error.hint
            ) from error
        try:
            options = plugin.settings()(**section.options)
        except ValidationError as error:
            first = error.errors()[0]
            known = ", ".join(plugin.settings().model_fields)
            raise ConfigError(
                f"{self._settings.place('targets', name, *first['loc'])}: {first['msg']}",
                target=name,
                hint=f"provider {plugin.name!r} knows {known}",
            ) from error
        return plugin, options

    def offers(self, name: str) -> Capabilities:
        """Return what a target can do; one in a cloud is not opened for it.

        Without the target's own section where it is not open yet: GPUs do not depend on it.
        """
        if name not in self._open:
            plugin = self.options(name)[0]
            if plugin.remote:
                return plugin.capabilities()
        return self[name].capabilities

    def machines(self, name: str, resources: Resources) -> tuple[Machine, ...]:
        """Return what a replica comes on there, with its price; nothing is opened, or asked.

        The first choice comes first, then what stands in for it where it has no capacity.

        Raises:
            Unsupported: No machine there has it.
            InvalidRequest: The machine that is named cannot carry it.
        """
        plugin, options = self.options(name)
        if plugin.machines is None:
            why = f"the provider {plugin.name!r} tells of no prices"
            found: tuple[Machine, ...] = (Machine(name=str(resources), unpriced=why),)
        else:
            found = plugin.machines(options, resources, name)
        own = self._settings.prices.get(name, {})
        return tuple(_priced(machine, own.get(machine.name), target=name) for machine in found)

    def _opened(self, name: str) -> Provider:
        plugin, options = self.options(name)
        return open_provider(plugin, options, ProviderContext(target=name, root=self._root))


def _priced(machine: Machine, own: float | None, *, target: str) -> Machine:
    """Return a machine with what somebody really pays for it, or else with its list price."""
    if own is not None:
        price = Price(usd_per_hour=own, region=target, as_of="", source=f"[prices.{target}]")
        return replace(machine, price=price, unpriced="")
    if machine.price is None:
        hint = f'[prices.{target}] "{machine.name}" = 1.23 says what you pay'
        return replace(machine, unpriced=f"{machine.unpriced}; {hint}")
    return machine
