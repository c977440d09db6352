"""Uploads in parts that are not finished: begun, found again, and given up.

Each is made under a name of its own, below ``uploads/`` and a digest of the name that it is for:
there the next put to that name finds it. Two threads of a process never write to one upload; two
processes can, and then Cloud Storage lets one of them finish it: every part is named with its
ETag at the end.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from cloudreg.errors import AlreadyExists, CloudregError, IntegrityError, NotFound
from cloudreg_vertex.gcs import Gcs, object_path

STALE = datetime.timedelta(days=1)
"""Age of an upload that nobody will finish any more."""

_UPLOADS: set[str] = set()
_UPLOADS_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload that is not finished.

    Attributes:
        id: Cloud Storage's name for it.
        where: The name of what it will make.
        parts: Number to ETag, which is the MD5, of what was there when it was taken up.
    """

    id: str
    where: str
    parts: Mapping[int, str] = field(default_factory=dict)


class Uploads:
    """Unfinished uploads of a bucket; safe with many threads."""

    def __init__(
        self, gcs: Gcs, *, prefix: str, headers: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        """Use *gcs*.

        Args:
            gcs: Sends the requests.
            prefix: What all keys of the target are below, without a slash at its end.
            headers: What asks for the encryption of what is made.
            clock: Tells the age of uploads; seconds since 1970.
        """
        self._gcs = gcs
        self._stage = f"{prefix}/uploads/" if prefix else "uploads/"
        self._headers = headers
        self._clock = clock
        self._lock = threading.Lock()
        self._swept = False

    @contextmanager
    def begun(self, name: str, *, resume: str | None) -> Iterator[Upload]:
        """Yield an upload that no other thread of this process has; it is done or gone at the end.

        One that broke stays where somebody may take it up again.
        """
        upload = None
        sweeping: threading.Thread | None = None
        if resume is not None:
            limit = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC) - STALE
            sweeping = self._sweeping(limit)
            upload = self._left(name, limit)
        if upload is None:
            upload = self._begin(name)
        try:
            yield upload
        except BaseException as error:
            if resume is None or isinstance(error, AlreadyExists | IntegrityError):
                self._abort(upload)
            raise
        finally:
            _let_go(upload.id)
            if sweeping is not None:
                sweeping.join()

    def remove(self, name: str, generation: str) -> None:
        """Delete what an upload made; absent is fine."""
        path = object_path(self._gcs.bucket, name)
        with suppress(NotFound):
            self._gcs.json(
                "DELETE", path, what=f"object {name!r}", params={"generation": generation}
            )

    def _begin(self, name: str) -> Upload:
        # Uploads of one name at once must not meet: each is made under a name of its own.
        where = f"{self._folder(name)}{uuid.uuid4().hex}"
        while True:
            answer = self._gcs.xml(
                "POST",
                where,
                what=f"object {name!r}",
                headers=self._headers,
                data=b"",
                params={"uploads": ""},
            )
            upload = _document(answer).findtext("{*}UploadId") or ""
            # Another thread that looks for what is left can have found it before this one heard
            # of it: then it is that thread's.
            if _claim(upload):
                return Upload(id=upload, where=where)

    def _folder(self, name: str) -> str:
        return f"{self._stage}{hashlib.sha256(name.encode()).hexdigest()}/"

    def _left(self, name: str, limit: datetime.datetime) -> Upload | None:
        """Return what is left of an upload to *name*, claimed; None where there is nothing."""
        folder = self._folder(name)
        try:
            for where, upload, begun in self._unfinished():
                if begun < limit:
                    self._abort(Upload(id=upload, where=where))
                elif where.startswith(folder) and _claim(upload):
                    try:
                        return Upload(id=upload, where=where, parts=self._parts(where, upload))
                    except BaseException:
                        _let_go(upload)
                        raise
        except CloudregError:
            # Whoever may not look, or cannot at this moment, sends everything.
            return None
        return None

    def _sweeping(self, limit: datetime.datetime) -> threading.Thread | None:
        """Begin to sweep beside the upload that comes; None where it was done before."""
        with self._lock:
            if self._swept:
                return None
            self._swept = True

        def sweep() -> None:
            # Whoever may not look, or cannot at this moment, leaves it to the next one.
            with suppress(CloudregError):
                self._sweep(limit)

        thread = threading.Thread(target=sweep, name="sweep", daemon=True)
        thread.start()
        return thread

    def _sweep(self, limit: datetime.datetime) -> None:
        """Remove what was made and never copied to its own name before *limit*."""
        path = f"b/{quote(self._gcs.bucket, safe='')}/o"
        wanted = {
            "prefix": self._stage,
            "fields": "items(name,generation,timeCreated),nextPageToken",
        }
        while True:
            page = self._gcs.json(
                "GET",
                path,
                what="uploads",
                params=wanted,
            )
            for one in page.get("items", ()):
                if datetime.datetime.fromisoformat(one["timeCreated"]) < limit:
                    self.remove(one["name"], one["generation"])
            if "nextPageToken" not in page:
                return
            wanted["pageToken"] = page["nextPageToken"]

    def _unfinished(self) -> Iterator[tuple[str, str, datetime.datetime]]:
        markers: dict[str, str] = {}
        while True:
            answer = self._gcs.xml(
                "GET", "", what="uploads", params={"uploads": "", "prefix": self._stage, **markers}
            )
            page = _document(answer)
            for one in page.findall("{*}Upload"):
                begun = datetime.datetime.fromisoformat(one.findtext("{*}Initiated", ""))
                yield one.findtext("{*}Key", ""), one.findtext("{*}UploadId", ""), begun
            if page.findtext("{*}IsTruncated") != "true":
                return
            markers = {
                "key-marker": page.findtext("{*}NextKeyMarker", ""),
                "upload-id-marker": page.findtext("{*}NextUploadIdMarker", ""),
            }

    def _parts(self, where: str, upload: str) -> dict[int, str]:
        found: dict[int, str] = {}
        marker: dict[str, str] = {}
        while True:
            answer = self._gcs.xml(
                "GET", where, what="an upload", params={"uploadId": upload, **marker}
            )
            page = _document(answer)
            for one in page.findall("{*}Part"):
                tag = one.findtext("{*}ETag", "").strip('"')
                found[int(one.findtext("{*}PartNumber", "0"))] = tag
            if page.findtext("{*}IsTruncated") != "true":
                return found
            marker = {"part-number-marker": page.findtext("{*}NextPartNumberMarker", "")}

    def _abort(self, upload: Upload) -> None:
        # What cannot be given up now is swept later, and by the bucket's lifecycle.
        with suppress(CloudregError):
            self._gcs.xml("DELETE", upload.where, what="an upload", params={"uploadId": upload.id})


def _document(answer: Any) -> ElementTree.Element:
    # What Cloud Storage itself wrote; expat expands no external entities.
    return ElementTree.fromstring(answer.content)  # noqa: S314


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
