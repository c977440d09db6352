"""Batch prediction jobs as Vertex AI sees them, and what becomes of their records."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest, NotFound, Unsupported
from cloudreg.operations import poll_until
from cloudreg.testing.batches import job
from cloudreg.types import OperationState, Resources
from cloudreg_emulator.faults import Fault, Kind
from cloudreg_vertex.lines import Shape, problem
from cloudreg_vertex.policy import PERMISSIONS


def filled(desk: Any, *objects: str, number: int = 1, broken: bool = False, **more: Any) -> Any:
    """Return a version and a job whose input is *objects*."""
    version = desk.server.version(number, broken=broken)
    asked = replace(job(version), **more)
    for index, text in enumerate(objects):
        desk.provider.store.put(text.encode(), f"{asked.input}{index}.jsonl")
    return asked, version


def begun(desk: Any, *objects: str, **more: Any) -> Any:
    asked, version = filled(desk, *objects, **more)
    return asked, desk.provider.batch.start(asked, version=version)


def answers(desk: Any, asked: Any) -> list[list[Any]]:
    found = []
    for stored in desk.provider.store.list(asked.output):
        with desk.provider.store.open(stored.key) as reader:
            found.append([json.loads(line) for line in reader])
    return found


def sent(desk: Any, asked: Any) -> list[Any]:
    """Return what the model was asked for each record, in their order; None for an error."""
    return [line.get("prediction", {}).get("instance") for line in answers(desk, asked)[0]]


def jobs(desk: Any, asked: Any) -> list[Any]:
    services = desk.provider.services
    client = services.client("jobs")
    wanted = f"labels.cloudreg-batch={asked.name}"
    found = client.list_batch_prediction_jobs({"parent": services.parent, "filter": wanted})
    return sorted(found, key=lambda one: one.create_time)


def left(desk: Any, asked: Any) -> list[str]:
    prefix = f"vertex/us-central1/batch/{asked.name}/"
    return [one.key.removeprefix(prefix) for one in desk.provider.store.list(prefix)]


def test_job_as_google_sees_it(opened: Callable[..., Any]) -> None:
    """A job has its name, cloudreg's labels, its machines, and a key for each record."""
    account = "serve@emulated-project.iam.gserviceaccount.com"
    desk = opened(service_account=account)
    asked, operation = begun(desk, '{"a": 1}\n', replicas=2, resources=Resources.parse("L4"))
    (seen,) = jobs(desk, asked)

    assert seen.display_name == asked.name
    assert dict(seen.labels) == {
        "cloudreg": "kit",
        "cloudreg-batch": asked.name,
        "cloudreg-run": "1",
    }
    assert seen.dedicated_resources.machine_spec.machine_type == "g2-standard-8"
    assert seen.dedicated_resources.machine_spec.accelerator_type.name == "NVIDIA_L4"
    assert seen.dedicated_resources.starting_replica_count == 2
    assert seen.instance_config.key_field == "cloudreg"
    assert seen.service_account == account
    assert desk.wait(operation).state is OperationState.SUCCEEDED
    assert answers(desk, asked)[0][0]["prediction"]["accelerator"] == "NVIDIA_L4"


def test_version_of_the_registry(desk: Any, model: str) -> None:
    """A published version is used where it starts the very server, else a model of the job's."""
    version = desk.version(6, model=model)
    shown = desk.registry.publish(version)
    plain, other = job(version), replace(job(version), env={"KIT_MARK": "mine"})
    for asked in (plain, other):
        desk.provider.store.put(b"{}\n", f"{asked.input}0.jsonl")
        operation = desk.provider.batch.start(asked, version=version)
        assert desk.wait(operation).state is OperationState.SUCCEEDED
    (ours,), (own,) = jobs(desk, plain), jobs(desk, other)

    assert f"{ours.model}@{ours.model_version_id}".endswith(shown.native_id.rpartition("/")[2])
    assert own.model == ""
    assert answers(desk, plain)[0][0]["prediction"]["mark"] is None
    assert answers(desk, other)[0][0]["prediction"]["mark"] == "mine"
    assert [one.number for one in desk.registry.published(model)] == [6]


