"""A home in a folder, ledgers in it, and stores that misbehave in one way each."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cloudreg.errors import AlreadyExists, NotFound
from cloudreg.importers import SourceFile
from cloudreg.ledger import Draft, Entry, Fold, Ledger
from cloudreg.ledger.checkpoint import EVERY
from cloudreg.ledger.entry import entry_key
from cloudreg.ledger.log import timestamp
from cloudreg.names import sha256
from cloudreg.provider import ObjectStore, StoredObject
from cloudreg.types import FileEntry, Manifest, ModelVersion
from cloudreg_local.store import LocalStore


class Clock:
    """Seconds that move when somebody says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Watched:
    """A store that counts its calls; tests override what should go wrong."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.calls: list[tuple[str, str]] = []

    def count(self, verb: str, prefix: str = "") -> int:
        return sum(v == verb and key.startswith(prefix) for v, key in self.calls)

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        self.calls.append(("put", key))
        return self.store.put(source, key, if_absent=if_absent, resume=resume)

    def get(self, key: str, dest: Path) -> None:
        self.calls.append(("get", key))
        self.store.get(key, dest)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        self.calls.append(("open", key))
        return self.store.open(key, offset=offset, length=length)

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        self.calls.append(("copy", to))
        return self.store.copy(key, to, if_absent=if_absent)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self.calls.append(("list", prefix))
        return self.store.list(prefix, after=after)

    def delete(self, key: str) -> None:
        self.calls.append(("delete", key))
        self.store.delete(key)


class Memory:
    """A store without a disk, for histories whose length is the point."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        data = source.read_bytes() if isinstance(source, Path) else source
        data = data if isinstance(data, bytes) else b"".join(data)
        if if_absent and self.objects.setdefault(key, data) is not data:
            raise AlreadyExists(key)
        self.objects[key] = data
        return StoredObject(key=key, size=len(data), modified_at=0.0)

    def get(self, key: str, dest: Path) -> None:
        dest.write_bytes(self.objects[key])

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        if key not in self.objects:
            raise NotFound(key)
        data = self.objects[key][offset:]
        return io.BytesIO(data if length is None else data[:length])

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        return self.put(self.objects[key], to, if_absent=if_absent)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after:
                yield StoredObject(key=key, size=len(self.objects[key]), modified_at=0.0)

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


class Meter:
    """Progress that adds up."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.done = 0.0
        self.titles: list[str] = []
        self.notes: list[str] = []

    def task(self, title: str, *, total: float | None = None, unit: str = "") -> Meter:
        self.titles.append(title)
        self.total = total
        return self

    def say(self, text: str) -> None:
        self.notes.append(text)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, amount: float) -> None:
        assert amount >= 0
        self.done += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


def digest(number: int) -> str:
    return sha256(f"version {number}".encode())


def registration(
    fold: Fold, *, stages: dict[str, int | None] | None = None, metrics: Any = None
) -> Draft:
    """Return the draft of the next version, which enters dev."""
    number = fold.last_number + 1
    return Draft(
        kind="register",
        root=digest(number),
        data={
            "number": number,
            "digest": digest(number),
            "size": 10 * number,
            "files": 1,
            "metrics": {"auc": number / 7} if metrics is None else metrics,
            "stages": {"dev": number} if stages is None else stages,
        },
    )


def history(store: ObjectStore, model: str, count: int) -> None:
    """Write *count* registrations at once, as `Ledger.append` would have, without checkpoints."""
    fold = Fold(model)
    store.put(b"", f"models/{model}", if_absent=True)
    for seq in range(count):
        draft = registration(fold)
        entry = Entry(
            model=model,
            seq=seq,
            prev=fold.head,
            id=f"id-{seq}",
            root=draft.root,
            op=draft.root,
            kind=draft.kind,
            actor="ann",
            at=timestamp(1_700_000_000.0 + seq),
            tool="test",
            data=draft.data,
        )
        store.put(entry.encode(), entry_key(model, seq), if_absent=True)
        fold.apply(entry)


def content(store: ObjectStore, key: str) -> bytes:
    with store.open(key) as reader:
        return reader.read()


def state(fold: Fold) -> dict[str, Any]:
    """Return everything that a fold says, for comparisons."""
    return {
        "seq": fold.seq,
        "head": fold.head,
        "last": fold.last_number,
        "closed": fold.closed,
        "stages": dict(fold.stages),
        "open": fold.open,
        "applied": dict(fold.applied),
        "versions": list(fold.newest_first()),
    }


class Kit:
    """What tests of the core share, in one place."""

    Watched = Watched
    Memory = Memory
    Meter = Meter
    digest = staticmethod(digest)
    registration = staticmethod(registration)
    history = staticmethod(history)
    state = staticmethod(state)
    content = staticmethod(content)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home", target="home")


@pytest.fixture(scope="session")
def objects() -> dict[str, bytes]:
    """Return what a store holds in which ``churn`` has two checkpoints and five entries more."""
    memory = Memory()
    ledger = Ledger(memory, "churn", actor="ann", tool="test", clock=Clock())
    for _ in range(2 * EVERY + 5):
        ledger.append(registration, op="register")
    return memory.objects


@pytest.fixture
def grown(objects: dict[str, bytes]) -> Memory:
    """Return a store of one's own with the grown ledger."""
    return Memory(objects)


@pytest.fixture
def ledger(store: LocalStore, clock: Clock) -> Callable[..., Ledger]:
    """Open the ledger of ``churn``: each call is another process."""

    def opened(actor: str = "ann", **options: Any) -> Ledger:
        options.setdefault("clock", clock)
        where = options.pop("store", store)
        return Ledger(where, options.pop("model", "churn"), actor=actor, tool="test", **options)

    return opened


@pytest.fixture
def register() -> Callable[..., list[Entry]]:
    """Register versions one after the other."""

    def registered(ledger: Ledger, count: int = 1) -> list[Entry]:
        entries = [ledger.append(registration, op="register") for _ in range(count)]
        return [entry for entry in entries if entry is not None]

    return registered


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., list[SourceFile]]:
    """Write files and return them as an importer would."""

    def made(**contents: bytes) -> list[SourceFile]:
        base = tmp_path / "source"
        base.mkdir(exist_ok=True)
        files = []
        for name, data in contents.items():
            path = base / name
            path.write_bytes(data)
            found = path.stat()
            files.append(
                SourceFile(path=name, location=path, size=found.st_size, mtime_ns=found.st_mtime_ns)
            )
        return files

    return made


@pytest.fixture
def version_of() -> Callable[..., ModelVersion]:
    def made(files: Iterable[FileEntry], number: int = 1) -> ModelVersion:
        manifest = Manifest(files=tuple(files))
        return ModelVersion(
            model="churn",
            number=number,
            digest=manifest.digest,
            manifest=manifest,
            author="ann",
            created_at="2026-01-01T00:00:00Z",
        )

    return made
