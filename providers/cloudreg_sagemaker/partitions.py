"""AWS's partitions, as botocore's own data has them: China's names end otherwise than Europe's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

DEFAULT = "aws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Where a region belongs.

    Attributes:
        name: As ARNs begin: ``arn:aws-cn:…``.
        suffix: What the names of its hosts end with.
    """

    name: str
    suffix: str


@cache
def partition_of(region: str) -> Partition:
    """Return the partition of a region; that of most for one that botocore does not know."""
    from botocore.loaders import create_loader

    known = create_loader().load_data("partitions")["partitions"]
    chosen = next((one for one in known if re.search(one["regionRegex"], region)), None)
    if chosen is None:
        chosen = next(one for one in known if one["id"] == DEFAULT)
    return Partition(name=chosen["id"], suffix=chosen["outputs"]["dnsSuffix"])
