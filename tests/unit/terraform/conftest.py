"""No variable of this machine configures anything."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without any variable of ours."""
    for name in list(os.environ):
        if name.upper().startswith("CLOUDREG_"):
            monkeypatch.delenv(name)
