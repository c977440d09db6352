"""``cloudreg serve``: the model server in the foreground, for a version or for a folder."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cloudreg.cli.arguments import UsageError, positive, whole
from cloudreg.cli.desk import Answer
from cloudreg.errors import (
    IntegrityError,
    InvalidRequest,
    NotFound,
    OperationFailed,
    Unsupported,
)

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.manifest import Manifest, TensorSpec

PORT = 8080
HOST = "127.0.0.1"
LOAD_S = 24 * 3600.0
"""Patience with weights that load: whoever waits sees it, and can end it."""

END_S = 30.0
"""From SIGTERM to SIGKILL: answers under way are finished first."""

SHOWN = 400
"""Characters of an example that people still read."""

PASSED_ON: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "device": ("DEVICE", "auto, cpu, cuda or cuda:N", str),
    "threads": ("N", "CPU threads of one batch", positive),
    "max_batch": ("ROWS", "rows of a batch", positive),
    "max_queue": ("ROWS", "rows that may wait", positive),
    "max_request_bytes": ("BYTES", "of one request's body", positive),
    "request_timeout_s": ("SECONDS", "from arrival to answer", str),
    "drain_s": ("SECONDS", "served on once it was told to end", str),
}
"""Options of the model server that are its own business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the model server is to serve.

    Attributes:
        name: What people call it.
        model: The model's name.
        manifest: What it is.
        digest: The manifest's.
        folder: Its files.
        number: The version's number; None for files that were never registered.
        record: The manifest's file, where it does not stand in the folder.
    """

    name: str
    model: str
    manifest: Manifest
    digest: str
    folder: Path
    number: int | None = None
    record: Path | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("what", metavar="REF|PATH", help="churn:7, churn@prod, or a folder")
    parser.add_argument(
        "--port", type=whole, default=PORT, metavar="P", help=f"0 takes a free one (default {PORT})"
    )
    parser.add_argument("--host", default=HOST, metavar="H", help=f"address (default {HOST})")
    parser.add_argument("--model", metavar="NAME", help="for a folder: the name it answers to")
    server = parser.add_argument_group("passed on to the model server")
    for name, (meta, text, kind) in PASSED_ON.items():
        server.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=meta, help=text)
    server.add_argument("--deterministic", action="store_true", help="one request at a time")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Serve until somebody ends it, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="cloudreg-serve-") as folder:
        found = _found(options, desk, Path(folder))
        with _server(found, options) as process:
            _tell(process, found, options, desk)
    desk.news(f"{found.name} is not served any more")
    return Answer()


def _found(options: argparse.Namespace, desk: Desk, temporary: Path) -> Served:
    from cloudreg.names import ModelRef

    what = options.what
    try:
        ref = ModelRef.parse(what)
    except InvalidRequest as error:
        if Path(what).exists():
            return _folder(Path(what), options.model, temporary)
        if re.search("[:@]", what):
            raise
        raise NotFound(
            f"{what!r} is neither a reference to a version nor a folder", hint=error.hint
        ) from error
    if options.model is not None:
        raise UsageError("--model is for folders: a registered version has its name")
    version = desk.workspace.version(ref)
    _check_runtime(version.ref, version.manifest)
    folder = desk.workspace.download(f"{version.model}:{version.number}", temporary / "model")
    return Served(
        name=version.ref,
        model=version.model,
        manifest=version.manifest,
        digest=version.digest,
        folder=folder.absolute(),
        number=version.number,
    )


def _folder(path: Path, name: str | None, temporary: Path) -> Served:
    """Describe files that were never registered, just as registering would."""
    import hashlib

    from cloudreg.importers.directory import read
    from cloudreg.manifest import FileEntry, Lineage, Manifest, ModelCard
    from cloudreg.names import check_model

    source = read(path)
    # The server refuses whatever is not in the manifest, and beside a model lie its model.toml,
    # .git and the like: it gets the files that would be registered, and writes into none of them.
    folder = temporary / "model"
    entries = []
    for file in source.files:
        with file.location.open("rb") as reader:
            digest = hashlib.file_digest(reader, "sha256").hexdigest()
        entries.append(FileEntry(path=file.path, size=file.size, sha256=digest))
        link = folder / file.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.location.absolute())
    about = source.description
    manifest = Manifest(
        files=tuple(entries),
        signature=about.signature,
        runtime=about.runtime,
        lineage=about.lineage or Lineage(),
        metrics=about.metrics,
        card=about.card or ModelCard(),
        labels=about.labels,
    )
    _check_runtime(str(path), manifest)
    record = temporary / "manifest.json"
    record.write_bytes(manifest.encode())
    return Served(
        name=str(path),
        model=check_model(name) if name is not None else _slug(path),
        manifest=manifest,
        digest=manifest.digest,
        folder=folder.absolute(),
        record=record,
    )


def _slug(path: Path) -> str:
    """Return a name that a model may have, made of a folder's."""
    name = re.sub("[^a-z0-9]+", "-", path.resolve().stem.lower())[:40].strip("-")
    return name if re.match("[a-z]", name) else "model"


