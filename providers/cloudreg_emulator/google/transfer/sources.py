"""Where a transfer reads: an S3 by a role that trusts Google, or the emulated Cloud Storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Protocol
from urllib.parse import unquote

from cloudreg_emulator.google.storage.content import Content
from cloudreg_emulator.google.vertex.refusals import Refused
from cloudreg_emulator.google.world import World

__all__ = ["S3", "Gs", "Source"]

ISSUER = "accounts.google.com"
"""Whom the role has to trust.

Source: https://cloud.google.com/storage-transfer/docs/source-amazon-s3#federated_identity
"""


class Source(Protocol):
    """A bucket that is read.

    Attributes:
        url: Of the bucket, with its slash.
        root: The folder in it that is copied.
    """

    url: str
    root: str

    def __enter__(self) -> Source: ...

    def __exit__(self, *error: object) -> None: ...

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the objects that begin so, with their sizes."""
        ...

    def read(self, name: str) -> Content:
        """Return an object's bytes.

        Raises:
            Refused: It is not given out.
        """
        ...


class Gs:
    """A bucket of the same emulator."""

    def __init__(self, world: World, place: Mapping[str, Any]) -> None:
        """Read from a GcsData.

        Raises:
            Refused: There is no such bucket.
        """
        self._storage = world.storage
        bucket = place["bucketName"]
        self.url, self.root = f"gs://{bucket}/", place.get("path", "")
        with self._storage.lock:
            shelf = self._storage.shelves.get(bucket)
        if shelf is None:
            raise Refused("NOT_FOUND", f"The bucket {bucket} does not exist.")  # unquoted
        self._shelf = shelf

    def __enter__(self) -> Gs:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        with self._storage.lock:
            found = [(name, one.content.size) for name, one in self._shelf.live.items()]
        yield from sorted((name, size) for name, size in found if name.startswith(prefix))

    def read(self, name: str) -> Content:
        with self._storage.lock:
            return self._shelf.live[name].content


class S3:
    """A bucket of S3, read with the credentials of a role."""

    def __init__(self, url: str | None, place: Mapping[str, Any]) -> None:
        """Take the role of an AwsS3Data, and read from its bucket.

        Raises:
            Refused: The role does not exist or does not trust Google, or nothing answers.
        """
        if url is None:
            raise Refused(
                "UNAVAILABLE", "No S3 is known here: the emulator was not told where one answers."
            )
        self._bucket = place["bucketName"]
        self.url, self.root = f"s3://{self._bucket}/", place.get("path", "")
        with _refusing(self.url):
            self._client = _client("s3", url, _credentials(url, place["roleArn"]))
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except BaseException:
                self._client.close()
                raise

    def __enter__(self) -> S3:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        with _refusing(self.url):
            pages = list(
                self._client.get_paginator("list_objects_v2").paginate(
                    Bucket=self._bucket, Prefix=prefix
                )
            )
        for page in pages:
            for one in page.get("Contents", ()):
                yield one["Key"], one["Size"]

    def read(self, name: str) -> Content:
        with _refusing(self.url):
            body = self._client.get_object(Bucket=self._bucket, Key=name)["Body"]
            return Content.of(body.iter_chunks(1 << 20))


@contextmanager
def _refusing(url: str) -> Iterator[None]:
    """Turn what AWS refuses into what the service says of it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise Refused("PERMISSION_DENIED", f"{url}: {error}") from error
    except BotoCoreError as error:
        raise Refused("UNAVAILABLE", f"{url}: {error}") from error


def _credentials(url: str, role: str) -> Mapping[str, str]:
    """Return what the role is given for a token of Google's."""
    anybody = {"AccessKeyId": "emulated", "SecretAccessKey": "emulated", "SessionToken": "emulated"}
    with closing(_client("iam", url, anybody)) as iam:
        found = iam.get_role(RoleName=role.rpartition("/")[2])["Role"]
    trust = found["AssumeRolePolicyDocument"]
    policy = trust if isinstance(trust, dict) else json.loads(unquote(trust))
    if not _trusts(policy):
        raise Refused(
            "PERMISSION_DENIED", f"{role} does not trust {ISSUER} for AssumeRoleWithWebIdentity."
        )
    with closing(_client("sts", url, anybody)) as sts:
        answer = sts.assume_role_with_web_identity(
            RoleArn=role, RoleSessionName="storage-transfer", WebIdentityToken="emulated"
        )
    credentials: Mapping[str, str] = answer["Credentials"]
    return credentials


def _trusts(policy: Mapping[str, Any]) -> bool:
    statements = policy.get("Statement", [])
    for one in statements if isinstance(statements, list) else [statements]:
        federated = one.get("Principal", {}).get("Federated", ())
        actions = one.get("Action", ())
        if (
            one.get("Effect") == "Allow"
            and ISSUER in (federated if isinstance(federated, list) else [federated])
            and "sts:AssumeRoleWithWebIdentity"
            in (actions if isinstance(actions, list) else [actions])
        ):
            return True
    return False


def _client(service: str, url: str, credentials: Mapping[str, str]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session(
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        region_name="us-east-1",
    ).client(
        service,
        endpoint_url=url,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
    )
