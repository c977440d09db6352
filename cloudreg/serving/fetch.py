"""Files from Cloud Storage, which Vertex AI leaves to the container to fetch.

Vertex AI copies a model's artifacts to a bucket of its own and tells the container where, in
``AIP_STORAGE_URI``; nothing is on the disk. The token comes from the metadata server, as the
account of the deployed model. Whether the bytes are the right ones is checked afterwards, as
always, against the manifest.

Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import quote, urlencode
from urllib.response import addinfourl

from cloudreg.errors import ConfigError
from cloudreg.manifest import MANIFEST_FILE, check_path
from cloudreg.serving.runtimes import LoadFailed

log = logging.getLogger("cloudreg.serving")

STORAGE = "https://storage.googleapis.com"
TOKEN = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - an address
"""https://cloud.google.com/compute/docs/access/authenticate-workloads"""

PARALLEL = 8
CHUNK = 4 << 20
ATTEMPTS = 5
"""Of one file, each from where the last one broke off."""

TIMEOUT_S = 60.0

_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,221})(?:/(.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of a bucket.

    Attributes:
        bucket: Its name.
        prefix: What its objects begin with; ends in a slash, or is empty.
        host: Where Cloud Storage answers.
        token: Of the account that reads; None for emulators.
    """

    bucket: str
    prefix: str
    host: str = STORAGE
    token: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Folder:
        """Read ``gs://bucket/folder``; ``STORAGE_EMULATOR_HOST`` says where an emulator is.

        Raises:
            ConfigError: It is something else.
        """
        found = _URI.fullmatch(uri)
        if found is None:
            raise ConfigError(f"AIP_STORAGE_URI: {uri!r} is no gs:// address")
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        prefix = (found[2] or "").strip("/")
        return cls(
            bucket=found[1],
            prefix=f"{prefix}/" if prefix else "",
            host=(emulator or STORAGE).rstrip("/"),
            token=None if emulator else _token(),
        )

    def fetch(self, to: Path) -> int:
        """Write every object of the folder below *to*, and return their bytes.

        Raises:
            LoadFailed: Nothing is there, or it cannot be read.
        """
        began = perf_counter()
        objects = list(self._list())
        if not objects:
            raise LoadFailed(f"gs://{self.bucket}/{self.prefix} holds nothing")
        for path, _ in objects:
            if path != MANIFEST_FILE:
                check_path(path)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
            list(pool.map(lambda one: self._save(one[0], one[1], to / one[0]), objects))
        total = sum(size for _, size in objects)
        log.info(
            "%d files, %d bytes fetched in %.1f s", len(objects), total, perf_counter() - began
        )
        return total

    def _list(self) -> Iterator[tuple[str, int]]:
        query = {"prefix": self.prefix, "fields": "items(name,size),nextPageToken"}
        while True:
            url = f"{self.host}/storage/v1/b/{quote(self.bucket)}/o?{urlencode(query)}"
            try:
                with self._open(url) as answer:
                    page = json.load(answer)
            except (OSError, ValueError) as error:
                raise LoadFailed(f"gs://{self.bucket}/{self.prefix}: {_reason(error)}") from error
            for item in page.get("items", ()):
                path = item["name"].removeprefix(self.prefix)
                # What consoles store for an empty folder is no file.
                if path and not path.endswith("/"):
                    yield path, int(item["size"])
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def _save(self, path: str, size: int, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        name = quote(self.prefix + path, safe="")
        url = f"{self.host}/storage/v1/b/{quote(self.bucket)}/o/{name}?alt=media"
        written = 0
        problem: Exception | None = None
        for _ in range(ATTEMPTS):
            try:
                with to.open("ab") as file, self._open(url, begin=written) as answer:
                    while piece := answer.read(CHUNK):
                        file.write(piece)
                        written += len(piece)
            except urllib.error.HTTPError as error:
                problem = error
                if written < size and error.code < 500 and error.code != 429:
                    break
            except OSError as error:
                problem = error
            if written >= size:
                return
        raise LoadFailed(
            f"gs://{self.bucket}/{self.prefix}{path}: {written} of {size} bytes; "
            f"{_reason(problem) if problem else 'the connection ended'}"
        )

    def _open(self, url: str, *, begin: int = 0) -> addinfourl:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s), see parse
        answer: addinfourl = urllib.request.urlopen(  # noqa: S310 - http(s)
            request, timeout=TIMEOUT_S
        )
        return answer


def fetch(uri: str, to: Path) -> None:
    """Bring the files of ``gs://…`` into the folder *to*, which is made anew.

    Raises:
        LoadFailed: Something cannot be read.
        ConfigError: It is no such address.
    """
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    Folder.parse(uri).fetch(to)


def _token() -> str:
    request = urllib.request.Request(TOKEN, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http
            return str(json.load(answer)["access_token"])
    except (OSError, ValueError, KeyError) as error:
        raise LoadFailed(f"the metadata server gives no token: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.read()[:300].decode(errors='replace')}"
    return str(error) or type(error).__name__
