"""The modules on the google provider's own schemas, in three of its major versions."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from cloudreg import Workspace
from cloudreg import plugins as plugins_of_ours
from cloudreg.provider import Deployed
from cloudreg_emulator.google.emulator import google
from cloudreg_emulator.google.environment import environment, merged
from cloudreg_vertex import PLUGIN

MODULES = Path(__file__).parents[2] / "terraform" / "modules"
VERSIONS = ("6.50.0", "7.46.1", "8.7.0")
SLOW = pytest.mark.slow

TEXT = """
terraform {{
  required_providers {{
    google = {{ source = "hashicorp/google", version = "{version}" }}
  }}
}}

variable "cloudreg" {{ type = any }}
variable "labels" {{ default = {{}} }}
variable "transfer" {{ default = null }}

provider "google" {{ project = "emulated-project" }}

module "gcp" {{
  source           = "{modules}/gcp"
  cloudreg         = var.cloudreg
  project          = "emulated-project"
  location         = "us-central1"
  bucket           = "their-models"
  prefix           = "team/churn"
  force_destroy    = true
  labels           = var.labels
  transfer         = var.transfer
  repositories     = ["serving"]
  endpoint_shells  = ["churn-prod"]
  alerts           = {{ emails = ["oncall@example.com"] }}
  budget           = {{ usd = 500, billing_account = "0AF1B2-C3D4E5-F60718" }}
  deployer_members = {{ prod = ["group:oncall@example.com"] }}
}}

output "target" {{ value = module.gcp.target }}
output "roles" {{ value = module.gcp.deployer_roles }}
output "subject" {{ value = module.gcp.transfer_subject }}
"""


def write(make: Callable[..., Any], given: Any, version: str, **more: Any) -> Any:
    made = make(TEXT.format(version=version, modules=MODULES), **more)
    variables = {"cloudreg": given("gcp")}
    made.write("given.auto.tfvars.json", json.dumps(variables))
    made.init()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan(root: Callable[..., Any], given: Any, version: str) -> None:
    """Every supported major version knows what the module says."""
    made = write(root, given, version)

    assert "The configuration is valid" in made.run("validate", "-no-color")
    assert "46 to add" in made.run("plan", "-no-color")


READER = "arn:aws:iam::123456789012:role/cloudreg-transfer"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transfer", [{"role_arn": READER}, pytest.param(None, marks=[SLOW])])
def test_roles_are_cloudregs_own(
    root: Callable[..., Any], given: Any, transfer: dict[str, str] | None
) -> None:
    """The custom roles and their conditions are those that cloudreg says it needs."""
    made = write(root, given, VERSIONS[-1])
    made.write("transfer.auto.tfvars.json", json.dumps({"transfer": transfer}))
    made.run("apply", "-auto-approve", "-no-color")
    outputs = made.outputs()
    section = {k: v for k, v in outputs["target"]["value"].items() if v is not None}
    assert section.pop("provider") == "vertex"
    assert section.get("transfer_role") == (READER if transfer else None)
    # An output without a value is left out.
    assert ("subject" in outputs) == bool(transfer)

    settings = PLUGIN.settings()(**section)
    asked = Deployed(by_service=transfer is not None)
    document: Any = PLUGIN.policy(settings, asked)  # type: ignore[misc]

    roles = outputs["roles"]["value"]
    wanted = {name: role["includedPermissions"] for name, role in document["roles"].items()}
    assert roles["permissions"] == wanted
    conditions = {
        one["role"]: one["condition"]["expression"]
        for one in document["bindings"]
        if "condition" in one
    }
    assert roles["conditions"] == conditions


CONFIG = """
home = "gcp"

[terraform]
outputs = "outputs.json"

[targets.gcp]
provider = "vertex"
image = "us-central1-docker.pkg.dev/emulated-project/serving/cloudreg-real:1"
endpoint_url = "{url}"
storage_url = "{url}"

[stages.dev]
[stages.staging]
gates = []
[stages.prod]
gates = []

