"""Rules of the containers in model packages and models that botocore does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cloudreg_emulator.aws.sagemaker.errors import invalid

__all__ = ["ModelData", "check_data", "model_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelData:
    """Where a container's model data lies.

    Attributes:
        bucket: Of it.
        key: One object, or the prefix of many.
        kind: Which of the two.
        compressed: Whether the object is a tar.gz.
    """

    bucket: str
    key: str
    kind: Literal["prefix", "object"]
    compressed: bool


def check_data(containers: Iterable[Mapping[str, Any]]) -> None:
    """Refuse model data that SageMaker cannot mount.

    Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3ModelDataSource.html
    All words here are unquoted.
    """
    for container in containers:
        source = (container.get("ModelDataSource") or {}).get("S3DataSource")
        if source is None:
            continue
        if container.get("ModelDataUrl"):
            raise invalid("Specify one of either ModelDataUrl or ModelDataSource, not both.")
        uri, kind = source["S3Uri"], source["S3DataType"]
        if kind == "S3Prefix" and not uri.endswith("/"):
            raise invalid(
                f"S3Uri {uri} must end with a forward slash (/) when S3DataType is S3Prefix."
            )
        if kind == "S3Prefix" and source["CompressionType"] == "Gzip":
            raise invalid("CompressionType Gzip requires S3DataType S3Object.")
        if kind == "S3Object" and uri.endswith("/"):
            raise invalid(f"S3Uri {uri} must not end with a forward slash (/) for S3Object.")


def model_data(container: Mapping[str, Any]) -> ModelData | None:
    """Return where a container's model data lies; None where it has none."""
    source = (container.get("ModelDataSource") or {}).get("S3DataSource")
    uri = source["S3Uri"] if source else container.get("ModelDataUrl")
    if not uri:
        return None
    bucket, _, key = uri.partition("://")[2].partition("/")
    if source is None:
        return ModelData(bucket=bucket, key=key, kind="object", compressed=True)
    return ModelData(
        bucket=bucket,
        key=key,
        kind="prefix" if source["S3DataType"] == "S3Prefix" else "object",
        compressed=source["CompressionType"] == "Gzip",
    )
