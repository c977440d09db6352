"""Container specifications that a model cannot have.

Source: the documentation of ModelContainerSpec, Probe, Port and EnvVar in the SDK's protos.
That a probe's timeout were at least its period, as Probe says there, is not held against anybody:
Kubernetes, to which the fields are mapped, has it the other way around.
"""

from __future__ import annotations

import re
from typing import Any

from cloudreg_emulator.google.vertex.refusals import invalid
from cloudreg_emulator.google.vertex.rules import required

__all__ = ["check_container"]

MAX_TIMEOUT_S = 2 * 3600
MAX_ENVIRONMENT = 100
"""https://cloud.google.com/vertex-ai/docs/reference/rest/v1/ModelContainerSpec"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COUNTS = (
    "period_seconds",
    "timeout_seconds",
    "failure_threshold",
    "success_threshold",
    "initial_delay_seconds",
)


def check_container(spec: Any, field: str) -> None:
    """Refuse a container that could not be started or asked.

    Raises:
        Refused: INVALID_ARGUMENT, with the field's path below *field*.
    """
    if not spec.image_uri:
        raise required(f"{field}.image_uri")
    _check_routes(spec, field)
    _check_environment(spec, field)
    for name in ("ports", "grpc_ports"):
        for port in getattr(spec, name):
            _check_port(port.container_port, f"{field}.{name}")
    if spec.HasField("deployment_timeout"):
        seconds = spec.deployment_timeout.ToTimedelta().total_seconds()
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise invalid(
                f"{field}.deployment_timeout", "The deployment timeout is 2 hours at most."
            )
    if spec.shared_memory_size_mb < 0:
        raise invalid(f"{field}.shared_memory_size_mb", "The size must not be negative.")
    for name in ("startup_probe", "health_probe", "liveness_probe"):
        if spec.HasField(name):
            _check_probe(getattr(spec, name), f"{field}.{name}")


def _check_routes(spec: Any, field: str) -> None:
    for name in ("predict_route", "health_route"):
        route = getattr(spec, name)
        if route and not route.startswith("/"):
            raise invalid(f"{field}.{name}", f"{route!r} is no HTTP path.")
    if spec.invoke_route_prefix:
        if spec.invoke_route_prefix != "/*":
            raise invalid(f"{field}.invoke_route_prefix", '"/*" is the only supported value.')
        if spec.predict_route:
            raise invalid(
                f"{field}.invoke_route_prefix",
                "Only one of predict_route or invoke_route_prefix can be set.",
            )


def _check_environment(spec: Any, field: str) -> None:
    if len(spec.env) > MAX_ENVIRONMENT:
        raise invalid(f"{field}.env", f"At most {MAX_ENVIRONMENT} variables are allowed.")
    for variable in spec.env:
        if not _NAME.fullmatch(variable.name):
            raise invalid(f"{field}.env", f"{variable.name!r} is not a valid C identifier.")


def _check_port(port: int, field: str) -> None:
    if not 1 <= port <= 65535:
        raise invalid(field, f"Port {port} is not in the range 1 to 65535.")


def _check_probe(probe: Any, field: str) -> None:
    for name in _COUNTS:
        # Zero is unset, for which there is a default.
        if getattr(probe, name) < 0:
            raise invalid(f"{field}.{name}", "The value must not be negative.")
    kind = probe.WhichOneof("probe_type")
    if kind is None:
        return
    # The SDK's own spelling, since exec was a word of Python once.
    if kind == "exec_":
        if not probe.exec_.command:
            raise required(f"{field}.exec.command")
        return
    action = getattr(probe, kind)
    if action.port or kind != "http_get":
        _check_port(action.port, f"{field}.{kind}.port")
    if kind == "http_get" and action.scheme not in ("", "HTTP", "HTTPS"):
        raise invalid(f"{field}.http_get.scheme", 'Acceptable values are "HTTP" or "HTTPS".')
