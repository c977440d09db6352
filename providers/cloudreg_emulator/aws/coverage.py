"""Which operations are answered, and by whom: read from the code, for the README.

``python -m cloudreg_emulator.aws.coverage`` prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import botocore.session
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.utils import camelcase_to_underscores
from moto.iam.responses import IamResponse
from moto.sagemaker.responses import SageMakerResponse as MotoSageMakerResponse

from cloudreg_emulator.aws.autoscaling.responses import ScalingResponse
from cloudreg_emulator.aws.iam.responses import StrictIamResponse
from cloudreg_emulator.aws.runtime.answering import OPERATIONS
from cloudreg_emulator.aws.sagemaker.responses import SageMakerResponse

_RESPONSES = {
    "sagemaker": (SageMakerResponse, MotoSageMakerResponse),
    "application-autoscaling": (ScalingResponse, ApplicationAutoScalingResponse),
    "iam": (StrictIamResponse, IamResponse),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The operations of one service.

    Attributes:
        service: botocore's name of it.
        ours: Answered by rules of this emulator.
        motos: Answered as moto does.
        refused: Not emulated; a request is refused and names the operation.
    """

    service: str
    ours: tuple[str, ...]
    motos: tuple[str, ...]
    refused: tuple[str, ...]


def coverage() -> Iterator[Coverage]:
    """Yield what is answered of each service that has operations of ours."""
    session = botocore.session.Session()
    for service, (response, upstream) in _RESPONSES.items():
        names = session.get_service_model(service).operation_names
        ours = [name for name in names if camelcase_to_underscores(name) in vars(response)]
        theirs = [
            n for n in names if n not in ours and hasattr(upstream, camelcase_to_underscores(n))
        ]
        yield _coverage(service, names, ours, theirs)
    names = session.get_service_model("sagemaker-runtime").operation_names
    yield _coverage("sagemaker-runtime", names, [name for name, _ in OPERATIONS.values()], [])


def _coverage(service: str, names: list[str], ours: list[str], theirs: list[str]) -> Coverage:
    refused = sorted(set(names) - {*ours, *theirs})
    return Coverage(
        service=service,
        ours=tuple(sorted(ours)),
        motos=tuple(sorted(theirs)),
        refused=tuple(refused),
    )


def markdown() -> Iterator[str]:
    """Yield the README's table, line by line."""
    yield "| service | by rules of this emulator | as moto | refused |"
    yield "|---|---|---|---|"
    for found in sorted(coverage(), key=lambda found: found.service):
        ours = ", ".join(f"`{name}`" for name in found.ours)
        yield f"| {found.service} | {ours} | {len(found.motos)} | {len(found.refused)} |"


if __name__ == "__main__":
    print("\n".join(markdown()))
