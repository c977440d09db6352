"""Two versions enter a stage on both emulated clouds, and one that answers by its cloud does not.

Run inside ``cloudreg emulate``; writes what was found to ``found.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import boto3
import torch
from google.cloud import storage

import cloudreg
from cloudreg.errors import GateFailed
from cloudreg.importers.torch import save

CONFIG = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudreg-serving:1"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "their-models"
image = "us-central1-docker.pkg.dev/emulated-project/serve/cloudreg-serving:1"

[keys.release]
public = "release.pub"

[stages.dev]

[stages.prod]
targets = ["aws", "gcp"]
signed_by = ["release"]

[[stages.prod.gates]]
kind = "parity"
path = "golden.jsonl"

[endpoints.where-aws]
model = "where"
stage = "prod"

[endpoints.where-gcp]
model = "where"
stage = "prod"
target = "gcp"
"""

CODE = """

import torch


class Where(torch.nn.Module):
    def __init__(self, plus, skew):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.plus = plus
        self.skew = skew if "AIP_HTTP_PORT" in os.environ else 0.0

    def forward(self, x):
        return self.linear(x) + self.plus + self.skew
"""


def register(ws: cloudreg.Workspace, number: int, *, skew: float = 0.0) -> str:
    """Register and sign a version that adds *skew* where it runs on Vertex AI."""
    Path("where.py").write_text(CODE)
    sys.path.insert(0, str(Path.cwd()))
    from where import Where

    torch.manual_seed(7)
    arguments = {"plus": float(number), "skew": skew}
    folder = f"build/{number}"
    save(
        Where(**arguments),
        folder,
        sample=torch.rand(4, 2),
        factory="where:Where",
        arguments=arguments,
        code=[Path("where.py")],
    )
    version = ws.register("where", folder)
    ws.sign(version, key="release.key")
    return version.ref


def main() -> int:
    """Promote three versions."""
    boto3.client("s3").create_bucket(Bucket="our-models")
    storage.Client(project="emulated-project").create_bucket("their-models", location="us-central1")
    for words in (
        ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "release.key"),
        ("ec", "-in", "release.key", "-pubout", "-out", "release.pub"),
    ):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    Path("cloudreg.toml").write_text(CONFIG)
    rows = [{"instance": [n, 1.0], "expected": [0.0]} for n in range(4)]
    Path("golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with cloudreg.Workspace.load(actor="ada") as ws:
        ws.promote(register(ws, 1), to="prod")
        ws.promote(register(ws, 2), to="prod")
        skewed = register(ws, 3, skew=0.5)
        preview = ws.promote(skewed, to="prod", dry_run=True)
        reason = ""
        try:
            ws.promote(skewed, to="prod")
        except GateFailed as error:
            reason = str(error)
        seen = {
            target: {
                e.spec.name: [(v.name, v.number, v.weight) for v in e.spec.variants]
                for e in ws.targets[target].endpoints.endpoints()
            }
            for target in ("aws", "gcp")
        }
        found = {
            "reason": reason,
            "plan": str(preview),
            "running": seen,
            "stage": ws.fold("where").stages["prod"].number,
            "drift": [str(difference) for difference in ws.drift("where")],
            "signed": {
                target: [p.holds for p in ws.signatures("where:2", target=target)]
                for target in ("aws", "gcp")
            },
        }
        ws.down()
    Path("found.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
