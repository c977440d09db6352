"""Uploads in chunks and in parts keep to the sizes and the order that the service takes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cloudreg_emulator.google.storage import Storage


def begun(http: httpx.Client, name: str, **params: str) -> str:
    answer = http.post(
        f"/upload/storage/v1/b/{name}/o",
        params={"uploadType": "resumable", "name": "big", **params},
    )
    return answer.headers["Location"]


K = 256 * 1024


@pytest.mark.parametrize(
    ("spans", "status"),
    [
        # A chunk in the middle is a multiple of 256 KiB; the last one is as long as it is.
        ((("0-9", "*", 10),), 400),
        ((("0-9", "20", 10),), 400),
        (((f"0-{K - 1}", "*", K), (f"{K}-{K + 9}", f"{K + 10}", 10)), 200),
        # A size that was told does not change, and nothing is behind it.
        (((f"0-{K - 1}", f"{2 * K}", K), (f"{K}-{2 * K - 1}", f"{3 * K}", K)), 400),
        ((("0-9", "5", 10),), 400),
        # A gap: https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check
        (((f"{K}-{2 * K - 1}", "*", K),), 503),
        # What is there already is passed over.
        (((f"0-{K - 1}", "*", K), (f"0-{K + 9}", f"{K + 10}", K + 10)), 200),
        # The range and the body agree.
        ((("0-9", "10", 8),), 400),
        ((("nonsense", "10", 8),), 400),
    ],
)
def test_chunks(
    http: httpx.Client,
    emulated: Storage,
    name: str,
    spans: tuple[tuple[str, str, int], ...],
    status: int,
) -> None:
    """Chunks of a resumable upload follow each other, in the sizes that the service takes."""
    url = begun(http, name)
    for span, total, size in spans:
        answer = http.put(
            url, content=b"x" * size, headers={"Content-Range": f"bytes {span}/{total}"}
        )

    assert answer.status_code == status
    assert ("big" in emulated.shelves[name].live) is (status == 200)
    if status == 200:
        assert emulated.shelves[name].live["big"].content.data() == b"x" * (K + 10)


def test_chunk_after_chunk(http: httpx.Client, name: str) -> None:
    """The answers to chunks tell what was kept; the end of an unknown size can be told later."""
    url = begun(http, name)
    asked = http.put(url, headers={"Content-Range": "bytes */*"})
    first = http.put(url, content=b"x" * K, headers={"Content-Range": f"bytes 0-{K - 1}/*"})
    last = http.put(url, headers={"Content-Range": f"bytes */{K}"})

    assert (asked.status_code, asked.headers.get("Range")) == (308, None)
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{K - 1}")
    assert (last.status_code, last.json()["size"]) == (200, str(K))


def test_wrong_checksum_of_a_resumable_upload(
    http: httpx.Client, emulated: Storage, name: str
) -> None:
    """A checksum can come with the last request, and a wrong one leaves no object."""
    url = begun(http, name)
    answer = http.put(url, content=b"x", headers={"x-goog-hash": "crc32c=AAAAAA=="})

    assert (answer.status_code, "big" in emulated.shelves[name].live) == (400, False)


def test_cancelled_upload(http: httpx.Client, name: str) -> None:
    """An upload that was given up answers 499, and takes nothing any more."""
    url = begun(http, name)

    assert http.delete(url).status_code == 499
    assert http.put(url, content=b"x").status_code == 499


def test_expired_upload(http: httpx.Client, clock: Any, name: str) -> None:
    """A resumable upload can be gone on with for a week."""
    url = begun(http, name)
    clock.now += 8 * 24 * 3600

    assert http.put(url, content=b"x").status_code == 410


def test_parts_must_be_large(http: httpx.Client, name: str) -> None:
    """Every part but the last one has 5 MiB: https://cloud.google.com/storage/quotas#requests."""
    answer = http.post(f"/{name}/c?uploads")
    upload = answer.text.partition("<UploadId>")[2].partition("<")[0]
    tags = [
        http.put(f"/{name}/c?partNumber={n}&uploadId={upload}", content=b"x").headers["ETag"]
        for n in (1, 2)
    ]
    parts = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>"
        for n, tag in enumerate(tags, start=1)
    )
    refused = http.post(
        f"/{name}/c?uploadId={upload}",
        content=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>",
    )

    assert (refused.status_code, "<Code>EntityTooSmall</Code>" in refused.text) == (400, True)
    shown = http.get(f"/{name}/c?uploadId={upload}&max-parts=1").text
    assert "<IsTruncated>true</IsTruncated>" in shown
    assert http.delete(f"/{name}/c?uploadId={upload}").status_code == 204
    assert upload not in http.get(f"/{name}?uploads").text
