"""What each endpoint was asked to be, beside the artifacts.

A managed endpoint shows what it runs, and not all of what was asked for. So each spec is written
down before the cloud hears of it, under the name of the configuration that will carry it::

    <service>/<region>/endpoints/<endpoint>/<configuration>/000001-<spec>

The object holds the spec as JSON, for people. Where it is short, the key holds it too: one
listing then tells what all endpoints of a region should be, and no call is made for each.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from cloudreg.errors import IntegrityError
from cloudreg.holding import still_held
from cloudreg.names import canonical_json, sha256
from cloudreg.provider import ObjectStore
from cloudreg.types import EndpointSpec

MAX_IN_KEY = 500
"""Characters of a spec that its key can carry; a key has 1024 bytes."""

_IN_KEY, _IN_BODY = "z", "h"
_USUAL = (
    b'{"env":{"CLOUDREG_MAX_BATCH":"32"},"name":"-prod","stage":"staging","stage":"prod",'
    b'"variants":[{"digest":"sha256:","model":"","name":"canary","name":"primary","number":1,'
    b'"resources":{"accelerator":"A10G","accelerator":"T4","accelerator":"L4",'
    b'"accelerator_count":1,"machine_type":null},"resources":{"accelerator":null,'
    b'"accelerator_count":0,"machine_type":null},"scaling":{"concurrency":4.0,'
    b'"max_replicas":1,"min_replicas":1,"scale_in_cooldown_s":300.0},"weight":100}]}'
)
"""What most specs consist of, for the compression. It can only ever be changed with `_IN_KEY`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A spec that was written down.

    Attributes:
        config: The configuration that carries it.
        count: Rises with each spec of a configuration; the highest is in force.
        key: Where it stands.
    """

    config: str
    count: int
    key: str


class Records:
    """The written specs of one place."""

    def __init__(self, store: ObjectStore, *, root: str, target: str) -> None:
        """Use the keys of *store* below *root*, which ends in a slash."""
        self._store = store
        self._root = root
        self._target = target

    def all(self) -> dict[str, list[Asked]]:
        """Return what was asked of each endpoint, with one listing."""
        found: dict[str, list[Asked]] = {}
        for name, asked in self._list(self._root):
            found.setdefault(name, []).append(asked)
        return found

    def of(self, name: str) -> list[Asked]:
        """Return what was asked of one endpoint."""
        return [asked for _, asked in self._list(f"{self._root}{name}/")]

    def spec(self, asked: Asked) -> EndpointSpec:
        """Return a spec that was written down.

        Raises:
            IntegrityError: It is something else by now.
        """
        text = asked.key.rpartition("/")[2].partition("-")[2]
        try:
            if text.startswith(_IN_KEY):
                data = _unpacked(text[1:])
            else:
                with self._store.open(asked.key) as reader:
                    data = reader.read()
                if not sha256(data).endswith(text[1:]):
                    raise IntegrityError(f"{asked.key} was changed", target=self._target)
            return msgspec.json.decode(data, type=EndpointSpec)
        except (ValueError, zlib.error) as error:  # msgspec's errors are ValueErrors too
            raise IntegrityError(
                f"{asked.key} cannot be read: {error}", target=self._target
            ) from error

    def write(self, spec: EndpointSpec, config: str, known: list[Asked]) -> Asked:
        """Write *spec* down as the newest of its configuration, unless it is already.

        Args:
            spec: What is asked for.
            config: What carries it.
            known: What was written of the endpoint before.
        """
        newest = latest(known, config)
        if newest is not None and self.spec(newest) == spec:
            return newest
        data = canonical_json(msgspec.to_builtins(spec))
        packed = _packed(data)
        text = (
            f"{_IN_KEY}{packed}"
            if len(packed) <= MAX_IN_KEY
            else f"{_IN_BODY}{sha256(data).removeprefix('sha256:')}"
        )
        count = newest.count + 1 if newest is not None else 1
        key = f"{self._root}{spec.name}/{config}/{count:06}-{text}"
        still_held()
        self._store.put(data, key)
        return Asked(config=config, count=count, key=key)

    def forget(self, asked: Asked) -> None:
        """Remove what was written down; absent is fine."""
        still_held()
        self._store.delete(asked.key)

    def _list(self, prefix: str) -> Iterator[tuple[str, Asked]]:
        for stored in self._store.list(prefix):
            parts = stored.key.removeprefix(self._root).split("/")
            count, hyphen, _ = parts[-1].partition("-")
            if len(parts) == 3 and hyphen and count.isdecimal():
                yield parts[0], Asked(config=parts[1], count=int(count), key=stored.key)


def latest(known: list[Asked], config: str | None) -> Asked | None:
    """Return the newest spec that a configuration carries; None where there is none."""
    return max(
        (asked for asked in known if asked.config == config),
        key=lambda asked: (asked.count, asked.key),
        default=None,
    )


def _packed(data: bytes) -> str:
    press = zlib.compressobj(level=9, wbits=-15, zdict=_USUAL)
    return base64.urlsafe_b64encode(press.compress(data) + press.flush()).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    press = zlib.decompressobj(wbits=-15, zdict=_USUAL)
    return press.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