@pytest.mark.parametrize(
    "records",
    [
        [{"a": 1}, {"b": [1, 2]}, {}],
        [[1, 2.5], ["x", None]],
        ["one", "two", "one"],
        [1, 2.0, True, None],
        [[1], [1, 2], {"a": 1}],
        [{"cloudreg": "mine"}, {"cloudreg": "yours"}],
    ],
    ids=["objects", "arrays", "texts", "scalars", "mixed", "a key of their own"],
)
def test_every_kind_of_record(desk: Any, records: list[Any]) -> None:
    """Whatever JSON a record is, the model is asked just that, and answers stand in its place."""
    text = "".join(json.dumps(one) + "\n" for one in records)
    asked, operation = begun(desk, text)

    assert desk.wait(operation).state is OperationState.SUCCEEDED
    assert sent(desk, asked) == records


def test_order(desk: Any) -> None:
    """Answers stand object by object and line by line, over many batches and replicas."""
    first = "".join(f'{{"n": {n}}}\n' for n in range(150))
    asked, operation = begun(desk, first, '{"n": -1}\n', replicas=2)

    assert desk.wait(operation).state is OperationState.SUCCEEDED
    found = [
        [line["prediction"]["instance"]["n"] for line in lines] for lines in answers(desk, asked)
    ]
    assert found == [list(range(150)), [-1]]


def test_bad_record_among_good_ones(desk: Any) -> None:
    """Only the record that the model refuses has an error, in the model's words."""
    lines = ['{"n": 1}', '{"n": 2, "status": 418}', "no JSON", '{"n": 3}']
    asked, operation = begun(desk, "\n".join(lines))

    assert desk.wait(operation).state is OperationState.SUCCEEDED
    first, refused, broken, last = answers(desk, asked)[0]
    assert first["prediction"]["instance"] == {"n": 1}
    assert last["prediction"]["instance"] == {"n": 3}
    assert "the instance asks for 418" in refused["error"]
    assert "no JSON" in broken["error"]
    assert [one.labels["cloudreg-run"] for one in jobs(desk, asked)] == ["1", "2"]
    assert jobs(desk, asked)[1].manual_batch_tuning_parameters.batch_size == 1


def test_no_record_at_all(desk: Any) -> None:
    """Where no line is JSON, no job is made, and each has its error."""
    asked, operation = begun(desk, "this\nthat\n")

    assert desk.wait(operation).state is OperationState.SUCCEEDED
    assert ["error" in line for line in answers(desk, asked)[0]] == [True, True]
    assert jobs(desk, asked) == []


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_is_left(desk: Any, broken: bool) -> None:
    """What a job needed is gone when it is over, and how it ended stays."""
    asked, operation = begun(desk, "{}\n", number=7, broken=broken)
    status = desk.wait(operation)

    assert left(desk, asked) == ["end", "job"]
    again = desk.provider.batch.find(asked.name)
    assert again is not None
    assert again.poll() == status


def test_failure_has_the_last_words(desk: Any) -> None:
    """A job that fails tells why, with what its containers wrote last."""
    _, operation = begun(desk, "{}\n", number=7, broken=True)
    status = desk.wait(operation)

    assert status.state is OperationState.FAILED
    assert "Model server exited unexpectedly" in status.message
    assert "the weights make no sense" in status.logs


def test_failure_in_googles_words(desk: Any) -> None:
    """A job that gets no machine fails for the reason that Google gives."""
    fault = Fault(kind=Kind.FAILED, operation="CreateBatchPredictionJob", reason="quota")
    armed = desk.cloud.faults.arm(fault)
    _, operation = begun(desk, "{}\n")
    status = desk.wait(operation)

    assert armed.struck == 1
    assert status.state is OperationState.FAILED
    assert "exceed quota limits" in status.message


def test_lost_answer(desk: Any) -> None:
    """A job whose creation got no answer is found again, and not made twice."""
    armed = desk.cloud.faults.arm(Fault(kind=Kind.LOST, operation="CreateBatchPredictionJob"))
    asked, version = filled(desk, "{}\n")
    with pytest.raises(Exception, match=asked.name):
        desk.provider.batch.start(asked, version=version)
    operation = desk.provider.batch.start(asked, version=version)

    assert armed.struck == 1
    assert desk.wait(operation).state is OperationState.SUCCEEDED
    assert len(jobs(desk, asked)) == 1


def test_two_at_once(desk: Any, cloud: Any) -> None:
    """Of two who begin the same job at once, both end with the one set of answers."""
    asked, version = filled(desk, "{}\n")
    both = (desk.provider.batch, cloud.open().batch)
    with ThreadPoolExecutor(2) as pool:
        operations = list(pool.map(lambda one: one.start(asked, version=version), both))

    assert [desk.wait(one).state for one in operations] == [OperationState.SUCCEEDED] * 2
    assert [line["prediction"]["number"] for line in answers(desk, asked)[0]] == [1]


