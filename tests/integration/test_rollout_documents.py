"""What the README says of rollouts is read and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cloudreg import Workspace
from cloudreg.types import RolloutStrategy

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_rollouts(tmp_path: Path) -> None:
    """The section's file can be used on this machine, and its commands run beside it."""
    text = (ROOT / "README.md").read_text().partition("\n## Rollouts\n")[2].partition("\n## ")[0]
    (toml, settings), (console, commands) = FENCE.findall(text)
    assert (toml, console) == ("toml", "console")
    (tmp_path / "cloudreg.toml").write_text(
        '[targets.local]\nprovider = "local"\n[stages.dev]\n[stages.staging]\n[stages.prod]\n'
        + settings
    )
    with Workspace.load(tmp_path) as ws:
        endpoint = ws.settings.endpoints["churn-prod"]
        rollout, able = endpoint.rollout.noun(), ws.targets["local"].capabilities
        able.require_metrics(rollout.metrics, name="churn-prod", target="local")
        assert rollout.strategy is RolloutStrategy.CANARY
        assert endpoint.shadow is not None
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in commands.splitlines():
        subprocess.run(
            ["sh", "-c", line.removeprefix("$ ")],
            cwd=tmp_path,
            env={**os.environ, "PATH": tools},
            check=True,
            capture_output=True,
            timeout=120,
        )
