"""Which digest each stage of a model shows, beside the artifacts, in the names of small objects.

::

    <root>/<model>/stages/<stage>/000007-<sha256>    the seventh word on the stage, and the last
    <root>/<model>/stages/<stage>/000008-none        it shows nothing

One listing tells of all stages, and nobody overwrites anybody: the highest number counts, so that
a process that slept and writes an old word late is not heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cloudreg.errors import CloudregError
from cloudreg.provider import ObjectStore

_NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Pointer:
    """What was said of a stage.

    Attributes:
        count: From 1; the highest counts, and of the same ones the digest that sorts last.
        sha256: Of the version that it shows; ``none`` for nothing.
        key: Where that stands.
    """

    count: int
    sha256: str
    key: str

    @property
    def digest(self) -> str | None:
        """Return the digest that the stage shows."""
        return None if self.sha256 == _NONE else f"sha256:{self.sha256}"


class Pointers:
    """The stages of the models of one place."""

    def __init__(self, store: ObjectStore, *, root: str) -> None:
        """Use the keys of *store* below *root*, which ends in no slash."""
        self._store = store
        self._root = root

    def read(self, model: str) -> dict[str, str]:
        """Return the digest that each stage shows, in one listing."""
        return newest(self.said(model))

    def said(self, model: str) -> dict[str, list[Pointer]]:
        """Return what was said of each stage and is still there, the newest last."""
        found: dict[str, list[Pointer]] = {}
        for stage, pointer in self._listed(f"{self._root}/{model}/stages/"):
            found.setdefault(stage, []).append(pointer)
        return {stage: sorted(pointers) for stage, pointers in found.items()}

    def write(
        self, model: str, stage: str, digest: str | None, said: Mapping[str, list[Pointer]]
    ) -> None:
        """Say that *stage* shows *digest*, or nothing; *said* was read a moment ago."""
        before = said.get(stage, [])
        if (before[-1].digest if before else None) == digest:
            return
        count = before[-1].count + 1 if before else 1
        text = digest.removeprefix("sha256:") if digest is not None else _NONE
        self._store.put(b"", f"{self._root}/{model}/stages/{stage}/{count:06}-{text}")
        for old in before:
            with suppress(CloudregError):  # it is not heard any more, and goes with the next
                self._store.delete(old.key)

    def _listed(self, prefix: str) -> Iterator[tuple[str, Pointer]]:
        for found in self._store.list(prefix):
            stage, _, name = found.key.removeprefix(prefix).partition("/")
            count, hyphen, text = name.partition("-")
            if hyphen and count.isdecimal():
                yield stage, Pointer(count=int(count), sha256=text, key=found.key)


def newest(said: Mapping[str, list[Pointer]]) -> dict[str, str]:
    """Return the digest that each stage shows, of those that show one."""
    last = {stage: pointers[-1].digest for stage, pointers in said.items()}
    return {stage: digest for stage, digest in last.items() if digest is not None}
