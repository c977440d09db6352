"""Versions to Vertex AI's models and back; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloudreg.errors import ConfigError, InvalidRequest
from cloudreg.types import ModelVersion, PublishedVersion
from cloudreg_vertex import labels

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

PORT = 8080
PREDICT_ROUTE = "/invocations"
HEALTH_ROUTE = "/ping"
"""The model server's own routes, which it has on every cloud."""

STARTUP_PERIOD_S = 10
HEALTH_PERIOD_S = 10
HEALTH_TIMEOUT_S = 5
LIVENESS_FAILURES = 4

MAX_DESCRIPTION = 1024
ENVIRONMENT_MAX = 100
"""https://cloud.google.com/vertex-ai/docs/reference/rest/v1/ModelContainerSpec"""

_CREDENTIALS = frozenset({"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_API_KEY"})


def environment(model: str, number: int, digest: str) -> dict[str, str]:
    """Return the variables that every model server of ours is given."""
    return {
        "CLOUDREG_PROVIDER": "vertex",
        "CLOUDREG_MODEL": model,
        "CLOUDREG_NUMBER": str(number),
        "CLOUDREG_DIGEST": digest,
    }


_OWN = frozenset(environment("m", 1, ""))


def check_environment(env: Mapping[str, str], *, target: str) -> None:
    """Refuse an environment that a container would not get as it is.

    Raises:
        InvalidRequest: With the variable's name.
    """
    taken = sorted(_OWN & set(env))
    if taken:
        raise InvalidRequest(f"env: {taken[0]} is set by cloudreg itself", target=target)
    reserved = sorted(name for name in env if name.startswith("AIP_"))
    if reserved:
        raise InvalidRequest(f"env: {reserved[0]} is set by Vertex AI itself", target=target)
    secret = sorted(_CREDENTIALS & set(env))
    if secret:
        raise InvalidRequest(
            f"env: {secret[0]} would show credentials to everybody who may look at the model",
            target=target,
            hint='service_account = "…" in the target\'s section, with the permission',
        )
    if len(env) + len(_OWN) > ENVIRONMENT_MAX:
        raise InvalidRequest(
            f"env: {len(env)} variables, {ENVIRONMENT_MAX - len(_OWN)} at most", target=target
        )


def image_of(version: ModelVersion, settings: VertexSettings, *, target: str) -> str:
    """Return the container image of a version.

    Raises:
        ConfigError: Neither the version nor the target names one.
    """
    runtime = version.manifest.runtime
    image = (runtime.image if runtime else None) or settings.image
    if image is None:
        raise ConfigError(
            f"{version.ref} names no container image, and neither does the target",
            target=target,
            hint='image = "<region>-docker.pkg.dev/<project>/<repository>/<image>@sha256:…" '
            "in the target's section",
        )
    return image


def container_spec(
    version: ModelVersion,
    settings: VertexSettings,
    *,
    env: Mapping[str, str],
    target: str,
) -> dict[str, Any]:
    """Return how the model server of a version is started.

    Args:
        version: Which one.
        settings: The target's.
        env: Beside cloudreg's own variables.
        target: For messages.
    """
    own = environment(version.model, version.number, version.digest)
    ping = {"path": HEALTH_ROUTE, "port": PORT, "scheme": "HTTP"}
    return {
        "image_uri": image_of(version, settings, target=target),
        "env": [{"name": name, "value": value} for name, value in {**env, **own}.items()],
        "ports": [{"container_port": PORT}],
        "predict_route": PREDICT_ROUTE,
        "health_route": HEALTH_ROUTE,
        "deployment_timeout": {"seconds": settings.deployment_timeout_s},
        # The weights are loaded before the first healthy answer, however long that takes.
        "startup_probe": {
            "http_get": ping,
            "period_seconds": STARTUP_PERIOD_S,
            "timeout_seconds": HEALTH_TIMEOUT_S,
            "failure_threshold": max(1, settings.health_check_timeout_s // STARTUP_PERIOD_S),
        },
        "health_probe": {
            "http_get": ping,
            "period_seconds": HEALTH_PERIOD_S,
            "timeout_seconds": HEALTH_TIMEOUT_S,
        },
        "liveness_probe": {
            "tcp_socket": {"port": PORT},
            "period_seconds": HEALTH_PERIOD_S,
            "failure_threshold": LIVENESS_FAILURES,
        },
    }


def model_from(
    version: ModelVersion,
    settings: VertexSettings,
    *,
    artifacts: str,
    env: Mapping[str, str],
    target: str,
) -> dict[str, Any]:
    """Return the Model that shows a version.

    Args:
        version: Which one.
        settings: The target's.
        artifacts: ``gs://`` address of the folder with its files.
        env: Of the model server, beside cloudreg's own variables.
        target: For messages.
    """
    model: dict[str, Any] = {
        "display_name": version.model,
        "version_description": description(version),
        "artifact_uri": artifacts,
        "container_spec": container_spec(version, settings, env=env, target=target),
        "labels": labels.of_version(version),
    }
    if settings.kms_key is not None:
        model["encryption_spec"] = {"kms_key_name": settings.kms_key}
    return model


def description(version: ModelVersion) -> str:
    """Return what the console shows beside a version: who, when, and how good."""
    metrics = ", ".join(f"{name} {value:g}" for name, value in version.manifest.metrics.items())
    text = f"{version.ref} by {version.author}, {version.created_at}"
    return (f"{text}; {metrics}" if metrics else text)[:MAX_DESCRIPTION]


def published_from(model: Any) -> PublishedVersion | None:
    """Return what the registry shows of a version; None where cloudreg did not make it.

    Args:
        model: A ``Model`` as ListModelVersions and GetModel return it.
    """
    found = labels.identity(model.labels)
    if found is None:
        return None
    name, number, digest = found
    return PublishedVersion(
        model=name,
        number=number,
        digest=digest,
        stages=labels.stages(model.version_aliases),
        native_id=f"{model.name.partition('@')[0]}@{model.version_id}",
    )


def oldest_first(models: Sequence[Any]) -> list[Any]:
    """Return versions in the order in which Vertex AI made them."""
    return sorted(models, key=lambda model: int(model.version_id or 0))


METRICS_SCHEMA = """\
title: cloudreg metrics
type: object
description: Offline metrics of a version, by name.
additionalProperties:
  type: number
"""
"""OpenAPI schema of what `evaluation` writes; Vertex AI wants to be shown one."""


def evaluation(version: ModelVersion, *, schema: str) -> dict[str, Any]:
    """Return the ModelEvaluation with the metrics of a version.

    Args:
        version: It has metrics.
        schema: ``gs://`` address of `METRICS_SCHEMA`.
    """
    return {
        "display_name": f"cloudreg {version.ref}",
        "metrics_schema_uri": schema,
        "metrics": dict(version.manifest.metrics),
    }
