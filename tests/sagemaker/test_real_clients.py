"""Clients that nobody here wrote read what cloudreg made, and drive its endpoints."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import AlreadyExists
from cloudreg.testing.base import fresh
from cloudreg.testing.batches import job
from cloudreg.testing.serving import spec, variant
from cloudreg.types import ModelVersion, Scaling

AWS = Path(os.environ.get("BENCH_PEERS", "")) / "bin" / "aws"
SDK = Path(os.environ.get("SAGEMAKER_SDK", "")) / "bin" / "python"
CLIENT = Path(__file__).with_name("sdk_client.py")

needs_cli = pytest.mark.skipif(
    "BENCH_PEERS" not in os.environ or not AWS.exists(),
    reason="NOT TESTED WITH THE AWS CLI: BENCH_PEERS names an environment with bin/aws",
)
needs_sdk = pytest.mark.skipif(
    "SAGEMAKER_SDK" not in os.environ or not SDK.exists(),
    reason="NOT TESTED WITH THE SAGEMAKER SDK: SAGEMAKER_SDK names an environment with it",
)


@pytest.fixture
def made(desk: Any, model: str) -> tuple[ModelVersion, str, str]:
    """Publish a version in prod and serve it: the version, its ARN and its endpoint."""
    version = desk.version(1, model=model)
    arn = desk.registry.publish(version).native_id
    desk.registry.point(model, "prod", version.digest)
    name = desk.server.name()
    served = desk.server.version(1)
    desk.start(spec(name, variant("primary", served)))
    return version, arn, name


def run(cloud: Any, *words: str, **more: str) -> Any:
    done = subprocess.run(
        words,
        env={**cloud.server.process_environment(), **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1] if more else done.stdout)


def test_boto3(desk: Any, cloud: Any, made: tuple[ModelVersion, str, str]) -> None:
    """Plain boto3 reads group, package and metadata, and predicts."""
    version, arn, name = made
    client = desk.client
    listed = client.list_model_packages(ModelPackageGroupName=version.model)
    package = client.describe_model_package(ModelPackageName=arn)
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, Body=b"{}", ContentType="application/json"
    )

    assert [one["ModelPackageArn"] for one in listed["ModelPackageSummaryList"]] == [arn]
    assert package["CustomerMetadataProperties"]["cloudreg.digest"] == version.digest
    assert package["ModelLifeCycle"]["Stage"] == "Production"
    assert json.loads(answer["Body"].read())["number"] == 1


@pytest.mark.slow
@needs_cli
def test_aws_cli(cloud: Any, made: tuple[ModelVersion, str, str], tmp_path: Path) -> None:
    """The AWS CLI reads the package and the endpoint, and predicts."""
    version, arn, name = made
    sagemaker = (str(AWS), "sagemaker")
    package = run(cloud, *sagemaker, "describe-model-package", "--model-package-name", arn)
    endpoint = run(cloud, *sagemaker, "describe-endpoint", "--endpoint-name", name)
    out = tmp_path / "answer"
    run(
        cloud, str(AWS), "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", name,
        "--content-type", "application/json", "--body", "{}", str(out),
    )  # fmt: skip

    assert package["ModelPackageDescription"].endswith(version.digest)
    assert endpoint["EndpointStatus"] == "InService"
    assert json.loads(out.read_text())["number"] == 1


@pytest.mark.slow
@needs_sdk
def test_sagemaker_sdk(desk: Any, cloud: Any, made: tuple[ModelVersion, str, str]) -> None:
    """The SDK's resources read and predict, cloudreg hands them out, and takes no stranger's."""
    version, arn, name = made
    stranger = fresh("theirs")
    asked = {
        "model": version.model,
        "digest": version.digest,
        "package": arn,
        "endpoint": name,
        "stranger": stranger,
        "section": {**cloud.section, "endpoint_url": cloud.server.url},
    }
    said = run(cloud, str(SDK), str(CLIENT), "read", ASKED=json.dumps(asked))

    assert said["group"] == version.model
    assert said["described"].endswith(version.digest)
    assert said["listed"] == [said["described"]]
    assert (said["stage"], said["status"]) == ("Production", "InService")
    assert said["answer"]["number"] == 1
    assert said["handed"] == ["sagemaker.core.resources", "ModelPackage", arn]
    assert said["served"] == ["sagemaker.core.resources", "Endpoint", name]
    assert list(desk.registry.published(stranger)) == []
    with pytest.raises(AlreadyExists, match="cloudreg did not make it"):
        desk.registry.publish(desk.version(1, model=stranger))


@pytest.mark.slow
@needs_sdk
def test_sagemaker_sdk_lists(desk: Any, cloud: Any, made: tuple[ModelVersion, str, str]) -> None:
    """The SDK's listings find what cloudreg made of every kind, by name, state and order."""
    version, arn, name = made
    other = desk.registry.publish(desk.version(2, model=version.model)).native_id
    resting = Scaling(min_replicas=0, max_replicas=1, scale_in_cooldown_s=86_400.0)
    rests = desk.start(
        spec(desk.server.name(), variant("primary", desk.server.version(1), scaling=resting))
    )
    scored = desk.server.version(1)
    asked = job(scored)
    desk.provider.store.put(b"{}\n", f"{asked.input}0.jsonl")
    desk.provider.batch.start(asked, version=scored)
    words = {"model": version.model, "endpoint": name, "resting": rests.name, "job": asked.name}
    said = run(cloud, str(SDK), str(CLIENT), "list", ASKED=json.dumps(words))
    config = desk.describe(name)["EndpointConfigName"]

    assert said["groups"] == [version.model]
    assert said["packages"] == [arn, other]
    assert said["images"] == [cloud.section["image"]] * 2
    assert said["approved"] == [arn]
    assert said["endpoints"] == [name]
    assert said["configs"] == [config]
    assert (len(said["models"]), said["image"]) == (1, cloud.section["image"])
    assert len(said["components"]) == 1
    assert said["jobs"] == [asked.name]
    assert said["tags"] == {"cloudreg": version.model}


@pytest.mark.slow
@needs_sdk
def test_addresses_of_images(cloud: Any) -> None:
    """Every address that a name of AWS's stands for is the SDK's own."""
    said = run(cloud, str(SDK), str(CLIENT), "agree", AGREE="1")

    assert said["different"] == []
    assert said["same"] > 100
