"""The emulated S3 refuses what S3 refuses, and loses nothing."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudreg_emulator.aws import aws
from cloudreg_emulator.aws.s3 import checksums
from cloudreg_emulator.aws.server import AwsServer

OWNER = "123456789012"
STRANGER = "999999999999"
BUCKET = "bucket"
MIB = 1 << 20

# One session for all: what it costs to make a client is mostly reading the service's model.
SESSION = boto3.session.Session(
    aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
)


@pytest.fixture(params=["in process", "server"])
def s3(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client whose checksums are only what a test sends."""
    config = Config(
        request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )
    if request.param == "in process":
        with aws():
            client = SESSION.client("s3", config=config)
            client.create_bucket(Bucket=BUCKET)
            yield client
        return
    with AwsServer() as server:
        client = SESSION.client(
            "s3",
            config=config,
            endpoint_url=server.url,
        )
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


def code(act: Callable[[], Any]) -> str:
    """Return the code with which *act* is refused."""
    with pytest.raises(ClientError) as caught:
        act()
    return str(caught.value.response["Error"]["Code"])


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def checksum(algorithm: str, body: bytes) -> str:
    """Return a checksum by other code than the emulator's."""
    if algorithm == "CRC32":
        return b64(zlib.crc32(body).to_bytes(4, "big"))
    return b64(hashlib.new(algorithm.lower(), body).digest())


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A request that S3 refuses."""

    name: str
    operation: str
    code: str
    source: str
    more: dict[str, Any] = field(default_factory=dict)


USER_GUIDE = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/"
API = "https://docs.aws.amazon.com/AmazonS3/latest/API/"
INTEGRITY = USER_GUIDE + "checking-object-integrity.html"
ERRORS = API + "ErrorResponses.html"
OWNERS = USER_GUIDE + "bucket-owner-condition.html"
CONDITIONS = USER_GUIDE + "conditional-requests.html"

BODY = {"Key": "k", "Body": b"right"}
REFUSALS = [
    *(
        Refusal(
            name=f"{algorithm} of another body",
            operation="put_object",
            code="BadDigest",
            source=INTEGRITY,
            more={**BODY, f"Checksum{algorithm}": checksum(algorithm, b"wrong")},
        )
        for algorithm in ("CRC32", "SHA1", "SHA256", "SHA512", "MD5")
    ),
    *(
        Refusal(
            name=f"{algorithm} of another body, which no standard library computes",
            operation="put_object",
            code="BadDigest",
            source=INTEGRITY,
            more={**BODY, f"Checksum{algorithm}": checksums.encoded(algorithm, b"wrong")},
        )
        for algorithm in ("CRC32C", "CRC64NVME")
    ),
    Refusal(
        name="a checksum that is none",
        operation="put_object",
        code="InvalidRequest",
        source=INTEGRITY,
        more={**BODY, "ChecksumSHA256": "AAAA"},
    ),
    Refusal(
        name="two checksums",
        operation="put_object",
        code="InvalidRequest",
        source=INTEGRITY,
        more={
            **BODY,
            "ChecksumSHA256": checksum("SHA256", b"right"),
            "ChecksumSHA1": checksum("SHA1", b"right"),
        },
    ),
    Refusal(
        name="an algorithm that cannot be checked here",
        operation="put_object",
        code="NotImplemented",
        source="README.md of the emulator",
        more={**BODY, "ChecksumXXHASH64": b64(bytes(8))},
    ),
    Refusal(
        name="Content-MD5 of another body",
        operation="put_object",
        code="BadDigest",
        source=ERRORS,
        more={**BODY, "ContentMD5": checksum("MD5", b"wrong")},
    ),
    Refusal(
        name="Content-MD5 that is none",
        operation="put_object",
        code="InvalidDigest",
        source=ERRORS,
        more={**BODY, "ContentMD5": "AAAA"},
    ),
    Refusal(
        name="a condition that is no *",
        operation="put_object",
        code="NotImplemented",
        source=API + "API_PutObject.html",
        more={**BODY, "IfNoneMatch": "etag"},
    ),
    Refusal(
        name="an absent object to match",
        operation="put_object",
        code="NoSuchKey",
        source=CONDITIONS,
        more={**BODY, "IfMatch": "etag"},
    ),
    Refusal(
        name="an owner that is no account",
        operation="put_object",
        code="InvalidBucketOwnerAWSAccountID",
        source=ERRORS,
        more={**BODY, "ExpectedBucketOwner": "me"},
    ),
    *(
        Refusal(
            name=f"{operation} of somebody else's bucket",
            operation=operation,
            code="403" if operation.startswith("head") else "AccessDenied",
            source=OWNERS,
            more={**more, "ExpectedBucketOwner": STRANGER},
        )
        for operation, more in {
            "put_object": BODY,
            "get_object": {"Key": "there"},
            "head_object": {"Key": "there"},
            "delete_object": {"Key": "there"},
            "get_object_attributes": {"Key": "there", "ObjectAttributes": ["ETag"]},
            "put_object_tagging": {"Key": "there", "Tagging": {"TagSet": []}},
            "create_multipart_upload": {"Key": "there"},
            "copy_object": {"Key": "copy", "CopySource": f"{BUCKET}/there"},
            "head_bucket": {},
            "list_objects": {},
            "list_objects_v2": {},
            "list_object_versions": {},
            "list_multipart_uploads": {},
            "get_bucket_location": {},
            "get_bucket_versioning": {},
            "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
            "delete_objects": {"Delete": {"Objects": [{"Key": "there"}]}},
            "put_public_access_block": {
                "PublicAccessBlockConfiguration": {"BlockPublicAcls": True}
            },
            "delete_bucket": {},
        }.items()
    ),
    Refusal(
        name="a source of somebody else's",
        operation="copy_object",
        code="AccessDenied",
        source=OWNERS,
        more={
            "Key": "copy",
            "CopySource": f"{BUCKET}/there",
            "ExpectedBucketOwner": OWNER,
            "ExpectedSourceBucketOwner": STRANGER,
        },
    ),
    *(
        Refusal(
            name=f"a copy with {' and '.join(more)}",
            operation="copy_object",
            code=refused,
            source=API + "API_CopyObject.html",
            more={"Key": "copy", "CopySource": f"{BUCKET}/there", **more},
        )
        for more, refused in (
            ({"CopySourceIfMatch": "other"}, "PreconditionFailed"),
            ({"CopySourceIfNoneMatch": hashlib.md5(b"there").hexdigest()}, "PreconditionFailed"),
            ({"CopySourceIfModifiedSince": "2100-01-01"}, "PreconditionFailed"),
            ({"CopySourceIfUnmodifiedSince": "2000-01-01"}, "PreconditionFailed"),
            ({"Key": "there2", "IfNoneMatch": "*"}, "PreconditionFailed"),
            ({"Key": "there2", "IfMatch": "other"}, "PreconditionFailed"),
            ({"Key": "absent", "IfMatch": "other"}, "NoSuchKey"),
            ({"Key": "there2", "IfNoneMatch": "etag"}, "NotImplemented"),
        )
    ),
    Refusal(
        name="a part of an unknown upload",
        operation="upload_part",
        code="NoSuchUpload",
        source=ERRORS,
        more={**BODY, "UploadId": "none", "PartNumber": 1},
    ),
    Refusal(
        name="the end of an unknown upload",
        operation="complete_multipart_upload",
        code="NoSuchUpload",
        source=ERRORS,
        more={
            "Key": "k",
            "UploadId": "none",
            "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "x"}]},
        },
    ),
    Refusal(
        name="parts of CRC-64",
        operation="create_multipart_upload",
        code="InvalidRequest",
        source=INTEGRITY,
        more={"Key": "k", "ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
    ),
    Refusal(
        name="one SHA-256 over parts",
        operation="create_multipart_upload",
        code="InvalidRequest",
        source=INTEGRITY,
        more={"Key": "k", "ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_refused(refusal: Refusal) -> None:
    """A refused request has the documented code, and changes nothing."""
    with aws():
        s3 = SESSION.client("s3", config=Config(request_checksum_calculation="when_required"))
        s3.create_bucket(Bucket=BUCKET)
        for key in ("there", "there2"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())

        act = getattr(s3, refusal.operation)
        assert code(lambda: act(Bucket=BUCKET, **refusal.more)) == refusal.code

        listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert [entry["Key"] for entry in listed] == ["there", "there2"]
        assert s3.get_object(Bucket=BUCKET, Key="there2")["Body"].read() == b"there2"


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256", "SHA512", "MD5"])
def test_right_checksum(s3: Any, algorithm: str) -> None:
    """A right checksum is taken, kept and shown to whoever asks."""
    right = checksum(algorithm, b"body")

    put = s3.put_object(Bucket=BUCKET, Key="k", Body=b"body", **{f"Checksum{algorithm}": right})
    head = s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
    got = s3.get_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")

    for answer in (put, head, got):
        assert answer[f"Checksum{algorithm}"] == right
        assert answer["ChecksumType"] == "FULL_OBJECT"
    assert f"Checksum{algorithm}" not in s3.head_object(Bucket=BUCKET, Key="k")


def test_trailing_checksum() -> None:
    """A checksum that follows the body, as boto3 sends it over TLS, is checked too."""
    with aws():
        s3 = SESSION.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        sent: list[bytes] = []

        def spoil(request: Any, **_: Any) -> None:
            assert request.headers["X-Amz-Trailer"] == b"x-amz-checksum-crc32"
            body = request.body.read()
            sent.append(body)
            request.body = body.replace(b"body", b"bodi")

        s3.put_object(Bucket=BUCKET, Key="k", Body=b"body")
        s3.meta.events.register_first("before-send.s3.PutObject", spoil)

        assert code(lambda: s3.put_object(Bucket=BUCKET, Key="k", Body=b"body")) == "BadDigest"
        assert b"x-amz-checksum-crc32:" in sent[0]
        s3.meta.events.unregister("before-send.s3.PutObject", spoil)
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"body"


def test_signed_body(s3: Any) -> None:
    """A body that changed after it was signed is refused."""
    config = Config(
        request_checksum_calculation="when_required", s3={"payload_signing_enabled": True}
    )
    signing = SESSION.client(
        "s3",
        config=config,
        endpoint_url=s3.meta.endpoint_url,
    )

    def spoil(request: Any, **_: Any) -> None:
        request.body = b"other"

    signing.put_object(Bucket=BUCKET, Key="k", Body=b"body!")
    signing.meta.events.register_first("before-send.s3.PutObject", spoil)

    refused = code(lambda: signing.put_object(Bucket=BUCKET, Key="k", Body=b"body!"))
    assert refused == "XAmzContentSHA256Mismatch"
    signing.close()


def test_conditional_race(s3: Any) -> None:
    """Of sixteen writers of one key exactly one wins, and its body is there."""
    for round_ in range(3):
        key = f"lock{round_}"
        won: list[int] = []
        lost: list[str] = []
        barrier = threading.Barrier(16)

        def write(
            number: int,
            key: str = key,
            barrier: threading.Barrier = barrier,
            won: list[int] = won,
            lost: list[str] = lost,
        ) -> None:
            barrier.wait()
            try:
                s3.put_object(Bucket=BUCKET, Key=key, Body=b"%d" % number, IfNoneMatch="*")
            except ClientError as error:
                lost.append(error.response["Error"]["Code"])
            else:
                won.append(number)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(won) == 1
        assert lost == ["PreconditionFailed"] * 15
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"%d" % won[0]


def test_replacing_race(s3: Any) -> None:
    """Of writers that expect one ETag, one wins; readers always see a whole object."""
    first = s3.put_object(Bucket=BUCKET, Key="k", Body=b"0" * 1000)["ETag"]
    won: list[int] = []
    lost: list[str] = []
    broken: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                body = s3.get_object(Bucket=BUCKET, Key="k")["Body"].read()
                assert len(body) == 1000
                assert len(set(body)) == 1
            except Exception as error:
                broken.append(error)

    def write(number: int) -> None:
        try:
            s3.put_object(Bucket=BUCKET, Key="k", Body=b"%d" % number * 1000, IfMatch=first)
        except ClientError as error:
            lost.append(error.response["Error"]["Code"])
        else:
            won.append(number)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()

    assert len(won) == 1
    assert lost == ["PreconditionFailed"] * 7
    assert broken == []


def upload(s3: Any, key: str, parts: list[bytes], algorithm: str, **kind: str) -> Any:
    """Upload in parts and return upload id and the list for the end."""
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm=algorithm, **kind)
    listed = []
    for number, part in enumerate(parts, start=1):
        answer = s3.upload_part(
            Bucket=BUCKET,
            Key=key,
            UploadId=begun["UploadId"],
            PartNumber=number,
            Body=part,
            **{f"Checksum{algorithm}": checksum(algorithm, part)},
        )
        entry = {"PartNumber": number, "ETag": answer["ETag"]}
        listed.append({**entry, f"Checksum{algorithm}": answer[f"Checksum{algorithm}"]})
    return begun["UploadId"], listed


PARTS = [b"a" * (5 * MIB), b"b"]


def test_composite_checksum(s3: Any) -> None:
    """The checksum of an object of parts is the checksum of theirs, with their number."""
    upload_id, listed = upload(s3, "k", PARTS, "SHA256")
    each = b"".join(hashlib.sha256(part).digest() for part in PARTS)
    right = f"{b64(hashlib.sha256(each).digest())}-2"

    done = s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key="k",
        UploadId=upload_id,
        MultipartUpload={"Parts": listed},
        ChecksumSHA256=right,
        MpuObjectSize=5 * MIB + 1,
    )
    head = s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")

    assert done["ChecksumSHA256"] == head["ChecksumSHA256"] == right
    assert done["ChecksumType"] == head["ChecksumType"] == "COMPOSITE"
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"".join(PARTS)


def test_checksum_of_the_whole(s3: Any) -> None:
    """CRC-32 can be that of the whole object."""
    upload_id, listed = upload(s3, "k", PARTS, "CRC32", ChecksumType="FULL_OBJECT")
    right = checksum("CRC32", b"".join(PARTS))

    done = s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key="k",
        UploadId=upload_id,
        MultipartUpload={"Parts": listed},
        ChecksumCRC32=right,
        ChecksumType="FULL_OBJECT",
    )

    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (right, "FULL_OBJECT")


def _other_order(listed: list[Any]) -> dict[str, Any]:
    return {"MultipartUpload": {"Parts": listed[::-1]}}


def _other_checksum(listed: list[Any]) -> dict[str, Any]:
    spoiled = [{**listed[0], "ChecksumSHA256": checksum("SHA256", b"other")}, listed[1]]
    return {"MultipartUpload": {"Parts": spoiled}}


def _other_whole(listed: list[Any]) -> dict[str, Any]:
    wrong = f"{checksum('SHA256', b'other')}-2"
    return {"MultipartUpload": {"Parts": listed}, "ChecksumSHA256": wrong}


def _other_size(listed: list[Any]) -> dict[str, Any]:
    return {"MultipartUpload": {"Parts": listed}, "MpuObjectSize": 7}


def _taken(listed: list[Any]) -> dict[str, Any]:
    return {"MultipartUpload": {"Parts": listed}, "IfNoneMatch": "*"}


def _other_etag(listed: list[Any]) -> dict[str, Any]:
    return {"MultipartUpload": {"Parts": listed}, "IfMatch": "other"}


@pytest.mark.parametrize(
    ("spoil", "refused"),
    [
        (_other_order, "InvalidPartOrder"),
        (_other_checksum, "InvalidPart"),
        (_other_whole, "BadDigest"),
        (_other_size, "InvalidRequest"),
        (_taken, "PreconditionFailed"),
        (_other_etag, "PreconditionFailed"),
    ],
)
def test_refused_completion(s3: Any, spoil: Any, refused: str) -> None:
    """An upload that is not what its end says stays open, and no object comes of it."""
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"before")
    upload_id, listed = upload(s3, "k", PARTS, "SHA256")

    assert (
        code(
            lambda: s3.complete_multipart_upload(
                Bucket=BUCKET, Key="k", UploadId=upload_id, **spoil(listed)
            )
        )
        == refused
    )

    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"before"
    s3.complete_multipart_upload(
        Bucket=BUCKET, Key="k", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )
    assert s3.head_object(Bucket=BUCKET, Key="k")["ContentLength"] == 5 * MIB + 1


def test_part_of_another_algorithm(s3: Any) -> None:
    """A part's checksum is of the algorithm that the upload was begun with."""
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm="SHA256")

    refused = code(
        lambda: s3.upload_part(
            Bucket=BUCKET,
            Key="k",
            UploadId=begun["UploadId"],
            PartNumber=1,
            Body=b"x",
            ChecksumSHA1=checksum("SHA1", b"x"),
        )
    )

    assert refused == "InvalidRequest"


