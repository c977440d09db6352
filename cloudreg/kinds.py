"""Kinds of endpoints: how a request meets a model server.

A real-time endpoint has replicas that wait. A serverless one has none that anybody counts. An
asynchronous one queues requests that take minutes, and keeps the answers in the target's store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cloudreg.errors import InvalidRequest

_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


class EndpointKind(StrEnum):
    """How requests are answered."""

    REAL_TIME = "real_time"
    SERVERLESS = "serverless"
    ASYNCHRONOUS = "asynchronous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    """What a serverless endpoint may take.

    Attributes:
        memory_mib: Of each model server.
        max_concurrency: Requests in flight; more are refused.
        provisioned_concurrency: Of them, those for which a model server is kept warm.
    """

    memory_mib: int = 2048
    max_concurrency: int = 20
    provisioned_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in ("memory_mib", "max_concurrency"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} {getattr(self, name)} is not 1 or more")
        warm = self.provisioned_concurrency
        if warm is not None and not 1 <= warm <= self.max_concurrency:
            raise InvalidRequest(
                f"provisioned_concurrency {warm} is not 1 to {self.max_concurrency}, "
                "the max_concurrency",
                hint=f"provisioned_concurrency = {self.max_concurrency}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asynchronous:
    """What becomes of requests that are queued.

    Attributes:
        output: Prefix of answers and failures in the target's store.
        max_concurrent_per_replica: Requests that a model server gets at once; the target chooses
            without.
        notify_success: Topic, by the target's own name, that is told of each answer.
        notify_error: Topic that is told of each failure.
        expires_s: Seconds that a request may wait before it is given up.
    """

    output: str = "asynchronous"
    max_concurrent_per_replica: int | None = None
    notify_success: str | None = None
    notify_error: str | None = None
    expires_s: int = 21_600

    def __post_init__(self) -> None:
        """Refuse a prefix that leads nowhere, and numbers that mean nothing."""
        if not _PREFIX.fullmatch(self.output):
            raise InvalidRequest(
                f"output {self.output!r}: a prefix of keys, without a slash at its ends",
                hint='output = "asynchronous"',
            )
        most = self.max_concurrent_per_replica
        if most is not None and most < 1:
            raise InvalidRequest(f"max_concurrent_per_replica {most} is not 1 or more")
        if self.expires_s < 1:
            raise InvalidRequest(f"expires_s {self.expires_s} is not 1 or more")
