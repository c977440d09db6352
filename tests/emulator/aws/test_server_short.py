"""The short way to the runtime answers as moto's way does, and what is slow is imported late."""

from __future__ import annotations

import datetime
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cloudreg_emulator.aws import AwsServer, world
from cloudreg_emulator.faults import Fault, Kind

CONTAINER = str(Path(__file__).parents[1] / "fleet" / "container.py")
SCOPE = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/sagemaker/aws4_request, Signature=0"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    """Yield a server with the endpoint ``churn``."""
    images = {"*/test:*": [sys.executable, "-S", "-E", CONTAINER]}
    with AwsServer(images=images, scale=0.001, describes=0) as made:
        s3, sagemaker = (boto3.client(name, endpoint_url=made.url) for name in ("s3", "sagemaker"))
        s3.create_bucket(Bucket="models")
        s3.put_object(Bucket="models", Key="one/model.json", Body=b"{}")
        source = {
            "S3Uri": "s3://models/one/", "S3DataType": "S3Prefix", "CompressionType": "None"
        }  # fmt: skip
        sagemaker.create_model(
            ModelName="one",
            ExecutionRoleArn="arn:aws:iam::123456789012:role/hosting",
            PrimaryContainer={
                "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/test:1",
                "ModelDataSource": {"S3DataSource": source},
            },
        )
        variant = {
            "VariantName": "main", "ModelName": "one", "InitialInstanceCount": 1,
            "InstanceType": "ml.g5.xlarge",
        }  # fmt: skip
        sagemaker.create_endpoint_config(EndpointConfigName="one", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName="one")
        waiter = sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName="churn", WaiterConfig={"Delay": 0.05, "MaxAttempts": 1200})
        yield made


def asked(
    server: AwsServer, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Return the whole answer, without what differs each time."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", path, body, {"Authorization": SCOPE, **headers})
        answer = connection.getresponse()
        content = answer.read()
        said = {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()
    # The last two are what a browser's Origin adds.
    for name in ("date", "server", "x-amzn-requestid", "access-control-allow-origin", "vary"):
        said.pop(name, None)
    return answer.status, said, content


CASES: dict[str, tuple[str, bytes, dict[str, str], int]] = {
    "answer": ("churn/invocations", b'{"x": [1]}', JSON, 200),
    "a form": (
        "churn/invocations",
        b'{"x": [1]}',
        {"Content-Type": "application/x-www-form-urlencoded"},
        200,
    ),
    "attributes": (
        "churn/invocations",
        b'{"x": [1]}',
        {**JSON, "X-Amzn-SageMaker-Custom-Attributes": "trace=1"},
        200,
    ),
    "the container's error": ("churn/invocations", b'{"status": 418}', JSON, 424),
    "no such endpoint": ("nothing/invocations", b"{}", JSON, 400),
    "no such variant": (
        "churn/invocations",
        b"{}",
        {**JSON, "X-Amzn-SageMaker-Target-Variant": "other"},
        400,
    ),
    "malformed": (
        "churn/invocations",
        b"{}",
        {**JSON, "X-Amzn-SageMaker-Target-Variant": "-no-name-"},
        400,
    ),
    "too large": ("churn/invocations", bytes(25 * 2**20 + 1), JSON, 413),
    "not asynchronous": (
        "churn/async-invocations",
        b"",
        {"X-Amzn-SageMaker-InputLocation": "s3://models/in"},
        400,
    ),
    "a stream": ("churn/invocations-response-stream", b'{"stream": 3}', JSON, 200),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_answer_alike(server: AwsServer, case: str) -> None:
    """Status, headers and body are the same whichever way a request takes."""
    path, body, headers, status = CASES[case]
    short = asked(server, f"/endpoints/{path}", body, headers)
    # Browsers are moto's to answer.
    motos = asked(server, f"/endpoints/{path}", body, {**headers, "Origin": "http://localhost"})

    assert short[0] == status
    assert short == motos


def test_faults_strike_on_the_short_way(server: AwsServer) -> None:
    """Armed faults spoil invocations on the short way, closed connections included."""
    for fault, status in (
        (Fault(kind=Kind.THROTTLE, service="sagemaker-runtime"), 400),
        (Fault(kind=Kind.ERROR, service="sagemaker-runtime", status=500), 500),
    ):
        armed = server.faults.arm(fault)
        assert asked(server, "/endpoints/churn/invocations", b"{}", JSON)[0] == status
        assert armed.struck == 1
    armed = server.faults.arm(Fault(kind=Kind.LOST, service="sagemaker-runtime", status=0))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        asked(server, "/endpoints/churn/invocations", b"{}", JSON)
    assert armed.struck == 1
    server.faults.disarm()


def letter(body: bytes, *headers: str) -> bytes:
    """Return the plainest request to ``churn``."""
    lines = "".join(f"{line}\r\n" for line in (f"Authorization: {SCOPE}", *headers))
    head = f"POST /endpoints/churn/invocations HTTP/1.1\r\nHost: a\r\n{lines}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, Any]]:
    """Return the status and document of the next answers."""
    found = []
    with connection.makefile("rb") as reader:
        for _ in range(count):
            status = int(reader.readline().split()[1])
            length = 0
            while (line := reader.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            found.append((status, json.loads(reader.read(length))))
    return found


@pytest.fixture
def connection(server: AwsServer) -> Iterator[socket.socket]:
    """Yield a connection to the server."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as made:
        yield made


