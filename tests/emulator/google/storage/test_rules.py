"""What Cloud Storage refuses, and in which words: every rule with its source."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import cloudreg_emulator.google.storage as storage_room
from cloudreg_emulator.google.storage import Storage
from cloudreg_emulator.google.storage.coverage import markdown

_DOCS = "https://cloud.google.com/storage/docs"
CONDITIONS = f"{_DOCS}/request-preconditions"
DISCOVERY = "https://storage.googleapis.com/$discovery/rest?version=v1"
NAMES = f"{_DOCS}/buckets#naming"
OBJECT_NAMES = f"{_DOCS}/objects#naming"
RESUMABLE = f"{_DOCS}/performing-resumable-uploads"
PARTS = f"{_DOCS}/multipart-uploads"
CHECKSUMS = f"{_DOCS}/data-validation"
STATUS = f"{_DOCS}/json_api/v1/status-codes"
COMPOSE = f"{_DOCS}/json_api/v1/objects/compose"
REWRITE = f"{_DOCS}/json_api/v1/objects/rewrite"
RESTORE = f"{_DOCS}/json_api/v1/objects/restore"
SOFT = f"{_DOCS}/soft-delete"
KMS = f"{_DOCS}/encryption/customer-managed-keys#restrictions"
POLICY = f"{_DOCS}/json_api/v1/buckets/setIamPolicy"
QUOTAS = f"{_DOCS}/quotas"
METADATA = f"{_DOCS}/metadata"
MPU_CONDITIONS = "https://github.com/apache/opendal/issues/8040"

MD5 = base64.b64encode(hashlib.md5(b"x", usedforsecurity=False).digest()).decode()


@dataclass(frozen=True)
class Rule:
    """A request that is refused.

    ``{b}`` is a bucket with the object ``a`` (content ``x``), ``{g}`` its generation.
    """

    name: str
    method: str
    path: str
    status: int
    reason: str
    source: str
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_U = "/upload/storage/v1/b/{b}/o"
_O = "/storage/v1/b/{b}/o"

JSON_RULES = [
    Rule("bucket missing", "GET", "/storage/v1/b/nothing-here", 404, "notFound", STATUS),
    Rule("object missing", "GET", f"{_O}/nothing", 404, "notFound", STATUS),
    Rule("object in no bucket", "GET", "/storage/v1/b/nothing-here/o/a", 404, "notFound", STATUS),
    Rule("insert without project", "POST", "/storage/v1/b", 400, "required", DISCOVERY),
    Rule("list without project", "GET", "/storage/v1/b", 400, "required", DISCOVERY),
    Rule(
        "insert without name",
        "POST",
        "/storage/v1/b?project=my-project",
        400,
        "required",
        DISCOVERY,
        json={},
    ),
    Rule(
        "another project",
        "POST",
        "/storage/v1/b?project=other",
        403,
        "forbidden",
        STATUS,
        json={"name": "fine-name"},
    ),
    *(
        Rule(
            f"bucket name {name!r}",
            "POST",
            "/storage/v1/b?project=my-project",
            400,
            "invalid",
            NAMES,
            json={"name": name},
        )
        for name in ("ab", "A-b-c", "-abc", "abc-", "192.168.0.1", "goog-x", "my-google", "a" * 64)
    ),
    Rule(
        "bucket is there",
        "POST",
        "/storage/v1/b?project=my-project",
        409,
        "conflict",
        STATUS,
        json={"name": "{b}"},
    ),
    Rule("bucket not empty", "DELETE", "/storage/v1/b/{b}", 409, "conflict", STATUS),
    Rule(
        "bucket of another metageneration",
        "DELETE",
        "/storage/v1/b/{b}?ifMetagenerationMatch=9",
        412,
        "conditionNotMet",
        CONDITIONS,
    ),
    Rule(
        "bucket moves",
        "PATCH",
        "/storage/v1/b/{b}",
        400,
        "invalid",
        f"{_DOCS}/locations",
        json={"location": "EU"},
    ),
    Rule(
        "soft delete for a day",
        "PATCH",
        "/storage/v1/b/{b}",
        400,
        "invalid",
        SOFT,
        json={"softDeletePolicy": {"retentionDurationSeconds": 86400}},
    ),
    Rule(
        "label in capitals",
        "PATCH",
        "/storage/v1/b/{b}",
        400,
        "invalid",
        f"{_DOCS}/tags-and-labels",
        json={"labels": {"Team": "x"}},
    ),
    Rule(
        "key that is none",
        "PATCH",
        "/storage/v1/b/{b}",
        400,
        "invalid",
        KMS,
        json={"encryption": {"defaultKmsKeyName": "alias/x"}},
    ),
    Rule(
        "key elsewhere",
        "PATCH",
        "/storage/v1/b/{b}",
        400,
        "invalid",
        KMS,
        json={
            "encryption": {"defaultKmsKeyName": "projects/p/locations/eu/keyRings/r/cryptoKeys/k"}
        },
    ),
    Rule(
        "policy without role",
        "PUT",
        "/storage/v1/b/{b}/iam",
        400,
        "invalid",
        POLICY,
        json={"bindings": [{"members": ["allUsers"]}]},
    ),
    Rule(
        "member without type",
        "PUT",
        "/storage/v1/b/{b}/iam",
        400,
        "invalid",
        POLICY,
        json={"bindings": [{"role": "roles/x", "members": ["me"]}]},
    ),
    Rule("parameter", "GET", f"{_O}?prefixx=a", 400, "invalidParameter", DISCOVERY),
    Rule(
        "condition where there is none",
        "GET",
        f"{_O}?ifGenerationMatch=1",
        400,
        "invalidParameter",
        DISCOVERY,
    ),
    Rule("misspelt condition", "GET", f"{_O}/a?ifGeneration=1", 400, "invalidParameter", DISCOVERY),
    Rule("condition is no number", "GET", f"{_O}/a?ifGenerationMatch=x", 400, "invalid", DISCOVERY),
    Rule("flag is no flag", "GET", f"{_O}?versions=1", 400, "invalid", DISCOVERY),
    Rule("no results", "GET", f"{_O}?maxResults=0", 400, "invalid", DISCOVERY),
    Rule("token of somebody else", "GET", f"{_O}?pageToken=abc", 400, "invalid", DISCOVERY),
    Rule(
        "versions and soft deleted",
        "GET",
        f"{_O}?versions=true&softDeleted=true",
        400,
        "invalid",
        f"{_DOCS}/json_api/v1/objects/list",
    ),
    Rule(
        "fields that do not close",
        "GET",
        f"{_O}?fields=items(name",
        400,
        "invalid",
        f"{_DOCS}/json_api#partial-response",
    ),
    Rule("body is no JSON", "PATCH", f"{_O}/a", 400, "parseError", STATUS, content=b"{"),
    Rule("body is no object", "PATCH", f"{_O}/a", 400, "parseError", STATUS, content=b"[]"),
    Rule(
        "metadata is no text",
        "PATCH",
        f"{_O}/a",
        400,
        "invalid",
        METADATA,
        json={"metadata": {"k": 1}},
    ),
    Rule(
        "metadata of 8 KiB and more",
        "PATCH",
        f"{_O}/a",
        400,
        "invalid",
        QUOTAS,
        json={"metadata": {"k": "x" * 8192}},
    ),
    *(
        Rule(
            f"{verb} of another {what}",
            verb,
            f"{_O}/a?if{what}Match=9",
            412,
            "conditionNotMet",
            CONDITIONS,
            json={} if verb == "PATCH" else None,
        )
        for verb in ("GET", "PATCH", "DELETE")
        for what in ("Generation", "Metageneration")
    ),
    Rule(
        "change of what did not change",
        "PATCH",
        f"{_O}/a?ifGenerationNotMatch={{g}}",
        412,
        "conditionNotMet",
        CONDITIONS,
        json={},
    ),
    Rule("generation is gone", "GET", f"{_O}/a?generation=1", 404, "notFound", STATUS),
    Rule(
        "soft deleted without generation",
        "GET",
        f"{_O}/a?softDeleted=true",
        400,
        "required",
        SOFT,
    ),
    Rule(
        "range behind the end",
        "GET",
        f"{_O}/a?alt=media",
        416,
        "requestedRangeNotSatisfiable",
        STATUS,
        headers={"Range": "bytes=1-"},
    ),
    Rule("upload of no kind", "POST", _U, 400, "invalid", f"{_DOCS}/uploads-downloads"),
    Rule("upload without name", "POST", f"{_U}?uploadType=media", 400, "required", DISCOVERY),
    *(
        Rule(
            f"object name {name[:12]!r}",
            "POST",
            f"{_U}?uploadType=media&name={name}",
            400,
            "invalid",
            OBJECT_NAMES,
        )
        for name in (".", "..", "a%0Ab", ".well-known/acme-challenge/x", "x" * 1025)
    ),
    Rule(
        "object is there",
        "POST",
        f"{_U}?uploadType=media&name=a&ifGenerationMatch=0",
        412,
        "conditionNotMet",
        CONDITIONS,
    ),
    Rule(
        "object is not there",
        "POST",
        f"{_U}?uploadType=media&name=new&ifGenerationMatch=7",
        412,
        "conditionNotMet",
        CONDITIONS,
    ),
    Rule(
        "wrong CRC-32C in a header",
        "POST",
        f"{_U}?uploadType=media&name=b",
        400,
        "invalid",
        CHECKSUMS,
        content=b"x",
        headers={"x-goog-hash": "crc32c=AAAAAA=="},
    ),
    Rule(
        "wrong MD5 in a header",
        "POST",
        f"{_U}?uploadType=media&name=b",
        400,
        "invalid",
        CHECKSUMS,
        content=b"y",
        headers={"Content-MD5": MD5},
    ),
    Rule(
        "MD5 that is none",
        "POST",
        f"{_U}?uploadType=media&name=b",
        400,
        "invalid",
        CHECKSUMS,
        content=b"x",
        headers={"x-goog-hash": "md5=AAAA"},
    ),
    Rule(
        "multipart of one part",
        "POST",
        f"{_U}?uploadType=multipart",
        400,
        "invalid",
        f"{_DOCS}/uploading-objects",
        content=b"--x\r\n\r\n{}\r\n--x--",
        headers={"Content-Type": "multipart/related; boundary=x"},
    ),
    Rule(
        "resumable where the object is there",
        "POST",
        f"{_U}?uploadType=resumable&name=a&ifGenerationMatch=0",
        412,
        "conditionNotMet",
        CONDITIONS,
    ),
    Rule("upload id", "PUT", f"{_U}?upload_id=nothing", 404, "notFound", RESUMABLE),
    Rule("compose of nothing", "POST", f"{_O}/c/compose", 400, "invalid", COMPOSE, json={}),
    Rule(
        "compose of 33",
        "POST",
        f"{_O}/c/compose",
        400,
        "invalid",
        QUOTAS,
        json={"sourceObjects": [{"name": "a"}] * 33},
    ),
    Rule(
        "compose of what is missing",
        "POST",
        f"{_O}/c/compose",
        404,
        "notFound",
        COMPOSE,
        json={"sourceObjects": [{"name": "nothing"}]},
    ),
    Rule(
        "compose of another generation",
        "POST",
        f"{_O}/c/compose",
        412,
        "conditionNotMet",
        COMPOSE,
        json={"sourceObjects": [{"name": "a", "objectPreconditions": {"ifGenerationMatch": "9"}}]},
    ),
    Rule(
        "copy of another generation",
        "POST",
        f"{_O}/a/copyTo/b/{{b}}/o/c?ifSourceGenerationMatch=9",
        412,
        "conditionNotMet",
        CONDITIONS,
    ),
    Rule(
        "copy onto what is there",
        "POST",
        f"{_O}/a/copyTo/b/{{b}}/o/a?ifGenerationMatch=0",
        412,
        "conditionNotMet",
        CONDITIONS,
    ),
    Rule(
        "rewrite with a strange token",
        "POST",
        f"{_O}/a/rewriteTo/b/{{b}}/o/c?rewriteToken=x",
        400,
        "invalid",
        REWRITE,
    ),
    Rule(
        "rewrite by a few bytes",
        "POST",
        f"{_O}/a/rewriteTo/b/{{b}}/o/c?maxBytesRewrittenPerCall=5",
        400,
        "invalid",
        REWRITE,
    ),
    Rule("restore without generation", "POST", f"{_O}/a/restore", 400, "required", RESTORE),
    Rule(
        "restore of what is not deleted",
        "POST",
        f"{_O}/a/restore?generation={{g}}",
        404,
        "notFound",
        RESTORE,
    ),
    Rule("method", "POST", f"{_O}/a", 405, "methodNotAllowed", STATUS),
    Rule("access control of objects", "GET", f"{_O}/a/acl", 501, "notImplemented", "not emulated"),
    Rule("listing by glob", "GET", f"{_O}?matchGlob=*", 501, "notImplemented", "not emulated"),
]

XML_RULES = [
    Rule("bucket missing", "GET", "/nothing-here?list-type=2", 404, "NoSuchBucket", STATUS),
    Rule("object missing", "GET", "/{b}/nothing", 404, "NoSuchKey", STATUS),
    Rule(
        "object is there",
        "PUT",
        "/{b}/a",
        412,
        "PreconditionFailed",
        CONDITIONS,
        headers={"x-goog-if-generation-match": "0"},
    ),
    Rule(
        "read of another generation",
        "GET",
        "/{b}/a",
        412,
        "PreconditionFailed",
        CONDITIONS,
        headers={"x-goog-if-generation-match": "9"},
    ),
    Rule(
        "read of another ETag",
        "GET",
        "/{b}/a",
        412,
        "PreconditionFailed",
        f"{_DOCS}/xml-api/reference-headers#ifmatch",
        headers={"If-Match": '"0"'},
    ),
    Rule(
        "delete of another generation",
        "DELETE",
        "/{b}/a",
        412,
        "PreconditionFailed",
        CONDITIONS,
        headers={"x-goog-if-generation-match": "9"},
    ),
    Rule(
        "copy of another ETag",
        "PUT",
        "/{b}/c",
        412,
        "PreconditionFailed",
        f"{_DOCS}/xml-api/reference-headers#xgoogcopysourceifmatch",
        headers={"x-goog-copy-source": "{b}/a", "x-goog-copy-source-if-match": '"0"'},
    ),
    Rule(
        "wrong CRC-32C",
        "PUT",
        "/{b}/c",
        400,
        "BadDigest",
        CHECKSUMS,
        content=b"x",
        headers={"x-goog-hash": "crc32c=AAAAAA=="},
    ),
    Rule(
        "MD5 that is none",
        "PUT",
        "/{b}/c",
        400,
        "InvalidDigest",
        CHECKSUMS,
        content=b"x",
        headers={"Content-MD5": "AAAA"},
    ),
    Rule("range", "GET", "/{b}/a", 416, "InvalidRange", STATUS, headers={"Range": "bytes=5-"}),
    Rule("parameter", "GET", "/{b}/a?versionId=1", 400, "InvalidArgument", f"{_DOCS}/xml-api"),
    Rule("versions", "GET", "/{b}?versions", 501, "NotImplemented", "not emulated"),
    *(
        Rule(
            f"{what} with {header}",
            method,
            path,
            400,
            "NotImplemented",
            MPU_CONDITIONS,
            headers={header: value},
        )
        for header, value in (("x-goog-if-generation-match", "0"), ("If-None-Match", "*"))
        for what, method, path in (
            ("begin", "POST", "/{b}/c?uploads"),
            ("part", "PUT", "/{b}/c?partNumber=1&uploadId={u}"),
            ("complete", "POST", "/{b}/c?uploadId={u}"),
        )
    ),
    Rule("strange upload", "PUT", "/{b}/c?partNumber=1&uploadId=x", 404, "NoSuchUpload", PARTS),
    Rule("part 0", "PUT", "/{b}/c?partNumber=0&uploadId={u}", 400, "InvalidArgument", QUOTAS),
    Rule(
        "part 10001", "PUT", "/{b}/c?partNumber=10001&uploadId={u}", 400, "InvalidArgument", QUOTAS
    ),
    Rule(
        "part with a wrong checksum",
        "PUT",
        "/{b}/c?partNumber=1&uploadId={u}",
        400,
        "BadDigest",
        CHECKSUMS,
        content=b"x",
        headers={"x-goog-hash": "crc32c=AAAAAA=="},
    ),
    Rule(
        "part that is copied",
        "PUT",
        "/{b}/c?partNumber=1&uploadId={u}",
        400,
        "NotImplemented",
        PARTS,
        headers={"x-goog-copy-source": "{b}/a"},
    ),
    *(
        Rule(f"complete with {what}", "POST", "/{b}/c?uploadId={u}", 400, code, PARTS, content=body)
        for what, code, body in (
            ("no XML", "MalformedCompleteMultipartUploadRequest", b"x"),
            (
                "no parts",
                "InvalidPartOrder",
                b"<CompleteMultipartUpload></CompleteMultipartUpload>",
            ),
            (
                "a strange part",
                "InvalidPart",
                b"<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>x</ETag></Part>"
                b"</CompleteMultipartUpload>",
            ),
        )
    ),
]


@pytest.fixture
def known(emulated: Storage, http: httpx.Client, name: str) -> dict[str, str]:
    """Return what stands in a rule's places: a bucket, a generation, an upload in parts."""
    made = http.post(
        f"/upload/storage/v1/b/{name}/o", params={"uploadType": "media", "name": "a"}, content=b"x"
    ).json()
    upload = emulated.uploads.begin_parts(name, "c", {}, kms_key=None).id
    return {"b": name, "g": made["generation"], "u": upload}


