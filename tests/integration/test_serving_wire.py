"""One model server, and everything that may come over its socket."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudreg.manifest import Signature

_spec = importlib.util.spec_from_file_location(
    "serving_kit", Path(__file__).parents[1] / "unit" / "serving" / "kit.py"
)
assert _spec is not None
assert _spec.loader is not None
kit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kit)

SAGEMAKER = "application/vnd.sagemaker-triton.binary+json"
VERTEX = "application/vnd.vertex-ai-triton.binary+json"
FEATURES, CLASSES = 30, 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of `Line`."""
    version = kit.torch_version(tmp_path_factory.mktemp("line") / "v")
    served = kit.Served(version.argv("--max-request-bytes", "100000"))
    try:
        yield served.ready()
    finally:
        served.end()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of `Plain`."""
    version = kit.torch_version(
        tmp_path_factory.mktemp("plain") / "v",
        "Plain",
        arguments={"features": FEATURES, "classes": CLASSES},
        signature=Signature(
            inputs=(kit.tensor("features", "float32", -1, FEATURES),),
            outputs=(kit.tensor("probabilities", "float32", -1, CLASSES),),
        ),
    )
    served = kit.Served(version.argv())
    try:
        yield served.ready()
    finally:
        served.end()


def sample(rows: int) -> tuple[Any, Any]:
    """Return rows, and what bare torch answers to them."""
    torch.manual_seed(0)
    bare = kit.factory("Plain")(FEATURES, CLASSES).eval()
    x = np.random.default_rng(1).normal(size=(rows, FEATURES)).astype(np.float32)
    with torch.inference_mode():
        return x, bare(torch.from_numpy(x)).numpy()


def alive(server: Any) -> None:
    """The server still answers rightly."""
    assert len(server.predict([[1, 2, 3]])[0]) == 2


def test_answers_are_torchs(plain: Any) -> None:
    """Served answers are bare torch's, within the tolerance that `kit.close` explains."""
    x, wanted = sample(64)
    assert kit.close(plain.predict(x.tolist()), wanted)


def test_answers_are_torchs_under_load(plain: Any) -> None:
    """Rows that share batches with strangers get their own answers."""
    x, wanted = sample(200)
    with httpx.Client(base_url=f"http://127.0.0.1:{plain.port}", trust_env=False) as client:

        def ask(row: int) -> Any:
            answer = client.post("/invocations", json={"instances": [x[row].tolist()]})
            assert answer.status_code == 200, answer.text
            return answer.json()["predictions"][0]

        with ThreadPoolExecutor(16) as pool:
            got = list(pool.map(ask, range(len(x))))
    assert kit.close(got, wanted)


