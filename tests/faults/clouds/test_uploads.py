"""Files of a folder on their way into a store, struck at every change, and gone on with by two."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cloudreg import artifacts
from cloudreg.importers.directory import walk
from cloudreg.testing.faults import CRASHES, Fault, recorded

KILLED = -9
MAX_CHANGES = 30
DAY_S = 24 * 3600.0
LARGE = 20 * 2**20
"""More than one request takes, on either cloud: three parts."""


@pytest.fixture
def sending(project: Callable[..., Any]) -> Callable[[str], Any]:
    """Return what makes a project with a folder of a large, a small and an empty file."""

    def make(dest: str) -> Any:
        here = project(home=dest, disk=True)
        folder = here.root / "build"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(os.urandom(LARGE))
        (folder / "config.json").write_text(f'{{"of": "{here.model}"}}')
        (folder / "empty.txt").touch()
        return here

    return make


def check(here: Any, dest: str) -> None:
    """Whatever is there is what it is called; all of it is, and in a day nothing else."""
    files = list(walk(here.root / "build"))
    with here.open("eve") as ws:
        store = ws.targets[dest].store
        assert artifacts.upload(files, store).sent_bytes == 0
        found = list(store.list("blobs/"))
        assert len(found) == len(files)
        for each in found:
            with store.open(each.key) as reader:
                content = reader.read()
            assert each.key == f"blobs/{len(content)}/{hashlib.sha256(content).hexdigest()}"
        artifacts.sweep(store, now=time.time() + 2 * DAY_S)
        assert list(store.list("uploads/")) == []


def survive(
    dest: str, kind: str, numbers: Iterable[int], sending: Any, forge: Any, tally: Any
) -> int:
    """Strike the changes of these numbers, let two go on with each, and return how many."""
    struck = 0
    family = f"files that are registered, {kind}; two go on"
    for number in numbers:
        here = sending(dest)

        def question(name: str, *faults: Fault, here: Any = here) -> dict[str, Any]:
            return {
                "root": str(here.root),
                "verb": f"send {dest}",
                "model": here.model,
                "faults": [fault.to_json() for fault in faults],
                "record": str(here.root / f"{name}.jsonl"),
                "log": str(here.root / f"{name}.log"),
            }

        first = question("first", Fault(call=number, **CRASHES[kind]))
        (code,) = forge({"cases": [first]})
        calls = recorded(here.root / "first.jsonl")
        if len(calls) < number:
            assert code == 0, (here.root / "first.log").read_text()
            break
        struck += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        if "killed" in kind:
            assert code == KILLED, (here.root / "first.log").read_text()
        try:
            codes = forge({"cases": [question("second"), question("third")]})
            assert codes == [0, 0]
            check(here, dest)
        except BaseException as error:
            hit = calls[number - 1]
            error.add_note(f"{kind} change {number}: {hit.verb} {hit.subject}")
            for name in ("first", "second", "third"):
                error.add_note((here.root / f"{name}.log").read_text())
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CHANGES
    return struck


@pytest.mark.timeout(300)
def test_sample(sending: Any, forge: Any, tally: Any) -> None:
    """Two processes go on with what a killed one had sent, and both have it in the end."""
    assert survive("aws", "killed after", [4], sending, forge, tally) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize("dest", ["aws", "gcp", "disk"])
def test_every_change(dest: str, kind: str, sending: Any, forge: Any, tally: Any) -> None:
    """Whatever change was struck, two who go on at once both end well."""
    assert survive(dest, kind, range(1, MAX_CHANGES + 1), sending, forge, tally) >= 3
