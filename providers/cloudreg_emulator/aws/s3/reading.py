"""Model data, read as SageMaker reads it: past the permissions of every caller."""

from __future__ import annotations

from collections.abc import Iterator

from moto.s3.models import FakeKey, s3_backends

from cloudreg_emulator.aws.s3.models import exclusive


def read(bucket: str, key: str, kind: str) -> Iterator[tuple[str, bytes]]:
    """Yield the relative path and the content of model data; nothing where nothing lies.

    Args:
        bucket: The bucket's name, in whichever account it is.
        key: Of one object, or the prefix of many.
        kind: ``object`` or ``prefix``.
    """
    owner = s3_backends.bucket_accounts.get(bucket)
    if owner is None:
        return
    partition, account = owner
    keys = s3_backends[account][partition].buckets[bucket].keys
    names = [key] if kind == "object" else sorted(n for n in list(keys) if n.startswith(key))
    for name in names:
        with exclusive(bucket, name):
            current = keys.get(name)
            content = current.value if isinstance(current, FakeKey) else None
        if content is not None:
            path = name.rsplit("/", 1)[-1] if kind == "object" else name[len(key) :]
            yield path, content
