"""Fixtures for the tests of deploy scripts.

::

    # conftest.py
    pytest_plugins = ["cloudreg_emulator.pytest_plugin"]

`emulated_aws` answers boto3 in the test's own process; `aws_server` is a server that every
process of this machine can reach, and its environment is that of the test. A test takes one of
them: moto's backends belong to the process. `google_server` is Google Cloud for all of them, and
goes with either. All read ``emulated_images``, which a project overrides to say which command
stands for which image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cloudreg_emulator.aws.emulator import Emulator
    from cloudreg_emulator.aws.server import AwsServer
    from cloudreg_emulator.google.emulator import Google


@pytest.fixture
def emulated_images() -> Mapping[str, Sequence[str]]:
    """Patterns of image URIs, and the command that each stands for."""
    return {}


@pytest.fixture
def emulated_scale() -> float:
    """Real seconds of an emulated second."""
    return 0.01


@pytest.fixture
def emulated_aws(
    emulated_images: Mapping[str, Sequence[str]], emulated_scale: float
) -> Iterator[Emulator]:
    """AWS for boto3 in this process; gone after the test."""
    # Each cloud takes a second to import, and a test needs one of them.
    from cloudreg_emulator.aws import aws

    with aws(images=emulated_images, scale=emulated_scale) as emulator:
        yield emulator


@pytest.fixture
def aws_server(
    emulated_images: Mapping[str, Sequence[str]], emulated_scale: float
) -> Iterator[AwsServer]:
    """AWS for all processes that this test starts, and for itself; gone after the test."""
    from cloudreg_emulator.aws.server import AwsServer

    with AwsServer(images=emulated_images, scale=emulated_scale) as server:
        yield server


@pytest.fixture
def google_server(
    emulated_images: Mapping[str, Sequence[str]], emulated_scale: float
) -> Iterator[Google]:
    """Google Cloud for all processes that this test starts, and for itself; gone after it."""
    from cloudreg_emulator.google.emulator import Google
    from cloudreg_emulator.google.environment import applied, environment

    with (
        Google(images=emulated_images, scale=emulated_scale) as google,
        applied(environment(google)),
    ):
        yield google
