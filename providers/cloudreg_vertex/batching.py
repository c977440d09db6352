"""Specs of batch jobs to what Vertex AI is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudreg.errors import Unsupported
from cloudreg.jobs import BatchSpec
from cloudreg.objects.layout import files_prefix
from cloudreg.types import ModelVersion, Variant
from cloudreg_vertex import models
from cloudreg_vertex.machines import machine_for
from cloudreg_vertex.requests import Placement, fits

if TYPE_CHECKING:
    from cloudreg_vertex.hosting import Hosting
    from cloudreg_vertex.settings import VertexSettings


def requested(
    spec: BatchSpec,
    version: ModelVersion,
    settings: VertexSettings,
    hosting: Hosting,
    *,
    target: str,
) -> tuple[dict[str, Any], str]:
    """Return a BatchPredictionJob without its data, and the version of the API that has it.

    A version of the registry is used where it starts the very server that is needed; else the job
    brings a model of its own, which the registry never sees.

    Args:
        spec: What is asked for.
        version: The version of *spec*.
        settings: The target's.
        hosting: Asked for what the registry has.
        target: For messages.

    Raises:
        ConfigError: No image is named.
        Unsupported: No machine fits, or v1 of the API has not what the settings ask for.
    """
    if settings.spot and not settings.preview:
        raise Unsupported(
            f"batch {spec.name}: only v1beta1 of the API has spot machines for batch jobs",
            target=target,
            hint="preview = true in the target's section, or spot = false",
        )
    machine = machine_for(
        spec.resources, settings.machines, target=target, check=settings.machine_check
    )
    artifacts = settings.uri(files_prefix(spec.digest)).rstrip("/")
    model = models.model_from(version, settings, artifacts=artifacts, env=spec.env, target=target)
    placement = Placement(
        variant=Variant(
            name="batch",
            model=spec.model,
            number=spec.number,
            digest=spec.digest,
            resources=spec.resources,
        ),
        machine=machine,
        model=model,
        frame="",
        spot=settings.spot,
        reservation=settings.reservation,
    )
    resources: dict[str, Any] = {
        "machine_spec": placement.resources()["machine_spec"],
        "starting_replica_count": spec.replicas,
        "max_replica_count": spec.replicas,
    }
    if settings.spot:
        resources["spot"] = True
    request: dict[str, Any] = {"dedicated_resources": resources}
    published = next((one for one in hosting.published(spec.model) if fits(placement, one)), None)
    if published is not None:
        request["model"] = f"{published.name.partition('@')[0]}@{published.version_id}"
    else:
        request["unmanaged_container_model"] = {
            "artifact_uri": artifacts,
            "container_spec": model["container_spec"],
        }
    if settings.service_account is not None:
        request["service_account"] = settings.service_account
    if settings.kms_key is not None:
        request["encryption_spec"] = {"kms_key_name": settings.kms_key}
    return request, "v1beta1" if settings.spot else "v1"
