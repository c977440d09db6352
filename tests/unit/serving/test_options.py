from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import ConfigError
from cloudreg.serving.options import Options, Platform, detect, read

DIGEST = "sha256:" + "a" * 64
ARGV = ["--model-dir", "models", "--digest", DIGEST, "--model", "churn", "--number", "7"]
VERTEX = {
    "AIP_MODE": "PREDICTION",
    "AIP_HTTP_PORT": "9090",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
}


def options(*more: str, **env: str) -> Options:
    return read([*ARGV, *more], env)


def test_a_laptop() -> None:
    """By default only the laptop itself can reach the server."""
    got = options()
    assert (got.platform, got.host, got.port) == (Platform.LOCAL, "127.0.0.1", 8080)
    assert (got.model, got.number, got.digest) == ("churn", 7, DIGEST)
    assert got.manifest == Path("models").absolute() / ".cloudreg/manifest.json"
    assert got.limits.max_queue == 32 * got.limits.max_batch
    assert got.limits.together


@pytest.mark.parametrize(
    ("env", "serve", "platform"),
    [
        ({}, False, "local"),
        ({}, True, "sagemaker"),
        ({"AIP_MODE": "PREDICTION"}, True, "vertex"),
        ({"AIP_MODE": "OTHER"}, False, "local"),
        ({"AIP_MODE": "PREDICTION", "CLOUDREG_PROVIDER": "sagemaker"}, False, "sagemaker"),
        ({"CLOUDREG_PROVIDER": "local"}, True, "local"),
    ],
)
def test_the_platform(env: dict[str, str], serve: bool, platform: str) -> None:
    """What cloudreg says beats what the platform does."""
    assert detect({"SAGEMAKER_BASE_DIR": "/nowhere", **env}, serve=serve) == platform


def test_sagemaker(tmp_path: Path) -> None:
    """The word serve, the folder and the port are SageMaker's; the rest comes by variables."""
    (tmp_path / "model").mkdir()
    env = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGEMAKER_BIND_TO_PORT": "8091",
        "CLOUDREG_DIGEST": DIGEST,
        "CLOUDREG_MODEL": "churn",
        "CLOUDREG_NUMBER": "7",
    }
    for argv in (["serve"], []):
        got = read(argv, env)
        assert got.platform is Platform.SAGEMAKER
        assert (got.host, got.port, got.model_dir) == ("0.0.0.0", 8091, tmp_path / "model")
        assert got.number == 7


def test_vertex() -> None:
    """Port and routes are Vertex AI's, the colon included."""
    got = options(**VERTEX)
    assert (got.platform, got.host, got.port) == (Platform.VERTEX, "0.0.0.0", 9090)
    assert got.predict_route == "/v1/endpoints/1/deployedModels/2:predict"
    assert got.health_route == "/v1/endpoints/1/deployedModels/2"


def test_vertex_routes_mean_nothing_elsewhere() -> None:
    """Variables of one platform do not move another."""
    got = options(**{**VERTEX, "CLOUDREG_PROVIDER": "local"})
    assert (got.port, got.predict_route) == (8080, "/invocations")


def test_files_that_have_to_be_fetched() -> None:
    """On Vertex AI the files' address is where they come from, unless a folder holds them."""
    env = {**VERTEX, "AIP_STORAGE_URI": "gs://bucket/churn"}
    said = ["--digest", DIGEST, "--model", "churn"]
    assert read(said, env).source == "gs://bucket/churn"
    assert read([*said, "--model-dir", "/files"], env).source is None


def test_arguments_beat_the_environment() -> None:
    """An argument beats its variable, which beats the default."""
    env = {"CLOUDREG_MAX_BATCH": "4", "CLOUDREG_THREADS": "2", "CLOUDREG_DETERMINISTIC": "true"}
    got = options("--max-batch", "16", **env)
    assert (got.limits.max_batch, got.compute.threads) == (16, 2)
    assert got.compute.deterministic
    assert not got.limits.together


def test_every_option() -> None:
    """Nothing that can be said is dropped."""
    got = options(
        *("--host", "::1", "--port", "0", "--device", "cuda:1", "--manifest", "other.json"),
        *("--max-queue", "99", "--max-request-bytes", "2048", "--request-timeout-s", "1.5"),
        *("--drain-s", "0", "--exit-with-parent"),
    )
    assert (got.host, got.port, got.compute.device) == ("::1", 0, "cuda:1")
    assert (got.manifest, got.limits.max_queue) == (Path("other.json"), 99)
    assert (got.max_request_bytes, got.limits.timeout_s, got.drain_s) == (2048, 1.5, 0.0)
    assert got.exit_with_parent


@pytest.mark.parametrize(
    ("argv", "env", "said"),
    [
        (["--digest", DIGEST, "--model", "churn"], {}, "--model-dir is missing"),
        (["--model-dir", "x", "--model", "churn"], {}, "--digest is missing"),
        (["--model-dir", "x", "--digest", DIGEST], {}, "--model is missing"),
        ([*ARGV, "--digest", "sha256:abc"], {}, "--digest: 'sha256:abc'"),
        ([*ARGV, "--model", "Churn"], {}, "--model: model name 'Churn'"),
        ([*ARGV, "--number", "0"], {}, "--number: '0'"),
        ([*ARGV, "--port", "70000"], {}, "--port: '70000'"),
        ([*ARGV, "--port", "-1"], {}, "port"),
        ([*ARGV, "--max-batch", "0"], {}, "--max-batch: '0'"),
        ([*ARGV, "--max-queue", "8"], {}, "--max-queue: '8'"),
        ([*ARGV, "--device", "gpu"], {}, "--device: 'gpu'"),
        ([*ARGV, "--drain-s", "soon"], {}, "--drain-s: 'soon'"),
        ([*ARGV, "--drain-s", "nan"], {}, "--drain-s: 'nan'"),
        ([*ARGV, "--turbo"], {}, "turbo"),
        ([*ARGV, "train"], {}, "train"),
        (ARGV, {"CLOUDREG_PROVIDER": "azure"}, "CLOUDREG_PROVIDER: 'azure'"),
        (ARGV, {"CLOUDREG_DETERMINISTIC": "maybe"}, "CLOUDREG_DETERMINISTIC: 'maybe'"),
        (ARGV, {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT: 'http'"),
    ],
)
def test_options_that_make_no_sense(argv: list[str], env: dict[str, Any], said: str) -> None:
    """A missing, unknown or impossible option is refused by its name."""
    with pytest.raises(ConfigError) as caught:
        read(argv, env)
    assert said in str(caught.value)
