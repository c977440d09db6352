"""cloudreg's own model server behind an emulated endpoint."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from botocore.exceptions import ClientError
from onnx import TensorProto, helper, numpy_helper

from cloudreg.manifest import (
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    Runtime,
    Signature,
    TensorSpec,
)

ROLE = "arn:aws:iam::123456789012:role/hosting"


@pytest.fixture
def version(tmp_path):
    """Files of y = x W + b as an ONNX model, with their manifest; and the digest."""
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    bias = np.array([1, -1], np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
            "line",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    data = model.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data)
    manifest = Manifest(
        files=(
            FileEntry(path="model.onnx", size=len(data), sha256=hashlib.sha256(data).hexdigest()),
        ),
        runtime=Runtime(kind="onnx", weights="model.onnx"),
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 3)),),
            outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 2)),),
        ),
    )
    (tmp_path / MANIFEST_FILE).parent.mkdir()
    (tmp_path / MANIFEST_FILE).write_bytes(manifest.encode())
    return tmp_path, manifest.digest


def endpoint(clients, folder, *, image, environment=None):
    """Create a bucket, a model of the files in *folder*, and an endpoint; return it, settled."""
    clients("s3").create_bucket(Bucket="models")
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"churn/{path.relative_to(folder).as_posix()}"
            clients("s3").put_object(Bucket="models", Key=key, Body=path.read_bytes())
    source = {
        "S3Uri": "s3://models/churn/", "S3DataType": "S3Prefix", "CompressionType": "None"
    }  # fmt: skip
    sagemaker = clients("sagemaker")
    sagemaker.create_model(
        ModelName="churn-1",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{image}",
            "Environment": environment or {},
            "ModelDataSource": {"S3DataSource": source},
        },
    )
    variant = {
        "VariantName": "main", "ModelName": "churn-1", "InitialInstanceCount": 1,
        "InstanceType": "ml.g5.xlarge",
    }  # fmt: skip
    sagemaker.create_endpoint_config(EndpointConfigName="churn-1", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName="churn-1")
    deadline = time.monotonic() + 60
    while True:
        body = sagemaker.describe_endpoint(EndpointName="churn")
        if body["EndpointStatus"] != "Creating":
            return body
        assert time.monotonic() < deadline
        time.sleep(0.05)


def environment(digest):
    return {
        "CLOUDREG_DIGEST": digest,
        "CLOUDREG_MODEL": "churn",
        "CLOUDREG_NUMBER": "7",
        "CLOUDREG_PROVIDER": "sagemaker",
        "CLOUDREG_THREADS": "1",
    }


def test_cloudregs_server(make_live, version):
    """A registered ONNX model is served by cloudreg's image, and computes what it should."""
    live = make_live(images=None)
    folder, digest = version
    endpoint(live.client, folder, image="cloudreg-serving:1", environment=environment(digest))
    answer = live.ask(asked={"instances": [[1.0, 2.0, 3.0]]})
    with pytest.raises(ClientError) as caught:
        live.ask(asked={"instances": [[1.0]]})

    assert answer["said"]["predictions"] == [[17.0, 21.0]]
    assert answer["InvokedProductionVariant"] == "main"
    assert caught.value.response["OriginalStatusCode"] == 400


def test_files_that_are_not_the_registered_ones(make_live, version):
    """cloudreg's server refuses other bytes: the endpoint fails, and its log says why."""
    live = make_live(images=None)
    folder, digest = version
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    body = endpoint(
        live.client, folder, image="cloudreg-serving:1", environment=environment(digest)
    )
    logs = live.client("logs").filter_log_events(logGroupName="/aws/sagemaker/Endpoints/churn")
    messages = [event["message"] for event in logs["events"]]

    assert body["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in body["FailureReason"]
    assert any("not what was registered" in message for message in messages)