@pytest.mark.parametrize("carrier", ["plain", SAGEMAKER, VERTEX])
@pytest.mark.parametrize("path", ["/invocations", "/v2/models/churn/infer"])
def test_binary_tensors(plain: Any, carrier: str, path: str) -> None:
    """Tensors as bytes give what JSON gives, whatever carries the header's length."""
    x, wanted = sample(8)
    raw = x.tobytes()
    head = json.dumps(
        {
            "id": "42",
            "parameters": {"binary_data_output": True},
            "inputs": [
                {
                    "name": "features",
                    "shape": list(x.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
        }
    ).encode()
    if carrier == "plain":
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
    else:
        headers = {"Content-Type": f"{carrier};json-header-size={len(head)}"}
    status, found, body = plain.request("POST", path, head + raw, **headers)
    assert status == 200, body
    if carrier == "plain":
        size = int(found["inference-header-content-length"])
    else:
        kind, _, text = found["content-type"].partition(";json-header-size=")
        assert kind == carrier
        size = int(text)
    document = json.loads(body[:size])
    assert document["id"] == "42"
    assert (document["model_name"], document["model_version"]) == ("churn", "7")
    got = np.frombuffer(body[size:], "<f4").reshape(document["outputs"][0]["shape"])
    assert kit.close(got, wanted)
    assert np.array_equal(got, np.array(plain.predict(x.tolist()), np.float32))


@pytest.mark.parametrize(
    "path", ["/invocations", "/v2/models/churn/infer", "/v2/models/churn/versions/7/infer"]
)
def test_protocol_v2_json(server: Any, path: str) -> None:
    """The protocol's JSON is understood on its own routes, and where there is but one route."""
    one = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    status, answer = server.post(path, {"inputs": [one]})
    assert status == 200, answer
    assert answer["outputs"][0]["data"] == server.predict([[1, 2, 3]])[0]
    assert answer["outputs"][0]["shape"] == [1, 2]


def test_protocol_v2_metadata(server: Any) -> None:
    """Server and model describe themselves."""
    assert server.get("/v2")[1]["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/churn", "/v2/models/churn/versions/7"):
        status, about = server.get(path)
        assert status == 200
        assert about["versions"] == ["7"]
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert server.get(f"{path}/ready")[0] == 200
    assert server.get("/v2/models/other/ready")[0] == 404
    assert server.get("/v2/models/churn/versions/8/ready")[0] == 404


def test_streams_of_lines_and_events(server: Any) -> None:
    """A model that streams gives a line or an event for each piece."""
    body = b'{"instances":[[1,3,1]]}'
    (first,) = server.predict([[1, 3, 1]])
    for accept, prefix in (("application/jsonlines", ""), ("text/event-stream", "data: ")):
        status, found, data = server.request("POST", "/invocations", body, Accept=accept)
        assert (status, found["content-type"]) == (200, accept)
        lines = [line for line in data.decode().splitlines() if line]
        assert all(line.startswith(prefix) for line in lines)
        pieces = [json.loads(line.removeprefix(prefix))["predictions"][0] for line in lines]
        assert kit.close(pieces, [[value + step for value in first] for step in range(3)])


def test_streams_that_fail(server: Any) -> None:
    """An error before the first piece has its status; a later one is the last line."""
    jsonlines = {"Accept": "application/jsonlines"}
    status, answer = server.post("/invocations", {"instances": [[1, 2]]}, **jsonlines)
    assert (status, answer["field"]) == (400, "instances[0]")
    body = b'{"instances":[[666,5,1]]}'
    status, _, data = server.request("POST", "/invocations", body, **jsonlines)
    lines = [json.loads(line) for line in data.splitlines()]
    assert status == 200
    assert ["predictions" in line for line in lines] == [True, True, False]
    assert "the number of the beast" in lines[-1]["error"]
    alive(server)


def test_a_stream_that_nobody_reads_to_its_end(server: Any) -> None:
    """A client that leaves in the middle frees the device."""
    body = b'{"instances":[[777,1000,1]]}'
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nAccept: application/jsonlines\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    alive(server)


def test_a_model_that_does_not_stream(plain: Any) -> None:
    """A stream of a model that has none is refused, not imitated."""
    x, _ = sample(1)
    request = {"instances": x.tolist()}
    status, answer = plain.post("/invocations", request, Accept="text/event-stream")
    assert (status, answer["field"]) == (406, "Accept")


def test_health_and_metrics_count(server: Any) -> None:
    """Requests are counted by route and code, on the same port."""
    alive(server)
    server.get("/no/such/path")
    text = server.request("GET", "/metrics")[2].decode()
    assert 'cloudreg_request_seconds_count{code="200",route="predict"}' in text
    assert 'cloudreg_request_seconds_count{code="404",route="none"}' in text
    assert 'cloudreg_model_info{device="cpu",digest="sha256:' in text
    assert "no/such" not in text


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/", None, {}, 404),
        ("GET", "/ping/", None, {}, 404),
        ("POST", "/ping", b"", {}, 405),
        ("GET", "/invocations", None, {}, 405),
        ("DELETE", "/v2/models/churn", None, {}, 405),
        ("POST", "/invocations", b"", {}, 400),
        ("POST", "/invocations", b"{", {}, 400),
        ("POST", "/invocations", b"\xff\xfe", {}, 400),
        ("POST", "/invocations", b"[" * 50000, {}, 400),
        ("POST", "/invocations", b'{"instances":[[NaN,1,2]]}', {}, 400),
        ("POST", "/invocations", b'{"instances":[[1e999,1,2]]}', {}, 400),
        ("POST", "/invocations", b"a,b", {"Content_Type": "text/csv"}, 415),
        ("POST", "/invocations", b"{}", {"Content_Type": "application/json;charset=latin-1"}, 415),
        ("POST", "/invocations", b"{}", {"Content_Encoding": "gzip"}, 415),
        ("POST", "/invocations", b'{"instances":[[1,2,3]]}', {"Accept": "image/png"}, 406),
        ("POST", "/invocations", b"x" * 100001, {}, 413),
        ("POST", "/invocations", b"{}", {"Content_Type": f"{SAGEMAKER};json-header-size=9"}, 400),
        ("POST", "/invocations", b"{}", {"Content_Type": SAGEMAKER}, 400),
        ("POST", "/v2/models/churn/infer", b'{"inputs":3}', {}, 400),
        ("POST", "/v2/models/churn/infer", b"{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/v2/models/other/infer", b"{}", {}, 404),
        ("POST", "/invocations", json.dumps({"instances": [[1, 2, 3]] * 1025}).encode(), {}, 413),
    ],
)
def test_refusals(
    server: Any, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    """What cannot be answered gets its own status and a JSON error, and harms nobody."""
    if body is not None:
        headers = {"Content_Type": "application/json", **headers}
    got, found, data = server.request(method, path, body, **headers)
    assert got == status, data
    assert found["content-type"] == "application/json"
    assert json.loads(data)["error"]
    if status == 405:
        assert found["allow"]
    alive(server)


def test_answers_that_json_has_no_word_for(server: Any) -> None:
    """Infinity in an output is an error that says where, never broken JSON."""
    status, answer = server.post("/invocations", {"instances": [[1, 2, 3], [999, 2, 3]]})
    assert status == 500
    assert answer["error"].startswith("output y[1, 0] is inf")
    alive(server)


POST = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        POST + b"Content-Length: -5\r\n\r\n",
        POST + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n",
        POST + b"Content-Length: 99999999999\r\n\r\n",
        POST + b"Content-Length: 50\r\n\r\n{",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"4000\r\n%b\r\n" % (b"x" * 0x4000) * 8,
    ],
)
def test_what_is_no_http(server: Any, data: bytes) -> None:
    """Bytes that are no request, or break off in one, never get a 2xx and never end the server."""
    answer = server.raw(data)
    if b"/ping" not in data:
        assert not answer.startswith(b"HTTP/1.1 2")
    assert b"HTTP/1.1 5" not in answer
    alive(server)