def test_copy_has_its_own_checksum(s3: Any) -> None:
    """A copy is one object: its checksum is that of its bytes."""
    upload_id, listed = upload(s3, "k", PARTS, "SHA256")
    s3.complete_multipart_upload(
        Bucket=BUCKET, Key="k", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )
    whole = b"".join(PARTS)

    same = s3.copy_object(Bucket=BUCKET, Key="same", CopySource=f"{BUCKET}/k")
    other = s3.copy_object(
        Bucket=BUCKET, Key="other", CopySource=f"{BUCKET}/k", ChecksumAlgorithm="CRC64NVME"
    )

    assert same["CopyObjectResult"]["ChecksumSHA256"] == checksum("SHA256", whole)
    right = checksums.encoded("CRC64NVME", whole)
    assert other["CopyObjectResult"]["ChecksumCRC64NVME"] == right
    head = s3.head_object(Bucket=BUCKET, Key="other", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (right, "FULL_OBJECT")


def test_copy_conditions_that_hold(s3: Any) -> None:
    """A copy whose conditions hold is made."""
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")["ETag"]

    s3.copy_object(
        Bucket=BUCKET,
        Key="copy",
        CopySource=f"{BUCKET}/k",
        IfNoneMatch="*",
        CopySourceIfMatch=etag,
        ExpectedBucketOwner=OWNER,
        ExpectedSourceBucketOwner=OWNER,
    )
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"y")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/k", IfMatch=etag)

    assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == b"y"


