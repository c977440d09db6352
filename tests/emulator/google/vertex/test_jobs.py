"""JobService: batch prediction jobs as Google's clients see them."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg_emulator.faults import Fault, Kind
from cloudreg_emulator.google.emulator import Google
from tests.emulator.google.vertex.conftest import IMAGE, Cloud, service_client

SCORER = [sys.executable, "-S", "-E", str(Path(__file__).with_name("scorer.py"))]
MACHINE = {"machine_type": "n1-standard-4"}
_numbers = itertools.count(1)


class Batches(Cloud):
    """An emulator, a client of its jobs, and a bucket for each."""

    def __init__(self, emulator: Google, transport: str) -> None:
        super().__init__(emulator, transport)
        self.jobs: Any = service_client(emulator, transport, "JobService")
        self.place = f"batch-{next(_numbers)}"

    def request(self, **fields: Any) -> dict[str, Any]:
        """Return a job that can be, with *fields* in the place of the usual ones."""
        usual = {
            "display_name": "score",
            "unmanaged_container_model": {"container_spec": {"image_uri": IMAGE}},
            "input_config": {
                "instances_format": "jsonl",
                "gcs_source": {"uris": [f"gs://{self.place}/in/*.jsonl"]},
            },
            "output_config": {
                "predictions_format": "jsonl",
                "gcs_destination": {"output_uri_prefix": f"gs://{self.place}/out"},
            },
            "dedicated_resources": {"machine_spec": MACHINE, "max_replica_count": 2},
        }
        made = {**usual, **fields}
        return {name: value for name, value in made.items() if value is not None}

    def create(self, **fields: Any) -> Any:
        return self.jobs.create_batch_prediction_job(
            parent=self.parent, batch_prediction_job=self.request(**fields)
        )

    def over(self, name: str) -> Any:
        return self.jobs.get_batch_prediction_job(name=name)

    def files(self, job: Any, kind: str) -> list[str]:
        """Return the lines of all files of a kind in a job's output."""
        prefix = f"{job.output_info.gcs_output_directory.partition(self.place)[2][1:]}/prediction."
        kept = self.emulator.storage.shelves[self.place].live
        found: list[str] = []
        for key in sorted(kept):
            if key.startswith(f"{prefix}{kind}-"):
                found += b"".join(kept[key].content.pieces).decode().splitlines()
        return found


@pytest.fixture(scope="module")
def scoring() -> Iterator[Google]:
    """One emulator for this module."""
    regions = ("us-central1", "europe-west4")
    with Google(polls=0, scale=0.002, images={"*": SCORER}, regions=regions) as emulator:
        yield emulator
    assert emulator.deployments.pids == []


@pytest.fixture(params=["rest", "grpc"])
def batches(scoring: Google, request: pytest.FixtureRequest) -> Iterator[Batches]:
    made = Batches(scoring, request.param)
    yield made
    scoring.faults.disarm()
    made.http.close()


@pytest.fixture
def scored(batches: Batches, until: Callable[..., None]) -> Callable[..., Any]:
    """Runs a job over objects to its end, and returns it."""

    def run(*objects: str, **fields: Any) -> Any:
        named = {f"in__{index}.jsonl": text.encode() for index, text in enumerate(objects)}
        batches.bucket(batches.place, **named)
        job = batches.create(**fields)
        until(lambda: batches.over(job.name).state.name.endswith(("SUCCEEDED", "FAILED")))
        return batches.over(job.name)

    return run


def test_output(batches: Batches, scored: Callable[..., Any]) -> None:
    """Every instance stands beside its prediction, in a folder with the job's name and time."""
    job = scored('{"a": 1}\n\n[2]\n', '"three"')
    lines = [json.loads(line) for line in batches.files(job, "results")]

    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert f"/out/prediction-score-{job.create_time:%Y-%m-%dT}" in (
        job.output_info.gcs_output_directory
    )
    assert all(line["instance"] == line["prediction"]["read"] for line in lines)
    assert sorted(json.dumps(line["instance"]) for line in lines) == ['"three"', "[2]", '{"a": 1}']
    assert (job.completion_stats.successful_count, job.completion_stats.failed_count) == (3, 0)
    assert job.create_time <= job.start_time <= job.end_time <= job.update_time
    assert job.resources_consumed.replica_hours > 0
    assert job.dedicated_resources.starting_replica_count == 1
    # The container is "input only".
    assert not job.unmanaged_container_model.container_spec.image_uri