def until(condition: Callable[[], bool]) -> None:
    """Return once *condition* holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_at_once_are_answered_in_order(connection: socket.socket) -> None:
    """A client that does not wait gets all answers, in the order of its requests."""
    connection.sendall(b"".join(letter(b'{"x": [%d]}' % number) for number in range(20)))
    found = answers(connection, 20)

    assert [(status, said["y"]) for status, said in found] == [(200, [n]) for n in range(20)]


def test_a_request_in_pieces(connection: socket.socket) -> None:
    """Where a request is cut makes no difference."""
    for step in (1, 7, 100):
        data = letter(b'{"x": [3]}')
        for at in range(0, len(data), step):
            connection.sendall(data[at : at + step])
        assert answers(connection, 1)[0][1]["y"] == [3]


def test_another_request_on_the_same_connection(server: AwsServer) -> None:
    """A connection takes every kind of request, the plainest before and after the others."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    path = "/endpoints/churn/invocations"
    found = []
    for method, where, body, headers in (
        ("POST", path, b'{"x": [1]}', {"Authorization": SCOPE}),
        (
            "GET",
            "/models/one/model.json",
            None,
            {"Authorization": SCOPE.replace("sagemaker", "s3")},
        ),
        ("POST", path, b'{"x": [2]}', {"Authorization": SCOPE}),
    ):
        connection.request(method, where, body, headers)
        answer = connection.getresponse()
        found.append((answer.status, json.loads(answer.read())))
    connection.close()

    assert [status for status, _ in found] == [200, 200, 200]
    assert (found[0][1]["y"], found[1][1], found[2][1]["y"]) == ([1], {}, [2])


def test_plain_predictions_take_no_thread_each(server: AwsServer) -> None:
    """Connections with plain predictions share one thread, and one that needs its own gets it."""
    address = ("127.0.0.1", server.port)
    connections = [socket.create_connection(address, timeout=60) for _ in range(16)]
    before = set(threading.enumerate())

    def new() -> list[str]:
        # Threads of earlier connections may end meanwhile, and instances have their own.
        names = [thread.name for thread in set(threading.enumerate()) - before]
        return [name for name in names if "process_request_thread" in name]

    try:
        for one in connections:
            one.sendall(letter(b'{"x": [1]}'))
            assert answers(one, 1)[0][0] == 200
        assert new() == []
        connections[0].sendall(letter(b'{"x": [1]}', "Origin: http://localhost"))
        assert answers(connections[0], 1)[0][0] == 200
        assert len(new()) == 1
    finally:
        for one in connections:
            one.close()


def test_half_closed(connection: socket.socket) -> None:
    """A client that says that it has no more to send still gets its answer."""
    connection.sendall(letter(b'{"x": [5], "sleep_s": 0.2}'))
    connection.shutdown(socket.SHUT_WR)

    assert answers(connection, 1)[0][1]["y"] == [5]
    assert connection.recv(1) == b""


