"""Backends of ours in the place of moto's, in moto's own way.

moto keeps one `BackendDict` for each service, which makes a backend the first time one is asked
for, and finds the URLs beside that backend's class. So a service is replaced by one assignment,
and no function is patched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from moto.core.base_backend import BackendDict

__all__ = ["SERVICES", "installed"]


def _s3() -> tuple[BackendDict[Any], type]:
    from moto.s3.models import s3_backends

    from cloudreg_emulator.aws.s3.models import StrictS3Backend

    return s3_backends, StrictS3Backend


def _iam() -> tuple[BackendDict[Any], type]:
    from moto.iam.models import iam_backends

    from cloudreg_emulator.aws.iam.models import StrictIamBackend

    return iam_backends, StrictIamBackend


def _runtime() -> tuple[BackendDict[Any], type]:
    from moto.sagemakerruntime.models import sagemakerruntime_backends

    from cloudreg_emulator.aws.runtime.models import RuntimeBackend

    return sagemakerruntime_backends, RuntimeBackend


def _sagemaker() -> tuple[BackendDict[Any], type]:
    from moto.sagemaker.models import sagemaker_backends

    from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend

    return sagemaker_backends, SageMakerBackend


def _cloudwatch() -> tuple[BackendDict[Any], type]:
    from moto.cloudwatch.models import cloudwatch_backends

    from cloudreg_emulator.aws.cloudwatch.models import MeteredCloudWatchBackend

    return cloudwatch_backends, MeteredCloudWatchBackend


def _autoscaling() -> tuple[BackendDict[Any], type]:
    from moto.applicationautoscaling.models import applicationautoscaling_backends

    from cloudreg_emulator.aws.autoscaling.models import ScalingBackend

    return applicationautoscaling_backends, ScalingBackend


def _budgets() -> tuple[BackendDict[Any], type]:
    from moto.budgets.models import budgets_backends

    from cloudreg_emulator.aws.budgets.models import ToldBudgetsBackend

    return budgets_backends, ToldBudgetsBackend


SERVICES = {
    "applicationautoscaling": _autoscaling,
    "budgets": _budgets,
    "cloudwatch": _cloudwatch,
    "iam": _iam,
    "s3": _s3,
    "sagemaker": _sagemaker,
    "sagemakerruntime": _runtime,
}
"""What is replaced, by moto's name of the service."""


SLOW = {"applicationautoscaling": "moto.applicationautoscaling.models"}
"""What takes long to import, by its module: scaling brings all of EC2, two thirds of a second.

A server that asks before it makes a service's application can wait for the first such request.
"""


@contextmanager
def installed(*, late: bool = False) -> Iterator[Callable[[str], None]]:
    """Answer with our backends for as long as the block lasts, and with moto's again after it.

    Args:
        late: Leave out what is slow and not imported yet.

    Yields:
        What installs a service that was left out, called by moto's name of it; others are as
        they should be.
    """
    with ExitStack() as stack:
        waiting = dict(SERVICES)

        def install(service: str) -> None:
            replacement = waiting.pop(service, None)
            if replacement is not None:
                stack.enter_context(_replaced(*replacement()))

        for service in SERVICES:
            if not late or service not in SLOW or SLOW[service] in sys.modules:
                install(service)
        yield install


@contextmanager
def _replaced(backends: BackendDict[Any], ours: type) -> Iterator[None]:
    before = backends.backend
    # What exists already was made by the other class, and S3 keeps the names of all its buckets.
    _empty(backends)
    backends.backend = ours
    try:
        yield
    finally:
        _empty(backends)
        backends.backend = before


def _empty(backends: BackendDict[Any]) -> None:
    for account in backends.values():
        account.reset()
    backends.clear()
