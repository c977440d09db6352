"""People are told what they must know."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import ClassVar

from cloudreg.errors import InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.manifest import ModelCard
from cloudreg.types import GateResult

SECTIONS = tuple(field.name for field in fields(ModelCard))

_PLACEHOLDER = re.compile(
    r"\W*(todo|tbd|tba|tbc|fixme|xxx+|wip|placeholder|lorem ipsum"
    r"|to be (added|announced|confirmed|decided|defined|determined|done|written))\b",
    re.IGNORECASE,
)
_NOTHING = frozenset({"na", "none", "nothing", "null", "nil", "unknown", "notstated", "empty"})
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardGate:
    """The model card says what it must; a placeholder says nothing.

    Attributes:
        require: Sections of the card that must be filled.
    """

    kind: ClassVar[str] = "card"

    require: tuple[str, ...] = ("intended_use", "limits")

    def __post_init__(self) -> None:
        """Refuse sections that no card has, and a gate that checks nothing."""
        if not self.require:
            raise InvalidRequest("a card gate that requires nothing checks nothing")
        for name in self.require:
            if name not in SECTIONS:
                raise InvalidRequest(
                    f"require: {name!r} is no section of a model card",
                    hint=f"known are {', '.join(SECTIONS)}",
                )

    def check(self, context: GateContext) -> GateResult:
        """Look for what is not stated."""
        card = context.version.manifest.card
        stated = [name for name in SECTIONS if is_stated(getattr(card, name))]
        missing = [name for name in self.require if name not in stated]
        placeholders = [name for name in missing if getattr(card, name).strip()]
        problems = [
            f"{name} is a placeholder" if name in placeholders else f"{name} is empty"
            for name in missing
        ]
        return GateResult(
            gate=self.kind,
            passed=not missing,
            reason=(
                f"the model card of {context.version.ref} is not complete: {'; '.join(problems)}"
                if missing
                else "the model card says what it must"
            ),
            measured=f"{', '.join(stated) or 'nothing'} stated",
            wanted=f"{', '.join(self.require)} stated",
            evidence={"missing": missing, "placeholders": placeholders},
        )


def is_stated(text: str) -> bool:
    """Whether *text* says something: neither empty nor a placeholder such as TODO."""
    text = _COMMENT.sub("", text)
    letters = "".join(c for c in text if c.isalnum()).casefold()
    return bool(letters) and letters not in _NOTHING and not _PLACEHOLDER.match(text)
