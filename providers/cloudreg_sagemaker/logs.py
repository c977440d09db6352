"""What the model servers wrote, from CloudWatch Logs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from cloudreg.errors import NotFound
from cloudreg_sagemaker.errors import translated

ENDPOINTS = "/aws/sagemaker/Endpoints/"
COMPONENTS = "/aws/sagemaker/InferenceComponents/"
"""Source: https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html"""

MAX_STREAMS = 10
"""Of the newest instances; the last lines of a fleet are theirs."""

MAX_LINES = 10_000
"""What one answer can hold."""


class EndpointLogs:
    """The log groups of one account's endpoints."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's CloudWatch Logs *client*."""
        self._client = client
        self._target = target

    def tail(
        self,
        endpoint: str,
        *,
        lines: int,
        since: datetime.datetime,
        variant: str | None = None,
        newcomers: bool = False,
        component: bool = False,
    ) -> list[str]:
        """Return the last lines, oldest first; none where nothing was written.

        Args:
            endpoint: Whose.
            lines: How many at most.
            since: Earlier lines are another endpoint's of the same name.
            variant: Of this one only.
            newcomers: Of instances that began after *since*, if there are any.
            component: Whether an inference component of that name wrote them, which has a log
                group of its own.
        """
        if lines < 1:
            return []
        begin_ms = int(since.timestamp() * 1000)
        if component:
            variant = None  # its streams are called after copies
        group = f"{COMPONENTS if component else ENDPOINTS}{endpoint}"
        found: list[tuple[int, int, str]] = []
        try:
            with translated(f"logs of endpoint {endpoint}", target=self._target):
                for stream in self._streams(group, variant, begin_ms if newcomers else 0):
                    answer = self._client.get_log_events(
                        logGroupName=group,
                        logStreamName=stream,
                        startTime=begin_ms,
                        startFromHead=False,
                        limit=min(lines, MAX_LINES),
                    )
                    found += [
                        (event["timestamp"], index, event["message"])
                        for index, event in enumerate(answer["events"])
                    ]
        except NotFound:
            return []
        # Of one millisecond, the order within a stream decides.
        return [text.rstrip("\n") for _, _, text in sorted(found)[-lines:]]

    def _streams(self, group: str, variant: str | None, begin_ms: int) -> list[str]:
        """Return the streams that were written last; each is ``variant/instance``."""
        streams: list[Mapping[str, Any]] = self._client.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True
        )["logStreams"]
        new = [stream for stream in streams if stream.get("creationTime", 0) >= begin_ms]
        names = [str(stream["logStreamName"]) for stream in new or streams]
        wanted = [name for name in names if variant is None or name.startswith(f"{variant}/")]
        return wanted[:MAX_STREAMS]


JOBS_GROUP = "/aws/sagemaker/TransformJobs"
"""https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html; a stream is
``<job>/<instance>``."""


class JobLogs:
    """The log group of one account's transform jobs."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's CloudWatch Logs *client*."""
        self._client = client
        self._target = target

    def tail(self, job: str, *, lines: int) -> list[str]:
        """Return the last lines of a job, oldest first; none where nothing was written."""
        found: list[tuple[int, int, str]] = []
        try:
            with translated(f"logs of batch {job}", target=self._target):
                streams = self._client.describe_log_streams(
                    logGroupName=JOBS_GROUP, logStreamNamePrefix=f"{job}/"
                )["logStreams"]
                for stream in streams[:MAX_STREAMS]:
                    answer = self._client.get_log_events(
                        logGroupName=JOBS_GROUP,
                        logStreamName=stream["logStreamName"],
                        startFromHead=False,
                        limit=min(lines, MAX_LINES),
                    )
                    found += [
                        (event["timestamp"], index, event["message"])
                        for index, event in enumerate(answer["events"])
                    ]
        except NotFound:
            return []
        return [text.rstrip("\n") for _, _, text in sorted(found)[-lines:]]
