"""The AWS CLI, which nobody here wrote, inside ``cloudreg emulate``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AWS = Path(os.environ.get("BENCH_PEERS", "")) / "bin" / "aws"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "BENCH_PEERS" not in os.environ or not AWS.exists(),
        reason="NOT TESTED WITH THE AWS CLI: BENCH_PEERS names an environment with bin/aws",
    ),
]

SCRIPT = """\
set -eu
aws s3 mb s3://artifacts >&2
head -c 20000000 /dev/zero > weights
aws s3 cp weights s3://artifacts/churn/weights >&2
aws s3 cp s3://artifacts/churn/weights s3://artifacts/churn/copy >&2
aws s3 cp s3://artifacts/churn/copy back >&2
cmp weights back
aws s3api put-object --bucket artifacts --key lock --if-none-match '*' >&2
aws s3api put-object --bucket artifacts --key lock --if-none-match '*' 2> refused && exit 9
grep -q PreconditionFailed refused
aws sagemaker create-model-package-group --model-package-group-name churn >&2
aws sagemaker list-model-package-groups
"""


def test_commands(tmp_path: Path) -> None:
    """Commands without any option of their own reach the emulator, large files too."""
    (tmp_path / "script.sh").write_text(SCRIPT)
    env = {**os.environ, "PATH": f"{AWS.parent}{os.pathsep}{os.environ['PATH']}"}

    done = subprocess.run(
        [sys.executable, "-m", "cloudreg", "emulate", "--", "sh", "script.sh"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    groups = json.loads(done.stdout)["ModelPackageGroupSummaryList"]
    assert [group["ModelPackageGroupName"] for group in groups] == ["churn"]
