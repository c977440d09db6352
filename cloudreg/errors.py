"""Every error a caller can meet, drawn as a tree.

::

    CloudregError                 target=…, hint=…; the SDK's exception stays in __cause__
    ├── ConfigError               (ValueError)   cloudreg.toml, environment, arguments of a target
    │   └── ProviderNotInstalled                 the plug-in or its extra is missing
    ├── InvalidRequest            (ValueError)   a name, reference or value that can never be right
    ├── NotFound                  (LookupError)  no such model, version, stage, endpoint, object
    ├── AlreadyExists                            the name is taken by something different
    ├── Conflict                                 somebody else was first, or holds the model now
    │   ├── Fenced                               the lease went to another process: stop at once
    │   └── StalePlan                            the world moved since the plan was made
    ├── Unsupported                              the target cannot do it; the hint names what can
    ├── PermissionDenied          (PermissionError)
    ├── QuotaExceeded
    ├── Unavailable                              the outcome is unknown: ask again, then decide
    ├── IntegrityError                           bytes, manifest or ledger are not what was recorded
    ├── OperationFailed                          the target gave up; ``logs``: its last lines
    │   └── RolloutAborted                       undone: the previous version serves again
    ├── OperationTimeout          (TimeoutError) still running, and it keeps running without us
    ├── RolloutPaused                            inconclusive or paused by hand; resume or abort
    ├── ApprovalRequired                         more people have to agree
    ├── SignatureRequired                        a stage asks for a signature that nobody gave yet
    ├── RepairRequired                           a target no longer shows what the ledger says
    └── GateFailed                               ``results`` holds every gate, passed or not

`exit_code` is what the command line ends with when the error reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cloudreg.types import GateResult

__all__ = [
    "AlreadyExists",
    "ApprovalRequired",
    "CloudregError",
    "ConfigError",
    "Conflict",
    "Fenced",
    "GateFailed",
    "IntegrityError",
    "InvalidRequest",
    "NotFound",
    "OperationFailed",
    "OperationTimeout",
    "PermissionDenied",
    "ProviderNotInstalled",
    "QuotaExceeded",
    "RepairRequired",
    "RolloutAborted",
    "RolloutPaused",
    "SignatureRequired",
    "StalePlan",
    "Unavailable",
    "Unsupported",
]


class CloudregError(Exception):
    """The root of the tree.

    Attributes:
        message: What was asked of whom, and why it did not happen.
        target: The target's name in ``cloudreg.toml``, where one was involved.
        hint: The next thing to type, where one is known.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, target: str | None = None, hint: str | None = None) -> None:
        """Keep the three parts apart, so that a program can read them."""
        super().__init__(message)
        self.message = message
        self.target = target
        self.hint = hint

    def __str__(self) -> str:
        """Render the parts on lines of their own."""
        lines = [self.message]
        if self.target:
            lines.append(f"  target: {self.target}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Return what ``--json`` prints for this error."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "target": self.target,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class ConfigError(CloudregError, ValueError):
    """The configuration cannot be used as it stands."""

    exit_code: ClassVar[int] = 64


class ProviderNotInstalled(ConfigError):
    """The plug-in, or the extra that brings its SDK, is missing."""


class InvalidRequest(CloudregError, ValueError):
    """A name, reference or value that can never be right."""

    exit_code: ClassVar[int] = 64


class NotFound(CloudregError, LookupError):
    """No such model, version, stage, endpoint or object."""


class AlreadyExists(CloudregError):
    """The name is taken by something different."""


class Conflict(CloudregError):
    """Somebody else was first, or holds the model now."""


class Fenced(Conflict):
    """The lease is gone: another process may act, so this one must not."""


class StalePlan(Conflict):
    """The world moved since the plan was made."""


class Unsupported(CloudregError):
    """The target cannot do what the request needs."""


class PermissionDenied(CloudregError, PermissionError):
    """The credentials do not allow it."""

    # PermissionError's own __str__ is OSError's, which knows nothing of target and hint.
    __str__ = CloudregError.__str__


class QuotaExceeded(CloudregError):
    """A limit of the account or the region was reached."""


class Unavailable(CloudregError):
    """No answer, or a temporary refusal: the outcome is unknown."""


class IntegrityError(CloudregError):
    """Bytes, manifest or ledger are not what was recorded."""


class OperationFailed(CloudregError):
    """The target gave up.

    Attributes:
        logs: The last lines that the model server or the service wrote.
    """

    def __init__(
        self,
        message: str,
        *,
        target: str | None = None,
        hint: str | None = None,
        logs: Sequence[str] = (),
    ) -> None:
        """Keep the log lines beside the message."""
        super().__init__(message, target=target, hint=hint)
        self.logs = tuple(logs)

    def __str__(self) -> str:
        """Render the message, then the last log lines."""
        text = super().__str__()
        if self.logs:
            text += "\n  last log lines:\n" + "\n".join(f"    {line}" for line in self.logs)
        return text

    def to_json(self) -> dict[str, object]:
        """Add the log lines."""
        return {**super().to_json(), "logs": list(self.logs)}


class RolloutAborted(OperationFailed):
    """A rollout was undone: the previous version serves all traffic again."""


class OperationTimeout(CloudregError, TimeoutError):
    """Still running, and it keeps running without us."""

    # TimeoutError's own __str__ is OSError's, which knows nothing of target and hint.
    __str__ = CloudregError.__str__


class RolloutPaused(CloudregError):
    """The rollout stands at a step until somebody resumes or aborts it."""

    exit_code: ClassVar[int] = 4


class ApprovalRequired(CloudregError):
    """The stage asks for more approvals than there are."""

    exit_code: ClassVar[int] = 4


class SignatureRequired(CloudregError):
    """The stage asks for a signature by a key that has not signed."""

    exit_code: ClassVar[int] = 4


class RepairRequired(CloudregError):
    """A target no longer shows what the ledger says; repair or adopt first."""

    exit_code: ClassVar[int] = 4


class GateFailed(CloudregError):
    """At least one gate did not hold.

    Attributes:
        results: All gates that ran, passed or not.
    """

    exit_code: ClassVar[int] = 3

    def __init__(
        self,
        message: str,
        *,
        results: Sequence[GateResult] = (),
        target: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Keep the results beside the message."""
        super().__init__(message, target=target, hint=hint)
        self.results = tuple(results)

    def __str__(self) -> str:
        """Render the message, then a line for each gate."""
        lines = [super().__str__()]
        for result in self.results:
            mark = "pass" if result.passed else "FAIL"
            lines.append(f"  {mark}  {result.gate}: {result.reason}")
            if not result.passed and result.wanted:
                lines.append(f"        measured {result.measured}, wanted {result.wanted}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Add the results."""
        return {**super().to_json(), "gates": [r.to_json() for r in self.results]}
