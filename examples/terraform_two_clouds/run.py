"""Terraform makes what outlives a model, cloudreg deploys one, and Terraform has nothing to do.

$ TERRAFORM_PLUGIN_DIR=... python examples/terraform_two_clouds/run.py

Offline, on emulated clouds: TERRAFORM_PLUGIN_DIR names a folder of providers. For the google
provider the tests have a stand-in that serves the provider's own schemas.
Against real clouds the same files are used, with other names, no emulator, and no folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import cloudreg
from cloudreg.importers.torch import save

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INSIDE = "TERRAFORM_TWO_CLOUDS_INSIDE"
"""Set where the emulated clouds are there already."""

SAMPLES = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]]


def main() -> int:
    """Run everything inside both clouds, in a folder that is gone afterwards."""
    if INSIDE not in os.environ:
        words = [sys.executable, "-m", "cloudreg", "emulate", "--scale", "0.02"]
        inside = {**os.environ, INSIDE: "1"}
        return subprocess.call([*words, "--", sys.executable, *sys.argv], env=inside)
    with tempfile.TemporaryDirectory(prefix="terraform-two-clouds-") as folder:
        place = Path(folder) / "examples" / "two"
        shutil.copytree(HERE, place)
        shutil.copytree(ROOT / "terraform", Path(folder) / "terraform")
        os.chdir(place)
        provision()
        with cloudreg.Workspace.load() as ws:
            try:
                deploy(ws)
                nothing_to_do()
            finally:
                ws.down()
        forget()
        terraform("destroy", "-auto-approve")
    return 0


def terraform(*words: str) -> str:
    """Run terraform in the root, and return what it printed.

    Raises:
        SystemExit: It failed.
    """
    command = ["terraform", "-chdir=infra", *words]
    print("$", " ".join(word for word in command if "plugin-dir" not in word))
    color = [] if "-json" in words else ["-no-color"]
    done = subprocess.run([*command, *color], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return done.stdout


def cli(*words: str) -> None:
    """Run cloudreg, as a reader would type it."""
    print("$ cloudreg", *words)
    subprocess.run([sys.executable, "-m", "cloudreg", *words], check=True)


def provision() -> None:
    """Tell Terraform the names, apply, and keep what it says."""
    # Nothing says yet where the targets are, and for the names nobody has to know.
    configured = Path("cloudreg.toml").read_text()
    first = configured.replace('[terraform]\noutputs = "infra/outputs.json"\n', "")
    first = first.replace('"sagemaker"', '"sagemaker"\nregion = "us-east-1"\nbucket = "none-yet"')
    first = first.replace(
        '"vertex"',
        '"vertex"\nproject = "none-yet"\nlocation = "us-central1"\nbucket = "none-yet"',
    )
    Path("first.toml").write_text(first)
    cli("--config", "first.toml", "tf", "vars", "--out", "infra/cloudreg.auto.tfvars.json")
    folder = os.environ.get("TERRAFORM_PLUGIN_DIR")
    terraform("init", *([f"-plugin-dir={folder}"] if folder else []))
    last = terraform("apply", "-auto-approve").split("Outputs:")[0].strip().splitlines()[-1]
    print(last)
    Path("infra/outputs.json").write_text(terraform("output", "-json"))


def deploy(ws: cloudreg.Workspace) -> None:
    """Register a model and bring it to production on both clouds."""
    torch.manual_seed(7)
    shape = {"in_features": 4, "out_features": 2}
    module = torch.nn.Linear(**shape)
    sample = torch.rand(8, 4)
    save(module, "build/model", sample=sample, factory="torch.nn:Linear", arguments=shape)
    version = ws.register("churn", "build/model")
    for stage in ("dev", "staging", "prod"):
        ws.promote(version, to=stage)
    print(f"{version.ref} is in production")
    for name in ("churn-staging", "churn-prod"):
        print(f"{name} answers {ws.endpoint(name).predict(SAMPLES)}")


def nothing_to_do() -> None:
    """Plan again: a deployment leaves Terraform nothing to do.

    Raises:
        SystemExit: There is something.
    """
    terraform("plan", "-detailed-exitcode", "-out=plan.bin")
    Path("plan.json").write_text(terraform("show", "-json", "plan.bin"))
    cli("tf", "check", "plan.json")
    print("Terraform has nothing to do")


def forget() -> None:
    """Remove the versions, which nobody but an example does: AWS keeps a group that has any."""
    import boto3

    sagemaker = boto3.client("sagemaker")
    listed = sagemaker.list_model_packages(ModelPackageGroupName="churn")
    for package in listed["ModelPackageSummaryList"]:
        sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])


if __name__ == "__main__":
    sys.exit(main())
