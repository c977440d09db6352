"""Large objects on S3: sent in parts, gone on with after a crash, and copied inside the bucket.

The last request of an upload in parts makes the object, and S3 refuses it when the key is taken:
so a put with ``if_absent`` has one winner, however large it is. Until then the parts are seen by
nobody, and they stay when a process is killed. The next put to that key asks what is there, and
sends the parts that are missing or have another checksum.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from cloudreg.errors import AlreadyExists, CloudregError, Conflict, Unavailable
from cloudreg.objects.store import MARK
from cloudreg_sagemaker.checksums import FIELD, checksum
from cloudreg_sagemaker.uploads import Part, Upload, Uploads, refused

PART = 8 * 1024 * 1024
"""Bytes of each of the first parts."""

PARTS_AT_ONCE = 12
"""Parts on their way at once, of all objects together: what of them is in memory is bounded."""

COPIED = 256 * 1024 * 1024
"""Bytes of a part that S3 copies by itself."""

MOST_COPIED_AT_ONCE = 5 * 1024**3
"""The largest object that one request copies.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""


def part_size(number: int) -> int:
    """Return how large part *number* is, of however large an object.

    There are 10,000 parts at most, and nobody knows how long an iterable will be. So they grow:
    all together hold 430 GiB. A put that goes on must cut as the one before it did.
    """
    return PART * (1 + (number - 1) // 1000)


class Parts:
    """Puts and copies of objects of a bucket; safe with many threads."""

    def __init__(
        self,
        client: Any,
        *,
        bucket: str,
        account: str,
        kms_key: str | None,
        target: str,
        prefix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use *client*, boto3's for S3.

        Args:
            client: It must send bodies of bytes as they are: see `prepare`.
            bucket: Where everything is.
            account: Whose bucket it must be.
            kms_key: Encrypts what is made; None leaves it to the bucket.
            target: For messages.
            prefix: What all keys of the target are below, without a slash at its end.
            clock: Tells the age of uploads; seconds since 1970.
        """
        self._client = client
        self._bucket = bucket
        self._owner = {"Bucket": bucket, "ExpectedBucketOwner": account}
        self._account = account
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )
        self._target = target
        self._uploads = Uploads(
            client,
            owner=self._owner,
            encryption=self._encryption,
            target=target,
            prefix=prefix,
            clock=clock,
        )
        self._slots = threading.Semaphore(PARTS_AT_ONCE + 2)
        self._pool = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="parts")

    def put(
        self, pieces: Iterator[bytes], name: str, *, if_absent: bool, resume: str | None
    ) -> None:
        """Store *pieces* under *name*; see `cloudreg.objects.Large.put`.

        With *resume* what an earlier put to *name* left is gone on with, whatever that put was
        called: every part is compared before it counts.
        """
        with self._uploads.begun(name, resume=resume) as upload:
            sent = self._send(upload, pieces, name, keep=resume is not None)
            self._complete(upload, [part.wire() for part in sent], name, if_absent=if_absent)

    def copy(self, name: str, to: str, *, size: int, tag: str | None, if_absent: bool) -> None:
        """Copy inside the bucket; see `cloudreg.objects.Large.copy`."""
        if if_absent and not size:
            # S3 copies no part without bytes.
            self._put_empty(to)
            return
        source: dict[str, Any] = {
            "CopySource": {"Bucket": self._bucket, "Key": name},
            "ExpectedSourceBucketOwner": self._account,
        }
        if tag is not None:
            source["CopySourceIfMatch"] = tag
        if not if_absent and size <= MOST_COPIED_AT_ONCE:
            with self._translated(name):
                self._client.copy_object(Key=to, **self._owner, **source, **self._encryption)
            return
        with self._uploads.begun(to, resume=None, checksum=None) as upload:
            ranges = [
                (number, start, min(start + COPIED, size) - 1)
                for number, start in enumerate(range(0, size, COPIED), start=1)
            ]

            def one(part: tuple[int, int, int]) -> dict[str, Any]:
                number, first, last = part
                answer = self._client.upload_part_copy(
                    Key=to,
                    UploadId=upload.id,
                    PartNumber=number,
                    CopySourceRange=f"bytes={first}-{last}",
                    **self._owner,
                    **source,
                )
                return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

            with self._translated(name):
                copied = list(self._pool.map(one, ranges))
            self._complete(upload, copied, to, if_absent=if_absent)

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(
        self, upload: Upload, pieces: Iterator[bytes], name: str, *, keep: bool
    ) -> list[Part]:
        """Send what S3 lacks; with *keep* what was begun is ended, even where the source breaks."""
        sent: list[Part] = []
        going: deque[Future[Part]] = deque()
        try:
            for number, data in enumerate(cut(pieces), start=1):
                there = upload.parts.get(number)
                if there and there.size == len(data) and there.checksum == checksum(data):
                    sent.append(there)
                    continue
                self._slots.acquire()
                going.append(self._pool.submit(self._send_one, upload.id, number, data, name))
                while going and going[0].done():
                    sent.append(going.popleft().result())
            sent += [future.result() for future in going]
        except BaseException:
            for future in going:
                if not keep and future.cancel():
                    self._slots.release()
            # An upload is given up or left to others only when none of ours still writes to it.
            for future in going:
                with suppress(BaseException):
                    future.result()
            raise
        return sorted(sent, key=lambda part: part.number)

    def _send_one(self, upload: str, number: int, data: bytes, name: str) -> Part:
        try:
            found = checksum(data)
            with self._translated(name):
                answer = self._client.upload_part(
                    Key=name,
                    UploadId=upload,
                    PartNumber=number,
                    Body=data,
                    **{FIELD: found},
                    **self._owner,
                )
            return Part(number=number, size=len(data), tag=answer["ETag"], checksum=found)
        finally:
            self._slots.release()

    def _complete(
        self, upload: Upload, parts: list[dict[str, Any]], name: str, *, if_absent: bool
    ) -> None:
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            with self._translated(name):
                self._client.complete_multipart_upload(
                    Key=name,
                    UploadId=upload.id,
                    MultipartUpload={"Parts": parts},
                    **condition,
                    **self._owner,
                )
        except CloudregError as error:
            cause = error.__cause__
            code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else ""
            if code not in _OTHERS:
                raise
            # boto3 asks again after a lost answer, and can then meet its own first attempt.
            found = self._mark(name)
            if found is not None and found == upload.mark:
                return
            if if_absent and found is not None:
                raise self._taken(name) from error
            raise _OTHERS[code](
                f"object {name!r}: another process uploads or deletes it at this moment",
                target=self._target,
                hint="try again",
            ) from error

    def _put_empty(self, name: str) -> None:
        mark = uuid.uuid4().hex
        try:
            with self._translated(name):
                self._client.put_object(
                    Key=name,
                    Body=b"",
                    IfNoneMatch="*",
                    Metadata={MARK: mark},
                    **self._owner,
                    **self._encryption,
                )
        except Conflict as error:
            found = self._mark(name)
            if found == mark:
                return
            if found is not None:
                raise self._taken(name) from error
            raise

    def _mark(self, name: str) -> str | None:
        """Return which put made the object; "" for another kind of put, None without object."""
        from botocore.exceptions import ClientError

        with self._translated(name):
            try:
                answer = self._client.head_object(Key=name, **self._owner)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return str(answer["Metadata"].get(MARK, ""))

    def _taken(self, name: str) -> AlreadyExists:
        return AlreadyExists(f"object {name!r} is there already", target=self._target)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        with refused(f"object {name!r}", target=self._target):
            yield


_OTHERS: dict[str, type[CloudregError]] = {
    "PreconditionFailed": Conflict,
    "ConditionalRequestConflict": Conflict,
    "NoSuchUpload": Unavailable,
    "InvalidPart": Unavailable,
    "InvalidPartOrder": Unavailable,
}
"""What S3 says at the end of an upload that somebody else had a hand in, and what is raised."""


def cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield *pieces* as parts; the last one is as long as it is."""
    held: list[memoryview] = []
    number, size = 1, 0
    for piece in pieces:
        if not held and len(piece) == part_size(number):
            # As it is: to copy 1 GB takes 0.05 s (2 vCPU of an EPYC, 2026-11).
            yield piece
            number += 1
            continue
        left = memoryview(piece)
        while size + len(left) >= part_size(number):
            room = part_size(number) - size
            held.append(left[:room])
            yield b"".join(held)
            number, held, size, left = number + 1, [], 0, left[room:]
        if left:
            held.append(left)
            size += len(left)
    if held or number == 1:
        yield b"".join(held)


def prepare(client: Any) -> None:
    """Let boto3's S3 *client* send the bytes of a part in one go.

    It wraps them in a file otherwise, which is read and encrypted 128 KiB at a time: one eighth
    more processor time for each part (botocore 1.44, 2026-11).
    """
    from botocore.handlers import convert_body_to_file_like_object

    client.meta.events.unregister(
        "before-parameter-build.s3.UploadPart", convert_body_to_file_like_object
    )
