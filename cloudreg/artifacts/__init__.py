"""Bytes: hashed in the pass that moves them, stored once, checked whenever they are used.

Keys in a target's object store::

    blobs/<size>/<sha256>       content; identical bytes have one key
    manifests/<sha256>          canonical JSON of a version's manifest
    uploads/<name>              a large file that waits for its digest to be its key

=============  ============================================================================
`uploading`    from a folder into a store
`copying`      in a store: checked there, and copied to another one
`fetching`     from a store into a folder
`records`      manifests
`blobs`        content by its digest
`chunks`       bytes on their way
=============  ============================================================================

Whatever is killed half-way is repeated by the same call, and goes on where it stopped.
"""

from cloudreg.artifacts.blobs import ABANDONED_S, sweep
from cloudreg.artifacts.chunks import CHUNK, PARALLEL_FILES, SMALL
from cloudreg.artifacts.copying import Lacking, check, lacking, replicate
from cloudreg.artifacts.fetching import download
from cloudreg.artifacts.records import is_present, manifest_key, put_manifest, read_manifest
from cloudreg.artifacts.uploading import Uploaded, upload

__all__ = [
    "ABANDONED_S",
    "CHUNK",
    "PARALLEL_FILES",
    "SMALL",
    "Lacking",
    "Uploaded",
    "check",
    "download",
    "is_present",
    "lacking",
    "manifest_key",
    "put_manifest",
    "read_manifest",
    "replicate",
    "sweep",
    "upload",
]
