"""How the services that speak JSON word the faults that are no trouble of their own.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from cloudreg_emulator.faults import Fault, Kind

__all__ = ["refusal"]

ACCOUNT = "123456789012"
"""moto's account."""


def refusal(fault: Fault, *, service: str, operation: str) -> tuple[int, str, str] | None:
    """Return status, code and message; None where the fault is trouble of the service's own.

    Args:
        fault: What strikes.
        service: As policies name it, such as ``sagemaker``.
        operation: Such as ``CreateEndpoint``.
    """
    if fault.kind is Kind.THROTTLE:
        return 400, "ThrottlingException", "Rate exceeded"
    if fault.kind is Kind.EXPIRED:
        words = "The security token included in the request is expired"
        return 403, "ExpiredTokenException", words
    if fault.kind is Kind.DENIED:
        words = (
            f"User: arn:aws:iam::{ACCOUNT}:user/emulated is not authorized to perform: "
            f"{service}:{operation} because no identity-based policy allows the "
            f"{service}:{operation} action"
        )
        return 403, "AccessDeniedException", words
    return None
