"""A stage that asks for a signature: at its door, on each target, before each deployment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import (
    ConfigError,
    GateFailed,
    IntegrityError,
    NotFound,
    SignatureRequired,
)
from cloudreg.signing import make

from .conftest import CONFIG, Project, Stored

SERVER = Path(__file__).parents[1] / "promotion" / "server.py"

SERVED = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
"""


def kinds(ws: Workspace) -> list[str]:
    """Return the kinds of the ledger's entries, oldest first, without those of progress."""
    return [e.kind for e in ws.history("churn", newest_first=False) if e.kind != "step"]


def test_refused_then_signed(project: Project) -> None:
    """An unsigned version stays out of prod; signed, it enters, and each target has the proof."""
    ws = project.open()
    version = project.register(ws)
    with pytest.raises(GateFailed, match="not signed by release") as caught:
        ws.promote(version, to="prod")
    assert "cloudreg sign churn:1 --key FILE" in str(caught.value)
    assert kinds(ws) == ["register"]

    seal = project.open("rita").sign("churn:1", key=project.private())
    ws.promote(version, to="prod")

    done = next(e for e in ws.history("churn") if e.kind == "done")
    (gate,) = [g for g in done.data["gates"] if g["gate"] == "signed"]
    assert gate["evidence"]["signed"]["release"]["key"] == seal.key
    assert (seal.by, ws.summary("churn:1").seals) == ("rita", (seal,))
    for target in ("local", "other"):
        (proof,) = ws.signatures("churn:1", target=target)
        assert (proof.name, proof.holds) == ("release", True)
    assert project.stored("other").read_bytes() == project.stored("local").read_bytes()


def test_signed_once(project: Project) -> None:
    """To sign again with the same key changes nothing; another key signs beside it."""
    ws = project.open()
    project.register(ws)
    first = ws.sign("churn:1", key=project.private())

    assert ws.sign("churn:1", key=project.private()) == first
    assert kinds(ws) == ["register", "sign"]

    ws.sign("churn:1", key=project.private("other"))
    assert len(ws.summary("churn:1").seals) == 2
    assert [p.problem for p in ws.signatures("churn:1")] == [None, "nobody here knows the key"]
    assert [p.holds for p in ws.signatures("churn:1", key=project.public("other"))] == [True]


def test_the_wrong_key(project: Project) -> None:
    """A signature by somebody whom the stage does not ask opens no door."""
    ws = project.open()
    project.register(ws)
    ws.sign("churn:1", key=project.private("other"))

    with pytest.raises(GateFailed, match="not signed by release"):
        ws.promote("churn:1", to="prod")


def test_both_must_sign(project: Project) -> None:
    """Each of the named keys has to sign, also where a model asks for one of its own."""
    project.configure(
        CONFIG
        + '[keys.clinic]\npublic = "keys/other.pub"\n'
        + '[[models.churn.gates.prod]]\nkind = "signed"\nkeys = ["clinic"]\n'
    )
    ws = project.open()
    project.register(ws)
    ws.sign("churn:1", key=project.private())
    with pytest.raises(GateFailed, match="not signed by clinic"):
        ws.promote("churn:1", to="prod")

    ws.sign("churn:1", key=project.private("other"))
    assert ws.promote("churn:1", to="prod").changed


def test_a_signature_of_another_version(project: Project) -> None:
    """A signature that is moved to a version with the same files, and another story, is refused."""
    ws = project.open()
    project.register(ws)
    project.register(ws, labels={"risk": "low"})
    ws.sign("churn:1", key=project.private())
    ws.sign("churn:2", key=project.private("other"))
    project.stored(number=2).write_bytes(project.stored(number=1).read_bytes())

    with pytest.raises(GateFailed, match="not signed by release"):
        ws.promote("churn:2", to="prod")

    # Not even where the ledger says that it is the one.
    ws.registry.ledger("churn").append(
        lambda fold: _forged(fold, number=2, like=fold.version(1)), op="forged"
    )
    with pytest.raises(GateFailed, match="was signed for the version"):
        project.open().promote("churn:2", to="prod")


def _forged(fold: Any, *, number: int, like: Any) -> Any:
    from cloudreg.ledger import Draft

    (seal,) = like.seals
    digest = fold.version(number).digest
    data = {"number": number, "digest": digest, "key": seal.key, "bundle": seal.bundle}
    return Draft(kind="sign", root=digest, data=data)


Spoil = Callable[[Project, Workspace, Stored], object]


def other_by_the_same_key(project: Project, ws: Workspace, path: Stored) -> None:
    from cloudreg.signing import SigningKey

    path.write_bytes(make(ws.version("churn:1"), SigningKey.read(project.private())))


