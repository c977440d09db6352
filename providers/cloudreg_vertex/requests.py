"""Specs to what Vertex AI is sent; pure.

An endpoint there holds deployed models, and what a deployed model is cannot be changed but for its
number of replicas. So each is named after a digest of all the rest, its *frame*: a variant whose
frame is deployed already keeps its replicas, whatever the variant is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.names import canonical_json
from cloudreg.objects.layout import files_prefix
from cloudreg.types import EndpointSpec, ModelVersion, Scaling, ScalingMetric, Variant
from cloudreg_vertex import labels, models
from cloudreg_vertex.machines import Machine, machine_for

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

STAGE = "cloudreg-stage"
SPEC = "cloudreg-spec"
"""The label of an endpoint that names the written spec which is in force."""

VARIANT = "cloudreg-variant-"
"""Begins the labels of an endpoint that name the frame of each variant."""

OWNER = "cloudreg-endpoint"
"""The label of a Model that was made for one endpoint, and goes with it."""

MIN_NAME = 2
IDLE_S = (300, 28_800)
"""Seconds of idleness that v1beta1 takes before it scales to zero."""

_ONLINE = "aiplatform.googleapis.com/prediction/online"
METRICS: Mapping[ScalingMetric, str] = {
    ScalingMetric.REQUESTS_PER_MINUTE: f"{_ONLINE}/request_count",
    ScalingMetric.GPU_UTILIZATION: f"{_ONLINE}/accelerator/duty_cycle",
    ScalingMetric.CPU_UTILIZATION: f"{_ONLINE}/cpu/utilization",
}
"""What the number of replicas can follow:
https://cloud.google.com/vertex-ai/docs/reference/rest/v1/AutoscalingMetricSpec"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What one variant needs.

    Attributes:
        variant: Which one.
        machine: What its replicas run on.
        model: The Model that it serves, as UploadModel takes it.
        frame: Digest of all that cannot be changed later.
        service_account: Of the model servers; None for the project's own.
        spot: Whether Google may take the machines back.
        reservation: Resource name of a reservation; None without.
    """

    variant: Variant
    machine: Machine
    model: Mapping[str, Any]
    frame: str
    service_account: str | None = None
    spot: bool = False
    reservation: str | None = None

    @property
    def title(self) -> str:
        """The deployed model's name for people, and for `frame_of`."""
        return f"{self.variant.model}-{self.variant.number}-{self.frame}"

    def resources(self) -> dict[str, Any]:
        """Return ``DedicatedResources``."""
        machine: dict[str, Any] = {"machine_type": self.machine.name}
        if self.machine.accelerator is not None:
            machine["accelerator_type"] = self.machine.accelerator
            machine["accelerator_count"] = self.machine.count
        if self.reservation is not None:
            machine["reservation_affinity"] = {
                "reservation_affinity_type": "SPECIFIC_RESERVATION",
                "key": "compute.googleapis.com/reservation-name",
                "values": [self.reservation],
            }
        resources: dict[str, Any] = {"machine_spec": machine, **scaling_of(self.variant)}
        if self.spot:
            resources["spot"] = True
        return resources

    def deployed(self, model: str) -> dict[str, Any]:
        """Return ``DeployedModel`` for a model's resource name with its version."""
        request: dict[str, Any] = {
            "display_name": self.title,
            "model": model,
            "dedicated_resources": self.resources(),
        }
        if self.service_account is not None:
            request["service_account"] = self.service_account
        return request


def placements(
    spec: EndpointSpec,
    artifacts: Mapping[str, ModelVersion],
    settings: VertexSettings,
    *,
    target: str,
) -> tuple[Placement, ...]:
    """Return what each variant of *spec* needs, in their order.

    Raises:
        ConfigError: No image is named.
        InvalidRequest: A name, variable or machine that Vertex AI does not take.
        Unsupported: No machine fits, or the replicas cannot follow the load so.
    """
    if len(spec.name) < MIN_NAME:
        raise InvalidRequest(
            f"endpoint name {spec.name!r} is too short for Vertex AI: two characters at least",
            target=target,
        )
    models.check_environment(spec.env, target=target)
    return tuple(
        _placement(spec, variant, artifacts[variant.digest], settings, target=target)
        for variant in spec.variants
    )


def _placement(
    spec: EndpointSpec,
    variant: Variant,
    version: ModelVersion,
    settings: VertexSettings,
    *,
    target: str,
) -> Placement:
    check_scaling(variant.scaling, target=target)
    machine = machine_for(
        variant.resources, settings.machines, target=target, check=settings.machine_check
    )
    model = models.model_from(
        version,
        settings,
        artifacts=settings.uri(files_prefix(variant.digest)).rstrip("/"),
        env=spec.env,
        target=target,
    )
    container = model["container_spec"]
    frame = _hash(
        {
            "digest": variant.digest,
            "number": variant.number,
            "image": container["image_uri"],
            "env": dict(spec.env),
            "machine": [machine.name, machine.accelerator, machine.count],
            "account": settings.service_account,
            "spot": settings.spot,
            "reservation": settings.reservation,
        }
    )[:12]
    return Placement(
        variant=variant,
        machine=machine,
        model=model,
        frame=frame,
        service_account=settings.service_account,
        spot=settings.spot,
        reservation=settings.reservation,
    )


def own_model(spec: EndpointSpec, placement: Placement) -> tuple[str, dict[str, Any]]:
    """Return id and Model for a variant that no version of the registry can serve.

    The environment of a model server belongs to the Model there, so an endpoint with variables
    of its own needs a Model of its own.
    """
    stem = spec.name[:48].rstrip("-")
    model = {
        **placement.model,
        "display_name": f"{spec.name} ({placement.variant.model}:{placement.variant.number})"[:128],
        "labels": {**placement.model["labels"], OWNER: spec.name},
    }
    return f"{stem}-{placement.frame}", model


