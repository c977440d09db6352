"""The server: reached by any client, refusing aloud, gone without a trace."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from cloudreg_emulator.aws.server import HEALTH_PATH, AddressInUse, AwsServer
from cloudreg_emulator.faults import CONTROL_PATH, Fault, Kind


@pytest.fixture
def server() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@pytest.fixture
def s3(server: AwsServer) -> Iterator[Any]:
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    client.close()


def ask(server: AwsServer, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_starts_fast(server: AwsServer) -> None:
    """A server answers within a second of being asked to start."""
    assert 0 < server.started_in_s < 1
    assert ask(server, "GET", HEALTH_PATH) == (200, {"status": "ok"})


def test_clients_find_it(s3: Any, server: AwsServer) -> None:
    """boto3 and obstore need nothing but the environment."""
    store = S3Store("bucket", client_options={"allow_http": True})

    obstore.put(store, "k", b"bytes", mode="create")

    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "k", b"other", mode="create")
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"bytes"
    assert s3.meta.endpoint_url == server.url


def test_another_process_finds_it(s3: Any, server: AwsServer) -> None:
    """A process that was started with the environment reaches the same buckets."""
    script = "import boto3; print(boto3.client('s3').list_buckets()['Buckets'][0]['Name'])"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env=server.process_environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "bucket\n"


def test_connections_are_kept(server: AwsServer) -> None:
    """Requests share a connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.connect()
        port = connection.sock.getsockname()[1]
        for _ in range(3):
            connection.request("GET", HEALTH_PATH)
            assert connection.getresponse().read()
            assert connection.sock.getsockname()[1] == port
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("service", "operation", "request_"),
    [
        ("iam", "simulate_custom_policy", {"PolicyInputList": ["{}"], "ActionNames": ["a:b"]}),
        ("kms", "connect_custom_key_store", {"CustomKeyStoreId": "store"}),
    ],
)
def test_what_is_not_emulated(
    server: AwsServer, service: str, operation: str, request_: dict[str, Any]
) -> None:
    """What is not emulated is refused at once, in a form that boto3 shows, and not retried."""
    tries: list[int] = []
    client = boto3.client(service)
    client.meta.events.register("before-send", lambda **_: tries.append(1))

    with pytest.raises(ClientError, match="not emulated") as caught:
        getattr(client, operation)(**request_)
    client.close()

    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert len(tries) == 1


def test_body_that_nobody_reads(server: AwsServer) -> None:
    """The rest of a body does not become the next request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        for _ in range(2):
            connection.request("POST", HEALTH_PATH, b"GET / HTTP/1.1\r\n\r\n" * 10_000)
            assert json.loads(connection.getresponse().read()) == {"status": "ok"}
            connection.request("POST", HEALTH_PATH, iter([b"GET /", b" HTTP/1.1\r\n\r\n"]))
            assert json.loads(connection.getresponse().read()) == {"status": "ok"}
            assert connection.sock is not None
    finally:
        connection.close()


def test_old_client(server: AwsServer) -> None:
    """A client of HTTP/1.0 gets its answer, and the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET {HEALTH_PATH} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"200" in head.splitlines()[0]
    assert json.loads(body) == {"status": "ok"}


def test_faults_over_http(s3: Any, server: AwsServer) -> None:
    """A process that is not the server's arms faults and counts them."""
    fault = {"kind": "throttle", "service": "s3", "operation": "GetObject", "count": 1}
    status, armed = ask(server, "POST", CONTROL_PATH, json.dumps(fault).encode())
    assert status == 201
    s3.put_object(Bucket="bucket", Key="k", Body=b"x")

    s3.get_object(Bucket="bucket", Key="k")

    assert ask(server, "GET", CONTROL_PATH)[1]["faults"][0]["struck"] == 1
    assert server.faults.armed[0].struck == 1
    assert ask(server, "POST", CONTROL_PATH, b'{"kind": "nonsense"}')[0] == 400
    assert ask(server, "DELETE", CONTROL_PATH) == (200, {"faults": []})
    assert armed["number"] == 1


def test_lost_answer(server: AwsServer) -> None:
    """A lost answer closes the connection at once, after everything was done."""
    client = boto3.client("s3", config=Config(retries={"max_attempts": 0}, read_timeout=10))
    client.create_bucket(Bucket="bucket")
    lost = Fault(kind=Kind.LOST, service="s3", operation="PutObject", status=0)
    armed = server.faults.arm(lost)

    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket="bucket", Key="k", Body=b"x")

    assert armed.struck == 1
    assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == b"x"
    client.close()


def test_side_by_side(s3: Any) -> None:
    """Requests are answered side by side, each with its own bytes."""
    wrong: list[str] = []

    def work(number: int) -> None:
        body = b"%d" % number * 10_000
        for turn in range(5):
            key = f"{number}/{turn}"
            s3.put_object(Bucket="bucket", Key=key, Body=body)
            if s3.get_object(Bucket="bucket", Key=key)["Body"].read() != body:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 40


def test_taken_port() -> None:
    """A port that is taken is an error that says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"port {port}"), AwsServer(port=port):
            pass


def test_ends_with_open_connections() -> None:
    """A server that ends waits for nobody, and leaves no thread and no port."""
    before = threading.active_count()
    with AwsServer() as server:
        port = server.port
        idle = socket.create_connection(("127.0.0.1", port))
        idle.sendall(b"GET /")
    idle.close()

    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with AwsServer(port=port) as again:
        assert again.port == port


def test_nothing_stays() -> None:
    """A second server knows nothing of the first."""
    for _ in range(2):
        with AwsServer():
            client = boto3.client("s3")
            client.create_bucket(Bucket="bucket")
            assert len(client.list_buckets()["Buckets"]) == 1
            client.close()


def test_asked_before_it_started() -> None:
    """A server that was not started says so."""
    with pytest.raises(RuntimeError, match="was not started"):
        AwsServer().url  # noqa: B018