def versions(s3: Any) -> list[tuple[str, str]]:
    """Return what there is of every version: its id and its kind."""
    answer = s3.list_object_versions(Bucket=BUCKET)
    found = [(v["VersionId"], "object") for v in answer.get("Versions", [])]
    return found + [(m["VersionId"], "marker") for m in answer.get("DeleteMarkers", [])]


def test_suspended_versioning_keeps_versions(s3: Any) -> None:
    """Writing and deleting on a suspended bucket replaces the null version alone."""
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    kept = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["VersionId"]
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})

    s3.put_object(Bucket=BUCKET, Key="k", Body=b"2")
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"3")
    assert versions(s3) == [("null", "object"), (kept, "object")]

    s3.delete_object(Bucket=BUCKET, Key="k")
    assert versions(s3) == [(kept, "object"), ("null", "marker")]
    assert code(lambda: s3.get_object(Bucket=BUCKET, Key="k")) == "NoSuchKey"
    assert s3.get_object(Bucket=BUCKET, Key="k", VersionId=kept)["Body"].read() == b"1"


def test_delete_markers_can_be_removed(s3: Any) -> None:
    """A bucket with delete markers can be emptied after versioning was suspended."""
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket=BUCKET, Key="k")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})

    for version, _ in versions(s3):
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    s3.delete_object(Bucket=BUCKET, Key="k", VersionId="absent")

    assert versions(s3) == []
    s3.delete_bucket(Bucket=BUCKET)


