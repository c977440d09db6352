"""How a cloud starts a container, and what it asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SAGEMAKER", "Contract"]

Environment = Callable[[Path, int], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What one cloud's containers can rely on.

    Attributes:
        command: Takes the place of the image's own command; empty leaves that.
        arguments: What follows the command.
        environment: The platform's variables, from the container's folder and its port; they beat
            the user's.
        health: Path that must answer 200.
        health_s: Seconds that it may take for that.
        misses: Missed checks in a row after which an instance that was healthy gets no requests.
        replaces: Whether it is then replaced; else it may recover.
        predict: Path of predictions.
        live_s: Emulated seconds after which a container that does not listen is started again;
            None waits for its health check alone.
        is_mirrored: Whether the model data lies on the container's disk before it starts; else the
            container fetches it itself.
    """

    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Environment
    health: str = "/ping"
    health_s: float = 2.0
    misses: int = 3
    replaces: bool = True
    predict: str = "/invocations"
    is_mirrored: bool = True
    live_s: float | None = None


def _sagemaker(folder: Path, port: int) -> Mapping[str, str]:
    # A real container has /opt/ml and port 8080 for itself; here many share one machine.
    return {"SAGEMAKER_BASE_DIR": str(folder), "SAGEMAKER_BIND_TO_PORT": str(port)}


SAGEMAKER = Contract(arguments=("serve",), environment=_sagemaker)
"""https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"""
