"""What is observed of the place is true, free of secrets, and there without git too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.importers import lineage
from cloudreg.names import canonical_json, sha256

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A repository at ``repo`` with one commit; returns a function that runs git in it."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    repo = tmp_path / "repo"
    repo.mkdir()

    def run(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        command = ["git", *identity, "-C", str(repo), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    (repo / "train.py").write_text("1")
    run("add", ".")
    run("commit", "-q", "-m", "first")
    return run


@pytest.fixture
def repo(git: Git, tmp_path: Path) -> Path:
    """The repository's folder."""
    return tmp_path / "repo"


def test_clean_tree(git: Git, repo: Path) -> None:
    """A clean tree is its commit."""
    seen = lineage.observe(root=repo, seed=0, parameters={"lr": 0.1, "max_tokens": 5})

    assert seen.git_commit == git("rev-parse", "HEAD")
    assert seen.git_dirty is False
    assert seen.git_remote is None
    assert (seen.seed, seen.parameters) == (0, {"lr": 0.1, "max_tokens": 5})
    assert seen.data_digest is None


@pytest.mark.parametrize("name", ["train.py", "new.py"])
def test_dirty_tree(repo: Path, name: str) -> None:
    """A changed file and an untracked one make the tree dirty."""
    (repo / name).write_text("2")

    assert lineage.observe(root=repo).git_dirty is True


def test_subfolder(git: Git, repo: Path) -> None:
    """A folder inside a repository belongs to it, and so do changes beside the folder."""
    (repo / "sub").mkdir()
    (repo / "train.py").write_text("2")

    seen = lineage.observe(root=repo / "sub")

    assert (seen.git_commit, seen.git_dirty) == (git("rev-parse", "HEAD"), True)


