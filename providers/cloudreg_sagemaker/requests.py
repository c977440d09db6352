"""Specs to the requests that SageMaker is sent; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg.errors import ConfigError, InvalidRequest, Unsupported
from cloudreg.objects.layout import files_prefix
from cloudreg.objects.packing import archive_key
from cloudreg.types import EndpointSpec, ModelVersion, Scaling, Serverless, Variant
from cloudreg_sagemaker import images, packages, queues
from cloudreg_sagemaker.machines import ami_for, machines_for, units_of
from cloudreg_sagemaker.naming import config_stem, digest_of, owner_of, word_of
from cloudreg_sagemaker.wire import shares_of

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import DeploymentSettings, SageMakerSettings

_OWN = frozenset(packages.environment("m", 1, ""))
_CREDENTIALS = frozenset(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"}
)

_DEFAULT_STEP = {"canary": 10, "linear": 25, "rolling": 50}
"""Percent of the capacity, where the settings name none."""

ENVIRONMENT_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Everything that an endpoint needs, ready to be sent.

    Attributes:
        spec: What was asked for.
        models: CreateModel for each variant, in their order.
        config: CreateEndpointConfig.
        place: Where it is written down, for the endpoint's tag.
    """

    spec: EndpointSpec
    models: tuple[dict[str, Any], ...]
    config: dict[str, Any]
    place: str

    @property
    def config_name(self) -> str:
        """The configuration's name."""
        return str(self.config["EndpointConfigName"])

    @property
    def endpoint(self) -> dict[str, Any]:
        """CreateEndpoint."""
        return {
            "EndpointName": self.spec.name,
            "EndpointConfigName": self.config_name,
            "Tags": [*tags(self.spec), {"Key": packages.PLACE, "Value": self.place}],
        }


def requests_for(
    spec: EndpointSpec,
    artifacts: Mapping[str, ModelVersion],
    settings: SageMakerSettings,
    *,
    counts: Mapping[str, int],
    target: str,
) -> Requests:
    """Return what has to be sent for *spec*.

    Args:
        spec: What is asked for.
        artifacts: The version of each digest.
        settings: The target's.
        counts: How many instances an autoscaled variant has now, by its name.
        target: For messages.

    Raises:
        ConfigError: The settings lack a role or an image.
        InvalidRequest: The environment cannot be given to a container, or holds credentials.
        Unsupported: No machine fits.
    """
    check_environment(spec.env, target=target)
    models, variants = [], []
    for variant in spec.variants:
        model = _model(spec, variant, artifacts[variant.digest], settings, target=target)
        models.append(model)
        if spec.serverless is not None:
            variants.append(_serverless(variant, model, spec.serverless))
        else:
            variants.append(_variant(variant, model, settings, target=target))
    config: dict[str, Any] = {"ProductionVariants": variants, "Tags": tags(spec)}
    if spec.shadow is not None:
        shadow = spec.shadow
        models.append(_model(spec, shadow, artifacts[shadow.digest], settings, target=target))
        # Its part is told by the ratio of the two weights, and the production variant has 100:
        # https://docs.aws.amazon.com/sagemaker/latest/dg/model-shadow-deployment.html
        request = _variant(shadow, models[-1], settings, target=target)
        request["InitialVariantWeight"] = float(shadow.weight)
        request["InitialInstanceCount"] = shadow.scaling.min_replicas
        config["ShadowProductionVariants"] = [request]
    if spec.asynchronous is not None:
        config["AsyncInferenceConfig"] = queues.config(spec, settings)
    if settings.data_capture is not None:
        capture = settings.data_capture
        config["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture.sample_percent,
            "DestinationS3Uri": settings.uri(f"{capture.prefix}/{spec.name}"),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        }
        if settings.kms_key is not None:
            config["DataCaptureConfig"]["KmsKeyId"] = settings.kms_key
    if settings.kms_key is not None:
        config["KmsKeyId"] = settings.kms_key
    frame = digest_of([spec.name, config])
    for variant, request in zip(spec.variants, variants, strict=True):
        request["InitialVariantWeight"] = float(variant.weight)
        if spec.serverless is None:
            request["InitialInstanceCount"] = _count(variant.scaling, counts.get(variant.name))
    start = [[v["InitialVariantWeight"], v.get("InitialInstanceCount")] for v in variants]
    stem = config_stem(spec.name)
    config["EndpointConfigName"] = f"{stem}-{frame[:12]}-{digest_of(start)[:8]}"
    return Requests(spec=spec, models=tuple(models), config=config, place=settings.uri(""))


def is_same_frame(config: str | None, other: str) -> bool:
    """Whether two configurations differ in weights and counts alone: their names tell."""
    return config is not None and config.rpartition("-")[0] == other.rpartition("-")[0]


