"""The data of batch prediction jobs: which objects are read, what the model is sent, what is kept.

Sources: the documentation of BatchPredictionJob in the SDK's protos for instances and outputs,
https://cloud.google.com/storage/docs/wildcards for patterns. How the files are called is seen in
https://github.com/GoogleCloudPlatform/data-science-on-gcp and how the entries of the error files
look in https://github.com/googleapis/python-aiplatform/issues/2666 and on Google's own page,
https://cloud.google.com/vertex-ai/docs/general/troubleshooting (*Exceeded retries error*): text
and a number, which is that of the instances that were sent together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloudreg_emulator.google.storage.content import Content
from cloudreg_emulator.google.storage.nouns import Conditions
from cloudreg_emulator.google.storage.storage import Storage
from cloudreg_emulator.google.vertex.jobs_rules import of_uri

__all__ = ["Bad", "Record", "matching", "read", "record", "shown", "write"]

_WILD = re.compile(r"\*\*|\*|\?|\[!?[^\]]+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A line of the input.

    Attributes:
        instance: What the model is sent.
        shown: What stands beside its prediction in the output.
    """

    instance: Any
    shown: Mapping[str, Any]


class Bad(Exception):
    """A line that no instance can be made of."""


def matching(storage: Storage, uri: str) -> list[tuple[str, str]]:
    """Return bucket and name of each object that a URI with wildcards means, sorted."""
    place = of_uri(uri)
    assert place is not None
    bucket, name = place
    pattern = _pattern(name)
    with storage.lock:
        shelf = storage.shelves.get(bucket)
        names = sorted(shelf.live) if shelf is not None else []
    return [(bucket, one) for one in names if pattern.fullmatch(one)]


def read(storage: Storage, bucket: str, name: str) -> bytes:
    """Return the bytes of an object; none where it has gone meanwhile."""
    with storage.lock:
        shelf = storage.shelves.get(bucket)
        found = shelf.find(name) if shelf is not None else None
        return b"".join(found.content.pieces) if found is not None else b""


def write(storage: Storage, uri: str, data: bytes) -> None:
    """Store an object under a ``gs://`` address."""
    place = of_uri(uri)
    assert place is not None
    fields = {"contentType": "application/octet-stream"}
    storage.objects.insert(*place, Content.of(data), fields, Conditions())


def record(line: bytes, config: Any) -> Record:
    """Return what a line of JSON becomes under an ``InstanceConfig``.

    Raises:
        Bad: It is no JSON, or no object where one is needed.
    """
    try:
        given = json.loads(line)
    except ValueError as error:
        raise Bad(f"Invalid JSON in the input: {error}") from error
    picks = bool(config.key_field or config.included_fields or config.excluded_fields)
    if not isinstance(given, dict):
        if picks or config.instance_type == "object":
            raise Bad("Each line of the JSONL input must be an object.")
        if config.instance_type == "array" and not isinstance(given, list):
            raise Bad("The line of the JSONL input is neither an object nor an array.")
        return Record(instance=given, shown={"instance": given})
    if config.key_field and config.key_field not in given:
        raise Bad(f"The key field {config.key_field!r} is not in the instance.")
    sent = _sent(given, config)
    if config.key_field:
        return Record(instance=sent, shown={"key": given[config.key_field]})
    kept = {name: given[name] for name in config.excluded_fields if name in given}
    return Record(instance=sent, shown={"instance": sent, **kept})


def _sent(given: Mapping[str, Any], config: Any) -> Any:
    if config.included_fields:
        missing = [name for name in config.included_fields if name not in given]
        if missing:
            raise Bad(f"The field {missing[0]!r} is not in the instance.")
        names = list(config.included_fields)
    else:
        left_out = {*config.excluded_fields, config.key_field}
        names = [name for name in given if name not in left_out]
    if config.instance_type != "array":
        return {name: given[name] for name in names}
    if not config.included_fields:
        raise Bad("included_fields must be populated for specifying field orders.")
    return [given[name] for name in names]


def shown(found: Record, prediction: Any) -> bytes:
    """Return the line of the output for a prediction."""
    return json.dumps({**found.shown, "prediction": prediction}).encode() + b"\n"


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("".join(_parts(name)), re.DOTALL)


def _parts(name: str) -> Iterator[str]:
    at = 0
    for wild in _WILD.finditer(name):
        yield re.escape(name[at : wild.start()])
        at = wild.end()
        text = wild.group()
        if text == "**":
            yield ".*"
        elif text == "*":
            yield "[^/]*"
        elif text == "?":
            yield "[^/]"
        else:
            yield text.replace("[!", "[^")
    yield re.escape(name[at:])
