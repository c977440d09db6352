"""Providers are found by entry point, and what is wrong with one is said in our words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cloudreg import plugins
from cloudreg.capabilities import Capabilities
from cloudreg.errors import ConfigError, ProviderNotInstalled
from cloudreg.plugins import open_provider, provider_names, provider_plugin
from cloudreg.provider import ProviderContext, ProviderPlugin

CONTEXT = ProviderContext(target="gcp", root=Path())


def plugin(name="stub", *, open=lambda *_: None, extra=None):
    return ProviderPlugin(
        name=name, summary="", settings=dict, open=open, capabilities=Capabilities, extra=extra
    )


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with entry points on the path."""

    def installed(distribution, text, **points):
        info = tmp_path / distribution / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[cloudreg.providers]", *lines]) + "\n")
        (tmp_path / distribution / f"{distribution}_module.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / distribution)

    before = set(sys.modules)
    yield installed
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]


def test_local():
    """The embedded provider is installed, and found without its SDK."""
    assert "local" in provider_names()
    assert provider_plugin("local").name == "local"


def test_unknown():
    """A provider that nobody installed is refused with those there are."""
    with pytest.raises(ProviderNotInstalled, match=r"no provider 'azure'.*local") as refused:
        provider_plugin("azure")
    assert refused.value.exit_code == 64


def test_third_party(install):
    """A distribution of somebody else's brings a provider by an entry point."""
    install(
        "good",
        "from cloudreg_local import PLUGIN\nfrom dataclasses import replace\n"
        "STUB = replace(PLUGIN, name='good')\n",
        good="good_module:STUB",
    )
    assert "good" in provider_names()
    assert provider_plugin("good").name == "good"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("bad_module:STUB", ""),
        ("bad_module:STUB", "raise RuntimeError('boom')"),
        ("bad_module:STUB", "import a_module_that_nobody_has"),
        ("bad_module:STUB", "STUB ="),
        ("another_module:STUB", ""),
        ("bad_module:STUB", "STUB = 3"),
        ("bad_module", ""),
    ],
)
def test_broken(install, value, text):
    """An entry point that cannot be loaded, or is no plug-in, is a typed refusal with its name."""
    install("bad", text, bad=value)
    with pytest.raises(ConfigError, match="'bad'"):
        provider_plugin("bad")
    assert provider_plugin("local").name == "local"


def test_two_of_one_name(install):
    """Two distributions with one provider's name are refused: neither wins in silence."""
    install("one", "", twin="one_module:STUB")
    install("two", "", twin="two_module:STUB")
    with pytest.raises(ConfigError, match="more than once: one_module:STUB, two_module:STUB"):
        provider_plugin("twin")


def test_registered(monkeypatch):
    """A plug-in that this process registers comes before an installed one."""
    monkeypatch.setattr(plugins, "_registered", {})
    mine = plugin("local")
    plugins.register(mine)
    assert provider_plugin("local") is mine
    assert provider_names().count("local") == 1


def test_missing_extra():
    """A provider whose SDK is missing names the extra that brings it."""

    def opened(settings, context):
        import a_module_that_nobody_has  # noqa: F401  # that is the point

    with pytest.raises(ProviderNotInstalled, match="a_module_that_nobody_has") as refused:
        open_provider(plugin(open=opened, extra="vertex"), None, CONTEXT)
    assert refused.value.hint == "pip install 'cloudreg[vertex]'"
    assert refused.value.target == "gcp"
    with pytest.raises(ProviderNotInstalled) as refused:
        open_provider(plugin(open=opened), None, CONTEXT)
    assert refused.value.hint is None


def test_opened():
    """A provider is opened with its settings and its place."""
    found = open_provider(plugin(open=lambda settings, context: (settings, context)), 7, CONTEXT)
    assert found == (7, CONTEXT)