def _check_runtime(name: str, manifest: Manifest) -> None:
    """Refuse what no model server of ours can run, before its files are fetched."""
    from cloudreg.sandbox import SERVED

    kind = manifest.runtime.kind if manifest.runtime is not None else "not stated"
    if kind not in SERVED:
        raise Unsupported(
            f"{name} cannot be served here: its runtime is {kind}",
            hint=f"[runtime] in its model.toml; the model server runs {' and '.join(SERVED)}",
        )


@contextmanager
def _server(found: Served, options: argparse.Namespace) -> Iterator[subprocess.Popen[bytes]]:
    """Run the model server for as long as the block lasts, or until somebody ends it."""
    process = subprocess.Popen(
        _command(found, options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # What a platform is recognised by must not make a laptop's server answer to it.
        env={"CLOUDREG_PROVIDER": "local", **os.environ},
        # Ctrl-C is for this process; it then asks the server to finish what it has.
        start_new_session=True,
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield process
    except KeyboardInterrupt:
        pass  # the usual end of a server in the foreground
    finally:
        signal.signal(signal.SIGTERM, before)
        _end(process)


def _command(found: Served, options: argparse.Namespace) -> list[str]:
    from cloudreg.sandbox import COMMAND

    words: list[str] = [
        *COMMAND,
        "--model-dir", str(found.folder),
        "--digest", found.digest,
        "--model", found.model,
        "--host", options.host,
        "--port", str(options.port),
        "--exit-with-parent",
    ]  # fmt: skip
    if found.number is not None:
        words += ["--number", str(found.number)]
    if found.record is not None:
        words += ["--manifest", str(found.record)]
    for name in PASSED_ON:
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, "--deterministic"] if options.deterministic else words


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(KeyboardInterrupt):  # the second one is from somebody in a hurry
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(BrokenPipeError):
            stream.close()


def _tell(
    process: subprocess.Popen[bytes], found: Served, options: argparse.Namespace, desk: Desk
) -> None:
    """Say where it answers once it does, and return when it ends."""
    from cloudreg.operations import poll_until

    assert process.stdout is not None
    with suppress(ValueError, KeyError, TypeError):
        port = int(json.loads(process.stdout.readline())["port"])
        wanted = {"0.0.0.0": HOST, "::": "::1"}.get(options.host, options.host)  # noqa: S104
        with desk.progress.task(f"loading {found.name}"):
            ready = poll_until(
                lambda: _state(process, wanted, port),
                bool,
                timeout_s=LOAD_S,
                max_interval_s=0.5,
            )
        if ready == "ready":
            shown = f"[{wanted}]" if ":" in wanted else wanted
            _announce(f"http://{shown}:{port}", process, found, desk)
    code = process.wait()
    if code == 64:
        raise InvalidRequest("the model server refuses its options: its message stands above")
    if code == 3:
        raise IntegrityError(f"{found.name}: the files are not what the manifest says")
    if code != 0:
        raise OperationFailed(
            f"the model server of {found.name} ended with exit code {code}: its last words stand "
            "above"
        )


def _state(process: subprocess.Popen[bytes], host: str, port: int) -> str:
    """Return ``ready``, ``ended``, or nothing while it loads."""
    if process.poll() is not None:
        return "ended"
    connection = HTTPConnection(host, port, timeout=5.0)
    try:
        connection.request("GET", "/ping")
        return "ready" if connection.getresponse().status == 200 else ""
    except (OSError, HTTPException):
        return ""
    finally:
        connection.close()


def _announce(url: str, process: subprocess.Popen[bytes], found: Served, desk: Desk) -> None:
    facts = {
        "url": url,
        "pid": process.pid,
        "model": found.model,
        "number": found.number,
        "digest": found.digest,
    }
    desk.tell(Answer(facts=facts, text=[f"{found.name} answers at {url}; Ctrl-C ends it"]))
    if desk.as_json:
        return
    body = json.dumps({"instances": [_instance(found.manifest)]})
    if len(body) > SHOWN:
        body = '{"instances": [INSTANCE]}'
    for line in (
        "try:",
        f"  $ curl -s {url}/ping",
        f"  $ curl -s {url}/invocations -H 'Content-Type: application/json' -d '{body}'",
        f"  $ curl -s {url}/metrics",
    ):
        desk.news(line)


def _instance(manifest: Manifest) -> Any:
    """Return an instance of the right shape; a model that does not say takes anything."""
    if manifest.signature is None:
        return []
    inputs = manifest.signature.inputs
    if len(inputs) == 1:
        return _zeros(inputs[0], inputs[0].shape[1:])
    return {tensor.name: _zeros(tensor, tensor.shape[1:]) for tensor in inputs}


def _zeros(tensor: TensorSpec, shape: Sequence[int]) -> Any:
    if not shape:
        return False if tensor.dtype == "bool" else 0
    return [_zeros(tensor, shape[1:]) for _ in range(max(shape[0], 1))]
