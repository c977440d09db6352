"""S3 requests: owner, checksums and conditions are checked before anything changes.

Each rule names its source; what is not named here is moto's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from moto.core.common_types import TYPE_RESPONSE
from moto.core.request import Request
from moto.core.responses import ActionResult
from moto.core.utils import str_to_rfc_1123_datetime
from moto.s3.exceptions import (
    InvalidPartOrder,
    MissingKey,
    PreconditionFailed,
    S3ClientError,
)
from moto.s3.models import FakeKey
from moto.s3.responses import S3Response

from cloudreg_emulator.aws.s3 import harm, integrity, policies
from cloudreg_emulator.aws.s3.checksums import Checksum, encoded
from cloudreg_emulator.aws.s3.models import StrictS3Backend, exclusive
from cloudreg_emulator.aws.s3.operations import operation
from cloudreg_emulator.aws.world import current
from cloudreg_emulator.faults import Kind, When

_SOURCE_CONDITIONS = ("match", "none-match", "modified-since", "unmodified-since")


class StrictS3Response(S3Response):
    """moto's S3 responses, with what they accept and should not."""

    backend: StrictS3Backend
    _checksum: Checksum | None = None
    _named = ""
    """The operation, where faults are armed."""

    def bucket_response(self, request: Any, full_url: str, headers: Any) -> TYPE_RESPONSE:
        def act() -> TYPE_RESPONSE:
            with policies.asked(request.method, request.headers, request.args):
                return super(StrictS3Response, self).bucket_response(request, full_url, headers)

        return self._guarded(request, act)

    def key_response(self, request: Any, full_url: str, headers: Any) -> TYPE_RESPONSE:
        def act() -> TYPE_RESPONSE:
            with policies.asked(request.method, request.headers, request.args):
                return super(StrictS3Response, self).key_response(request, full_url, headers)

        return self._guarded(request, act)

    def _guarded(self, request: Request, act: Callable[[], TYPE_RESPONSE]) -> TYPE_RESPONSE:
        faults = current().faults
        if faults.armed:
            self.setup_class(request)
            name = operation(
                request.method,
                bucket=self.bucket_name,
                key=self.parse_key_name() if self.bucket_name else "",
                query=request.args,
                copies="x-amz-copy-source" in request.headers,
            )
            self._named = name
            answer = faults.guarded(
                "s3", name, act, spoiled=lambda fault: harm.spoiled(request, fault)
            )
            if request.method != "HEAD":
                answer = harm.harmed(request, name, answer, faults)
        else:
            answer = act()
        # Nothing follows the headers of a HEAD, an error's body neither.
        return (*answer[:2], b"") if request.method == "HEAD" else answer

    def _bucket_response(self, request: Any, full_url: str) -> Any:
        if self.bucket_name:
            self._check_owner("x-amz-expected-bucket-owner", self.bucket_name)
        self._check_body()
        return super()._bucket_response(request, full_url)

    def _key_response(self, request: Any, full_url: str) -> TYPE_RESPONSE:
        self._check_owner("x-amz-expected-bucket-owner", self.bucket_name)
        if "x-amz-copy-source" in self.headers:
            source_bucket, _, _ = self._source()
            self._check_owner("x-amz-source-expected-bucket-owner", source_bucket)
        self._check_body()
        if "partNumber" in request.args and "uploadId" in request.args and request.method == "PUT":
            # Parts of one upload do not meet: they are written side by side.
            return super()._key_response(request, full_url)
        with exclusive(self.bucket_name, self.parse_key_name()):
            return super()._key_response(request, full_url)

    def _check_owner(self, header: str, bucket_name: str) -> None:
        wanted = self.headers.get(header)
        if wanted is not None:
            integrity.check_owner(wanted, lambda: self.backend.get_bucket(bucket_name).account_id)

    def _check_body(self) -> None:
        if self._named in ("PutObject", "UploadPart") and self.body:
            fault = current().faults.strike("s3", self._named, When.BODY)
            if fault is not None and fault.kind is Kind.GARBLED:
                self.body = harm.garbled(self.body)
        of_object = self.method == "POST" and "uploadId" in self.request.args
        self._checksum = integrity.checked(
            self.headers,
            self.body or b"",
            self.raw_body or b"",
            # Of CompleteMultipartUpload the header speaks of the object, not of the body.
            declares=self.method in ("PUT", "POST") and not of_object,
        )

    def _get_checksum(self, response_headers: dict[str, Any]) -> tuple[str, str | None]:
        if self._checksum is None:
            return "", None
        response_headers[self._checksum.header] = self._checksum.value
        return self._checksum.algorithm, self._checksum.value

    def put_object(self) -> TYPE_RESPONSE:
        self._check_only_star()
        answer = super().put_object()
        if self._checksum is not None:
            self._stored().checksum_type = "FULL_OBJECT"
            answer[1]["x-amz-checksum-type"] = "FULL_OBJECT"
        return answer

    def _check_only_star(self) -> None:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html, If-None-Match:
        # "Expects the '*' (asterisk) character."
        if self.headers.get("If-None-Match") not in (None, "*"):
            raise integrity.not_implemented()

    def _stored(self) -> FakeKey:
        key = self.backend.get_object(self.bucket_name, self.parse_key_name())
        assert key is not None
        return key

    def head_object(self, *args: Any, **kwargs: Any) -> TYPE_RESPONSE:
        status, headers, body = super().head_object(*args, **kwargs)
        if status == 200 and self.headers.get("x-amz-checksum-mode") == "ENABLED":
            version = self.querystring.get("versionId", [None])[0]
            key = self.backend.get_object(self.bucket_name, self.parse_key_name(), version)
            if key is not None and key.checksum_type:
                headers["x-amz-checksum-type"] = key.checksum_type
            if key is not None and key.checksum_type == "COMPOSITE":
                name = f"x-amz-checksum-{str(key.checksum_algorithm).lower()}"
                headers[name] = f"{key.checksum_value}-{key.checksum_parts}"
        return status, headers, body

    def delete_object(self) -> TYPE_RESPONSE:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html, If-Match: an
        # ETag, or * for any object at all; moto takes * for an ETag.
        if self.headers.get("If-Match") == "*":
            if self.backend.get_object(self.bucket_name, self.parse_key_name()) is None:
                raise PreconditionFailed("If-Match")
            self.request.environ.pop("HTTP_IF_MATCH")
        return super().delete_object()

    def upload_part(self) -> TYPE_RESPONSE:
        upload = self.backend.upload(self.bucket_name, self._get_param("uploadId"))
        if self._checksum is not None and upload.declared_algorithm is not None:
            wanted, given = upload.declared_algorithm.lower(), self._checksum.algorithm.lower()
            if wanted != given:
                raise integrity.invalid_request(
                    f"Checksum Type mismatch occurred, expected checksum Type: {wanted}, "
                    f"actual checksum Type: {given}"
                )
        return super().upload_part()

    def serialized(self, action_result: ActionResult) -> TYPE_RESPONSE:
        # Whoever goes on with an upload has to know what is there, and since when.
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_Part.html
        result: Any = action_result.result
        if self.data.get("Action") == "ListParts":
            upload = self.backend.upload(self.bucket_name, result["UploadId"])
            algorithm = upload.declared_algorithm
            for shown in result["Parts"] if algorithm else ():
                part = upload.parts[shown["PartNumber"]]
                shown[f"Checksum{algorithm}"] = encoded(str(algorithm), part.value)
            result |= {"ChecksumAlgorithm": algorithm, "ChecksumType": upload.checksum_type}
        elif self.data.get("Action") == "ListMultipartUploads":
            for shown in result["Uploads"]:
                begun = self.backend.upload(self.bucket_name, shown["UploadId"]).initiated
                shown["Initiated"] = begun.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return super().serialized(action_result)

    def upload_part_copy(self) -> TYPE_RESPONSE:
        self._check_source()
        return super().upload_part_copy()

    def copy_object(self) -> TYPE_RESPONSE:
        self._check_source()
        self._check_destination()
        # moto computes CRC-32 in the name of CRC-32C and CRC-64/NVME, so it is not asked to.
        algorithm = self.request.environ.pop("HTTP_X_AMZ_CHECKSUM_ALGORITHM", "").upper()
        status, headers, body = super().copy_object()
        key = self._stored()
        if algorithm:
            key.checksum_algorithm = algorithm
            key.checksum_value = integrity.computed(algorithm, key.value)
            key.checksum_type = "FULL_OBJECT"
        result = {"ETag": key.etag, "LastModified": key.last_modified, **_shown(key)}
        self.data["Action"] = "CopyObject"
        _, _, body = self.serialized(ActionResult({"CopyObjectResult": result}))
        headers["content-length"] = str(len(body))
        return status, headers, body

    def _source(self) -> tuple[str, str, str | None]:
        """Return bucket, key and version of what is copied."""
        parsed = urlsplit(str(self.headers["x-amz-copy-source"]))
        bucket, slash, key = unquote(parsed.path).lstrip("/").partition("/")
        if not (slash and key):
            raise S3ClientError(
                "InvalidArgument",
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            )
        return bucket, key, parse_qs(parsed.query).get("versionId", [None])[0]

    def _check_source(self) -> None:
        """Refuse a source that is not the one that was meant.

        Where both ETag and time are given, the ETag decides.
        Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """
        bucket, name, version = self._source()
        key = self.backend.get_object(bucket, name, version_id=version)
        if key is None:
            return  # moto words it
        changed = key.last_modified.replace(microsecond=0)
        given = {n: self.headers.get(f"x-amz-copy-source-if-{n}") for n in _SOURCE_CONDITIONS}
        if given["match"] is not None:
            if not _same(given["match"], key):
                raise PreconditionFailed("x-amz-copy-source-If-Match")
        elif given["unmodified-since"] and changed > _time(given["unmodified-since"]):
            raise PreconditionFailed("x-amz-copy-source-If-Unmodified-Since")
        if given["none-match"] is not None:
            if _same(given["none-match"], key):
                raise PreconditionFailed("x-amz-copy-source-If-None-Match")
        elif given["modified-since"] and changed <= _time(given["modified-since"]):
            raise PreconditionFailed("x-amz-copy-source-If-Modified-Since")

    def _check_destination(self) -> None:
        """Refuse to write over what the caller did not mean to write over."""
        self._check_only_star()
        existing = self.backend.get_object(self.bucket_name, self.parse_key_name())
        if self.headers.get("If-None-Match") == "*" and existing is not None:
            raise PreconditionFailed("If-None-Match")
        wanted = self.headers.get("If-Match")
        if wanted is not None:
            if existing is None:
                raise MissingKey(key=self.parse_key_name())
            if not _same(wanted, existing):
                raise PreconditionFailed("If-Match")

    def _key_response_post(
        self, request: Any, body: bytes, bucket_name: str, query: dict[str, Any], key_name: str
    ) -> TYPE_RESPONSE:
        upload_id = query.get("uploadId", [None])[0]
        if upload_id is None:
            if "uploads" in query:
                integrity.check_kind(self.headers)
            return super()._key_response_post(request, body, bucket_name, query, key_name)
        existing = self.backend.get_object(bucket_name, key_name)
        again = existing is not None and existing.multipart and existing.multipart.id == upload_id
        if not again:
            self._prepare_completion(upload_id, body)
        answer = super()._key_response_post(request, body, bucket_name, query, key_name)
        key = self._stored()
        status, headers, old = answer
        result = {
            "Location": f"http://{bucket_name}.s3.amazonaws.com/{key.name}",
            "Bucket": bucket_name,
            "Key": key.name,
            "ETag": key.etag,
            **_shown(key),
        }
        self.data["Action"] = "CompleteMultipartUpload"
        _, _, new = self.serialized(ActionResult(result))
        return status, headers, new if status == 200 else old

    def _prepare_completion(self, upload_id: str, body: bytes) -> None:
        """Check everything that is said of the object before it becomes one."""
        upload = self.backend.upload(self.bucket_name, upload_id)
        self._check_destination()
        upload.claimed = integrity.claims(body)
        parts = [upload.parts[number] for number in upload.claimed if number in upload.parts]
        integrity.check_whole(self.headers, parts, composite=upload.checksum_type == "COMPOSITE")

    def _complete_multipart_body(self, body: bytes) -> Iterator[tuple[int, str]]:
        # moto means to check the order and compares every number with zero.
        before = 0
        for number, etag in super()._complete_multipart_body(body):
            if number <= before:
                raise InvalidPartOrder
            before = number
            yield number, etag


def _shown(key: FakeKey) -> dict[str, str]:
    """Return a key's checksum as an answer shows it."""
    if not (key.checksum_value and key.checksum_algorithm):
        return {}
    value = key.checksum_value
    if key.checksum_type == "COMPOSITE":
        value = f"{value}-{key.checksum_parts}"
    shown = {f"Checksum{key.checksum_algorithm}": value}
    return {**shown, "ChecksumType": key.checksum_type} if key.checksum_type else shown


def _same(etag: str, key: FakeKey) -> bool:
    return etag.strip('"') == key.etag.strip('"')


def _time(header: str) -> Any:
    return str_to_rfc_1123_datetime(header)