SPOILT: dict[str, tuple[Spoil, str]] = {
    "edited": (
        lambda _, __, p: p.write_bytes(p.read_bytes().replace(b'"sig":"M', b'"sig":"N')),
        "not the one that the ledger records",
    ),
    "with a space": (
        lambda _, __, p: p.write_bytes(p.read_bytes() + b" "),
        "not the one that the ledger records",
    ),
    "cut off": (
        lambda _, __, p: p.write_bytes(p.read_bytes()[:-9]),
        "not the one that the ledger records",
    ),
    "emptied": (lambda _, __, p: p.write_bytes(b""), "not the one that the ledger records"),
    "removed": (lambda _, __, p: p.unlink(), "is missing in the store"),
    "another by the same key": (other_by_the_same_key, "not the one that the ledger records"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_at_home(how: str, project: Project) -> None:
    """A signature that somebody touched in the store opens no door, until it is made again."""
    ws = project.open()
    project.register(ws)
    ws.sign("churn:1", key=project.private())
    spoil, reason = SPOILT[how]
    spoil(project, ws, project.stored())

    with pytest.raises(GateFailed, match=reason):
        ws.promote("churn:1", to="prod")
    assert ws.fold("churn").stages.get("prod") is None

    ws.sign("churn:1", key=project.private())
    assert ws.promote("churn:1", to="prod").changed


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_on_a_target(how: str, project: Project) -> None:
    """What stands on a target is mended from the home when a version is brought there again."""
    ws = project.open()
    project.register(ws)
    ws.sign("churn:1", key=project.private())
    ws.promote("churn:1", to="prod")
    project.register(ws, "second")
    ws.sign("churn:2", key=project.private())
    one = project.stored("other")
    spoil, reason = SPOILT[how]
    spoil(project, ws, one)
    (proof,) = ws.signatures("churn:1", target="other")
    assert proof.problem is not None
    assert reason in proof.problem

    ws.promote("churn:2", to="prod")
    ws.rollback("churn", stage="prod")

    assert [p.holds for p in ws.signatures("churn:1", target="other")] == [True]


def test_bytes_that_changed_behind_a_signature(project: Project) -> None:
    """A signature holds for the bytes that are there, and not for those that were."""
    ws = project.open()
    version = project.register(ws)
    ws.sign(version, key=project.private())
    (file,) = version.manifest.files
    Stored(ws.targets["local"].store, file.key).write_bytes(b"WEIGHTS")

    with pytest.raises(IntegrityError, match=r"weights\.txt"):
        ws.promote(version, to="prod")
    with pytest.raises(IntegrityError, match=r"weights\.txt"):
        ws.check_bytes(version)
    assert ws.fold("churn").stages.get("prod") is None


def test_a_manifest_that_changed(project: Project) -> None:
    """Nobody signs a manifest that is not the one that was registered."""
    ws = project.open()
    version = project.register(ws)
    manifest = Stored(ws.targets["local"].store, f"manifests/{version.digest[7:]}")
    manifest.write_bytes(manifest.read_bytes().replace(b"weights.txt", b"weighty.txt"))

    with pytest.raises(IntegrityError):
        project.open().sign("churn:1", key=project.private())


def test_break_glass(project: Project) -> None:
    """Breaking the glass passes the gate, loudly; what it brought is redeployed without."""
    ws = project.open()
    project.register(ws)
    ws.promote("churn:1", to="prod", break_glass="the signer is on a plane")

    (done,) = [e for e in ws.history("churn") if e.kind == "done"]
    assert done.data["break_glass"]
    assert [g["passed"] for g in done.data["gates"] if g["gate"] == "signed"] == [False]
    ws.repair("churn")
    assert ws.drift("churn") == []

    project.register(ws, "second")
    ws.sign("churn:2", key=project.private())
    ws.promote("churn:2", to="prod")
    with pytest.raises(SignatureRequired, match=r"churn:1 is not signed by release"):
        ws.rollback("churn", stage="prod")
    assert ws.fold("churn").stages["prod"].number == 2
    ws.rollback("churn", stage="prod", break_glass="version 2 loses money")
    assert ws.fold("churn").stages["prod"].number == 1


def test_rollback_to_what_is_signed(project: Project) -> None:
    """What a stage goes back to is verified again."""
    ws = project.open()
    for number, text in enumerate(("one", "two"), start=1):
        project.register(ws, text)
        ws.sign(f"churn:{number}", key=project.private())
        ws.promote(f"churn:{number}", to="prod")
    project.stored().unlink()

    with pytest.raises(IntegrityError, match="missing in the store"):
        ws.rollback("churn", stage="prod")
    with pytest.raises(IntegrityError, match="missing in the store"):
        ws.rollback("churn", stage="prod", dry_run=True)
    assert ws.fold("churn").stages["prod"].number == 2

    ws.sign("churn:1", key=project.private())
    ws.rollback("churn", stage="prod")
    assert ws.fold("churn").stages["prod"].number == 1


@pytest.fixture
def serving(project: Project) -> Iterator[Callable[[str], Workspace]]:
    """Open the workspace with an endpoint; what it started is removed."""
    opened: list[Workspace] = []

    def make_ws(more: str = "") -> Workspace:
        command = json.dumps([sys.executable, "-I", str(SERVER)])
        text = CONFIG.replace('path = ".local"', f'path = ".local"\nserver_command = {command}')
        project.configure(text + SERVED + more)
        opened.append(project.open())
        return opened[-1]

    yield make_ws
    if opened:
        with suppress(ConfigError):
            opened[-1].down()


def test_before_each_deployment(project: Project, serving: Callable[[str], Workspace]) -> None:
    """A version whose signature no longer holds is not deployed again."""
    ws = serving("")
    project.register(ws)
    ws.sign("churn:1", key=project.private())
    ws.promote("churn:1", to="prod")
    ws.down("churn-prod")
    kept = project.stored().read_bytes()
    project.stored().write_bytes(b"{}")

    with pytest.raises(IntegrityError, match="not the one that the ledger records"):
        ws.plan()
    with pytest.raises(IntegrityError, match="not the one that the ledger records"):
        ws.apply()
    with pytest.raises(IntegrityError, match="not the one that the ledger records"):
        ws.promote("churn:1", to="prod")
    assert ws.targets["local"].endpoints.endpoint("churn-prod") is None

    project.stored().write_bytes(kept)
    assert ws.apply().changed


def test_a_key_that_was_replaced(project: Project, serving: Callable[[str], Workspace]) -> None:
    """When the configuration names another key, the old signature counts no more."""
    ws = serving("")
    project.register(ws)
    ws.sign("churn:1", key=project.private())
    ws.promote("churn:1", to="prod")
    ws.down("churn-prod")
    project.public().write_bytes(project.public("other").read_bytes())
    again = project.open()

    with pytest.raises(SignatureRequired, match="churn:1 is not signed by release"):
        again.apply()


def test_carried_later(project: Project) -> None:
    """A signature that was given after a version was copied follows with the next operation."""
    project.configure(CONFIG.replace('signed_by = ["release"]', ""))
    ws = project.open()
    project.register(ws)
    ws.promote("churn:1", to="prod")
    project.register(ws, "second")
    ws.promote("churn:2", to="prod")
    ws.sign("churn:1", key=project.private())
    with pytest.raises(NotFound):
        project.stored("other").read_bytes()
    project.configure(CONFIG)

    project.open().rollback("churn", stage="prod")

    assert [p.holds for p in ws.signatures("churn:1", target="other")] == [True]


WRONG: dict[str, tuple[str, str]] = {
    "a key that is not configured": (
        CONFIG.replace('signed_by = ["release"]', 'signed_by = ["nobody"]'),
        r"line \d+, column 1, stages.prod.signed_by: no key 'nobody'",
    ),
    "a key that is named twice": (
        CONFIG.replace('["release"]', '["release", "release"]'),
        "stages.prod.signed_by: a key is listed twice",
    ),
    "the first stage": (
        CONFIG.replace("[stages.dev]", '[stages.dev]\nsigned_by = ["release"]'),
        "nothing can stand before it",
    ),
    "a file that is not there": (
        CONFIG.replace("release.pub", "nowhere.pub"),
        r"line \d+, column 1, keys.release.public: there is no key file",
    ),
    "a private key": (
        CONFIG.replace("release.pub", "release.key"),
        "release.key is a private key",
    ),
    "no key": (CONFIG.replace("keys/release.pub", "cloudreg.toml"), "no public key in PEM"),
    "one key under two names": (
        CONFIG + '[keys.again]\npublic = "keys/release.pub"\n',
        "keys.again.public: it is the key of release again",
    ),
    "a name that cannot be": (
        CONFIG + '[keys.Big-Name]\npublic = "keys/other.pub"\n',
        "key name 'Big-Name'",
    ),
    "a key that is unknown": (
        CONFIG + '[keys.more]\nprivate = "keys/other.key"\n',
        r"keys\.more",
    ),
    "a gate that names nobody": (
        CONFIG + '[[models.churn.gates.prod]]\nkind = "signed"\nkeys = []\n',
        "names nobody",
    ),
    "a gate with an unknown key": (
        CONFIG + '[[models.churn.gates.prod]]\nkind = "signed"\nkeys = ["who"]\n',
        r"models\.churn\.gates.*no key 'who'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_configuration(what: str, project: Project) -> None:
    """What cannot be meant is refused when the configuration is read, with its place."""
    text, reason = WRONG[what]
    project.configure(text)

    with pytest.raises(ConfigError, match=reason):
        project.open()
