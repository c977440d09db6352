"""Answers that come piece by piece: InvokeEndpointWithResponseStream, and its event stream.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloudreg.errors import CloudregError, OperationFailed, OperationTimeout
from cloudreg_sagemaker.errors import translated

OUT_OF_TIME = "ModelInvocationTimeExceeded"
"""``ErrorCode`` of the exception that ends a stream after eight minutes."""


def pieces(
    client: Any, request: Mapping[str, Any], *, what: str, timeout_s: float, target: str
) -> Generator[bytes, None, None]:
    """Send a request, and yield the bytes of its answer as they come.

    Args:
        client: boto3's runtime client.
        request: Of InvokeEndpointWithResponseStream.
        what: For messages.
        timeout_s: For messages; the client has it.
        target: For messages.

    Raises:
        botocore.exceptions.ClientError: SageMaker refuses, before the first piece.
        OperationFailed: The answer broke off.
        OperationTimeout: The next piece did not come in time.
    """
    with _read(what, timeout_s=timeout_s, target=target):
        events = client.invoke_endpoint_with_response_stream(**request)["Body"]
        try:
            yield from _payloads(events, what, target)
        finally:
            events.close()


def _payloads(events: Any, what: str, target: str) -> Iterator[bytes]:
    from botocore.exceptions import EventStreamError

    try:
        for event in events:
            piece = event.get("PayloadPart", {}).get("Bytes", b"")
            if piece:
                yield piece
    except EventStreamError as error:
        raise _ended(error.response, what, target) from error


def _ended(said: Mapping[str, Any], what: str, target: str) -> CloudregError:
    """Return what an exception in the stream means."""
    code = str(said.get("ErrorCode") or said["Error"].get("Code", ""))
    words = str(said.get("Message") or said["Error"].get("Message", ""))
    if code == OUT_OF_TIME:
        return OperationTimeout(f"{what}: {words}", target=target)
    return OperationFailed(f"{what}: its answer broke off: {words or code}", target=target)


@contextmanager
def _read(what: str, *, timeout_s: float, target: str) -> Iterator[None]:
    """Say in our words what goes wrong on the connection."""
    from botocore import exceptions
    from urllib3 import exceptions as below

    try:
        yield
    except exceptions.ClientError:
        raise  # who calls knows what a refusal means
    except (exceptions.ReadTimeoutError, below.ReadTimeoutError) as error:
        raise OperationTimeout(
            f"{what} did not answer in {timeout_s:g} s", target=target
        ) from error
    except below.HTTPError as error:
        # botocore translates what is wrong with an answer, but not with a stream of events.
        raise OperationFailed(f"{what}: its answer broke off: {error}", target=target) from error
    except exceptions.BotoCoreError:
        with translated(what, target=target):
            raise