def test_conditional_delete(s3: Any) -> None:
    """A delete whose condition does not hold deletes nothing; * means any object."""
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]

    refused = code(lambda: s3.delete_object(Bucket=BUCKET, Key="k", IfMatch="other"))
    assert refused == "PreconditionFailed"
    assert s3.head_object(Bucket=BUCKET, Key="k")["ETag"] == etag
    s3.delete_object(Bucket=BUCKET, Key="k", IfMatch="*")
    refused = code(lambda: s3.delete_object(Bucket=BUCKET, Key="k", IfMatch="*"))
    assert refused == "PreconditionFailed"


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 8191, 16384, 50001])
def test_crc_by_lanes(size: int) -> None:
    """A CRC over stretches side by side is that of one byte after the other."""
    body = bytes(hashlib.shake_128(b"seed").digest(size))
    for algorithm, bits, polynomial in (
        ("CRC32C", 32, 0x82F63B78),
        ("CRC64NVME", 64, 0x9A6C9329AC4BC9B5),
    ):
        ones = (1 << bits) - 1
        register = ones
        for byte in body:
            register ^= byte
            for _ in range(8):
                register = (register >> 1) ^ (polynomial if register & 1 else 0)
        assert checksums.digest(algorithm, body) == (register ^ ones).to_bytes(bits // 8, "big")


def test_crc_check_values() -> None:
    """The CRCs are those of the catalogue of parametrised CRC algorithms."""
    assert checksums.digest("CRC32C", b"123456789").hex() == "e3069283"
    assert checksums.digest("CRC64NVME", b"123456789").hex() == "ae8b14860a799888"