def check_environment(env: Mapping[str, str], *, target: str) -> None:
    """Refuse an environment that a container would not get as it is.

    Raises:
        InvalidRequest: With the variable's name.
    """
    taken = sorted(_OWN & set(env))
    if taken:
        raise InvalidRequest(f"env: {taken[0]} is set by cloudreg itself", target=target)
    secret = sorted(_CREDENTIALS & set(env))
    if secret:
        raise InvalidRequest(
            f"env: {secret[0]} would show credentials to everybody who may look at the model",
            target=target,
            hint="give the permission to the role of the target's section",
        )
    if len(env) + len(_OWN) > ENVIRONMENT_MAX:
        raise InvalidRequest(
            f"env: {len(env)} variables, {ENVIRONMENT_MAX - len(_OWN)} at most", target=target
        )


def tags(spec: EndpointSpec) -> list[dict[str, str]]:
    """Return the tags of what is made for an endpoint."""
    return [
        {"Key": packages.TAG, "Value": spec.name},
        {"Key": f"{packages.TAG}:model", "Value": spec.model},
        {"Key": f"{packages.TAG}:stage", "Value": spec.stage},
    ]


def _model(
    spec: EndpointSpec,
    variant: Variant,
    version: ModelVersion,
    settings: SageMakerSettings,
    *,
    target: str,
) -> dict[str, Any]:
    image = images.image_for(version, settings, resources=variant.resources, target=target)
    for name, value in (("role", settings.role), ("image", image)):
        if value is None:
            raise ConfigError(
                f"endpoint {spec.name}: the target's section names no {name}",
                target=target,
                hint=NEEDED[name],
            )
    own = packages.environment(variant.model, variant.number, variant.digest)
    request: dict[str, Any] = {
        "PrimaryContainer": {
            "Image": image,
            **_files(spec, variant, settings),
            "Environment": {**spec.env, **own},
        },
        "ExecutionRoleArn": settings.role,
        "EnableNetworkIsolation": settings.network_isolation,
        "Tags": tags(spec),
    }
    if settings.vpc is not None:
        request["VpcConfig"] = {
            "Subnets": list(settings.vpc.subnets),
            "SecurityGroupIds": list(settings.vpc.security_groups),
        }
    # A model belongs to one endpoint, so that it can go with it.
    word = owner_of(spec.name) + word_of([spec.name, request], 9)
    request["ModelName"] = f"{variant.model}-{variant.number}-{word}"
    return request


def _files(spec: EndpointSpec, variant: Variant, settings: SageMakerSettings) -> dict[str, Any]:
    """Return where a container's files are.

    Source: ModelDataSource of ContainerDefinition in botocore's service model: not with
    serverless endpoints and batch transform, which take one ``.tar.gz``.
    """
    if spec.serverless is not None:
        return {"ModelDataUrl": settings.uri(archive_key(variant.digest))}
    return {"ModelDataSource": packages.data_source(settings.uri(files_prefix(variant.digest)))}


NEEDED = {
    "role": 'role = "arn:aws:iam::<account>:role/<role of the model servers>"',
    "image": 'image = "<account>.dkr.ecr.<region>.amazonaws.com/<repository>@sha256:…"',
}


