"""Files that run something when they are read stay out, unless somebody answers for them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cloudreg import gates
from cloudreg.errors import IntegrityError
from cloudreg.gates import GateContext
from cloudreg.gates.format import KEPT, FormatGate
from cloudreg.ledger import Waiver
from cloudreg.names import sha256
from cloudreg.types import FileEntry, GateResult, Manifest, ModelVersion


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("id",)


SAFE = pickle.dumps({"a": [1, 2]})
HOSTILE = pickle.dumps(Runs())

Judge = Callable[..., GateResult]


def waiver(*formats: str, **parts: Any) -> Waiver:
    given = {"stage": "prod", "until": "2026-03-01", "by": "bob", "reason": "until it is moved"}
    return Waiver(formats=formats, **(given | parts))


@pytest.fixture
def judge(check: Callable[..., GateResult]) -> Judge:
    """Let the gate look at a version of these files that wants to enter prod."""

    def run(files: Mapping[str, bytes], **context: Any) -> GateResult:
        entries = {
            path: FileEntry(path=path, size=len(data), sha256=sha256(data)[7:])
            for path, data in sorted(files.items())
        }
        manifest = Manifest(files=tuple(entries.values()))
        version = ModelVersion(
            model="churn",
            number=7,
            digest=manifest.digest,
            manifest=manifest,
            author="ann",
            created_at="2026-01-01T00:00:00Z",
        )

        def read(file: FileEntry, offset: int, length: int) -> bytes:
            return files[file.path][offset : offset + length]

        context = {"stage": "prod", "read": read, "today": "2026-02-01", **context}
        return check(FormatGate(), version, **context)

    return run


def test_data_passes(judge: Judge) -> None:
    """Files that are data pass, and it is said how many of them are code."""
    result = judge({"code/net.py": b"x = 1\n", "code/b.py": b"y = 1\n", "notes.md": b"# Churn\n"})

    assert result.passed
    assert result.reason == "no file runs anything when it is read (3 in all, 2 of Python source)"
    assert result.measured == "2 code, 1 text"
    assert result.evidence == {"formats": {"code": 2, "text": 1}, "refused": [], "waivers": []}


def test_refusal(judge: Judge) -> None:
    """The refusal names file, format and what was found in it, and both ways out."""
    result = judge({"model.safetensors": HOSTILE, "notes.md": b"# Churn\n"})

    assert not result.passed
    assert result.reason == (
        "model.safetensors is unsafe-pickle (posix.system). Convert the weights to safetensors, "
        "and arrays to .npy without objects; or, by somebody other than ann: cloudreg waive "
        "churn:7 --format unsafe-pickle --stage prod --days 30 --reason …"
    )
    assert result.evidence["refused"] == [
        {"path": "model.safetensors", "format": "unsafe-pickle", "found": ["posix.system"]}
    ]


def test_many_files(judge: Judge) -> None:
    """Of many files a few are shown and some are kept; each format is in the command."""
    files = {f"{n:02d}.pkl": pickle.dumps(n) for n in range(30)}
    result = judge({**files, "a.so": b"\x7fELF" + bytes(9), "z.h5": bytes(9)})

    assert "; and 29 more. " in result.reason
    assert "--format pickle --format compiled --format unknown --stage prod" in result.reason
    assert len(result.evidence["refused"]) == KEPT
    assert result.evidence["formats"] == {"compiled": 1, "pickle": 30, "unknown": 1}


def test_waiver(judge: Judge) -> None:
    """A waiver that counts lets its formats pass, and is evidence with who, until when and why."""
    result = judge({"a.pkl": SAFE, "n.md": b"n"}, waivers=(waiver("pickle"),))

    assert result.passed
    assert result.reason == (
        "1 of 2 files are waived (pickle until 2026-03-01 by bob: until it is moved)"
    )
    assert result.evidence["waivers"] == [
        {"formats": ["pickle"], "until": "2026-03-01", "by": "bob", "reason": "until it is moved"}
    ]
    assert result.evidence["refused"][0]["path"] == "a.pkl"


@pytest.mark.parametrize(
    "given",
    [
        waiver("unsafe-pickle"),
        waiver("pickle", stage="staging"),
        waiver("pickle", until="2026-01-31"),
        waiver("pickle", by="ann"),
    ],
    ids=["format", "stage", "ended", "author"],
)
def test_waivers_that_do_not_count(judge: Judge, given: Waiver) -> None:
    """One for another format or stage, one that ended, and the author's own change nothing."""
    result = judge({"a.pkl": SAFE}, waivers=(given,))

    assert not result.passed
    assert result.evidence["waivers"] == []
    assert ("a waiver of pickle ended on 2026-01-31" in result.reason) == (given.until < "2026-02")


def test_last_day(judge: Judge) -> None:
    """A waiver counts on its last day."""
    assert judge({"a.pkl": SAFE}, waivers=(waiver("pickle"),), today="2026-03-01").passed
    assert not judge({"a.pkl": SAFE}, waivers=(waiver("pickle"),), today="2026-03-02").passed


def test_waiver_of_one_of_two(judge: Judge) -> None:
    """What a waiver does not cover is still refused, and is alone in the reason."""
    files = {"a.pkl": SAFE, "b.pkl": HOSTILE}
    result = judge(files, waivers=(waiver("pickle"),))

    assert not result.passed
    assert "a.pkl" not in result.reason
    assert "--format unsafe-pickle --stage" in result.reason
    both = (waiver("pickle"), waiver("unsafe-pickle", by="carol"))
    assert judge(files, waivers=both).passed
    assert judge(files, waivers=(waiver("pickle", "unsafe-pickle"),)).passed


def test_equal_files_are_looked_at_once(judge: Judge) -> None:
    """Equal bytes under equal names are read once; each path is judged."""
    seen = []

    def read(file: FileEntry, offset: int, length: int) -> bytes:
        seen.append(file.path)
        return SAFE[offset : offset + length]

    result = judge({f"{n}/a.pkl": SAFE for n in range(5)}, read=read)

    assert result.evidence["formats"] == {"pickle": 5}
    assert len({file["path"] for file in result.evidence["refused"]}) == 5
    assert set(seen) == {"0/a.pkl"}


def test_file_that_is_missing(judge: Judge) -> None:
    """A file that cannot be read is no pass: the check itself fails, and so does the gate."""

    def read(file: FileEntry, offset: int, length: int) -> bytes:
        raise IntegrityError(f"{file.path} is missing in the store")

    with pytest.raises(IntegrityError):
        judge({"a.txt": b"a"}, read=read)

    class Context:
        def __getattr__(self, name: str) -> Any:
            raise IntegrityError("a.txt is missing in the store")

    context: Any = Context()
    (result,) = gates.run([FormatGate()], context)
    assert (result.passed, result.evidence) == (False, {"error": "IntegrityError"})


def test_no_options() -> None:
    """Nothing about the gate can be configured: what would weaken it is a waiver."""
    assert gates.build({"kind": "format"}) == FormatGate()
    assert "waivers" in GateContext.__dataclass_fields__