def test_variables_of_hooks(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root decides which repository is meant, not what a hook has set."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    assert lineage.observe(root=repo).git_commit is not None


def test_a_repository_cannot_run_programs(git: Git, repo: Path, tmp_path: Path) -> None:
    """Looking at a repository runs nothing that its configuration names."""
    program = tmp_path / "monitor"
    program.write_text(f"#!{sys.executable}\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    program.chmod(0o755)
    git("config", "core.fsmonitor", str(program))

    assert lineage.observe(root=repo).git_dirty is False
    assert not (tmp_path / "ran").exists()
    git("status")
    assert (tmp_path / "ran").exists(), "git itself would have run it"


def test_no_repository(tmp_path: Path) -> None:
    """Outside a repository nothing is said about git."""
    seen = lineage.observe(root=tmp_path)

    assert (seen.git_commit, seen.git_dirty, seen.git_remote) == (None, None, None)


def test_no_git(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without git nothing is said about it."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert lineage.observe(root=repo).git_commit is None


def test_no_commit(git: Git, tmp_path: Path) -> None:
    """A repository without a commit has nothing that could be gone back to."""
    subprocess.run(["git", "init", "-q", str(tmp_path / "new")], check=True)

    seen = lineage.observe(root=tmp_path / "new")

    assert (seen.git_commit, seen.git_dirty) == (None, None)


def test_remote(git: Git, repo: Path) -> None:
    """The address of origin is kept, and the token in it is not."""
    git("remote", "add", "a", "https://example.org/a.git")
    git("remote", "add", "origin", "https://bob:t0ken@example.org/team/churn.git?key=t0ken")

    assert lineage.observe(root=repo).git_remote == "https://example.org/team/churn.git"


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("https://t0ken@example.org:8443/a.git", "https://example.org:8443/a.git"),
        ("https://bob:t0k@en@example.org/a", "https://example.org/a"),
        ("https://bob:t0k/en@example.org/a", None),
        ("https://example.org/@scope/a", "https://example.org/@scope/a"),
        ("ssh://git@example.org/a.git", "ssh://example.org/a.git"),
        ("https://[broken/a", None),
        ("https://example.org/a#t0ken", "https://example.org/a"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("bob:t0ken@example.org:team/a.git", "example.org:team/a.git"),
        ("../other", "../other"),
    ],
)
def test_credentials_are_dropped(address: str, kept: str | None) -> None:
    """Who logs in, and with what, is not part of an address."""
    assert lineage.without_credentials(address) == kept


@pytest.mark.parametrize("name", lineage.LOCK_FILES)
def test_lock_file(tmp_path: Path, name: str) -> None:
    """The environment is the lock file's bytes."""
    (tmp_path / name).write_bytes(b"a==1\n")

    seen = lineage.observe(root=tmp_path)

    assert (seen.environment, seen.environment_digest) == (name, sha256(b"a==1\n"))


def test_nearest_lock_file(repo: Path, tmp_path: Path) -> None:
    """The nearest lock file counts, within the repository and not beyond it."""
    (tmp_path / "uv.lock").write_text("not ours")
    (repo / "sub").mkdir()
    assert lineage.observe(root=repo / "sub").environment == "installed"

    (repo / "uv.lock").write_text("top")
    assert lineage.observe(root=repo / "sub").environment_digest == sha256(b"top")

    (repo / "sub" / "constraints.txt").write_text("near")
    assert lineage.observe(root=repo / "sub").environment_digest == sha256(b"near")


def test_installed(tmp_path: Path) -> None:
    """Without a lock file the installed distributions count, the same each time."""
    first, second = lineage.observe(root=tmp_path), lineage.observe(root=tmp_path)

    assert first.environment == "installed"
    assert first.environment_digest == second.environment_digest


def test_data(tmp_path: Path) -> None:
    """Data has the digest of its paths, sizes and bytes."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "b.csv").write_bytes(b"2")
    (tmp_path / "data" / "a.csv").write_bytes(b"")
    (tmp_path / "one.csv").write_bytes(b"2")

    digest = lineage.data_digest([tmp_path / "one.csv", tmp_path / "data"])

    two = sha256(b"2").removeprefix("sha256:")
    empty = sha256(b"").removeprefix("sha256:")
    entries = [["data/a.csv", 0, empty], ["data/sub/b.csv", 1, two], ["one.csv", 1, two]]
    assert digest == sha256(canonical_json(entries))
    assert digest == lineage.data_digest([tmp_path / "data", tmp_path / "one.csv"])


def test_data_elsewhere(tmp_path: Path) -> None:
    """The same data has the same digest wherever it lies; other data has another."""
    for place in ("here", "there"):
        (tmp_path / place / "data").mkdir(parents=True)
        (tmp_path / place / "data" / "a.csv").write_text("1")
    here, there = (lineage.data_digest([tmp_path / p / "data"]) for p in ("here", "there"))
    (tmp_path / "there" / "data" / "a.csv").rename(tmp_path / "there" / "data" / "b.csv")

    assert here == there
    assert here != lineage.data_digest([tmp_path / "there" / "data"])


def test_data_that_is_none(tmp_path: Path) -> None:
    """A missing path, an empty folder and a link are refused: a digest of them would lie."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "x").symlink_to("/")

    with pytest.raises(NotFound, match="nowhere"):
        lineage.observe(root=tmp_path, data=[tmp_path / "nowhere"])
    with pytest.raises(InvalidRequest, match="holds no data"):
        lineage.observe(root=tmp_path, data=[tmp_path / "empty"])
    with pytest.raises(InvalidRequest, match="'x' is a symbolic link"):
        lineage.observe(root=tmp_path, data=[tmp_path / "linked"])


@pytest.mark.parametrize(
    "parameters", [{"lr": float("nan")}, {"path": Path("x")}, {"a": {"b": float("inf")}}]
)
def test_parameters_that_are_no_json(tmp_path: Path, parameters: dict[str, object]) -> None:
    """Parameters must be plain JSON."""
    with pytest.raises(InvalidRequest, match="not plain JSON"):
        lineage.observe(root=tmp_path, parameters=parameters)


@pytest.mark.parametrize("name", ["password", "db_password", "api_key", "HF_TOKEN", "secret"])
def test_secrets(tmp_path: Path, name: str) -> None:
    """A parameter that looks like a secret is refused, at any depth, and its value not shown."""
    with pytest.raises(InvalidRequest, match=name) as caught:
        lineage.observe(root=tmp_path, parameters={"tracking": {name: "hunter2"}})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["max_tokens", "pad_token", "monkey", "keys", "secretary"])
def test_names_that_only_resemble_secrets(tmp_path: Path, name: str) -> None:
    """Usual hyperparameters are no secrets."""
    assert lineage.observe(root=tmp_path, parameters={name: 1}).parameters == {name: 1}