def sent(http: httpx.Client, rule: Rule, known: Mapping[str, str]) -> httpx.Response:
    def filled(value: Any) -> Any:
        if isinstance(value, str):
            for place, text in known.items():
                value = value.replace(f"{{{place}}}", text)
        return (
            {key: filled(one) for key, one in value.items()} if isinstance(value, dict) else value
        )

    return http.request(
        rule.method,
        filled(rule.path),
        json=filled(rule.json),
        content=rule.content,
        headers=filled(dict(rule.headers)),
    )


@pytest.mark.parametrize("rule", JSON_RULES, ids=lambda rule: rule.name)
def test_json_refusals(
    http: httpx.Client, emulated: Storage, known: dict[str, str], rule: Rule
) -> None:
    """The JSON API refuses with a status and a reason, in Google's form, and changes nothing."""
    shelf = emulated.shelves[known["b"]]
    before = (shelf.bucket, dict(shelf.live))
    answer = sent(http, rule, known)
    error = answer.json()["error"]

    assert (answer.status_code, error["errors"][0]["reason"]) == (rule.status, rule.reason)
    assert error["code"] == rule.status
    assert error["message"] == error["errors"][0]["message"] != ""
    assert error["errors"][0]["domain"] == "global"
    assert (shelf.bucket, dict(shelf.live)) == before


