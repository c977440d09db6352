"""The registry in a folder, under crashes and crowds."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudreg.errors import AlreadyExists, Conflict, InvalidRequest, NotFound
from cloudreg.names import sha256
from cloudreg.types import FileEntry, Manifest, ModelVersion, PublishedVersion
from cloudreg_local.registry import LocalRegistry

START = """
import os, signal, sys
from pathlib import Path
from cloudreg.errors import CloudregError
from cloudreg.names import sha256
from cloudreg.types import FileEntry, Manifest, ModelVersion
from cloudreg_local.registry import LocalRegistry

def version(number, text=""):
    data = (text or str(number)).encode()
    entry = FileEntry(path="weights", size=len(data), sha256=sha256(data)[7:])
    manifest = Manifest(files=(entry,), labels={"number": str(number)})
    return ModelVersion(
        model="churn", number=number, digest=manifest.digest, manifest=manifest,
        author="tests", created_at="2026-01-01T00:00:00Z",
    )

registry = LocalRegistry(Path(sys.argv[1]), target="laptop")

def dies_at(step):
    # Python says beforehand what it is about to do to the file system.
    def watch(event, arguments):
        nonlocal step
        if event in ("os.rename", "os.remove", "os.mkdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        ):
            step -= 1
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
"""


def version(number: int, text: str = "") -> ModelVersion:
    data = (text or str(number)).encode()
    entry = FileEntry(path="weights", size=len(data), sha256=sha256(data)[7:])
    manifest = Manifest(files=(entry,), labels={"number": str(number)})
    return ModelVersion(
        model="churn",
        number=number,
        digest=manifest.digest,
        manifest=manifest,
        author="tests",
        created_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    return LocalRegistry(tmp_path, target="laptop")


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python on a text that finds ``registry``, ``version`` and ``dies_at``."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", START + text, str(tmp_path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def shown(registry: LocalRegistry) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(one.number, one.digest, one.stages) for one in registry.published("churn")]


def test_publish_killed_anywhere(
    registry: LocalRegistry, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Killed before any of its writes, a publish shows the version or not; again, it is there."""
    text = "dies_at(int(sys.argv[2])); registry.publish(version(int(sys.argv[2])))"
    deaths = 0
    for step in range(1, 40):
        code = python(text, str(step)).wait(timeout=30)
        one = version(step)
        wanted = PublishedVersion(
            model="churn", number=step, digest=one.digest, native_id=f"churn/{step}.json"
        )
        before = [found for found in registry.published("churn") if found.number == step]
        assert before in ([], [wanted])
        assert registry.publish(one) == wanted
        assert next(registry.published("churn")) == wanted
        registry.withdraw("churn", one.digest)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1

    assert code == 0
    assert deaths >= 4  # two files, each written beside and then renamed


def test_withdraw_and_point_killed_anywhere(
    registry: LocalRegistry, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Killed before any of its writes, a verb has happened or not; again, it has."""
    one, two = version(1), version(2)
    registry.publish(two)
    verbs = {
        f"registry.point('churn', 'prod', '{two.digest}')": lambda: registry.point(
            "churn", "prod", two.digest
        ),
        "registry.point('churn', 'prod', None)": lambda: registry.point("churn", "prod", None),
        f"registry.withdraw('churn', '{one.digest}')": lambda: registry.withdraw(
            "churn", one.digest
        ),
    }
    for text, verb in verbs.items():
        for step in range(1, 20):
            registry.publish(one)
            registry.point("churn", "prod", two.digest if "None" in text else None)
            before = shown(registry)
            code = python("dies_at(int(sys.argv[2])); " + text, str(step)).wait(timeout=30)
            between = shown(registry)
            verb()
            after = shown(registry)
            assert between in (before, after)
            assert after != before
            if code == 0:
                break
            assert code == -signal.SIGKILL
        assert code == 0
        assert step > 1


def test_eight_processes_publish_one_number(
    registry: LocalRegistry, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Of eight processes that publish different bytes as one number, one wins and all agree."""
    text = """
print("here", flush=True)
sys.stdin.readline()
for number in range(1, 11):
    try:
        registry.publish(version(number, sys.argv[2]))
        print(number)
    except CloudregError as error:
        assert type(error).__name__ == "AlreadyExists", error
"""
    racers = [python(text, f"bytes {number}") for number in range(8)]
    won: list[int] = []
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert err == ""
        won += [int(line) for line in out.split()]

    assert sorted(won) == list(range(1, 11))
    assert [number for number, _, _ in shown(registry)] == list(range(10, 0, -1))


def test_many_processes_point_at_once(
    registry: LocalRegistry, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """While eight processes move the same stages, each stage shows one version at any time."""
    versions = [version(number) for number in range(1, 9)]
    for one in versions:
        registry.publish(one)
    for stage in ("staging", "prod"):
        registry.point("churn", stage, versions[0].digest)
    text = """
number = int(sys.argv[2])
for _ in range(20):
    registry.point("churn", "prod", version(number).digest)
    registry.point("churn", "staging", version(number).digest)
"""
    racers = [python(text, str(number)) for number in range(1, 9)]
    looks = 0
    while any(racer.poll() is None for racer in racers):
        stages = [stage for _, _, found in shown(registry) for stage in found]
        assert sorted(stages) == ["prod", "staging"]
        looks += 1
    assert all(racer.returncode == 0 for racer in racers)
    assert looks > 1


def test_withdrawing_a_shown_version(registry: LocalRegistry) -> None:
    """A version that a stage shows stays; its refusal names the stages."""
    one = version(1)
    registry.publish(one)
    registry.point("churn", "prod", one.digest)
    registry.point("churn", "staging", one.digest)

    with pytest.raises(Conflict, match="churn:1 is still shown by prod, staging"):
        registry.withdraw("churn", one.digest)

    assert shown(registry) == [(1, one.digest, ("prod", "staging"))]


def test_taken_number(registry: LocalRegistry) -> None:
    """A number that other bytes have is refused, and what is there stays."""
    one = version(1)
    registry.publish(one)

    with pytest.raises(AlreadyExists, match="churn:1 is sha256:"):
        registry.publish(version(1, "other bytes"))

    assert shown(registry) == [(1, one.digest, ())]


def test_unknown_digest(registry: LocalRegistry) -> None:
    """A stage cannot show what was never published or was withdrawn."""
    one = version(1)
    with pytest.raises(NotFound):
        registry.point("churn", "prod", one.digest)
    registry.publish(one)
    registry.withdraw("churn", one.digest)
    registry.withdraw("churn", one.digest)
    with pytest.raises(NotFound):
        registry.point("churn", "prod", one.digest)

    assert shown(registry) == []


@pytest.mark.parametrize("name", ["../evil", "", ".", "a/b", "A", "a\0", "x" * 300])
def test_hostile_names(registry: LocalRegistry, tmp_path: Path, name: str) -> None:
    """A name that no target could have writes nothing."""
    one = version(1)
    for verb in (
        lambda: list(registry.published(name)),
        lambda: registry.point(name, "prod", one.digest),
        lambda: registry.point("churn", name, one.digest),
        lambda: registry.withdraw(name, one.digest),
        lambda: registry.withdraw("churn", f"sha256:{name}"),
    ):
        with pytest.raises(InvalidRequest):
            verb()
    assert list(tmp_path.iterdir()) == []
