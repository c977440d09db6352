"""Emulated AWS: moto, with SageMaker, its runtime and its scaling replaced.

::

    with aws() as emulator:                  # boto3 in this process
        boto3.client("s3").list_buckets()

    with aws(loopback=True) as emulator:     # cloudreg too, whose bytes do not go through boto3
        Workspace.load().status()

    with AwsServer() as server:              # every client on this machine
        subprocess.run(["aws", "s3", "ls"], env=server.process_environment())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
    loopback: bool = False,
) -> Iterator[Emulator]:
    """Answer boto3 in this process for as long as the block lasts.

    Everything is gone at its end: buckets, endpoints and model servers, and the environment is as
    it was. Clients that were made before the block are not caught.

    Args:
        images: Patterns of image URIs, and the command that each stands for.
        scale: Real seconds of an emulated second.
        describes: How many describes something that takes time takes at least.
        region: What clients ask that name none.
        loopback: Whether S3 and predictions are asked over this machine's loopback: for clients
            that are not boto3, such as obstore, and for patience with answers that come late or
            in pieces. Everything else stays in the process.

    Raises:
        NoWorld: An emulator is open in this process already.
    """
    from moto import mock_aws

    from cloudreg_emulator.aws.autoscaling.ticking import Ticker
    from cloudreg_emulator.aws.emulator import Emulator
    from cloudreg_emulator.aws.environment import applied, environment

    with ExitStack() as stack:
        listener = None
        if loopback:
            from cloudreg_emulator.aws import server

            listener = stack.enter_context(server.listening(server.HOST))
        url = server.address(listener) if listener is not None else None
        stack.enter_context(applied(environment(None, region=region, loopback=url)))
        stack.enter_context(mock_aws(config={"core": {"mock_credentials": False}}))
        emulator = stack.enter_context(
            Emulator.opened(images=images, scale=scale, describes=describes, region=region)
        )
        stack.enter_context(Ticker(scale=scale))
        if listener is not None:
            stack.enter_context(server.answering(emulator, listener))
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
