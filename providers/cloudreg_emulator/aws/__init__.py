"""Emulated AWS: moto, with SageMaker, its runtime and its scaling replaced.

::

    with aws() as emulator:                  # boto3 in this process
        boto3.client("s3").list_buckets()

    with AwsServer() as server:              # every client on this machine
        subprocess.run(["aws", "s3", "ls"], env=server.process_environment())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudreg_emulator.aws.emulator import Emulator
    from cloudreg_emulator.aws.server import AwsServer

__all__ = ["AwsServer", "Emulator", "aws"]


@contextmanager
def aws(
    *,
    images: Mapping[str, Sequence[str]] | None = None,
    scale: float = 1.0,
    describes: int = 1,
    region: str = "us-east-1",
) -> Iterator[Emulator]:
    """Answer boto3 in this process for as long as the block lasts.

    Everything is gone at its end: buckets, endpoints and model servers, and the environment is as
    it was. Clients that were made before the block are not caught.

    Args:
        images: Patterns of image URIs, and the command that each stands for.
        scale: Real seconds of an emulated second.
        describes: How many describes something that takes time takes at least.
        region: What clients ask that name none.

    Raises:
        NoWorld: An emulator is open in this process already.
    """
    from moto import mock_aws

    from cloudreg_emulator.aws.emulator import Emulator
    from cloudreg_emulator.aws.environment import applied, environment

    with (
        applied(environment(None, region=region)),
        mock_aws(config={"core": {"mock_credentials": False}}),
        Emulator.opened(images=images, scale=scale, describes=describes, region=region) as emulator,
    ):
        yield emulator


def __getattr__(name: str) -> object:
    # flask and werkzeug take their time, and tests in process need neither.
    if name == "AwsServer":
        from cloudreg_emulator.aws.server import AwsServer

        return AwsServer
    if name == "Emulator":
        from cloudreg_emulator.aws.emulator import Emulator

        return Emulator
    raise AttributeError(name)