@pytest.mark.parametrize("rule", XML_RULES, ids=lambda rule: rule.name)
def test_xml_refusals(
    http: httpx.Client, emulated: Storage, known: dict[str, str], rule: Rule
) -> None:
    """The XML API refuses with a status and a code, in a document, and changes nothing."""
    shelf = emulated.shelves[known["b"]]
    before = (shelf.bucket, dict(shelf.live))
    answer = sent(http, rule, known)

    assert answer.status_code == rule.status
    assert f"<Code>{rule.reason}</Code>" in answer.text
    assert (shelf.bucket, dict(shelf.live)) == before


def test_every_refusal_names_its_source() -> None:
    """A rule without a source would be an opinion."""
    rules = [*JSON_RULES, *XML_RULES]

    assert [rule.name for rule in rules if not rule.source] == []
    assert len(rules) >= 90


def test_not_modified(http: httpx.Client, name: str) -> None:
    """Who has the current state already gets a 304 without a body, from both APIs."""
    made = http.put(f"/{name}/a", content=b"x")
    generation = made.headers["x-goog-generation"]
    json = http.get(
        f"/storage/v1/b/{name}/o/a", params={"ifGenerationNotMatch": generation, "alt": "media"}
    )
    xml = http.get(f"/{name}/a", headers={"If-None-Match": made.headers["ETag"]})

    assert [(answer.status_code, answer.content) for answer in (json, xml)] == [(304, b"")] * 2


