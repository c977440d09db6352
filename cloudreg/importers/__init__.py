"""Where models come from: each importer turns something of a user's into a `Source`.

=============  ============================================================================
`directory`    a folder of files, with an optional ``model.toml`` that describes them
`archive`      such a folder in a ``.tar``, ``.tar.gz`` or ``.zip``, unpacked without trust
`modelfile`    that ``model.toml``, read and written
`onnx`         what an ONNX model says about its inputs and outputs
`torch`        a ``torch.nn.Module``: safetensors weights, signature and runtime
`calling`      such a module called as the model server calls it
`factory`      the function that makes it, imported as the model server imports it
`lineage`      what can be seen of the place: git, the environment, digests of data
=============  ============================================================================

An importer reads; it never unpickles, never runs code that it finds among the files, and never
follows a link out of the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudreg.manifest import Lineage, ModelCard, Runtime, Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file to register.

    Attributes:
        path: Its path inside the version, with forward slashes.
        location: Where it is now.
        size: Bytes, when it was found.
        mtime_ns: When it was written, in nanoseconds; another time later means that it changed.
    """

    path: str
    location: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is said about a version beside its files.

    Attributes:
        signature: What it takes and gives.
        runtime: How it is served.
        lineage: Where it comes from.
        metrics: Offline metrics; finite numbers.
        card: What people must know.
        labels: Short free text by key.
    """

    signature: Signature | None = None
    runtime: Runtime | None = None
    lineage: Lineage | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    card: ModelCard | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an importer found.

    Attributes:
        files: Sorted by path, at least one.
        description: What the source says about itself.
    """

    files: tuple[SourceFile, ...]
    description: Description = field(default_factory=Description)
