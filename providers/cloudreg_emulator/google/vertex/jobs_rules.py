"""Batch prediction jobs that cannot be, and what the service fills in.

Source: the documentation of BatchPredictionJob, BatchDedicatedResources, GcsSource and
ManualBatchTuningParameters in the SDK's protos.
"""

from __future__ import annotations

import re
from typing import Any

from cloudreg_emulator.google.vertex.artifacts import check_artifacts
from cloudreg_emulator.google.vertex.containers import check_container
from cloudreg_emulator.google.vertex.machines import check_machine
from cloudreg_emulator.google.vertex.names import Name
from cloudreg_emulator.google.vertex.refusals import invalid, precondition, unimplemented
from cloudreg_emulator.google.vertex.rules import (
    check_display_name,
    check_key,
    check_labels,
    required,
)
from cloudreg_emulator.google.world import World

__all__ = ["BATCH_SIZE", "MAX_REPLICAS", "check_job", "completed", "of_uri"]

BATCH_SIZE = 64
"""ManualBatchTuningParameters.batch_size: "The default value is 64."."""

MAX_REPLICAS = 10
"""BatchDedicatedResources.max_replica_count: "The default value is 10."."""

_URI = re.compile(r"gs://([^/]+)/?(.*)", re.DOTALL)
_FIELD = "batch_prediction_job"
_TYPES = ("", "object", "array")

_NOT_EMULATED = (
    "generate_explanation",
    "explanation_spec",
)


def check_job(world: World, job: Any, place: Name) -> None:
    """Refuse a job that could not be created in a location.

    Raises:
        Refused: INVALID_ARGUMENT; FAILED_PRECONDITION for a bucket that is not there;
            UNIMPLEMENTED for what the service does and this emulator does not.
    """
    check_display_name(job.display_name, f"{_FIELD}.display_name")
    check_labels(job.labels, f"{_FIELD}.labels")
    check_key(
        job.encryption_spec.kms_key_name,
        place.location,
        f"{_FIELD}.encryption_spec.kms_key_name",
    )
    _check_what(world, job, place)
    _check_input(job.input_config)
    _check_output(world, job.output_config)
    _check_instances(job.instance_config)
    _check_resources(job)
    for name in _NOT_EMULATED:
        if any(field.name == name for field, _ in job.ListFields()):
            raise unimplemented(f"{_FIELD}.{name}")


def _check_what(world: World, job: Any, place: Name) -> None:
    unmanaged = job.HasField("unmanaged_container_model")
    if bool(job.model) == unmanaged:
        raise invalid(
            f"{_FIELD}.model",
            "Exactly one of model and unmanaged_container_model must be set.",
        )
    if not unmanaged:
        if "publishers/" in job.model:
            raise unimplemented("A batch prediction job of a publisher model")
        return
    container, field = job.unmanaged_container_model, f"{_FIELD}.unmanaged_container_model"
    if not container.HasField("container_spec"):
        raise required(f"{field}.container_spec")
    check_container(container.container_spec, f"{field}.container_spec")
    if container.artifact_uri:
        check_artifacts(world, container.artifact_uri, place.location, f"{field}.artifact_uri")


def _check_input(config: Any) -> None:
    field = f"{_FIELD}.input_config"
    source = config.WhichOneof("source")
    if source is None:
        raise required(f"{field}.source")
    if not config.instances_format:
        raise required(f"{field}.instances_format")
    if source != "gcs_source" or config.instances_format in ("bigquery", "csv", "file-list"):
        raise unimplemented(f"Batch prediction from {source} in {config.instances_format}")
    if config.instances_format.startswith("tf-record"):
        raise unimplemented(f"Batch prediction from {config.instances_format}")
    if config.instances_format != "jsonl":
        raise invalid(
            f"{field}.instances_format",
            f"Instances format {config.instances_format!r} is not supported by the model.",
        )
    if not config.gcs_source.uris:
        raise required(f"{field}.gcs_source.uris")
    for uri in config.gcs_source.uris:
        if of_uri(uri) is None or not of_uri(uri, strict=True):
            raise invalid(f"{field}.gcs_source.uris", f"{uri!r} is not a Cloud Storage URI.")


def _check_output(world: World, config: Any) -> None:
    field = f"{_FIELD}.output_config"
    destination = config.WhichOneof("destination")
    if destination is None:
        raise required(f"{field}.destination")
    if not config.predictions_format:
        raise required(f"{field}.predictions_format")
    if destination != "gcs_destination":
        raise unimplemented(f"Batch prediction to {destination}")
    if config.predictions_format != "jsonl":
        # A custom container's supported_output_storage_formats: jsonl, and BigQuery.
        raise invalid(
            f"{field}.predictions_format",
            f"Predictions format {config.predictions_format!r} is not supported by the model.",
        )
    uri = config.gcs_destination.output_uri_prefix
    if not uri:
        raise required(f"{field}.gcs_destination.output_uri_prefix")
    found = of_uri(uri)
    if found is None:
        raise invalid(
            f"{field}.gcs_destination.output_uri_prefix", f"{uri!r} is not a Cloud Storage URI."
        )
    with world.storage.lock:
        if found[0] not in world.storage.shelves:
            raise precondition(f"The Cloud Storage bucket of `{uri}` does not exist.")  # unquoted


def _check_instances(config: Any) -> None:
    field = f"{_FIELD}.instance_config"
    if config.instance_type not in _TYPES:
        raise invalid(
            f"{field}.instance_type",
            f"Instance type {config.instance_type!r} is none of object, array.",
        )
    if config.included_fields and config.excluded_fields:
        raise invalid(
            f"{field}.excluded_fields",
            "When included_fields is populated, excluded_fields must be empty.",
        )


def _check_resources(job: Any) -> None:
    field = f"{_FIELD}.dedicated_resources"
    if not job.HasField("dedicated_resources"):
        # "if the Model doesn't support AUTOMATIC_RESOURCES, this config must be provided"
        raise required(field)
    resources = job.dedicated_resources
    if not resources.HasField("machine_spec"):
        raise required(f"{field}.machine_spec")
    check_machine(resources.machine_spec, f"{field}.machine_spec")
    if resources.max_replica_count < 0:
        raise invalid(f"{field}.max_replica_count", "The value must be at least 1.")
    most = resources.max_replica_count or MAX_REPLICAS
    if not 0 <= resources.starting_replica_count <= most:
        raise invalid(
            f"{field}.starting_replica_count",
            "The value must be less than or equal to max_replica_count.",
        )
    if job.manual_batch_tuning_parameters.batch_size < 0:
        raise invalid(
            f"{_FIELD}.manual_batch_tuning_parameters.batch_size",
            "The value must be at least 1.",
        )


def completed(job: Any) -> None:
    """Fill in what the service fills in."""
    resources = job.dedicated_resources
    resources.max_replica_count = resources.max_replica_count or MAX_REPLICAS
    resources.starting_replica_count = resources.starting_replica_count or 1
    tuning = job.manual_batch_tuning_parameters
    tuning.batch_size = tuning.batch_size or BATCH_SIZE


def of_uri(uri: str, *, strict: bool = False) -> tuple[str, str] | None:
    """Return bucket and name of a Cloud Storage URI; None for what is none.

    Args:
        uri: ``gs://BUCKET/NAME``.
        strict: Whether it must have a name.
    """
    found = _URI.fullmatch(uri)
    if found is None or (strict and not found.group(2)):
        return None
    return found.group(1), found.group(2)
