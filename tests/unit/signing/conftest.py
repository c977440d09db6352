"""Keys, a version whose files are on a disk, and a workspace whose prod asks for a signature."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloudreg import Workspace
from cloudreg.manifest import Lineage
from cloudreg.provider import ObjectStore
from cloudreg.signing import PublicKey, SigningKey, bundle_key
from cloudreg.types import FileEntry, Manifest, ModelVersion

CONFIG = """
home = "local"

[targets.local]
provider = "local"
path = ".local"

[targets.other]
provider = "local"
path = ".other"

[keys.release]
public = "keys/release.pub"

[stages.dev]

[stages.prod]
targets = ["local", "other"]
gates = []
signed_by = ["release"]
"""


def private_pem(key: Any, *, passphrase: str | None = None) -> bytes:
    """Return a private key as a file holds it."""
    sealed: Any = serialization.NoEncryption()
    if passphrase is not None:
        sealed = serialization.BestAvailableEncryption(passphrase.encode())
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed
    )
    return pem


def public_pem(key: Any) -> bytes:
    """Return the public half of a key as a file holds it."""
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def version_of(files: dict[str, bytes], *, number: int = 7, **parts: Any) -> ModelVersion:
    """Return a version with these files."""
    entries = tuple(
        FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in sorted(files.items())
    )
    manifest = Manifest(files=entries, **parts)
    return ModelVersion(
        model="churn",
        number=number,
        digest=manifest.digest,
        manifest=manifest,
        author="ann",
        created_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture(scope="session")
def key() -> SigningKey:
    """A key of the release team."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="session")
def stranger() -> SigningKey:
    """Somebody else's key."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def public(key: SigningKey) -> PublicKey:
    """The half that verifies."""
    return key.public


class Stored:
    """An object of a store, as somebody with the right to write there sees it."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self.store, self.key = store, key

    def read_bytes(self) -> bytes:
        with self.store.open(self.key) as reader:
            return reader.read()

    def write_bytes(self, data: bytes) -> None:
        self.store.put(data, self.key)

    def unlink(self) -> None:
        self.store.delete(self.key)


class Project:
    """A folder with a configuration, a pair of keys, and models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "keys").mkdir()
        for name in ("release", "other"):
            pair = ec.generate_private_key(ec.SECP256R1())
            (root / "keys" / f"{name}.key").write_bytes(private_pem(pair))
            (root / "keys" / f"{name}.pub").write_bytes(public_pem(pair))
        self.configure(CONFIG)

    def configure(self, text: str) -> None:
        (self.root / "cloudreg.toml").write_text(text)

    def open(self, actor: str = "ann") -> Workspace:
        return Workspace.load(self.root, actor=actor)

    def register(self, ws: Workspace, text: str = "weights", **said: Any) -> ModelVersion:
        folder = self.root / f"build-{text}"
        folder.mkdir(exist_ok=True)
        (folder / "weights.txt").write_text(text)
        return ws.register("churn", folder, lineage=Lineage(), **said)

    def private(self, name: str = "release") -> Path:
        return self.root / "keys" / f"{name}.key"

    def public(self, name: str = "release") -> Path:
        return self.root / "keys" / f"{name}.pub"

    def stored(self, target: str = "local", *, number: int = 1) -> Stored:
        """Return the signature of a version by the release key, as a target has it."""
        ws = self.open()
        key = bundle_key(ws.version(f"churn:{number}").digest, PublicKey.read(self.public()).id)
        return Stored(ws.targets[target].store, key)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The configured folder."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


@pytest.fixture
def make_version() -> Callable[..., ModelVersion]:
    """Return a version with these files."""
    return version_of
