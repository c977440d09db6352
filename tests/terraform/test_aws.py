"""The AWS module with AWS's real provider, against the emulator, with cloudreg beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import onnx
import pytest
from onnx import TensorProto, helper

from cloudreg import Workspace, plugins
from cloudreg.cli import main
from cloudreg.cli.permissions import deployed
from cloudreg_emulator.aws.environment import applied
from cloudreg_emulator.aws.iam.policies import ALLOWED, EXPLICIT_DENY, Policy, decide
from cloudreg_emulator.aws.server import AwsServer
from cloudreg_sagemaker import PLUGIN

MODULES = Path(__file__).parents[2] / "terraform" / "modules"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.usefixtures("aws_provider")]

TEXT = f"""
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws" }}
  }}
}}

variable "cloudreg" {{ type = any }}
variable "repositories" {{ default = ["churn/server"] }}

# Nothing of the emulator stands here: all of it is in the environment.
provider "aws" {{}}

module "aws" {{
  source        = "{MODULES}/aws"
  cloudreg      = var.cloudreg
  bucket        = "our-models-7f3a"
  prefix        = "team/churn"
  force_destroy = true
  image         = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudreg-real:1"
  repositories  = var.repositories
  alerts        = {{ emails = ["oncall@example.com"] }}
  budget        = {{ usd = 500, emails = ["boss@example.com"] }}

  transfer_subject = "104728193745610293847"
}}

output "cloudreg" {{
  value = {{
    contract = 1
    targets  = {{ aws = module.aws.target }}
    facts    = {{ aws = module.aws.facts }}
  }}
}}
output "policies" {{ value = module.aws.deployer_policies }}
output "bucket_policy" {{ value = module.aws.bucket_policy }}
output "transfer_role_arn" {{ value = module.aws.transfer_role_arn }}
"""

CONFIG = """
home = "aws"

[terraform]
outputs = "outputs.json"

[targets.aws]
provider = "sagemaker"
endpoint_url = "{url}"
health_check_timeout_s = 3600

[stages.dev]
[stages.staging]
gates = []
[stages.prod]
gates = []

[models.churn]

[endpoints.churn-prod]
model = "churn"
stage = "prod"
gpu = "A10G"
max_replicas = 2
rollout = {{ max_error_rate = 0.01, max_p95_ms = 250 }}
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


@pytest.fixture
def server() -> Iterator[AwsServer]:
    images = {"*/cloudreg-real:*": [sys.executable, "-P", "-m", "cloudreg.serving"]}
    with AwsServer(images=images, scale=0.02) as server, applied(server.environment()):
        yield server


