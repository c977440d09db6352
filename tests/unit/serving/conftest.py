"""Small models on a disk, and a clean interpreter for each that is imported here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """The helpers of the serving tests."""
    spec = importlib.util.spec_from_file_location("serving_kit", Path(__file__).with_name("kit.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def imports() -> Iterator[None]:
    """Forget afterwards what a version's code left in the interpreter."""
    path, modules, byte_code = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    yield
    sys.path[:] = path
    sys.dont_write_bytecode = byte_code
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("shapes", "other", "pack"):
            del sys.modules[name]
