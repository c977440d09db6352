"""Scoring a data set: JSON lines in, JSON lines out, an answer for each record in its order.

The job's name is made of what is scored by what: whoever asks for the same again, after a kill or
a week later, finds the job that runs or its answers, and nothing is computed twice. Of a job that
failed the next one is another attempt. Nothing of it is in the ledger: scoring reads a version and
moves nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from cloudreg import artifacts
from cloudreg.carrying import hand_over
from cloudreg.errors import (
    AlreadyExists,
    IntegrityError,
    InvalidRequest,
    OperationFailed,
    Unsupported,
)
from cloudreg.jobs import BatchSpec
from cloudreg.names import canonical_json
from cloudreg.operations import SILENT, Progress, wait
from cloudreg.provider import Operation, Provider
from cloudreg.types import ModelVersion, OperationState, Resources

PART_BYTES = 32 * 1024 * 1024
"""Of the data set in one object: a replica has at least one of its own."""

MAX_RECORD_BYTES = 5 * 1024 * 1024
"""SageMaker's default payload is 6 MB, and holds the whole record:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTransformJob.html"""

MAX_ATTEMPTS = 1000
SCORED_S = 86_400.0
"""Patience with a job: a day."""

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a job did.

    Attributes:
        name: The job's, on its target.
        target: Where it ran.
        ref: The version.
        records: How many there are.
        failed: How many of them got no prediction.
        first_error: What was wrong with the first of those.
        path: The file with the answers; None where they were left in the store.
        output: Prefix of the answers in the target's store.
    """

    name: str
    target: str
    ref: str
    records: int
    failed: int
    first_error: str
    path: Path | None
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A file of JSON lines that was looked through.

    Attributes:
        path: The file.
        digest: sha256 of its records.
        records: How many there are.
        size: Their bytes.
    """

    path: Path
    digest: str
    records: int
    size: int

    @classmethod
    def of(cls, path: Path) -> DataSet:
        """Look through a file, line by line.

        Raises:
            InvalidRequest: It cannot be read, is empty, or a line is no JSON; with the line.
        """
        digest, records, size = hashlib.sha256(), 0, 0
        for number, line in _records(path):
            if len(line) > MAX_RECORD_BYTES:
                raise InvalidRequest(
                    f"{path}, line {number}: {len(line)} bytes, {MAX_RECORD_BYTES} at most"
                )
            try:
                json.loads(line, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                raise InvalidRequest(
                    f"{path}, line {number} is no JSON: {error}",
                    hint="an instance a line, such as [1, 2, 3]",
                ) from error
            digest.update(line)
            records, size = records + 1, size + len(line)
        if not records:
            raise InvalidRequest(f"{path} holds no record", hint="an instance a line")
        return cls(path=path, digest=digest.hexdigest(), records=records, size=size)

    def parts(self, replicas: int) -> Iterator[Iterator[bytes]]:
        """Yield the records in parts, one for each replica at least; each is read to its end."""
        limit = max(1, min(PART_BYTES, -(-self.size // replicas)))
        lines = (line for _, line in _records(self.path))
        for first in lines:
            yield _part(first, lines, limit)


def _part(first: bytes, lines: Iterator[bytes], limit: int) -> Iterator[bytes]:
    sent = len(first)
    yield first
    while sent < limit and (line := next(lines, None)) is not None:
        sent += len(line)
        yield line


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each line that is not blank."""
    try:
        with path.open("rb") as reader:
            for number, line in enumerate(reader, 1):
                if stripped := line.strip():
                    yield number, stripped + b"\n"
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


class Scorer:
    """Scores data sets on one target."""

    def __init__(
        self,
        provider: Provider,
        home: Provider,
        *,
        target: str,
        limit: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """Use an open target.

        Args:
            provider: Where it runs.
            home: Where versions come from.
            target: For messages.
            limit: Bytes of a version that may go through this machine; None for any number.
            progress: Where it is shown.
        """
        self._provider = provider
        self._home = home
        self._target = target
        self._limit = limit
        self._progress = progress

    def score(
        self,
        version: ModelVersion,
        data: DataSet,
        *,
        output: Path | None,
        resources: Resources,
        replicas: int,
        timeout_s: float = SCORED_S,
    ) -> Scored:
        """Score *data*, and fetch the answers.

        Args:
            version: By what.
            data: The records.
            output: Folder that gets the answers; None leaves them in the store.
            resources: What each replica needs.
            replicas: How many work side by side.
            timeout_s: Patience with the job; it goes on without us.

        Raises:
            Unsupported: The target has no batch jobs; or lacks more of the version than may go
                through this machine, and no service copies it.
            OperationFailed: The job failed; with the last log lines.
            OperationTimeout: It is still running, and the same call finds it again.
            InvalidRequest: *output* holds other answers already.
        """
        if not self._provider.capabilities.batch:
            reason = self._provider.capabilities.reasons.get("batch", "")
            raise Unsupported(
                f"{version.ref}: no batch jobs on this provider ({reason})",
                target=self._target,
                hint="--target names another one",
            )
        path = _free(output)
        spec, operation = self._job(version, data, resources, replicas)
        wait(operation, timeout_s=timeout_s, progress=self._progress, target=self._target)
        self._forget(spec.input)
        records, failed, first = self._fetch(spec, path)
        if records != data.records:
            raise IntegrityError(
                f"{operation.name}: {records} answers for {data.records} records",
                target=self._target,
                hint=f"they stand below {spec.output}",
            )
        return Scored(
            name=spec.name,
            target=self._target,
            ref=version.ref,
            records=records,
            failed=failed,
            first_error=first,
            path=path,
            output=spec.output,
        )

    def _job(
        self, version: ModelVersion, data: DataSet, resources: Resources, replicas: int
    ) -> tuple[BatchSpec, Operation]:
        """Return the job that does it: one that was begun before, or a new one."""
        batch = self._provider.batch
        what = [version.digest, data.digest, str(resources), replicas]
        stem = f"{version.model[:24].rstrip('-')}-{version.number}"
        mark = hashlib.sha256(canonical_json(what)).hexdigest()[:12]
        for attempt in count(1):
            spec = BatchSpec(
                name=f"{stem}-{mark}-{attempt}",
                model=version.model,
                number=version.number,
                digest=version.digest,
                input=f"batch/{stem}-{mark}-{attempt}/input/",
                output=f"batch/{stem}-{mark}-{attempt}/output/",
                resources=resources,
                replicas=replicas,
            )
            found = batch.find(spec.name)
            if found is None:
                break
            state = found.poll().state
            has_answers = any(True for _ in self._provider.store.list(spec.output))
            if state is OperationState.RUNNING or (
                state is OperationState.SUCCEEDED and has_answers
            ):
                self._progress.say(f"batch {spec.name} was begun before")
                return spec, found
            if attempt == MAX_ATTEMPTS:
                raise OperationFailed(
                    f"batch {spec.name}: {attempt} attempts failed", target=self._target
                )
        self._bring(version)
        with self._progress.task(f"sending {data.path.name}", total=data.size, unit="B") as task:
            for index, part in enumerate(data.parts(replicas)):

                def seen(lines: Iterator[bytes] = part) -> Iterator[bytes]:
                    for line in lines:
                        task.advance(len(line))
                        yield line

                self._provider.store.put(seen(), f"{spec.input}{index:05}.jsonl")
        return spec, batch.start(spec, version=version)

    def _bring(self, version: ModelVersion) -> None:
        """Make sure that the target has the bytes that were registered."""
        store, progress = self._provider.store, self._progress
        if artifacts.is_present(version, store):
            return
        hand_over(
            version,
            self._home,
            self._provider,
            limit=self._limit,
            target=self._target,
            progress=progress,
        )
        artifacts.replicate(version, self._home.store, store, progress=progress)

    def _forget(self, prefix: str) -> None:
        """Remove the copy of the data set: the answers alone stay."""
        for stored in list(self._provider.store.list(prefix)):
            self._provider.store.delete(stored.key)

    def _fetch(self, spec: BatchSpec, path: Path | None) -> tuple[int, int, str]:
        """Write the answers in order, and return how many there are and how many failed."""
        records = failed = 0
        first = ""
        with ExitStack() as stack:
            part = path.with_name(f".{path.name}.part") if path is not None else None
            writer: IO[bytes] | None = stack.enter_context(part.open("wb")) if part else None
            for stored in self._provider.store.list(spec.output):
                with self._provider.store.open(stored.key) as reader:
                    for line in reader:
                        if not line.strip():
                            continue
                        records += 1
                        error = _error(line, spec)
                        if error:
                            failed, first = failed + 1, first or f"record {records}: {error}"
                        if writer is not None:
                            writer.write(line.rstrip(b"\n") + b"\n")
        if part is not None and path is not None:
            part.replace(path)
        return records, failed, first


def _error(line: bytes, spec: BatchSpec) -> str:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not {"prediction", "error"} & said.keys():
        raise OperationFailed(
            f"batch {spec.name}: {line[:200]!r} is no answer",
            hint="the model server of this image does not speak application/jsonlines",
        )
    return str(said.get("error", ""))


def _free(output: Path | None) -> Path | None:
    """Return the file that answers go to.

    Raises:
        AlreadyExists: It is there.
        InvalidRequest: Its folder cannot be made.
    """
    if output is None:
        return None
    path = output / PREDICTIONS
    if path.exists():
        raise AlreadyExists(f"{path} is there already", hint=f"rm {path}, or another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{output} cannot be made: {error.strerror}") from error
    return path
