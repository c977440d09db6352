"""Our backends answer inside an emulator, and moto's outside of it."""

from __future__ import annotations

import os
import socket
from typing import Any

import boto3
import obstore
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from moto import mock_aws
from obstore.store import S3Store

from cloudreg_emulator.aws import Emulator, aws
from cloudreg_emulator.aws.environment import applied, environment, merged, taken_away
from cloudreg_emulator.aws.install import SERVICES, installed
from cloudreg_emulator.aws.world import NoWorld, current
from cloudreg_emulator.faults import Fault, Kind


def test_backends_are_replaced_and_restored() -> None:
    """Every replaced service is moto's again after the block."""
    before = {name: find()[0].backend for name, find in SERVICES.items()}

    with installed():
        for find in SERVICES.values():
            backends, ours = find()
            assert backends.backend is ours
            assert issubclass(ours, before[backends.service_name.replace("-", "")])

    assert {name: find()[0].backend for name, find in SERVICES.items()} == before


def test_restored_after_an_error() -> None:
    """An error in the block leaves moto and the environment as they were."""
    environ = dict(os.environ)
    with pytest.raises(ZeroDivisionError), aws():
        1 / 0  # noqa: B018

    assert dict(os.environ) == environ
    with pytest.raises(NoWorld):
        current()
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="bucket")
        # Plain moto looks at no owner.
        s3.put_object(Bucket="bucket", Key="k", Body=b"", ExpectedBucketOwner="999999999999")


def test_nothing_stays() -> None:
    """A second emulator knows nothing of the first."""
    for _ in range(2):
        with aws():
            s3 = boto3.client("s3")
            assert s3.list_buckets()["Buckets"] == []
            s3.create_bucket(Bucket="bucket")
            s3.put_object(Bucket="bucket", Key="k", Body=b"x")


def test_what_plain_moto_left() -> None:
    """A bucket that plain moto kept in this process is not one of the emulator's."""
    from moto.s3.models import s3_backends

    s3_backends["123456789012"]["aws"].create_bucket("bucket", "us-east-1")

    with aws():
        s3 = boto3.client("s3")
        assert s3.list_buckets()["Buckets"] == []
        s3.create_bucket(Bucket="bucket")


def test_one_at_a_time() -> None:
    """A second emulator in one process is refused, and the first goes on."""
    with aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        with pytest.raises(NoWorld, match="already"), Emulator.opened():
            pass
        assert len(boto3.client("s3").list_buckets()["Buckets"]) == 1


def test_other_services_are_motos() -> None:
    """What is not replaced is there as moto has it."""
    with aws(region="eu-west-1"):
        assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
        key = boto3.client("kms").create_key()["KeyMetadata"]["Arn"]
        assert key.startswith("arn:aws:kms:eu-west-1:123456789012:key/")


ELSEWHERE = {
    "AWS_PROFILE": "work",
    "AWS_SESSION_TOKEN": "secret",
    "AWS_ENDPOINT_URL": "http://elsewhere",
    "AWS_ENDPOINT_URL_S3": "http://elsewhere",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "token",
}


def test_nothing_leads_elsewhere() -> None:
    """Variables that lead a client past the emulator are taken away, and all others stay."""
    present = {**ELSEWHERE, "HOME": "home", "AWS_ACCESS_KEY_ID": "real"}

    made = merged(environment("http://127.0.0.1:1"), present)

    assert sorted(ELSEWHERE) == taken_away(present)
    assert made["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert made["AWS_ACCESS_KEY_ID"] == "emulated"
    assert made["HOME"] == "home"
    assert not set(made) & (set(ELSEWHERE) - {"AWS_ENDPOINT_URL"})


def test_proxies_are_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is not asked for the emulator, and what it was not asked for before stays so."""
    monkeypatch.setenv("NO_PROXY", "intranet,localhost")

    made = environment("http://127.0.0.1:1")

    assert made["NO_PROXY"] == made["no_proxy"] == "intranet,localhost,127.0.0.1,::1"


def test_applied_environment_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has its own environment again after the block."""
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)

    with applied(environment("http://127.0.0.1:1")):
        assert "AWS_PROFILE" not in os.environ
        assert "AWS_ENDPOINT_URL_S3" not in os.environ
        assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"

    assert dict(os.environ) == before


def test_a_users_profile_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A profile with an endpoint of its own does not lead boto3 away."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-north-1\nendpoint_url = http://127.0.0.1:9\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    with aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bucket")
        assert s3.meta.region_name == "us-east-1"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind=Kind.THROTTLE, service="s3", operation="PutObject", count=5), "SlowDown"),
        (
            Fault(kind=Kind.ERROR, service="s3", operation="Put*", count=5, status=500),
            "InternalError",
        ),
        (
            Fault(kind=Kind.ERROR, service="s3", operation="PutObject", count=5),
            "ServiceUnavailable",
        ),
    ],
)
def test_faults_of_s3(fault: Fault, code: str) -> None:
    """A fault strikes as often as it was asked to, in S3's words, and boto3 asks again."""
    with aws() as emulator:
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bucket")
        armed = emulator.faults.arm(fault)

        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="bucket", Key="k", Body=b"x")

        assert caught.value.response["Error"]["Code"] == code
        assert armed.struck == 3  # AWS_MAX_ATTEMPTS
        assert "Contents" not in s3.list_objects_v2(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"x")
        assert armed.struck == 5


def test_lost_answer() -> None:
    """A lost answer is that of something that was done."""
    with aws() as emulator:
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bucket")
        lost = Fault(kind=Kind.LOST, service="s3", operation="PutObject", count=3, status=0)
        emulator.faults.arm(lost)

        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket="bucket", Key="k", Body=b"x")

        assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"x"


def test_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """In process no connection is made."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection")

    with aws():
        monkeypatch.setattr(socket.socket, "connect", refuse)
        boto3.client("s3").create_bucket(Bucket="bucket")


def test_bytes_over_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a loopback clients that are not boto3 reach the same buckets, and all else stays."""
    reached: list[Any] = []
    connect = socket.socket.connect

    def note(self: socket.socket, address: Any) -> None:
        reached.append(address)
        connect(self, address)

    with aws(loopback=True):
        s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
        s3.create_bucket(Bucket="bucket")
        store = S3Store("bucket", client_options={"allow_http": True})
        obstore.put(store, "k", b"bytes", mode="create")

        assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"bytes"
        assert boto3.client("sagemaker-runtime").meta.endpoint_url == s3.meta.endpoint_url
        monkeypatch.setattr(socket.socket, "connect", note)
        assert sagemaker.list_endpoints()["Endpoints"] == []
        assert reached == []
    with socket.socket() as gone, pytest.raises(ConnectionRefusedError):
        connect(gone, ("127.0.0.1", int(s3.meta.endpoint_url.rpartition(":")[2])))
