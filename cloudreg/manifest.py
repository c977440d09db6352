"""What a version is: files, signature, runtime, lineage, metrics and card, under one digest.

A manifest is immutable. Its canonical JSON is stored once, and the sha256 of those bytes is the
version's identity on every target. Readers verify the stored bytes and never re-encode them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import PurePosixPath
from typing import Any

import msgspec

from cloudreg.errors import IntegrityError, InvalidRequest
from cloudreg.names import canonical_json, sha256

FORMAT = 1
"""Version of the manifest's JSON."""

MANIFEST_FILE = ".cloudreg/manifest.json"
"""Where a copy of the manifest stands beside the files that a model server reads."""

MAX_PATH = 400
MAX_PART = 255
MAX_FILES = 100_000

DTYPES = (
    "bool", "uint8", "uint16", "uint32", "uint64",
    "int8", "int16", "int32", "int64",
    "float16", "float32", "float64",
)  # fmt: skip
"""Tensor types, in NumPy's words."""

_HEX = re.compile(r"[0-9a-f]{64}")

_LOOK_ALIKES = frozenset("\u2044\u2215\u29f8\u2216\u29f5\ua789\u2236")
"""Slashes, backslashes and colons that are none, and that NFKC leaves as they are."""

_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\..*)?", re.IGNORECASE)
"""Names that are devices on Windows, whatever their ending."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def check_path(path: str) -> str:
    """Return *path* if it is a relative, normalised path that is safe on every file system.

    Raises:
        InvalidRequest: Absolute, ``..``, backslash, drive, control character, percent-encoding,
            characters that only look alike, or too long.
    """
    problem = None
    parts = path.split("/")
    if not path or len(path.encode(errors="replace")) > MAX_PATH:
        problem = f"1 to {MAX_PATH} bytes"
    elif any(c in '\\%:<>"|?*' for c in path):
        problem = 'none of \\ % : < > " | ? *'
    elif any(unicodedata.category(c) in _INVISIBLE for c in path):
        problem = "no control or invisible characters"
    elif unicodedata.normalize("NFKC", path) != path or not _LOOK_ALIKES.isdisjoint(path):
        problem = "characters in their plain form (NFKC)"
    elif path.startswith("/") or str(PurePosixPath(path)) != path:
        problem = "a relative path without empty or . parts"
    elif parts[0].casefold() == ".cloudreg":
        problem = "the folder .cloudreg is reserved"
    elif any(part in ("..", "") or part != part.strip() for part in parts):
        problem = "no .. parts, and no white space at the ends of a part"
    elif any(part.endswith(".") or _DEVICES.fullmatch(part) for part in parts):
        problem = "no part that ends in a dot or is a device on Windows"
    elif any(len(part.encode()) > MAX_PART for part in parts):
        problem = f"parts of at most {MAX_PART} bytes"
    if problem:
        raise InvalidRequest(f"file path {path[:80]!r}: {problem}")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a version.

    Attributes:
        path: Relative, with forward slashes.
        size: Bytes.
        sha256: 64 hexadecimal digits of the content.
    """

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what could escape a folder or name no content."""
        check_path(self.path)
        if self.size < 0:
            raise InvalidRequest(f"{self.path}: size {self.size} is negative")
        if not _HEX.fullmatch(self.sha256):
            raise InvalidRequest(f"{self.path}: {self.sha256!r} is not a sha256")

    @property
    def key(self) -> str:
        """Return where an object store keeps the content: identical bytes have one key."""
        return f"blobs/{self.size}/{self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One named input or output.

    Attributes:
        name: What a request calls it.
        dtype: One of `DTYPES`.
        shape: Sizes; -1 where any size goes. The first dimension is the batch, and always -1.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse unknown types and shapes without a batch dimension."""
        if not self.name or len(self.name) > 100 or not self.name.isprintable():
            raise InvalidRequest(f"tensor name {self.name[:40]!r}: 1 to 100 printable characters")
        if self.dtype not in DTYPES:
            raise InvalidRequest(
                f"tensor {self.name}: dtype {self.dtype!r} is none of {', '.join(DTYPES)}"
            )
        if not self.shape or self.shape[0] != -1 or any(d < -1 for d in self.shape):
            raise InvalidRequest(
                f"tensor {self.name}: shape {list(self.shape)} must start with -1, the batch"
            )

    def __str__(self) -> str:
        """Render as ``x: float32 [-1, 30]``."""
        return f"{self.name}: {self.dtype} {list(self.shape)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a version takes and gives.

    Attributes:
        inputs: At least one.
        outputs: At least one.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        """Refuse an empty side and doubled names."""
        for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            if not tensors:
                raise InvalidRequest(f"signature: {side} is empty")
            names = [t.name for t in tensors]
            if len(set(names)) != len(names):
                raise InvalidRequest(f"signature: {side} name a tensor twice: {names}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How the model server turns the files into a function.

    Attributes:
        kind: ``torch``, ``onnx`` or ``custom`` (an image of the user's own).
        entrypoint: ``module:factory`` for torch; the factory returns a ``torch.nn.Module``. The
            module is imported from the version's own ``code/`` folder or the environment.
        arguments: Keyword arguments of the factory; plain JSON.
        weights: Path of the weights inside the version: a safetensors or ONNX file.
        image: Container image with its digest, where the target runs containers.
    """

    kind: str
    entrypoint: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        """Refuse a runtime that no server could start."""
        if self.kind not in ("torch", "onnx", "custom"):
            raise InvalidRequest(f"runtime {self.kind!r} is none of torch, onnx, custom")
        if self.kind == "torch":
            module, colon, factory = (self.entrypoint or "").partition(":")
            if not colon or not factory.isidentifier() or not _is_module(module):
                raise InvalidRequest(
                    f"runtime torch: entrypoint {self.entrypoint!r} is not module:factory"
                )
        if self.kind in ("torch", "onnx") and not self.weights:
            raise InvalidRequest(f"runtime {self.kind}: weights names no file")
        if self.weights is not None:
            check_path(self.weights)
            suffix = {"torch": ".safetensors", "onnx": ".onnx"}.get(self.kind)
            if suffix and not self.weights.endswith(suffix):
                raise InvalidRequest(
                    f"runtime {self.kind}: {self.weights} is not a {suffix} file",
                    hint="other formats can run code when they are read; convert the weights",
                )


def _is_module(name: str) -> bool:
    return bool(name) and all(part.isidentifier() for part in name.split("."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a version comes from: what somebody needs to make it again.

    Attributes:
        git_commit: 40 hexadecimal digits, or none outside a repository.
        git_dirty: Whether the work tree differed from that commit.
        git_remote: The repository's address without credentials.
        data_digest: sha256 of the training data, or the data tool's own digest.
        environment_digest: sha256 of the lock file, or of the installed distributions.
        environment: What that digest was taken of, such as ``uv.lock`` or ``installed``.
        seed: Of the random generators.
        parameters: Hyperparameters; plain JSON values.
        source: Where the files came from, such as a run's address.
    """

    git_commit: str | None = None
    git_dirty: bool | None = None
    git_remote: str | None = None
    data_digest: str | None = None
    environment_digest: str | None = None
    environment: str | None = None
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What people must know before they rely on a version; Markdown text.

    Attributes:
        intended_use: What it is for, and for whom.
        data: What it was trained and measured on.
        performance: What the metrics mean, beyond their numbers.
        limits: Where it must not be used, and where it is known to be wrong.
        bias: Which groups were looked at, and what was found.
        owners: Whom to call.
    """

    intended_use: str = ""
    data: str = ""
    performance: str = ""
    limits: str = ""
    bias: str = ""
    owners: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that is true of a version for ever.

    Attributes:
        files: Sorted by path, each path once.
        signature: None where the model server cannot know it (custom images).
        runtime: None for a version that is only kept, never served.
        lineage: Where it comes from.
        metrics: Offline metrics; finite numbers.
        card: What people must know.
        labels: Short free text by key, for people's own order.
    """

    files: tuple[FileEntry, ...]
    signature: Signature | None = None
    runtime: Runtime | None = None
    lineage: Lineage = field(default_factory=Lineage)
    metrics: Mapping[str, float] = field(default_factory=dict)
    card: ModelCard = field(default_factory=ModelCard)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what could not be served, copied or compared later."""
        if not self.files:
            raise InvalidRequest("a version needs at least one file")
        if len(self.files) > MAX_FILES:
            raise InvalidRequest(f"{len(self.files)} files: {MAX_FILES} at most")
        paths = [f.path for f in self.files]
        if paths != sorted(set(paths)):
            raise InvalidRequest("files must be sorted by path, each path once")
        folded: dict[str, str] = {}
        for path in paths:
            other = folded.setdefault(path.casefold(), path)
            if other != path:
                raise InvalidRequest(f"{other!r} and {path!r} are one file on some disks")
        for path in paths:
            for folder in PurePosixPath(path).parents:
                file = folded.get(str(folder).casefold())
                if file is not None:
                    raise InvalidRequest(f"{file!r} would be a file and the folder of {path!r}")
        for name, value in self.metrics.items():
            check_metric(name, value)
        if self.runtime and self.runtime.weights and self.runtime.weights not in paths:
            raise InvalidRequest(f"runtime: {self.runtime.weights!r} is not among the files")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def content(self) -> str:
        """Digest of the files alone: equal where two versions have the same bytes."""
        return sha256(canonical_json([[f.path, f.size, f.sha256] for f in self.files]))

    def encode(self) -> bytes:
        """Return the canonical JSON; its sha256 is the version's digest."""
        document: dict[str, Any] = {"format": FORMAT}
        for part in fields(self):
            value = _plain(getattr(self, part.name))
            if value not in (None, {}, []):
                document[part.name] = value
        if self.metrics:
            # 1 and 1.0 are one number and must not be two versions.
            document["metrics"] = {name: float(value) for name, value in self.metrics.items()}
        return canonical_json(document)

    @property
    def digest(self) -> str:
        """Return the version's identity, ``sha256:…``."""
        return sha256(self.encode())

    @classmethod
    def decode(cls, data: bytes, *, digest: str) -> Manifest:
        """Read a manifest back, if it is the one that *digest* names.

        Raises:
            IntegrityError: The bytes are not those that were recorded, or are no manifest.
        """
        if sha256(data) != digest:
            raise IntegrityError(f"manifest {digest} has the bytes of {sha256(data)}")
        try:
            document = msgspec.json.decode(data, type=dict[str, Any])
            if document.pop("format", None) != FORMAT:
                raise IntegrityError(
                    f"manifest {digest} has an unknown format", hint="upgrade cloudreg"
                )
            return msgspec.convert(document, cls)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
            raise IntegrityError(f"manifest {digest} cannot be read: {error}") from error


def check_metric(name: str, value: object) -> float:
    """Return *value* as a float, if it is a finite number.

    Raises:
        InvalidRequest: NaN, infinity, or no number at all; a comparison with it would lie.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise InvalidRequest(f"metric name {str(name)[:40]!r}: 1 to 100 printable characters")
    # NumPy's scalars are real numbers too.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidRequest(f"metric {name!r}: {value!r} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRequest(f"metric {name!r} is {number}: only finite numbers can be compared")
    return number


def _plain(value: object) -> Any:
    """Return *value* as JSON data, leaving out what a noun does not set."""
    if hasattr(value, "__dataclass_fields__"):
        pairs = ((f, _plain(getattr(value, f))) for f in value.__dataclass_fields__)
        return {name: plain for name, plain in pairs if plain not in (None, "", {}, [])}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        # The user's own keys: an explicit null in a parameter stays.
        return dict(value)
    return value