def test_a_client_that_leaves(server: AwsServer) -> None:
    """A client that does not wait for its answer leaves an instance that is free."""
    (group,) = server.fleet.groups
    with socket.create_connection(("127.0.0.1", server.port)) as leaving:
        leaving.sendall(letter(b'{"sleep_s": 0.3}'))
        until(lambda: group.inflight == 1)
    until(lambda: group.inflight == 0)

    assert asked(server, "/endpoints/churn/invocations", b'{"x": [1]}', JSON)[0] == 200


def test_a_fault_that_comes_meanwhile(server: AwsServer, connection: socket.socket) -> None:
    """An answer is lost to a fault that is armed while its container is at work."""
    (group,) = server.fleet.groups
    for status in (503, 0):
        connection.sendall(letter(b'{"sleep_s": 0.5}'))
        until(lambda: group.inflight == 1)
        fault = Fault(kind=Kind.LOST, service="sagemaker-runtime", status=status)
        armed = server.faults.arm(fault)
        if status:
            assert answers(connection, 1)[0][0] == status
        else:
            assert connection.recv(1) == b""
        assert armed.struck == 1
        server.faults.disarm()


def test_too_slow_for_the_loop(server: AwsServer, connection: socket.socket) -> None:
    """A container that does not answer in time is a ModelError, and its instance is free."""
    now = world.current()
    before = now.invoke_timeout_s
    object.__setattr__(now, "invoke_timeout_s", 0.2)
    try:
        connection.sendall(letter(b'{"sleep_s": 1}'))
        ((status, said),) = answers(connection, 1)
    finally:
        object.__setattr__(now, "invoke_timeout_s", before)

    assert (status, said["OriginalStatusCode"]) == (424, 0)
    assert said["OriginalMessage"].startswith("Your invocation timed out")
    assert server.fleet.groups[0].inflight == 0


def test_traces_of_the_loop(server: AwsServer, connection: socket.socket) -> None:
    """Predictions that the loop carries are counted in CloudWatch, each once."""
    cloudwatch = boto3.client("cloudwatch", endpoint_url=server.url)

    def counted() -> float:
        now = datetime.datetime.now(datetime.UTC)
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName="Invocations",
            Dimensions=[
                {"Name": "EndpointName", "Value": "churn"},
                {"Name": "VariantName", "Value": "main"},
            ],
            StartTime=now - datetime.timedelta(hours=1),
            EndTime=now + datetime.timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    before = counted()
    connection.sendall(letter(b'{"x": [1]}') * 7)
    answers(connection, 7)

    assert counted() == before + 7


def test_a_container_that_dies(server: AwsServer, connection: socket.socket) -> None:
    """A container that ends in the middle is a ModelError, and its successor answers."""
    (group,) = server.fleet.groups
    died = group.pids
    connection.sendall(letter(b'{"die": true}'))
    ((status, said),) = answers(connection, 1)
    assert (status, said["OriginalStatusCode"]) == (424, 0)

    until(lambda: group.pids != died and group.ready == 1)
    connection.sendall(letter(b'{"x": [4]}'))
    assert answers(connection, 1)[0][1]["y"] == [4]


LATE = """
import sys, boto3
from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.aws.autoscaling.ticking import tick

def client(name: str):
    return boto3.client(name, endpoint_url=server.url, region_name="us-east-1")

with AwsServer(scale=0.001) as server:
    client("s3").list_buckets()
    client("sagemaker").list_endpoints()
    tick()
    assert not [name for name in sys.modules if name.startswith(("moto.ec2", "moto.ecs"))]
    scaling = client("application-autoscaling")
    try:
        scaling.register_scalable_target(
            ServiceNamespace="sagemaker", ResourceId="endpoint/none/variant/main",
            ScalableDimension="sagemaker:variant:DesiredInstanceCount",
            MinCapacity=1, MaxCapacity=2,
        )
    except scaling.exceptions.ValidationException as error:
        said = str(error)
    from moto.applicationautoscaling.models import applicationautoscaling_backends as backends
    from cloudreg_emulator.aws.autoscaling.models import ScalingBackend
    assert backends.backend is ScalingBackend
    tick()
assert backends.backend is not ScalingBackend
print(said)
"""


def test_scaling_is_imported_with_its_first_request(server: AwsServer) -> None:
    """A server starts without EC2, and still answers scaling with our backend, strictly."""
    environment: dict[str, Any] = server.process_environment()
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
