"""SageMaker and Vertex AI, emulated, asked the same before traffic moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("clouds.py")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_clouds(tmp_path: Path) -> None:
    """A signed version enters on both clouds; one that answers by its cloud moves nothing."""
    emulate = [sys.executable, "-m", "cloudreg", "emulate", "--scale", "0.02", "--"]
    keep = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDREG_")}

    done = subprocess.run(
        [*emulate, sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        env={**keep, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert "aws and gcp differ on 4 of 4 samples, by 0.5 at most" in found["reason"]
    assert "endpoint where-gcp-parity runs on gcp while answers are compared: " in found["plan"]
    assert found["running"] == {
        "aws": {"where-aws": [["primary", 2, 100]]},
        "gcp": {"where-gcp": [["primary", 2, 100]]},
    }
    assert (found["stage"], found["drift"]) == (2, [])
    assert found["signed"] == {"aws": [True], "gcp": [True]}
