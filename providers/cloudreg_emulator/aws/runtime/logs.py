"""What containers write, as CloudWatch Logs shows it."""

from __future__ import annotations

import threading
import time

from cloudreg_emulator.fleet import Launch

GROUP = "/aws/sagemaker/Endpoints/"

COMPONENTS_GROUP = "/aws/sagemaker/InferenceComponents/"
JOBS_GROUP = "/aws/sagemaker/TransformJobs"
"""https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html"""

MAX_EVENT = 256 * 1024
"""Characters of one event; CloudWatch's limit is in bytes."""

_lock = threading.Lock()


def group_arn(region: str, account: str, endpoint: str, *, partition: str = "aws") -> str:
    """Return the ARN of the log group of an endpoint."""
    return f"arn:{partition}:logs:{region}:{account}:log-group:{GROUP}{endpoint}"


def write(launch: Launch, instance: str, line: str) -> None:
    """Append a line to the log group of the endpoint, the inference component, or all jobs."""
    from moto.logs.models import logs_backends

    backend = logs_backends[launch.account][launch.region]
    group, stream = GROUP + launch.endpoint, f"{launch.variant}/{instance}"
    if launch.component:
        group, stream = COMPONENTS_GROUP + launch.component, instance
    if launch.job:
        group, stream = JOBS_GROUP, f"{launch.endpoint}/{instance}"
    event = {"timestamp": int(time.time() * 1000), "message": line[:MAX_EVENT]}
    # moto's streams are not made for threads; containers have one each.
    with _lock:
        backend.ensure_log_group(group)
        backend.ensure_log_stream(group, stream)
        # An empty message is refused by CloudWatch; the line is shown as a space.
        event["message"] = event["message"] or " "
        backend.put_log_events(group, stream, [event])