def test_order_is_not_kept(batches: Batches, scored: Callable[..., Any]) -> None:
    """Whoever relies on an order learns that there is none; nothing is lost or doubled."""
    resources = {"machine_spec": MACHINE, "starting_replica_count": 2, "max_replica_count": 2}
    text = "".join(f"{n}\n" for n in range(100))
    job = scored(text, dedicated_resources=resources, model_parameters={"top": 3.0})
    lines = [json.loads(line) for line in batches.files(job, "results")]
    numbers = [line["instance"] for line in lines]

    assert numbers != list(range(100))
    assert sorted(numbers) == list(range(100))
    assert {line["prediction"]["of"] for line in lines} == {64, 36}
    assert lines[0]["prediction"]["parameters"] == {"top": 3.0}


@pytest.mark.parametrize(
    ("config", "sent", "kept"),
    [
        ({"key_field": "k"}, {"a": 1, "b": 2}, {"key": "x"}),
        ({"included_fields": ["b"]}, {"b": 2}, {"instance": {"b": 2}}),
        (
            {"excluded_fields": ["k", "a"]},
            {"b": 2},
            {"instance": {"b": 2}, "k": "x", "a": 1},
        ),
        (
            {"instance_type": "array", "key_field": "k", "included_fields": ["b", "a"]},
            [2, 1],
            {"key": "x"},
        ),
        ({"instance_type": "object"}, {"a": 1, "b": 2, "k": "x"}, None),
    ],
)
def test_instances(
    batches: Batches, scored: Callable[..., Any], config: Any, sent: Any, kept: Any
) -> None:
    """What the model is sent of a line, and what stands in the output, is as the job says."""
    job = scored('{"a": 1, "b": 2, "k": "x"}', instance_config=config)
    (line,) = [json.loads(one) for one in batches.files(job, "results")]

    assert line.pop("prediction")["read"] == sent
    assert line == (kept or {"instance": sent})


def test_lines_that_are_no_instances(batches: Batches, scored: Callable[..., Any]) -> None:
    """A line that cannot be sent is counted as failed; the others are scored."""
    job = scored('{"k": 1, "a": 2}\n[1]\nno JSON\n{"a": 3}\n', instance_config={"key_field": "k"})

    assert (job.completion_stats.successful_count, job.completion_stats.failed_count) == (1, 3)
    assert len(batches.files(job, "errors_stats")) == 3


def test_errors_of_the_model(batches: Batches, scored: Callable[..., Any]) -> None:
    """What is sent together fails together, and the entry tells how many those were."""
    job = scored('1\n2\n3\n{"status": 422}\n', manual_batch_tuning_parameters={"batch_size": 2})
    (error,) = batches.files(job, "errors_stats")

    assert sorted(json.loads(one)["instance"] for one in batches.files(job, "results")) == [1, 2]
    assert error.startswith("('Post request fails. Cannot get predictions. Error: Exceeded retries")
    assert 'Non-OK result 422 ({"refused"' in error
    assert error.endswith(", 2)")


def test_too_few_predictions(batches: Batches, scored: Callable[..., Any]) -> None:
    """A model server must answer every instance, or none counts."""
    env = [{"name": "FAIL", "value": "short"}]
    job = scored(
        "1\n2\n", unmanaged_container_model={"container_spec": {"image_uri": IMAGE, "env": env}}
    )

    assert (job.completion_stats.successful_count, job.completion_stats.failed_count) == (0, 2)


def test_model_server_that_ends(batches: Batches, scored: Callable[..., Any]) -> None:
    """A job whose model server ends fails in Google's words."""
    env = [{"name": "FAIL", "value": "exit"}]
    job = scored(
        "1\n", unmanaged_container_model={"container_spec": {"image_uri": IMAGE, "env": env}}
    )

    assert job.state.name == "JOB_STATE_FAILED"
    assert job.error.code == 9
    assert "Model server exited unexpectedly" in job.error.message
    assert job.completion_stats.incomplete_count == -1


def test_wildcards(batches: Batches, scored: Callable[..., Any]) -> None:
    """One star stays in its folder and two do not; what matches nothing is a partial failure."""
    batches.bucket(f"{batches.place}-deep", a__1x=b"1", a__b__2x=b"2", a__10=b"3")
    deep = f"gs://{batches.place}-deep"

    def read(*patterns: str) -> Any:
        source = {"instances_format": "jsonl", "gcs_source": {"uris": list(patterns)}}
        job = scored(input_config=source)
        batches.place = f"batch-{next(_numbers)}"
        return job

    assert read(f"{deep}/a/*x").completion_stats.successful_count == 1
    assert read(f"{deep}/**x").completion_stats.successful_count == 2
    assert read(f"{deep}/a/1?").completion_stats.successful_count == 2
    assert read(f"{deep}/a/1[0-9]").completion_stats.successful_count == 1
    partly = read(f"{deep}/a/1x", f"{deep}/none")
    assert [one.code for one in partly.partial_failures] == [5]
    nothing = read(f"{deep}/none")
    assert (nothing.state.name, nothing.error.code) == ("JOB_STATE_FAILED", 5)


