"""Resources that outlive the emulator that they were made in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import aiplatform_v1

from cloudreg_emulator.faults import Fault, Kind
from cloudreg_emulator.google.emulator import Google


def test_models(make_cloud: Callable[..., Any], tmp_path: Path) -> None:
    """Models, versions, aliases, labels, evaluations and numbers are there in the next run."""
    first = make_cloud(state=tmp_path)
    name = first.upload("churn", version_aliases=["prod"], labels={"digest": "one"})
    first.upload(parent_model=name, description="gone")
    first.models.delete_model_version(name=f"{name}@2").result(timeout=20)
    for _ in range(9):
        first.upload(parent_model=name)
    first.models.import_model_evaluation(parent=name, model_evaluation={"display_name": "e"})
    first.upload("other")
    first.models.delete_model(name=f"{first.parent}/models/other").result(timeout=20)
    before = list(first.models.list_model_versions(name=name))
    first.emulator.close()

    second = make_cloud(state=tmp_path)

    assert list(second.models.list_model_versions(name=name)) == before
    assert [model.name for model in second.models.list_models(parent=second.parent)] == [name]
    assert [one.display_name for one in second.models.list_model_evaluations(parent=name)] == ["e"]
    assert second.models.get_model(name=name).etag == before[0].etag
    second.upload(parent_model=name)
    assert second.models.get_model(name=f"{name}@12").version_id == "12"


def test_a_done_operation(make_cloud: Callable[..., Any], tmp_path: Path) -> None:
    """An operation that is done, well or badly, is told of in the next run."""
    first = make_cloud(state=tmp_path)
    done = first.begin("churn").operation
    first.faults.arm(Fault(kind=Kind.FAILED, operation="UploadModel", reason="quota"))
    failed = first.begin("other").operation
    first.emulator.close()

    second = make_cloud(state=tmp_path)

    assert second.models.get_operation({"name": done.name}) == done
    assert second.models.get_operation({"name": failed.name}).error.code == 8


def test_a_running_operation(make_cloud: Callable[..., Any], tmp_path: Path) -> None:
    """An operation that was running goes on in the next run, under its name."""
    first = make_cloud(state=tmp_path, polls=2)
    begun = first.begin("churn", version_aliases=["prod"])
    operation, created = begun.operation, begun.metadata.generic_metadata.create_time
    first.emulator.close()

    second = make_cloud(state=tmp_path, polls=1)

    assert list(second.models.list_models(parent=second.parent)) == []
    found = second.models.get_operation({"name": operation.name})
    assert found.done
    told = aiplatform_v1.UploadModelOperationMetadata.deserialize(found.metadata.value)
    assert told.generic_metadata.create_time == created < told.generic_metadata.update_time
    assert second.aliases(f"{second.parent}/models/churn") == {"1": {"default", "prod"}}


def test_a_running_operation_that_cannot_go_on(
    make_cloud: Callable[..., Any], tmp_path: Path
) -> None:
    """An operation that the next run must refuse ends in that refusal."""
    first = make_cloud(state=tmp_path, polls=2)
    first.bucket("models", churn__weights=b"1")
    operation = first.begin("churn", artifact_uri="gs://models/churn").operation
    first.http.delete("/storage/v1/b/models/o/churn%2Fweights")
    first.emulator.close()

    second = make_cloud(state=tmp_path)

    assert second.models.get_operation({"name": operation.name}).error.code == 9


def test_objects(make_cloud: Callable[..., Any], tmp_path: Path) -> None:
    """Buckets and objects, generations and replaced ones too, are there in the next run."""
    first = make_cloud(state=tmp_path)
    first.bucket("models", churn__weights=b"1" * 70_000, gone=b"2")
    first.http.patch("/storage/v1/b/models", json={"versioning": {"enabled": True}})
    first.bucket("models-2", churn__weights=b"1" * 70_000)
    upload = {"uploadType": "media", "name": "churn/weights"}
    first.http.post("/upload/storage/v1/b/models/o", params=upload, content=b"new")
    first.http.delete("/storage/v1/b/models/o/gone")
    listing = "/storage/v1/b/models/o?versions=true&projection=full"
    before = _items(first, listing)
    media = {item["generation"]: _media(first, item) for item in before}
    first.emulator.close()

    second = make_cloud(state=tmp_path)

    assert _items(second, listing) == before
    assert {item["generation"]: _media(second, item) for item in before} == media
    assert b"new" in media.values()
    assert second.upload("churn", artifact_uri="gs://models-2/churn")
    made = second.http.post("/upload/storage/v1/b/models/o", params=upload, content=b"newer").json()
    assert int(made["generation"]) > max(int(item["generation"]) for item in before)


def _items(cloud: Any, listing: str) -> list[dict[str, Any]]:
    """Return what is listed, without the links, in which the server's port is."""
    return [
        {name: value for name, value in item.items() if not name.endswith("Link")}
        for item in cloud.http.get(listing).json()["items"]
    ]


