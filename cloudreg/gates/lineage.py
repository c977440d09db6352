"""Somebody else could make the version again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cloudreg.errors import InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.types import GateResult

FACTS = {
    "git_commit": "the git commit",
    "git_remote": "the repository's address",
    "data_digest": "the digest of the training data",
    "environment_digest": "the digest of the environment",
    "seed": "the seed",
    "parameters": "the parameters",
    "source": "where the files came from",
}
"""What can be required, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageGate:
    """The lineage says all that is needed to make the version again.

    Attributes:
        require: Fields of the lineage that must be there.
        allow_dirty: Whether the work tree may have differed from the commit.
    """

    kind: ClassVar[str] = "lineage"

    require: tuple[str, ...] = ("git_commit", "data_digest", "environment_digest", "seed")
    allow_dirty: bool = False

    def __post_init__(self) -> None:
        """Refuse fields that no lineage has, and a gate that checks nothing."""
        for name in self.require:
            if name not in FACTS:
                raise InvalidRequest(
                    f"require: {name!r} is no field of a lineage",
                    hint=f"known are {', '.join(FACTS)}",
                )
        if not self.require and self.allow_dirty:
            raise InvalidRequest("a lineage gate that requires nothing checks nothing")

    def check(self, context: GateContext) -> GateResult:
        """Look for what is missing."""
        lineage = context.version.manifest.lineage
        # A seed of 0 is a seed.
        there = [name for name in FACTS if getattr(lineage, name) not in (None, "", {})]
        missing = [name for name in self.require if name not in there]
        problems = [f"{FACTS[name]} is missing" for name in missing]
        if (
            not self.allow_dirty
            and lineage.git_commit is not None
            and lineage.git_dirty is not False
        ):
            problems.append(
                "the work tree differed from the commit"
                if lineage.git_dirty
                else "it is not known whether the work tree differed from the commit"
            )
        tree = {True: "dirty", False: "clean", None: "not known"}[lineage.git_dirty]
        clean = [] if self.allow_dirty else ["a clean work tree"]
        return GateResult(
            gate=self.kind,
            passed=not problems,
            reason="; ".join(problems) or "all that is needed to make it again is recorded",
            measured=f"{', '.join(there) or 'nothing'} (work tree: {tree})",
            wanted=", ".join([*self.require, *clean]),
            evidence={"missing": missing, "git_dirty": lineage.git_dirty},
        )
