"""Names of resources: ``projects/…/locations/…/models/…@…``."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Name", "parse", "place_of"]

_PLACE = re.compile(r"projects/([^/]+)/locations/([^/]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A resource's name in parts.

    Attributes:
        project: Id or number, as it was written.
        location: Of the resource.
        rest: What follows: ``models/churn``, ``endpoints/1/operations/2``; empty for a location.
        version: What follows the ``@``: a version's number, or an alias; None without one.
    """

    project: str
    location: str
    rest: str = ""
    version: str | None = None

    @property
    def parent(self) -> str:
        """The location's name."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def base(self) -> str:
        """The name without a version."""
        return f"{self.parent}/{self.rest}" if self.rest else self.parent

    @property
    def id(self) -> str:
        """The last part, without a version."""
        return self.rest.rpartition("/")[2]


def parse(name: str) -> Name | None:
    """Return the parts of a name; None for what is none."""
    found = _PLACE.match(name)
    if found is None:
        return None
    rest = name[found.end() :]
    if rest and not re.fullmatch(r"(/[^/]+/[^/]+)+", rest):
        return None
    rest, at, version = rest[1:].partition("@")
    return Name(
        project=found.group(1),
        location=found.group(2),
        rest=rest,
        version=version if at else None,
    )


def place_of(name: str) -> str:
    """Return the location's name that a resource's name begins with.

    Raises:
        ValueError: It begins with none.
    """
    found = _PLACE.match(name)
    if found is None:
        raise ValueError(f"{name!r} is no resource's name")
    return found.group()