def _media(cloud: Any, item: dict[str, Any]) -> bytes:
    answer = cloud.http.get(
        f"/storage/v1/b/models/o/{item['name'].replace('/', '%2F')}",
        params={"alt": "media", "generation": item["generation"]},
    )
    assert answer.status_code == 200, answer.text
    return answer.content


def test_bytes_that_nobody_needs(make_cloud: Callable[..., Any], tmp_path: Path) -> None:
    """Bytes are on the disk once, and as long as an object has them."""
    cloud = make_cloud(state=tmp_path)
    contents = tmp_path / "storage" / "contents"
    soft = {"softDeletePolicy": {"retentionDurationSeconds": "0"}}
    for name in ("first", "second"):
        cloud.bucket(name)
        cloud.http.patch(f"/storage/v1/b/{name}", json=soft)
        upload = {"uploadType": "media", "name": "weights"}
        cloud.http.post(f"/upload/storage/v1/b/{name}/o", params=upload, content=b"same")

    assert len(list(contents.iterdir())) == 1
    cloud.http.delete("/storage/v1/b/first/o/weights")
    assert len(list(contents.iterdir())) == 1
    cloud.http.delete("/storage/v1/b/second/o/weights")
    assert list(contents.iterdir()) == []
    cloud.http.delete("/storage/v1/b/second")
    assert [file.name for file in (tmp_path / "storage" / "buckets").iterdir()] == ["first.json"]


def test_killed(tmp_path: Path) -> None:
    """What was answered is on the disk: a kill loses nothing."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from cloudreg_emulator.google.emulator import Google

        emulator = Google(polls=0, scale=0.0, state=Path(sys.argv[1]))
        print(emulator.url, flush=True)
        time.sleep(600)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        made = httpx.post(
            f"{url}/v1/projects/emulated-project/locations/us-central1/models:upload",
            json={
                "modelId": "churn",
                "model": {"displayName": "churn", "containerSpec": {"imageUri": "i"}},
            },
            timeout=30,
        )
        assert made.json()["done"] is True
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

    with Google(state=tmp_path) as emulator, emulator.world.lock:
        name = "projects/123456789012/locations/us-central1/models/churn"
        assert emulator.registry.resolve(name).version_id == "1"


@pytest.mark.parametrize("document", ["{", "{}", '{"bucket": {"name": "b"}}', "[]"])
def test_no_bucket(tmp_path: Path, document: str) -> None:
    """A file that is no bucket is named, and not passed over."""
    broken = tmp_path / "storage" / "buckets" / "churn.json"
    broken.parent.mkdir(parents=True)
    broken.write_text(document)

    with pytest.raises(ValueError, match=r"churn\.json"):
        Google(state=tmp_path)


def test_no_state(tmp_path: Path) -> None:
    """A file that is no resource is named, and not passed over."""
    broken = tmp_path / "models" / "churn.pb"
    broken.parent.mkdir()
    broken.write_bytes(b"\xff\xff\xff")

    with pytest.raises(ValueError, match=r"churn\.pb"):
        Google(state=tmp_path)
