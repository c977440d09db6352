"""How operations fail on Google's side, in Google's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from cloudreg_emulator.google.vertex.refusals import Refused, precondition
from cloudreg_emulator.google.world import Place

__all__ = ["bucket_region", "logs_of", "no_permission", "refusal"]


def refusal(reason: str, request: Message, place: Place) -> Refused:
    """Return the error of an operation that fails for *reason*, a word of `faults.REASONS`."""
    return _REASONS[reason](request, place)


def no_permission(uri: str, place: Place) -> Refused:
    """Return what is said of artifacts that Vertex AI's own account may not read.

    Source: https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3710
    """
    account = f"service-{place.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    return precondition(
        f"Service account `{account}` does not have `[storage.objects.get]` IAM permission(s) to "
        f'the directory "{uri}". Please either copy the files to the Google Cloud Storage bucket '
        "owned by your project, or grant the required IAM permission(s) to the service account."
    )


def bucket_region(uri: str, location: str, region: str) -> Refused:
    """Return what is said of artifacts in a bucket of another place.

    Source: https://github.com/googleapis/python-aiplatform/issues/885
    and https://github.com/GoogleCloudPlatform/vertex-ai-samples/pull/19
    """
    return precondition(
        f"The Cloud Storage bucket of `{uri}` is in location `{location.lower()}`. It must "
        f"be in the same regional location as the service location `{region}`."
    )


def logs_of(place: Place) -> str:
    """Return where Google points to for a model server's logs.

    Source: https://github.com/googleapis/python-aiplatform/issues/4559
    """
    return (
        "Model server logs can be found at https://console.cloud.google.com/logs/viewer?"
        f"project={place.number}&resource=aiplatform.googleapis.com%2FEndpoint."
    )


def _quota(request: Message, place: Place) -> Refused:
    del request, place
    # https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12
    return Refused(
        "RESOURCE_EXHAUSTED",
        "The following quota metrics exceed quota limits: "
        "aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus",
    )


def _exited(request: Message, place: Place) -> Refused:
    del request
    # https://github.com/googleapis/python-aiplatform/issues/4559
    return precondition(f"Model server exited unexpectedly. {logs_of(place)}")


def _not_ready(request: Message, place: Place) -> Refused:
    del request
    # https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3485
    return precondition(
        "Model server never became ready. Please validate that your model file or container "
        f"configuration are valid. {logs_of(place)}"
    )


def _permission(request: Any, place: Place) -> Refused:
    return no_permission(_artifacts(request), place)


def _region(request: Any, place: Place) -> Refused:
    return bucket_region(_artifacts(request), "us", place.regions[0])


def _internal(request: Message, place: Place) -> Refused:
    del request, place
    return Refused("INTERNAL", "Internal error encountered.")


def _artifacts(request: Any) -> str:
    model = getattr(request, "model", None)
    return str(getattr(model, "artifact_uri", "")) or "gs://artifacts"


_REASONS: Mapping[str, Callable[[Any, Place], Refused]] = {
    "quota": _quota,
    "exited": _exited,
    "not_ready": _not_ready,
    "permission": _permission,
    "region": _region,
    "internal": _internal,
}
