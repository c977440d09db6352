"""Objects in the emulated S3, read and written as the service itself does."""

from __future__ import annotations

from urllib.parse import urlparse


class NoObject(LookupError):
    """The bucket or the key is not there."""


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``s3://BUCKET/KEY``, or of its spelling with https."""
    parts = urlparse(uri, allow_fragments=False)
    path = parts.path.lstrip("/")
    if parts.scheme == "s3":
        return parts.netloc, path
    host = parts.netloc.split(".")
    if host[0] == "s3" or host[0].startswith("s3-"):
        bucket, _, key = path.partition("/")
        return bucket, key
    return host[0], path


def read(account: str, partition: str, bucket: str, key: str) -> tuple[bytes, str]:
    """Return an object's content and its content type.

    Raises:
        NoObject: The message names what is missing.
    """
    from moto.s3.exceptions import MissingBucket, MissingKey
    from moto.s3.models import s3_backends

    backend = s3_backends[account][partition]
    try:
        found = backend.get_object(bucket, key)
    except (MissingBucket, MissingKey) as error:
        raise NoObject(f"s3://{bucket}/{key}: {error}") from error
    if found is None:
        raise NoObject(f"s3://{bucket}/{key}: no such key")
    kind = found.metadata.get("Content-Type") or "application/octet-stream"
    return bytes(found.value), str(kind)


def write(account: str, partition: str, bucket: str, key: str, data: bytes, *, kind: str) -> None:
    """Put an object.

    Raises:
        NoObject: There is no such bucket.
    """
    from moto.s3.exceptions import MissingBucket
    from moto.s3.models import s3_backends

    backend = s3_backends[account][partition]
    try:
        written = backend.put_object(bucket, key, data)
    except MissingBucket as error:
        raise NoObject(f"s3://{bucket}: {error}") from error
    written.set_metadata({"Content-Type": kind})
