"""Uploads in parts that are not finished: begun, found again, and given up.

The parts of one are seen by nobody, and they stay when a process is killed. The next put to that
key asks what is there. Two threads of a process never write to one upload; two processes can, and
then S3 lets one of them finish it: every part is named with its ETag at the end.
"""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from cloudreg.errors import AlreadyExists, CloudregError, Conflict, IntegrityError, Unavailable
from cloudreg.objects.failures import kind_of_code
from cloudreg.objects.store import MARK
from cloudreg_sagemaker.checksums import ALGORITHM, FIELD
from cloudreg_sagemaker.errors import translated

STALE = datetime.timedelta(days=1)
"""Age of an upload that nobody will finish any more."""

_UPLOADS: set[str] = set()
_UPLOADS_LOCK = threading.Lock()


def _claim(upload: str) -> bool:
    """Keep other threads of this process from an upload; False where one of them has it."""
    with _UPLOADS_LOCK:
        if upload in _UPLOADS:
            return False
        _UPLOADS.add(upload)
        return True


def _let_go(upload: str) -> None:
    with _UPLOADS_LOCK:
        _UPLOADS.discard(upload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that S3 has.

    Attributes:
        number: From 1.
        size: Bytes.
        tag: S3's name for these bytes.
        checksum: Of them; see `cloudreg_sagemaker.checksums`.
    """

    number: int
    size: int
    tag: str
    checksum: str

    def wire(self) -> dict[str, Any]:
        """Return how the last request names it."""
        return {"PartNumber": self.number, "ETag": self.tag, FIELD: self.checksum}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload that is not finished.

    Attributes:
        id: S3's name for it.
        mark: What an object made of it carries; None where another process began it.
        parts: What was there when it was taken up.
    """

    id: str
    mark: str | None
    parts: Mapping[int, Part] = field(default_factory=dict)


class Uploads:
    """Unfinished uploads of a bucket; safe with many threads."""

    def __init__(
        self,
        client: Any,
        *,
        owner: Mapping[str, str],
        encryption: Mapping[str, str],
        target: str,
        prefix: str,
        clock: Callable[[], float],
    ) -> None:
        """Use *client*, boto3's for S3.

        Args:
            client: boto3's.
            owner: What names the bucket, and its owner, in every request.
            encryption: What asks for the encryption of what is made.
            target: For messages.
            prefix: What all keys of the target are below, without a slash at its end.
            clock: Tells the age of uploads; seconds since 1970.
        """
        self._client = client
        self._owner = owner
        self._encryption = encryption
        self._target = target
        self._base = f"{prefix}/" if prefix else ""
        self._clock = clock

    @contextmanager
    def begun(
        self, name: str, *, resume: str | None, checksum: str | None = ALGORITHM
    ) -> Iterator[Upload]:
        """Yield an upload that no other thread of this process has; it is done or gone at the end.

        One that broke stays where somebody may take it up again.
        """
        upload = None if resume is None else self._left(name)
        if upload is None:
            upload = self._begin(name, checksum)
        try:
            yield upload
        except BaseException as error:
            if resume is None or isinstance(error, AlreadyExists):
                self._abort(name, upload.id)
            raise
        finally:
            _let_go(upload.id)

    def _begin(self, name: str, checksum: str | None) -> Upload:
        kind = {"ChecksumAlgorithm": checksum} if checksum else {}
        while True:
            mark = uuid.uuid4().hex
            with self._translated(name):
                answer = self._client.create_multipart_upload(
                    Key=name, Metadata={MARK: mark}, **kind, **self._owner, **self._encryption
                )
            # Another thread that looks for what is left can have found it before this one heard
            # of it: then it is that thread's.
            if _claim(answer["UploadId"]):
                return Upload(id=answer["UploadId"], mark=mark)

    def _left(self, name: str) -> Upload | None:
        """Return what is left of an upload to *name*, claimed; None where there is nothing.

        Uploads of the same kind (the first part of the key says it) are given up when they are
        older than a day.
        """
        try:
            for found in self._unfinished(name):
                # One of another kind is somebody's copy, or another tool's: it is left alone.
                if found["Key"] != name or found.get("ChecksumAlgorithm") != ALGORITHM:
                    continue
                if not _claim(found["UploadId"]):
                    continue
                try:
                    parts = self._parts(name, found["UploadId"])
                except BaseException:
                    _let_go(found["UploadId"])
                    raise
                if parts is not None:
                    return Upload(id=found["UploadId"], mark=None, parts=parts)
                _let_go(found["UploadId"])
        except CloudregError:
            # Whoever may not look, or cannot at this moment, sends everything.
            return None
        return None

    def _unfinished(self, name: str) -> Iterator[Mapping[str, Any]]:
        limit = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC) - STALE
        kind, slash, _ = name.removeprefix(self._base).partition("/")
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Prefix=f"{self._base}{kind}{slash}", **self._owner
        )
        with self._translated(name):
            for page in pages:
                for found in page.get("Uploads", ()):
                    if found["Initiated"] >= limit:
                        yield found
                    else:
                        self._abort(found["Key"], found["UploadId"])

    def _parts(self, name: str, upload: str) -> dict[int, Part] | None:
        """Return the parts of an upload; None where they cannot be compared, or it is gone."""
        parts: dict[int, Part] = {}
        pages = self._client.get_paginator("list_parts").paginate(
            Key=name, UploadId=upload, **self._owner
        )
        with self._translated(name):
            try:
                for page in pages:
                    for found in page.get("Parts", ()):
                        checksum = found.get(FIELD)
                        if checksum is None:
                            return None
                        number = found["PartNumber"]
                        parts[number] = Part(
                            number=number,
                            size=found["Size"],
                            tag=found["ETag"],
                            checksum=checksum,
                        )
            except self._client.exceptions.NoSuchUpload:
                return None
        return parts

    def _abort(self, name: str, upload: str) -> None:
        # What cannot be given up now is swept later, and by the bucket's lifecycle.
        with suppress(CloudregError), self._translated(name):
            self._client.abort_multipart_upload(Key=name, UploadId=upload, **self._owner)

    def _translated(self, name: str) -> Any:
        return refused(f"object {name!r}", target=self._target)


_S3: dict[str, type[CloudregError]] = {
    "PreconditionFailed": Conflict,
    "ConditionalRequestConflict": Conflict,
    "OperationAborted": Conflict,
    # Finished or given up by somebody else: whoever asks again finds out.
    "NoSuchUpload": Unavailable,
    "BadDigest": IntegrityError,
}


@contextmanager
def refused(what: str, *, target: str) -> Iterator[None]:
    """Turn botocore's errors about *what* into our own, with the codes that S3 has of its own."""
    from botocore.exceptions import ClientError

    with translated(what, target=target):
        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {})
            kind = _S3.get(said.get("Code", "")) or kind_of_code(said.get("Code", ""))
            if kind is None:
                raise
            raise kind(
                f"{what}: {said.get('Message') or said.get('Code')}", target=target
            ) from error
