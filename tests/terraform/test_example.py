"""The example that a reader copies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "examples" / "terraform_two_clouds" / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_clouds(aws_provider: Path) -> None:
    """Both clouds are made, a model is deployed to both, and Terraform has nothing to do."""
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("TF_", "CLOUDREG_"))
    }
    env |= {"TERRAFORM_PLUGIN_DIR": str(aws_provider), "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, str(RUN)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=1400,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Terraform has nothing to do" in done.stdout