def test_whole_life(
    root: Callable[..., Any],
    server: AwsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Apply, clean; cloudreg deploys, still clean; an update touches nothing of it; destroy."""
    plugins.register(PLUGIN)
    monkeypatch.chdir(tmp_path)
    made = root(TEXT, env=server.process_environment(), name="infra")
    (tmp_path / "cloudreg.toml").write_text(CONFIG.format(url=server.url))
    # What Terraform says is not there yet: the names come from the other side first.
    (tmp_path / "first.toml").write_text(first_configuration())
    assert (
        main(["--config", "first.toml", "tf", "vars", "--out", "infra/cloudreg.auto.tfvars.json"])
        == 0
    )
    made.init()
    made.run("apply", "-auto-approve", "-no-color")
    clean(made)
    (tmp_path / "outputs.json").write_text(json.dumps(made.outputs()))

    with Workspace.load(tmp_path / "cloudreg.toml") as ws:
        check_policies(ws, made.outputs())
        check_ledger(made.outputs()["bucket_policy"]["value"])
        check_transfer(made.outputs()["transfer_role_arn"]["value"])
        version = ws.register("churn", save(tmp_path / "model", 2.0))
        for stage in ("dev", "staging", "prod"):
            ws.promote(version, to=stage)
        said = ws.endpoint("churn-prod").predict({"instances": [[1.0, 2.0]]})
        assert said["predictions"][0] == [2.0, 4.0]
        clean(made)

        made.write("more.auto.tfvars.json", json.dumps({"repositories": ["churn/server", "more"]}))
        made.run("plan", "-out=plan.bin", "-no-color")
        (tmp_path / "plan.json").write_text(made.run("show", "-json", "plan.bin"))
        capsys.readouterr()
        assert main(["tf", "check", "plan.json"]) == 0, capsys.readouterr().err
        assert "1 added, 0 changed, 0 destroyed" in made.run("apply", "-no-color", "plan.bin")
        clean(made)
        assert ws.drift("churn") == []

        made.run("plan", "-destroy", "-out=plan.bin", "-no-color")
        (tmp_path / "plan.json").write_text(made.run("show", "-json", "plan.bin"))
        assert main(["tf", "check", "plan.json"]) == 3
        ws.down()
    # A group that has versions is kept by AWS too: whoever means it removes them.
    assert "it has Model Packages" in made.run("destroy", "-auto-approve", "-no-color", code=1)
    sagemaker = boto3.client("sagemaker")
    listed = sagemaker.list_model_packages(ModelPackageGroupName="churn")
    for package in listed["ModelPackageSummaryList"]:
        sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    made.run("destroy", "-auto-approve", "-no-color")
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def clean(made: Any) -> None:
    """Fail unless Terraform has nothing to do."""
    assert "No changes" in made.run("plan", "-detailed-exitcode", "-no-color")


def first_configuration() -> str:
    """Return the configuration before Terraform has said anything."""
    lines = CONFIG.format(url="http://127.0.0.1:1").replace(
        '[terraform]\noutputs = "outputs.json"\n', ""
    )
    return lines.replace(
        'provider = "sagemaker"\n',
        'provider = "sagemaker"\nregion = "us-east-1"\nbucket = "our-models-7f3a"\n',
    )


def check_policies(ws: Workspace, outputs: Any) -> None:
    """Fail unless every stage's role may do what cloudreg says, to the last statement."""
    _, options = ws.targets.options("aws")
    for stage in ("dev", "staging", "prod"):
        wanted: Any = PLUGIN.policy(options, deployed(ws.settings, "aws", stage))  # type: ignore[misc]
        found = json.loads(outputs["policies"]["value"][stage])
        assert by_name(found) == by_name(wanted), stage
        role = boto3.client("iam").get_role_policy(
            RoleName=f"cloudreg-deployer-{stage}", PolicyName="cloudreg"
        )
        assert by_name(role["PolicyDocument"]) == by_name(wanted), stage


def by_name(document: Any) -> Any:
    """Return a policy's statements by their names; those that grant nothing are not there."""
    return {one["Sid"]: one for one in document["Statement"]}


def check_ledger(text: str) -> None:
    """Fail unless an entry is written once, and never removed, by anybody."""
    everybody = Policy(name="all", kind="role", document=json.dumps(ALL))
    bucket = Policy(name="bucket", kind="resource", document=text)
    key = "arn:aws:s3:::our-models-7f3a/team/churn/"

    def outcome(action: str, resource: str, **context: str) -> str:
        tls = {"aws:securetransport": ["true"]}
        more = {k.replace("__", ":").replace("_", "-").lower(): [v] for k, v in context.items()}
        return decide([everybody, bucket], action, resource, {**tls, **more}).outcome

    entry, blob = f"{key}ledger/churn/00000/00000001.json", f"{key}blobs/1"
    created = {"s3__objectcreationoperation": "true"}
    assert outcome("s3:PutObject", entry, s3__if_none_match="*", **created) == ALLOWED
    assert outcome("s3:PutObject", entry, **created) == EXPLICIT_DENY
    assert outcome("s3:DeleteObject", entry) == EXPLICIT_DENY
    assert outcome("s3:PutObject", blob, **created) == ALLOWED
    assert outcome("s3:DeleteObject", blob) == ALLOWED
    plain = {"aws:securetransport": ["false"]}
    assert decide([everybody, bucket], "s3:GetObject", blob, plain).outcome == EXPLICIT_DENY


def check_transfer(arn: str) -> None:
    """Fail unless Google's service alone may read files of versions, and nothing more."""
    assert arn == "arn:aws:iam::123456789012:role/cloudreg-transfer"
    iam = boto3.client("iam")
    (trust,) = iam.get_role(RoleName="cloudreg-transfer")["Role"]["AssumeRolePolicyDocument"][
        "Statement"
    ]
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert trust["Principal"] == {"Federated": "accounts.google.com"}
    subject = {"accounts.google.com:sub": "104728193745610293847"}
    assert trust["Condition"] == {"StringEquals": subject}
    found = iam.get_role_policy(RoleName="cloudreg-transfer", PolicyName="transfer")
    policy = Policy(name="role", kind="role", document=json.dumps(found["PolicyDocument"]))
    bucket = "arn:aws:s3:::our-models-7f3a"
    prefix = {"s3:prefix": ["team/churn/blobs/1"]}
    assert decide([policy], "s3:GetObject", f"{bucket}/team/churn/blobs/1/a", {}).outcome == ALLOWED
    assert decide([policy], "s3:ListBucket", bucket, prefix).outcome == ALLOWED
    for action, resource in (
        ("s3:GetObject", f"{bucket}/team/churn/ledger/churn/1"),
        ("s3:PutObject", f"{bucket}/team/churn/blobs/1/a"),
        ("s3:ListBucket", bucket),
    ):
        assert decide([policy], action, resource, {}).outcome != ALLOWED


ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


def test_state_in_s3(root: Callable[..., Any], server: AwsServer) -> None:
    """State is kept in a bucket with its lock beside it, and a lock that is held is respected."""
    boto3.client("s3").create_bucket(Bucket="states")
    text = """
    terraform {
      backend "s3" {
        bucket       = "states"
        key          = "models/terraform.tfstate"
        region       = "us-east-1"
        use_lockfile = true
      }
    }
    variable "word" { default = "one" }
    output "word" { value = var.word }
    """
    made = root(text, env={**server.process_environment(), "AWS_S3_USE_PATH_STYLE": "true"})
    backend = ("-backend-config=use_path_style=true", "-backend-config=skip_s3_checksum=true")
    made.init(*backend)
    made.run("apply", "-auto-approve", "-no-color")
    s3 = boto3.client("s3")
    keys = {one["Key"] for one in s3.list_objects_v2(Bucket="states")["Contents"]}
    assert keys == {"models/terraform.tfstate"}

    lock = {"ID": "0", "Operation": "apply", "Who": "somebody", "Info": "", "Path": "states"}
    lock |= {"Version": "1.11.4", "Created": "2026-11-25T00:00:00Z"}
    s3.put_object(Bucket="states", Key="models/terraform.tfstate.tflock", Body=json.dumps(lock))
    said = made.run("apply", "-auto-approve", "-no-color", "-var", "word=two", code=1)
    assert "Error acquiring the state lock" in said
    assert "somebody" in said

    s3.delete_object(Bucket="states", Key="models/terraform.tfstate.tflock")
    made.run("apply", "-auto-approve", "-no-color", "-var", "word=two")
    assert made.outputs()["word"]["value"] == "two"
