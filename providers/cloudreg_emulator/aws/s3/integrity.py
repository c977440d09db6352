"""What a request says of its bucket and its body, checked before anything changes.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html and, for codes
and messages, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.parsers.expat import ExpatError

import xmltodict  # type: ignore[import-untyped]  # it has no types
from moto.s3.exceptions import MalformedXML, S3AccessDeniedError, S3ClientError
from moto.s3.models import FakeKey

from cloudreg_emulator.aws.s3 import checksums
from cloudreg_emulator.aws.s3.checksums import Checksum, encoded

_ACCOUNT = re.compile(r"[0-9]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_owner(wanted: str, owner: Callable[[], str]) -> None:
    """Refuse a bucket that belongs to another account than the caller expects."""
    if not _ACCOUNT.fullmatch(wanted):
        raise S3ClientError(
            "InvalidBucketOwnerAWSAccountID",
            "The value of the expected bucket owner parameter must be an AWS account ID",
        )
    if owner() != wanted:
        raise S3AccessDeniedError


def checked(headers: Any, body: bytes, raw: bytes, *, declares: bool) -> Checksum | None:
    """Return the checksum that a request declares of its body, once it is found to be true.

    Args:
        headers: Of the request.
        body: What it brings.
        raw: The same as it was sent, with the trailers behind the last chunk.
        declares: Whether checksum headers speak of the body.
    """
    md5 = headers.get("Content-MD5")
    if md5 is not None:
        _check_md5(md5, body)
    signed = headers.get("x-amz-content-sha256", "")
    if _SHA256.fullmatch(signed) and checksums.digest("SHA256", body).hex() != signed:
        raise S3ClientError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    if not declares:
        return None
    trailing = checksums.trailers(raw) if "x-amz-trailer" in headers else {}
    found = checksums.declared(headers.items(), trailing)
    if not found:
        if headers.get("x-amz-sdk-checksum-algorithm"):
            raise invalid_request(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding "
                "x-amz-checksum-* or x-amz-trailer headers were found."
            )
        return None
    if len(found) > 1:
        raise invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    checksum = _known(found[0])
    if encoded(checksum.algorithm, body) != checksum.value:
        raise _bad_digest(checksum.algorithm)
    return checksum


def check_kind(headers: Any) -> None:
    """Refuse an upload whose algorithm does not come in the kind that is asked for."""
    algorithm = headers.get("x-amz-checksum-algorithm", "").upper()
    kind = headers.get("x-amz-checksum-type", "").upper()
    if algorithm in checksums.UNKNOWN:
        raise not_implemented()
    barred = {
        "COMPOSITE": checksums.FULL_OBJECT_ONLY,
        "FULL_OBJECT": checksums.COMPOSITE_ONLY,
    }.get(kind, frozenset())
    if algorithm in barred:
        raise invalid_request(
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} "
            "checksum algorithm."
        )


def claims(body: bytes) -> dict[int, list[Checksum]]:
    """Return what CompleteMultipartUpload declares of each part, by its number."""
    try:
        document = xmltodict.parse(body, force_list=("Part",))
        return {
            int(part["PartNumber"]): [
                _known(Checksum(algorithm=name.removeprefix("Checksum"), value=value))
                for name, value in part.items()
                if name.startswith("Checksum")
            ]
            for part in document["CompleteMultipartUpload"]["Part"]
        }
    except (ExpatError, KeyError, TypeError, ValueError) as error:
        raise MalformedXML from error


def check_whole(headers: Any, parts: Sequence[FakeKey], *, composite: bool) -> None:
    """Refuse an object that is not what CompleteMultipartUpload says of it.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    size = headers.get("x-amz-mp-object-size")
    if size is not None and size != str(sum(part.contentsize for part in parts)):
        raise invalid_request(
            "The provided 'x-amz-mp-object-size' header does not match what was computed."
        )
    for said in checksums.declared(headers.items(), {}):
        value, dash, count = said.value.partition("-")
        checksum = _known(Checksum(algorithm=said.algorithm, value=value))
        values = [part.value for part in parts]
        if dash or composite:
            values = [checksums.digest(checksum.algorithm, value) for value in values]
        right = encoded(checksum.algorithm, b"".join(values)) == value
        if not right or (dash and count != str(len(parts))):
            raise _bad_digest(checksum.algorithm)


def computed(algorithm: str, body: bytes) -> str:
    """Return a checksum that the service is asked to compute."""
    if algorithm in checksums.UNKNOWN:
        raise not_implemented()
    return encoded(algorithm, body)


def not_implemented() -> S3ClientError:
    """Return the refusal of a header that asks for more than there is."""
    return S3ClientError(
        "NotImplemented", "A header you provided implies functionality that is not implemented"
    )


def invalid_request(message: str) -> S3ClientError:
    """Return an InvalidRequest."""
    return S3ClientError("InvalidRequest", message)


def _bad_digest(algorithm: str) -> S3ClientError:
    return S3ClientError(
        "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
    )


def _check_md5(header: str, body: bytes) -> None:
    try:
        wanted = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        wanted = b""
    if len(wanted) != 16:
        raise S3ClientError("InvalidDigest", "The Content-MD5 you specified was invalid.")
    if wanted != checksums.digest("MD5", body):
        raise S3ClientError(
            "BadDigest", "The Content-MD5 you specified did not match what we received."
        )


def _known(checksum: Checksum) -> Checksum:
    """Return a checksum that can be checked, or refuse it aloud."""
    if not checksum.known:
        raise not_implemented()
    if not checksum.wellformed:
        raise invalid_request(f"Value for {checksum.header} header is invalid.")
    return checksum
