"""A target's section, and what the plug-in says before anything is opened."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloudreg.errors import Unsupported
from cloudreg.provider import ProviderContext
from cloudreg_local import PLUGIN


@pytest.mark.parametrize(
    "section",
    [
        {"pth": "x"},
        {"path": ""},
        {"host": ""},
        {"port_range": [9000]},
        {"port_range": [9001, 9000]},
        {"port_range": [0, 9000]},
        {"port_range": [9000, 65536]},
        {"server_command": []},
        {"emulate_accelerators": "perhaps"},
        {"devices": ["cpu"]},
        {"devices": ["cuda"]},
        {"devices": ["cuda:0", "cuda:0"]},
    ],
)
def test_bad_sections_are_refused(section: dict[str, Any]) -> None:
    """An unknown key or a value that can never work is refused, and its name is in the message."""
    with pytest.raises(ValidationError, match=next(iter(section))):
        PLUGIN.settings()(**section)


def test_defaults() -> None:
    """An empty section is a target that only this machine can reach."""
    settings = PLUGIN.settings()()

    assert settings.model_dump() == {
        "path": ".cloudreg",
        "host": "127.0.0.1",
        "port_range": None,
        "emulate_accelerators": False,
        "devices": None,
        "server_command": None,
    }


def test_opening_writes_nothing(tmp_path: Path) -> None:
    """A target that is opened, read and closed leaves no trace."""
    provider = PLUGIN.open(
        PLUGIN.settings()(path="sub/place"), ProviderContext(target="laptop", root=tmp_path)
    )

    assert list(provider.store.list("")) == []
    assert list(provider.registry.published("churn")) == []
    assert list(provider.endpoints.endpoints()) == []
    assert provider.endpoints.endpoint("churn") is None
    provider.close()
    assert list(tmp_path.iterdir()) == []


def test_plugin_is_light() -> None:
    """Looking at the plug-in imports neither pydantic nor aiohttp nor asyncio."""
    code = (
        "import sys, cloudreg_local\n"
        "cloudreg_local.PLUGIN.capabilities()\n"
        "print(sorted({'pydantic', 'aiohttp', 'asyncio', 'cloudreg_local.endpoints'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_gpus_need_a_word(own: Callable[..., Any]) -> None:
    """A GPU is refused with the setting that accepts it, by the driver itself too."""
    bench = own()
    one = bench.version(1)
    spec = bench.spec("churn", ("primary", one, 100), gpu="T4")

    with pytest.raises(Unsupported, match="emulate_accelerators = true"):
        bench.provider.endpoints.create(spec, artifacts=bench.versions)

    assert list(bench.provider.endpoints.endpoints()) == []
    assert "T4" in own(emulate_accelerators=True).provider.capabilities.accelerators


def test_too_many_replicas(own: Callable[..., Any]) -> None:
    """A number of replicas that one machine is not for is refused before anything starts."""
    bench = own()
    spec = bench.spec("churn", ("primary", bench.version(1), 100), replicas=(1, 17))

    with pytest.raises(Unsupported, match="16 at most"):
        bench.provider.endpoints.create(spec, artifacts=bench.versions)
