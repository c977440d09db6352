"""Scoring a data set on Google Cloud: a process that is killed, or whose answer is lost.

Whoever runs the same again finds the job that was begun, or its answers. There is one job in the
end, one answer for each record in their order, and nothing of what the job needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1

from cloudreg import Workspace
from cloudreg.testing.faults import CRASHES, Fault, When

KILLED = -9
PARENT = "projects/emulated-project/locations/us-central1"
PLAIN: list[dict[str, Any]] = [{"n": n} for n in range(5)]
# One that the model refuses: all are asked again then, each alone, by a second job.
REFUSED: list[dict[str, Any]] = [{"n": 0}, {"n": 1, "status": 400}, {"n": 2}]
MAX_CALLS = 80
RPCS = "JobService."
"""Over gRPC all else goes by HTTP as it does without."""


def score(ws: Workspace, model: str, root: Path) -> Any:
    """Score the data set as if nothing had been."""
    return ws.batch(f"{model}:1", root / "data.jsonl", output=root / "again")


def check(here: Any, ws: Workspace, records: list[dict[str, Any]], scored: Any) -> None:
    """Every record has its answer, and of the job there is one and no more."""
    text = (here.root / "again" / "predictions.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    asked = [line.get("prediction", {}).get("instance") for line in lines]
    assert asked == [None if "status" in one else one for one in records]
    assert scored.failed == sum("status" in one for one in records)
    store = ws.targets["gcp"].store
    kept = f"vertex/us-central1/batch/{scored.name}/"
    left = {one.key.removeprefix(kept) for one in store.list(kept)}
    assert left <= {"job", "end", "runs/1", "runs/2"}, left
    assert list(store.list(f"batch/{scored.name}/input/")) == []
    client = aiplatform_v1.JobServiceClient(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        transport="rest",
        client_options={"api_endpoint": here.cloud.url},
    )
    named = f"labels.cloudreg-batch={scored.name}"
    jobs = list(client.list_batch_prediction_jobs({"parent": PARENT, "filter": named}))
    runs = [one.labels["cloudreg-run"] for one in jobs]
    assert sorted(runs) == (["1", "2"] if scored.failed else ["1"]), "one job for each run"
    assert {one.state.name for one in jobs} == {"JOB_STATE_SUCCEEDED"}


def survive(
    way: str,
    records: list[dict[str, Any]],
    kind: str,
    project: Any,
    tally: Any,
    numbers: Iterable[int],
) -> int:
    """Strike the changes of these numbers, check what is left each time, and return how many."""
    struck = 0
    for number in numbers:
        here = project(way)
        family = f"{here.family}, a data set scored, {kind}"
        here.register(1)
        text = "".join(json.dumps(one) + "\n" for one in records)
        (here.root / "data.jsonl").write_text(text)
        among = RPCS if way == "gRPC" else ""
        code = here.crash("batch", Fault(call=number, subject=among, **CRASHES[kind]))
        calls = [call for call in here.calls() if call.subject.startswith(among)]
        if len(calls) < number:
            assert code == 0, here.log.read_text()
            break
        struck += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        if "killed" in kind:
            assert code == KILLED, here.log.read_text()
        try:
            with here.open() as ws:
                check(here, ws, records, score(ws, here.model, here.root))
        except Exception as error:
            error.add_note(f"{kind} change {number}: {calls[number - 1].subject}")
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, "a batch makes more changes than that"
    return struck


@pytest.mark.timeout(300)
def test_job_is_found_again(project: Callable[..., Any]) -> None:
    """A job whose creation was never confirmed is the one that the next run waits for."""
    here = project()
    here.register(1)
    (here.root / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in PLAIN))
    subject = f"POST /v1/{PARENT}/batchPredictionJobs"

    assert here.crash("batch", Fault(subject=subject, when=When.LOST)) == 1
    with here.open() as ws:
        check(here, ws, PLAIN, score(ws, here.model, here.root))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("way", "kind", "number"), [("gRPC", "killed after", 1), ("REST", "killed before", 8)]
)
def test_sample(way: str, kind: str, number: int, project: Callable[..., Any], tally: Any) -> None:
    """A batch that was killed at one of its changes is ended by the next run."""
    assert survive(way, PLAIN, kind, project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize(
    ("way", "records"),
    [("REST", PLAIN), ("REST", REFUSED), ("gRPC", REFUSED)],
    ids=["plain", "one refused", "gRPC"],
)
def test_every_change(
    way: str,
    records: list[dict[str, Any]],
    kind: str,
    project: Callable[..., Any],
    tally: Any,
) -> None:
    """A batch that is struck at any change is ended by the next run, with the same answers."""
    assert survive(way, records, kind, project, tally, range(1, MAX_CALLS + 1))
