"""What an endpoint can be, and what of it can be changed.

Source: the documentation of Endpoint, CreateEndpointRequest, UpdateEndpointLongRunningRequest and
MutateDeployedModelRequest in the SDK's protos.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from cloudreg_emulator.google.vertex.names import Name, parse
from cloudreg_emulator.google.vertex.protos import V1, V1BETA1
from cloudreg_emulator.google.vertex.refusals import Refused, invalid, missing, precondition
from cloudreg_emulator.google.vertex.rules import check_display_name, check_key, check_labels

__all__ = [
    "OUTPUT_ONLY",
    "check_deployed_id",
    "check_endpoint",
    "check_endpoint_id",
    "check_mutable",
    "check_routes",
    "check_updatable",
    "check_updatable_slowly",
    "deployed_model",
    "parts_of",
    "set_split",
]

MAX_TIMEOUT_S = 3600

# CreateEndpointRequest.endpoint_id
_ENDPOINT_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
# DeployedModel.id
_DEPLOYED_ID = re.compile(r"[0-9]{1,10}")

_UPDATABLE = frozenset(
    {
        "display_name",
        "description",
        "labels",
        "traffic_split",
        "predict_request_response_logging_config",
        "client_connection_config",
    }
)
_SLOWLY = "client_connection_config"
"""All that UpdateEndpointLongRunning changes: every other field's update is blocked."""

_MUTABLE = frozenset(
    {
        "dedicated_resources.min_replica_count",
        "dedicated_resources.max_replica_count",
        "dedicated_resources.required_replica_count",
        "dedicated_resources.autoscaling_metric_specs",
    }
)
_LOGGING = {V1: "disable_container_logging", V1BETA1: "enable_container_logging"}

OUTPUT_ONLY = (
    "name",
    "deployed_models",
    "etag",
    "create_time",
    "update_time",
    "model_deployment_monitoring_job",
    "dedicated_endpoint_dns",
    "satisfies_pzs",
    "satisfies_pzi",
)
"""What a client may send and the service passes over: https://google.aip.dev/203"""


def check_endpoint_id(text: str) -> None:
    """Refuse an id that no endpoint can have; none at all is fine.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if text and not _ENDPOINT_ID.fullmatch(text):
        raise invalid("endpoint_id", f"Invalid endpoint ID {text!r}.")


def check_deployed_id(text: str, field: str) -> None:
    """Refuse an id that no deployed model can have; none at all is fine.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if text and not _DEPLOYED_ID.fullmatch(text):
        raise invalid(field, f"Invalid DeployedModel ID {text!r}.")


def check_endpoint(endpoint: Any, place: Name, field: str) -> None:
    """Refuse an endpoint that cannot be.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    check_display_name(endpoint.display_name, f"{field}.display_name")
    check_labels(endpoint.labels, f"{field}.labels")
    check_key(
        endpoint.encryption_spec.kms_key_name,
        place.location,
        f"{field}.encryption_spec.kms_key_name",
    )
    private = endpoint.private_service_connect_config.enable_private_service_connect
    if private and endpoint.dedicated_endpoint_enabled:
        raise invalid(
            f"{field}.dedicated_endpoint_enabled",
            "A dedicated endpoint cannot use Private Service Connect.",  # unquoted
        )
    timeout = endpoint.client_connection_config.inference_timeout
    if endpoint.client_connection_config.HasField("inference_timeout"):
        seconds = timeout.ToTimedelta().total_seconds()
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise invalid(
                f"{field}.client_connection_config.inference_timeout",
                "The timeout is 1 hour at most.",
            )


def check_updatable(paths: Iterable[str]) -> None:
    """Refuse to change what UpdateEndpoint does not change.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    for path in paths:
        if path.partition(".")[0] not in _UPDATABLE:
            raise invalid("update_mask", f"Field {path} cannot be updated.")


def check_updatable_slowly(asked: Any, kept: Any) -> None:
    """Refuse an endpoint that differs in more than what UpdateEndpointLongRunning changes.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    for field, value in asked.ListFields():
        if field.name in (*OUTPUT_ONLY, _SLOWLY):
            continue
        if value != getattr(kept, field.name):
            raise invalid(f"endpoint.{field.name}", f"Field {field.name} cannot be updated.")


def check_mutable(paths: Iterable[str], *, version: str) -> None:
    """Refuse to change what MutateDeployedModel does not change.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    for path in paths:
        if path not in _MUTABLE and path != _LOGGING[version]:
            raise invalid("update_mask", f"Field {path} cannot be mutated.")


def check_routes(version: Any, endpoint: Any) -> None:
    """Refuse a model of any routes on an endpoint that is not dedicated.

    Source: ModelContainerSpec.invoke_route_prefix

    Raises:
        Refused: FAILED_PRECONDITION.
    """
    if version.container_spec.invoke_route_prefix and not endpoint.dedicated_endpoint_enabled:
        raise precondition(  # unquoted
            "A model with invoke_route_prefix can only be deployed to a dedicated endpoint."
        )


def deployed_model(endpoint: Any, deployed_id: str) -> Any:
    """Return what is deployed to an endpoint under an id.

    Raises:
        Refused: NOT_FOUND.
    """
    for one in endpoint.deployed_models:
        if one.id == deployed_id:
            return one
    raise Refused(
        "NOT_FOUND",
        f"The DeployedModel {deployed_id!r} does not exist in {endpoint.name}.",  # unquoted
    )


def set_split(endpoint: Any, split: dict[str, int]) -> None:
    """Give an endpoint's traffic to others."""
    endpoint.traffic_split.clear()
    for one, percent in split.items():
        endpoint.traffic_split[one] = percent


def parts_of(name: str) -> Name:
    """Return the parts of an endpoint's name, or of its parent's.

    Raises:
        Refused: NOT_FOUND, for what is no name.
    """
    parts = parse(name)
    if parts is None:
        raise missing("Endpoint", name)
    return parts
