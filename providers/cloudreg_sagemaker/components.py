"""Inference components: the shape of an endpoint that scales to zero, or shares its machines.

A variant with a model keeps an instance for ever. So an endpoint that may rest has instances
without a model, and one inference component whose copies come and go; the instances follow them.
The component has the endpoint's name. In a pool the instances are those of an endpoint of SageMaker
that has the pool's name, and carry the components of several endpoints. What runs is told by
names: that of the configuration, of the component's model, and of the pool.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cloudreg.errors import AlreadyExists, NotFound, Unsupported
from cloudreg.names import canonical_json
from cloudreg.types import EndpointSpec, ModelVersion
from cloudreg_sagemaker import checks, packages
from cloudreg_sagemaker import requests as outgoing
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.machines import cpus_of

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import SageMakerSettings

VARIANT = "primary"

MARK = "-rest"
"""How names of configurations end whose instances carry components."""

MOST_INSTANCES = 100
"""Bound of the instances; they follow the copies, whose bound is the user's."""

LEAST_MEMORY_MIB = 1024
"""What a copy asks for, so that it is placed: the machine is its own."""

_STARTUP = (
    "ModelDataDownloadTimeoutInSeconds",
    "ContainerStartupHealthCheckTimeoutInSeconds",
)


def is_component(spec: EndpointSpec) -> bool:
    """Whether an endpoint needs this shape."""
    return spec.rests or spec.pool is not None


def host_of(spec: EndpointSpec) -> str:
    """Return what SageMaker calls the endpoint whose instances carry the component."""
    return spec.pool or spec.name


def is_host(seen: Mapping[str, Any]) -> bool:
    """Whether DescribeEndpoint shows this shape."""
    return str(seen.get("EndpointConfigName", "")).endswith(MARK)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRequests(outgoing.Requests):
    """Everything that an endpoint of this shape needs, ready to be sent.

    Attributes:
        component: CreateInferenceComponent.
    """

    component: dict[str, Any]

    @property
    def frame(self) -> str:
        """What runs, as records call it."""
        return frame_of(
            self.config_name, self.component["Specification"], host_of(self.spec), self.spec.name
        )

    @property
    def endpoint(self) -> dict[str, Any]:
        """CreateEndpoint."""
        return {
            "EndpointName": host_of(self.spec),
            "EndpointConfigName": self.config_name,
            "Tags": self.config["Tags"],
        }

    @property
    def update(self) -> dict[str, Any]:
        """UpdateInferenceComponent: the copies are replaced one after the other."""
        return {
            "InferenceComponentName": self.component["InferenceComponentName"],
            "Specification": self.component["Specification"],
            "DeploymentConfig": {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
                    "WaitIntervalInSeconds": 0,
                }
            },
        }


def frame_of(config: str, specification: Mapping[str, Any], host: str, name: str) -> str:
    """Return the names of configuration, model and pool, which tell what runs."""
    frame = f"{config}.{specification.get('ModelName', '')}"
    return frame if host == name else f"{frame}.{host}"


def names_in(frame: str) -> tuple[str, str]:
    """Return the configuration and the model of a frame."""
    config, model, *_ = [*frame.split("."), ""]
    return config, model


def host_in(frames: Iterable[str], name: str) -> str:
    """Return on which of SageMaker's endpoints an endpoint is, by what was written of it."""
    pools = (frame.split(".")[2] for frame in frames if frame.count(".") == 2)
    return next(pools, name)


def requests_for(
    spec: EndpointSpec,
    artifacts: Mapping[str, ModelVersion],
    settings: SageMakerSettings,
    *,
    target: str,
) -> ComponentRequests:
    """Return what has to be sent for *spec*.

    Raises:
        Unsupported: What this shape cannot do; else see `cloudreg_sagemaker.requests`.
    """
    _check(spec, target=target)
    variant = spec.variants[0]
    # One instance to begin with: the first copy needs it, and SageMaker accepts no fewer.
    awake = replace(variant, scaling=replace(variant.scaling, min_replicas=1))
    base = outgoing.requests_for(
        replace(spec, variants=(awake,)), artifacts, settings, counts={}, target=target
    )
    (running,) = base.config["ProductionVariants"]
    host = {key: value for key, value in running.items() if key not in ("ModelName", *_STARTUP)}
    host["ManagedInstanceScaling"] = {
        "Status": "ENABLED",
        # The machines of a pool stay, so that its endpoints do not wait for each other.
        "MinInstanceCount": 0 if spec.pool is None else 1,
        "MaxInstanceCount": MOST_INSTANCES,
    }
    specification = {
        "ModelName": running["ModelName"],
        "ComputeResourceRequirements": _needs(spec, running),
        "StartupParameters": {key: running[key] for key in _STARTUP},
    }
    config = {
        **base.config,
        "ProductionVariants": [host],
        "ExecutionRoleArn": settings.role,
    }
    del config["EndpointConfigName"]
    if spec.pool is not None:
        _share(config, spec.pool, settings)
    digest = hashlib.sha256(canonical_json(config)).hexdigest()
    config["EndpointConfigName"] = f"{host_of(spec)[:40].rstrip('-')}-{digest[:12]}{MARK}"
    component = {
        "InferenceComponentName": spec.name,
        "EndpointName": host_of(spec),
        "VariantName": VARIANT,
        "Specification": specification,
        "RuntimeConfig": {"CopyCount": max(1, variant.scaling.min_replicas)},
        "Tags": outgoing.tags(spec),
    }
    return ComponentRequests(
        spec=spec, models=base.models, config=config, place=base.place, component=component
    )


