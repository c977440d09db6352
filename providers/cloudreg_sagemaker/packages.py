"""Versions to model packages, and back; pure.

What a listing shows is enough to know a version: its description holds number and digest, and
``ModelLifeCycle`` the stages. ``ModelLifeCycle`` has room for one stage: it shows the highest,
and its description names all of them.
"""

from __future__ import annotations

import json
import re
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from cloudreg.names import sha256, short
from cloudreg.types import ModelCard, ModelVersion, PublishedVersion
from cloudreg_sagemaker.settings import RETIRED, UNSTAGED

TAG = "cloudreg"
"""Key of the tag on everything that cloudreg makes."""

PLACE = f"{TAG}:records"
"""Key of the tag that says where is written down what an endpoint was asked to be."""

PENDING, APPROVED = "PendingManualApproval", "Approved"
NO_STAGE = "-"
"""No name of a stage; values of metadata must not be empty."""

STAGES_KEY = "cloudreg.stages"
CONTENT_TYPES = ["application/json", "application/octet-stream"]

MAX_METRICS = 30
"""A package has room for 50 properties; ours come first."""

_TOKENS = uuid.UUID("6c1f6a54-6a0e-5b0c-9d0e-2f6f8f1b7a11")
_DESCRIBED = re.compile(r"cloudreg ([a-z][a-z0-9-]*):([1-9][0-9]{0,8}) (sha256:[0-9a-f]{64})")
_STAGED = re.compile(r"cloudreg stages: (.*)")
_PLAIN = frozenset("_.:/=+-@")


def token(model: str, digest: str, *, withdrawn: int) -> str:
    """Return the ``ClientToken`` of a version.

    The same for whoever publishes it, so that a lost answer or a second process makes no second
    package; another one after each withdrawal, because the service may remember the first.
    """
    return str(uuid.uuid5(_TOKENS, f"{model} {digest} {withdrawn}"))


def description(version: ModelVersion) -> str:
    """Return the one line that a listing shows of a version."""
    return f"cloudreg {version.ref} {version.digest}"


def lifecycle(stages: Iterable[str], names: Mapping[str, str], *, retired: bool) -> dict[str, str]:
    """Return ``ModelLifeCycle`` for a version with those *stages*.

    Args:
        stages: Ours.
        names: Stage to SageMaker's word, in the order of the stages.
        retired: Whether a version without a stage had one before.
    """
    ordered = in_order(stages, names)
    if not ordered:
        stage, status = (RETIRED, "Retired") if retired else (UNSTAGED, "PendingApproval")
        return {
            "Stage": stage,
            "StageStatus": status,
            "StageDescription": f"cloudreg stages: {NO_STAGE}",
        }
    return {
        "Stage": names.get(ordered[-1], ordered[-1]),
        "StageStatus": "Approved",
        "StageDescription": f"cloudreg stages: {', '.join(ordered)}",
    }


def in_order(stages: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Return *stages* from the lowest to the highest; those without a name of theirs first."""
    place = {stage: index for index, stage in enumerate(names)}
    return sorted(stages, key=lambda stage: (place.get(stage, -1), stage))


def change_for(
    arn: str, stages: Iterable[str], names: Mapping[str, str], *, retired: bool
) -> dict[str, Any]:
    """Return the request that makes a package show *stages*: all of it changes, or nothing."""
    ordered = in_order(stages, names)
    return {
        "ModelPackageArn": arn,
        "ModelApprovalStatus": APPROVED if ordered else PENDING,
        "ModelLifeCycle": lifecycle(ordered, names, retired=retired),
        "CustomerMetadataProperties": {STAGES_KEY: " ".join(ordered) or NO_STAGE},
    }


def is_shown(package: Mapping[str, Any], stages: Iterable[str], names: Mapping[str, str]) -> bool:
    """Whether a package shows exactly *stages*, in every field that a person or policy reads."""
    wanted = lifecycle(stages, names, retired=_is_retired(package))
    status = APPROVED if wanted["StageStatus"] == "Approved" else PENDING
    return (package.get("ModelLifeCycle"), package.get("ModelApprovalStatus")) == (wanted, status)


def was_staged(package: Mapping[str, Any]) -> bool:
    """Whether a package shows a stage, or that it had one."""
    return _cycle(package).get("Stage", UNSTAGED) != UNSTAGED


def _is_retired(package: Mapping[str, Any]) -> bool:
    return _cycle(package).get("Stage") == RETIRED


def _cycle(package: Mapping[str, Any]) -> Mapping[str, str]:
    return package.get("ModelLifeCycle") or {}


def published_from(package: Mapping[str, Any], names: Mapping[str, str]) -> PublishedVersion | None:
    """Return what a package shows, from a listing or a description; None where it is not ours."""
    match = _DESCRIBED.fullmatch(package.get("ModelPackageDescription") or "")
    if match is None:
        return None
    return PublishedVersion(
        model=match[1],
        number=int(match[2]),
        digest=match[3],
        stages=_stages(package, names),
        native_id=package["ModelPackageArn"],
    )


def _stages(package: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the stages that a package shows.

    People can change a package by hand. Only an approved one counts, and where the stage beside
    is not the highest of those that the description names, the stage alone is believed: it is
    what a console shows and what IAM conditions compare.
    """
    shown = _cycle(package)
    if package.get("ModelApprovalStatus") != APPROVED or shown.get("StageStatus") != "Approved":
        return ()
    match = _STAGED.fullmatch(shown.get("StageDescription") or "")
    named = [stage for stage in match[1].split(", ") if stage != NO_STAGE] if match else []
    if named and names.get(named[-1], named[-1]) == shown.get("Stage"):
        return tuple(sorted(named))
    ours = {native: stage for stage, native in names.items()}
    stage = ours.get(shown.get("Stage", ""))
    return (stage,) if stage else ()


def package_from(
    version: ModelVersion,
    *,
    image: str,
    data: str,
    names: Mapping[str, str],
    kms_key: str | None,
) -> dict[str, Any]:
    """Return the request that publishes a version, but for its `token`.

    Args:
        version: Which one.
        image: Its container image.
        data: ``s3://…/`` of its files.
        names: Stage to SageMaker's word.
        kms_key: Encrypts what SageMaker keeps of the package.
    """
    lineage = version.manifest.lineage
    origin = {
        "CommitId": lineage.git_commit,
        "Repository": lineage.git_remote,
        "GeneratedBy": version.author,
    }
    request: dict[str, Any] = {
        "ModelPackageGroupName": version.model,
        "ModelPackageDescription": description(version),
        "InferenceSpecification": {
            "Containers": [
                {
                    "Image": image,
                    "ModelDataSource": data_source(data),
                    "Environment": environment(version.model, version.number, version.digest),
                }
            ],
            "SupportedContentTypes": CONTENT_TYPES,
            "SupportedResponseMIMETypes": CONTENT_TYPES,
        },
        "ModelApprovalStatus": PENDING,
        "ModelLifeCycle": lifecycle((), names, retired=False),
        "MetadataProperties": {key: value[:1024] for key, value in origin.items() if value},
        "CustomerMetadataProperties": metadata(version),
        "ModelCard": {"ModelCardContent": card(version), "ModelCardStatus": "Draft"},
        "SkipModelValidation": "All",
    }
    if kms_key is not None:
        request["SecurityConfig"] = {"KmsKeyId": kms_key}
    return request


def model_metrics(uri: str, document: bytes) -> dict[str, Any]:
    """Return where SageMaker finds the metrics, and which bytes they are."""
    statistics = {
        "ContentType": "application/json",
        "ContentDigest": sha256(document),
        "S3Uri": uri,
    }
    return {"ModelQuality": {"Statistics": statistics}}


def data_source(uri: str) -> dict[str, Any]:
    """Return where a container's files are: plain ones below a prefix, never a tar.gz."""
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}}


