"""Tags of the resources that this emulator keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cloudreg_emulator.aws.sagemaker.errors import invalid

__all__ = ["Tags"]

MOST = 50
"""Of a resource. Source: TagList in the service model."""


class Tags:
    """Tags by ARN; a resource has an entry from its creation to its end, be it empty."""

    def __init__(self) -> None:
        """Begin with no resource."""
        self._tags: dict[str, dict[str, str]] = {}

    def __contains__(self, arn: str) -> bool:
        return arn in self._tags

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        return iter([(arn, dict(tags)) for arn, tags in self._tags.items()])

    def begin(self, arn: str, tags: Sequence[Mapping[str, str]] | None) -> None:
        """Take the tags of a resource that is about to be created; refuse what can't be tags."""
        self._tags[arn] = _checked(tags or [], {})

    def end(self, arn: str) -> None:
        """Forget a resource."""
        self._tags.pop(arn, None)

    def add(self, arn: str, tags: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Add tags, overwrite those of equal keys, and return all."""
        self._tags[arn] = _checked(tags, self._tags[arn])
        return self.of(arn)

    def remove(self, arn: str, keys: Sequence[str]) -> None:
        """Remove tags; those that are not there are gone already."""
        for key in keys:
            self._tags[arn].pop(key, None)

    def of(self, arn: str) -> list[dict[str, str]]:
        """Return a resource's tags as AWS writes them."""
        return [{"Key": key, "Value": value} for key, value in self._tags.get(arn, {}).items()]


def _checked(tags: Sequence[Mapping[str, Any]], before: Mapping[str, str]) -> dict[str, str]:
    after = dict(before)
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            # https://docs.aws.amazon.com/general/latest/gr/aws_tagging.html; unquoted.
            raise invalid("Tag keys that start with aws: are reserved for system use.")
        after[tag["Key"]] = tag["Value"]
    if len(after) > MOST:
        # Of AddTags: 50 tags in all, whatever was there. Unquoted.
        raise invalid(f"A resource can have at most {MOST} tags; there would be {len(after)}.")
    return after
