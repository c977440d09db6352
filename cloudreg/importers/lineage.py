"""What can be seen of the place where a version is made: git, the environment, the data.

Only what is listed here is looked at. Environment variables, credentials and the content of data
never become part of a lineage: a ledger forgets nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloudreg.errors import IntegrityError, InvalidRequest
from cloudreg.importers import SourceFile
from cloudreg.importers.directory import walk
from cloudreg.manifest import Lineage
from cloudreg.names import canonical_json, sha256

LOCK_FILES = ("uv.lock", "poetry.lock", "requirements.lock", "constraints.txt")
"""What pins an environment; the first of them in the nearest folder counts."""

GIT_S = 60.0
"""Patience with git; a status of a huge work tree takes seconds."""

_SECRET = re.compile(
    r"(^|[_\-.])(password|passwd|secret|api_?key|access_?key|secret_?key|private_?key|credentials?"
    r"|(access|api|auth|bearer|github|hf|refresh|session)_?token)$",
    re.IGNORECASE,
)


def observe(
    *,
    root: Path,
    data: Sequence[Path] = (),
    seed: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Lineage:
    """Return the lineage of something that is made here and now.

    Args:
        root: A folder of the project; it may lie in a git repository.
        data: Files and folders that the version was trained on.
        seed: Of the random generators.
        parameters: Hyperparameters; plain JSON values.

    Raises:
        NotFound: A path of *data* leads nowhere.
        InvalidRequest: A folder of *data* is empty or holds a link; parameters are not plain
            JSON, or one looks like a secret.
        IntegrityError: Data changed while it was read.
    """
    given = dict(parameters or {})
    _check_parameters(given)
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "--verify", "HEAD") if top else None
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal") if commit else None
    environment, environment_digest = _environment(root, Path(top) if top else None)
    return Lineage(
        git_commit=commit,
        # An untracked file may well be the one that trained the model.
        git_dirty=bool(changes) if changes is not None else None,
        git_remote=_remote(root) if top else None,
        data_digest=data_digest(data) if data else None,
        environment_digest=environment_digest,
        environment=environment,
        seed=seed,
        parameters=given,
    )


def data_digest(data: Sequence[Path]) -> str:
    """Return one digest for files and folders: equal wherever the same data lies.

    It is the sha256 of the canonical JSON of [path, size, sha256], sorted; paths start with the
    name of the file or folder that was given.

    Raises:
        NotFound: A path leads nowhere.
        InvalidRequest: A folder is empty or holds a link.
        IntegrityError: A file changed while it was read.
    """
    files: list[tuple[str, SourceFile]] = []
    for path in data:
        found = list(walk(path))
        if not found:
            raise InvalidRequest(f"{path} holds no data")
        name = path.resolve().name
        files += [(f"{name}/{f.path}" if path.is_dir() else name, f) for f in found]
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="data") as pool:
        digests = list(pool.map(_sha256, [file for _, file in files]))
    entries = [
        [path, file.size, digest] for (path, file), digest in zip(files, digests, strict=True)
    ]
    return sha256(canonical_json(sorted(entries)))


def _sha256(file: SourceFile) -> str:
    with file.location.open("rb") as reader:
        digest = hashlib.file_digest(reader, "sha256").hexdigest()
        state = os.fstat(reader.fileno())
    if (state.st_size, state.st_mtime_ns) != (file.size, file.mtime_ns):
        raise IntegrityError(f"{file.path} changed while its digest was taken")
    return digest


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git says, or None without git, a repository or an answer."""
    # GIT_DIR and its like, set inside hooks, would point at another repository than the root's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    # A repository's own configuration can name a program as its file system monitor.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True, env=env, timeout=GIT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def _remote(root: Path) -> str | None:
    names = (_git(root, "remote") or "").split()
    if not names:
        return None
    name = "origin" if "origin" in names else names[0]
    address = _git(root, "config", "--get", f"remote.{name}.url")
    return without_credentials(address) if address else None


def without_credentials(address: str) -> str | None:
    """Return a repository's address as everybody may know it; None where that cannot be told."""
    if "://" not in address:
        # git@host:path names an account, not a secret; anything with a colon before the @ may.
        account, at, rest = address.rpartition("@")
        return rest if at and ":" in account else address
    try:
        parts = urlsplit(address)
        # A password with a slash in it ends the host too early; its first half is then a port.
        _ = parts.port
    except ValueError:
        return None
    # Tokens travel in queries too.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _environment(root: Path, top: Path | None) -> tuple[str, str]:
    """Return what pins the environment, and its digest."""
    here = root.resolve()
    above = [here]
    if top is not None and here.is_relative_to(top.resolve()):
        # Not beyond the repository: a file further up belongs to something else.
        above += [folder for folder in here.parents if folder.is_relative_to(top.resolve())]
    for folder in above:
        for name in LOCK_FILES:
            if (folder / name).is_file():
                return name, sha256((folder / name).read_bytes())
    return "installed", sha256("\n".join(sorted(_installed())).encode())


def _installed() -> set[str]:
    """Return ``name==version`` of what is installed, from the names of the folders that say so.

    Reading the metadata of a few hundred distributions takes longer than all of a registration:
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    found = set()
    for place in sys.path:
        with suppress(OSError):
            for entry in os.scandir(place or "."):
                name, dash, rest = entry.name.partition("-")
                version, dot, kind = rest.rpartition(".")
                if dash and dot and kind == "dist-info":
                    found.add(f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}")
    return found


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    canonical_json(parameters)
    waiting: list[Mapping[str, Any]] = [parameters]
    while waiting:
        for name, value in waiting.pop().items():
            if _SECRET.search(name):
                raise InvalidRequest(
                    f"parameter {name!r} looks like a secret, and a ledger forgets nothing",
                    hint="leave it out, or give it another name if it is none",
                )
            if isinstance(value, Mapping):
                waiting.append(value)