[endpoints.churn-prod]
model = "churn"
stage = "prod"
gpu = "L4"
"""


def save(folder: Path, factor: float) -> Path:
    """Write a model that multiplies."""
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 10
    onnx.save(made, str(folder / "model.onnx"))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_life(root: Callable[..., Any], given: Any, tmp_path: Path) -> None:
    """Made in an emulated cloud, deployed to by cloudreg, changed and removed; plans stay clean."""
    plugins_of_ours.register(PLUGIN)
    images = {"*/cloudreg-real:*": [sys.executable, "-P", "-m", "cloudreg.serving"]}
    with google(images=images, polls=0, scale=0.02) as cloud:
        made = write(root, given, VERSIONS[-1], env=merged(environment(cloud)))
        made.run("apply", "-auto-approve", "-no-color")
        clean(made)
        outputs = {"cloudreg": {"value": {"contract": 1, "targets": {"gcp": target(made)}}}}
        (tmp_path / "outputs.json").write_text(json.dumps(outputs))
        (tmp_path / "cloudreg.toml").write_text(CONFIG.format(url=cloud.url))

        with Workspace.load(tmp_path / "cloudreg.toml") as ws:
            version = ws.register("churn", save(tmp_path / "model", 2.0))
            for stage in ("dev", "staging", "prod"):
                ws.promote(version, to=stage)
            said = ws.endpoint("churn-prod").predict({"instances": [[1.0, 2.0]]})
            assert said["predictions"][0] == [2.0, 4.0]
            clean(made)

            made.write("labels.auto.tfvars.json", json.dumps({"labels": {"team": "risk"}}))
            made.run("plan", "-detailed-exitcode", "-no-color", code=2)
            made.run("apply", "-auto-approve", "-no-color")
            clean(made)
            assert ws.drift("churn") == []
            ws.down()

        # The endpoint went with `down`: Terraform sees that its shell is missing.
        assert "churn-prod" in made.run("plan", "-detailed-exitcode", "-no-color", code=2)
        made.run("destroy", "-auto-approve", "-no-color")


def clean(made: Any) -> None:
    """Fail unless Terraform has nothing to do."""
    assert "No changes" in made.run("plan", "-detailed-exitcode", "-no-color")


def target(made: Any) -> Any:
    """Return what the module says of the target."""
    return made.outputs()["target"]["value"]


REFUSED = {
    "project": "Our Project",
    "location": "europe",
    "bucket": "Their_Models",
    "prefix": "/team",
    "soft_delete_days": 3,
    "kms_key": "models",
    "repositories": ["Serving"],
    "deployer_members": {"prod": ["allUsers"]},
    "endpoint_shells": ["nobody"],
    "alerts": {"emails": ["nobody"]},
    "budget": {"usd": 10.5, "billing_account": "0AF1B2-C3D4E5-F60718"},
    "labels": {"cloudreg": "mine"},
    "name": "Cloudreg",
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_values_that_are_refused(root: Callable[..., Any], given: Any) -> None:
    """What Google would refuse is refused by name before anything is planned."""
    names = "\n".join(f'variable "{name}" {{}}' for name in REFUSED)
    arguments = "\n".join(f"  {name} = var.{name}" for name in REFUSED)
    made = root(
        f'provider "google" {{}}\nvariable "cloudreg" {{ type = any }}\n{names}\n'
        f'module "gcp" {{\n  source = "{MODULES}/gcp"\n  cloudreg = var.cloudreg\n{arguments}\n}}\n'
    )
    made.init()
    made.write("given.auto.tfvars.json", json.dumps({"cloudreg": given("gcp"), **REFUSED}))

    said = made.run("plan", "-no-color", code=1)

    for name in REFUSED:
        assert f"var.{name}" in said, name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_promises(root: Callable[..., Any]) -> None:
    """What the module promises in its own `terraform test` holds."""
    made = root("", name="unused")
    made.folder = made.folder.with_name("module")
    shutil.copytree(MODULES / "gcp", made.folder)
    made.init()

    assert "3 passed, 0 failed" in made.run("test", "-no-color")
