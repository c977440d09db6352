"""Bytes by key in a bucket that the user names, and whose project is checked before anything else.

obstore lists, reads and deletes. Whatever is made is made beside it (`parts`), with the same
credentials: with a checksum, on a condition, in parts, and copies of any size.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from cloudreg.errors import AlreadyExists, ConfigError, NotFound, PermissionDenied
from cloudreg.objects import ObstoreObjects, check_key
from cloudreg.objects.failures import translated
from cloudreg.objects.keys import name_of
from cloudreg.provider import StoredObject
from cloudreg_vertex.gcs import RETRIES, Gcs, certificates
from cloudreg_vertex.parts import PARTS_AT_ONCE, Parts

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig

    from cloudreg_vertex.settings import VertexSettings

_RETRY_FOR = timedelta(minutes=2)
_TIMEOUT = timedelta(minutes=5)
"""Of one request: a part may take that long on a thin line."""

_ROBOT = re.compile(r"service-(\d+)@")


class GcsObjects:
    """The object store of a target; the bucket is looked at with the first verb."""

    def __init__(
        self,
        settings: VertexSettings,
        *,
        target: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember what is asked for; no request is made.

        Args:
            settings: The target's section: project, location, bucket, prefix and key.
            target: For messages.
            clock: Tells the age of uploads that nobody finished; seconds since 1970.
        """
        self._settings = settings
        self._target = target
        self._clock = clock
        self._lock = threading.Lock()
        self._gcs: Gcs | None = None
        self._parts: Parts | None = None
        self._native: Any = None
        self._objects: ObstoreObjects | None = None

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        return self._opened().put(source, key, if_absent=if_absent, resume=resume)

    def get(self, key: str, dest: Path) -> None:
        self._opened().get(key, dest)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        return self._opened().open(key, offset=offset, length=length)

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        return self._opened().copy(key, to, if_absent=if_absent)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        yield from self._opened().list(prefix, after=after)

    def delete(self, key: str) -> None:
        self._opened().delete(key)

    def generation(self, key: str) -> int:
        """Return which state of an object is the current one, so that a reader can be held to it.

        Raises:
            NotFound: No such key.
        """
        import obstore

        prefix = f"{self._settings.prefix}/" if self._settings.prefix else ""
        name = prefix + name_of(check_key(key))
        self._opened()
        with translated(f"object {key!r}", target=self._target):
            return int(obstore.head(self._native, name)["version"] or 0)

    def close(self) -> None:
        """Let go of connections and threads."""
        with self._lock:
            for opened in (self._objects, self._parts, self._gcs):
                if opened is not None:
                    opened.close()
            self._objects = self._parts = self._gcs = self._native = None

    def _opened(self) -> ObstoreObjects:
        with self._lock:
            if self._objects is None:
                self._objects = self._open()
            return self._objects

    def _open(self) -> ObstoreObjects:
        settings = self._settings
        trusted = certificates(target=self._target)
        gcs = Gcs(settings, target=self._target, connections=2 * PARTS_AT_ONCE)
        try:
            self._check(gcs)
        except BaseException:
            gcs.close()
            raise
        self._gcs = gcs
        self._parts = Parts(
            gcs,
            prefix=settings.prefix,
            kms_key=settings.kms_key,
            target=self._target,
            clock=self._clock,
        )
        self._native = self._store(gcs, trusted)
        return _Objects(
            self._native, target=self._target, prefix=settings.prefix, parts=self._parts
        )

    def _check(self, gcs: Gcs) -> None:
        """Refuse a bucket that is missing, elsewhere, or another project's."""
        settings = self._settings
        what = f"bucket {settings.bucket!r}"
        path = f"b/{quote(settings.bucket, safe='')}"
        try:
            found = gcs.json("GET", path, what=what, params={"fields": "projectNumber,location"})
        except NotFound as error:
            raise ConfigError(
                f"{what} does not exist", target=self._target, hint="check bucket"
            ) from error
        except PermissionDenied as error:
            raise PermissionDenied(
                f"{what}: these credentials may not look at it",
                target=self._target,
                hint="the account needs roles/storage.legacyBucketReader and "
                "roles/storage.objectUser on the bucket",
            ) from error
        location = str(found["location"]).lower()
        if location != settings.location:
            # Vertex AI reads no model from anywhere else:
            # https://github.com/googleapis/python-aiplatform/issues/885
            raise ConfigError(
                f"{what} is in {location}, not in {settings.location}",
                target=self._target,
                hint=f"bucket = a bucket in {settings.location}",
            )
        number = settings.project_number or self._project_number(gcs)
        if str(found["projectNumber"]) != str(number):
            raise PermissionDenied(
                f"{what} is project {found['projectNumber']}'s, and {settings.project} is {number}",
                target=self._target,
                hint="check bucket and project: another project's bucket is never written to",
            )

    def _project_number(self, gcs: Gcs) -> str:
        """Return the number of the project, which is in the name of Cloud Storage's own account.

        Source: https://cloud.google.com/storage/docs/json_api/v1/projects/serviceAccount/get
        """
        project = self._settings.project
        path = f"projects/{quote(project, safe='')}/serviceAccount"
        try:
            address = str(gcs.json("GET", path, what=f"project {project!r}")["email_address"])
        except (PermissionDenied, NotFound) as error:
            raise PermissionDenied(
                f"project {project!r}: its number cannot be read",
                target=self._target,
                hint=f"project_number = what gcloud projects describe {project} shows",
            ) from error
        found = _ROBOT.search(address)
        if found is None:
            raise ConfigError(
                f"project {project!r}: no number in {address!r}",
                target=self._target,
                hint=f"project_number = what gcloud projects describe {project} shows",
            )
        return found[1]

    def _store(self, gcs: Gcs, trusted: bytes | None) -> Any:
        """Return obstore's store of the bucket."""
        from obstore.store import GCSStore

        options: ClientConfig = {
            "allow_http": gcs.address is not None and gcs.address.startswith("http:"),
            "connect_timeout": timedelta(seconds=10),
            "timeout": _TIMEOUT,
        }
        if trusted is not None:
            options["root_certificate"] = trusted
        config: GCSConfig = {}
        if gcs.address is not None:
            # What the environment says of credentials must not reach an emulator.
            config["service_account_key"] = json.dumps(
                {
                    "gcs_base_url": gcs.address,
                    "disable_oauth": True,
                    "client_email": "",
                    "private_key": "",
                    "private_key_id": "",
                }
            )
        return GCSStore(
            self._settings.bucket,
            config=config,
            client_options=options,
            retry_config={"max_retries": RETRIES, "retry_timeout": _RETRY_FOR},
            credential_provider=None if gcs.address is not None else _tokens(gcs.credentials),
        )


class _Objects(ObstoreObjects):
    """Everything by obstore but what is made: that has a checksum, a mark and a key."""

    def __init__(self, store: Any, *, target: str, prefix: str, parts: Parts) -> None:
        super().__init__(store, target=target, prefix=prefix, large=parts)
        self._parts = parts

    def _put_whole(self, data: bytes, key: str, name: str, *, if_absent: bool) -> None:
        try:
            self._parts.put_whole(data, name, if_absent=if_absent)
        except AlreadyExists as error:
            raise self._taken(key) from error


def _tokens(credentials: Any) -> Callable[[], Any]:
    """Return where obstore finds the token that is good now, and until when."""
    from google.auth.transport.requests import Request

    lock, request = threading.Lock(), Request()

    def token() -> Any:
        with lock:
            if not credentials.valid:
                credentials.refresh(request)
            expiry = credentials.expiry
        return {
            "token": credentials.token,
            # google.auth means UTC, and does not say so.
            "expires_at": expiry.replace(tzinfo=UTC) if expiry else None,
        }

    return token
