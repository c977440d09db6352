"""Batch jobs: a data set that is scored, and then nothing runs any more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cloudreg.errors import InvalidRequest
from cloudreg.names import check_digest, check_model
from cloudreg.types import Resources, check_environment

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 63
"""What clouds agree on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """What a job does.

    The input is one object or several below a prefix, of JSON lines: an instance a line. For each
    object ``<input><rest>`` there is ``<output><rest>.out`` in the end, with a line for each line
    in their order: ``{"prediction": …}``, or ``{"error": …}`` for an instance that got none.

    Attributes:
        name: The job's name on its target; never used twice.
        model: The model's name.
        number: The version's number.
        digest: The version's identity.
        input: Prefix of keys in the target's store, which ends in a slash.
        output: The same, for the answers.
        resources: What each replica needs.
        replicas: How many work side by side, on objects of their own.
        env: Environment of the model server. Never secrets.
    """

    name: str
    model: str
    number: int
    digest: str
    input: str
    output: str
    resources: Resources = field(default_factory=Resources)
    replicas: int = 1
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no target could run."""
        if not _NAME.fullmatch(self.name) or len(self.name) > MAX_NAME:
            raise InvalidRequest(
                f"batch {self.name!r}: lower-case letters, digits and hyphens, {MAX_NAME} at most"
            )
        check_model(self.model)
        check_digest(self.digest)
        for prefix in (self.input, self.output):
            if not prefix.endswith("/"):
                raise InvalidRequest(f"batch {self.name}: prefix {prefix!r} does not end in /")
        if self.replicas < 1:
            raise InvalidRequest(f"batch {self.name}: {self.replicas} replicas", hint="1 or more")
        check_environment(self.env)
