"""A target's own objects, and the policy of a deployer, on the command line."""

from __future__ import annotations

import json
from typing import Any

TARGET = """
[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
account = "123456789012"
role = "arn:aws:iam::123456789012:role/model-servers"

[endpoints.churn-prod]
model = "churn"
stage = "prod"
target = "aws"
pool = "shared"
memory_mib = 2048
"""

GOOGLE = """
[targets.gcp]
provider = "vertex"
project = "our-project"
location = "us-central1"
bucket = "our-models"
"""


def test_native_version(churn: Any, cloudreg: Any) -> None:
    """A version is shown as its target has it, and the same as JSON."""
    said = cloudreg("show", "churn:1", "--native", "--json").json

    assert (said["ref"], said["target"]) == ("churn:1", "local")
    assert said["native"]["path"].endswith("churn/1.json")
    assert json.loads(cloudreg("show", "churn:1", "--native").out) == said["native"]


def test_native_is_refused(churn: Any, cloudreg: Any) -> None:
    """A target without --native, one that is not there, and an endpoint that is not are refused."""
    assert cloudreg("show", "churn:1", "--target", "local").code == 64
    assert cloudreg("show", "churn:1", "--native", "--target", "nowhere").code != 0
    assert cloudreg("status", "churn", "--native", "churn-prod").code == 64
    assert cloudreg("status", "--native", "nobody").code != 0


def test_policy(project: Any, cloudreg: Any) -> None:
    """The doctor prints a cloud's policy for what is configured, and opens nothing for it."""
    project.configure(TARGET)
    before = project.files()
    said = cloudreg("doctor", "--iam", "sagemaker", "--stage", "staging", "--json").json
    document = json.loads(cloudreg("doctor", "--iam", "sagemaker").out)

    assert (said["target"], said["stage"]) == ("aws", "staging")
    assert {one["Effect"] for one in said["policy"]["Statement"]} == {"Allow", "Deny"}
    assert {one["Effect"] for one in document["Statement"]} == {"Allow"}
    assert "endpoint/churn-prod" in json.dumps(document)
    assert "endpoint/shared" in json.dumps(document)  # the pool that it is in
    assert project.files() == before


def test_policy_of_copies_by_a_service(project: Any, cloudreg: Any) -> None:
    """Only a target with a limit has a service copy, and is shown with it and permitted to."""
    project.configure(GOOGLE)
    without = cloudreg("doctor", "--iam", "vertex").out
    assert "storagetransfer" not in without
    project.configure(GOOGLE + 'transfer_above = "50GB"\n')
    assert "storagetransfer.jobs.create" in cloudreg("doctor", "--iam", "vertex").out
    said = cloudreg("config", "explain", "targets.gcp.transfer_above", "--json").json
    (value,) = said["values"]
    assert value["value"] == "50GB"
    assert value["source"].startswith("cloudreg.toml, line ")


def test_policy_is_refused(project: Any, cloudreg: Any) -> None:
    """A provider without policies or targets, an unknown stage and a stray option are refused."""
    project.configure(TARGET)
    for words in (
        ("--iam", "local"),
        ("--iam", "vertex"),
        ("--iam", "sagemaker", "--stage", "nowhere"),
        ("--iam", "sagemaker", "--target", "local"),
        ("--stage", "prod"),
    ):
        assert cloudreg("doctor", *words).code != 0, words