def environment(model: str, number: int, digest: str) -> dict[str, str]:
    """Return what tells a container which version it is."""
    return {
        "CLOUDREG_PROVIDER": "sagemaker",
        "CLOUDREG_MODEL": model,
        "CLOUDREG_NUMBER": str(number),
        "CLOUDREG_DIGEST": digest,
    }


def metadata(version: ModelVersion) -> dict[str, str]:
    """Return the properties by which people search."""
    manifest = version.manifest
    found = {
        "cloudreg.model": version.model,
        "cloudreg.number": str(version.number),
        "cloudreg.digest": version.digest,
        "cloudreg.content": manifest.content,
        "cloudreg.author": plain(version.author),
        "cloudreg.created-at": plain(version.created_at),
        "cloudreg.files": str(len(manifest.files)),
        "cloudreg.bytes": str(manifest.size),
        STAGES_KEY: NO_STAGE,
    }
    for name, value in sorted(manifest.metrics.items())[:MAX_METRICS]:
        found[f"metric.{plain(name)}"] = repr(float(value))
    return {key: value for key, value in found.items() if value}


def plain(text: str) -> str:
    """Return *text* in the characters that SageMaker's metadata can hold, at most 200."""
    kept = (c if c in _PLAIN or unicodedata.category(c)[0] in "LNZ" else "_" for c in text)
    return "".join(kept)[:200]


def metrics_document(version: ModelVersion) -> bytes:
    """Return the metrics as the file that ``ModelMetrics`` points to."""
    metrics = {name: {"value": value} for name, value in sorted(version.manifest.metrics.items())}
    return json.dumps({"cloudreg_metrics": metrics}, indent=1).encode()


def card(version: ModelVersion) -> str:
    """Return the model card in SageMaker's schema, which is smaller for packages.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-details.html
    """
    said: ModelCard = version.manifest.card
    details = {"data": said.data, "owners": said.owners, "version": version.ref}
    metrics = [
        {"name": name[:255], "type": "number", "value": value}
        for name, value in sorted(version.manifest.metrics.items())
    ]
    evaluation: dict[str, Any] = {"name": f"{version.ref} {short(version.digest)}"}
    if said.performance:
        evaluation["evaluation_observation"] = said.performance[:MAX_CARD_TEXT]
    if metrics:
        evaluation["metric_groups"] = [{"name": "metrics", "metric_data": metrics[:100]}]
    content: dict[str, Any] = {
        "model_overview": {"model_creator": version.author[:1024]},
        "evaluation_details": [evaluation],
        "additional_information": {
            "caveats_and_recommendations": said.limits[:MAX_CARD_TEXT],
            "ethical_considerations": said.bias[:MAX_CARD_TEXT],
            "custom_details": {key: text[:1024] for key, text in details.items() if text},
        },
    }
    if said.intended_use:
        content["intended_uses"] = {"intended_uses": said.intended_use[:MAX_CARD_TEXT]}
    # One line: the field's pattern has no line breaks, and JSON writes them as \n.
    return json.dumps(content, separators=(",", ":"))


MAX_CARD_TEXT = 2048
"""Characters of a text of a card; the whole card is in the manifest."""
