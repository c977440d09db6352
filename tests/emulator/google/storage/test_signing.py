"""Signed URLs that Google's own client makes are good until they end, and for what they say."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import storage as gcs
from google.oauth2.service_account import Credentials

from cloudreg_emulator.google.http import HttpServer
from cloudreg_emulator.google.storage import HmacKey, RsaKey, Storage, handle

ACCOUNT = "signer@my-project.iam.gserviceaccount.com"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def credentials(account: str = ACCOUNT) -> Credentials:
    private = _KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return Credentials.from_service_account_info(
        {
            "client_email": account,
            "private_key": private,
            "token_uri": "https://oauth2.googleapis.com/token",
        }
    )


@pytest.fixture(scope="module")
def storage() -> Storage:
    # The client signs with the true time.
    made = Storage(project="my-project", project_number=1)
    made.create_bucket("models", {}, project="my-project")
    made.keys[ACCOUNT] = RsaKey(
        _KEY.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    return made


@pytest.fixture(scope="module")
def bucket(storage: Storage) -> Iterator[gcs.Bucket]:
    with HttpServer(lambda request: handle(storage, request)) as server:
        client = gcs.Client(
            project="my-project",
            credentials=credentials(),
            client_options={"api_endpoint": server.url},
        )
        yield client.bucket("models")
        client.close()


def signed(bucket: gcs.Bucket, name: str, **options: object) -> str:
    options = {
        "version": "v4",
        "expiration": datetime.timedelta(minutes=5),
        "api_access_endpoint": bucket.client._connection.API_BASE_URL,
        "credentials": credentials(),
        **options,
    }
    url: str = bucket.blob(name).generate_signed_url(**options)
    return url


def test_signed_url(bucket: gcs.Bucket) -> None:
    """A URL for a PUT stores, one for a GET reads, names with odd signs too."""
    name = "a/b c%+ü~"
    put = httpx.put(signed(bucket, name, method="PUT"), content=b"x")
    shaped = signed(bucket, name, response_type="text/plain")
    got = httpx.get(shaped)

    assert put.status_code == 200
    assert (got.content, got.headers["Content-Type"]) == (b"x", "text/plain")


def test_signed_headers(bucket: gcs.Bucket) -> None:
    """A header that was signed has to be sent as it was signed."""
    url = signed(bucket, "once", method="PUT", headers={"x-goog-if-generation-match": "0"})

    assert httpx.put(url, content=b"x").status_code == 403
    headers = {"x-goog-if-generation-match": "0"}
    assert httpx.put(url, content=b"x", headers=headers).status_code == 200
    assert httpx.put(url, content=b"x", headers=headers).status_code == 412


def test_url_for_something_else(bucket: gcs.Bucket) -> None:
    """A URL is good for its method and its object alone."""
    httpx.put(signed(bucket, "a", method="PUT"), content=b"x")
    url = signed(bucket, "a")
    for answer in (
        httpx.delete(url),
        httpx.get(url.replace("/models/a?", "/models/b?")),
        httpx.get(url + "&generation=1"),
        httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1")),
    ):
        assert answer.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text


def test_expired_url(bucket: gcs.Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL ends, whoever signed it."""
    for account in (ACCOUNT, "unknown@my-project.iam.gserviceaccount.com"):
        url = signed(bucket, "missing", credentials=credentials(account))
        assert httpx.get(url).status_code == 404
        with monkeypatch.context() as patch:
            patch.setattr(storage, "clock", lambda: time.time() + 301)
            answer = httpx.get(url)
        assert (answer.status_code, "<Code>ExpiredToken</Code>" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Goog-Expires", "604801"),
        ("X-Goog-Expires", "0"),
        ("X-Goog-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Goog-Date", "yesterday"),
        ("X-Goog-Credential", "me"),
        ("X-Goog-SignedHeaders", "accept"),
        ("X-Goog-Signature", "xyz"),
        ("X-Goog-Signature", ""),
    ],
)
def test_url_that_never_was_one(bucket: gcs.Bucket, name: str, value: str) -> None:
    """What no signer could have made is refused, also where the signer's key is not known."""
    url = urlsplit(signed(bucket, "a", credentials=credentials("unknown@x.iam.example.com")))
    query = {key: found[0] for key, found in parse_qs(url.query).items()}
    answer = httpx.get(f"{url.scheme}://{url.netloc}{url.path}", params={**query, name: value})

    assert (answer.status_code, "<Code>InvalidArgument</Code>" in answer.text) == (400, True)


@pytest.mark.parametrize(("secret", "status"), [("right", 200), ("wrong", 403)])
def test_url_signed_with_a_secret(
    bucket: gcs.Bucket, storage: Storage, secret: str, status: int
) -> None:
    """A URL can be signed with an HMAC key, whose secret both sides have.

    Source: https://cloud.google.com/storage/docs/authentication/signatures#signing-process
    """
    storage.keys["GOOGACCESS"] = HmacKey("right")
    httpx.put(signed(bucket, "hmac", method="PUT"), content=b"x")
    base = urlsplit(bucket.client._connection.API_BASE_URL)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{moment[:8]}/auto/storage/goog4_request"
    query = (
        f"X-Goog-Algorithm=GOOG4-HMAC-SHA256&X-Goog-Credential=GOOGACCESS%2F"
        f"{scope.replace('/', '%2F')}&X-Goog-Date={moment}&X-Goog-Expires=60"
        "&X-Goog-SignedHeaders=host"
    )
    canonical = f"GET\n/models/hmac\n{query}\nhost:{base.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"GOOG4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    key = f"GOOG4{secret}".encode()
    for part in (moment[:8], "auto", "storage", "goog4_request", text):
        key = hmac.new(key, part.encode(), "sha256").digest()
    url = f"http://{base.netloc}/models/hmac?{query}&X-Goog-Signature={key.hex()}"

    assert httpx.get(url).status_code == status
