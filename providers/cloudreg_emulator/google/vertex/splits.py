"""Who gets how much of an endpoint's traffic.

Source: the documentation of Endpoint.traffic_split and DeployModelRequest.traffic_split in the
SDK's protos.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

from cloudreg_emulator.google.vertex.refusals import invalid

__all__ = ["NEW", "check_split", "choose"]

NEW = "0"
"""What the model that is being deployed is called in a request."""


def check_split(split: Mapping[str, int], known: Collection[str], field: str) -> None:
    """Refuse a split over models that are not there, or one that is not all of the traffic.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    unknown = sorted(set(split) - set(known))
    if unknown:
        # https://github.com/GoogleCloudPlatform/java-docs-samples/pull/8475
        raise invalid(
            field, f"The following DeployedModel ID(s) [{', '.join(unknown)}] do not exist."
        )
    for one, percent in split.items():
        if not 0 <= percent <= 100:
            raise invalid(field, f"The traffic percentage of {one} is not 0 to 100.")  # unquoted
    if split and sum(split.values()) != 100:
        raise invalid(field, "Traffic split percentages do not sum to 100.")  # unquoted


def choose(split: Mapping[str, int]) -> str | None:
    """Return the model that gets a request; None where nobody does."""
    ids = [one for one, percent in split.items() if percent]
    if not ids:
        return None
    return random.choices(ids, [split[one] for one in ids])[0]  # noqa: S311 - no secret
