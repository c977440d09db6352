"""What a new model or version must be, and what the registry makes of it."""

from __future__ import annotations

from typing import Any

from cloudreg_emulator.google.vertex import protos
from cloudreg_emulator.google.vertex.artifacts import check_artifacts
from cloudreg_emulator.google.vertex.containers import check_container
from cloudreg_emulator.google.vertex.names import Name
from cloudreg_emulator.google.vertex.rules import (
    check_aliases,
    check_display_name,
    check_key,
    check_labels,
    required,
)
from cloudreg_emulator.google.world import World

__all__ = ["check_model", "made_of"]

_OUTPUT_ONLY = (
    "name",
    "version_id",
    "version_create_time",
    "version_update_time",
    "supported_export_formats",
    "training_pipeline",
    "original_model_info",
    "supported_deployment_resources_types",
    "supported_input_storage_formats",
    "supported_output_storage_formats",
    "create_time",
    "update_time",
    "deployed_models",
    "metadata_artifact",
    "satisfies_pzs",
    "satisfies_pzi",
    "etag",
)
"""What a client may send and the service passes over: https://google.aip.dev/203"""

_INPUTS = ("jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list")
_OUTPUTS = ("jsonl", "bigquery")
"""Of a custom container.

Source: https://github.com/GoogleCloudPlatform/data-science-on-gcp/issues/154
"""


def check_model(world: World, model: Any, place: Name) -> None:
    """Refuse a model that could not be uploaded to a location.

    Raises:
        Refused: INVALID_ARGUMENT, or FAILED_PRECONDITION for artifacts.
    """
    check_display_name(model.display_name, "model.display_name")
    check_aliases(model.version_aliases, "model.version_aliases")
    check_labels(model.labels, "model.labels")
    check_key(
        model.encryption_spec.kms_key_name, place.location, "model.encryption_spec.kms_key_name"
    )
    if model.HasField("container_spec"):
        check_container(model.container_spec, "model.container_spec")
    elif not model.HasField("base_model_source"):
        raise required("model.container_spec")
    if model.artifact_uri:
        check_artifacts(world, model.artifact_uri, place.location, "model.artifact_uri")


def made_of(model: Any) -> Any:
    """Return the version that a client's *model* becomes."""
    made = type(model)()
    made.CopyFrom(model)
    for name in _OUTPUT_ONLY:
        made.ClearField(name)
    made.supported_deployment_resources_types.append(
        type(model).DeploymentResourcesType.Value("DEDICATED_RESOURCES")
    )
    made.supported_input_storage_formats.extend(_INPUTS)
    made.supported_output_storage_formats.extend(_OUTPUTS)
    if made.artifact_uri:
        exported = made.supported_export_formats.add(id="custom-trained")
        exported.exportable_contents.append(
            protos.message("Model.ExportFormat").ExportableContent.Value("ARTIFACT")
        )
    if not made.HasField("model_source_info"):
        source = protos.message("ModelSourceInfo")
        made.model_source_info.source_type = source.ModelSourceType.Value("CUSTOM")
    return made
