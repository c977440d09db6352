"""Specs as requests: names that say what they hold, nothing lost in an update."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import ConfigError, InvalidRequest, Unsupported
from cloudreg.types import (
    EndpointSpec,
    FileEntry,
    Manifest,
    ModelVersion,
    Resources,
    Runtime,
    Scaling,
    Variant,
)
from cloudreg_sagemaker import PLUGIN, checks, requests
from cloudreg_sagemaker.settings import DeploymentSettings

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/serve:1-cu124"
SECTION = {
    "region": "eu-central-1",
    "bucket": "our-models",
    "prefix": "team",
    "role": "arn:aws:iam::123456789012:role/model-servers",
    "image": IMAGE,
}
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def version(number: int, *, image: str | None = None) -> ModelVersion:
    runtime = Runtime(kind="custom", image=image) if image else None
    manifest = Manifest(
        files=(FileEntry(path="w", size=3, sha256=f"{number:064}"),), runtime=runtime
    )
    return ModelVersion(
        model="churn",
        number=number,
        digest=manifest.digest,
        manifest=manifest,
        author="ada",
        created_at="2026-01-01T00:00:00Z",
    )


def variant(made: ModelVersion, name: str = "primary", weight: int = 100, **more: Any) -> Variant:
    resources = Resources.parse(more.pop("gpu", None))
    return Variant(
        name=name,
        model="churn",
        number=made.number,
        digest=made.digest,
        weight=weight,
        resources=resources,
        scaling=Scaling(**more),
    )


def spec(*variants: Variant, name: str = "churn-prod", **env: str) -> EndpointSpec:
    return EndpointSpec(name=name, stage="prod", variants=variants, env=env)


def built(
    asked: EndpointSpec, *, counts: Mapping[str, int] | None = None, **section: Any
) -> requests.Requests:
    settings = PLUGIN.settings()(**{**SECTION, **section})
    versions = {v.digest: version(v.number) for v in asked.variants}
    made = requests.requests_for(asked, versions, settings, counts=counts or {}, target="aws")
    for model in made.models:
        checks.check_request("sagemaker", "CreateModel", model)
    checks.check_request("sagemaker", "CreateEndpointConfig", made.config)
    checks.check_request("sagemaker", "CreateEndpoint", made.endpoint)
    return made


def seen(*running: tuple[str, float, int], config: str = "churn-prod-a-b") -> dict[str, Any]:
    return {
        "EndpointName": "churn-prod",
        "EndpointConfigName": config,
        "ProductionVariants": [
            {
                "VariantName": name,
                "CurrentWeight": weight,
                "DesiredWeight": weight,
                "CurrentInstanceCount": count,
                "DesiredInstanceCount": count,
            }
            for name, weight, count in running
        ],
    }


ONE, TWO = version(1), version(2)


def test_container() -> None:
    """A container gets plain files below a prefix, its version's identity, and the user's words."""
    container = built(spec(variant(ONE), MARK="x")).models[0]["PrimaryContainer"]

    assert container["Image"] == IMAGE
    assert container["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": f"s3://our-models/team/versions/{ONE.digest.removeprefix('sha256:')}/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    assert container["Environment"] == {
        "MARK": "x",
        "CLOUDREG_PROVIDER": "sagemaker",
        "CLOUDREG_MODEL": "churn",
        "CLOUDREG_NUMBER": "1",
        "CLOUDREG_DIGEST": ONE.digest,
    }


def test_image_of_the_version() -> None:
    """A version that names its own image is served by it."""
    own = version(1, image="repo/own@sha256:" + "0" * 64)
    made = requests.requests_for(
        spec(variant(own)), {own.digest: own}, PLUGIN.settings()(**SECTION), counts={}, target="aws"
    )

    assert made.models[0]["PrimaryContainer"]["Image"].startswith("repo/own@")


def test_settings_arrive() -> None:
    """Everything that the target's section says of endpoints is in the requests."""
    made = built(
        spec(variant(ONE, gpu="L4")),
        vpc={"subnets": ["subnet-1"], "security_groups": ["sg-1"]},
        network_isolation=True,
        kms_key="alias/ours",
        health_check_timeout_s=900,
        download_timeout_s=1800,
        data_capture={"sample_percent": 20, "prefix": "seen"},
        machines={"L4": "ml.g6.2xlarge"},
    )
    model, running = made.models[0], made.config["ProductionVariants"][0]

    assert model["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert model["EnableNetworkIsolation"] is True
    assert model["ExecutionRoleArn"] == SECTION["role"]
    assert made.config["KmsKeyId"] == "alias/ours"
    assert running["InstanceType"] == "ml.g6.2xlarge"
    assert running["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    assert running["ContainerStartupHealthCheckTimeoutInSeconds"] == 900
    assert running["ModelDataDownloadTimeoutInSeconds"] == 1800
    capture = made.config["DataCaptureConfig"]
    assert capture["InitialSamplingPercentage"] == 20
    assert capture["DestinationS3Uri"] == "s3://our-models/team/seen/churn-prod"
    assert capture["KmsKeyId"] == "alias/ours"


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"weight": 60}, True),
        ({"min_replicas": 2, "max_replicas": 2}, True),
        ({"min_replicas": 1, "max_replicas": 5}, True),
        ({"target": 9.0}, True),
        ({"gpu": "L4"}, False),
        ({"name": "other"}, False),
        ({"made": TWO}, False),
        ({"env": {"MARK": "y"}}, False),
        ({"section": {"health_check_timeout_s": 900}}, False),
        ({"section": {"image": "repo/other:1"}}, False),
        ({"section": {"role": "arn:aws:iam::123456789012:role/another-one"}}, False),
        ({"section": {"data_capture": {"sample_percent": 1}}}, False),
        ({"section": {"kms_key": "alias/other"}}, False),
        ({"section": {"network_isolation": True}}, False),
    ],
)
def test_names_are_digests(change: dict[str, Any], is_same: bool) -> None:
    """A configuration's name tells whether instances have to be replaced, or numbers moved."""

    def name(
        *,
        made: ModelVersion = ONE,
        name: str = "primary",
        weight: int = 50,
        env: Mapping[str, str] | None = None,
        section: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        asked = spec(
            variant(made, name, weight, **more),
            variant(version(3), "canary", 100 - weight),
            **(env or {}),
        )
        return built(asked, **(section or {})).config_name

    assert name() == name()
    assert requests.is_same_frame(name(), name(**change)) is is_same


def test_endpoints_share_nothing() -> None:
    """Two endpoints with one version have models and configurations of their own."""
    one = built(spec(variant(ONE)))
    other = built(spec(variant(ONE), name="churn-test"))

    assert one.config_name != other.config_name
    assert one.models[0]["ModelName"] != other.models[0]["ModelName"]


def test_longest_names() -> None:
    """The longest names of ours still make names that SageMaker takes, and different ones."""
    stem = "e" * 62
    names = {built(spec(variant(ONE), name=stem + end)).config_name for end in "ab"}

    assert len(names) == 2


def test_environment_is_guarded() -> None:
    """What cloudreg sets itself, credentials, and more than a container takes are refused."""
    for env, words in (
        ({"CLOUDREG_DIGEST": "x"}, "CLOUDREG_DIGEST"),
        ({"AWS_SECRET_ACCESS_KEY": "x"}, "AWS_SECRET_ACCESS_KEY"),
        ({f"A{n}": "" for n in range(97)}, "96 at most"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            built(spec(variant(ONE), **env))
    built(spec(variant(ONE), **{f"A{n}": "" for n in range(96)}))


@pytest.mark.parametrize("missing", ["role", "image"])
def test_what_endpoints_need(missing: str) -> None:
    """Without a role or an image nothing can start; the hint is the line to write."""
    with pytest.raises(ConfigError, match=f"names no {missing}") as caught:
        built(spec(variant(ONE)), **{missing: None})

    assert str(caught.value.hint).startswith(f"{missing} = ")


def test_too_many_gpus() -> None:
    """A machine that does not exist is refused before anything is made."""
    with pytest.raises(Unsupported):
        built(spec(variant(ONE, gpu="L4:16")))


def test_first_count() -> None:
    """A variant begins with its least, or with what load had brought, within its bounds."""

    def count(now: int | None, **scaling: int) -> int:
        asked = spec(variant(ONE, **scaling))
        made = built(asked, counts={} if now is None else {"primary": now})
        return int(made.config["ProductionVariants"][0]["InitialInstanceCount"])

    assert count(None, min_replicas=2, max_replicas=9) == 2
    assert count(5, min_replicas=2, max_replicas=9) == 5
    assert count(12, min_replicas=2, max_replicas=9) == 9
    assert count(1, min_replicas=2, max_replicas=9) == 2


def test_update_keeps_and_repeats() -> None:
    """An update keeps the number of instances, and says weights and data capture anew."""
    asked = spec(variant(ONE, min_replicas=1, max_replicas=9))
    there = seen(("primary", 100, 4))
    made = built(asked, counts={"primary": 4}, data_capture={"sample_percent": 5})
    request = requests.update_for(made, there, DeploymentSettings())
    checks.check_request("sagemaker", "UpdateEndpoint", request)
    kept = [kind["VariantPropertyType"] for kind in request["ExcludeRetainedVariantProperties"]]

    assert request["RetainAllVariantProperties"] is True
    assert kept == ["DesiredWeight", "DataCaptureConfig"]
    assert "DataCaptureConfig" in made.config


def test_update_of_a_count() -> None:
    """A number of instances that the user changed is not what the endpoint had."""
    made = built(spec(variant(ONE, min_replicas=3, max_replicas=3)))
    request = requests.update_for(made, seen(("primary", 100, 2)), DeploymentSettings())

    assert {"VariantPropertyType": "DesiredInstanceCount"} in request[
        "ExcludeRetainedVariantProperties"
    ]


@pytest.mark.parametrize(
    ("settings", "gpu", "wanted"),
    [
        ({}, None, None),
        ({}, "L4", {"RollingUpdatePolicy"}),
        ({"strategy": "all_at_once"}, "L4", None),
        ({"strategy": "rolling", "step_percent": 20}, None, {"RollingUpdatePolicy"}),
        ({"strategy": "canary"}, None, {"BlueGreenUpdatePolicy"}),
        ({"strategy": "linear", "step_percent": 50}, None, {"BlueGreenUpdatePolicy"}),
        ({"alarms": ["p95"]}, None, {"BlueGreenUpdatePolicy", "AutoRollbackConfiguration"}),
        (
            {"strategy": "rolling", "alarms": ["p95"]},
            None,
            {"RollingUpdatePolicy", "AutoRollbackConfiguration"},
        ),
        ({"termination_wait_s": 60}, None, {"BlueGreenUpdatePolicy"}),
    ],
)
def test_deployment(settings: dict[str, Any], gpu: str | None, wanted: set[str] | None) -> None:
    """Scarce instances roll, others change all at once, unless the user says otherwise."""
    chosen = DeploymentSettings(**settings)
    asked = spec(variant(ONE, gpu=gpu, min_replicas=1, max_replicas=3))
    found = requests.deployment_for(asked, ("primary",), chosen)
    if found is not None:
        request = {"EndpointName": "x", "EndpointConfigName": "y", "DeploymentConfig": found}
        checks.check_request("sagemaker", "UpdateEndpoint", request)

    assert (None if found is None else set(found)) == wanted


def test_steps() -> None:
    """The size of a step is the user's, or a careful one."""

    def policy(**settings: Any) -> dict[str, Any]:
        chosen = DeploymentSettings(**settings)
        asked = spec(variant(ONE))
        found = requests.deployment_for(asked, ("primary",), chosen) or {}
        return dict(next(iter(found.values())))

    canary = policy(strategy="canary", wait_s=300, termination_wait_s=9, max_s=1200)
    assert canary["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
        "WaitIntervalInSeconds": 300,
    }
    assert canary["TerminationWaitInSeconds"] == 9
    assert canary["MaximumExecutionTimeoutInSeconds"] == 1200
    linear = policy(strategy="linear", step_percent=20)["TrafficRoutingConfiguration"]
    assert linear["LinearStepSize"]["Value"] == 20
    assert policy(strategy="rolling")["MaximumBatchSize"]["Value"] == 50


@pytest.mark.parametrize("running", [(), ("other",), ("primary", "canary")])
def test_guards_need_the_same_variant(running: tuple[str, ...]) -> None:
    """Where SageMaker accepts no steps, the change is all at once and the alarms still watch."""
    chosen = DeploymentSettings(strategy="rolling", step_percent=20, alarms=("p95",))
    found = requests.deployment_for(spec(variant(ONE)), running, chosen)

    assert found is not None
    assert found["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert found["AutoRollbackConfiguration"]["Alarms"] == [{"AlarmName": "p95"}]


@pytest.mark.parametrize(
    ("running", "wanted"),
    [
        ((("primary", 75, 2), ("canary", 25, 1)), []),
        ((("primary", 3, 2), ("canary", 1, 1)), []),
        (
            (("primary", 50, 2), ("canary", 50, 1)),
            [
                {"VariantName": "primary", "DesiredWeight": 75.0},
                {"VariantName": "canary", "DesiredWeight": 25.0},
            ],
        ),
        (
            (("primary", 75, 9), ("canary", 25, 2)),
            [
                {"VariantName": "primary", "DesiredInstanceCount": 4},
                {"VariantName": "canary", "DesiredInstanceCount": 1},
            ],
        ),
    ],
)
def test_capacities(
    running: tuple[tuple[str, float, int], ...], wanted: list[dict[str, Any]]
) -> None:
    """Only weights and counts that differ are set; load moves a count within its bounds."""
    asked = spec(
        variant(ONE, "primary", 75, min_replicas=1, max_replicas=4), variant(TWO, "canary", 25)
    )

    assert requests.capacities_for(asked, seen(*running)) == wanted


def test_weights_alone_make_no_model() -> None:
    """The same variants with other weights have the same models."""
    first = built(spec(variant(ONE, weight=90), variant(TWO, "canary", 10)))
    moved = replace(
        first.spec, variants=first.spec.weighted({"primary": 10, "canary": 90}).variants
    )

    assert [m["ModelName"] for m in built(moved).models] == [m["ModelName"] for m in first.models]
