"""Cloud Storage: buckets, objects and their generations, over the JSON API and the XML API.

================  =========================================================================
`storage`         everything that there is, behind one lock; no HTTP
`objects`         what is done with objects
`shelf`           the objects of one bucket: live, replaced and deleted ones
`nouns`           buckets, generations and conditions
`content`         bytes, with their checksums
`uploads`         resumable uploads, and uploads in parts
`listing`         which names a listing shows
`front`           which API a request is for, faults, and batches
`call`            one request on its way
`jsonapi`         the JSON API: `jsonbuckets`, `jsonobjects`, `jsonuploads`, with `parameters`
`resources`       buckets and objects as the JSON API shows them
`xmlapi`          the XML API, with `xmlparts` and `xmldocument`
`media`           bytes as an answer
`disk`            buckets and objects on the disk
`coverage`        prints the table of the README
`signing`         signed URLs
`refusals`        what is refused, and in which words
================  =========================================================================
"""

from cloudreg_emulator.google.storage.front import handle
from cloudreg_emulator.google.storage.signing import HmacKey, RsaKey
from cloudreg_emulator.google.storage.storage import Storage

__all__ = ["HmacKey", "RsaKey", "Storage", "handle"]
