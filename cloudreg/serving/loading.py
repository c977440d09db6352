"""Files checked against the manifest, weights loaded, warmed up."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from cloudreg.errors import IntegrityError
from cloudreg.manifest import MANIFEST_FILE, FileEntry, Manifest, Signature
from cloudreg.serving.checks import ModelFault, SignatureCheck
from cloudreg.serving.fetch import fetch
from cloudreg.serving.http import Refusal, parse_json
from cloudreg.serving.instances import decode, tile
from cloudreg.serving.options import Options
from cloudreg.serving.runtimes import LoadFailed, Runtime
from cloudreg.serving.runtimes import load as load_runtime

log = logging.getLogger("cloudreg.serving")

WARMUP = "warmup.json"
"""Requests that are answered before the first real one: ``{"instances": […]}``."""

PARALLEL_FILES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready.

    Attributes:
        kind: The runtime's kind.
        signature: What it takes and gives.
        checks: The same, as tensors are checked against it.
        runtime: The function.
    """

    kind: str
    signature: Signature
    checks: SignatureCheck
    runtime: Runtime


def load(options: Options) -> Loaded:
    """Return the model of a folder whose every byte is what the manifest says.

    Raises:
        IntegrityError: A file is missing, unknown, or has other bytes.
        LoadFailed: No model came of them.
    """
    began = perf_counter()
    if options.source is not None:
        fetch(options.source, options.model_dir)
    manifest = verify(options.model_dir, options.manifest, digest=options.digest)
    log.info("%d files, %d bytes: as registered", len(manifest.files), manifest.size)
    if manifest.signature is None:
        raise LoadFailed(
            "the version has no signature: no request could be checked",
            hint="register it with its inputs and outputs",
        )
    runtime = load_runtime(options.model_dir, manifest, compute=options.compute)
    checks = SignatureCheck(manifest.signature)
    if any(entry.path == WARMUP for entry in manifest.files):
        _warm(options, runtime, checks)
    log.info("loaded on %s in %.1f s", runtime.device, perf_counter() - began)
    assert manifest.runtime is not None
    return Loaded(
        kind=manifest.runtime.kind, signature=manifest.signature, checks=checks, runtime=runtime
    )


def verify(folder: Path, record: Path, *, digest: str) -> Manifest:
    """Return the manifest, if *folder* holds exactly its files.

    A file that nobody registered is refused too: the version's code could import it, and an
    ONNX graph could refer to it.

    Raises:
        IntegrityError: Otherwise; the message names the file.
    """
    try:
        manifest = Manifest.decode(record.read_bytes(), digest=digest)
    except OSError as error:
        raise IntegrityError(f"the manifest cannot be read: {error}") from error
    known = {entry.path for entry in manifest.files}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            inside = path.relative_to(folder).as_posix()
            if inside not in known and inside != MANIFEST_FILE and path != record:
                raise IntegrityError(f"{inside} is not among the files that were registered")
    with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="verify") as pool:
        list(pool.map(lambda entry: _verify_file(folder / entry.path, entry), manifest.files))
    return manifest


def _verify_file(path: Path, entry: FileEntry) -> None:
    try:
        # Asked before opening: the open of a pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise IntegrityError(f"{entry.path} is not a regular file")
        with path.open("rb") as reader:
            found = hashlib.file_digest(reader, "sha256").hexdigest()
            size = reader.tell()
    except OSError as error:
        raise IntegrityError(f"{entry.path} cannot be read: {error}") from error
    if size != entry.size or found != entry.sha256:
        raise IntegrityError(
            f"{entry.path} is not what was registered ({size} bytes, sha256 {found[:12]}…; "
            f"wanted {entry.size} bytes, {entry.sha256[:12]}…)"
        )


def _warm(options: Options, runtime: Runtime, checks: SignatureCheck) -> None:
    """Answer the warm-up requests, alone and in the largest batch.

    Raises:
        LoadFailed: The model does not answer them as its signature says.
    """
    limits = options.limits
    try:
        inputs = decode(parse_json((options.model_dir / WARMUP).read_bytes()), checks)
        given = len(next(iter(inputs.values())))
        # The largest batch too: running out of memory is better found now than at three.
        sizes = {1, min(given, limits.max_batch), limits.max_batch if limits.together else 1}
        for rows in sorted(sizes):
            outputs = checks.check_outputs(runtime.predict(tile(inputs, rows)), rows)
            checks.check_finite(outputs)
    except (Refusal, ModelFault) as error:
        raise LoadFailed(f"{WARMUP}: {error}") from error
