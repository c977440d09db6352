"""The reference of model signing verifies what cloudreg signed, and the other way round."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudreg.cli import main

from .conftest import Project

pytestmark = pytest.mark.slow

CURVES = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}

Reference = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The reference's command line, as a function of its words."""
    place = os.environ.get("MODEL_SIGNING")
    if not place:
        pytest.skip("MODEL_SIGNING names no environment with the reference: make signing")
    python = Path(place).absolute() / "bin" / "python"

    def call(*words: object) -> tuple[int, str]:
        command = [str(python), "-m", "model_signing", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.fixture
def signed(project: Project) -> Callable[[str], Path]:
    """Register and sign a version with a key of a curve, and return its downloaded folder."""

    def make(curve: str) -> Path:
        made = ["openssl", "ecparam", "-name", CURVES[curve], "-genkey", "-noout", "-out", "k.pem"]
        subprocess.run(made, check=True, capture_output=True)
        public = ["openssl", "ec", "-in", "k.pem", "-pubout", "-out", "k.pub"]
        subprocess.run(public, check=True, capture_output=True)
        build = project.root / "build"
        (build / "code").mkdir(parents=True)
        (build / "code" / "net.py").write_text("x = 1\n")
        (build / "code.txt").write_text("sorts before and behind the folder")
        (build / "weights.safetensors").write_bytes(os.urandom(300_000))
        (build / "größe.txt").write_text("ünïcode")
        (build / ".gitattributes").write_text("*.bin filter=lfs")
        assert main(["register", "churn", "build", "--sign-key", "k.pem", "--quiet"]) == 0
        assert main(["download", "churn:1", "out", "--quiet"]) == 0
        return project.root / "out"

    return make


def verifying(folder: Path) -> tuple[object, ...]:
    return "verify", "key", "--public_key", "k.pub", "--signature", folder / "model.sig", folder


@pytest.mark.parametrize("curve", CURVES)
def test_theirs_verifies_ours(curve: str, signed: Callable, reference: Reference) -> None:
    """A downloaded folder is verified as it lies; a changed, added or missing file is found."""
    folder = signed(curve)

    assert reference(*verifying(folder)) == (0, "Verification succeeded\n")

    for spoil, reason in (
        (lambda f: (f / "code.txt").write_text("changed"), "Hash mismatch for 'code.txt'"),
        (lambda f: (f / "more.txt").write_text("more"), "Extra files found"),
        (lambda f: (f / "weights.safetensors").unlink(), "Missing files"),
    ):
        other = folder.with_name("spoilt")
        shutil.copytree(folder, other)
        spoil(other)
        code, said = reference(*verifying(other))
        assert (code, reason in said) == (1, True), said
        shutil.rmtree(other)


@pytest.mark.parametrize("curve", CURVES)
def test_ours_verifies_theirs(
    curve: str, signed: Callable, reference: Reference, project: Project
) -> None:
    """What the reference signed of the same files is verified, and named for what it is."""
    folder = signed(curve)
    for name in ("model.sig", ".gitattributes"):
        (folder / name).unlink()
    (project.root / "build" / ".gitattributes").unlink()
    assert main(["register", "churn", "build", "--quiet"]) == 0
    theirs, left_out = project.root / "theirs.sig", folder / ".cloudreg"
    words = ("--private_key", "k.pem", "--signature", theirs, "--ignore-paths", left_out, folder)
    assert reference("sign", "key", *words)[0] == 0

    checked = ["--bundle", str(theirs), "--key", "k.pub", "--quiet"]
    assert main(["verify", "churn:2", *checked]) == 0
    # That one has a file that was not signed.
    assert main(["verify", "churn:1", *checked]) == 1

    (folder / "code.txt").write_text("changed")
    assert reference("sign", "key", *words)[0] == 0
    assert main(["verify", "churn:2", *checked]) == 1


def test_a_foreign_signature_opens_no_stage(
    signed: Callable, reference: Reference, project: Project
) -> None:
    """A signature of the files alone does not stand for the version, whatever the ledger says."""
    from cloudreg.errors import GateFailed
    from cloudreg.ledger import Draft
    from cloudreg.names import sha256
    from cloudreg.signing import PublicKey, put_bundle

    folder = signed("P-256")
    ws = project.open()
    (project.root / "build" / ".gitattributes").unlink()
    assert main(["register", "churn", "build", "--quiet"]) == 0
    for name in ("model.sig", ".gitattributes"):
        (folder / name).unlink()
    theirs = project.root / "theirs.sig"
    words = ("--private_key", project.private(), "--signature", theirs)
    ignored = ("--ignore-paths", folder / ".cloudreg", folder)
    assert reference("sign", "key", *words, *ignored)[0] == 0
    version, key = ws.version("churn:2"), PublicKey.read(project.public()).id
    bundle = theirs.read_bytes()
    put_bundle(bundle, version.digest, key, ws.registry.store)
    facts = {"number": 2, "digest": version.digest, "key": key, "bundle": sha256(bundle)}
    draft = Draft(kind="sign", root=version.digest, data=facts)
    ws.registry.ledger("churn").append(lambda _: draft, op="by-hand")

    with pytest.raises(GateFailed, match="it covers the files alone"):
        ws.promote("churn:2", to="prod")