def fits(placement: Placement, published: Any) -> bool:
    """Whether a version of the registry starts the very server that a variant needs."""
    container = published.container_spec
    wanted = {one["name"]: one["value"] for one in placement.model["container_spec"]["env"]}
    return (
        labels.identity(published.labels) is not None
        and container.image_uri == placement.model["container_spec"]["image_uri"]
        and {one.name: one.value for one in container.env} == wanted
        and published.artifact_uri.rstrip("/") == placement.model["artifact_uri"]
    )


def frame_of(deployed: Any) -> str:
    """Return the frame that a deployed model was made for; nothing where it is not ours."""
    return str(deployed.display_name).rpartition("-")[2]


def assigned(frames: Mapping[str, str], deployed: Iterable[Any]) -> dict[str, Any]:
    """Return the deployed model of each variant that has one.

    Args:
        frames: Of the variants, by their names.
        deployed: What an endpoint holds. Of two with one frame, each serves one variant.
    """
    free = sorted(deployed, key=lambda one: (len(one.id), one.id))
    found: dict[str, Any] = {}
    # Sorted, since labels have no order: every reader must come to the same.
    for name, frame in sorted(frames.items()):
        fitting = next((one for one in free if frame_of(one) == frame), None)
        if fitting is not None:
            free.remove(fitting)
            found[name] = fitting
    return found


def config_of(spec: EndpointSpec) -> str:
    """Return the name under which a spec is written down."""
    return _hash(msgspec.to_builtins(spec))[:16]


def endpoint_labels(spec: EndpointSpec, frames: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of an endpoint on which *spec* is in force."""
    marks = {labels.MODEL: spec.model, STAGE: spec.stage, SPEC: config_of(spec)}
    return marks | {f"{VARIANT}{name}": frame for name, frame in frames.items()}


def frames_in(marks: Mapping[str, str]) -> dict[str, str]:
    """Return the frames of the variants that the labels of an endpoint tell, by their names."""
    return {
        key.removeprefix(VARIANT): frame for key, frame in marks.items() if key.startswith(VARIANT)
    }


def is_mark(key: str) -> bool:
    """Whether a label of an endpoint is cloudreg's; people may add their own."""
    return key in (labels.MODEL, STAGE, SPEC) or key.startswith(VARIANT)


def is_scaled(resources: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a deployed model's ``DedicatedResources`` have the bounds that are wanted."""
    goals = {
        one["metric_name"]: one["target"] for one in wanted.get("autoscaling_metric_specs", ())
    }
    followed = {one.metric_name: one.target for one in resources.autoscaling_metric_specs}
    return (
        int(resources.min_replica_count) == wanted["min_replica_count"]
        and int(resources.max_replica_count) == wanted["max_replica_count"]
        # Vertex AI adds metrics of its own where none are named.
        and (followed == goals or not goals)
    )


def endpoint_from(
    spec: EndpointSpec, frames: Mapping[str, str], settings: VertexSettings
) -> dict[str, Any]:
    """Return the Endpoint to begin with; nothing is deployed to it yet."""
    endpoint: dict[str, Any] = {
        "display_name": spec.name,
        "labels": endpoint_labels(spec, frames),
        "dedicated_endpoint_enabled": settings.dedicated,
    }
    if settings.kms_key is not None:
        endpoint["encryption_spec"] = {"kms_key_name": settings.kms_key}
    if settings.private_service_connect:
        # A private endpoint has no public address, neither a shared one nor its own.
        endpoint["dedicated_endpoint_enabled"] = False
        endpoint["private_service_connect_config"] = {
            "enable_private_service_connect": True,
            "project_allowlist": list(settings.private_service_connect),
        }
    if settings.request_log is not None:
        endpoint["predict_request_response_logging_config"] = {
            "enabled": True,
            "sampling_rate": settings.request_log.sample_percent / 100,
            "bigquery_destination": {"output_uri": settings.request_log.table},
        }
    if endpoint["dedicated_endpoint_enabled"]:
        endpoint["client_connection_config"] = {
            "inference_timeout": {"seconds": settings.inference_timeout_s}
        }
    return endpoint


def scaling_of(variant: Variant) -> dict[str, Any]:
    """Return how many replicas a variant has, and what moves their number."""
    scaling = variant.scaling
    found: dict[str, Any] = {
        "min_replica_count": scaling.min_replicas,
        "max_replica_count": scaling.max_replicas,
    }
    if scaling.autoscaled:
        found["autoscaling_metric_specs"] = [
            {"metric_name": METRICS[scaling.metric], "target": round(scaling.target)}
        ]
    if scaling.min_replicas == 0:
        found["initial_replica_count"] = 1
        idle_s = round(min(max(scaling.scale_in_cooldown_s, IDLE_S[0]), IDLE_S[1]))
        found["scale_to_zero_spec"] = {"idle_scaledown_period": {"seconds": idle_s}}
    return found


def check_scaling(scaling: Scaling, *, target: str) -> None:
    """Refuse what Vertex AI's autoscaling has no word for.

    Raises:
        Unsupported: With what works.
    """
    if scaling.min_replicas == 0 and not IDLE_S[0] <= scaling.scale_in_cooldown_s <= IDLE_S[1]:
        raise Unsupported(
            f"scale_in_cooldown_s {scaling.scale_in_cooldown_s:g}: a replica that scales to "
            f"zero on Vertex AI is idle for {IDLE_S[0]} to {IDLE_S[1]} seconds before",
            target=target,
            hint=f"scale_in_cooldown_s = {IDLE_S[0]}",
        )


def _hash(document: Any) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()
