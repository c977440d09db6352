"""``sign``, ``verify``, ``register --sign-key``, ``show`` and ``download``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloudreg.cli import main

from .conftest import Project, private_pem

PASSPHRASE = "open sesame, please"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cloudreg(project: Project, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line, as a function of its words."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, *capsys.readouterr()

    (project.root / "build").mkdir()
    (project.root / "build" / "weights.txt").write_text("weights")
    assert call("register", "churn", "build", "--quiet")[0] == 0
    return call


def test_sign_and_verify(cloudreg: Call, project: Project) -> None:
    """What is signed is verified, shown, and told in the history."""
    code, out, err = cloudreg("verify", "churn:1")
    assert (code, "nobody who is known here signed it" in out) == (4, True)

    code, out, err = cloudreg("sign", "churn:1", "--key", "keys/release.key", "--as", "rita")
    assert (code, "churn:1 is signed with key" in out) == (0, True)
    assert "next: cloudreg verify churn:1" in err
    assert "already" in cloudreg("sign", "churn:1", "--key", "keys/release.key")[1]

    code, out, _ = cloudreg("verify", "churn:1", "--json")
    (signature,) = json.loads(out)["signatures"]
    assert (code, signature["name"], signature["holds"]) == (0, "release", True)
    assert "by rita" in cloudreg("show", "churn:1")[1]
    assert json.loads(cloudreg("show", "churn:1", "--json")[1])["seals"][0]["by"] == "rita"
    assert "signed churn:1 with the key" in cloudreg("history", "churn", "--verify")[1]

    project.stored().write_bytes(b"{}")
    code, out, _ = cloudreg("verify", "churn:1")
    assert (code, "a signature does not hold" in out) == (1, True)
    assert "not the one that the ledger records" in out


def test_a_stranger_signs(cloudreg: Call) -> None:
    """A signature by a key that nobody configured holds for whoever brings the key."""
    assert cloudreg("sign", "churn:1", "--key", "keys/other.key")[0] == 0

    assert cloudreg("verify", "churn:1")[0] == 4
    assert cloudreg("verify", "churn:1", "--key", "keys/other.pub")[0] == 0
    assert cloudreg("verify", "churn:1", "--key", "keys/release.pub")[0] == 4


def test_encrypted(cloudreg: Call, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase comes from a variable by name, and is neither printed nor kept."""
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = project.root / "sealed.key"
    sealed.write_bytes(private_pem(key, passphrase=PASSPHRASE))
    words = ("sign", "churn:1", "--key", "sealed.key", "--passphrase-env", "RELEASE_PASSPHRASE")
    assert "there is no such variable" in cloudreg(*words)[2]
    monkeypatch.setenv("RELEASE_PASSPHRASE", "wrong")
    assert "does not open it" in cloudreg(*words)[2]
    monkeypatch.setenv("RELEASE_PASSPHRASE", PASSPHRASE)

    code, out, err = cloudreg(*words)

    assert code == 0
    secrets = {PASSPHRASE, *(x for x in sealed.read_text().split("\n") if "--" not in x and x)}
    kept = [p.read_bytes() for p in project.root.rglob("*") if p.is_file() and p != sealed]
    for secret in secrets:
        assert secret not in out + err
        assert not any(secret.encode() in data for data in kept)


def test_register_and_sign(cloudreg: Call, project: Project) -> None:
    """A version can be signed as it is registered; a key that is none stores nothing."""
    (project.root / "build" / "weights.txt").write_text("more")
    words = ("register", "churn", "build", "--sign-key")
    assert cloudreg(*words, "keys/release.pub")[0] == 64
    assert len(json.loads(cloudreg("list", "churn", "--json")[1])["versions"]) == 1

    code, out, _ = cloudreg(*words, "keys/release.key")

    assert (code, "signed" in out) == (0, True)
    assert cloudreg("verify", "churn:2")[0] == 0
    assert cloudreg("promote", "churn:2", "--to", "prod")[0] == 0


def test_download_brings_the_signatures(cloudreg: Call, project: Project) -> None:
    """A downloaded folder carries every signature, the first one where the reference looks."""
    cloudreg("sign", "churn:1", "--key", "keys/release.key")
    cloudreg("sign", "churn:1", "--key", "keys/other.key")

    assert cloudreg("download", "churn:1", "out")[0] == 0

    out = project.root / "out"
    every = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert every[-2:] == ["model.sig", "weights.txt"]
    assert sum(name.startswith(".cloudreg/signatures/") for name in every) == 2
    words = ("verify", "churn:1", "--bundle", "out/model.sig", "--key")
    code, told, _ = cloudreg(*words, "keys/release.pub")
    assert (code, "signs churn:1: the version" in told) == (0, True)
    assert cloudreg(*words, "keys/other.pub")[0] == 1
    assert cloudreg("verify", "churn:1", "--bundle", "out/model.sig")[0] == 64


def test_a_files_own_signature_stays(cloudreg: Call, project: Project) -> None:
    """A file of the version that is called like a signature is not written over."""
    (project.root / "build" / "model.sig").write_text("upstream's own")
    cloudreg("register", "churn", "build", "--sign-key", "keys/release.key")

    cloudreg("download", "churn:2", "out")

    assert (project.root / "out" / "model.sig").read_text() == "upstream's own"
    (bundle,) = Path(project.root, "out", ".cloudreg", "signatures").iterdir()
    facts: Any = json.loads(bundle.read_bytes())
    assert facts["mediaType"].endswith("bundle.v0.3+json")


def test_nothing_heavy_without_signatures(cloudreg: Call) -> None:
    """A registry that signs nothing never loads the library that would."""
    import subprocess
    import sys

    code = (
        "import sys; from cloudreg.cli import main; main(['show', 'churn:1', '--quiet']); "
        "main(['promote', 'churn:1', '--to', 'dev', '--quiet']); "
        "sys.exit('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