def _variant(
    variant: Variant, model: Mapping[str, Any], settings: SageMakerSettings, *, target: str
) -> dict[str, Any]:
    names = machines_for(variant.resources, settings.machines, target=target)
    _check_scalable(variant, names, settings, target=target)
    request = {
        "VariantName": variant.name,
        "ModelName": model["ModelName"],
        **_machines(names),
        "ModelDataDownloadTimeoutInSeconds": settings.download_timeout_s,
        "ContainerStartupHealthCheckTimeoutInSeconds": settings.health_check_timeout_s,
        # Random routing lets requests queue at one instance while another is idle.
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    ami = ami_for(model["PrimaryContainer"]["Image"], accelerator=variant.resources.accelerator)
    if variant.resources.accelerator is not None:
        ami = settings.inference_ami or ami
    if ami is not None:
        request["InferenceAmiVersion"] = ami
    return request


def _serverless(variant: Variant, model: Mapping[str, Any], asked: Serverless) -> dict[str, Any]:
    """Return a variant without machines; what speaks of them is refused beside it."""
    config = {"MemorySizeInMB": asked.memory_mib, "MaxConcurrency": asked.max_concurrency}
    if asked.provisioned_concurrency is not None:
        config["ProvisionedConcurrency"] = asked.provisioned_concurrency
    return {
        "VariantName": variant.name,
        "ModelName": model["ModelName"],
        "ServerlessConfig": config,
    }


def types_of(variant: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the instance types of a ProductionVariant, the first choice first."""
    pools = sorted(variant.get("InstancePools") or (), key=lambda pool: pool["Priority"])
    return tuple(pool["InstanceType"] for pool in pools) or (variant.get("InstanceType", ""),)


def _machines(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the machines of a variant: the first has priority."""
    if len(names) == 1:
        return {"InstanceType": names[0]}
    pools = [{"InstanceType": name, "Priority": place} for place, name in enumerate(names, 1)]
    return {"InstancePools": pools}


def _check_scalable(
    variant: Variant, names: tuple[str, ...], settings: SageMakerSettings, *, target: str
) -> None:
    """Refuse what Application Auto Scaling would not scale, or would measure wrongly.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-prerequisites.html
    """
    if not variant.scaling.autoscaled:
        return
    burstable = next((name for name in names if name.startswith("ml.t2.")), None)
    if burstable is not None:
        raise Unsupported(
            f"variant {variant.name}: {burstable} is burstable, and cannot be autoscaled",
            target=target,
            hint='machine_type = "ml.m5.large"',
        )
    units_of(variant.resources, variant.scaling.metric, settings.machines, target=target)


def _count(scaling: Scaling, now: int | None) -> int:
    """Return with how many instances a variant begins: what load brought stays."""
    least = max(1, scaling.min_replicas)
    return min(max(now or least, least), scaling.max_replicas)


def deployment_for(
    spec: EndpointSpec, running: tuple[str, ...], settings: DeploymentSettings
) -> dict[str, Any] | None:
    """Return ``DeploymentConfig`` of an update; None for SageMaker's default, all at once.

    Args:
        spec: What the endpoint becomes.
        running: Names of the variants that it has.
        settings: What the user wants where SageMaker can do it: with one variant, before and
            after the same.
    """
    alarms = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": a} for a in settings.alarms]}}
    # A rolling update has nothing to roll where there are no instances:
    # https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-rolling.html
    has_machines = spec.serverless is None
    is_single = has_machines and len(spec.variants) == 1 and running == (spec.variants[0].name,)
    # https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html
    is_single = is_single and spec.shadow is None
    strategy = settings.strategy if is_single else "all_at_once"
    variant = spec.variants[0]
    if strategy == "auto":
        is_scarce = variant.resources.accelerator is not None and variant.scaling.max_replicas > 1
        strategy = "rolling" if is_scarce else "all_at_once"
    step = settings.step_percent if is_single else None
    size = {"Type": "CAPACITY_PERCENT", "Value": step or _DEFAULT_STEP.get(strategy, 100)}
    policy: dict[str, Any]
    if strategy == "rolling":
        policy = {"MaximumBatchSize": size, "WaitIntervalInSeconds": settings.wait_s}
        named = "RollingUpdatePolicy"
    else:
        routing: dict[str, Any] = {
            "Type": strategy.upper(),
            "WaitIntervalInSeconds": settings.wait_s if settings.alarms or step else 0,
        }
        if strategy == "canary":
            routing |= {"CanarySize": size, "WaitIntervalInSeconds": settings.wait_s}
        elif strategy == "linear":
            routing |= {"LinearStepSize": size, "WaitIntervalInSeconds": settings.wait_s}
        policy = {"TrafficRoutingConfiguration": routing}
        if settings.termination_wait_s:
            policy["TerminationWaitInSeconds"] = settings.termination_wait_s
        named = "BlueGreenUpdatePolicy"
    if settings.max_s is not None:
        policy["MaximumExecutionTimeoutInSeconds"] = settings.max_s
    if strategy == "all_at_once" and not settings.alarms and len(policy) == 1:
        return None
    return {named: policy, **(alarms if settings.alarms else {})}


def update_for(
    requests: Requests,
    seen: Mapping[str, Any],
    settings: DeploymentSettings,
    *,
    native: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return UpdateEndpoint.

    What load made of the number of instances stays, weights and data capture are those that are
    asked for: an update that does not say so loses all three.

    Args:
        requests: What is asked for.
        seen: DescribeEndpoint.
        settings: How instances are replaced.
        native: ``DeploymentConfig`` of a rollout whose steps SageMaker takes.
    """
    running = {v["VariantName"]: v for v in seen.get("ProductionVariants", ())}
    excluded = ["DesiredWeight", "DataCaptureConfig"]
    for variant in requests.config["ProductionVariants"]:
        there = running.get(variant["VariantName"])
        if there is None:
            continue
        if there.get("DesiredInstanceCount") != variant.get("InitialInstanceCount"):
            excluded.append("DesiredInstanceCount")
            break
    request: dict[str, Any] = {
        "EndpointName": requests.spec.name,
        "EndpointConfigName": requests.config_name,
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": kind} for kind in excluded],
    }
    deployment = native or deployment_for(requests.spec, tuple(running), settings)
    if deployment is not None:
        request["DeploymentConfig"] = deployment
    return request


def capacities_for(spec: EndpointSpec, seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what UpdateEndpointWeightsAndCapacities has to change; nothing where all is right.

    Args:
        spec: What is asked for.
        seen: DescribeEndpoint.
    """
    running = {v["VariantName"]: v for v in seen.get("ProductionVariants", ())}
    shares = shares_of(seen)
    wanted: list[dict[str, Any]] = []
    is_weighted = any(shares.get(v.name) != v.weight for v in spec.variants)
    for variant in spec.variants:
        now = running.get(variant.name, {}).get("DesiredInstanceCount")
        scaling = variant.scaling
        # None at all is right where a queue wakes it.
        count = min(max(now or 0, scaling.min_replicas), scaling.max_replicas)
        change: dict[str, Any] = {}
        if is_weighted:
            change["DesiredWeight"] = float(variant.weight)
        if now is not None and count != now:
            change["DesiredInstanceCount"] = count
        if change:
            wanted.append({"VariantName": variant.name, **change})
    return wanted