@pytest.mark.slow
def test_job_of_somebody_who_was_killed(desk: Any) -> None:
    """A second job of the same name is removed; every call that is made has a permission."""
    begin = len(desk.cloud.calls)
    asked, operation = begun(desk, "{}\n")
    services = desk.provider.services
    client = services.client("jobs")
    (mine,) = jobs(desk, asked)
    double = type(mine)(mine)
    double.unmanaged_container_model.container_spec.image_uri = "us-docker.pkg.dev/p/r/i:1"
    client.create_batch_prediction_job(parent=services.parent, batch_prediction_job=double)
    assert desk.wait(operation).state is OperationState.SUCCEEDED

    def is_alone() -> bool:
        again = desk.provider.batch.find(asked.name)
        assert again.poll().state is OperationState.SUCCEEDED
        return [one.name for one in jobs(desk, asked)] == [mine.name]

    assert poll_until(is_alone, bool, timeout_s=30.0, interval_s=0.05)
    desk.provider.batch.find(asked.name).poll()
    assert left(desk, asked) == ["end", "job"]
    called = {key for key in desk.cloud.calls[begin:] if key[0] == "jobs"}
    assert called == {key for key in PERMISSIONS if key[0] == "jobs"}


def test_stopped_job(desk: Any) -> None:
    """A job that is stopped is cancelled at Google, and has no answers."""
    asked, operation = begun(desk, '{"sleep_s": 1}\n' * 5)
    desk.provider.batch.stop(asked.name)
    status = desk.wait(operation)

    assert (status.state, status.message) == (OperationState.FAILED, "it was stopped")
    assert jobs(desk, asked)[0].state.name == "JOB_STATE_CANCELLED"
    assert answers(desk, asked) == []


def test_refused_early(opened: Callable[..., Any]) -> None:
    """What no job could do is refused before anything is stored."""
    desk = opened()
    for more, kind in (
        ({"replicas": 101}, Unsupported),
        ({"resources": Resources.parse("A10G")}, Unsupported),
        ({"env": {"AIP_MODE": "x"}}, InvalidRequest),
    ):
        asked, version = filled(desk, "{}\n", **more)
        with pytest.raises(kind):
            desk.provider.batch.start(asked, version=version)
        assert left(desk, asked) == []
    asked, version = filled(desk)
    with pytest.raises(InvalidRequest, match="no object"):
        desk.provider.batch.start(asked, version=version)


def test_spot_machines(opened: Callable[..., Any]) -> None:
    """Spot machines, which v1 has not for jobs, are asked for through v1beta1 or refused."""
    from google.cloud.aiplatform_v1beta1 import JobServiceClient

    asked, version = filled(opened(spot=True), "{}\n")
    with pytest.raises(Unsupported, match="spot") as refused:
        opened(spot=True).provider.batch.start(asked, version=version)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("preview = true")

    desk = opened(spot=True, preview=True)
    operation = desk.provider.batch.start(asked, version=version)
    client: JobServiceClient = desk.provider.services.client("jobs", "v1beta1")
    seen = client.get_batch_prediction_job(name=jobs(desk, asked)[0].name)
    assert seen.dedicated_resources.spot
    assert desk.wait(operation).state is OperationState.SUCCEEDED


def test_missing_file_of_the_version(desk: Any) -> None:
    """A version whose files are gone is refused, and no job is written down."""
    asked, _ = filled(desk, "{}\n")
    made = desk.version(9, model="gone")
    for entry in made.manifest.files:
        desk.provider.store.delete(entry.key)
    asked = replace(asked, model="gone", number=9, digest=made.digest)
    with pytest.raises(NotFound):
        desk.provider.batch.start(asked, version=made)
    assert desk.provider.batch.find(asked.name) is None


def test_both_forms_of_errors() -> None:
    """Errors that say whose they are belong to their record; the others to any."""
    shape = Shape(kind="object")
    own = b'{"cloudreg": "00000:3", "a": 1, "error": {"code": 13, "message": "boom"}}'

    assert problem(own, shape) == ("00000:3", "boom")
    assert problem(b"('No way, retry=3, elapsed=0.10s.', 16)", shape) == (None, "No way, retry=3")
    assert problem(b"something else", shape) == (None, "something else")
