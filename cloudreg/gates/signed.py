"""The version was signed by everybody whose signature the stage asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cloudreg.errors import CloudregError, InvalidRequest, SignatureRequired
from cloudreg.gates import GateContext
from cloudreg.types import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedGate:
    """Each of some keys signed the candidate, and the signature holds.

    What this gate asks for is asked again on each target and before each deployment.

    Attributes:
        keys: Their names in ``[keys.*]``.
    """

    kind: ClassVar[str] = "signed"

    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a gate that nobody has to pass."""
        if not self.keys:
            raise InvalidRequest("keys names nobody")
        if len(set(self.keys)) != len(self.keys):
            raise InvalidRequest("keys names somebody twice")

    def check(self, context: GateContext) -> GateResult:
        """Look for each signature, and verify it."""
        held: dict[str, Any] = {}
        problems: dict[str, str] = {}
        missing = False
        for name in self.keys:
            try:
                seal = context.signed(name)
            except CloudregError as error:
                problems[name] = error.message
                missing = missing or isinstance(error, SignatureRequired)
            else:
                held[name] = {"key": seal.key, "by": seal.by, "at": seal.at, "bundle": seal.bundle}
        reason = "; ".join(problems.values())
        if missing:
            reason += f". cloudreg sign {context.version.ref} --key FILE"
        return GateResult(
            gate=self.kind,
            passed=not problems,
            reason=reason or f"signed by {' and '.join(self.keys)}",
            measured=f"signed by {' and '.join(held)}" if held else "signed by nobody of them",
            wanted=f"signed by {' and '.join(self.keys)}",
            evidence={"signed": held, "problems": problems},
        )