@pytest.mark.parametrize(
    "shape", [b"X: %b\r\n" % (b"a" * 1000) * 400, b"X: " + b"a" * 400000 + b"\r\n"]
)
def test_headers_without_end(server: Any, shape: bytes) -> None:
    """Headers beyond a limit get no answer but a refusal, complete or not."""
    answer = server.raw(b"GET /ping HTTP/1.1\r\n" + shape + b"\r\n")
    # The reset of a socket that is still being written to may overtake the answer.
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    alive(server)


fuzz = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "x", "name", "shape", "data", "datatype"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
routes = st.sampled_from(["/invocations", "/v2/models/churn/infer"])


@fuzz
@given(path=routes, document=json_values)
def test_any_json(server: Any, path: str, document: Any) -> None:
    """Any JSON is a request or a refusal with its reason."""
    status, answer = server.post(path, document)
    assert status == 200 or (status == 400 and answer["error"]), answer


@fuzz
@given(
    path=routes,
    body=st.binary(max_size=60)
    | st.builds(lambda cut: b'{"instances":[[1,2,3],[4.5,5,6]]}'[:cut], st.integers(0, 33)),
    kind=st.sampled_from(
        [
            "application/json",
            SAGEMAKER,
            f"{SAGEMAKER};json-header-size=10",
            f"{VERTEX};a=b;=;",
            "",
            ";",
        ]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    size=st.none() | st.sampled_from(["0", "5", "60", "-1", "999999999", "x"]),
)
def test_any_bytes(server: Any, path: str, body: bytes, kind: str, size: str | None) -> None:
    """Any bytes under any type are a request or a refusal with its reason."""
    headers = {"Content_Type": kind.strip()}
    if size is not None:
        headers["Inference_Header_Content_Length"] = size
    status, _, data = server.request("POST", path, body, **headers)
    assert status == 200 or (400 <= status < 500 and json.loads(data)["error"]), data


@fuzz
@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_any_connection(server: Any, data: bytes, cut: int) -> None:
    """Any bytes on a connection, and any request that breaks off, leave the server as it was."""
    whole = POST + b"Content-Length: 23\r\n\r\n" + b'{"instances":[[1,2,3]]}'
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(whole[:cut] + data)
    assert server.get("/ping")[0] == 200


def test_a_data_set_line_by_line(server: Any) -> None:
    """Each line has its answer in its place, and what is wrong with one is said in its own."""
    lines = ["[1, 3, 1]", "[1, 2]", "", "no JSON", "[666, 0, 0]", "[2, 3, 1]"]
    status, found, data = server.request(
        "POST",
        "/invocations",
        "\n".join(lines).encode(),
        **{"Content-Type": "application/jsonlines"},
    )
    said = [json.loads(line) for line in data.splitlines()]
    wanted = server.predict([[1, 3, 1], [2, 3, 1]])

    assert (status, found["content-type"]) == (200, "application/jsonlines")
    assert ["prediction" in one for one in said] == [True, False, False, False, True]
    assert kit.close([said[0]["prediction"], said[4]["prediction"]], wanted)
    assert said[1]["field"] == "instance"
    assert "instance: wanted" in said[1]["error"]
    assert "no JSON" in said[2]["error"]
    assert "the number of the beast" in said[3]["error"]
    alive(server)


def test_a_large_data_set(server: Any) -> None:
    """More lines than the model takes at once are answered in their order."""
    rows = [[float(n), 1.0, 1.0] for n in range(1, 301)]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    status, _, data = server.request(
        "POST", "/invocations", body, **{"Content-Type": "application/jsonlines"}
    )
    said = [json.loads(line)["prediction"] for line in data.splitlines()]

    assert status == 200
    assert kit.close(said[:30], server.predict(rows[:30]))
    assert kit.close(said[-30:], server.predict(rows[-30:]))
    assert len(said) == 300
