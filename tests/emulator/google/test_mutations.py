"""The tests of the emulated Vertex AI notice bugs: a sample of those in ``mutations.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mutations.py")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sample() -> None:
    """Every tenth bug is noticed; the script tries them all."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--sample", "10", "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 noticed" in done.stdout