def test_hosts(http: httpx.Client, name: str) -> None:
    """A bucket can be the first part of the host's name."""
    http.put(f"/{name}/a/b", content=b"x")
    answer = http.get("/a/b", headers={"Host": f"{name}.storage.googleapis.com"})

    assert answer.content == b"x"


def test_default_key(http: httpx.Client, make: Callable[..., str]) -> None:
    """What names no key is encrypted with the bucket's, which is in the same place."""
    key = "projects/p/locations/us-east1/keyRings/r/cryptoKeys/k"
    name = make(location="us-east1", encryption={"defaultKmsKeyName": key})
    http.put(f"/{name}/a", content=b"x")
    found = http.get(f"/storage/v1/b/{name}/o/a").json()

    assert found["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"


def test_head(http: httpx.Client, name: str) -> None:
    """A HEAD tells of the object and brings nothing of it."""
    http.put(f"/{name}/a", content=b"x" * 1000)
    answer = http.head(f"/{name}/a")

    assert (answer.headers["Content-Length"], answer.content) == ("1000", b"")
    assert http.head(f"/{name}").status_code == 200
    assert http.head("/nothing-here").status_code == 404


def test_readme_names_every_operation() -> None:
    """The README's table is what the code answers."""
    readme = Path(storage_room.__file__).with_name("README.md").read_text()
    table = readme.partition("<!-- operations: begin -->")[2].partition("<!-- operations: end -->")

    assert table[0].strip() == markdown()


def test_update_replaces(http: httpx.Client, name: str) -> None:
    """A PUT of metadata, or of a bucket, takes away what it does not name."""
    http.put(f"/{name}/a", content=b"x", headers={"x-goog-meta-k": "v", "Cache-Control": "c"})
    found = http.put(f"/storage/v1/b/{name}/o/a", json={"contentType": "text/x"}).json()
    http.patch(f"/storage/v1/b/{name}", json={"labels": {"a": "b"}})
    bucket = http.put(f"/storage/v1/b/{name}", json={}).json()

    assert (found["contentType"], found.get("metadata")) == ("text/x", None)
    assert ("cacheControl" in found, "labels" in bucket) == (False, False)


def test_service(http: httpx.Client, name: str) -> None:
    """The buckets of the project are listed in XML, and its own account is told in JSON."""
    assert f"<Name>{name}</Name>" in http.get("/").text
    account = http.get("/storage/v1/projects/my-project/serviceAccount").json()
    assert account["email_address"].startswith("service-123456789012@")
