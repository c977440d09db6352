"""Callers of the stage can go on as before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from cloudreg.gates import GateContext
from cloudreg.manifest import Signature, TensorSpec
from cloudreg.types import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureGate:
    """The candidate takes every request that the stage's holder takes, and answers alike."""

    kind: ClassVar[str] = "signature"

    def check(self, context: GateContext) -> GateResult:
        """Compare the candidate's signature with the holder's."""
        version, holder = context.version, context.holder
        new = version.manifest.signature
        old = holder.manifest.signature if holder is not None else None
        problems: list[str] = []
        if holder is None:
            reason = f"{context.stage} holds nothing that it has to agree with"
        elif old is None:
            reason = f"{holder.ref}, which {context.stage} holds, has no signature"
        elif new is None:
            problems = [f"{version.ref} has no signature, {holder.ref} has one"]
            reason = problems[0]
        else:
            problems = list(breaks(old, new))
            reason = (
                "callers of {} would break: {}".format(holder.ref, "; ".join(problems))
                if problems
                else f"it agrees with {holder.ref}"
            )
        return GateResult(
            gate=self.kind,
            passed=not problems,
            reason=reason,
            measured=_text(new),
            wanted=f"what callers of {holder.ref} use: {_text(old)}" if holder and old else "",
            evidence={"holder": holder.ref if holder is not None else None, "breaks": problems},
        )


def breaks(old: Signature, new: Signature) -> Iterator[str]:
    """Yield what callers of *old* would notice of *new*; nothing where they would not."""
    before, after = _by_name(old.inputs), _by_name(new.inputs)
    for name, tensor in before.items():
        if name not in after:
            yield f"input {name} is gone"
        elif after[name].dtype != tensor.dtype:
            yield f"input {name} was {tensor.dtype}, is {after[name].dtype}"
        elif not _takes(after[name].shape, tensor.shape):
            yield f"input {name} took {list(tensor.shape)}, takes {list(after[name].shape)}"
    # There are no optional inputs: requests without a new one are refused.
    yield from (
        f"input {name} is new, and requests lack it" for name in after if name not in before
    )
    before, after = _by_name(old.outputs), _by_name(new.outputs)
    for name, tensor in before.items():
        if name not in after:
            yield f"output {name} is gone"
        elif after[name].dtype != tensor.dtype:
            yield f"output {name} was {tensor.dtype}, is {after[name].dtype}"
        elif after[name].shape != tensor.shape:
            yield f"output {name} was {list(tensor.shape)}, is {list(after[name].shape)}"
    if len(before) == 1 and len(after) > 1:
        # One output is answered bare, several as an object.
        yield f"predictions were bare values of {next(iter(before))}, would be objects by name"


def _by_name(tensors: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {tensor.name: tensor for tensor in tensors}


def _takes(new: tuple[int, ...], old: tuple[int, ...]) -> bool:
    return len(new) == len(old) and all(
        wide in (-1, size) for wide, size in zip(new, old, strict=True)
    )


def _text(signature: Signature | None) -> str:
    if signature is None:
        return "no signature"
    sides = (", ".join(map(str, side)) for side in (signature.inputs, signature.outputs))
    return " -> ".join(sides)
