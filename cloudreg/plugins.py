"""Finding providers: entry points in the group ``cloudreg.providers``, and `register`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from cloudreg.errors import ConfigError, ProviderNotInstalled
from cloudreg.provider import Provider, ProviderContext, ProviderPlugin

GROUP = "cloudreg.providers"

_registered: dict[str, ProviderPlugin] = {}


def register(plugin: ProviderPlugin) -> None:
    """Make *plugin* known to this process, before any of the same name that is installed."""
    _registered[plugin.name] = plugin


def provider_names() -> list[str]:
    """Return the names of all providers that are installed or registered, sorted."""
    return sorted({*_registered, *(point.name for point in entry_points(group=GROUP))})


def provider_plugin(name: str) -> ProviderPlugin:
    """Return the plug-in called *name*; no SDK is imported.

    Raises:
        ProviderNotInstalled: No such plug-in; the message lists those there are.
        ConfigError: The entry point cannot be loaded, names something else than a plug-in, or
            is one of two of that name.
    """
    if name in _registered:
        return _registered[name]
    # One distribution can stand on the path twice, with the same value.
    values = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not values:
        raise ProviderNotInstalled(
            f"no provider {name!r} is installed; there are {', '.join(provider_names()) or 'none'}",
            hint="cloudreg providers",
        )
    if len(values) > 1:
        raise ConfigError(
            f"provider {name!r} is installed more than once: {', '.join(sorted(values))}",
            hint="uninstall the distribution that is not wanted",
        )
    return _loaded(name, *values.values())


def _loaded(name: str, point: EntryPoint) -> ProviderPlugin:
    try:
        plugin = point.load()
    except Exception as error:  # the module of a stranger may raise anything
        raise ConfigError(
            f"provider {name!r} cannot be loaded from {point.value}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(plugin, ProviderPlugin):
        raise ConfigError(f"entry point {name!r} is {plugin!r}, not a ProviderPlugin")
    return plugin


def open_provider(plugin: ProviderPlugin, settings: object, context: ProviderContext) -> Provider:
    """Open a target.

    Raises:
        ProviderNotInstalled: The extra that brings its SDK is missing.
    """
    try:
        return plugin.open(settings, context)
    except ModuleNotFoundError as error:
        raise ProviderNotInstalled(
            f"provider {plugin.name!r} needs the module {error.name!r}",
            target=context.target,
            hint=f"pip install 'cloudreg[{plugin.extra}]'" if plugin.extra else None,
        ) from error
