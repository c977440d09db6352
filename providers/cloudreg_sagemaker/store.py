"""Bytes by key in a bucket that the user names, and whose owner is checked before anything else.

obstore moves the bytes. boto3 finds the credentials and the endpoint, and does what obstore
cannot: uploads in parts that end with a condition, and copies of any size (`parts`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from cloudreg.errors import ConfigError, PermissionDenied
from cloudreg.objects import ObstoreObjects
from cloudreg.provider import StoredObject
from cloudreg_sagemaker.clients import Observer, observed
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.parts import PARTS_AT_ONCE, Parts, prepare

if TYPE_CHECKING:
    from boto3.session import Session
    from obstore.store import ClientConfig, S3Config

RETRIES = 5
_RETRY_FOR = timedelta(minutes=2)
_TIMEOUT = timedelta(minutes=5)
"""Of one request: a part may take that long on a thin line."""

_CREDENTIALS_FOR = timedelta(minutes=10)
"""boto3 renews credentials that would end within ten minutes, so these last at least as long."""


_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


class S3Objects:
    """The object store of a target; the bucket is looked at with the first verb."""

    def __init__(
        self,
        session: Session,
        *,
        bucket: str,
        region: str,
        target: str,
        prefix: str = "",
        account: str | None = None,
        kms_key: str | None = None,
        endpoint_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember what is asked for; no request is made.

        Args:
            session: boto3's: whose credentials are used.
            bucket: It exists.
            region: The bucket's.
            target: For messages.
            prefix: What all keys are below, without a slash at its end.
            account: Whose the bucket and the credentials must be; without it, the credentials
                alone say.
            kms_key: Encrypts what is made; None leaves it to the bucket.
            endpoint_url: Where S3 answers, for emulators; without it, what boto3 finds.
            clock: Tells the age of uploads that nobody finished; seconds since 1970.
        """
        self._session = session
        self._bucket = bucket
        self._region = region
        self._target = target
        self._prefix = prefix
        self._account = account
        self._kms_key = kms_key
        self._endpoint_url = endpoint_url
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: ObstoreObjects | None = None
        self._parts: Parts | None = None

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Tell *listener* signing name and operation of every call of boto3's, once it is opened.

        What obstore sends is not among them.
        """

        def heard(model: Any, **_: object) -> None:
            listener(model.service_model.signing_name, model.name)

        self._session.events.register("before-call.*.*", heard)

    def observe(self, observer: Observer) -> None:
        """Tell *observer* that and the parameters of each call, as boto3 takes them."""
        self._session.events.register("provide-client-params.*.*", observed(observer))

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

    def close(self) -> None:
        """Let go of connections and threads."""
        with self._lock:
            if self._objects is not None:
                self._objects.close()
            if self._parts is not None:
                self._parts.close()
            self._objects = self._parts = None

    def _opened(self) -> ObstoreObjects:
        with self._lock:
            if self._objects is None:
                self._objects = self._open()
            return self._objects

    def _open(self) -> ObstoreObjects:
        what = f"bucket {self._bucket!r}"
        certificates = self._certificates()
        with translated(what, target=self._target):
            client = self._client()
            account = self._caller()
        if self._account not in (None, account):
            raise PermissionDenied(
                f"the credentials are of account {account}, the target's is {self._account}",
                target=self._target,
                hint="aws sts get-caller-identity shows whose they are; or correct account",
            )
        self._check(client, account)
        self._parts = Parts(
            client,
            bucket=self._bucket,
            account=account,
            kms_key=self._kms_key,
            target=self._target,
            prefix=self._prefix,
            clock=self._clock,
        )
        return ObstoreObjects(
            self._native(client, account, certificates),
            target=self._target,
            prefix=self._prefix,
            large=self._parts,
        )

    def _client(self) -> Any:
        from botocore.config import Config

        client = self._session.client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint_url,
            config=Config(
                max_pool_connections=2 * PARTS_AT_ONCE,
                # Every part carries a checksum of ours; signing the bytes as well would hash them
                # once more. Over plain HTTP boto3 signs them all the same.
                request_checksum_calculation="when_required",
                s3={"payload_signing_enabled": False, **self._addressing()},
                retries={"mode": "standard", "total_max_attempts": RETRIES + 1},
            ),
        )
        prepare(client)
        return client

    def _addressing(self) -> dict[str, str]:
        # Names below localhost, or of somebody's own store, need not lead anywhere.
        own = self._endpoint_url or any(os.environ.get(name) for name in _ENDPOINTS)
        return {"addressing_style": "path"} if own else {}

    def _caller(self) -> str:
        sts = self._session.client("sts", region_name=self._region, endpoint_url=self._endpoint_url)
        return str(sts.get_caller_identity()["Account"])

    def _check(self, client: Any, account: str) -> None:
        """Refuse a bucket that is missing, elsewhere, or somebody else's."""
        from botocore.exceptions import ClientError

        what = f"bucket {self._bucket!r}"
        with translated(what, target=self._target):
            try:
                answer = client.head_bucket(Bucket=self._bucket, ExpectedBucketOwner=account)
            except ClientError as error:
                # The answer to a HEAD has no body: its status is all there is.
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 404:
                    raise ConfigError(
                        f"{what} does not exist", target=self._target, hint="check bucket"
                    ) from error
                if status == 403:
                    raise PermissionDenied(
                        f"{what} is not account {account}'s, or these credentials may not list it",
                        target=self._target,
                        hint="check bucket and account; the role needs s3:ListBucket",
                    ) from error
                raise
        region = answer.get("BucketRegion")
        if region and region != self._region:
            raise ConfigError(
                f"{what} is in {region}, not in {self._region}",
                target=self._target,
                hint=f'region = "{region}", or a bucket in {self._region}',
            )

    def _native(self, client: Any, account: str, certificates: bytes | None) -> Any:
        """Return obstore's store of the bucket."""
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        address = urlsplit(client.meta.endpoint_url)
        # A name with dots in it is no name that a certificate of AWS's covers.
        hosted = ".amazonaws." in address.netloc and "." not in self._bucket
        host = f"{self._bucket}.{address.netloc}" if hosted else address.netloc
        encrypted = address.scheme == "https"
        options: ClientConfig = {
            "allow_http": not encrypted,
            "connect_timeout": timedelta(seconds=10),
            # Signed like all headers that begin so.
            "default_headers": {"x-amz-expected-bucket-owner": account},
            "timeout": _TIMEOUT,
        }
        if certificates is not None and encrypted:
            options["root_certificate"] = certificates
        config: S3Config = {
            "region": self._region,
            "endpoint": f"{address.scheme}://{host}",
            "virtual_hosted_style_request": hosted,
            # S3 checks it before it keeps anything. Without TLS the signature guards the bytes,
            # and it is made of the same hash.
            "checksum_algorithm": "CRC64NVME" if encrypted else "SHA256",
            "unsigned_payload": encrypted,
            # One object at a time goes, which the plain request does.
            "disable_bulk_delete": True,
        }
        if self._kms_key:
            config |= {"server_side_encryption": "aws:kms", "sse_kms_key_id": self._kms_key}
        try:
            credentials = Boto3CredentialProvider(self._session, ttl=_CREDENTIALS_FOR)
        except ValueError as error:
            raise PermissionDenied(
                f"bucket {self._bucket!r}: no AWS credentials",
                target=self._target,
                hint="aws configure, or aws sso login",
            ) from error
        return S3Store(
            self._bucket,
            config=config,
            client_options=options,
            retry_config={"max_retries": RETRIES, "retry_timeout": _RETRY_FOR},
            credential_provider=credentials,
        )

    def _certificates(self) -> bytes | None:
        """Return whom boto3 is told to trust: a proxy with certificates of its own may be near."""
        bundle = os.environ.get("AWS_CA_BUNDLE")
        if not bundle:
            return None
        try:
            return Path(bundle).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"AWS_CA_BUNDLE: {bundle} cannot be read: {error.strerror}", target=self._target
            ) from error