def test_version_by_alias(batches: Batches, scored: Callable[..., Any]) -> None:
    """A job names a version of the registry, which it keeps when the alias moves."""
    name = batches.upload(version_aliases=["golden"])
    batches.upload(parent_model=name)
    job = scored("1\n", model=f"{name}@golden", unmanaged_container_model=None)

    assert (job.model, job.model_version_id) == (name, "1")
    assert "/prediction-churn-" in job.output_info.gcs_output_directory


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"display_name": ""}, "INVALID_ARGUMENT", "display_name"),
        ({"labels": {"Big": "x"}}, "INVALID_ARGUMENT", "label key"),
        ({"unmanaged_container_model": None}, "INVALID_ARGUMENT", "Exactly one of model"),
        ({"model": "projects/p/locations/l/models/m"}, "INVALID_ARGUMENT", "Exactly one of"),
        ({"unmanaged_container_model": {"container_spec": {}}}, "INVALID_ARGUMENT", "image_uri"),
        ({"input_config": {"instances_format": "jsonl"}}, "INVALID_ARGUMENT", "source"),
        (
            {"input_config": {"instances_format": "xml", "gcs_source": {"uris": ["gs://b/x"]}}},
            "INVALID_ARGUMENT",
            "instances_format",
        ),
        (
            {"input_config": {"instances_format": "csv", "gcs_source": {"uris": ["gs://b/x"]}}},
            "UNIMPLEMENTED",
            "not emulated",
        ),
        (
            {"input_config": {"instances_format": "jsonl", "gcs_source": {"uris": ["/tmp/x"]}}},
            "INVALID_ARGUMENT",
            "not a Cloud Storage URI",
        ),
        ({"output_config": {"predictions_format": "jsonl"}}, "INVALID_ARGUMENT", "destination"),
        (
            {
                "output_config": {
                    "predictions_format": "jsonl",
                    "gcs_destination": {"output_uri_prefix": "gs://no-such-bucket/x"},
                }
            },
            "FAILED_PRECONDITION",
            "does not exist",
        ),
        ({"dedicated_resources": None}, "INVALID_ARGUMENT", "dedicated_resources"),
        (
            {"dedicated_resources": {"machine_spec": {"machine_type": "x9"}}},
            "INVALID_ARGUMENT",
            "not supported",
        ),
        (
            {"dedicated_resources": {"machine_spec": MACHINE, "starting_replica_count": 11}},
            "INVALID_ARGUMENT",
            "max_replica_count",
        ),
        ({"instance_config": {"instance_type": "row"}}, "INVALID_ARGUMENT", "instance_type"),
        (
            {"instance_config": {"included_fields": ["a"], "excluded_fields": ["b"]}},
            "INVALID_ARGUMENT",
            "excluded_fields must be empty",
        ),
        ({"manual_batch_tuning_parameters": {"batch_size": -1}}, "INVALID_ARGUMENT", "batch_size"),
        ({"generate_explanation": True}, "UNIMPLEMENTED", "generate_explanation"),
        (
            {"encryption_spec": {"kms_key_name": "projects/p/locations/asia/keyRings/r/x"}},
            "INVALID_ARGUMENT",
            "KMS key",
        ),
    ],
)
def test_refused(batches: Batches, fields: dict[str, Any], code: str, said: str) -> None:
    """What no job can be is refused at once, with the field."""
    batches.bucket(batches.place)
    found, message = batches.refused(lambda: batches.create(**fields))

    assert found == code
    assert said in message


def test_absent_model(batches: Batches) -> None:
    """A model or a job that is not there is not found."""
    batches.bucket(batches.place)
    model = f"{batches.parent}/models/nobody"
    create = lambda: batches.create(model=model, unmanaged_container_model=None)  # noqa: E731
    absent = f"{batches.parent}/batchPredictionJobs/1"

    assert batches.refused(create)[0] == "NOT_FOUND"
    for method in ("get", "cancel", "delete"):
        act = getattr(batches.jobs, f"{method}_batch_prediction_job")
        assert batches.refused(lambda act=act: act(name=absent))[0] == "NOT_FOUND"


def test_cancel_and_delete(batches: Batches, until: Callable[..., None]) -> None:
    """A job is cancelled in two steps; only one that is over can be deleted."""
    batches.bucket(batches.place, **{"in__1.jsonl": b'{"sleep_s": 5}\n'})
    job = batches.create()
    delete = lambda: batches.jobs.delete_batch_prediction_job(name=job.name)  # noqa: E731
    assert batches.refused(delete)[0] == "FAILED_PRECONDITION"
    batches.jobs.cancel_batch_prediction_job(name=job.name)
    until(lambda: batches.over(job.name).state.name == "JOB_STATE_CANCELLED")
    cancelled = batches.over(job.name)

    assert cancelled.error.code == 1
    assert not cancelled.output_info.gcs_output_directory
    batches.jobs.cancel_batch_prediction_job(name=job.name)
    delete().result(timeout=20)
    assert batches.refused(lambda: batches.over(job.name))[0] == "NOT_FOUND"