def _share(config: dict[str, Any], pool: str, settings: SageMakerSettings) -> None:
    """Take out of a configuration what is of one endpoint alone: any of a pool could make it."""
    config["Tags"] = [
        {"Key": packages.TAG, "Value": pool},
        {"Key": f"{packages.TAG}:pool", "Value": pool},
    ]
    if settings.data_capture is not None:
        config["DataCaptureConfig"] = {
            **config["DataCaptureConfig"],
            "DestinationS3Uri": settings.uri(f"{settings.data_capture.prefix}/{pool}"),
        }


def _needs(spec: EndpointSpec, running: Mapping[str, Any]) -> dict[str, Any]:
    resources = spec.variants[0].resources
    needs: dict[str, Any] = {"MinMemoryRequiredInMb": resources.memory_mib or LEAST_MEMORY_MIB}
    if resources.accelerator_count:
        needs["NumberOfAcceleratorDevicesRequired"] = float(resources.accelerator_count)
    if resources.cpus is not None:
        needs["NumberOfCpuCoresRequired"] = resources.cpus
    if resources.accelerator_count or spec.pool is not None:
        return needs
    # More than half of the processors: a second copy comes on a machine of its own.
    least = min(cpus_of(name) for name in outgoing.types_of(running))
    return {**needs, "NumberOfCpuCoresRequired": float(least // 2 + 1)}


def _check(spec: EndpointSpec, *, target: str) -> None:
    """Refuse what copies of a component cannot do."""
    scaling = spec.variants[0].scaling
    if scaling.metric.is_percent:
        why = "has no value while nothing runs (min_replicas = 0)"
        if spec.pool is not None:
            why = f"is that of a machine, which others of pool {spec.pool} use too"
        raise Unsupported(
            f"endpoint {spec.name}: {scaling.metric} {why}",
            target=target,
            hint=f"concurrency or requests_per_minute instead of {scaling.metric}",
        )
    if scaling.steps:
        raise Unsupported(
            f"endpoint {spec.name}: no scaling_steps with min_replicas = 0 or in a pool: the one "
            "step policy of an inference component is that which wakes it",
            target=target,
            hint="leave scaling_steps out",
        )


class Components:
    """Inference components of one account and region, one call a verb."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's SageMaker *client*."""
        self._client = client
        self._target = target

    def look(self, name: str) -> dict[str, Any] | None:
        """Return DescribeInferenceComponent; None where there is none."""
        try:
            with self._translated(name):
                return dict(self._client.describe_inference_component(InferenceComponentName=name))
        except NotFound:
            return None

    def digest(self, component: Mapping[str, Any]) -> str:
        """Return what a component's containers are given as their version; empty where nothing."""
        model = component.get("Specification", {}).get("ModelName")
        if not model:
            return ""
        try:
            with self._translated(component["InferenceComponentName"]):
                container = self._client.describe_model(ModelName=model)["PrimaryContainer"]
        except NotFound:
            return ""
        return str(container.get("Environment", {}).get("CLOUDREG_DIGEST", ""))

    def check(self, requests: ComponentRequests) -> None:
        """Refuse what SageMaker would refuse for one of its fields, before anything is sent."""
        checks.check_request("sagemaker", "CreateInferenceComponent", requests.component)
        checks.check_request("sagemaker", "UpdateInferenceComponent", requests.update)

    def create(self, requests: ComponentRequests) -> None:
        """Send CreateInferenceComponent.

        Raises:
            AlreadyExists: Somebody was first.
        """
        with self._translated(requests.spec.name):
            self._client.create_inference_component(**requests.component)

    def update(self, requests: ComponentRequests) -> None:
        """Send UpdateInferenceComponent."""
        with self._translated(requests.spec.name):
            self._client.update_inference_component(**requests.update)

    def resize(self, name: str, count: int) -> None:
        """Send UpdateInferenceComponentRuntimeConfig."""
        with self._translated(name):
            self._client.update_inference_component_runtime_config(
                InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": count}
            )

    def are_on(self, host: str) -> bool:
        """Whether an endpoint of SageMaker carries any component."""
        with self._translated(host):
            found = self._client.list_inference_components(EndpointNameEquals=host, MaxResults=1)
        return bool(found["InferenceComponents"])

    def remove(self, name: str) -> None:
        """Send DeleteInferenceComponent; absent is fine."""
        with suppress(NotFound), self._translated(name):
            self._client.delete_inference_component(InferenceComponentName=name)

    def forget(self, name: str, *, model: str) -> None:
        """Remove the model of a component; absent is fine."""
        with suppress(NotFound), self._translated(name):
            self._client.delete_model(ModelName=model)

    def _translated(self, name: str) -> Any:
        return translated(f"endpoint {name}", target=self._target)


def taken(name: str, *, target: str) -> AlreadyExists:
    """Return the refusal of a component's name that somebody else has."""
    return AlreadyExists(
        f"an inference component {name} is on another endpoint, and cloudreg did not make it",
        target=target,
        hint="another name for the endpoint",
    )