def test_list(batches: Batches, until: Callable[..., None]) -> None:
    """Jobs are listed newest first, by name, state, time and label."""
    batches.bucket(batches.place)
    mark = batches.place
    made = [batches.create(display_name=f"{mark}-{n}", labels={"of": mark}) for n in range(3)]

    def found(text: str) -> list[str]:
        pager = batches.jobs.list_batch_prediction_jobs({"parent": batches.parent, "filter": text})
        return [job.name for job in pager]

    names = [job.name for job in made]
    assert found(f"labels.of={mark}") == names[::-1]
    assert found(f'display_name="{mark}-1"') == [names[1]]
    assert found(f'labels.of={mark} AND state="JOB_STATE_SUCCEEDED"') == []
    code, message = batches.refused(lambda: found("model=x"))
    assert (code, "not supported" in message) == ("INVALID_ARGUMENT", True)
    failed = f'labels.of={mark} AND state="JOB_STATE_FAILED"'
    until(lambda: found(failed) == names[::-1])


def test_fault(batches: Batches, scored: Callable[..., Any]) -> None:
    """A job fails on demand, for a reason of Google's."""
    fault = Fault(kind=Kind.FAILED, operation="CreateBatchPredictionJob", reason="quota")
    armed = batches.faults.arm(fault)
    job = scored("1\n")

    assert armed.struck == 1
    assert (job.state.name, job.error.code) == ("JOB_STATE_FAILED", 8)


def test_states_by_polls(until: Callable[..., None]) -> None:
    """A job is queued for as many looks as the emulator says."""
    with Google(polls=2, scale=0.0, images={"*": SCORER}) as emulator:
        batches = Batches(emulator, "rest")
        batches.bucket(batches.place, **{"in__1.jsonl": b"1\n"})
        job = batches.create()
        first, second = batches.over(job.name), batches.over(job.name)

        assert (job.state.name, first.state.name) == ("JOB_STATE_QUEUED", "JOB_STATE_QUEUED")
        assert second.state.name != "JOB_STATE_QUEUED"
        until(lambda: batches.over(job.name).state.name == "JOB_STATE_SUCCEEDED")
        batches.http.close()


def test_state_on_the_disk(tmp_path: Path, until: Callable[..., None]) -> None:
    """A job that was under way goes on in the next emulator, and one that is over stays so."""
    options: dict[str, Any] = {"polls": 0, "scale": 0.002, "images": {"*": SCORER}}
    with Google(**options, state=tmp_path) as emulator:
        batches = Batches(emulator, "rest")
        batches.bucket(batches.place, **{"in__1.jsonl": b'{"sleep_s": 0.5}\n'})
        job = batches.create()
        batches.http.close()
    with Google(**options, state=tmp_path) as emulator:
        client = service_client(emulator, "rest", "JobService")
        done = lambda: client.get_batch_prediction_job(name=job.name)  # noqa: E731
        until(lambda: done().state.name == "JOB_STATE_SUCCEEDED")
        ended = done().end_time
    with Google(**options, state=tmp_path) as emulator:
        client = service_client(emulator, "rest", "JobService")
        assert client.get_batch_prediction_job(name=job.name).end_time == ended


@pytest.mark.slow
def test_high_level_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Model.batch_predict` runs a job, waits for it, and reads its output."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform
    from google.cloud.aiplatform import initializer

    with Google(polls=0, scale=0.0, images={"*": SCORER}) as emulator:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.url)
        batches = Batches(emulator, "rest")
        batches.bucket(batches.place, in__1=b'{"a": 2}\n')
        aiplatform.init(
            project=emulator.place.project,
            location="us-central1",
            api_endpoint=emulator.url,
            api_transport="rest",
            credentials=AnonymousCredentials(),
        )
        try:
            job = aiplatform.Model(batches.upload()).batch_predict(
                job_display_name="sdk",
                gcs_source=f"gs://{batches.place}/in/1",
                gcs_destination_prefix=f"gs://{batches.place}/out",
                machine_type="n1-standard-4",
            )
            outputs = {blob.name.rpartition("/")[2]: blob for blob in job.iter_outputs()}
            said = json.loads(outputs["prediction.results-00000-of-00001"].download_as_text())
            assert said["instance"] == said["prediction"]["read"] == {"a": 2}
            assert job.completion_stats.successful_count == 1
            assert [one.name for one in aiplatform.BatchPredictionJob.list()] == [job.name]
            job.delete()
            assert aiplatform.BatchPredictionJob.list() == []
        finally:
            initializer.global_config.__init__()  # type: ignore[misc]
            batches.http.close()
